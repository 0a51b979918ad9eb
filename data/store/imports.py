"""Second stage of an import: write its new rows, all of them checked, into the store in pieces.

One transaction of a million rows would keep everybody else from writing for half a minute. So the new rows are put into a file
beside the store, numbered in the order in which they may be written, and go from there into the store in transactions of some
tens of milliseconds, each of which records the progress in ``imports``. Nothing is in the store before the first piece; after
it, all others follow: an import whose process ended is resumed by ``finish`` and before the next import.

Between two pieces everybody, an export and a backup too, sees the rows written so far. Importing the file again completes a
store that was restored from such a backup, as existing rows are skipped.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path

from sqlite_utils import Database

from data.store.audit import audit_line
from data.store.database import Records, StoreError, insert, now, row, rows
from data.store.locks import turn
from data.store.schema import DISAGREEMENT
from data.store.scores import refresh_figures

log = logging.getLogger("studio")
# tables in an order in which rows only refer to earlier ones
TABLES = ("runs", "samples", "scores", "submissions", "remarks", "gold", "preferences")
PIECE, LEAST = 1000, 100  # rows of a transaction at most and at least
HOLD = 0.05  # seconds that a transaction should take
PATIENCE = 600.0  # seconds to wait for another import
REPLACED = "The database was replaced by a backup meanwhile. Nothing was imported: import the file again."
PARTLY = (
    "{done:,} of {total:,} rows of {name} were taken over when this happened: {reason} The rest is taken over when the "
    "studio next starts, or before the next import."
)
_LATEST = """FROM main.scores o WHERE o.sample = n.sample AND o.word_index = n.word_index AND o.source = n.source
    AND o.who = n.who ORDER BY o.seq DESC LIMIT 1"""


class Imports(Records):
    @property
    def _folder(self) -> Path:
        return self.database.path.with_name(f"{self.database.path.name}.imports")

    def new_rows(self, id: str) -> Path:
        """The file of an import's new rows: the tables in ``TABLES``, with seq numbered from 1 across all of them."""
        return self._folder / f"{id}.db"

    @contextmanager
    def importing(self) -> Iterator[None]:
        """Hold the only turn to import, after finishing interrupted imports; StoreError where another one takes too long."""
        with self._import_turn(PATIENCE) as free:
            if not free:
                raise StoreError("Another import is on. Nothing was imported: wait for it, then try again.")
            self._finish()
            try:
                self._folder.mkdir(exist_ok=True)
            except OSError as error:
                message = f"The folder of {self.database.path.name} cannot be written to: {error.strerror}."
                raise StoreError(message) from None
            try:
                yield
            finally:
                with suppress(StoreError):
                    self._sweep()

    def finish(self) -> None:
        """Resume interrupted imports, unless one is running. An import without its file is dropped with a warning."""
        with self._import_turn(0) as free:
            if free:
                self._finish()

    def _import_turn(self, seconds: float) -> AbstractContextManager[bool]:
        return turn(self.database.path.with_name(f"{self.database.path.name}.importing"), seconds)

    def _finish(self) -> None:
        for record in self.rows("SELECT * FROM imports WHERE done < total ORDER BY seq"):
            if self.new_rows(record["id"]).exists():
                self._write(record["id"], record["name"])
                log.warning("An interrupted import is complete now: %s.", record["name"])
                continue
            with self.database.writing() as db:
                db.execute("DELETE FROM imports WHERE id = ?", (record["id"],))
            log.warning(
                "The rest of an import is lost (%s, %s of %s rows are in): import the file again to have all of it.",
                record["name"], record["done"], record["total"],
            )  # fmt: skip
        self._sweep()

    def _sweep(self) -> None:
        """Delete the files of imports that are complete, or never began."""
        unfinished = {record["id"] for record in self.rows("SELECT id FROM imports WHERE done < total")}
        for path in self._folder.glob("*"):
            if path.name.split(".")[0] not in unfinished:
                with suppress(OSError):
                    path.unlink()
        with suppress(OSError):  # it does not exist, or is not empty
            self._folder.rmdir()

    def take_in(self, id: str, name: str, total: int, exact: bool, check: Callable[[Database], None]) -> None:
        """Write the ``total`` new rows of the file ``new_rows(id)``, within ``importing``.

        name: of the imported file. exact: write each row unchanged; otherwise a score supersedes the same person's last one
        of the word, and is left out where it equals it. check: called in the first transaction; where it raises, nothing is
        written.
        """

        def begin(db: Database) -> None:
            check(db)
            record = {"id": id, "name": name, "total": total, "done": 0, "exact": exact}
            insert(db, "imports", {**record, "created": now()})

        self._write(id, name, begin)

    def _write(self, id: str, name: str, begin: Callable[[Database], None] | None = None) -> None:
        """Write the remaining rows. begin: called in the first transaction; None where another process began the import."""
        done, total, size, resumed = 0, 1, PIECE, begin is None
        while done < total:
            try:
                with self.database.writing_beside(self.new_rows(id)) as db:
                    began = time.monotonic()
                    if begin:
                        begin(db)
                    record = row(db, "SELECT * FROM imports WHERE id = ?", (id,))
                    if not record:
                        raise StoreError(REPLACED)
                    total, upto = record["total"], min(record["done"] + size, record["total"])
                    _write_piece(db, record["done"], upto, bool(record["exact"]))
                    db.execute("UPDATE imports SET done = ? WHERE id = ?", (upto, id))
                    if resumed and upto == total:
                        insert(db, "audit", audit_line("", "import", name, {"resumed": True, "rows": total}))
            except StoreError as error:
                if not done or str(error) == REPLACED:
                    raise
                reason = str(error).replace("; nothing was changed", "")
                raise StoreError(PARTLY.format(done=done, total=total, name=name, reason=reason)) from error
            begin, done, held = None, upto, time.monotonic() - began
            size = max(LEAST, min(PIECE, int(size * HOLD / held)))
            if done < total:
                time.sleep(held)  # SQLite gives a lock not to who waits longest, but to who asks first


