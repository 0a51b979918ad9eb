"""studio/cli/shipping.py: what `ship` writes is what was in use, and serves another studio."""

import dataclasses

import pytest
import torch
from safetensors import safe_open

from core import checkpoint
from core.noise import draw
from studio.__main__ import main
from studio.cli import commands
from studio.images.methods import build
from tests import tiny

REWARD = {"foresight_steps": 2, "reader_steps": 2, "reward_steps": 2, "reward_batch": 4}


def test_ship_writes_the_models_in_use_in_float16_and_a_new_studio_chooses_and_projects_by_them(
    labelled, model_folder, tmp_path, monkeypatch
):
    monkeypatch.setattr(commands, "studio_of", lambda home: labelled)
    run = labelled.training.train("reward", REWARD)
    labelled.runs.promote(run["id"], "Ann", force=True)
    assert main(["ship", str(tmp_path / "shipped")]) == 0
    for part in ("reward", "projector"):
        manifest = checkpoint.verify(tmp_path / "shipped" / part)
        assert manifest["files"]
        for file in (tmp_path / "shipped" / part).rglob("*.safetensors"):
            with safe_open(file, "pt") as kept:
                assert all(kept.get_tensor(key).dtype == torch.float16 for key in kept.keys())  # noqa: SIM118

    new = tiny.studio_at(tmp_path / "home", model_folder)
    new.models._diffuser, new.models._scorer = labelled.models._diffuser, labelled.models._scorer
    shipped = {part: tmp_path / "shipped" / part for part in ("reward", "projector")}
    new.settings = new.models.settings = dataclasses.replace(new.settings, **shipped)
    assert len(new.collecting.collect(["a red circle"], 1, "projected", steps=tiny.STEPS)) == 1
    text, noise = (
        new.models.diffuser().encode(["a red circle"]),
        draw([7], new.models.diffuser().latent_shape()),
    )
    for method in ("best-noise-of-2", "best-noise-of-2-by-reward"):
        ours, theirs = (build(one, [method])[0].start(text, [7], noise.shape[1:]) for one in (new, labelled))
        assert torch.equal(ours.noise, theirs.noise)


def test_ship_needs_a_reward_model_with_a_teacher_and_says_so(labelled, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(commands, "studio_of", lambda home: labelled)
    assert main(["ship", str(tmp_path / "shipped")]) == 2
    assert "train it again" in capsys.readouterr().err
    assert not (tmp_path / "shipped" / "reward").exists()


@pytest.mark.parametrize("kind", ["reward", "projector"])
def test_ship_with_nothing_in_use_is_a_sentence(kind, labelled, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(commands, "studio_of", lambda home: labelled)
    run = labelled.training.train("reward", REWARD)
    labelled.runs.promote(run["id"], "Ann", force=True)
    if kind == "projector":
        settings = dataclasses.replace(labelled.settings, projector=tmp_path / "nowhere")
        labelled.settings = labelled.models.settings = settings
    else:
        labelled.runs.rollback("reward", "Ann")
        settings = dataclasses.replace(labelled.settings, reward=tmp_path / "nowhere")
        labelled.settings = labelled.models.settings = settings
    assert main(["ship", str(tmp_path / "shipped")]) == 2
    assert f"no {kind}" in capsys.readouterr().err.lower()
