"""The second step of an import: its new rows, all of them checked, go into the store in pieces.

A transaction keeps everybody else from writing, and that of a million rows would take half a minute. So the new rows
are put into a file beside the store, numbered in the order in which they may be written, and go from there into the
store in transactions of some tens of milliseconds, between which others have their turn. The same transaction notes in
``imports`` how far it is. Nothing is in the store before the first piece; once that is in, all the others follow: what
a process left behind, however it ended, is taken up by ``finish_imports`` and before the next import. What fits in one
piece is one transaction.

Between two pieces everybody, an export and a backup too, sees the rows that are in, which are the first of each table.
A backup that was made then holds that part, and gets no more after it is restored: import the file again, as what is
there already is skipped. Nor does any other backup that replaces the store meanwhile get the rest.
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
from data.store.schema import DISAGREEMENT
from data.store.scores import refresh_figures
from data.store.turns import turn

log = logging.getLogger("studio")
# what a row names comes before it
TABLES = ("runs", "samples", "scores", "submissions", "remarks", "gold", "preferences")
PIECE, LEAST = 1000, 100  # rows of a transaction, at most and at least,
HOLD = 0.05  # so many that it takes about as long, in seconds
PATIENCE = 600.0  # seconds to wait for another import
REPLACED = "The database was replaced by a backup meanwhile. Nothing was imported: import the file again."
PARTLY = (
    "{done:,} of {total:,} rows of {name} were taken over when this happened: {said} The rest is taken over when the "
    "studio next starts, or before the next import."
)
_LATEST = """FROM main.scores o WHERE o.sample = n.sample AND o.word_index = n.word_index AND o.source = n.source
    AND o.who = n.who ORDER BY o.seq DESC LIMIT 1"""


class Imports(Records):
    @property
    def _folder(self) -> Path:
        return self.database.path.with_name(f"{self.database.path.name}.imports")

    def new_rows(self, id: str) -> Path:
        """The file of an import's new rows: the tables of ``TABLES``, in which seq counts from 1 through all of them."""
        return self._folder / f"{id}.db"

    @contextmanager
    def importing(self) -> Iterator[None]:
        """Be the only one who writes an import, after all that was left unfinished; StoreError where another one goes on
        for too long."""
        with self._import_turn(PATIENCE) as free:
            if not free:
                raise StoreError("Another import is on. Nothing was imported: wait for it, then try again.")
            self._finish()
            try:
                self._folder.mkdir(exist_ok=True)
            except OSError as error:
                raise StoreError(
                    f"The folder of {self.database.path.name} cannot be written to: {error.strerror}."
                ) from None
            try:
                yield
            finally:
                with suppress(StoreError):
                    self._sweep()

    def finish(self) -> None:
        """Write the rest of imports whose process ended in the middle; nothing where one is on. What has lost its file is
        dropped, and the log says so."""
        with self._import_turn(0) as free:
            if free:
                self._finish()

    def _import_turn(self, seconds: float) -> AbstractContextManager[bool]:
        return turn(self.database.path.with_name(f"{self.database.path.name}.importing"), seconds)

    def _finish(self) -> None:
        with self.database.reading() as db:
            left = rows(db, "SELECT * FROM imports WHERE done < total ORDER BY seq")
        for one in left:
            if self.new_rows(one["id"]).exists():
                self._write(one["id"], one["name"], resumed=True)
                log.warning("An import that had been interrupted is whole now: %s.", one["name"])
                continue
            with self.database.writing() as db:
                db.execute("DELETE FROM imports WHERE id = ?", (one["id"],))
            log.warning(
                "The rest of an import is lost (%s, %s of %s rows are in): import the file again to have all of it.",
                one["name"], one["done"], one["total"],
            )  # fmt: skip
        self._sweep()

    def _sweep(self) -> None:
        """Take away the files of imports that are whole, or never began."""
        with self.database.reading() as db:
            left = {id for (id,) in db.execute("SELECT id FROM imports WHERE done < total")}
        for path in self._folder.glob("*"):
            if path.name.split(".")[0] not in left:
                with suppress(OSError):
                    path.unlink()
        with suppress(OSError):  # it is not there, or not empty
            self._folder.rmdir()

    def take_in(self, id: str, name: str, total: int, exact: bool, check: Callable[[Database], None]) -> None:
        """Write the ``total`` new rows of the file ``new_rows(id)``, within ``importing``.

        name: of the file that was imported. exact: each row as it is; else a score supersedes what the same person said
        last of the word, and is left out where that is the same. check: is called in the first transaction, and where it
        raises, nothing is written.
        """

        def begin(db: Database) -> None:
            check(db)
            record = {"id": id, "name": name, "total": total, "done": 0, "exact": exact}
            insert(db, "imports", {**record, "created": now()})

        self._write(id, name, begin)

    def _write(
        self, id: str, name: str, begin: Callable[[Database], None] | None = None, resumed: bool = False
    ) -> None:
        """Write what is not in yet. begin: what comes first in the first transaction; resumed: by another process than the one
        that began, so that nobody else notes it in the audit log."""
        done, total, size = 0, 1, PIECE
        while done < total:
            try:
                with self.database.writing_beside(self.new_rows(id)) as db:
                    began = time.monotonic()
                    if begin:
                        begin(db)
                    there = row(db, "SELECT * FROM imports WHERE id = ?", (id,))
                    if not there:
                        raise StoreError(REPLACED)
                    total, upto = there["total"], min(there["done"] + size, there["total"])
                    _write_piece(db, there["done"], upto, bool(there["exact"]))
                    db.execute("UPDATE imports SET done = ? WHERE id = ?", (upto, id))
                    if resumed and upto == total:
                        insert(db, "audit", audit_line("", "import", name, {"resumed": True, "rows": total}))
            except StoreError as error:
                if not done or str(error) == REPLACED:
                    raise
                said = str(error).replace("; nothing was changed", "")
                raise StoreError(PARTLY.format(done=done, total=total, name=name, said=said)) from error
            begin, done, held = None, upto, time.monotonic() - began
            size = max(LEAST, min(PIECE, int(size * HOLD / held)))
            if done < total:
                time.sleep(held)  # a lock is not given to who waits, but to who comes first