def _write_piece(db: Database, after: int, upto: int, exact: bool) -> None:
    """Write the rows after one number up to another one, and refresh the caches of their samples."""
    span = f"n.seq > {after} AND n.seq <= {upto}"
    with _without_triggers(db, ("scores_disagreement", "scores_means", "gold_means")):
        for table in TABLES:
            columns = rows(db, f"PRAGMA main.table_info({table})")
            values = {c["name"]: f"n.{c['name']}" for c in columns if c["name"] != "seq"}
            wanted = f"{span} AND NOT EXISTS (SELECT 1 FROM main.{table} o WHERE o.id = n.id)"
            if table == "scores" and not exact:
                values["supersedes"] = f"(SELECT o.id {_LATEST})"
                wanted += f" AND n.score IS NOT (SELECT o.score {_LATEST})"
            # an undo by key press meanwhile takes precedence over the same undo in the file
            if table == "scores" and exact:
                undone = "EXISTS (SELECT 1 FROM main.scores o WHERE o.undoes = n.undoes)"
                values["undoes"] = f"iif({undone}, NULL, n.undoes)"
            if table == "submissions":
                wanted += """ AND NOT EXISTS
                    (SELECT 1 FROM main.submissions o WHERE o.who = n.who AND o.undoes = n.undoes)"""
            sql = f"""INSERT INTO main.{table} ({", ".join(values)}) SELECT {", ".join(values.values())}
                FROM beside.{table} n WHERE {wanted} ORDER BY n.seq"""
            db.execute(sql)
    scored = (
        f"SELECT sample FROM beside.scores n WHERE {span} UNION SELECT sample FROM beside.gold n WHERE {span}"
    )
    samples = [sample for (sample,) in db.execute(scored)]
    refresh_figures(db, samples)
    which = "sample IN (SELECT value FROM json_each(?1))"
    db.execute(f"DELETE FROM disagreement WHERE {which}", (json.dumps(samples),))
    db.execute(DISAGREEMENT.format(which=which), (json.dumps(samples),))


@contextmanager
def _without_triggers(db: Database, names: tuple[str, ...]) -> Iterator[None]:
    """Drop these triggers within the open transaction, and create them again: their work is done once for all rows."""
    marks = ", ".join("?" * len(names))
    sql = f"SELECT name, sql FROM main.sqlite_master WHERE type = 'trigger' AND name IN ({marks})"
    triggers = db.execute(sql, names).fetchall()
    for name, _ in triggers:
        db.execute(f"DROP TRIGGER main.{name}")
    yield
    for _, sql in triggers:
        db.execute(sql.replace("CREATE TRIGGER ", "CREATE TRIGGER main.", 1))
