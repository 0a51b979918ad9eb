"""A disk that fills up, a kill in the middle of a migration, and what thirty stores leave open: nothing is lost or leaked."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from data.store import Store, StoreError
from data.store.schema import migrations
from tests.data.store.test_database import old_store

ROOT = Path(__file__).resolve().parents[2]
MIGRATE = """
import os, signal, sys
from data.store import Store
from data.store.schema import migrations
steps = int(sys.argv[2])
apply = migrations.apply
def killed(db, **named):
    left = [steps]
    def trace(sql):
        left[0] -= 1
        if not left[0]:
            os.kill(os.getpid(), signal.SIGKILL)
    db.conn.set_trace_callback(trace)
    return apply(db, **named)
migrations.apply = killed
Store(sys.argv[1])
"""


def test_a_database_that_may_not_grow_refuses_whole_writes_and_keeps_all_that_was_there(store, sample_row):
    """SQLite's own bound of pages gives the very error of a full disk, without a disk."""
    (sample,) = store.samples.add([sample_row()])
    store.scores.set(sample, 1, 3, "ann")
    with (
        pytest.raises(StoreError, match=r"The disk of studio\.db is full; nothing was changed"),
        store.database.writing() as db,
    ):
        (pages,) = db.execute("PRAGMA page_count").fetchone()
        db.execute(f"PRAGMA max_page_count = {pages}")
        for n in range(10_000):
            db.execute("INSERT INTO cursors VALUES (?, 1, 'now')", (f"{n} {'x' * 1000}",))
    store.restoring.check()
    with store.database.reading() as db:
        assert store.database.damage == "" and db.execute("SELECT count(*) FROM cursors").fetchone() == (0,)
    assert [event["score"] for event in store.scores.history("ann")] == [3]
    store.scores.set(sample, 1, 4, "ann")


@pytest.fixture
def small_disk(tmp_path):
    """A disk of one megabyte."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", folder], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip("nothing can be mounted here")
    yield folder
    subprocess.run(["umount", "-l", folder], check=True)


def test_on_a_full_disk_all_that_was_acknowledged_stays_and_writing_goes_on_once_there_is_room(
    small_disk, sample_row
):
    store, said = Store(small_disk / "studio.db"), []
    ballast = small_disk / "ballast"
    ballast.write_bytes(b"x" * 100_000)
    with pytest.raises(
        StoreError, match="is full; nothing was changed|failed to read or write; nothing was changed"
    ):
        for n in range(10_000):
            said += store.samples.add([sample_row(seed=n, prompt="a red circle " * 100)])
    assert said
    ballast.unlink()
    again = Store(small_disk / "studio.db")
    assert {row["id"] for row in again.samples.find(limit=10_000)} == set(said)
    again.restoring.check()
    again.samples.add([sample_row(seed=99_999)])
    again.database.close()


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="needs SIGKILL")
@pytest.mark.parametrize("statements", [1, 5, 20, 60])
def test_a_kill_in_the_middle_of_a_migration_leaves_the_old_schema_whole_and_the_next_start_migrates(
    quick_path, statements
):
    path = quick_path / "old.db"
    old_store(path)
    done = subprocess.run(
        [sys.executable, "-c", MIGRATE, path, str(statements)], cwd=ROOT, capture_output=True, check=False
    )
    assert done.returncode == -signal.SIGKILL, done.stderr
    store = Store(path)
    store.restoring.check()
    with store.database.reading() as db:
        assert not migrations.pending(db)
    assert store.runs.get("r")["kind"] == "projector"


@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="a system that does not list what is open")
@pytest.mark.parametrize(("what", "cycles"), [("store", 30), ("page", 10)])
def test_what_is_made_and_closed_again_leaves_no_file_and_no_thread(quick_path, what, cycles):
    done = subprocess.run(
        [sys.executable, "-m", "tests.reliability.leaks", quick_path, what, str(cycles)],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    first, last = json.loads(done.stdout.splitlines()[-1])
    assert first == last