def _write_piece(db: Database, after: int, upto: int, exact: bool) -> None:
    """The rows after one number up to another one, and the figures of their samples as they are with these."""
    span = f"n.seq > {after} AND n.seq <= {upto}"
    with _without_triggers(db, ("scores_disagreement", "scores_means", "gold_means")):
        for table in TABLES:
            names = [
                column[1] for column in db.execute(f"PRAGMA main.table_info({table})") if column[1] != "seq"
            ]
            values = {name: f"n.{name}" for name in names}
            wanted = f"{span} AND NOT EXISTS (SELECT 1 FROM main.{table} o WHERE o.id = n.id)"
            if table == "scores" and not exact:
                values["supersedes"] = f"(SELECT o.id {_LATEST})"
                wanted += f" AND n.score IS NOT (SELECT o.score {_LATEST})"
            # who undid the same by a key meanwhile has undone it
            if table == "scores" and exact:
                values["undoes"] = (
                    "iif(EXISTS (SELECT 1 FROM main.scores o WHERE o.undoes = n.undoes), NULL, n.undoes)"
                )
            if table == "submissions":
                wanted += """ AND NOT EXISTS
                    (SELECT 1 FROM main.submissions o WHERE o.who = n.who AND o.undoes = n.undoes)"""
            db.execute(
                f"""INSERT INTO main.{table} ({", ".join(names)}) SELECT {", ".join(values.values())}
                FROM beside.{table} n WHERE {wanted} ORDER BY n.seq"""
            )
    said = (
        f"SELECT sample FROM beside.scores n WHERE {span} UNION SELECT sample FROM beside.gold n WHERE {span}"
    )
    samples = [sample for (sample,) in db.execute(said)]
    refresh_figures(db, samples)
    which = "sample IN (SELECT value FROM json_each(?1))"
    db.execute(f"DELETE FROM disagreement WHERE {which}", (json.dumps(samples),))
    db.execute(DISAGREEMENT.format(which=which), (json.dumps(samples),))


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
