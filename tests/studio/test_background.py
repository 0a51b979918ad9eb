"""A figure behind the page: worked out once for each state of things, and never in the way."""

import threading

import pytest

from studio import background
from studio.background import Background


@pytest.fixture
def quick(monkeypatch):
    monkeypatch.setattr(background, "LEAST", 0.0)
    monkeypatch.setattr(background, "BREATH", 0.0)


def test_a_figure_is_worked_out_once_until_something_has_changed(quick):
    made, state = [], [1]
    kept = Background(lambda: made.append(state[0]) or state[0], lambda: state[0])
    assert kept.look(5).value == 1
    assert (kept.look(5).value, kept.look(5).stale, made) == (1, False, [1])
    state[0] = 2
    assert (kept.look(5).value, made) == (2, [1, 2])


def test_a_look_returns_at_once_with_what_is_known(quick):
    free, state = threading.Event(), [1]

    def work():
        value = state[0]
        free.wait(10)
        return value

    kept = Background(work, lambda: state[0])
    look = kept.look()
    assert (look.value, look.at, look.busy, look.stale) == (None, None, True, True)
    free.set()
    assert kept.look(5).value == 1
    free.clear()
    state[0] = 2
    look = kept.look()
    assert (look.value, look.busy, look.stale) == (1, True, True)
    free.set()
    assert kept.look(5).value == 2


def test_a_problem_is_told_and_the_last_figure_stays(quick):
    state = [1]
    kept = Background(
        lambda: 6 // (2 - state[0]), lambda: state[0], lambda error: f"Told: {type(error).__name__}."
    )
    assert kept.look(5).value == 6
    state[0] = 2
    look = kept.look(5)
    assert (look.value, look.problem, look.busy) == (6, "Told: ZeroDivisionError.", False)
    state[0] = 3
    assert kept.look(5).problem == ""


def test_a_store_that_changes_all_the_time_leaves_the_page_room(monkeypatch):
    monkeypatch.setattr(background, "LEAST", 60.0)
    made, state = [], [0]
    kept = Background(lambda: made.append(1), lambda: state[0])
    for state[0] in range(1, 5):
        kept.look(5)
    assert len(made) == 1
    assert kept.look().stale


def test_who_can_wait_is_told_of_everything_that_there_is(monkeypatch):
    monkeypatch.setattr(background, "LEAST", 0.3)
    state = [1]
    kept = Background(lambda: state[0], lambda: state[0])
    assert kept.settled(5).value == 1
    state[0] = 2
    assert kept.look(0.1).value == 1  # it has just been worked out: not again yet
    look = kept.settled(5)
    assert (look.value, look.stale) == (2, False)
    state[0] = 3
    assert kept.settled(0.0).stale
