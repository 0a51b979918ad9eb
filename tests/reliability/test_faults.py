"""A disk that fills up, a kill in the middle of a migration, and what thirty stores leave open: nothing is lost or leaked."""

import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from data.store import Store, StoreError
from data.store.schema import migrations
from tests.data.store.test_database import FIRST_RUN
from tests.forked import die, killed

ROOT = Path(__file__).resolve().parents[2]


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


def migrated_and_killed(path, statements):
    """A start whose migration is killed at one of its statements."""
    apply, left = migrations.apply, [statements]

    def count(sql):
        left[0] -= 1
        if not left[0]:
            die()

    def traced(db, **bounds):
        db.conn.set_trace_callback(count)
        return apply(db, **bounds)

    migrations.apply = traced
    Store(path)


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="needs SIGKILL")
@pytest.mark.parametrize("statements", [1, 5, 20, 60])
def test_a_kill_in_the_middle_of_a_migration_leaves_the_old_schema_whole_and_the_next_start_migrates(
    older_store, statements
):
    path = older_store("m002_missing", runs=[FIRST_RUN])
    killed(migrated_and_killed, path, statements)
    store = Store(path)
    store.restoring.check()
    with store.database.reading() as db:
        assert not migrations.pending(db)
    assert store.runs.get("r")["kind"] == "projector"


@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="a system that does not list what is open")
@pytest.mark.parametrize(("what", "cycles"), [("store", 30), ("page", 4)])
def test_what_is_made_and_closed_again_leaves_no_file_and_no_thread(quick_path, what, cycles):
    done = subprocess.run(
        [sys.executable, "-m", "tests.reliability.leaks", quick_path, what, str(cycles)],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    first, last = json.loads(done.stdout.splitlines()[-1])
    assert first == last
