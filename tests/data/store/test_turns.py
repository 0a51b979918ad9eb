"""Turns among processes: each comes to it, and one that holds it for ever, or no lock at all, stops nobody."""

import os
import time

import pytest

from data.store import Store, locks
from data.store.locks import turn
from tests.forked import forked


def test_one_process_at_a_time_has_the_turn(tmp_path):
    (ready, is_ready), (go_on, may_go_on) = os.pipe(), os.pipe()

    def hold():
        with turn(tmp_path / "turn", 60):
            os.write(is_ready, b"x")
            os.read(go_on, 1)
            time.sleep(0.2)

    child, began = forked(hold), time.monotonic()
    os.read(ready, 1)
    os.write(may_go_on, b"x")
    with turn(tmp_path / "turn", 60):
        assert time.monotonic() - began > 0.2
    child.join()


def test_who_holds_the_turn_for_ever_stops_nobody_for_longer_than_the_bound(tmp_path):
    """As a process that was suspended in the middle of a write; the turn is free again when it is gone."""
    ready, is_ready = os.pipe()

    def hold():
        with turn(tmp_path / "turn", 60):
            os.write(is_ready, b"x")
            time.sleep(60)

    child, done = forked(hold), []
    os.read(ready, 1)
    for _ in range(2):
        with turn(tmp_path / "turn", 0.1):
            done.append(True)
    child.kill()
    child.join()
    began = time.monotonic()
    with turn(tmp_path / "turn", 60):
        assert done == [True, True] and time.monotonic() - began < 10


@pytest.mark.parametrize("lack", ["no locks on this system", "none on this file system", "no file"])
def test_without_locks_the_store_is_written_all_the_same(quick_path, sample_row, monkeypatch, lack):
    store = Store(quick_path / "studio.db")
    if lack == "no file":
        (quick_path / "studio.db.turn").mkdir()
    elif lack == "no locks on this system":
        monkeypatch.setattr(locks, "fcntl", None)
    else:

        def none(*_):
            raise OSError(95, "Operation not supported")

        monkeypatch.setattr(locks.fcntl, "flock", none)
    (id,) = store.samples.add([sample_row()])
    assert store.samples.get(id)["seed"] == 1


def test_many_processes_that_write_at_once_lose_nothing(store, sample_row):
    (sample,) = store.samples.add([sample_row()])

    def write(who):
        for n in range(20):
            store.scores.set(sample, n % 7, n % 10, who)

    for child in [forked(write, f"person {n}") for n in range(6)]:
        child.join()
    assert [len(store.scores.history(f"person {n}", limit=100)) for n in range(6)] == [20] * 6
    store.restoring.check()
