"""What changed from one variant to another, on grids whose scores are written down here."""

from types import SimpleNamespace

import pytest

from studio.grids.grid import Cell, Variant, grid_change
from studio.images.views import SampleView, WordView

WORDS = ["a", "red", "circle"]  # the first one is not scored


def sample(id, digits, human=None):
    """A sample whose words have these digits, their expected scores too; human: corrections by place."""
    words, at = [WordView(0, "a", "function", False)], human or {}
    for i, digit in enumerate(digits, 1):
        words.append(
            WordView(i, WORDS[i], "object", True, vlm=digit, expected=None if digit is None else float(digit),
                     human=at.get(i), score=at.get(i, digit))
        )  # fmt: skip
    counted = [w.human if w.human is not None else w.expected for w in words if w.scored]
    counted = [value for value in counted if value is not None]
    return SampleView(id, "a red circle", 1, "none", 0.0, 20, 4.0, None, words,
                      sum(counted) / len(counted) if counted else None)  # fmt: skip


def view(*rows):
    """A grid with a row of samples a seed, seeds from 1; None where there is no image yet."""
    columns = len(rows[0])
    flat = [one for row in rows for one in row]
    cells = [Cell(i, i // columns + 1, i % columns, one) for i, one in enumerate(flat)]
    return SimpleNamespace(
        seeds=list(range(1, len(rows) + 1)), variants=[Variant(str(i)) for i in range(columns)], cells=cells
    )


def test_points_gain_and_words_are_those_of_the_pairs():
    found = grid_change(
        view([sample("a", [2, 4]), sample("b", [8, 4])], [sample("c", [6, 6]), sample("d", [6, 2])])
    )
    assert found["points"] == [
        {"seed": 1, "base": 3.0, "other": 6.0, "base_sample": "a", "other_sample": "b"},
        {"seed": 2, "base": 6.0, "other": 4.0, "base_sample": "c", "other_sample": "d"},
    ]
    assert (found["wins"], found["ties"], found["losses"]) == (1, 0, 1)
    assert found["gain"]["estimate"] == pytest.approx(0.5)
    assert found["gain"]["low"] == pytest.approx(-2) and found["gain"]["high"] == pytest.approx(3)
    assert found["won"]["estimate"] == 0.5
    red, circle = found["words"]
    assert (red["word"], red["index"], red["change"]) == ("red", 1, pytest.approx(3))
    assert (circle["word"], circle["change"]) == ("circle", pytest.approx(-2))
    assert red["low"] == pytest.approx(0) and red["high"] == pytest.approx(6)


def test_a_seed_is_broken_where_a_word_no_longer_holds_and_mended_where_one_does():
    found = grid_change(
        view(
            [sample("a", [5, 9]), sample("b", [4, 9])],
            [sample("c", [4, 9]), sample("d", [5, 9])],
            [sample("e", [9, 0]), sample("f", [0, 9])],
            [sample("g", [5, 5]), sample("h", [9, 9])],
            [sample("i", [9, 9]), sample("j", [9, 9], {1: 0})],  # a correction counts before the scorer
            [sample("k", [5.0, 5.0]), sample("l", [5.04, 5.05])],  # totals that look the same are a tie
        )
    )
    assert (found["broken"], found["mended"]) == ([1, 3, 5], [2, 3])
    assert (found["wins"], found["ties"], found["losses"]) == (2, 2, 2)
    assert found["points"][4]["other"] == 4.5


def test_the_share_of_wins_has_an_interval_even_where_every_seed_is_won():
    row = [sample("a", [2, 4]), sample("b", [8, 4])]
    won = grid_change(view(*[row] * 8))["won"]
    assert won["estimate"] == 1 and won["low"] == pytest.approx(0.676, abs=1e-3) and won["high"] == 1
    assert grid_change(view(row))["won"] == {"estimate": 1.0, "low": None, "high": None}


def test_what_is_not_there_or_not_scored_is_left_out():
    found = grid_change(
        view([sample("a", [5, 5]), None], [sample("b", [5, 5]), sample("c", [None, None])],
             [sample("d", [5, 5]), sample("e", [None, 7])])
    )  # fmt: skip
    assert [point["seed"] for point in found["points"]] == [3]
    assert [word["word"] for word in found["words"]] == ["circle"]
    assert found["gain"] == {"estimate": 2.0, "low": None, "high": None}
    found = grid_change(view([None, None]))
    assert found["points"] == found["words"] == found["broken"] == []
    assert found["gain"] == found["won"] == {"estimate": None, "low": None, "high": None}


@pytest.mark.parametrize(("base", "other"), [(0, 0), (0, 2), (-1, 1), ("x", 1), (0, None)])
def test_only_two_variants_of_the_grid_are_compared(base, other):
    with pytest.raises(ValueError, match="variant"):
        grid_change(view([sample("a", [5, 5]), sample("b", [5, 5])]), base, other)
