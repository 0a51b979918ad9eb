"""The example pairs that an empty store begins with."""

import dataclasses
import itertools
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
TWO = {"prompts": PROMPTS, "seeds": (1, 2), "steps": tiny.STEPS, "count": 2}


@pytest.fixture(scope="module")
def described(model_folder, tmp_path_factory):
    """The tiny models with a manifest each, as shipped ones have: their diffuser has none of its own."""
    folder = tmp_path_factory.mktemp("described") / "models"
    shutil.copytree(model_folder, folder)
    (folder / "diffuser" / checkpoint.MANIFEST).write_text(json.dumps({"made for": "a test"}))
    return folder


@pytest.fixture
def begin(described, described_models, made, quick_path):
    """A function that gives a studio on these models and examples; the same home each time."""
    studio = tiny.studio_at(quick_path / "home", described)
    studio.models.share(described_models)

    def run(folder: Path | str = made):
        change_settings(studio, examples=str(folder))
        return studio

    return run


def test_an_empty_store_gets_them_as_ordinary_samples_with_their_scores(begin, made):
    index = json.loads((made / "index.json").read_text())
    fixed = [(s["prompt"], s["seed"], s["method"]) for s in index["samples"]][: 2 * 2 * 2]
    assert sorted(fixed) == sorted(itertools.product(PROMPTS, (1, 2), ("none", "projected")))
    assert {s["image"] for s in index["samples"]} == {path.name for path in made.glob("*.png")}
    studio = begin()
    count = examples.add(studio)
    assert (
        count == studio.store.samples.count(prompt_set="examples") == studio.store.samples.count(scored=True)
    )
    prompt, pairs = examples.pairs(studio)[0]
    assert prompt == PROMPTS[0] and [pair.seed for pair in pairs][:2] == [1, 2]
    assert all(Path(view.image_path).is_file() for pair in pairs for view in (pair.none, pair.projected))
    assert all(word.vlm is not None for word in pairs[0].none.words if word.scored)
    assert studio.store.audit.entries()[0]["action"] == "examples"
    item = studio.annotation.next("Ann")
    word = next(word for word in item.words if word.scored)
    assert studio.annotation.correct(item.id, word.index, 3, "Ann").words[word.index].human == 3
    asked = examples.check_request(PROMPTS[0], [1], tiny.STEPS, studio.models.sampling()["guidance"])
    again = list(studio.comparison.compare(asked))[-1].pairs[0]
    assert again.none.id == pairs[0].none.id  # the very image: it is there already


def test_examples_keep_the_negative_prompt_that_they_were_made_with_and_an_earlier_index_has_none(
    begin, made, make, described, quick_path
):
    settings = dataclasses.replace(tiny.settings_at(quick_path / "other", described), negative="a blue star")
    make(settings, quick_path / "under", search=0, force=True)
    for folder, negative in ((quick_path / "under", "a blue star"), (made, "")):
        index = json.loads((folder / "index.json").read_text())
        assert index["negative"] == negative
        row = examples._row({**index, "negative": negative}, index["samples"][0], "", "a.png")
        assert row["negative"] == negative
        del index["negative"]
        assert "negative" not in examples._row(index, index["samples"][0], "", "a.png")


@pytest.mark.parametrize(
    "why", ["begun", "other models", "none", "no index", "not an index", "no image", "a lost image"]
)
def test_a_store_that_is_begun_other_models_or_damaged_examples_add_none(begin, made, tmp_path, why):
    folder = tmp_path / "examples"
    shutil.copytree(made, folder)
    index, image = folder / "index.json", next(folder.glob("*.png"))
    studio = begin("none" if why == "none" else folder)
    if why == "begun":
        list(studio.comparison.compare(examples.check_request("a blue star", [5], tiny.STEPS)))
    elif why == "other models":
        made_by = {**json.loads(index.read_text())["made_by"], "projector": "0" * 64}
        index.write_text(json.dumps({**json.loads(index.read_text()), "made_by": made_by}))
    elif why in ("no index", "not an index"):
        index.write_text("{" if why == "no index" else "[]")
    elif why == "no image":
        image.write_bytes(b"no image")
    elif why == "a lost image":
        image.unlink()
    assert examples.add(studio) == 0
    assert studio.store.samples.count(prompt_set="examples") == 0


def test_the_shipped_ones_are_small_of_the_shipped_models_and_not_picked_but_for_the_one_that_is_broken():
    index = json.loads((SHIPPED / "index.json").read_text())
    assert sum(path.stat().st_size for path in SHIPPED.iterdir()) < 400_000
    for name, digest in index["made_by"].items():
        folder = ROOT / "data/models" / {"backbone": "diffuser"}.get(name, name)
        assert checkpoint.digest(folder) == digest, f"make them again: the {name} changed"
    passed_over = index["checked"]["passed_over"]
    shown = [prompt for prompt in examples.PROMPTS if prompt not in passed_over][: examples.SHOWN]
    broken = (index["broken"]["prompt"], index["broken"]["seed"])
    fixed = set(itertools.product(shown, examples.SEEDS))
    assert {(s["prompt"], s["seed"]) for s in index["samples"]} == fixed | {broken}
    held = [s for s in index["samples"] if (s["prompt"], s["seed"]) == broken]
    scores = {s["method"]: {w["index"]: w["score"] for w in s["words"]} for s in held}
    assert any(score >= examples.HOLDS > scores["projected"][at] for at, score in scores["none"].items())


