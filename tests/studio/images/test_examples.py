"""The example pairs that an empty store begins with."""

import dataclasses
import json
import shutil
from pathlib import Path

import pytest

from core import checkpoint
from studio.images import examples, pictures
from studio.images.detecting import Opinion, opinion_of
from studio.images.views import Pair, SampleView, WordView
from studio.pages import first
from studio.settings import ROOT
from studio.studio import Studio
from tests import tiny
from tests.tiny import change_settings

SHIPPED = ROOT / "data/examples"
PROMPTS = ("a red circle above a blue square", "a green star")
TWO = {"begin": Studio, "prompts": PROMPTS, "seeds": (1, 2), "steps": tiny.STEPS, "count": 2}


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
    examples.make(settings, folder, **TWO, search=3, force=True)  # random models are right by chance alone
    return folder


@pytest.fixture
def begin(described, described_models, made, quick_path):
    """A function that gives a studio on these models and examples; the same home each time."""
    studio = tiny.studio_at(quick_path / "home", described)
    studio.models._diffuser, studio.models._scorer = described_models._diffuser, described_models._scorer

    def run(folder: Path = made):
        change_settings(studio, examples=str(folder))
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
        count == studio.store.samples.count(prompt_set="examples") == studio.store.samples.count(scored=True)
    )
    prompt, pairs = examples.pairs(studio)[0]
    assert prompt == PROMPTS[0]
    assert [pair.seed for pair in pairs][:2] == [1, 2]
    assert all(Path(view.image_path).is_file() for pair in pairs for view in (pair.none, pair.projected))
    assert all(word.vlm is not None for word in pairs[0].none.words if word.scored)
    assert studio.store.audit.entries()[0]["action"] == "examples"


def test_they_are_offered_for_correction_and_a_correction_of_one_stands(begin):
    studio = begin()
    examples.add(studio)
    item = studio.annotation.next("Ann")
    word = next(word for word in item.words if word.scored)
    assert studio.annotation.correct(item.id, word.index, 3, "Ann").words[word.index].human == 3


def test_they_say_what_the_same_comparison_would_say(begin):
    """The very images: what is compared again is the sample that is there already."""
    studio = begin()
    examples.add(studio)
    first = examples.pairs(studio)[0][1][0]
    made = list(
        studio.comparison.compare(
            examples.check_request(PROMPTS[0], [1], tiny.STEPS, studio.models.sampling()["guidance"])
        )
    )
    assert made[-1].pairs[0].none.id == first.none.id


def test_a_second_start_adds_none_and_one_that_was_cut_off_adds_the_rest(begin, monkeypatch):
    studio = begin()
    with monkeypatch.context() as cut:
        # stands for a power cut between the images and their scores
        cut.setattr(studio.store.scores, "add", lambda events: (_ for _ in ()).throw(OSError("cut")))
        assert examples.add(studio) == 0
    assert studio.store.samples.count(scored=True) == 0
    count = studio.store.samples.count()
    assert examples.add(studio) == 0
    assert studio.store.samples.count() == studio.store.samples.count(scored=True) == count
    assert examples.add(studio) == 0
    assert len(studio.store.audit.entries()) <= 1


def test_a_store_in_which_somebody_has_begun_is_left_alone(begin):
    studio = begin()
    list(studio.comparison.compare(examples.check_request("a blue star", [5], tiny.STEPS)))
    assert examples.add(studio) == 0
    assert studio.store.samples.count(prompt_set="examples") == 0


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
    assert studio.store.samples.count() == 0


def test_none_begins_with_none(begin):
    studio = begin()
    change_settings(studio, examples="none")
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
    passed_over = index.get("checked", {}).get("passed_over", [])
    shown = [prompt for prompt in examples.PROMPTS if prompt not in passed_over][: examples.SHOWN]
    fixed = {(prompt, seed) for prompt in shown for seed in examples.SEEDS}
    broken = index["broken"]
    assert there - fixed == ({(broken["prompt"], broken["seed"])} if broken else set())
    assert fixed <= there
    if broken:
        held = [s for s in index["samples"] if (s["prompt"], s["seed"]) == (broken["prompt"], broken["seed"])]
        scores = {s["method"]: {w["index"]: w["score"] for w in s["words"]} for s in held}
        assert any(score >= examples.HOLDS > scores["projected"][at] for at, score in scores["none"].items())


def test_the_detectors_share_of_the_shipped_ones_is_what_their_index_says():
    index = json.loads((SHIPPED / "index.json").read_text())
    if "checked" not in index:
        pytest.skip("the shipped examples were made before they were checked")
    right = digits = 0
    for entry in index["samples"]:
        held = opinion_of(
            entry["prompt"], pictures.read(SHIPPED / entry["image"]), entry.get("word_rules", 1)
        ).units
        sides = [
            (w["score"] >= examples.HOLDS) == held[w["index"]] for w in entry["words"] if w["index"] in held
        ]
        right, digits = right + sum(sides), digits + len(sides)
    assert (right, digits) == (index["checked"]["right"], index["checked"]["digits"])
    assert right >= examples.RIGHT * digits and not index["checked"]["false_rises"]


