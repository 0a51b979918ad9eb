"""An import in two steps: everything is read and checked in private, then all of it is written in one short transaction.

The private part are TEMP tables of one connection, with the names and columns of the store's own, into which the rows of
each sample that the file speaks of are copied (``pull``). SQLite finds them before the store's, so the same SQL and the
same functions work on them; what is new is in the rows whose seq is above ``BASE``. They lie on disk, nobody else sees
them, and they are gone with the connection, however it ends.

The lock is held from ``write`` on, for as long as the new rows and the figures worked out from them take to be copied.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

from sqlite_utils import Database

from data.annotation_schema import DISAGREEMENT
from data.database import DatabaseFile, StoreError
from data.scores import refresh_figures

ABOUT = {  # what is said of a sample, and the columns that name it; the order is the one in which rows may be written
    "samples": ("id",),
    "scores": ("sample",),
    "submissions": ("sample",),
    "remarks": ("sample",),
    "gold": ("sample",),
    "preferences": ("left_sample", "right_sample"),
}
TABLES = ("runs", *ABOUT)
FIGURES = ("means", "disagreement", "uncertainty")
INDEXES = {"scores": "sample, word_index, source, who, seq", "gold": "sample, word_index, seq",
           "preferences": "left_sample, right_sample"}  # fmt: skip
BASE = 2**48  # above every seq of a store, and small enough for the ranks of ``MEANS``
TOUCHED = f"""SELECT sample FROM temp.scores WHERE seq > {BASE} UNION SELECT sample FROM temp.gold WHERE seq > {BASE}
    UNION SELECT id FROM temp.samples WHERE seq > {BASE}"""
REPLACED = "The database was replaced by a backup meanwhile. Nothing was imported: import the file again."


class Staging:
    """One import. db: the connection that holds the tables."""

    def __init__(self, db: Database, write: Callable[[], AbstractContextManager[None]]) -> None:
        self.db, self._write = db, write
        for table in (*TABLES, *FIGURES):
            key, *others = db.execute(f"PRAGMA main.table_info({table})").fetchall()
            columns = [
                "seq INTEGER PRIMARY KEY AUTOINCREMENT" if key[1] == "seq" else f"{key[1]} PRIMARY KEY"
            ]
            columns += [f"{name} DEFAULT {default or 'NULL'}" for _, name, _, _, default, _ in others]
            db.execute(f"CREATE TEMP TABLE {table} ({', '.join(columns)})")
            if table in TABLES:
                db.execute(f"CREATE UNIQUE INDEX temp.{table}_id ON {table} (id)")
                db.execute("INSERT INTO temp.sqlite_sequence (name, seq) VALUES (?, ?)", (table, BASE))
            if table in INDEXES:
                db.execute(f"CREATE INDEX temp.{table}_about ON {table} ({INDEXES[table]})")
        # the newest row of each table, by which is seen what came meanwhile
        self._newest = {table: _newest(db, table) for table in TABLES}

    def pull(self, sample: str) -> bool:
        """Bring in the sample and all that the store has of it; False where it was here already or there is none."""
        if not self._copy("samples", "id", sample):
            return False
        for table, names in ABOUT.items():
            for name in names if table != "samples" else ():
                self._copy(table, name, sample)
        return True

    def pull_run(self, id: str) -> None:
        self._copy("runs", "id", id)

    def _copy(self, table: str, name: str, value: str) -> bool:
        sql = f"INSERT OR IGNORE INTO temp.{table} SELECT * FROM main.{table} WHERE {name} = ?"
        return self.db.execute(sql, (value,)).rowcount > 0

    def write(self, strict: bool = False) -> bool:
        """Write what is new, all of it or nothing. Where the store has heard more meanwhile of a sample that was pulled,
        that counts as said before; with ``strict`` it is a reason to write nothing, and False."""
        self._work_out(TOUCHED)
        with self._write():
            if any(_row_at(self.db, table, seq) != id for table, (seq, id) in self._newest.items()):
                if strict:
                    return False
                raise StoreError(REPLACED)
            if self._catch_up():
                if strict:
                    return False
                self._work_out("SELECT id FROM temp.fresh")
            with _without_triggers(self.db, ("scores_disagreement", "scores_means", "gold_means")):
                for table in TABLES:
                    names = ", ".join(
                        c[1] for c in self.db.execute(f"PRAGMA main.table_info({table})") if c[1] != "seq"
                    )
                    self.db.execute(
                        f"INSERT INTO main.{table} ({names}) SELECT {names} FROM temp.{table} WHERE seq > {BASE} ORDER BY seq"
                    )
            for table in FIGURES:
                self.db.execute(f"DELETE FROM main.{table} WHERE sample IN ({TOUCHED})")
                self.db.execute(
                    f"INSERT INTO main.{table} SELECT * FROM temp.{table} WHERE sample IN ({TOUCHED})"
                )
        return True

    def _work_out(self, samples: str) -> None:
        """The figures of these samples, in the tables of this connection."""
        found = self.db.execute(samples)
        while ids := [id for (id,) in found.fetchmany(1000)]:
            refresh_figures(self.db, ids)
        self.db.execute(f"DELETE FROM disagreement WHERE sample IN ({samples})")
        self.db.execute(DISAGREEMENT.format(which=f"sample IN ({samples})"))

    def _catch_up(self) -> bool:
        """Bring in what the store has heard meanwhile of the samples that were pulled, into ``temp.fresh`` which they are;
        a person's score that stands there already by now is not said again."""
        db = self.db
        db.execute("CREATE TEMP TABLE fresh (id PRIMARY KEY)")
        for table, names in ABOUT.items():
            for name in names:
                since = f"FROM main.{table} WHERE seq > {self._newest[table][0]} AND {name} IN (SELECT id FROM temp.samples)"
                db.execute(f"INSERT OR IGNORE INTO temp.fresh SELECT {name} {since}")
                db.execute(f"INSERT OR IGNORE INTO temp.{table} SELECT * {since}")
        new = f"seq > {BASE} AND source = 'human' AND sample IN (SELECT id FROM temp.fresh)"
        before = """FROM temp.scores b WHERE b.sample = scores.sample AND b.word_index = scores.word_index
            AND b.source = scores.source AND b.who = scores.who AND b.seq < scores.seq ORDER BY b.seq DESC LIMIT 1"""
        db.execute(f"DELETE FROM temp.scores WHERE {new} AND score = (SELECT b.score {before})")
        db.execute(f"UPDATE temp.scores SET supersedes = (SELECT b.id {before}) WHERE {new}")
        return bool(db.execute("SELECT 1 FROM temp.fresh LIMIT 1").fetchone())


