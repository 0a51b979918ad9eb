"""Restore: put a backup (``DatabaseFile.vacuum_into``) in the place of the database, while others may have it open.

A file is never swapped under open connections: the write-ahead log of the one would be taken for the other's.
Instead the live file is locked for itself alone, copied beside itself, and overwritten page by page in one
transaction, as SQLite's online backup does. Whoever reads or writes meanwhile waits, and goes on in the restored one;
where anything fails, the old content stands.

The backup is a stranger's, and is checked before anything is touched: whole, no newer than this code, with the very
schema that this app makes at that level, and rows that an import would take (``data.store.row_checks``). An older one is
migrated in a copy; the file itself is only read.
"""

from __future__ import annotations

import contextlib
import shutil
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from sqlite_utils import Database

from data.store.database import BUSY_SECONDS, DatabaseFile, Records, StoreError, new_id, take_name
from data.store.row_checks import check_rows
from data.store.schema import migrations
from data.store.workfolder import work_folder

STEPS = 100_000  # of SQLite, between two looks whether a restore waits for the file
COUNTED = ("samples", "scores", "runs", "remarks", "preferences")
ACTIVE = """SELECT id, kind || ' run' FROM runs WHERE state IN ('queued', 'running')
    UNION ALL SELECT id, 'grid' FROM grids WHERE state IN ('queued', 'running') LIMIT 1"""


class Restoring(Records):
    def check_backup(self, path: str | Path) -> dict[str, int]:
        """What a backup holds: {samples, scores, runs, remarks, preferences}; ValueError where it cannot be restored."""
        with checked_copy(Path(path).expanduser().absolute(), self.database.path.parent) as copy:
            return _counts(copy)

    def check(self) -> None:
        """Read the whole file, every index, rule and reference; StoreError where it is damaged, which is only read until
        a check finds nothing. Makes way for a restore."""
        with self.database._connected(once=True) as db:
            db.execute("PRAGMA query_only = ON")
            db.conn.set_progress_handler(self.database._idle.wanted, STEPS)
            found = _damage(db.conn, ours=True)
        self.database.damage = self.database._damaged(found) if found else ""
        if found:
            raise StoreError(self.database.damage)

    @contextmanager
    def readable_copy(self) -> Iterator[Path]:
        """A copy of a damaged database, of those of its tables that can be read, with its indexes made anew. It is deleted
        afterwards."""
        with work_folder(self.database.path.parent) as work:
            path = work / self.database.path.name
            with self.database._connected(once=True) as db, closing(sqlite3.connect(path)) as copy:
                db.conn.backup(copy)
                tables = copy.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall()
                for (table,) in tables:
                    with contextlib.suppress(sqlite3.DatabaseError):
                        copy.execute(f'REINDEX "{table}"')
            yield path

    def interrupt(self) -> None:
        """What was on when this backup was made is on nowhere."""
        with self.database.writing() as db:
            for table, more in (("runs", ", pid = NULL"), ("grids", "")):
                db.execute(
                    f"UPDATE {table} SET state = 'interrupted', message = 'It was on when the backup was made.'{more} "
                    "WHERE state IN ('queued', 'running')"
                )
            db.execute("DELETE FROM imports WHERE done < total")

    def restore(self, path: str | Path) -> dict[str, Any]:
        """Put the backup in the place of this database; {samples, ..., before: what it held, replaced: the file beside
        it that the old content is in}. ValueError where the backup is none, or a run or a grid is on: nothing was changed."""
        source = Path(path).expanduser().absolute()
        if source.exists() and source.samefile(self.database.path):
            raise ValueError("This is the database itself; give a backup of it.")
        try:
            before = _counts(self.database)
        except StoreError:
            before = {}  # it is damaged, which is why it is replaced
        stamp = time.strftime("%Y%m%d-%H%M%S", time.gmtime())
        replaced = self.database.path.with_name(
            f"{self.database.path.stem}.replaced-{stamp}-{new_id()[:4]}.db"
        )
        with self.database.reading() as db:
            (size,) = db.execute("PRAGMA page_size").fetchone()
        with checked_copy(source, self.database.path.parent, size) as copy, self._alone() as live:
            busy = None
            with contextlib.suppress(sqlite3.DatabaseError):  # what cannot be read is on nowhere
                busy = live.execute(ACTIVE).fetchone()
            if busy:
                raise ValueError(
                    f"A {busy[1]} ({busy[0]}) is on: wait for it or stop it, then restore. Nothing was changed."
                )
            with work_folder(self.database.path.parent) as folder:
                # page by page, for a VACUUM would stop at a page that is damaged
                with closing(sqlite3.connect(folder / "old.db")) as old:
                    live.backup(old)
                take_name(folder / "old.db", replaced)
            with closing(sqlite3.connect(copy.path)) as backup:
                backup.backup(live)
        self.check()
        return {**_counts(self.database), "before": before, "replaced": replaced.name}

    @contextmanager
    def _alone(self) -> Iterator[sqlite3.Connection]:
        """A connection that has the file for itself: others wait until it is closed."""
        deadline = time.monotonic() + BUSY_SECONDS
        with self._wanting(), self.database._connected(once=True) as db:
            live = db.conn
            live.execute("PRAGMA locking_mode=EXCLUSIVE")
            while True:
                self.database._flag.touch()
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
        self.database._flag.touch()
        self.database.close()
        try:
            yield
        finally:
            self.database._flag.unlink(missing_ok=True)


