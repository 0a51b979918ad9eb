"""Renders hold true, are the same every time, and keep objects apart from each other and from the background."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from data.shapes.render import (
    AXES,
    GAP,
    LARGE,
    NEAR,
    PALETTE,
    SMALL,
    arrange,
    blank,
    draw_background,
    generator,
    render,
)
from data.shapes.scenes import WORLDS, parse, sample_scene
from data.shapes.truth import lab, palette_lab


def draw(world, n, seed=0):
    rng = np.random.default_rng(seed)
    return [(sample_scene(rng, world), i) for i in range(n)]


def test_the_same_scene_and_seed_give_the_same_bytes_and_another_seed_others():
    scene = parse("a red circle above a blue square")
    assert render(scene, 3).image.tobytes() == render(scene, 3).image.tobytes()
    assert render(scene, 3).image.tobytes() != render(scene, 4).image.tobytes()
    assert render(scene, 0, 64).image.shape == (64, 64, 3)
    assert render(scene, 0, 64).image.dtype == np.uint8


@pytest.mark.parametrize("world", WORLDS)
def test_objects_stand_apart_inside_the_image_and_the_relation_holds_clearly(world):
    for scene, seed in draw(world, 80):
        placements = render(scene, seed, 32).placements
        assert [p.thing for p in placements] == sorted(
            i for i, thing in enumerate(scene.things) for _ in range(thing.count)
        )
        for a, b in itertools.combinations(placements, 2):
            assert np.hypot(a.x - b.x, a.y - b.y) >= a.radius + b.radius + GAP - 1e-9
        for p in placements:
            assert p.radius < min(p.x, p.y, 1 - p.x, 1 - p.y)
            size = scene.things[p.thing].size  # drawn with a gap between small and large
            assert size != "small" or SMALL[0] <= p.radius <= SMALL[1]
            assert size != "large" or LARGE[0] <= p.radius <= LARGE[1]
        if scene.relation:
            axis, sign = AXES[scene.relation]
            groups = [np.array([(p.x, p.y) for p in placements if p.thing == i]).mean(0) for i in (0, 1)]
            step = groups[0] - groups[1]
            assert sign * step[axis] > abs(step[1 - axis])
        if scene.near:
            first, second = ([p for p in placements if p.thing == i] for i in (0, 1))
            gaps = [
                np.hypot(a.x - b.x, a.y - b.y) - a.radius - b.radius
                for a, b in itertools.product(first, second)
            ]
            assert min(gaps) <= NEAR


def test_colours_are_far_from_each_other_and_from_pale_backgrounds():
    palette = palette_lab()
    distances = np.linalg.norm(palette[:, None] - palette, axis=-1)
    assert distances[~np.eye(len(PALETTE), dtype=bool)].min() > 38
    for seed in range(40):
        ground = blank(draw_background(np.random.default_rng(seed)), 32)
        colours = lab(ground.clip(0, 255)).reshape(-1, 3)
        assert 68 <= colours[:, 0].min() / 0.7 and colours[:, 0].max() / 0.7 <= 98
        assert np.linalg.norm(colours[:, None] - palette, axis=-1).min() > 30


@pytest.mark.parametrize(
    ("call", "part"),
    [
        (lambda: render(parse("a red star"), 0, 8), "size 8"),
        (lambda: generator(parse("a red star"), -1), "seed -1"),
        (lambda: arrange([(0.4, 0.4)] * 2, np.random.default_rng(0)), "found no room"),
    ],
)
def test_what_cannot_be_drawn_is_refused_with_its_numbers(call, part):
    with pytest.raises(ValueError, match=part):
        call()
