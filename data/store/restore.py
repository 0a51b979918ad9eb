"""Restore a backup (``DatabaseFile.vacuum_into``) in the place of the database, while others may have it open.

A file is never swapped under open connections, since the write-ahead log of one would be taken for the other's. Instead
the live file is locked exclusively, copied beside itself, and overwritten page by page in one transaction, as SQLite's online
backup does. Readers and writers wait meanwhile; where anything fails, the old content stays.

A backup is not trusted: it must be whole, no newer than this code, with exactly the schema that this app makes at that level,
and each of its rows must pass the checks of an import (a path out of the home folder, a kind with markup, an id that is a
folder's name). An older backup is migrated in a copy.
"""

from __future__ import annotations

import json
import shutil
import sqlite3
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any

from sqlite_utils import Database

from data.store import checks
from data.store.checks import Shape, choice, maybe, words
from data.store.database import DatabaseFile, Records, StoreError, iterate, new_id, row, take_name, until_free
from data.store.desk import checked_answer, checked_remark
from data.store.gold import checked_gold
from data.store.grids import MOST_CELLS
from data.store.locks import work_folder
from data.store.queue import POOL_COLUMNS, checked_submission
from data.store.runs import JSON, PROMOTABLE, checked_run
from data.store.samples import COLUMNS, checked_sample
from data.store.schema import RUN_STATES, migrations
from data.store.scores import FIELDS, PERSONAL, checked_note, checked_score, need_word
from data.store.votes import checked_preference

STEPS = 100_000  # SQLite instructions between two looks whether a restore waits for the file
COUNTED = ("samples", "scores", "runs", "remarks", "preferences")
ACTIVE = """SELECT id, kind || ' run' FROM runs WHERE state IN ('queued', 'running')
    UNION ALL SELECT id, 'grid' FROM grids WHERE state IN ('queued', 'running')"""
Schema = dict[str, tuple[str, str, str]]
Row = Mapping[str, Any]


