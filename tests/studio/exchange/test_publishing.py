"""A projector that was published makes the studio's images where this repository is not: by each of its doors."""

import dataclasses
import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch

from core import checkpoint
from core.evaluation.base import Settings as Sampling
from core.evaluation.methods import Projected
from core.networks.projector import NoiseProjector
from core.noise import draw, second
from core.published import pipeline
from studio.__main__ import main
from studio.api import endpoints
from studio.cli import commands
from studio.exchange import publishing
from studio.exchange.flatten import flatten, imports_of_ours
from studio.studio import Studio
from tests import backbones, tiny
from tests.studio.exchange.test_transfer import TOKEN, FakeHub
from tests.tiny import change_settings

PROMPT = publishing.PROMPT
WIDTHS = {"sdxl": 64, "sd15": 32}
STEPS, GUIDANCE = 3, 4.0


def studio_on(name, top, model_folder):
    """A studio on a tiny backbone, with a projector that moves the noise."""
    backbone = backbones.save(name, top / "backbone")
    index = json.loads((backbone / "model_index.json").read_text())
    index |= {"safety_checker": [None, None]} if "safety_checker" in index else {}
    (backbone / "model_index.json").write_text(json.dumps(index))
    torch.manual_seed(1)
    projector = NoiseProjector(latent_channels=4, text_width=WIDTHS[name], **tiny.SMALL)
    torch.nn.init.normal_(projector.out.weight, std=0.2)
    checkpoint.save(projector, top / "projector", {"prompts": 3})
    settings = tiny.settings_at(top / "home", model_folder)
    return Studio(dataclasses.replace(settings, backbone=str(backbone), projector=top / "projector"))


@pytest.fixture(scope="module", params=list(WIDTHS))
def used(request, tmp_path_factory, model_folder):
    """(studio, the published folder, what somebody else made with it)."""
    top = tmp_path_factory.mktemp(request.param)
    studio, folder = studio_on(request.param, top, model_folder), top / "out" / "noise"
    backbone = studio.settings.backbone
    publishing.publish(studio, folder, "ann", backbone=backbone, licence="cc-by-4.0")
    diffuser, projector = studio.models.diffuser(), studio.models.using("projector").model
    pooled = {"pooled_prompt_embeds": torch.zeros(1, 32)} if request.param == "sdxl" else {}
    given = {"latents": projector.latents(diffuser, PROMPT, 7), "prompt": PROMPT, "steps": STEPS, "guidance": GUIDANCE,
             "embeds": pooled | {"guidance_scale": 1.0}}  # fmt: skip
    torch.save(given, top / "given.pt")
    (empty := top / "empty").mkdir()
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    script = Path(__file__).with_name("elsewhere.py")
    done = subprocess.run(
        [sys.executable, "-I", str(script), str(folder), backbone, str(top / "given.pt"), str(top / "made.pt")],
        cwd=empty, env=environment | {"HF_HOME": str(top / "hub")}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-5000:]
    return studio, folder, torch.load(top / "made.pt")


def test_the_custom_pipeline_makes_the_image_of_latents_that_were_projected_bit_for_bit(used):
    studio, _, made = used
    for name in ("custom", "custom, generator", "given latents", "node, image"):
        assert torch.equal(made[name], made["latents="]), name
    assert torch.equal(made["custom, off"], made["plain"])
    assert not torch.allclose(made["custom"], made["plain"], atol=0.01)
    method = Projected(studio.models.using("projector").model)
    settings = Sampling(steps=STEPS, guidance=GUIDANCE)
    ours = method.run(studio.models.diffuser(), [PROMPT], [7], settings).images
    assert np.array_equal(ours, (made["custom"].numpy() * 255).round().astype(np.uint8))


def test_the_modular_pipeline_makes_the_image_of_the_studio(used):
    studio, folder, made = used
    if not studio.models.diffuser().family.modular:
        assert (
            not (folder / "block.py").exists() and "ModularPipeline" not in (folder / "README.md").read_text()
        )
        return
    for name in ("", ", half", ", off", ", several"):
        assert torch.allclose(made[f"modular{name}"], made[f"custom{name}"], atol=4e-5), name


def test_several_prompts_and_seeds_are_each_the_image_of_their_own(used):
    studio, _, made = used
    diffuser, projector = studio.models.diffuser(), studio.models.using("projector").model
    prompts = [PROMPT, PROMPT, "a star", "a star"]
    sampling = Sampling(steps=STEPS, guidance=GUIDANCE)
    ours = Projected(projector).run(diffuser, prompts, [7, 8, 9, 10], sampling).images
    assert np.abs(ours / 255 - made["custom, several"].numpy()).max() <= 1 / 255
    assert torch.allclose(made["custom, several"][:1], made["custom"], atol=1e-4)


