"""studio/experiments/habits.py: whatever somebody's habit, what they leave in the store makes the calibrated scores no less right."""

import pytest

from studio.annotation.labelling import HABITS
from studio.experiments.evaluation import _habits
from studio.experiments.habits import ALONE, habits, table
from studio.experiments.watching import Watching

SETTINGS = {"images": 75, "right": 0.85, "graded": False, "repeats": 1, "seed": 0}


@pytest.fixture(scope="module")
def rows():
    return {row["habit"]: row for row in habits(SETTINGS)["rows"]}


@pytest.mark.parametrize("habit", HABITS)
def test_each_habit_ends_in_a_score_that_is_at_least_as_right_as_the_scorers(rows, habit):
    row = rows[habit]
    assert row["fitted"] and row["calibrator"] > 250
    assert row["calibrated"]["log_loss"] <= row["scorer"]["log_loss"]
    assert row["calibrated"]["mse"] <= row["scorer"]["mse"]


def test_wrong_words_alone_turn_the_scorer_round_which_is_why_none_is_fitted_on_them(rows):
    row = rows[ALONE]
    assert not row["fitted"] and row["trained"] < row["typed"] and row["confirmed"] == 0
    assert row["calibrated"]["mse"] > 0.5 > row["scorer"]["mse"]


@pytest.mark.parametrize("habit", HABITS)
def test_the_words_of_each_habit_are_in_the_store_the_export_and_the_training(rows, habit):
    row = rows[habit]
    words = row["typed"] + row["confirmed"]
    assert words == rows["every"]["typed"] == row["exported"] == row["trained"] == row["calibrator"]
    assert (row["confirmed"] == 0) == (habit == "every")


def test_the_table_has_a_line_for_each(rows):
    said = table({"rows": list(rows.values())})
    assert all(f"| {habit} |" in said for habit in (*HABITS, ALONE))


def test_it_says_how_far_it_is_and_stops_when_it_is_asked_to():
    from core.progress import Stopped

    lines = []
    with pytest.raises(Stopped):
        _habits({**SETTINGS, "images": 10, "repeats": 3}, Watching(lines.append, lambda: bool(lines)))
    assert len(lines) == 1
