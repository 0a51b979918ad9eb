"""Methods by name, and the LoRA that one of them stands for, on tiny random models."""

import threading

import pytest
import torch

from core import checkpoint
from core.adapter import WEIGHTS
from core.evaluation.base import Settings
from core.noise import draw
from studio.experiments.evaluation import evaluate
from studio.images.methods import build
from tests.studio.gridded import grid_of
from tests.tiny import STEPS, studio_at

LORA = {"lora_steps": 3, "lora_batch": 4, "rank": 2, "heldout_prompts": 3, "heldout_seeds": 1, "steps": STEPS}


def test_a_name_makes_its_method_once(studio):
    names = {
        "none": "none", "projected": "projected", "projected-0.5": "projected-0.5", "best-of-8": "best-of-8",
        "best-noise-of-3": "best-noise-of-3", "pag": "pag", "pag-1.5": "pag-1.5", "autoguidance": "autoguidance (layer drop)",
        "pag+projected": "pag + projected", "projected+best-of-4": "best-of-4 + projected",
        "best-noise-of-2+projected": "best-noise-of-2 + projected", "projected+best-noise-of-2": "projected + best-noise-of-2",
        "best-of-2+pag+projected-0.5": "best-of-2 + pag + projected-0.5",
    }  # fmt: skip
    assert [method.name for method in build(studio, list(names))] == list(names.values())
    found = build(studio, ["pag+projected", "none", "projected + PAG"], strength=0.25)
    assert [method.name for method in found] == ["pag + projected-0.25", "none"]


@pytest.mark.parametrize(
    "name, says",
    [("", "Known here are: none, projected"), ("magic", "best-noise-of-N"), ("best-of", "There is no method"),
     ("lora-2", "There is no method"), ("pag+pag", "each part once"), ("none+pag", "none by itself"),
     ("pag+autoguidance", "both guidance"), ("best-of-0", "out of range"), ("projected-2", "out of range"),
     ("pag-0", "out of range"), ("pag-1.2.3", "not a number"), ("lora", "train lora")],
)  # fmt: skip
def test_a_bad_name_is_refused_with_what_there_is(studio, name, says):
    with pytest.raises(ValueError, match=says):
        build(studio, [name])


def test_a_lora_is_trained_judged_put_into_use_and_taken_back(labelled):
    studio, run = labelled, labelled.training.train("lora", LORA)
    studio.runs.promote(run["id"], "tester", force=True)
    assert run["state"] == "done" and run["kind"] == "lora"
    assert run["metrics"]["images"] == 12 and set(run["metrics"]["loss"]) == {"before", "after"}
    assert set(run["metrics"]["heldout"]["difference"]) == {"words", "strict", "clean"}
    assert run["metrics"]["heldout"]["base"] == "none"
    assert checkpoint.digest(studio.settings.home / run["checkpoint"]) == run["checkpoint_sha256"]
    diffuser = studio.models.diffuser()
    text, noise = diffuser.encode(["a red circle"]), draw([1], diffuser.latent_shape())
    plain = diffuser.sample(text, noise, STEPS)
    (method,) = build(studio, ["lora+projected"])
    assert method.name == "lora + projected"
    found = method.run(diffuser, ["a red circle"], [1], Settings(STEPS))
    assert found.network_calls == 2 * STEPS and found.other_calls == {"projector": 1}
    assert torch.equal(diffuser.sample(text, noise, STEPS), plain)

    assert "lora" in [value for _, value in studio.grids.methods()]
    view = grid_of(studio, "1-2", methods=["none", "lora", f"lora:{run['id']}"])
    assert (view.state, view.total) == ("done", 4), view.message  # the two are one and the same
    none, row = (studio.store.samples.get(cell.sample.id) for cell in view.cells[:2])
    assert (row["method"], row["projector_run"], row["strength"]) == ("lora", run["id"], 0.0)
    assert row["noise_sha256"] == none["noise_sha256"] and row["image_sha256"] != none["image_sha256"]

    second = studio.training.train("lora", {**LORA, "seed": 1})  # is measured against the one in use
    assert (second["parent"], second["metrics"]["heldout"]["base"]) == (run["id"], "before")
    with (studio.settings.home / run["checkpoint"] / WEIGHTS).open("ab") as file:
        file.write(b"x")
    again = studio_at(studio.settings.home, studio.settings.projector.parent)  # as after a restart
    with pytest.raises(ValueError, match="is damaged"):
        build(again, ["lora"])
    assert studio.runs.rollback("lora", "tester") is None
    with pytest.raises(ValueError, match="train lora"):
        build(studio, ["lora"])


def test_a_lora_that_was_stopped_goes_on_and_ends_in_the_same_bits(labelled):
    begun, config = threading.Event(), LORA | {"heldout_prompts": 0}
    whole = labelled.training.train("lora", config)

    def stop(line):
        if line["stage"] == "LoRA":
            begun.set()

    first = labelled.training.train("lora", config, on_progress=stop, stop=begun)
    assert first["state"] == "stopped" and not first["checkpoint"]
    second = labelled.training.train("lora", run_id=first["id"])
    a, b = (labelled.settings.home / run["checkpoint"] / WEIGHTS for run in (whole, second))
    assert a.read_bytes() == b.read_bytes()


def test_without_a_scored_image_there_is_no_lora(studio):
    with pytest.raises(ValueError, match="collect and score"):
        studio.training.train("lora", LORA)


def test_an_evaluation_takes_more_methods_by_name_and_tells_what_each_took(studio):
    config = {"prompts": 2, "seeds": 2, "steps": STEPS, "best_of": 2}
    config |= {"methods": "pag, best-of-2+pag,best-noise-of-2+projected", "other_text": True}
    report = evaluate(studio, "alignment", config)
    entries = report["methods"]
    assert list(entries) == [
        "none", "projected", "pag", "best-noise-of-2 + projected", "projected for another prompt", "best-of-2",
        "best-of-2 + pag",
    ]  # fmt: skip
    assert entries["pag"]["network_calls"] == 3 * STEPS
    assert entries["best-of-2 + pag"]["network_calls"] == 2 * 3 * STEPS
    chosen = entries["best-noise-of-2 + projected"]
    assert chosen["network_calls"] == 2 * STEPS
    assert chosen["other_calls"] == {"reward": 2, "projector": 2}
    assert "drift" in chosen and "drift" not in entries["pag"]
    assert entries["projected for another prompt"]["drift"] != entries["projected"]["drift"]
