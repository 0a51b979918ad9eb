"""The database file: opening, migrating, reading and writing transactions.

Each operation has a connection of its own from a pool (``data.store.connections``). A writing transaction takes its lock at the
start (``BEGIN IMMEDIATE``): sqlite-utils' own ``atomic()`` begins deferred, and a transaction that reads and then writes fails
with "database is locked" under load. With WAL and ``synchronous=FULL``, what was acknowledged is on disk.

A file that cannot be read is never overwritten or deleted: it may be repairable, and it may be someone's work.
"""

from __future__ import annotations

import os
import sqlite3
import threading
import time
import uuid
import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from sqlite_utils import Database

from data.store.checks import identifier
from data.store.connections import Idle, identity
from data.store.locks import turn, work_folder
from data.store.schema import migrations

BUSY_SECONDS = 30.0
# error messages of SQLite and Python's module that this app only meets where the file is not as it wrote it
DAMAGE = ("malformed", "not a database", "no such table", "no such column", "Could not decode to UTF-8")
# what SQLite says, and what it means; the first that fits
MEANINGS = {
    "unable to open": "The database {name} cannot be opened. Check that this user may read and write it.",
    "readonly": "The database {name} is read-only. Check that this user may write it and its folder.",
    "full": "The disk of {name} is full; nothing was changed. Free some space and try again.",
    "disk I/O": "The disk under {name} failed to read or write; nothing was changed. Check the disk.",
    "locked": "The database {name} stayed in use by others; nothing was changed. Try again.",
    "busy": "The database {name} stayed in use by others; nothing was changed. Try again.",
    "": "The database {name} refused this, and nothing was changed: {reason}.",
}
BACKUPS = "backups"  # folder of the page's backups, beside the database
SqlValues = Sequence[Any] | dict[str, Any]


class StoreError(Exception):
    """The store cannot do this; the message tells the user what to do."""


def now(seconds: float = 0.0) -> str:
    """The time in so many seconds, as the store writes times: these texts sort as the times do."""
    return (datetime.now(UTC) + timedelta(seconds=seconds)).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def new_id() -> str:
    return uuid.uuid4().hex


def iterate(db: Database, sql: str, values: SqlValues = ()) -> Iterator[dict[str, Any]]:
    """Iterate over the rows of a SELECT as dicts (``Database.query`` takes twice as long: it opens a savepoint each time)."""
    cursor = db.execute(sql, values)
    keys = [column[0] for column in cursor.description]
    return (dict(zip(keys, row)) for row in cursor)


def rows(db: Database, sql: str, values: SqlValues = ()) -> list[dict[str, Any]]:
    """All rows of a SELECT as dicts."""
    return list(iterate(db, sql, values))


def row(db: Database, sql: str, values: SqlValues = ()) -> dict[str, Any] | None:
    """The first row of a SELECT as a dict, or None."""
    return next(iter(rows(db, sql, values)), None)


def exists(db: Database, table: str, id: str) -> bool:
    """Whether a table has a row with this id."""
    return db.execute(f"SELECT 1 FROM {table} WHERE id = ?", (id,)).fetchone() is not None


def need(db: Database, table: str, id: Any) -> dict[str, Any]:
    """The row of a sample, run or grid; ValueError where there is none."""
    what = table.removesuffix("s")
    record = row(db, f"SELECT * FROM {table} WHERE id = ?", (identifier(what, id),))
    if not record:
        raise ValueError(f"There is no {what} {id} in this store; choose one that is listed.")
    return record


def insert(db: Database, table: str, record: Mapping[str, Any]) -> None:
    """Insert one row within the open transaction (sqlite-utils' own reads the schema each time: 170 us, not 6)."""
    columns, marks = ", ".join(record), ", ".join("?" * len(record))
    db.execute(f"INSERT INTO {table} ({columns}) VALUES ({marks})", tuple(record.values()))


def last_seq(db: Database, table: str = "scores") -> int:
    """The seq of the last row of a table, or 0."""
    return db.execute(f"SELECT coalesce(max(seq), 0) FROM {table}").fetchone()[0]


def store_id(db: Database) -> str:
    return db.execute("SELECT id FROM store").fetchone()[0]


@contextmanager
def _savepoint(db: Database) -> Iterator[None]:
    """A nested transaction within the open one, rolled back alone where it fails."""
    db.conn.execute("SAVEPOINT nested")
    try:
        yield
    except BaseException:
        if db.conn.in_transaction:  # a full disk ends all of it
            db.conn.execute("ROLLBACK TO nested")
            db.conn.execute("RELEASE nested")
        raise
    db.conn.execute("RELEASE nested")


