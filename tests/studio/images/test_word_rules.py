"""Images whose words were counted by earlier rules: their scores stay on their words, and reach the unit of today."""

from dataclasses import replace

import numpy as np
import pytest

from core.words import CURRENT, EXTRA, NEGATION, units
from studio.images.detecting import truth_of
from studio.training import datasets, replay
from studio.training.calibration import kind_of
from tests.tiny import STEPS

PROMPT = "a red circle to the left of a blue square"
FIRST = [word.text for word in units(PROMPT, 1)]


@pytest.fixture
def first(studio):
    """An image as it was stored when "left" was a word."""
    (id,) = studio.collecting.collect([PROMPT], 1, steps=STEPS)
    row = {name: value for name, value in studio.store.samples.get(id).items() if name != "seq"}
    assert (row["word_rules"], row["n_words"]) == (CURRENT, len(units(PROMPT)))
    earlier = {**row, "id": f"{id[:8]}-first", "n_words": len(FIRST), "word_rules": 1}
    return studio.store.samples.add([earlier])[0]


def test_a_score_of_a_word_trains_the_unit_that_it_is_part_of(studio, first):
    studio.scoring.score([first])
    for index in studio.store.scores.current(first):
        studio.annotation.correct(first, index, 1 if FIRST[index] == "left" else 8, "Ann")
    (sample,) = datasets.store_samples(studio, studio.store.labels.current(), 1.0).samples
    texts = {word.index: word.text for word in units(PROMPT)}
    assert {texts[i]: digit for i, (digit, _) in sample.labels.items()} == {
        "red": 8, "circle": 8, "to the left of": 1, "blue": 8, "square": 8, "nothing else": 8,
    }  # fmt: skip
    kept = replay.gather(studio, features=False)
    assert kept.rules == CURRENT and sorted(kept.word.tolist()) == sorted(sample.labels)
    meta = {
        name: value for name, value in kept.meta.items() if name != "word_rules"
    }  # as kept by earlier rules
    places = np.array([i for i, word in enumerate(units(PROMPT, 1)) if word.scored])
    (again,) = replace(kept, word=places, meta=meta).samples(np.array([0]))
    assert sorted(again.labels) == sorted(sample.labels)


def test_an_image_is_shown_scored_and_corrected_by_the_rules_it_was_stored_with(studio, first):
    assert studio.scoring.score([first]) == 1
    assert [word.text for word in studio.annotation.sample(first).words] == FIRST
    scored = studio.store.scores.current(first)
    assert {FIRST[i] for i in scored} == {"red", "circle", "left", "blue", "square", "nothing else"}
    assert all(said["word"] == FIRST[i] for i, said in scored.items())
    studio.annotation.correct(first, FIRST.index("left"), 3, "Ann")
    with pytest.raises(ValueError, match="carries no score"):
        studio.annotation.correct(first, FIRST.index("to"), 3, "Ann")


def test_a_kind_is_that_of_the_rules_of_the_image():
    row = {"prompt": "a watch with no numbers", "word": ""}
    for rules, kinds in (
        (1, ["function", "other", "function", "other", "other", EXTRA]),
        (2, ["function", "other", "function", NEGATION, EXTRA]),
    ):
        found = [kind_of({**row, "word_rules": rules, "word_index": i}) for i in range(len(kinds))]
        assert found == kinds


def test_the_detector_speaks_of_the_words_of_the_image(studio):
    image = np.full((128, 128, 3), 230, np.uint8)
    now, then = truth_of(PROMPT, image), truth_of(PROMPT, image, 1)
    assert {FIRST[i] for i in then.words} == {"red", "circle", "left", "blue", "square"}
    assert len(now.words) == len(then.words) and FIRST[then.place] == "nothing else"
