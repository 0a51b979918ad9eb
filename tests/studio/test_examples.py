"""The example pairs that an empty store begins with."""

import dataclasses
import json
import shutil
from pathlib import Path

import pytest

from core import checkpoint
from studio import examples
from studio.settings import ROOT
from tests import tiny

SHIPPED = ROOT / "data/examples"
PROMPTS = ("a red circle above a blue square", "a green star")


@pytest.fixture(scope="module")
def described(model_folder, tmp_path_factory):
    """The tiny models with a manifest each, as shipped ones have: their diffuser has none of its own."""
    folder = tmp_path_factory.mktemp("described") / "models"
    shutil.copytree(model_folder, folder)
    (folder / "diffuser" / checkpoint.MANIFEST).write_text(json.dumps({"made for": "a test"}))
    return folder


@pytest.fixture(scope="module")
def described_models(described, tmp_path_factory):
    new = tiny.studio_at(tmp_path_factory.mktemp("described") / "home", described)
    new.load()
    return new.models


@pytest.fixture(scope="module")
def made(described, tmp_path_factory):
    """Examples made by the tiny models: two prompts, seeds 1 and 2, and a search over one seed more."""
    folder = tmp_path_factory.mktemp("examples")
    settings = tiny.settings_at(folder / "home", described)
    examples.make(settings, folder, prompts=PROMPTS, seeds=(1, 2), steps=tiny.STEPS, search=3)
    return folder


@pytest.fixture
def begin(described, described_models, made, quick_path):
    """A function that gives a studio on these models and examples; the same home each time."""
    studio = tiny.studio_at(quick_path / "home", described)
    studio.models._diffuser, studio.models._scorer = described_models._diffuser, described_models._scorer

    def run(folder: Path = made):
        settings = dataclasses.replace(studio.settings, examples=str(folder))
        studio.settings = studio.models.settings = settings
        return studio

    return run


def test_the_script_makes_both_methods_of_every_prompt_and_seed(made):
    index = json.loads((made / "index.json").read_text())
    fixed = [(s["prompt"], s["seed"], s["method"]) for s in index["samples"]][: 2 * 2 * 2]
    assert sorted(fixed) == sorted(
        (prompt, seed, method) for prompt in PROMPTS for seed in (1, 2) for method in ("none", "projected")
    )
    assert {s["image"] for s in index["samples"]} == {path.name for path in made.glob("*.png")}


def test_an_empty_store_gets_them_as_ordinary_samples_with_their_scores(begin):
    studio = begin()
    count = examples.add(studio)
    assert (
        count == studio.store.count_samples(prompt_set="examples") == studio.store.count_samples(scored=True)
    )
    prompt, pairs = examples.pairs(studio)[0]
    assert prompt == PROMPTS[0]
    assert [pair.seed for pair in pairs][:2] == [1, 2]
    assert all(Path(view.image_path).is_file() for pair in pairs for view in (pair.none, pair.projected))
    assert all(word.vlm is not None for word in pairs[0].none.words if word.scored)
    assert studio.store.audit()[0]["action"] == "examples"


def test_they_are_offered_for_correction_and_a_correction_of_one_stands(begin):
    studio = begin()
    examples.add(studio)
    item = studio.next_item("Ann")
    word = next(word for word in item.words if word.scored)
    assert studio.correct(item.id, word.index, 3, "Ann").words[word.index].human == 3


def test_they_say_what_the_same_comparison_would_say(begin):
    """The very images: what is compared again is the sample that is there already."""
    studio = begin()
    examples.add(studio)
    first = examples.pairs(studio)[0][1][0]
    made = list(
        studio.compare(
            examples.check_request(PROMPTS[0], [1], tiny.STEPS, studio.models.sampling()["guidance"])
        )
    )
    assert made[-1].pairs[0].none.id == first.none.id


def test_a_second_start_adds_none_and_one_that_was_cut_off_adds_the_rest(begin, monkeypatch):
    studio = begin()
    with monkeypatch.context() as cut:
        # stands for a power cut between the images and their scores
        cut.setattr(studio.store, "add_scores", lambda events: (_ for _ in ()).throw(OSError("cut")))
        assert examples.add(studio) == 0
    assert studio.store.count_samples(scored=True) == 0
    count = studio.store.count_samples()
    assert examples.add(studio) == 0
    assert studio.store.count_samples() == studio.store.count_samples(scored=True) == count
    assert examples.add(studio) == 0
    assert len(studio.store.audit()) <= 1


def test_a_store_in_which_somebody_has_begun_is_left_alone(begin):
    studio = begin()
    list(studio.compare(examples.check_request("a blue star", [5], tiny.STEPS)))
    assert examples.add(studio) == 0
    assert studio.store.count_samples(prompt_set="examples") == 0


def test_other_models_than_those_that_made_them_begin_empty(begin, made, tmp_path):
    index = json.loads((made / "index.json").read_text())
    index["made_by"]["projector"] = "0" * 64
    (tmp_path / "index.json").write_text(json.dumps(index))
    assert examples.add(begin(tmp_path)) == 0


@pytest.mark.parametrize(
    "damage",
    [
        lambda folder: (folder / "index.json").write_text("{"),
        lambda folder: (folder / "index.json").write_text("[]"),
        lambda folder: next(folder.glob("*.png")).write_bytes(b"no image"),
        lambda folder: next(folder.glob("*.png")).unlink(),
    ],
)
def test_damaged_examples_keep_nobody_from_starting(begin, made, tmp_path, damage):
    for path in (*made.glob("*.png"), made / "index.json"):
        (tmp_path / path.name).write_bytes(path.read_bytes())
    damage(tmp_path)
    studio = begin(tmp_path)
    assert examples.add(studio) == 0
    assert studio.store.count_samples() == 0


def test_none_begins_with_none(begin):
    studio = begin()
    studio.settings = dataclasses.replace(studio.settings, examples="none")
    assert examples.add(studio) == 0


def test_the_shipped_ones_are_small_and_of_the_shipped_models():
    index = json.loads((SHIPPED / "index.json").read_text())
    assert sum(path.stat().st_size for path in SHIPPED.iterdir()) < 400_000
    for name, digest in index["made_by"].items():
        folder = {"backbone": "diffuser"}.get(name, name)
        assert checkpoint.digest(ROOT / "data/models" / folder) == digest, (
            f"make them again: the {name} changed"
        )


def test_the_shipped_ones_are_not_picked_but_for_the_one_that_is_broken():
    index = json.loads((SHIPPED / "index.json").read_text())
    there = {(s["prompt"], s["seed"]) for s in index["samples"]}
    fixed = {(prompt, seed) for prompt in examples.PROMPTS for seed in examples.SEEDS}
    assert there - fixed == {(index["broken"]["prompt"], index["broken"]["seed"])}
    assert fixed <= there
    held = [s for s in index["samples"] if s["seed"] == index["broken"]["seed"]]
    scores = {s["method"]: {w["index"]: w["score"] for w in s["words"]} for s in held}
    assert any(score >= examples.HOLDS > scores["projected"][at] for at, score in scores["none"].items())