def test_each_example_of_the_card_runs_and_what_has_no_text_is_refused(used):
    _, folder, made = used
    card = (folder / "README.md").read_text()
    assert made["card"] == [(64, 64)] * card.count("```python")
    assert "the text of the prompt" in made["embeds"] and "projection_strength" in made["embeds"]


def test_the_node_gives_the_noise_of_the_studio_and_without_strength_that_of_comfyui(used):
    studio, _, made = used
    projector, diffuser = studio.models.using("projector").model, studio.models.diffuser()
    ours, shape = projector.latents(diffuser, PROMPT, 7), diffuser.latent_shape()
    assert torch.equal(made["node"], ours) and torch.equal(made["node, file"], ours)
    torch.manual_seed(7)
    assert torch.equal(made["node, off"], torch.randn(3, *shape))
    assert torch.equal(made["next"], torch.randn(3))
    torch.manual_seed(7)
    one_by_one = [torch.randn(1, *shape) for _ in range(3)]
    assert torch.equal(made["node, index off"], torch.cat([one_by_one[2], one_by_one[0]]))
    assert made["node, large seed"].isfinite().all()
    assert "no projector at 'nowhere'" in made["nowhere"]


def test_an_item_of_a_batch_of_comfyui_is_the_same_alone_and_item_0_is_the_seeds(used):
    studio, _, made = used
    batch, alone = made["node, batch"], made["node, index"]
    assert torch.allclose(batch[:1], made["node"], atol=1e-5)
    assert torch.allclose(alone, batch[[2, 0]], atol=1e-5)
    torch.manual_seed(7)
    text, noise = studio.models.diffuser().encode([PROMPT]), torch.randn(batch.shape)[2:]
    projector = studio.models.using("projector").model
    ours = projector.project(noise, text.hidden, text.mask, second([9], noise.shape[1:]))
    assert torch.allclose(batch[2:], ours, atol=1e-5)


def test_what_is_published_is_code_of_libraries_alone_weights_as_safetensors_and_no_path_of_ours(used):
    studio, folder, _ = used
    files = [path for path in folder.rglob("*") if path.is_file()]
    kinds = {path.suffix for path in files}
    assert kinds == {".py", ".md", ".json", ".txt", ".safetensors"}
    for path in files:
        if path.suffix == ".py":
            assert not imports_of_ours(path.read_text())
        elif path.suffix == ".safetensors":
            assert path.read_bytes() == (studio.settings.projector / path.name).read_bytes()
    index = folder / "modular_model_index.json"
    if index.is_file():
        assert json.loads(index.read_text())["projector"][2]["pretrained_model_name_or_path"] is None
    assert not (folder.parent / ".noise").exists() and [p.name for p in folder.parent.iterdir()] == ["noise"]
    assert studio.store.audit.entries()[0]["action"] == "publish"


# ---- the folder, without a process that uses it -------------------------------------------------------------------


@pytest.fixture
def cli(studio, monkeypatch, capsys):
    """A function: a command's exit code, and what it printed."""
    monkeypatch.setattr(commands, "studio_of", lambda home: studio)

    def call(*words):
        return main([*map(str, words)]), "".join(capsys.readouterr())

    return call


HELDOUT = {
    "of": "prompts and seeds", "judge": "detector", "independent": True, "prompts": 4, "images": 16, "base": "none",
    "sampling": {"steps": 2, "guidance": 3.0}, "key": "k",
    **{side: {name: {"estimate": value, "low": value - 0.1, "high": value + 0.1} for name in ("words", "clean")}
       for side, value in (("none", 0.5), ("after", 0.715), ("difference", 0.215))},
}  # fmt: skip


@pytest.fixture
def run(studio):
    """A function: a run of a kind that is done, with the shipped projector as its checkpoint; its id."""

    def make(kind="projector", **fields):
        id = studio.store.runs.new(kind, {}, None, None)
        folder = studio.settings.projector
        about = {"checkpoint": str(folder), "checkpoint_sha256": checkpoint.digest(folder)}
        studio.store.runs.update(id, **{"state": "done", **about, **fields})
        return id

    return make


def test_the_card_has_the_figures_of_the_held_out_result_and_none_where_nothing_was_measured(
    studio, run, tmp_path
):
    publishing.publish(studio, tmp_path / "shipped", "ann")
    card = (tmp_path / "shipped" / "README.md").read_text()
    assert "Nothing was measured" in card and "base_model" not in card and "embeddings of zeros" in card
    assert (
        'DiffusionPipeline.from_pretrained("diffuser")' in card and str(studio.settings.backbone) not in card
    )
    made = publishing.publish(
        studio, tmp_path / "own", "ann", run=run(metrics={"heldout": HELDOUT}), licence="mit"
    )
    card = (tmp_path / "own" / "README.md").read_text()
    assert "0.715 [0.615, 0.815]" in card and "license: mit" in card and "num_inference_steps=2" in card
    assert "Nothing was measured" not in card and made["run"] in card


