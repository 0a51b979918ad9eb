"""The one way to the database file: open, migrate, read, write (DESIGN section 5).

One connection an operation: nothing is shared between threads at a time, and nothing is used on in a forked
worker. To open one costs fifty times what a question costs, so a few that are done are kept for the next operation.
(``data.store.connections``). A write takes its lock at the start (``BEGIN IMMEDIATE``): sqlite-utils' own ``atomic()`` begins
deferred, and a transaction that reads and then writes fails with "database is locked" under load. WAL and
``synchronous=FULL``: what was acknowledged is on the disk.

A file that cannot be read is never overwritten or deleted: it may be repaired, and it may be someone's work.
"""

from __future__ import annotations

import os
import sqlite3
import threading
import time
import uuid
import weakref
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from sqlite_utils import Database

from data.store.connections import Idle, identity
from data.store.schema import migrations
from data.store.turns import turn
from data.store.workfolder import work_folder

BUSY_SECONDS = 30.0
# of what SQLite and Python's module say: nothing that this app does is answered so, but a file that is not as this version of
# it wrote it
DAMAGE = ("malformed", "not a database", "no such table", "no such column", "Could not decode to UTF-8")
BACKUPS = "backups"  # the folder beside the database that the page's backups are in


class StoreError(Exception):
    """The store cannot do this; the message is a sentence for the user that says what to do."""


def now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def new_id() -> str:
    return uuid.uuid4().hex


def rows(db: Database, sql: str, values: Any = ()) -> list[dict[str, Any]]:
    """All rows of a SELECT as dicts (``Database.query`` would wrap each in a savepoint)."""
    cursor = db.execute(sql, values)
    keys = [column[0] for column in cursor.description]
    return [dict(zip(keys, row)) for row in cursor]


def row(db: Database, sql: str, values: Any = ()) -> dict[str, Any] | None:
    found = rows(db, sql, values)
    return found[0] if found else None


def insert(db: Database, table: str, record: dict[str, Any]) -> None:
    """One row, inside the transaction that is open (sqlite-utils' insert reads the row back as well)."""
    columns, marks = ", ".join(record), ", ".join("?" * len(record))
    db.execute(f"INSERT INTO {table} ({columns}) VALUES ({marks})", tuple(record.values()))


@contextmanager
def _savepoint(db: Database) -> Iterator[None]:
    """A part of the transaction that is open, which is undone alone where it fails."""
    db.conn.execute("SAVEPOINT part")
    try:
        yield
    except BaseException:
        if db.conn.in_transaction:  # a full disk ends the whole of it
            db.conn.execute("ROLLBACK TO part")
            db.conn.execute("RELEASE part")
        raise
    db.conn.execute("RELEASE part")


def take_name(file: Path, name: Path) -> None:
    """Give a file that is whole its name; FileExistsError where another one has it."""
    try:
        os.link(file, name)  # unlike rename: fails where the name is taken
    except FileExistsError:
        raise
    except OSError:  # a file system without hard links
        if name.exists():
            raise FileExistsError(name.name) from None
        os.rename(file, name)


