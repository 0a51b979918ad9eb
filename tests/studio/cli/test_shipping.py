"""studio/cli/shipping.py: what `ship` writes is what was in use, and serves another studio."""

import pytest
import torch
from safetensors import safe_open

from core import checkpoint
from core.noise import draw
from studio.__main__ import main
from studio.cli import commands
from studio.images.methods import build
from tests import tiny
from tests.tiny import change_settings

PARTS = ("reward", "projector")


@pytest.fixture(scope="module")
def taught_home(grown, labelled_home):
    """A home in which a reward model was trained and promoted, to be copied."""
    new = grown(labelled_home)
    config = {"foresight_steps": 2, "reader_steps": 2, "reward_steps": 2, "reward_batch": 4}
    new.runs.promote(new.training.train("reward", config)["id"], "Ann", force=True)
    return new.settings.home


@pytest.fixture
def taught(begun_as, taught_home, monkeypatch):
    studio = begun_as(taught_home)
    monkeypatch.setattr(commands, "studio_of", lambda home: studio)
    return studio


def test_ship_writes_the_models_in_use_in_float16_and_a_new_studio_chooses_and_projects_by_them(
    taught, model_folder, tmp_path
):
    shipped = {part: tmp_path / "shipped" / part for part in PARTS}
    assert main(["ship", str(tmp_path / "shipped")]) == 0
    for folder in shipped.values():
        assert checkpoint.verify(folder)["files"]
        for file in folder.rglob("*.safetensors"):
            with safe_open(file, "pt") as kept:
                assert all(kept.get_tensor(key).dtype == torch.float16 for key in kept.keys())  # noqa: SIM118

    new = tiny.studio_at(tmp_path / "home", model_folder)
    new.models.share(taught.models)
    change_settings(new, **shipped)
    assert len(new.collecting.collect(["a red circle"], 1, "projected", steps=tiny.STEPS)) == 1
    diffuser = new.models.diffuser()
    text, noise = diffuser.encode(["a red circle"]), draw([7], diffuser.latent_shape())
    for method in ("best-noise-of-2", "best-noise-of-2-by-reward"):
        ours, theirs = (build(one, [method])[0].start(text, [7], noise.shape[1:]) for one in (new, taught))
        assert torch.equal(ours.noise, theirs.noise)


@pytest.mark.parametrize(
    ("kind", "shipped", "says"),
    [
        ("projector", False, "no projector"),
        ("reward", False, "no reward"),
        ("reward", True, "train it again"),
    ],
)
def test_ship_without_a_model_or_a_teacher_is_a_sentence(taught, tmp_path, capsys, kind, shipped, says):
    """The reward model that is shipped with the tiny ones has no teacher."""
    if kind == "reward":
        taught.runs.rollback("reward", "Ann")
    if not shipped:
        change_settings(taught, **{kind: tmp_path / "nowhere"})
    assert main(["ship", str(tmp_path / "shipped")]) == 2
    assert says in capsys.readouterr().err.lower()
    assert kind == "projector" or not (tmp_path / "shipped" / "reward").exists()
