"""core/scoring/scores.py: distributions over digits, their expected score, and targets made from truth."""

import numpy as np
import pytest

from core.scoring.scores import (
    check,
    check_digit,
    entropy,
    expected,
    from_digit,
    from_truth,
    make,
    words_to_score,
)


def test_one_digit_has_its_own_expected_score_and_no_entropy_and_a_uniform_distribution_all():
    for digit, value in ((0, 0.0), (9, 1.0), (3, 1 / 3)):
        score = make(2, from_digit(digit))
        assert (score.score, score.expected) == (digit, pytest.approx(value))
        assert score.entropy == pytest.approx(0, abs=1e-4)
    flat = np.full(10, 0.1)
    assert (expected(flat), entropy(flat)) == (pytest.approx(0.5), pytest.approx(1))


def test_the_target_of_a_truth_has_that_truth_as_its_expected_score():
    for truth in (0.0, 0.1, 0.5, 0.77, 1.0):
        target = from_truth(truth)
        assert (target.sum(), expected(target)) == (pytest.approx(1), pytest.approx(truth))
        assert (target > 0).sum() <= 2


def test_what_is_no_distribution_score_or_truth_is_refused_with_a_sentence():
    bad = np.full(9, 1 / 9), np.full(10, 0.2), np.r_[np.full(9, 0.1), np.nan], np.r_[1.1, -0.1, np.zeros(8)]
    cases = [(check, wrong, "A score distribution") for wrong in bad]
    cases += [(check_digit, w, "from 0 to 9") for w in (-1, 10, 3.5, True, "4", None, float("nan"))]
    cases += [(from_truth, [0.5, wrong], "lies in") for wrong in (-0.1, 1.1, float("nan"))]
    for refuse, wrong, says in cases:
        with pytest.raises(ValueError, match=says):
            refuse(wrong)


def test_a_scorer_is_asked_for_the_words_and_then_for_nothing_else():
    asked = words_to_score(2, ["a red circle", "of the"], 1)
    assert [[word.text for word in words] for words in asked] == [["red", "circle", "nothing else"], []]
