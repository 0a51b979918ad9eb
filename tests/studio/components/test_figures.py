"""The figures show what they were given, and are left out where there is nothing to show."""

from __future__ import annotations

import pytest

from studio.components import figures, notices


def interval(estimate, half=0.02):
    return {"estimate": estimate, "low": estimate - half, "high": estimate + half}


def heldout(**changes):
    part = {"words": interval(0.8), "strict": interval(0.5), "extra": interval(0.1)}
    better = {"words": interval(0.85), "strict": interval(0.6), "extra": interval(0.1)}
    change = {"words": interval(0.05), "strict": interval(0.1)}
    return {"of": "prompts and seeds", "base": "before", "none": part, "before": part, "after": better,
            "difference": change, **changes}  # fmt: skip


def test_curves_have_a_panel_a_stage_and_keep_the_losses():
    history = [{"stage": "reward", "step": i, "metrics": {"loss": 2.0 / i}} for i in range(1, 5)]
    history += [{"stage": "projector", "step": 1, "metrics": {"loss": 1.0}}]
    history += [{"stage": "held-out images", "step": 1, "metrics": {}}]
    figure = figures.curves(history)
    assert [trace.name for trace in figure.data] == ["reward", "running mean", "projector", "running mean"]
    assert list(figure.data[0].y) == [2.0 / i for i in range(1, 5)]


def test_there_is_no_figure_of_nothing():
    for history in ([], [{"stage": "x", "step": 1, "metrics": {"loss": float("nan")}}]):
        assert figures.curves(history) is None
    for result in ({}, {"after": {"words": {"estimate": float("nan"), "low": 0, "high": 1}}}):
        assert figures.heldout(result) is None and figures.change(result) is None
    assert figures.two_runs(["a", "b"], [heldout(), {}]) is None


def test_two_runs_stand_in_rows_of_their_figures_with_a_form_each():
    one, other = figures.two_runs(["a", "b"], [heldout(), heldout(after={"strict": interval(0.3)})]).data
    assert (one.name, other.name) == ("a", "b") and one.marker.symbol != other.marker.symbol
    assert list(one.x) == pytest.approx([60]) and list(other.x) == pytest.approx([30])


def test_the_held_out_figure_shows_estimates_in_percent_with_their_intervals():
    figure = figures.heldout(heldout())
    by_name = {trace.name: trace for trace in figure.data}
    assert set(by_name) == {"no projector", "before", "after"}
    assert list(by_name["after"].x) == pytest.approx([85, 60])
    assert list(by_name["after"].error_x.array) == pytest.approx([2, 2])
    (difference,) = figures.change(heldout()).data
    assert list(difference.text) == ["+5.0", "+10.0"]


@pytest.mark.parametrize(
    ("seconds", "said"),
    [(None, ""), (0, ""), (4.4, "about 4 s left"), (200, "about 3 min left"), (9000, "about 2.5 h left")],
)
def test_time_left_reads_as_people_say_it(seconds, said):
    assert notices.left(seconds) == said


def test_a_figure_without_bounds_is_a_dot_without_an_interval():
    """A calibrator's held-out result: the log-likelihood before and after has none, the difference has."""
    bare = {"words": {"estimate": -1.5, "low": None, "high": None}}
    result = {"of": "corrections", "base": "before", "before": bare, "after": bare,
              "difference": {"words": interval(0.1)}}  # fmt: skip
    before, after = figures.heldout(result).data
    assert list(before.x) == list(after.x) == [-1.5]  # nats, not percent
    assert list(after.error_x.array) == [0]
    (difference,) = figures.change(result).data
    assert list(difference.text) == ["+0.100"]
    assert figures.two_runs(["a", "b"], [result, result]) is not None
