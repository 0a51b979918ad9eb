"""Wrong renders: their truth is known by construction, word by word, in its binding."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from data.shapes.bodies import clear, truths_of
from data.shapes.degrade import degraded, spoiled
from data.shapes.mistakes import CASES
from data.shapes.render import render
from data.shapes.scenes import WORLDS, parse, sample_scene

PAIR = parse("a red circle above a blue square")


def truths(case, seed=0, scene=PAIR, world="small"):
    return dict(zip([w.text for w in scene.words], degraded(scene, seed, 128, world, case)[1], strict=True))


@pytest.mark.parametrize("world", WORLDS)
def test_every_word_gets_a_truth_between_0_and_1_and_the_same_again(world):
    rng = np.random.default_rng(0)
    for seed in range(40):
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
        ("double", [set()], 1.0),
        ("missing", [{"red", "circle", "above"}, {"blue", "square", "above"}, {"red", "circle", "above", "blue", "square"}], 1.0),
    ],
)  # fmt: skip
def test_a_mistake_takes_its_own_words_to_0_and_leaves_the_others(case, low, others):
    for seed in range(12):
        truth = truths(case, seed)
        assert {word for word, t in truth.items() if t < 0.5} in low, truth
        assert all(t in (0.0, others) or t > 0.9 or word == "above" for word, t in truth.items())


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
    whole = {
        "cut": {"red", "blue", "above"},
        "melted": {"red", "blue", "above"},
        "two-tone": {"circle", "square", "above"},
    }
    assert rest <= whole.get(case, set())


def test_a_wrong_number_is_a_wrong_count():
    scene = parse("two red circles")
    assert truths("correct", 0, scene, "large")["two"] == 1
    assert any(truths("double", seed, scene, "large")["two"] < 0.5 for seed in range(8))
    assert any(truths("missing", seed, scene, "large")["two"] < 0.5 for seed in range(8))


def test_a_case_without_room_is_refused():
    with pytest.raises(ValueError, match="does not apply"):
        degraded(parse("a red circle"), 0, case="relation")
    with pytest.raises(ValueError, match="choose one of correct"):
        degraded(PAIR, 0, case="exploded")
    assert sum(weight for weight, _ in CASES.values()) > 1


def alone(case, seed=0, scene=PAIR, world="small"):
    return truths_of(scene, spoiled(scene, seed, 128, world, case).bodies)[1]


def test_nothing_else_is_lost_by_what_nobody_asked_for_and_by_nothing_else():
    for case in ("correct", "relation", "colour", "missing", "blended", "extra", "double"):
        found = [alone(case, seed) for seed in range(10)]
        assert found == pytest.approx([0.0 if case in ("extra", "double") else 1.0] * 10, abs=0.05)
    for case in ("ghost", "fragment"):  # what is faint or small is graded
        found = [alone(case, seed) for seed in range(40)]
        assert min(found) < 0.1 and max(found) > 0.9 and any(0.1 < truth < 0.9 for truth in found)


def test_truths_of_bodies_are_those_of_right_wrong_doubled_and_mirrored_ones():
    for seed in range(5):
        scene = sample_scene(np.random.default_rng(seed), "large")
        words, nothing_else = truths_of(scene, clear(render(scene, seed).placements))
        assert min(words) > 0.9 and nothing_else == 1
    words, nothing_else = truths_of(
        PAIR, clear(render(parse("a green star above a blue square"), 0).placements)
    )
    assert dict(zip([w.text for w in PAIR.words], words, strict=True))["circle"] == nothing_else == 0
    both = clear(render(PAIR, 1).placements)
    twin = replace(both[0], y=0.95)  # two that fit equally share what holds
    words, nothing_else = truths_of(PAIR, (*both, twin))
    assert (words[2], nothing_else) == (pytest.approx(0.5, abs=0.01), 0)
    scene, other = (parse(f"a red circle {side} of a blue square") for side in ("left", "right"))
    bodies = clear(render(scene, 3).placements)
    assert truths_of(other, [body.mirrored for body in bodies])[0] == truths_of(scene, bodies)[0]


def test_a_strip_between_two_bodies_of_one_colour_makes_one_body():
    scene = parse("a red circle above a red square")
    counts = [len(spoiled(scene, seed, case="bridge").bodies) for seed in range(20)]
    assert counts.count(1) >= 10
