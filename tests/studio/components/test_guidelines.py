"""The examples of the guidelines are what they say, by the shapes world's own rules of truth."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from data.shapes.detect import judge
from data.shapes.render import Background, render_things
from data.shapes.truth import COLOURS, colour_truths, lab, relation_truth, shape_truth
from studio.components import guidelines
from studio.images.detecting import alone
from studio.images.prompts import scene_of

LEVELS = {word: levels for _, word, _, levels in guidelines.EXAMPLES}


def ink(placement):
    """How much of each pixel is covered, (S, S)."""
    black = dataclasses.replace(placement, colour=(0, 0, 0))
    return 1 - render_things([black], Background((255.0, 255.0, 255.0)), 96)[..., 0] / 255


def test_each_kind_of_word_has_an_example_of_nine_six_three_and_nothing():
    assert set(LEVELS) == {"star", "red", "above", "three", "nothing else"}
    assert all([score for score, _, _ in levels] == [9, 6, 3, 0] for levels in LEVELS.values())


@pytest.mark.parametrize("score, drawn", [(score, drawn) for score, drawn, _ in LEVELS["red"]])
def test_colours_are_as_red_as_their_score(score, drawn):
    truths = colour_truths(lab(np.array(drawn[0].colour, np.uint8)))
    assert round(9 * truths[COLOURS.index("red")]) == score


@pytest.mark.parametrize("score, drawn", [(score, drawn) for score, drawn, _ in LEVELS["above"]])
def test_relations_hold_as_well_as_their_score(score, drawn):
    first, second = (np.array([p.x, p.y]) for p in drawn)
    assert round(9 * relation_truth(first, second, "above")) == score


@pytest.mark.parametrize("score, drawn", [(score, drawn) for score, drawn, _ in LEVELS["star"][:3]])
def test_stars_are_as_much_of_a_star_as_their_score(score, drawn):
    star, own = ink(LEVELS["star"][0][1][0]), ink(drawn[0])
    overlap = float(np.minimum(star, own).sum() / np.maximum(star, own).sum())
    assert round(9 * shape_truth(overlap)) == score


@pytest.mark.parametrize("score, drawn", [(score, drawn) for score, drawn, _ in LEVELS["nothing else"]])
def test_what_nobody_asked_for_counts_as_the_detector_counts_it(score, drawn):
    scene = scene_of("a red circle")
    assert round(9 * alone(scene, judge(scene, render_things(drawn, guidelines.PAPER, 96)))) == score


def test_the_page_holds_its_pictures_and_is_small():
    page = guidelines.page()
    assert page.count("data:image/png;base64,") == 20
    assert page.count("alt=") == 20
    assert len(page) < 40_000


def test_the_guidelines_say_what_a_denial_means():
    assert any("“no hat” is 9 where there is no hat" in rule for rule in guidelines.RULES)
    assert "no hat" in guidelines.page()