def test_a_folder_that_is_pushed_names_itself_and_the_backbone_and_keeps_no_token(studio, tmp_path):
    hub = FakeHub()
    options = {"backbone": "ann/shapes", "repository": "ann/noise", "token": TOKEN, "api": hub}
    made = publishing.publish(studio, tmp_path / "out", "ann", **options)
    assert made["url"] == "https://huggingface.co/ann/noise" and set(hub.files) == set(made["files"])
    assert (hub.calls[0][0], hub.calls[0][2]["private"], hub.calls[1][1]["repo_type"]) == (
        "create_repo",
        True,
        "model",
    )
    index = json.loads(hub.files["modular_model_index.json"])
    places = {
        name: one[2]["pretrained_model_name_or_path"] for name, one in index.items() if isinstance(one, list)
    }
    assert places["projector"] == "ann/noise" and places["unet"] == places["scheduler"] == "ann/shapes"
    assert b"base_model: ann/shapes" in hub.files["README.md"]
    assert TOKEN.encode() not in b"".join(hub.files.values()) and TOKEN not in json.dumps(
        studio.store.audit.entries()
    )


def test_what_cannot_be_published_is_a_sentence_and_leaves_nothing(studio, run, cli, tmp_path, monkeypatch):
    monkeypatch.delenv("HF_TOKEN", raising=False)
    (full := tmp_path / "full").mkdir()
    (full / "mine.txt").write_text("x")
    out, reward, queued = tmp_path / "new" / "out", run("reward"), run(state="failed")
    for words, says in (
        ([full], "not empty"), ([full / "mine.txt"], "not empty"), ([out, "--run", "nothing"], "no run"),
        ([out, "--run", reward], "makes no projector"), ([out, "--run", queued], "is failed"),
        ([out, "--push", "noise"], "write owner/name"), ([out, "--push", "ann/noise"], "There is no token"),
        ([out, "--public"], "belongs to --push"),
    ):  # fmt: skip
        code, said = cli("publish", *words)
        assert code == 2 and says in said and len(said.strip().splitlines()) == 1, said
    change_settings(studio, projector=tmp_path / "nowhere")
    code, said = cli("publish", out)
    assert code == 2 and "There is no projector" in said
    assert [path.name for path in tmp_path.iterdir()] == ["full"] and [p.name for p in full.iterdir()] == [
        "mine.txt"
    ]
    assert "publish" not in [line["action"] for line in studio.store.audit.entries()]


@pytest.mark.parametrize(
    ("name", "wrong", "says"),
    [
        (
            "token_mask",
            lambda tokenizers, texts, length: torch.ones(len(texts), length).bool(),
            "latents differ",
        ),
        ("prompts_of", lambda prompt: 1 / 0, "ZeroDivisionError"),
    ],
    ids=["another mask", "an error"],
)
def test_a_backbone_whose_pipeline_would_start_from_other_latents_is_refused(
    studio, tmp_path, monkeypatch, name, wrong, says
):
    monkeypatch.setattr(pipeline, name, wrong)
    with pytest.raises(ValueError, match=f"cannot be published yet.*{says}"):
        publishing.publish(studio, tmp_path / "out", "ann")
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_finished_is_not_there(studio, tmp_path, monkeypatch):
    monkeypatch.setattr(publishing, "model_card", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        publishing.publish(studio, tmp_path / "out", "ann")
    monkeypatch.undo()
    monkeypatch.setattr(publishing, "as_json", lambda _: 7)  # the last files are half written
    with pytest.raises(TypeError):
        publishing.publish(studio, tmp_path / "out", "ann")
    assert list(tmp_path.iterdir()) == []


def test_the_zip_of_a_run_is_the_folder_that_the_command_writes(studio, run, cli, tmp_path, monkeypatch):
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path / "gradio"))
    id = run()
    name = f"noise-projector-{id}"
    code, said = cli("publish", tmp_path / name, "--run", id)
    assert code == 0 and "MB" in said
    given = endpoints(studio, None)["download_published"](id)
    assert given["orig_name"] == f"{name}.zip"
    with zipfile.ZipFile(given["path"]) as archive:
        files = {one: archive.read(one) for one in archive.namelist()}
    written = {
        p.relative_to(tmp_path).as_posix(): p.read_bytes()
        for p in (tmp_path / name).rglob("*")
        if p.is_file()
    }
    assert files == written


def test_a_definition_that_still_needs_the_project_and_two_of_one_name_are_refused():
    with pytest.raises(ValueError, match=r"would import core\."):
        flatten([("core.networks.projector", "NoiseProjector")], "x")
    with pytest.raises(ValueError, match="rename one"):
        flatten([("studio.doors", "read"), ("core.jsonfile", "read")], "x")


def test_the_flattened_noise_is_that_of_core():
    names = {}
    exec(flatten([("core.noise", "draw")], "x"), names)  # noqa: S102
    assert torch.equal(names["draw"]([5, 2**40], (4, 2, 2)), draw([5, 2**40], (4, 2, 2)))