def _newest(db: Database, table: str) -> tuple[int, str | None]:
    return db.execute(f"SELECT seq, id FROM main.{table} ORDER BY seq DESC LIMIT 1").fetchone() or (0, None)


def _row_at(db: Database, table: str, seq: int) -> str | None:
    found = db.execute(f"SELECT id FROM main.{table} WHERE seq = ?", (seq,)).fetchone()
    return found and found[0]


@contextmanager
def staging(store: DatabaseFile, held: bool = False) -> Iterator[Staging]:
    """held: from the start on nobody else writes."""
    with store.preparing(held) as (db, write):
        yield Staging(db, write)


@contextmanager
def _without_triggers(db: Database, names: tuple[str, ...]) -> Iterator[None]:
    """Within this transaction these are off: what they would do a row is done once."""
    marks = ", ".join("?" * len(names))
    sql = f"SELECT name, sql FROM main.sqlite_master WHERE type = 'trigger' AND name IN ({marks})"
    found = db.execute(sql, names).fetchall()
    for name, _ in found:
        db.execute(f"DROP TRIGGER main.{name}")
    yield
    for _, sql in found:
        db.execute(sql.replace("CREATE TRIGGER ", "CREATE TRIGGER main.", 1))


def rows_of(db: Database, table: str, id: str) -> dict[str, Any] | None:
    """The row of this id, new or of the store."""
    for schema in ("temp", "main"):
        cursor = db.execute(f"SELECT * FROM {schema}.{table} WHERE id = ?", (id,))
        found = cursor.fetchone()
        if found:
            return dict(zip([column[0] for column in cursor.description], found))
    return None
