"""The first step of an import: everything is read and checked in private, before any of it is written (``data.store.imports``).

The private part are TEMP tables of one connection, with the names and columns of the store's own, into which the rows of
each sample that the file speaks of are copied (``pull``). SQLite finds them before the store's, so the same SQL and the
same functions work on them; what is new is in the rows whose seq is above ``BASE``. They lie on disk, nobody else sees
them, and they are gone with the connection, however it ends. Nothing is locked meanwhile.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

from sqlite_utils import Database

from data.store.database import StoreError, new_id
from data.store.imports import REPLACED, TABLES, Imports

ABOUT = {  # what is said of a sample, and the columns that name it
    "scores": ("sample",),
    "submissions": ("sample",),
    "remarks": ("sample",),
    "gold": ("sample",),
    "preferences": ("left_sample", "right_sample"),
}
INDEXES = {"scores": "sample, word_index, source, who, seq", "gold": "sample, word_index, seq",
           "preferences": "left_sample, right_sample"}  # fmt: skip
STATE = 1.0  # seconds for which one state of the store is read
BASE = 2**48  # above every seq of a store, and small enough for the ranks of ``MEANS``


class Overtaken(Exception):
    """Others have written meanwhile what makes it another matter; nothing was written."""


class Staging:
    """One import. store: where it goes; db: the connection that holds the tables; renew: lets it see the newest state of the
    store; name: of the file; alone: nobody else imports as long as this lasts."""

    def __init__(
        self, store: Imports, db: Database, renew: Callable[[], None], name: str, alone: bool = False
    ) -> None:
        self.store, self.db, self.name, self._renew, self._alone = store, db, name, renew, alone
        self._since = time.monotonic()
        for table in TABLES:
            _, *others = db.execute(f"PRAGMA main.table_info({table})").fetchall()
            columns = ["seq INTEGER PRIMARY KEY AUTOINCREMENT"]
            columns += [f"{name} DEFAULT {default or 'NULL'}" for _, name, _, _, default, _ in others]
            db.execute(f"CREATE TEMP TABLE {table} ({', '.join(columns)})")
            db.execute(f"CREATE UNIQUE INDEX temp.{table}_id ON {table} (id)")
            db.execute("INSERT INTO temp.sqlite_sequence (name, seq) VALUES (?, ?)", (table, BASE))
            if table in INDEXES:
                db.execute(f"CREATE INDEX temp.{table}_about ON {table} ({INDEXES[table]})")
        # the newest row of each table, by which is seen what came meanwhile
        self._newest = {table: _newest(db, table) for table in TABLES}
        self._imported = _imported(db)

    def pull(self, sample: str) -> bool:
        """Bring in the sample and all that the store has of it; False where it was here already or there is none."""
        if time.monotonic() - self._since > STATE:
            self._renew()
            self._since = time.monotonic()
        if not self._copy("samples", "id", sample):
            return False
        for table, names in ABOUT.items():
            for name in names:
                self._copy(table, name, sample)
        return True

    def pull_run(self, id: str) -> None:
        self._copy("runs", "id", id)

    def _copy(self, table: str, name: str, value: str) -> bool:
        sql = f"INSERT OR IGNORE INTO temp.{table} SELECT * FROM main.{table} WHERE {name} = ?"
        return self.db.execute(sql, (value,)).rowcount > 0

    def write(self, strict: bool = False) -> bool:
        """Write what is new, all of it or nothing, and let go of the private tables.

        What people have said meanwhile counts as said before. With ``strict`` each row is written as it is in the file;
        where another import came meanwhile, or an undo that the file has too, nothing is written, and False returned.
        """
        new = {
            table: seq - BASE for table, seq in self.db.execute("SELECT name, seq FROM temp.sqlite_sequence")
        }
        if not any(new.values()):
            return True

        def check(db: Database) -> None:
            if any(_row_at(db, table, seq) != id for table, (seq, id) in self._newest.items()):
                raise Overtaken if strict else StoreError(REPLACED)
            if strict and not self._alone and (_imported(db) != self._imported or _undone(db)):
                raise Overtaken

        with nullcontext() if self._alone else self.store.imports.importing():
            id = new_id()
            self._copy_out(self.store.imports.new_rows(id), new)
            self.db.conn.close()
            try:
                self.store.imports.take_in(id, self.name, sum(new.values()), strict, check)
            except Overtaken:
                return False
        return True

    def _copy_out(self, file: Path, new: dict[str, int]) -> None:
        """Put the new rows into a file, numbered through all tables; new: how many each has."""
        self.db.conn.execute("COMMIT")
        self.db.execute("ATTACH ? AS beside", (file.as_uri(),))
        self.db.conn.execute("BEGIN")
        before = 0
        for table in TABLES:
            names = ", ".join(
                c[1] for c in self.db.execute(f"PRAGMA temp.table_info({table})") if c[1] != "seq"
            )
            self.db.execute(f"CREATE TABLE beside.{table} (seq INTEGER PRIMARY KEY, {names})")
            self.db.execute(
                f"INSERT INTO beside.{table} SELECT seq - {BASE - before}, {names} FROM temp.{table} WHERE seq > {BASE}"
            )
            before += new[table]
            if "undoes" in names:
                self.db.execute(
                    f"CREATE INDEX beside.{table}_undoes ON {table} (undoes) WHERE undoes IS NOT NULL"
                )
        self.db.conn.execute("COMMIT")


def _newest(db: Database, table: str) -> tuple[int, str | None]:
    return db.execute(f"SELECT seq, id FROM main.{table} ORDER BY seq DESC LIMIT 1").fetchone() or (0, None)


def _row_at(db: Database, table: str, seq: int) -> str | None:
    found = db.execute(f"SELECT id FROM main.{table} WHERE seq = ?", (seq,)).fetchone()
    return found and found[0]


def _imported(db: Database) -> list[tuple[str, int]]:
    """The imports that are in the store, and how much of each."""
    return db.execute("SELECT id, done FROM main.imports ORDER BY seq").fetchall()


def _undone(db: Database) -> bool:
    """Whether a new row takes back what has been taken back in the store."""
    return bool(
        db.execute(
            """SELECT 1 FROM beside.scores n CROSS JOIN main.scores o ON o.undoes = n.undoes
            WHERE n.undoes IS NOT NULL
            UNION ALL SELECT 1 FROM beside.submissions n
            CROSS JOIN main.submissions o ON o.who = n.who AND o.undoes = n.undoes WHERE n.undoes IS NOT NULL LIMIT 1"""
        ).fetchone()
    )


@contextmanager
def staging(store: Imports, name: str, alone: bool = False) -> Iterator[Staging]:
    """The private part of an import of the file of this name. alone: from the start on nobody else imports."""
    with store.imports.importing() if alone else nullcontext(), store.database.preparing() as (db, renew):
        yield Staging(store, db, renew, name.encode(errors="replace").decode()[:200], alone)


def rows_of(db: Database, table: str, id: str) -> dict[str, Any] | None:
    """The row of this id, new or of the store."""
    for schema in ("temp", "main"):
        cursor = db.execute(f"SELECT * FROM {schema}.{table} WHERE id = ?", (id,))
        found = cursor.fetchone()
        if found:
            return dict(zip([column[0] for column in cursor.description], found))
    return None