def until_free(action: Callable[[], object]) -> None:
    """Repeat an action that SQLite refuses at once, without waiting, while another connection is in the way."""
    deadline = time.monotonic() + BUSY_SECONDS
    while True:
        try:
            action()
            return
        except sqlite3.OperationalError as error:
            busy = "locked" in str(error) or "busy" in str(error)
            if not busy or time.monotonic() > deadline:
                raise
            time.sleep(0.01)


def take_name(file: Path, name: Path) -> None:
    """Give a finished file its name; FileExistsError where the name is taken."""
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
        # this flag exists while a restore waits for the file
        self._flag = self.path.with_name(f"{self.path.name}.wanted")
        self._idle = Idle(self._flag)
        self._open = threading.local()  # .db: the connection of this thread's ``writing()``
        self.damage = ""  # message about damage that was met: from then on the file is only read
        weakref.finalize(self, self._idle.close)
        self._prepare()

    # -- operations

    def close(self) -> None:
        """Close the idle connections; the next operation opens a new one."""
        self._idle.close()

    @contextmanager
    def reading(self) -> Iterator[Database]:
        """A connection whose SELECTs all see one state of the database, with what this thread's ``writing()`` has written so far."""
        if outer := getattr(self._open, "db", None):
            with self._explained():
                yield outer
        else:
            with self._operation("BEGIN") as db:
                yield db

    @contextmanager
    def writing(self) -> Iterator[Database]:
        """A connection that holds the write lock; commits at the end, rolls back on any exception.

        Within another ``writing()`` of this thread it is nested: it commits with the outer one, and is rolled back alone
        where it fails. So several operations of the store, with their reads, make one transaction."""
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
        """A new connection that reads one state of the database and may have TEMP tables; and a function that moves it to the
        newest state, since the write-ahead log keeps growing while anybody reads an older one."""

        def renew() -> None:
            db.conn.execute("COMMIT")
            self._begin(db, "BEGIN")

        with self._connected(once=True) as db:
            self._begin(db, "BEGIN")
            yield db, renew

    @contextmanager
    def writing_beside(self, path: Path) -> Iterator[Database]:
        """As ``writing``, with another database attached read-only as ``beside``."""
        with self._connected() as db:
            db.conn.execute("ATTACH ? AS beside", (f"{path.as_uri()}?mode=ro",))
            with self._turn(), self._transaction(db, "BEGIN IMMEDIATE"):
                yield db
            db.conn.execute("DETACH beside")

    @contextmanager
    def _turn(self) -> Iterator[None]:
        """Writers take turns: the threads of a process, and processes (``data.store.locks``)."""
        self.refuse_damaged()
        threads, deadline = self._idle.turn(), time.monotonic() + BUSY_SECONDS
        acquired = threads.acquire(timeout=BUSY_SECONDS)
        try:
            left = max(0.0, deadline - time.monotonic())
            with turn(self.path.with_name(f"{self.path.name}.turn"), left):
                yield  # after waiting in vain SQLite is asked, which raises
        finally:
            if acquired:
                threads.release()

    def refuse_damaged(self) -> None:
        """StoreError where damage was met, as the file is only read then."""
        if self.damage:
            raise StoreError(self.damage)

    @contextmanager
    def unless_damaged(self) -> Iterator[None]:
        """For writes that a damaged database, which is only read, can do without."""
        try:
            yield
        except StoreError:
            if not self.damage:
                raise

    def vacuum_into(self, path: str | Path) -> Path:
        """Write a compact copy of the database as it is now, safely while others write. Never overwrites."""
        target = Path(path).expanduser().absolute()
        target.parent.mkdir(parents=True, exist_ok=True)
        partial = target.with_name(f"{target.name}.{new_id()[:8]}.partial")
        try:
            if target.exists():
                raise FileExistsError
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
            # SQLite would delete the log beside it, with the changes that are only in there
            raise StoreError(self._emptied())
        with self._connected(once=True, mode="ro") as db:
            pending = self._pending(db)  # before anything is written to a file that may not be ours
        with self._connected(once=True) as db:
            until_free(lambda: db.conn.execute("PRAGMA journal_mode = WAL"))
        if pending:
            with self._operation("BEGIN IMMEDIATE") as db:
                if self._pending(db):  # another process may have been first
                    migrations.apply(db)

    def _create(self) -> None:
        """Create a database, which gets its name when it is complete. Several processes may do so at once; the first one's stays."""
        if self._beside() and not self.path.exists():  # nobody else was first
            raise StoreError(self._emptied())
        try:
            with self._explained(), work_folder(self.path.parent) as folder:
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
            message = f"The folder of {self.path.name} cannot be written to: {error.strerror}."
            raise StoreError(message) from None

    def _beside(self) -> list[str]:
        """Names of the non-empty logs beside the database, which hold changes that are not in it yet."""
        logs = [self.path.with_name(self.path.name + ending) for ending in ("-wal", "-journal")]
        return [path.name for path in logs if path.exists() and path.stat().st_size]

    def _pending(self, db: Database) -> bool:
        """Whether migrations are due. StoreError where the file is not ours or was written by newer code."""
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
        """Begin a transaction and start its snapshot, again where another connection just cleans up the WAL."""

        def start() -> None:
            try:
                db.conn.execute(begin)
                db.conn.execute("SELECT 1 FROM sqlite_master LIMIT 1").fetchone()
            except sqlite3.OperationalError:
                if db.conn.in_transaction:
                    db.conn.execute("ROLLBACK")
                raise

        until_free(start)

    @contextmanager
    def _connected(self, once: bool = False, mode: str = "rw") -> Iterator[Database]:
        """A configured connection, closed after use (``once``) or kept for reuse; errors of SQLite become StoreErrors."""
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
                if not once:  # nothing went wrong
                    self._idle.keep(db, file)
                    db = None
        finally:
            if db is not None:
                db.conn.close()

    @contextmanager
    def _explained(self) -> Iterator[None]:
        """Turn errors of SQLite into errors with a sentence for the user."""
        try:
            yield
        except sqlite3.Error as error:
            message = self._explain(error)
            if any(sign in str(error) for sign in DAMAGE):
                self.damage = message
            raise StoreError(message) from error
        except OverflowError as error:
            raise ValueError(
                "A number is too large for the store: give one from -2^63 to 2^63 - 1; nothing was changed."
            ) from error
        except UnicodeEncodeError as error:
            raise ValueError(
                f"A text holds a character that is no text ({error.object[error.start :][:1]!a}): remove it; nothing was "
                "changed."
            ) from error

    # -- messages

    def _explain(self, error: sqlite3.Error) -> str:
        reason, name = str(error), self.path.name
        if any(sign in reason for sign in DAMAGE):
            return self._damaged(reason)
        if "unable to open" in reason and not self.path.exists():
            return f"The database {name} is gone. Put it back, or restore a backup copy, and start again."
        meaning = next(meaning for sign, meaning in MEANINGS.items() if sign in reason)
        return meaning.format(name=name, reason=reason)

    def _emptied(self) -> str:
        """The message about a database without our schema, or a log without its database."""
        name, logs = self.path.name, self._beside()
        files = " and ".join([*([name] if self.path.exists() else []), *logs])
        what = f"{name} holds nothing" if self.path.exists() else f"{name} is gone"
        log = f", and {' and '.join(logs)} beside it may hold what was in it" if logs else ""
        copies = self._copies()
        copy = f"copy a backup there ({copies})" if copies else "put a backup there if you have one"
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

    def _damaged(self, reason: str) -> str:
        copies = self._copies()
        return (
            f"The database {self.path.name} is damaged or is no database ({reason[:200]}), so nothing is written to it. Export "
            f"what can still be read, then restore a backup copy{f' ({copies})' if copies else ''}; where it does not open any "
            "more, put the copy in its place, or move it away to start with an empty one."
        )


class Records:
    """Base of the store's parts, each of which reads and writes the rows of one subject."""

    def __init__(self, database: DatabaseFile) -> None:
        self.database = database

    def rows(self, sql: str, values: SqlValues = ()) -> list[dict[str, Any]]:
        """All rows of one SELECT as dicts."""
        with self.database.reading() as db:
            return rows(db, sql, values)

    def row(self, sql: str, values: SqlValues = ()) -> dict[str, Any] | None:
        """The first row of one SELECT as a dict, or None."""
        return next(iter(self.rows(sql, values)), None)

    def value(self, sql: str, values: SqlValues = ()) -> Any:
        """The first column of the first row of one SELECT."""
        with self.database.reading() as db:
            return db.execute(sql, values).fetchone()[0]
