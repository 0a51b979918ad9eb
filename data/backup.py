"""Restore: put a backup (``DatabaseFile.vacuum_into``) in the place of the database, while others may have it open.

A file is never swapped under open connections: the write-ahead log of the one would be taken for the other's.
Instead the live file is locked for itself alone, copied beside itself, and overwritten page by page in one
transaction, as SQLite's online backup does. Whoever reads or writes meanwhile waits, and goes on in the restored one;
where anything fails, the old content stands.

The backup is checked before anything is touched: whole, ours, no newer than this code. An older one is migrated in a
copy; the file itself is only read.
"""

from __future__ import annotations

import shutil
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from data.database import BUSY_SECONDS, DatabaseFile, StoreError, new_id

COUNTED = ("samples", "scores", "runs", "remarks", "preferences")
ACTIVE = """SELECT id, kind || ' run' FROM runs WHERE state IN ('queued', 'running')
    UNION ALL SELECT id, 'grid' FROM grids WHERE state IN ('queued', 'running') LIMIT 1"""


class Backup(DatabaseFile):
    def check_backup(self, path: str | Path) -> dict[str, int]:
        """What a backup holds: {samples, scores, runs, remarks, preferences}; ValueError where it cannot be restored."""
        with _checked_copy(Path(path).expanduser().absolute(), self.path.parent) as copy:
            return _counts(copy)

    def interrupt(self) -> None:
        """What was on when this backup was made is on nowhere."""
        with self.writing() as db:
            for table, more in (("runs", ", pid = NULL"), ("grids", "")):
                db.execute(
                    f"UPDATE {table} SET state = 'interrupted', message = 'It was on when the backup was made.'{more} "
                    "WHERE state IN ('queued', 'running')"
                )

    def restore(self, path: str | Path) -> dict[str, Any]:
        """Put the backup in the place of this database; {samples, ..., before: what it held, replaced: the file beside
        it that the old content is in}. ValueError where the backup is none, or a run or a grid is on: nothing was changed."""
        source = Path(path).expanduser().absolute()
        if source.exists() and source.samefile(self.path):
            raise ValueError("This is the database itself; give a backup of it.")
        before = _counts(self)
        stamp = time.strftime("%Y%m%d-%H%M%S", time.gmtime())
        replaced = self.path.with_name(f"{self.path.stem}.replaced-{stamp}-{new_id()[:4]}.db")
        with _checked_copy(source, self.path.parent) as copy, self._alone() as live:
            busy = live.execute(ACTIVE).fetchone()
            if busy:
                raise ValueError(
                    f"A {busy[1]} ({busy[0]}) is on: wait for it or stop it, then restore. Nothing was changed."
                )
            live.execute("VACUUM INTO ?", (str(replaced),))
            with closing(sqlite3.connect(copy.path)) as backup:
                backup.backup(live)
        self.check()
        return {**_counts(self), "before": before, "replaced": replaced.name}

    @contextmanager
    def _alone(self) -> Iterator[sqlite3.Connection]:
        """A connection that has the file for itself: others wait until it is closed."""
        deadline = time.monotonic() + BUSY_SECONDS
        with self._wanting(), self._connected(once=True) as db:
            live = db.conn
            live.execute("PRAGMA locking_mode=EXCLUSIVE")
            while True:
                self._flag.touch()
                try:
                    live.execute("BEGIN IMMEDIATE")
                    break
                except sqlite3.OperationalError as error:
                    if (
                        "locked" not in str(error) and "busy" not in str(error)
                    ) or time.monotonic() > deadline:
                        raise
                    time.sleep(0.02)
            live.execute("COMMIT")  # the lock stays until the connection is closed
            yield live

    @contextmanager
    def _wanting(self) -> Iterator[None]:
        """Meanwhile no process keeps a connection that it does not use."""
        self._flag.touch()
        self.close()
        try:
            yield
        finally:
            self._flag.unlink(missing_ok=True)


@contextmanager
def _checked_copy(source: Path, folder: Path) -> Iterator[DatabaseFile]:
    """The backup as a database of this version, in a copy that goes afterwards; its runs and grids are on nowhere."""
    copy = folder / f".restore-{new_id()[:8]}.db"
    try:
        try:
            with source.open("rb") as file:
                if file.read(16) != b"SQLite format 3\x00":
                    raise ValueError(f"{source.name} is no database; give a file that `backup` wrote.")
            shutil.copyfile(source, copy)
        except OSError as error:
            raise ValueError(f"{source.name} cannot be read ({error.strerror}); check its name.") from None
        try:
            _check(copy)
            found = Backup(copy)
        except (StoreError, sqlite3.Error) as error:
            said = str(error).replace(copy.name, source.name)
            raise ValueError(f"{source.name} cannot be restored, and nothing was changed: {said}") from None
        found.interrupt()
        yield found
    finally:
        for ending in ("", "-wal", "-shm", "-journal"):
            copy.with_name(copy.name + ending).unlink(missing_ok=True)


def _check(path: Path) -> None:
    """StoreError where the file is damaged: its pages, its indexes, or rows that point at nothing."""
    with closing(sqlite3.connect(path)) as db:
        found = [r[0] for r in db.execute("PRAGMA integrity_check(1)")]
        if found != ["ok"]:
            raise StoreError(f"it is damaged ({str(found[0])[:150]}).")
        lost = db.execute("PRAGMA foreign_key_check").fetchone()
        if lost:
            raise StoreError(f"it is damaged (a row of {lost[0]} points at nothing).")


def _counts(database: DatabaseFile) -> dict[str, int]:
    with database.reading() as db:
        return {table: db.execute(f"SELECT count(*) FROM {table}").fetchone()[0] for table in COUNTED}
