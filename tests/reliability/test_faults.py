"""A disk that fills up, a kill in the middle of a migration, and what many stores leave open: nothing is lost or leaked."""

import os
import subprocess
import threading
from pathlib import Path

import pytest

from data.store import Store, StoreError
from data.store.schema import migrations
from tests.data.store.test_database import FIRST_RUN
from tests.forked import die, killed


@pytest.fixture
def small_disk(tmp_path):
    """A disk of one megabyte."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", folder]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("nothing can be mounted here")
    yield folder
    subprocess.run(["umount", "-l", folder], check=True)


def test_on_a_full_disk_all_that_was_acknowledged_stays_and_writing_goes_on_once_there_is_room(
    small_disk, sample_row
):
    store, acknowledged = Store(small_disk / "studio.db"), []
    ballast = small_disk / "ballast"
    ballast.write_bytes(b"x" * 100_000)
    full = "is full; nothing was changed|failed to read or write; nothing was changed"
    with pytest.raises(StoreError, match=full):
        for n in range(10_000):
            acknowledged += store.samples.add([sample_row(seed=n, prompt="a red circle " * 100)])
    ballast.unlink()
    again = Store(small_disk / "studio.db")
    assert acknowledged and {row["id"] for row in again.samples.find(limit=10_000)} == set(acknowledged)
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
def test_stores_that_are_closed_leave_no_file_and_no_thread(quick_path):
    threads = set(threading.enumerate())
    for n in range(3):
        store = Store(quick_path / f"{n}.db")
        store.runs.new("reward", {})
        store.restoring.check()
        store.database.close()
    opened = {os.path.realpath(f"/proc/self/fd/{number}") for number in os.listdir("/proc/self/fd")}
    assert [path for path in opened if path.startswith(str(quick_path))] == []
    for thread in set(threading.enumerate()) - threads:  # those that close what nobody uses any more
        thread.join(10)
        assert not thread.is_alive()
