"""Turns among processes: each comes to it, and nobody is stopped for ever; and what a killed process leaves is taken away."""

import os
import time
from pathlib import Path

import pytest

from data.store import Store, locks, restore
from data.store.locks import OLD, sweep, turn, work_folder
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


# -- what a process that was killed leaves behind


@pytest.fixture
def restoring(store, quick_path, sample_row):
    """A process that is in the middle of a restore."""
    store.samples.add([sample_row()])
    path = store.database.vacuum_into(quick_path / "kept.db")
    here, is_here = os.pipe()

    def wait(*_):  # in place of the check: the copy is there
        os.write(is_here, b"x")
        time.sleep(600)

    def work():
        restore.check_rows = wait
        store.restoring.restore(path)

    process = forked(work)
    os.read(here, 1)
    yield process
    process.kill()
    process.join()


def left(folder):
    return sorted(p.name for p in folder.rglob("*") if p.name.startswith((".work", "copy.db")))


def test_a_restore_that_was_killed_is_swept_and_one_that_is_on_is_not(restoring, store, quick_path):
    there = left(quick_path)
    assert len(there) >= 2
    sweep(quick_path)
    assert left(quick_path) == there
    restoring.kill()
    restoring.join()
    assert left(quick_path) == there
    sweep(quick_path)
    assert left(quick_path) == [] and store.samples.count() == 1


def test_a_start_sweeps(restoring, quick_path, store):
    from studio.settings import Settings
    from studio.studio import Studio

    home = quick_path / "home"
    Store(home / "studio.db")
    for path in quick_path.glob(".work-*"):
        path.rename(home / path.name)
    restoring.kill()
    restoring.join()
    Studio(Settings(home=home))
    assert left(home) == []


@pytest.mark.parametrize(
    ("name", "ours"),
    [
        (".restore-0a1b2c3d.db", True),
        (".restore-0a1b2c3d.db-wal", True),
        ("restore-x1y2z3/studio.db", True),
        ("backup-x1y2z3/studio.db", True),
        ("backups/studio-1.db.0a1b2c3d.partial", True),
        ("images/0a/.0a1b.png.0a1b2c3d.tmp", True),
        ("runs/r1/.stages.json.0a1b2c3d.tmp", True),
        ("runs/r1/.reward.0a1b2c3d.tmp/model.safetensors", True),
        ("runs/r1/warmup-state/.state.pt.0a1b2c3d.tmp", True),
        ("runs/r1/reward/model.safetensors", False),
        ("images/0a/0a1b.png", False),
        ("backups/studio-1.db", False),
        ("studio.replaced-1.db", False),
        ("images/one.png", False),
        ("restore.txt", False),
    ],
)
def test_files_without_a_lock_go_when_they_are_ours_and_old(quick_path, name, ours):
    path = quick_path / name
    path.parent.mkdir(exist_ok=True, parents=True)
    path.write_bytes(b"x")
    sweep(quick_path)
    assert path.exists()
    then = time.time() - OLD - 60
    os.utime(path, (then, then))
    if path.parent != quick_path:
        os.utime(path.parent, (then, then))
    sweep(quick_path)
    assert path.exists() is not ours


def test_a_folder_that_was_swept_before_it_was_locked_is_made_again(quick_path, monkeypatch):
    """The sweep comes between the folder and its lock: no test can wait for that."""
    real, swept = Path.open, []

    def opened(path, *given):
        if path.name == "lock" and not swept:
            swept.append(path)
            path.parent.rmdir()
        return real(path, *given)

    monkeypatch.setattr(Path, "open", opened)
    with work_folder(quick_path) as folder:
        assert folder.is_dir() and folder != swept[0].parent
    assert not folder.exists()
