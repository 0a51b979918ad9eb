"""Wrong renders: their truth is known by construction, word by word, in its binding."""

from __future__ import annotations

import numpy as np
import pytest

from data.shapes.degrade import degraded
from data.shapes.mistakes import CASES
from data.shapes.scenes import WORLDS, parse, sample_scene

PAIR = parse("a red circle above a blue square")


def truths(case, seed=0, scene=PAIR, world="small"):
    return dict(zip([w.text for w in scene.words], degraded(scene, seed, 64, world, case)[1], strict=True))


@pytest.mark.parametrize("world", WORLDS)
def test_every_word_gets_a_truth_between_0_and_1_and_the_same_again(world):
    rng = np.random.default_rng(0)
    for seed in range(60):
        scene = sample_scene(rng, world)
        image, truth = degraded(scene, seed, 64, world)
        assert image.shape == (64, 64, 3) and image.dtype == np.uint8
        assert len(truth) == len(scene.words) and all(0 <= t <= 1 for t in truth)
        again = degraded(scene, seed, 64, world)
        assert again[0].tobytes() == image.tobytes() and again[1] == truth


@pytest.mark.parametrize(
    ("case", "low", "others"),
    [
        ("correct", [set()], 1.0),
        ("colour", [{"red"}, {"blue"}], 1.0),
        ("shape", [{"circle"}, {"square"}], 1.0),
        ("swapped colours", [{"red", "blue"}], 1.0),
        ("relation", [{"above"}], 1.0),
        ("extra", [set()], 1.0),
        ("missing", [{"red", "circle", "above"}, {"blue", "square", "above"}, {"red", "circle", "above", "blue", "square"}], 1.0),
    ],
)  # fmt: skip
def test_a_mistake_takes_its_own_words_to_0_and_leaves_the_others(case, low, others):
    for seed in range(12):
        truth = truths(case, seed)
        assert {word for word, t in truth.items() if t < 0.5} in low, truth
        assert all(t in (0.0, others) or word == "above" and t > 0.9 for word, t in truth.items())


@pytest.mark.parametrize(
    ("case", "words"),
    [
        ("cut", {"circle", "square"}),
        ("melted", {"circle", "square"}),
        ("morphed", {"circle", "square"}),
        ("blended", {"red", "blue"}),
        ("two-tone", {"red", "blue"}),
        ("diagonal", {"above"}),
    ],
)
def test_half_measures_are_graded_and_touch_the_words_they_concern(case, words):
    drawn = [truths(case, seed) for seed in range(40)]
    graded = [t for truth in drawn for word, t in truth.items() if word in words]
    assert sum(0.05 < t < 0.95 for t in graded) >= 3
    rest = {word for truth in drawn for word, t in truth.items() if t < 0.5} - words
    assert rest <= ({"red", "blue", "above"} if case in ("cut", "melted") else set())


def test_a_wrong_number_is_a_wrong_count():
    scene = parse("two red circles")
    assert truths("correct", 0, scene, "large")["two"] == 1
    assert any(truths("extra", seed, scene, "large")["two"] < 0.5 for seed in range(8))
    assert any(truths("missing", seed, scene, "large")["two"] < 0.5 for seed in range(8))


def test_a_case_without_room_is_refused():
    with pytest.raises(ValueError, match="does not apply"):
        degraded(parse("a red circle"), 0, case="relation")
    with pytest.raises(ValueError, match="choose one of correct"):
        degraded(PAIR, 0, case="exploded")
    assert sum(weight for weight, _ in CASES.values()) > 1