class Restoring(Records):
    def check_backup(self, path: str | Path) -> dict[str, int]:
        """Number of rows in a backup: {samples, scores, runs, remarks, preferences}; ValueError where it cannot be restored."""
        with checked_copy(Path(path).expanduser().absolute(), self.database.path.parent) as copy:
            return _counts(copy)

    def check(self) -> None:
        """Check the whole file. StoreError where it is damaged; it is then only read until a check passes. Makes way for a restore."""
        with self.database._connected(once=True) as db:
            db.execute("PRAGMA query_only = ON")
            db.conn.set_progress_handler(self.database._idle.wanted, STEPS)
            damage = _damage(db.conn, extras=True)
        self.database.damage = self.database._damaged(damage) if damage else ""
        if damage:
            raise StoreError(self.database.damage)

    @contextmanager
    def readable_copy(self) -> Iterator[Path]:
        """A temporary copy of what can be read of a damaged database, with rebuilt indexes."""
        with work_folder(self.database.path.parent) as work:
            path = work / self.database.path.name
            with self.database._connected(once=True) as db, closing(sqlite3.connect(path)) as copy:
                db.conn.backup(copy)
                tables = copy.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall()
                for (table,) in tables:
                    with suppress(sqlite3.DatabaseError):
                        copy.execute(f'REINDEX "{table}"')
            yield path

    def interrupt(self) -> None:
        """Mark runs, grids and imports that were active when the backup was made as interrupted."""
        with self.database.writing() as db:
            for table, more in (("runs", ", pid = NULL"), ("grids", "")):
                sql = f"UPDATE {table} SET state = 'interrupted', message = 'It was on when the backup was made.'{more}"
                db.execute(f"{sql} WHERE state IN ('queued', 'running')")
            db.execute("DELETE FROM imports WHERE done < total")

    def restore(self, path: str | Path, dead: Collection[str] = ()) -> dict[str, Any]:
        """Put the backup in the place of this database; returns {samples, ..., before: the counts of the old content,
        replaced: the file beside it with the old content}. ValueError, with nothing changed, where the backup is invalid, or
        a run or grid is active. dead: the ids of those whose process is gone, which a damaged database does not say."""
        source = Path(path).expanduser().absolute()
        if source.exists() and source.samefile(self.database.path):
            raise ValueError("This is the database itself; give a backup of it.")
        try:
            before = _counts(self.database)
        except StoreError:
            before = {}  # the old content is damaged
        stamp = f"{time.strftime('%Y%m%d-%H%M%S', time.gmtime())}-{new_id()[:4]}"
        replaced = self.database.path.with_name(f"{self.database.path.stem}.replaced-{stamp}.db")
        with self.database.reading() as db:
            (size,) = db.execute("PRAGMA page_size").fetchone()
        with checked_copy(source, self.database.path.parent, size) as copy, self._alone() as live:
            with suppress(sqlite3.DatabaseError):  # a table that cannot be read has no active rows
                if busy := next((row for row in live.execute(ACTIVE) if row[0] not in dead), None):
                    raise ValueError(
                        f"A {busy[1]} ({busy[0]}) is on: wait for it or stop it, then restore. Nothing was changed."
                    )
            with work_folder(self.database.path.parent) as folder:
                # page by page, as a VACUUM would stop at a damaged page
                with closing(sqlite3.connect(folder / "old.db")) as old:
                    live.backup(old)
                take_name(folder / "old.db", replaced)
            with closing(sqlite3.connect(copy.path)) as backup:
                backup.backup(live)
        self.check()
        return {**_counts(self.database), "before": before, "replaced": replaced.name}

    @contextmanager
    def _alone(self) -> Iterator[sqlite3.Connection]:
        """A connection with an exclusive lock on the file: others wait until it is closed."""
        flag = self.database._flag  # has all processes close the connections that they do not use
        flag.touch()
        self.database.close()
        try:
            with self.database._connected(once=True) as db:

                def lock() -> None:
                    flag.touch()
                    db.conn.execute("BEGIN IMMEDIATE")

                db.conn.execute("PRAGMA locking_mode=EXCLUSIVE")
                until_free(lock)
                db.conn.execute("COMMIT")  # the lock stays until the connection is closed
                yield db.conn
        finally:
            flag.unlink(missing_ok=True)


@contextmanager
def checked_copy(source: Path, folder: Path, page_size: int = 4096) -> Iterator[DatabaseFile]:
    """The backup as a database of this version and page size, in a temporary copy, its active runs and grids interrupted."""
    with work_folder(folder) as work:
        copy = work / "copy.db"
        try:
            with source.open("rb") as file:
                is_database = file.read(16) == b"SQLite format 3\x00"
            if is_database:
                shutil.copyfile(source, copy)
        except OSError as error:
            raise ValueError(f"{source.name} cannot be read ({error.strerror}); check its name.") from None
        if not is_database:
            raise ValueError(f"{source.name} is damaged or is no database; give a file that `backup` wrote.")
        try:
            with closing(sqlite3.connect(copy)) as connection:
                if damage := _damage(connection):
                    raise ValueError(f"{damage}; give a file that `backup` wrote.")
            database = DatabaseFile(copy)
            Restoring(database).interrupt()
            with database.reading() as db:
                check_rows(db)
            database.close()
            with closing(sqlite3.connect(copy)) as connection:
                if connection.execute("PRAGMA page_size").fetchone() != (page_size,):
                    connection.execute("PRAGMA journal_mode = DELETE")  # in WAL a page keeps its size
                    connection.execute(f"PRAGMA page_size = {page_size}")
                    connection.execute("VACUUM")
        except (StoreError, ValueError, sqlite3.Error) as error:
            reason = str(error).replace(copy.name, source.name)
            raise ValueError(f"{source.name} cannot be restored, and nothing was changed: {reason}") from None
        try:
            yield database
        finally:
            database.close()


