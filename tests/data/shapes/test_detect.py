"""The detector against what is known by construction, clean and soft and noisy."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from data.shapes.bodies import truths_of
from data.shapes.degrade import spoiled
from data.shapes.detect import accuracy, detect, judge
from data.shapes.render import PALETTE, Background, Placement, render, render_things
from data.shapes.scenes import WORLDS, parse
from data.shapes.truth import COLOURS, colour_truths, palette_lab

GROUND = Background((214.0, 212.0, 218.0), (8.0, 8.0, 6.0))
PAIR = parse("a red circle to the left of a blue square")


def picture(*things, size=128):
    """Things as (colour, shape, x, y[, radius]) on a plain background."""
    placed = [Placement(PALETTE[t[0]], t[1], t[2], t[3], t[4] if len(t) > 4 else 0.18) for t in things]
    return render_things(placed, GROUND, size)


def soft(image):
    noise = np.random.default_rng(0).normal(0, 5, image.shape)
    return np.clip(gaussian_filter(image.astype(float), (1, 1, 0)) + noise, 0, 255).astype(np.uint8)


@pytest.mark.parametrize("world", WORLDS)
@pytest.mark.parametrize("transform", [None, soft])
def test_at_least_98_per_cent_of_words_are_judged_rightly_on_fresh_renders(world, transform):
    report = accuracy(world, 40, seed=5, transform=transform)
    assert report["right"] >= 0.98 and report["strict"] >= 0.95
    assert report["extra"] <= 0.02
    if world == "small" and not transform:  # and the truth of wrong renders
        assert accuracy("small", 60, seed=2, wrong=True)["right"] >= 0.92


@pytest.mark.parametrize("size", [64, 128, 256])
def test_every_colour_and_shape_is_named_with_its_place(size):
    for i, colour in enumerate(COLOURS):
        shape = WORLDS["large"].shapes[i % 6]
        (found,) = detect(picture((colour, shape, 0.4, 0.6), size=size), "large")
        assert (found.colour, found.shape) == (colour, shape)
        assert (found.x, found.y) == pytest.approx((0.4, 0.6), abs=0.02)
        assert found.radius == pytest.approx(0.18, rel=0.08)


@pytest.mark.parametrize(
    ("things", "expected", "extra"),
    [
        ([("red", "circle", 0.25, 0.5), ("blue", "square", 0.75, 0.5)], [1, 1, 1, 1, 1], 0),
        ([("blue", "circle", 0.25, 0.5), ("red", "square", 0.75, 0.5)], [0, 1, 1, 0, 1], 0),
        ([("red", "circle", 0.75, 0.5), ("blue", "square", 0.25, 0.5)], [1, 1, 0, 1, 1], 0),
        ([("red", "circle", 0.5, 0.2), ("blue", "square", 0.5, 0.8)], [1, 1, 0, 1, 1], 0),
        ([("red", "circle", 0.25, 0.5)], [1, 1, 0, 0, 0], 0),
        ([("green", "star", 0.5, 0.5)], [0, 0, 0, 0, 0], 1),
        ([("red", "square", 0.25, 0.5), ("blue", "square", 0.75, 0.5)], [1, 0, 1, 1, 1], 0),
        ([("red", "circle", 0.25, 0.4), ("blue", "square", 0.75, 0.4), ("yellow", "star", 0.5, 0.8)], [1, 1, 1, 1, 1], 1),
        ([], [0, 0, 0, 0, 0], 0),
    ],
)  # fmt: skip
def test_each_word_is_judged_in_its_binding(things, expected, extra):
    verdict = judge(PAIR, picture(*things))
    assert [int(word >= 0.5) for word in verdict.words] == expected
    assert verdict.strict == all(expected) and verdict.extra == extra


def test_a_relation_is_one_half_on_the_diagonal_and_falls_with_the_angle():
    def left(angle):
        x, y = 0.28 * np.cos(np.radians(angle)), 0.28 * np.sin(np.radians(angle))
        image = picture(("red", "circle", 0.5 - x, 0.5 - y), ("blue", "square", 0.5 + x, 0.5 + y))
        return judge(PAIR, image).words[2]

    assert left(20) == 1.0 and left(70) == 0.0
    assert left(45) == pytest.approx(0.5, abs=0.05)
    assert left(38) > left(45) > left(52)


def test_counts_and_sizes_are_judged():
    scene = parse("two small red circles and a large blue star")
    small = [("red", "circle", 0.2, 0.2, 0.12), ("red", "circle", 0.2, 0.7, 0.12)]
    star = ("blue", "star", 0.65, 0.5, 0.2)
    assert judge(scene, picture(*small, star), "large").strict
    words = dict(
        zip([w.text for w in scene.words], judge(scene, picture(small[0], star), "large").words, strict=True)
    )
    assert words["two"] < 0.5 and words["star"] == 1.0
    big = [(*t[:4], 0.2) for t in small]
    assert judge(scene, picture(*big, star), "large").words[1] < 0.5


def test_a_two_coloured_body_is_one_object_and_a_colour_between_two_is_graded():
    scene = parse("a red circle")
    whole = [m for m in (spoiled(scene, seed, case="two-tone") for seed in range(20)) if len(m.bodies) == 1]
    assert len(whole) >= 6
    for made in whole:
        verdict, (truth, _) = judge(scene, made.image), truths_of(scene, made.bodies)
        assert verdict.words[1] > 0.5 and verdict.extra == 0
        assert verdict.words[0] == pytest.approx(truth[0], abs=0.3)
    red, orange = (palette_lab()[COLOURS.index(name)] for name in ("red", "orange"))
    assert colour_truths(red)[0] == 1.0
    assert colour_truths((red + orange) / 2)[:2] == pytest.approx([0.5, 0.5], abs=0.02)
    assert 0.5 < colour_truths(0.6 * red + 0.4 * orange)[0] < 1.0


def test_the_verdict_reads_nothing_but_the_pixels():
    image = render(PAIR, 1).image
    assert judge(PAIR, image) == judge(PAIR, image.copy())
    assert detect(np.full((128, 128, 3), 210, np.uint8)) == []
    touching = detect(picture(("red", "square", 0.35, 0.5), ("green", "circle", 0.62, 0.5)))
    assert {(d.colour, d.shape) for d in touching} == {("red", "square"), ("green", "circle")}
    for bad in (np.zeros((8, 8, 3), np.uint8), np.zeros((64, 64)), np.zeros((64, 64, 3))):
        with pytest.raises(ValueError, match="give uint8 RGB"):
            detect(bad)