# ---- what the detector is asked of them


def view(method, scores, prompt=PROMPTS[0], total=5.0):
    words = [WordView(i, f"w{i}", "object", True, score=score) for i, score in enumerate(scores)]
    return SampleView(method, prompt, 1, method, 0.0, 2, 4.0, method, words, total)


@pytest.fixture
def judged(monkeypatch):
    """A function (before, after) that gives a judge whose opinion of the two images of a pair is known: no image is read."""
    monkeypatch.setattr(examples.pictures, "read", lambda path: path.name)

    def judge(before, after):
        held = {"none": before, "projected": after}
        return lambda prompt, name: Opinion(dict(enumerate(held[name])), "")

    return judge


@pytest.mark.parametrize(
    ("before", "after", "held", "holds", "false"),
    [
        ([2], [8], [False], [True], 0),
        ([2], [8], [False], [False], 1),  # the digit says that the word holds, and it does not
        ([6], [8], [False], [False], 1),
        ([6], [9], [True], [True], 0),
        ([2], [8], [True], [True], 1),  # it held already: nothing was mended
        ([2], [4], [True], [False], 1),  # it held, and no longer does
        ([2], [4], [False], [False], 0),  # both digits say that it does not hold
        ([8], [2], [True], [False], 0),  # no ▲
        ([8], [2], [True], [True], 0),
        ([None], [8], [False], [False], 0),
    ],
)
def test_a_rise_is_false_where_the_detector_sees_none(judged, before, after, held, holds, false):
    pair = Pair(1, view("none", before), view("projected", after))
    assert examples.false_rises(pair, judged(held, holds)) == false


def test_a_higher_mean_is_false_where_fewer_words_hold(judged):
    pair = Pair(1, view("none", [9, 9]), view("projected", [9, 9], total=6.0))
    assert examples.false_rises(pair, judged([True, True], [True, False])) == 1
    assert examples.false_rises(pair, judged([True, False], [True, False])) == 0


def test_a_pair_is_broken_where_the_digits_and_the_detector_say_so(judged):
    pair = Pair(1, view("none", [9]), view("projected", [1]))
    assert examples.breaks(pair, judged([True], [False]))
    assert not examples.breaks(pair, judged([True], [True]))
    assert not examples.breaks(pair, judged([False], [False]))


def scorers_own(settings):
    """A fake judge: it says of every image what the scorer says, for random models are right by chance alone and here it
    is the choice of prompts that is looked at."""
    studio = tiny.studio_at(settings.home / "judge", Path(settings.reward).parent)

    def judge(prompt, image):
        said = studio.models.scorer().score(image[None], [prompt])[0]
        return Opinion({word.word_index: word.score >= examples.HOLDS for word in said}, "")

    return judge


def test_examples_that_the_detector_finds_wrong_are_refused_and_nothing_is_written(described, tmp_path):
    settings, out = tiny.settings_at(tmp_path / "home", described), tmp_path / "out"
    right = scorers_own(settings)

    def wrong(prompt, image):  # a fake judge that contradicts every digit
        return Opinion({index: not held for index, held in right(prompt, image).units.items()}, "")

    with pytest.raises(ValueError, match="finds a ▲ or too many digits false") as refused:
        examples.make(settings, out, **TWO, search=0, judge=wrong)
    assert "--force" in str(refused.value) and not out.exists()
    index = examples.make(settings, out, **TWO, search=0, judge=wrong, force=True)
    assert index["checked"]["right"] == 0 and index["checked"]["digits"] > 0
    assert {entry["prompt"] for entry in index["samples"]} == set(PROMPTS)


def test_a_prompt_on_which_a_rise_is_false_is_passed_over_for_the_next_of_the_list(
    described, tmp_path, monkeypatch
):
    settings, out = tiny.settings_at(tmp_path / "home", described), tmp_path / "out"
    # stands for a projector of which one rise is false: which one it is, is chance with random models
    monkeypatch.setattr(examples, "false_rises", lambda pair, judge: pair.none.prompt == PROMPTS[0])
    given = {**TWO, "prompts": (*PROMPTS, "a blue star"), "search": 0, "judge": scorers_own(settings)}
    index = examples.make(settings, out, **given)
    assert index["checked"]["passed_over"] == [PROMPTS[0]]
    assert index["checked"]["right"] == index["checked"]["digits"]
    assert index["samples"][0]["image"] == "1-seed1-none.png"
    assert {entry["prompt"] for entry in index["samples"]} == {"a green star", "a blue star"}
    folder = dataclasses.replace(settings, examples=str(out))
    assert examples.checked(folder)["passed_over"] == 1
    said = first._checked(examples.checked(folder))
    assert said.endswith("no ▲ is false. Prompts passed over for a ▲ or more digits that are false: 1. ")
    with pytest.raises(
        ValueError,
        match=r"On 1 of the 2 prompts the detector finds a ▲ or too many digits false, so 1 are left",
    ):
        examples.make(settings, tmp_path / "few", **{**given, "prompts": PROMPTS})