def test_the_detectors_share_of_the_shipped_ones_is_what_their_index_says():
    index = json.loads((SHIPPED / "index.json").read_text())
    sides = []
    for entry in index["samples"]:
        image = pictures.read(SHIPPED / entry["image"])
        held = opinion_of(entry["prompt"], image, entry.get("word_rules", 1)).units
        words = [word for word in entry["words"] if word["index"] in held]
        sides += [(word["score"] >= examples.HOLDS) == held[word["index"]] for word in words]
    assert (sum(sides), len(sides)) == (index["checked"]["right"], index["checked"]["digits"])
    assert sum(sides) >= examples.RIGHT * len(sides) and not index["checked"]["false_rises"]


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
        ([None], [8], [False], [False], 0),
        ([9, 9], [9, 9], [True, True], [True, False], 1),  # a higher mean where fewer words hold
        ([9, 9], [9, 9], [True, False], [True, False], 0),
    ],
)
def test_a_rise_is_false_where_the_detector_sees_none(judged, before, after, held, holds, false):
    pair = Pair(1, view("none", before), view("projected", after, total=6.0 if len(after) > 1 else 5.0))
    assert examples.false_rises(pair, judged(held, holds)) == false


def test_a_pair_is_broken_where_the_digits_and_the_detector_say_so(judged):
    pair = Pair(1, view("none", [9]), view("projected", [1]))
    found = [
        examples.breaks(pair, judged([a], [b])) for a, b in ((True, False), (True, True), (False, False))
    ]
    assert found == [True, False, False]


@pytest.fixture(scope="module")
def described_models(described, tmp_path_factory):
    new = tiny.studio_at(tmp_path_factory.mktemp("described") / "home", described)
    new.load()
    return new.models


@pytest.fixture(scope="module")
def make(described, described_models):
    """A function that makes two examples from settings, on models that are loaded already."""

    def begun(settings):
        studio = Studio(settings)
        studio.models.share(described_models)
        return studio

    return lambda settings, folder, **more: examples.make(settings, folder, begun, **{**TWO, **more})


@pytest.fixture(scope="module")
def made(make, described, tmp_path_factory):
    """Examples made by the tiny models: two prompts, seeds 1 and 2, and a search over one seed more."""
    folder = tmp_path_factory.mktemp("examples")
    settings = tiny.settings_at(folder / "home", described)
    make(settings, folder, search=3, force=True)  # random models are right by chance alone
    return folder


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


def view(method, scores, prompt=PROMPTS[0], total=5.0):
    words = [WordView(i, f"w{i}", "object", True, score=score) for i, score in enumerate(scores)]
    return SampleView(method, prompt, 1, method, 0.0, 2, 4.0, method, words, total)


def scorers_own(models):
    """A fake judge: it says of every image what the scorer says, for random models are right by chance alone and here it
    is the choice of prompts that is looked at."""

    def judge(prompt, image):
        said = models.scorer().score(image[None], [prompt])[0]
        return Opinion({word.word_index: word.score >= examples.HOLDS for word in said}, "")

    return judge


def test_examples_that_the_detector_finds_wrong_are_refused_and_nothing_is_written(
    make, described, described_models, tmp_path
):
    settings, out = tiny.settings_at(tmp_path / "home", described), tmp_path / "out"
    right = scorers_own(described_models)

    def wrong(prompt, image):  # a fake judge that contradicts every digit
        return Opinion({index: not held for index, held in right(prompt, image).units.items()}, "")

    with pytest.raises(ValueError, match="finds a ▲ or too many digits false") as refused:
        make(settings, out, search=0, judge=wrong)
    assert "--force" in str(refused.value) and not out.exists()
    index = make(settings, out, search=0, judge=wrong, force=True)
    assert index["checked"]["right"] == 0 and index["checked"]["digits"] > 0
    assert {entry["prompt"] for entry in index["samples"]} == set(PROMPTS)


def test_a_prompt_on_which_a_rise_is_false_is_passed_over_for_the_next_of_the_list(
    make, described, described_models, tmp_path, monkeypatch
):
    settings, out = tiny.settings_at(tmp_path / "home", described), tmp_path / "out"
    # stands for a projector of which one rise is false: which one it is, is chance with random models
    monkeypatch.setattr(examples, "false_rises", lambda pair, judge: pair.none.prompt == PROMPTS[0])
    given = {"prompts": (*PROMPTS, "a blue star"), "search": 0, "judge": scorers_own(described_models)}
    index = make(settings, out, **given)
    assert index["checked"]["passed_over"] == [PROMPTS[0]]
    assert index["checked"]["right"] == index["checked"]["digits"]
    assert index["samples"][0]["image"] == "1-seed1-none.png"
    assert {entry["prompt"] for entry in index["samples"]} == {"a green star", "a blue star"}
    found = examples.checked(dataclasses.replace(settings, examples=str(out)))
    assert found["passed_over"] == 1
    assert "Prompts passed over for a ▲ or more digits that are false: 1. " in first._checked(found)
    with pytest.raises(ValueError, match=r"On 1 of the 2 prompts the detector finds a ▲ .*, so 1 are left"):
        make(settings, tmp_path / "few", **{**given, "prompts": PROMPTS})