class DatabaseFile:
    """A SQLite file with the project's schema: opened, created or migrated; many threads and processes may have one each."""

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path).expanduser().absolute()
        # the flag is there while a restore waits for the file
        self._flag = self.path.with_name(f"{self.path.name}.wanted")
        self._idle = Idle(self._flag)
        self._open = threading.local()  # .db: the connection of this thread's ``writing()``
        self.damage = ""  # the sentence about damage that was met: what is damaged is only read from then on
        weakref.finalize(self, self._idle.close)
        self._prepare()

    # -- operations

    def close(self) -> None:
        """Close the connections that wait; the next operation opens one again."""
        self._idle.close()

    @contextmanager
    def reading(self) -> Iterator[Database]:
        """A connection whose SELECTs all see one state of the database; within ``writing()`` of this thread, what that has
        written so far."""
        if outer := getattr(self._open, "db", None):
            with self._explained():
                yield outer
        else:
            with self._operation("BEGIN") as db:
                yield db

    @contextmanager
    def writing(self) -> Iterator[Database]:
        """A connection that holds the write lock; commits at the end, rolls back on any exception.

        Within another one of this thread it is a part of that: it commits with the outer one, and where it fails, it alone
        is rolled back. So several operations of the store make one transaction, with all that they read."""
        if outer := getattr(self._open, "db", None):
            with self._explained(), _savepoint(outer):
                yield outer
        else:
            with self._turn(), self._operation("BEGIN IMMEDIATE") as db:
                self._open.db = db
                try:
                    yield db
                finally:
                    self._open.db = None

    @contextmanager
    def preparing(self) -> Iterator[tuple[Database, Callable[[], None]]]:
        """A connection of its own that reads one state of the database and may keep TEMP tables, which go with it; and what
        lets it read the newest state: the log beside the database only grows for as long as somebody reads an older one."""

        def renew() -> None:
            db.conn.execute("COMMIT")
            self._begin(db, "BEGIN")

        with self._connected(once=True) as db:
            self._begin(db, "BEGIN")
            yield db, renew

    @contextmanager
    def writing_beside(self, path: Path) -> Iterator[Database]:
        """As ``writing``, with the tables of another database to read, in the schema ``beside``."""
        with self._connected() as db:
            db.conn.execute("ATTACH ? AS beside", (f"{path.as_uri()}?mode=ro",))
            with self._turn(), self._transaction(db, "BEGIN IMMEDIATE"):
                yield db
            db.conn.execute("DETACH beside")

    @contextmanager
    def _turn(self) -> Iterator[None]:
        """Threads of one process take turns, and so do processes (``data.store.turns``)."""
        self.refuse_damaged()
        threads, until = self._idle.turn(), time.monotonic() + BUSY_SECONDS
        waited = threads.acquire(timeout=BUSY_SECONDS)
        try:
            left = max(0.0, until - time.monotonic())
            with turn(self.path.with_name(f"{self.path.name}.turn"), left):
                yield  # whoever waited in vain asks SQLite, which says so
        finally:
            if waited:
                threads.release()

    def refuse_damaged(self) -> None:
        """StoreError where damage was met: the store is only read then."""
        if self.damage:
            raise StoreError(self.damage)

    def vacuum_into(self, path: str | Path) -> Path:
        """A compact copy of the database as it is now, safe while others write. Never overwrites."""
        target = Path(path).expanduser().absolute()
        if target.exists():
            raise ValueError(f"{target.name} exists already; give the backup another name.")
        target.parent.mkdir(parents=True, exist_ok=True)
        partial = target.with_name(f"{target.name}.{new_id()[:8]}.partial")
        try:
            with self._connected() as db:
                db.conn.execute("VACUUM INTO ?", (str(partial),))
            with open(partial, "rb+") as file:
                os.fsync(file.fileno())
            take_name(partial, target)
        except FileExistsError:
            raise ValueError(f"{target.name} exists already; give the backup another name.") from None
        finally:
            partial.unlink(missing_ok=True)
        return target

    # -- opening

    def _prepare(self) -> None:
        """Create or migrate; several processes may do so at once."""
        if self.path.is_dir():
            raise StoreError(f"{self.path.name} is a folder; give the name of a database file.")
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise StoreError(f"The folder of {self.path.name} cannot be made: {error.strerror}.") from None
        if not self.path.exists():
            self._create()
        if not self.path.stat().st_size:
            # SQLite would delete the log beside it, with all that is only in there
            raise StoreError(self._emptied())
        with self._connected(once=True, mode="ro") as db:
            pending = self._pending(db)  # before anything is written to what may not be ours
        with self._connected(once=True) as db:
            self._use_wal(db)
        if pending:
            with self._operation("BEGIN IMMEDIATE") as db:
                if self._pending(db):  # another process may have been first
                    migrations.apply(db)

    def _create(self) -> None:
        """A new database takes its name when it is whole, so that one of this name without our schema is never new.
        Several processes may do so at once: the first one's stays."""
        if self._beside() and not self.path.exists():  # nobody else was first
            raise StoreError(self._emptied())
        try:
            with work_folder(self.path.parent) as folder:
                fresh = folder / self.path.name
                with closing(sqlite3.connect(fresh)) as connection:
                    connection.execute("PRAGMA journal_mode = WAL")
                    db = Database(connection, execute_plugins=False)
                    migrations.apply(db)
                    with connection:
                        insert(db, "store", {"id": new_id(), "created": now()})
                take_name(fresh, self.path)
        except FileExistsError:
            pass
        except OSError as error:
            raise StoreError(
                f"The folder of {self.path.name} cannot be written to: {error.strerror}."
            ) from None
        except sqlite3.Error as error:
            raise StoreError(self._explain(error)) from error

    def _beside(self) -> list[str]:
        """The logs beside the database that hold something: changes that are not in it yet."""
        found = [self.path.with_name(self.path.name + ending) for ending in ("-wal", "-journal")]
        return [path.name for path in found if path.exists() and path.stat().st_size]

    def _pending(self, db: Database) -> bool:
        """Whether migrations are due. Refuses what is not ours or comes from newer code."""
        applied = {m.name for m in migrations.applied(db)}
        known = {m.name for m in migrations.pending(Database(memory=True))}
        newer = sorted(applied - known)
        if newer:
            raise StoreError(
                f"{self.path.name} was written by a newer version of this app ({', '.join(newer)}). "
                "Update the app, or use another database; this one was left as it is."
            )
        if not applied:
            if not db.table_names():
                raise StoreError(self._emptied())
            raise StoreError(
                f"{self.path.name} is the database of another program. "
                "Give this app a file of its own; this one was left as it is."
            )
        return bool(known - applied)

    def _use_wal(self, db: Database) -> None:
        """Changing the journal mode does not wait for other connections by itself: try again."""
        deadline = time.monotonic() + BUSY_SECONDS
        while db.conn.execute("PRAGMA journal_mode").fetchone()[0] != "wal":
            try:
                db.conn.execute("PRAGMA journal_mode=WAL")
            except sqlite3.OperationalError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.02)

    @contextmanager
    def _operation(self, begin: str) -> Iterator[Database]:
        with self._connected() as db, self._transaction(db, begin):
            yield db

    @contextmanager
    def _transaction(self, db: Database, begin: str) -> Iterator[None]:
        self._begin(db, begin)
        try:
            yield
            db.conn.execute("COMMIT")
        except BaseException:
            if db.conn.in_transaction:
                db.conn.execute("ROLLBACK")
            raise

    def _begin(self, db: Database, begin: str) -> None:
        """Begin, and start the snapshot. SQLite may answer "busy" at once where another connection is
        cleaning up the WAL; nothing has been done yet, so trying again is safe."""
        deadline = time.monotonic() + BUSY_SECONDS
        while True:
            try:
                db.conn.execute(begin)
                db.conn.execute("SELECT 1 FROM sqlite_master LIMIT 1").fetchone()
                return
            except sqlite3.OperationalError as error:
                if db.conn.in_transaction:
                    db.conn.execute("ROLLBACK")
                busy = "locked" in str(error) or "busy" in str(error)
                if not busy or time.monotonic() > deadline:
                    raise
                time.sleep(0.01)

    @contextmanager
    def _connected(self, once: bool = False, mode: str = "rw") -> Iterator[Database]:
        """A configured connection, used ``once`` or kept for others; whatever SQLite says becomes a StoreError with a
        sentence."""
        db, file = None, identity(self.path)
        try:
            with self._explained():
                db = None if once else self._idle.take(file)
                if db is None:
                    uri = f"{self.path.as_uri()}?mode={mode}"
                    connection = sqlite3.connect(uri, uri=True, timeout=BUSY_SECONDS, check_same_thread=False)
                    db = Database(connection, execute_plugins=False)
                    for pragma in ("foreign_keys=ON", "synchronous=FULL"):
                        connection.execute(f"PRAGMA {pragma}")
                yield db
                if not once:  # nothing went wrong with it
                    self._idle.keep(db, file)
                    db = None
        finally:
            if db is not None:
                db.conn.close()

    @contextmanager
    def _explained(self) -> Iterator[None]:
        """What SQLite says, as a sentence."""
        try:
            yield
        except sqlite3.Error as error:
            said = self._explain(error)
            if any(sign in str(error) for sign in DAMAGE):
                self.damage = said
            raise StoreError(said) from error
        except OverflowError as error:
            raise ValueError(
                "A number is too large for the store: give one from -2^63 to 2^63 - 1; nothing was changed."
            ) from error
        except UnicodeEncodeError as error:
            raise ValueError(
                f"A text holds a character that is no text ({error.object[error.start :][:1]!a}): remove it; nothing was "
                "changed."
            ) from error

    # -- sentences

    def _explain(self, error: sqlite3.Error) -> str:
        said = str(error)
        name = self.path.name
        if any(sign in said for sign in DAMAGE):
            return self._damaged(said)
        if "unable to open" in said:
            if not self.path.exists():
                return f"The database {name} is gone. Put it back, or restore a backup copy, and start again."
            return f"The database {name} cannot be opened. Check that this user may read and write it."
        if "readonly" in said:
            return f"The database {name} is read-only. Check that this user may write it and its folder."
        if "full" in said:
            return f"The disk of {name} is full; nothing was changed. Free some space and try again."
        if "disk I/O" in said:
            return f"The disk under {name} failed to read or write; nothing was changed. Check the disk."
        if "locked" in said or "busy" in said:
            return f"The database {name} stayed in use by others; nothing was changed. Try again."
        return f"The database {name} refused this, and nothing was changed: {said}."

    def _emptied(self) -> str:
        """Of a database without our schema, or a log without its database."""
        name, logs = self.path.name, self._beside()
        files = " and ".join([*([name] if self.path.exists() else []), *logs])
        what = f"{name} holds nothing" if self.path.exists() else f"{name} is gone"
        log = f", and {' and '.join(logs)} beside it may hold what was in it" if logs else ""
        kept = self._copies()
        copy = f"copy a backup there ({kept})" if kept else "put a backup there if you have one"
        return (
            f"The database {name} was emptied or lost by accident, it seems: {what}{log}. Nothing was written. Move {files} "
            f"away, and keep what you moved; then {copy}, or start with an empty one."
        )

    def _copies(self) -> str:
        """The names of the newest copies beside the database, for a sentence."""
        folder = self.path.parent
        copies = [*folder.glob(f"{BACKUPS}/*.db"), *folder.glob(f"{self.path.stem}.replaced-*.db")]
        newest = sorted(copies, key=lambda path: path.stat().st_mtime, reverse=True)[:3]
        return ", ".join(path.relative_to(folder).as_posix() for path in newest)

    def _damaged(self, said: str) -> str:
        kept = self._copies()
        return (
            f"The database {self.path.name} is damaged or is no database ({said[:200]}), so nothing is written to it. Export "
            f"what can still be read, then restore a backup copy{f' ({kept})' if kept else ''}; where it does not open any "
            "more, put the copy in its place, or move it away to start with an empty one."
        )


class Records:
    """What the store keeps of one subject: its rows in the database, read and written in its terms."""

    def __init__(self, database: DatabaseFile) -> None:
        self.database = database
