"""The examples of the guidelines are what they say, by the shapes world's own rules of truth."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from data.shapes.detect import judge
from data.shapes.render import Background, render_things
from data.shapes.truth import COLOURS, colour_truths, lab, relation_truth, shape_truth
from studio.components import guidelines
from studio.images.detecting import nothing_else
from studio.images.prompts import scene_of

LEVELS = {word: levels for _, word, _, levels in guidelines.EXAMPLES}


def ink(placement):
    """How much of each pixel is covered, (S, S)."""
    black = dataclasses.replace(placement, colour=(0, 0, 0))
    return 1 - render_things([black], Background((255.0, 255.0, 255.0)), 96)[..., 0] / 255


def redness(drawn):
    return colour_truths(lab(np.array(drawn[0].colour, np.uint8)))[COLOURS.index("red")]


def above(drawn):
    return relation_truth(*(np.array([p.x, p.y]) for p in drawn), "above")


def star(drawn):
    whole, own = ink(LEVELS["star"][0][1][0]), ink(drawn[0])
    return shape_truth(float(np.minimum(whole, own).sum() / np.maximum(whole, own).sum()))


def circle_alone(drawn):
    scene = scene_of("a red circle")
    return nothing_else(scene, judge(scene, render_things(drawn, guidelines.PAPER, 96)))


TRUTHS = {"red": redness, "above": above, "star": star, "nothing else": circle_alone}


@pytest.mark.parametrize("word", TRUTHS)
def test_what_is_drawn_is_as_true_as_its_score(word):
    levels = LEVELS[word][:3] if word == "star" else LEVELS[word]
    assert [round(9 * TRUTHS[word](drawn)) for _, drawn, _ in levels] == [score for score, *_ in levels]


def test_each_kind_of_word_has_an_example_of_nine_six_three_and_nothing_on_a_small_page():
    assert set(LEVELS) == {*TRUTHS, "three"}
    assert all([score for score, _, _ in levels] == [9, 6, 3, 0] for levels in LEVELS.values())
    page = guidelines.page()
    assert page.count("data:image/png;base64,") == page.count("alt=") == 20 and len(page) < 40_000
    assert "“no hat” is 9 where there is no hat" in page