def _damage(db: sqlite3.Connection, extras: bool = False) -> str:
    """What is wrong with a database, or '': its pages and indexes, rows that break a constraint or refer to nothing, a schema
    other than this app's. extras: additional tables and indexes are allowed, which the store's owner may have added. Not
    for a read-only connection, which does not check CHECKs."""
    if db.execute("PRAGMA encoding").fetchone() != ("UTF-8",):
        return "its texts are not UTF-8, as this app's are"
    schema = _schema(db)
    if not schema:
        return "there is nothing in it"
    applied = {m.name for m in migrations.applied(Database(db))} if "_sqlite_migrations" in schema else set()
    difference = _difference(schema, applied, extras)
    if difference:
        return f"its schema is not this app's ({difference})"
    dangling = db.execute("PRAGMA foreign_key_check").fetchone()
    if dangling:
        return f"a row of {dangling[0]} points at nothing"
    (result,) = db.execute("PRAGMA integrity_check(1)").fetchone()
    return "" if result == "ok" else result.splitlines()[-1]


def _schema(db: sqlite3.Connection) -> Schema:
    """name -> (type, table, SQL with single spaces) of everything in a database except the tables of ANALYZE."""
    entries = db.execute("SELECT name, type, tbl_name, coalesce(sql, '') FROM sqlite_master").fetchall()
    schema = {name: (kind, table, " ".join(sql.split())) for name, kind, table, sql in entries}
    return {name: entry for name, entry in schema.items() if not name.startswith("sqlite_stat")}


def _difference(schema: Schema, applied: set[str], extras: bool) -> str:
    """The first difference of a schema from the one that these migrations make, if they are known; '' for none."""
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
    for name in sorted(wanted if extras else {*schema, *wanted}):
        if schema.get(name) != wanted.get(name):
            kind, table, _ = schema.get(name) or wanted[name]
            how = "no" if name not in schema else "another" if name in wanted else "an additional"
            return f"{how} {kind} {name[:64]}" + (f" of {table[:64]}" if table != name else "")
    return ""


def _counts(database: DatabaseFile) -> dict[str, int]:
    with database.reading() as db:
        return {table: db[table].count for table in COUNTED}


# -- the rows of a backup


def _json(name: str, text: str | None) -> Any:
    """A JSON column, parsed; None for NULL."""
    try:
        return None if text is None else json.loads(text)
    except (ValueError, RecursionError):
        raise ValueError(f"{name} is not JSON that can be read.") from None


def _object(name: str, text: str) -> dict[str, Any]:
    value = _json(name, text)
    if not isinstance(value, dict):
        raise ValueError(f"{name} must be a JSON object.")
    return value


def _sample_of(r: Row) -> dict[str, Any]:
    """The sample that a row refers to, as far as its checks need it."""
    return {"id": r["sample"], "n_words": r["n_words"]}


def _score(r: Row) -> None:
    entry = {name: r[name] for name in FIELDS}
    checked_score({**entry, "distribution": _json("distribution", r["distribution"])}, _sample_of(r))
    checks.columns(r, {"entropy": _up_to(3), "step": maybe(checks.identifier)})


def _submission(r: Row) -> None:
    checked_submission(r, _sample_of(r))
    checks.columns(r, {"after": _up_to(2**62)})


def _missing(r: Row) -> None:
    checked_note(r)
    need_word(_sample_of(r), r["word_index"])


def _run(r: Row) -> None:
    run = {name: _json(name, value) if name in JSON else value for name, value in r.items() if name != "seq"}
    checked_run(run)
    # only models that the project ships are outside the home folder
    if r["checkpoint"] is not None and run["config"].get("source") != "shipped":
        checks.relative_path("checkpoint", r["checkpoint"])


def _columns(**shapes: Shape) -> Callable[[Row], Any]:
    """The check of a row by its columns."""
    return partial(checks.columns, shapes=shapes)


def _up_to(high: float) -> Shape:
    """A number from 0, or NULL."""
    return maybe(partial(checks.number, low=0, high=high))