@contextmanager
def checked_copy(source: Path, folder: Path, page_size: int = 4096) -> Iterator[DatabaseFile]:
    """The backup as a database of this version, in a copy that goes afterwards; its runs and grids are on nowhere.
    page_size: of the database that it is to replace, as pages are what is copied."""
    with work_folder(folder) as work:
        copy = work / "copy.db"
        try:
            with source.open("rb") as file:
                if file.read(16) != b"SQLite format 3\x00":
                    raise ValueError(
                        f"{source.name} is damaged or is no database; give a file that `backup` wrote."
                    )
            shutil.copyfile(source, copy)
        except OSError as error:
            raise ValueError(f"{source.name} cannot be read ({error.strerror}); check its name.") from None
        try:
            with closing(sqlite3.connect(copy)) as db:
                wrong = _damage(db)
            if wrong:
                raise ValueError(f"{wrong}; give a file that `backup` wrote.")
            found = DatabaseFile(copy)
            Restoring(found).interrupt()
            with found.reading() as db:
                check_rows(db)
            found.close()
            _set_page_size(copy, page_size)
        except (StoreError, ValueError, sqlite3.Error) as error:
            said = str(error).replace(copy.name, source.name)
            raise ValueError(f"{source.name} cannot be restored, and nothing was changed: {said}") from None
        try:
            yield found
        finally:
            found.close()


def _damage(db: sqlite3.Connection, ours: bool = False) -> str:
    """What is wrong with a database, or '': its pages, its indexes, rows that break a rule of their table or point at
    nothing, a schema that is another one than this app's (what could run in it, or be missing from it). ours: of the store
    itself, to which its owner may have added tables and indexes. Not for a connection that was opened read-only, which
    knows of no CHECK."""
    if db.execute("PRAGMA encoding").fetchone() != ("UTF-8",):
        return "its texts are not UTF-8, as this app's are"
    schema = _schema(db)
    if not schema:
        return "there is nothing in it"
    applied = {m.name for m in migrations.applied(Database(db))} if "_sqlite_migrations" in schema else set()
    other = _difference(schema, applied, more=ours)
    if other:
        return f"its schema is not this app's ({other})"
    lost = db.execute("PRAGMA foreign_key_check").fetchone()
    if lost:
        return f"a row of {lost[0]} points at nothing"
    (found,) = db.execute("PRAGMA integrity_check(1)").fetchone()
    return "" if found == "ok" else found.splitlines()[-1]


def _schema(db: sqlite3.Connection) -> dict[str, tuple[str, str, str]]:
    """name -> (type, table, SQL with single spaces) of all that is in a database, but for what ANALYZE keeps."""
    found = db.execute("SELECT name, type, tbl_name, coalesce(sql, '') FROM sqlite_master")
    return {
        name: (kind, table, " ".join(sql.split()))
        for name, kind, table, sql in found
        if not name.startswith("sqlite_stat")
    }


def _difference(found: dict[str, tuple[str, str, str]], applied: set[str], more: bool = False) -> str:
    """The first thing in which a schema differs from the one that these migrations make; '' for none. more: what is there
    besides is no difference. One that newer migrations made is not ours to judge: opening it says so."""
    with closing(sqlite3.connect(":memory:")) as memory:
        fresh = Database(memory)
        names = [m.name for m in migrations.pending(fresh)]
        if applied - set(names) or not applied:
            return ""
        level = len(applied)
        if applied != set(names[:level]):
            return "its migrations have a gap"
        migrations.apply(fresh, stop_before=names[level:])
        wanted = _schema(memory)
    for name in sorted(wanted if more else {*found, *wanted}):
        if found.get(name) != wanted.get(name):
            kind, table, _ = found.get(name) or wanted[name]
            how = (
                "another" if name in found and name in wanted else "an additional" if name in found else "no"
            )
            return f"{how} {kind} {name[:64]}" + (f" of {table[:64]}" if table != name else "")
    return ""


def _set_page_size(path: Path, size: int) -> None:
    with closing(sqlite3.connect(path)) as db:
        if db.execute("PRAGMA page_size").fetchone() != (size,):
            db.execute("PRAGMA journal_mode = DELETE")  # in WAL a page keeps its size
            db.execute(f"PRAGMA page_size = {size}")
            db.execute("VACUUM")


def _counts(database: DatabaseFile) -> dict[str, int]:
    with database.reading() as db:
        return {table: db.execute(f"SELECT count(*) FROM {table}").fetchone()[0] for table in COUNTED}
