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


@pytest.mark.parametrize(("digit", "value"), [(0, 0.0), (9, 1.0), (3, 1 / 3)])
def test_one_digit_has_its_own_expected_score_and_no_entropy(digit, value):
    score = make(2, from_digit(digit))
    assert score.score == digit
    assert score.expected == pytest.approx(value)
    assert score.entropy == pytest.approx(0, abs=1e-4)


def test_a_uniform_distribution_has_an_entropy_of_1():
    flat = np.full(10, 0.1)
    assert expected(flat) == pytest.approx(0.5)
    assert entropy(flat) == pytest.approx(1)


@pytest.mark.parametrize("truth", [0.0, 0.1, 0.5, 0.77, 1.0])
def test_the_target_of_a_truth_has_that_truth_as_its_expected_score(truth):
    target = from_truth(truth)
    assert target.sum() == pytest.approx(1)
    assert expected(target) == pytest.approx(truth)
    assert (target > 0).sum() <= 2


@pytest.mark.parametrize(
    "wrong",
    [np.full(9, 1 / 9), np.full(10, 0.2), np.r_[np.full(9, 0.1), np.nan], np.r_[1.1, -0.1, np.zeros(8)]],
)
def test_an_invalid_distribution_is_refused_with_a_sentence(wrong):
    with pytest.raises(ValueError, match="A score distribution"):
        check(wrong)


@pytest.mark.parametrize("wrong", [-1, 10, 3.5, True, "4", None, float("nan")])
def test_an_invalid_score_is_refused_with_a_sentence(wrong):
    with pytest.raises(ValueError, match="from 0 to 9"):
        check_digit(wrong)


@pytest.mark.parametrize("wrong", [-0.1, 1.1, float("nan")])
def test_a_truth_out_of_range_is_refused(wrong):
    with pytest.raises(ValueError, match="lies in"):
        from_truth([0.5, wrong])


def test_a_scorer_is_asked_for_the_words_and_then_for_nothing_else():
    asked = words_to_score(2, ["a red circle", "of the"], 1)
    assert [[word.text for word in words] for words in asked] == [["red", "circle", "nothing else"], []]
