"""First stage of an import: read and check everything in private tables, before any of it is written (``data.store.imports``).

The private tables are TEMP tables of one connection, with the names and columns of the store's own, into which the rows of
each sample in the file are copied (``pull``). SQLite resolves names to them before the store's, so the same SQL and functions
work on them; new rows have a seq above ``BASE``. Nothing is locked meanwhile.

``ScoreImport`` is what imports of one person's scores share (0 to 9, 9 = fully shown), with ``scorer`` naming the format. A
word whose label is the same already, or to which this person gave that score before, gets no event. Place and word must match
the prompt's words, and the word must be scored. A file is imported completely or not at all.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

from sqlite_utils import Database

from data.store import Store, StoreError, checks
from data.store.database import new_id, row, rows
from data.store.imports import REPLACED, TABLES
from data.store.labels import expected
from data.store.library import labels_of
from data.store.samples import need_sample
from data.store.scores import Units, checked_event, insert_event, latest, need_unit

# columns that name a sample
ABOUT = (("scores", "sample"), ("submissions", "sample"), ("remarks", "sample"), ("gold", "sample"),
         ("preferences", "left_sample"), ("preferences", "right_sample"))  # fmt: skip
INDEXES = {"scores": "sample, word_index, source, who, seq", "gold": "sample, word_index, seq",
           "preferences": "left_sample, right_sample"}  # fmt: skip
SNAPSHOT_SECONDS = 1.0  # for which one state of the store is read
# the imports in the store, and their progress
IMPORTED = "SELECT id, done FROM main.imports ORDER BY seq"
# new rows that undo something that has been undone in the store
UNDONE = """SELECT 1 FROM beside.scores n CROSS JOIN main.scores o ON o.undoes = n.undoes WHERE n.undoes IS NOT NULL
    UNION ALL SELECT 1 FROM beside.submissions n
    CROSS JOIN main.submissions o ON o.who = n.who AND o.undoes = n.undoes WHERE n.undoes IS NOT NULL LIMIT 1"""
BASE = 2**48  # above every seq of a store, and small enough for the ranks of ``MEANS``
MOST_SCORES = 1_000_000  # of a file
RECENT = 500  # samples that are kept at hand
CHANGES = 1000  # changed words that are listed; all are counted
SameScore = Callable[[float | None, Mapping[str, Any] | None], bool]
"""Whether (a person's score, a label) have the score of the file already; either may be None."""


class ImportRefused(ValueError):
    """A line of the file (or row, of a table) cannot be imported; nothing was. ``line`` counts from 1."""

    def __init__(self, name: str, line: int, reason: str, what: str = "line") -> None:
        super().__init__(f"{name}, {what} {line}: {reason} Nothing was imported.")
        self.line = line


@contextmanager
def refused(name: str, line: Callable[[], int], what: str = "line") -> Iterator[None]:
    """Turn a ValueError into ImportRefused with the line (or row); and an OSError into a message that the file is unreadable."""
    try:
        yield
    except ImportRefused:
        raise
    except OSError as error:
        raise ValueError(f"{name} cannot be read ({error.strerror}); check its name.") from None
    except ValueError as error:
        raise ImportRefused(name, line(), str(error), what) from None


class Overtaken(Exception):
    """Something was written meanwhile that conflicts with this import; nothing was imported."""


class Staging:
    """The private tables of one import.

    store: where it goes; db: the connection with the tables; renew: moves it to the newest state of the store; name: of the
    file; alone: nobody else imports meanwhile.
    """

    def __init__(
        self, store: Store, db: Database, renew: Callable[[], None], name: str, alone: bool = False
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
        # the newest row of each table, to detect a store that was replaced meanwhile
        newest = "SELECT seq, id FROM main.{} ORDER BY seq DESC LIMIT 1"
        self._newest = {table: row(db, newest.format(table)) for table in TABLES}
        self._imported = rows(db, IMPORTED)

    def pull(self, sample: str) -> bool:
        """Copy the sample and all rows about it; False where it was copied already, or there is none."""
        if time.monotonic() - self._since > SNAPSHOT_SECONDS:
            self._renew()
            self._since = time.monotonic()
        if not self._copy("samples", "id", sample):
            return False
        for table, name in ABOUT:
            self._copy(table, name, sample)
        return True

    def pull_run(self, id: str) -> None:
        self._copy("runs", "id", id)

    def _copy(self, table: str, name: str, value: str) -> bool:
        sql = f"INSERT OR IGNORE INTO temp.{table} SELECT * FROM main.{table} WHERE {name} = ?"
        return self.db.execute(sql, (value,)).rowcount > 0

    def write(self, strict: bool = False) -> bool:
        """Write the new rows, all of them or none, and close the private tables.

        Scores given meanwhile count as earlier ones. With ``strict`` each row is written as it is in the file; where there
        was another import meanwhile, or an undo that the file has too, nothing is written and False is returned.
        """
        last = self.db.execute("SELECT name, seq FROM temp.sqlite_sequence").fetchall()
        new = {table: seq - BASE for table, seq in last}
        if not any(new.values()):
            return True

        def check(db: Database) -> None:
            for table, newest in self._newest.items():
                sql = f"SELECT 1 FROM main.{table} WHERE seq = :seq AND id = :id"
                if newest and not row(db, sql, newest):
                    raise Overtaken if strict else StoreError(REPLACED)
            if strict and not self._alone and (rows(db, IMPORTED) != self._imported or row(db, UNDONE)):
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
        """Write the new rows to a file, numbered across all tables. new: the number in each."""
        self.db.conn.execute("COMMIT")
        self.db.execute("ATTACH ? AS beside", (file.as_uri(),))
        self.db.conn.execute("BEGIN")
        before = 0
        for table in TABLES:
            columns = rows(self.db, f"PRAGMA temp.table_info({table})")
            names = ", ".join(column["name"] for column in columns if column["name"] != "seq")
            self.db.execute(f"CREATE TABLE beside.{table} (seq INTEGER PRIMARY KEY, {names})")
            numbered = f"SELECT seq - {BASE - before}, {names} FROM temp.{table} WHERE seq > {BASE}"
            self.db.execute(f"INSERT INTO beside.{table} {numbered}")
            before += new[table]
            if "undoes" in names:
                sql = f"CREATE INDEX beside.{table}_undoes ON {table} (undoes) WHERE undoes IS NOT NULL"
                self.db.execute(sql)
        self.db.conn.execute("COMMIT")


@contextmanager
def staging(store: Store, name: str, alone: bool = False) -> Iterator[Staging]:
    """The private tables of an import of the file with this name. alone: keep others from importing from the start."""
    with store.imports.importing() if alone else nullcontext(), store.database.preparing() as (db, renew):
        yield Staging(store, db, renew, name.encode(errors="replace").decode()[:200], alone)


def row_of(db: Database, table: str, id: str) -> dict[str, Any] | None:
    """The row with this id, new or of the store."""
    private, stored = (f"SELECT * FROM {schema}.{table} WHERE id = ?" for schema in ("temp", "main"))
    return row(db, private, (id,)) or row(db, stored, (id,))


def whole(value: Any) -> Any:
    """A number of a file, as an int where it is whole: data frames write whole numbers with gaps between them as 3.0."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


class ScoreImport:
    """An import of one person's scores: ``word`` for each word of the file, then ``finish``."""

    def __init__(self, stage: Staging, who: str, scorer: str, units: Units) -> None:
        self.stage, self.db, self.who, self.scorer, self._units = stage, stage.db, who, scorer, units
        self.samples = 0  # samples pulled so far
        self._recent: dict[str, tuple[dict[str, Any], Sequence[Any], dict[int, dict[str, Any]]]] = {}
        key = "PRIMARY KEY (sample, word_index)"
        self.db.execute(f"CREATE TEMP TABLE known (sample, word_index, {key}) WITHOUT ROWID")
        self.counts = {"words": 0, "new": 0, "changed": 0}
        self.changes: list[dict[str, Any]] = []

    def sample(self, id: Any, *prompts: Any) -> dict[str, Any]:
        """A sample of the store; ValueError where there is none, or its prompt is none of ``prompts``, if given."""
        sample = self._known(id)[0]
        if prompts and sample["prompt"] not in prompts:
            raise ValueError(f"the sample {id} has another prompt in the store.")
        return sample

    def units(self, id: str) -> Sequence[Any]:
        """The units of a sample."""
        return self._known(id)[1]

    def _known(self, id: Any) -> tuple[dict[str, Any], Sequence[Any], dict[int, dict[str, Any]]]:
        """A sample, its units, and its labels by word index."""
        if not isinstance(id, str) or id not in self._recent:
            checks.identifier("sample", id)
            self.samples += self.stage.pull(id)
            sample = need_sample(self.db, id)
            kept = ("word", "score", "distribution")
            labels = {index: {n: x[n] for n in kept} for (_, index), x in labels_of(self.db, [id]).items()}
            while len(self._recent) >= RECENT:
                self._recent.pop(next(iter(self._recent)))
            self._recent[id] = sample, self._units(sample), labels
        return self._recent[id]

    def word(
        self, line: int, sample: dict[str, Any], index: Any, word: Any, score: int, same: SameScore
    ) -> None:
        """Import the score of one word, unless ``same`` finds it in the store."""
        index = checks.integer("word_index", whole(index), 0, 999)
        text = checks.text("a word", "" if word is None else word, checks.PROMPT_LENGTH, empty=True)
        _, units, labels = self._known(sample["id"])
        unit, label = need_unit(sample, units, index, text), labels.get(index)
        place = (sample["id"], index)
        if not self.db.execute("INSERT OR IGNORE INTO known VALUES (?, ?)", place).rowcount:
            raise ValueError(f"the word {index} of the sample {sample['id']} is there twice.")
        self.counts["words"] += 1
        if self.counts["words"] > MOST_SCORES:
            raise ValueError(f"the file has more than {MOST_SCORES:,} scores; import it in parts.")
        given = latest(self.db, *place, "human", self.who)
        if same(given["score"] if given else None, label):
            return
        self.counts["changed" if label else "new"] += 1
        event = {"sample": sample["id"], "word_index": index, "word": unit.text}
        if len(self.changes) < CHANGES:
            before = round(expected(label), 4) if label else None
            self.changes.append({"line": line, **event, "before": before, "after": score})
        event |= {"source": "human", "who": self.who, "score": score, "scorer": self.scorer}
        insert_event(self.db, checked_event(event))

    def finish(self, dry_run: bool) -> dict[str, Any]:
        """Store the changes, unless it is a dry run; returns {samples, words, same, new (no label before), changed, changes}."""
        (samples,) = self.db.execute("SELECT count(DISTINCT sample) FROM known").fetchone()
        if not dry_run:
            self.stage.write()
        words, new, changed = (self.counts[name] for name in ("words", "new", "changed"))
        return {"samples": samples, "words": words, "same": words - new - changed, "new": new, "changed": changed,
                "changes": self.changes}  # fmt: skip


class Place:
    """The line or row that is being read, for error messages."""

    number = 1


Row = tuple[Any, Any, Any, Any, Any]
"""Sample, word index, word, prompt (or a tuple of those that it may be) and score; None and NaN are gaps."""


def import_rows(
    store: Store,
    path: str | Path,
    who: str,
    dry_run: bool,
    units: Units,
    scorer: str,
    read: Callable[[Path, Place], Iterator[Row]],
    what: str = "row",
) -> dict[str, Any]:
    """Import one person's scores from the rows of a table. ``read`` keeps the place up to date, which ``what`` names."""
    checks.text("who", who)
    path, place = Path(path), Place()
    with refused(path.name, lambda: place.number or 1, what), staging(store, path.name) as stage:
        task = ScoreImport(stage, who, scorer, units)
        for cells in read(path, place):
            # a gap in a column of whole numbers makes them floats, and is NaN
            gaps = (isinstance(cell, float) and math.isnan(cell) for cell in cells)
            id, index, word, prompt, value = (None if gap else cell for gap, cell in zip(gaps, cells))
            if value is None:
                continue
            score = checks.score(whole(value))
            prompts = prompt if isinstance(prompt, tuple) else () if prompt is None else (prompt,)

            def same(given: float | None, label: Mapping[str, Any] | None, score: int = score) -> bool:
                return score in (given, label["score"] if label else None)

            task.word(place.number, task.sample(id, *prompts), index, word, score, same)
        return task.finish(dry_run)