CHECKS: dict[str, Callable[[Row], Any]] = {
    "store": _columns(id=checks.identifier, created=checks.time),
    "samples": lambda r: checked_sample({name: r[name] for name in COLUMNS}),
    "scores": _score,
    "runs": _run,
    "submissions": _submission,
    "remarks": lambda r: checked_remark(r, _sample_of(r)),
    "gold": lambda r: checked_gold(r, _sample_of(r)),
    "preferences": checked_preference,
    "promotions": _columns(kind=choice(*PROMOTABLE), run=maybe(checks.identifier),
                           action=choice("promote", "rollback"), who=checks.text, created=checks.time),
    "missing": _missing,
    "audit": _columns(who=words(), action=checks.text, subject=words(500),
                      detail=lambda name, value: checks.as_json(name, _object(name, value)), created=checks.time),
    "grids": _columns(id=checks.identifier, who=checks.text, state=choice(*RUN_STATES), message=words(2000),
                      config=_object, created=checks.time, finished=maybe(checks.time)),
    "cells": _columns(place=_up_to(MOST_CELLS)),
    "people": _columns(name=checks.text, key_sha256=checks.sha256, created=checks.time),
    "leases": _columns(who=checks.text, expires=checks.time),
    "cursors": _columns(name=checks.text, changed=checks.time),
    "receipts": _columns(page_sha256=checks.sha256, changed=checks.time,
                         answer=lambda name, value: checked_answer(_object(name, value))),
    "imports": _columns(id=checks.identifier, name=words(200), created=checks.time),
    "kinds": _columns(prompt=partial(checks.text, longest=checks.PROMPT_LENGTH), kind=words(40), version=words(40)),
    "pools": _columns(**dict.fromkeys(POOL_COLUMNS, words(200))),
    "foreseen": _columns(points=_up_to(9), promise=_up_to(1), projected=_up_to(1),
                         model=partial(checks.text, longest=301)),
    "uncertainty": _columns(entropy=_up_to(3)),
    "disagreement": _columns(points=_up_to(9)),
    "means": _columns(mean=_up_to(9), golden=_up_to(9)),
}  # fmt: skip
# references between rows: (table, condition of a row e that is wrong, what is wrong)
LANE = "o.sample = e.sample AND o.word_index = e.word_index AND o.source = e.source AND o.who = e.who AND o.seq < e.seq"
REFERENCES = (
    ("scores", f"supersedes IS NOT NULL AND NOT EXISTS (SELECT 1 FROM scores o WHERE o.id = e.supersedes AND {LANE})",
     "supersedes names no earlier event of the same word."),
    ("scores", f"undoes IS NOT NULL AND NOT EXISTS (SELECT 1 FROM scores o WHERE o.id = e.undoes AND {LANE})",
     "undoes names no earlier event of the same word."),
    ("scores", f"undoes IS NOT NULL AND source NOT IN {PERSONAL}", "only a correction can undo one."),
    ("submissions", """undoes IS NOT NULL AND NOT EXISTS (SELECT 1 FROM submissions o WHERE o.id = e.undoes
        AND o.sample = e.sample AND o.who = e.who AND o.undoes IS NULL AND o.seq < e.seq)""",
     "undoes names no earlier submit or skip of that person."),
)  # fmt: skip


def check_rows(db: Database) -> None:
    """ValueError with table, row and reason for the first row that an import would refuse."""
    with_words = "SELECT e.*, s.n_words FROM {} e JOIN samples s ON s.id = e.sample"
    for table, check in CHECKS.items():
        of_words = table in ("scores", "submissions", "remarks", "gold", "missing")
        sql = with_words if of_words else "SELECT * FROM {}"
        for number, r in enumerate(iterate(db, sql.format(table)), 1):
            try:
                check(r)
            except ValueError as error:
                key = r.get("id") or r.get("sample") or r.get("seq") or number
                raise ValueError(f"{table}, row {checks.shown(key)}: {error}") from None
    for table, condition, reason in REFERENCES:
        if wrong := row(db, f"SELECT e.id FROM {table} e WHERE {condition} LIMIT 1"):
            raise ValueError(f"{table}, row {checks.shown(wrong['id'])}: {reason}")
    if db["store"].count != 1:
        raise ValueError("store: there must be one row, with the store's id.")
