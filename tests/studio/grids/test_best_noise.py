"""The best of several noises on Compare and on Seeds: who chooses, and that its image is a plain one of the seed chosen."""

import hashlib

import pytest

from core import checkpoint
from core.evaluation.choosing import candidate
from core.foresight import RewardParts, Teacher
from core.networks.reward import PictureReader, RewardModel
from core.noise import draw
from studio.grids.grid import Cells
from studio.images.methods import REWARD, TEACHER, build, chooses, without_choice
from studio.studio import check_request
from tests.studio.gridded import PROMPT, grid_of
from tests.tiny import STEPS, change_settings


def with_reward(studio, folder):
    change_settings(studio, reward=folder)
    return studio


@pytest.fixture(scope="module")
def taught_folder(loaded, model_folder, tmp_path_factory):
    """The tiny reward model with a teacher beside it: a new reader, on the backbone's own prediction."""
    folder, diffuser = tmp_path_factory.mktemp("taught") / "reward", loaded.models.diffuser()
    reward = checkpoint.load(RewardModel, model_folder / "reward")
    reader = PictureReader(
        latent_channels=diffuser.channels,
        text_width=diffuser.text_width,
        head_width=16,
        head_depth=1,
        heads=2,
    )
    checkpoint.save(RewardParts(reward, Teacher(diffuser, reader)), folder, kind="RewardModel")
    return folder


@pytest.fixture
def taught(studio, taught_folder):
    return with_reward(studio, taught_folder)


def compared(studio, **changes):
    asked = {"prompt": PROMPT, "seeds": "1, 2", "steps": STEPS, "noise": "best-noise-of-3", **changes}
    return list(studio.comparison.compare(check_request(**asked)))[-1]


def calls(studio, *methods):
    """What each of these methods asks of the models, to begin with one seed."""
    text, shape = studio.models.diffuser().encode([PROMPT]), studio.models.diffuser().latent_shape()
    return [method.start(text, [1], shape).calls for method in build(studio, methods)]


def test_the_teacher_chooses_where_there_is_one_and_the_reward_model_alone_where_it_is_asked_to(
    studio, taught_folder
):
    found = studio.models.teacher()
    assert found.model is None and "of an earlier kind" in found.problem
    assert not studio.models.taught() and calls(studio, "best-noise-of-2") == [{"reward": 2}]
    taught = with_reward(studio, taught_folder)
    both = ["best-noise-of-2", "best-noise-of-2-by-reward"]
    assert calls(taught, *both) == [{"foresight": 2}, {"reward": 2}]
    assert [method.name for method in build(taught, both)] == both
    assert taught.models.teacher().model is taught.models.teacher().model and taught.models.taught()


def test_a_seed_whose_own_noise_is_the_best_has_one_image_in_both_places(studio, monkeypatch):
    monkeypatch.setattr(Cells, "chosen", lambda studio, prompt, seeds, *rest: list(seeds))
    last = compared(studio)
    assert REWARD in last.message
    assert all(pair.none.id == pair.projected.id for pair in last.pairs)
    ids = [cell.sample.id for cell in grid_of(studio, methods="none,best-noise-of-2").cells]
    assert ids[0] == ids[1] and ids[2] == ids[3] and studio.store.samples.count() == 2


def test_what_can_be_chosen_says_by_what_and_without_a_reward_model_there_is_none(studio, taught_folder):
    def found():
        return {value: label for label, value in studio.grids.methods() if chooses(value)}

    assert list(found()) == ["best-noise-of-8"] and REWARD in found()["best-noise-of-8"]
    with_reward(studio, taught_folder)
    assert list(found()) == ["best-noise-of-8", "best-noise-of-8-by-reward"]
    assert TEACHER in found()["best-noise-of-8"] and REWARD in found()["best-noise-of-8-by-reward"]
    with_reward(studio, studio.settings.home / "nowhere")
    assert not found()
    with pytest.raises(ValueError, match="no reward model yet"):
        grid_of(studio, methods="best-noise-of-2")
    last = compared(studio)
    assert "no reward yet" in last.message and all(pair.projected is None for pair in last.pairs)


def test_compare_shows_a_plain_image_of_the_seed_whose_noise_was_chosen(taught):
    last = compared(taught)
    assert TEACHER in last.message
    for pair in last.pairs:
        row = taught.store.samples.get(pair.projected.id)
        assert row["seed"] in [candidate(pair.seed, k) for k in range(3)]
        assert (row["method"], row["strength"], row["projector_run"]) == ("none", 0.0, None)
        noise = draw([row["seed"]], taught.models.diffuser().latent_shape())
        assert row["noise_sha256"] == hashlib.sha256(noise[0].numpy().tobytes()).hexdigest()
        assert pair.chosen and pair.projected.total is not None
    seed = last.pairs[0].projected.seed
    assert compared(taught, seeds=[seed]).pairs[0].none.id == last.pairs[0].projected.id


@pytest.mark.parametrize("noise", ["", "none", "pag", "best-of-8", "best-noise-of-999", 8, None])
def test_a_noise_that_is_not_known_is_refused_with_what_there_is(noise):
    with pytest.raises(ValueError, match=r"best-noise-of-8|out of range"):
        check_request(PROMPT, 1, noise=noise)


def test_a_column_of_a_grid_is_chosen_stored_as_a_plain_image_and_not_made_twice(taught, monkeypatch):
    view = grid_of(taught, "1", methods="none,best-noise-of-3,pag+best-noise-of-3-by-reward")
    assert (view.state, view.message, view.done) == ("done", "", 3)
    for cell in view.cells:
        row, variant = taught.store.samples.get(cell.sample.id), view.variants[cell.variant]
        assert row["method"] == without_choice(variant.method) and row["projector_run"] is None
        assert row["seed"] in [candidate(cell.seed, k) for k in range(3 if chooses(variant.method) else 1)]
        assert variant.run.startswith("shipped-reward-") == chooses(variant.method)
    count = taught.store.samples.count()
    monkeypatch.setattr(Cells, "denoised", lambda *given: pytest.fail("it was made again"))
    again = grid_of(taught, "1", methods="best-noise-of-3")
    assert [cell.sample.id for cell in again.cells] == [
        cell.sample.id for cell in view.cells if cell.variant == 1
    ]
    monkeypatch.setattr(Cells, "chosen", lambda *given: pytest.fail("it was chosen again"))
    taught.grids.resume(view.id, "ann")
    assert taught.grids.work.wait(view.id, 60)
    assert taught.grids.get(view.id).state == "done" and taught.store.samples.count() == count
