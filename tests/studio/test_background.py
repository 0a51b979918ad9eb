"""A figure behind the page: worked out once for each state of things, and never in the way."""

import threading

from studio import background
from studio.background import Background


def test_a_look_returns_at_once_with_what_is_known_and_it_is_worked_out_once_a_state(monkeypatch):
    monkeypatch.setattr(background, "LEAST", 0.0)
    monkeypatch.setattr(background, "BREATH", 0.0)
    free, state, made = threading.Event(), [1], []

    def work():
        made.append(state[0])
        free.wait(10)
        return 6 // (3 - made[-1])

    kept = Background(work, lambda: state[0], lambda error: f"Told: {type(error).__name__}.")
    look = kept.look()
    assert (look.value, look.at, look.busy, look.stale) == (None, None, True, True)
    free.set()
    assert (kept.look(5).value, kept.look(5).stale, made) == (3, False, [1])
    free.clear()
    state[0] = 2
    look = kept.look()
    assert (look.value, look.busy, look.stale) == (3, True, True)
    free.set()
    assert (kept.look(5).value, made) == (6, [1, 2])
    state[0] = 3
    look = kept.look(5)  # a problem is told, and the last figure stays
    assert (look.value, look.problem, look.busy) == (6, "Told: ZeroDivisionError.", False)
    state[0] = 4
    assert kept.look(5).problem == ""


def test_a_store_that_changes_all_the_time_leaves_the_page_room(monkeypatch):
    monkeypatch.setattr(background, "LEAST", 60.0)
    made, state = [], [0]
    kept = Background(lambda: made.append(1), lambda: state[0])
    for state[0] in range(1, 5):
        kept.look(5)
    assert len(made) == 1 and kept.look().stale


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
