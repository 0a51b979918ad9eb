"""Labels as JSONL, for other machines and other tools: a round trip without loss.

The first line is a header. Then a line for each run that a sample refers to (without its checkpoint path, which means nothing
elsewhere), a line for each sample with all its score events, submissions, remarks and gold scores, and a line for each vote
between two of the samples. An event's ``n`` is its place among all events of its kind in the file, so that undo and history
work after an import as before it. Export, import into an empty store, export: the same bytes. Leases, caches, names that
browsers hold and the audit log are not exported.

Version 2 added remarks, gold and preferences, version 3 the submits and skips that were taken back, version 4 the scores that a
submit confirmed. Older files are read as they always were.

An import is all or nothing. What exists already is skipped; what exists with another content is refused. The file is not
trusted: every field passes the same checks as a value from the page, and what a row refers to must exist.
"""

from __future__ import annotations

import base64
import binascii
import itertools
import json
import os
import pickle
import uuid
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path
from typing import Any, BinaryIO

from sqlite_utils import Database

from data.exchange.staging import CHANGES, ImportRefused, Staging, refused, row_of, staging
from data.exchange.text import decoded
from data.store import Store, checks, desk, gold, queue, votes
from data.store.database import exists, insert, iterate, row, rows
from data.store.labels import expected
from data.store.library import labels_of
from data.store.runs import ACTIVE, check_shape, checked_run, parse_json
from data.store.samples import COLUMNS, checked_sample, insert_sample
from data.store.scores import FIELDS, PERSONAL, Units, checked_score, need_unit, readable

FORMAT, VERSION = "noise-projection-studio/labels", 4
READABLE = (1, 2, 3, 4)
LONGEST_LINE = 8 * 2**20  # bytes
MOST_VALUES = 150_000  # of a line

RUN = ("id", "kind", "config", "parent", "labels", "metrics", "checkpoint_sha256", "state", "message",
       "created", "finished")  # fmt: skip
RUN_FIXED = ("kind", "config", "parent", "created")
# lists of a sample, with the fields of their entries, and the tables that these are rows of
LISTS: dict[str, Iterable[str]] = {"events": FIELDS, "submissions": queue.SUBMISSION, "remarks": desk.COLUMNS,
                                   "gold": gold.COLUMNS}  # fmt: skip
TABLES = {"events": "scores", "submissions": "submissions", "remarks": "remarks", "gold": "gold"}


# -- lines


def json_line(record: Mapping[str, Any]) -> bytes:
    """A line of JSONL: UTF-8, no spaces, no NaN."""
    return json.dumps(record, ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode() + b"\n"


@contextmanager
def whole_file(path: str | Path) -> Iterator[BinaryIO]:
    """A file to write that gets its name when all of it is on disk; an error leaves the older one."""
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = target.with_name(f"{target.name}.{uuid.uuid4().hex[:8]}.partial")
    try:
        with open(partial, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial, target)
    finally:
        partial.unlink(missing_ok=True)


def records(file: BinaryIO, name: str) -> Iterator[tuple[int, dict[str, Any]]]:
    """Number and object of each non-empty line (the first must not be empty); ImportRefused where a line is no object."""
    for number in itertools.count(1):
        raw = file.readline(LONGEST_LINE)
        if not raw and number > 1:
            return
        try:
            if len(raw) >= LONGEST_LINE:
                raise ValueError(f"the line is longer than {LONGEST_LINE} bytes.")
            if not raw:
                raise ValueError("the file is empty.")
            # each value takes far more memory than its text
            if sum(raw.count(sign) for sign in (b",", b"[", b"{")) > MOST_VALUES:
                raise ValueError(f"the line has more than {MOST_VALUES:,} values.")
            text = decoded(raw, first=number == 1)
            record = parse(text) if text.strip() or number == 1 else None
        except ValueError as error:
            raise ImportRefused(name, number, str(error)) from None
        if record is not None:
            yield number, record


def parse(text: str) -> dict[str, Any]:
    """A JSON object; ValueError where the text is none, has a field twice, or a number that is no JSON."""
    try:
        record = json.loads(text, parse_constant=_no_constant, object_pairs_hook=_unique)
    except json.JSONDecodeError as error:
        raise ValueError(f"not JSON ({error.msg} at character {error.pos + 1}).") from None
    except RecursionError:
        raise ValueError("JSON that is nested too deep.") from None
    if not isinstance(record, dict):
        raise ValueError("a line must be a JSON object.")
    return record


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is no JSON number.")


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) != len(pairs):
        raise ValueError("a field is there twice.")
    return result


# -- export


def _present(record: Mapping[str, Any], names: Iterable[str]) -> dict[str, Any]:
    """These fields of a record, without those that are None."""
    return {name: record[name] for name in names if record[name] is not None}


def _run_lines(db: Database) -> list[dict[str, Any]]:
    sql = """WITH RECURSIVE needed (id) AS (
            SELECT projector_run FROM samples WHERE projector_run IS NOT NULL
            UNION SELECT r.parent FROM runs r JOIN needed n ON r.id = n.id WHERE r.parent IS NOT NULL)
        SELECT * FROM runs WHERE id IN (SELECT id FROM needed) ORDER BY seq"""
    runs = rows(db, sql)
    for run in map(parse_json, runs):
        if run["state"] in ACTIVE:  # it is not active elsewhere
            run["state"] = "interrupted"
    return [_present(run, RUN) for run in runs]


def export_labels(store: Store, path: str | Path, features: bool = True) -> dict[str, int]:
    """Write the file whole or not at all; returns {runs, samples, events, submissions, remarks, gold, preferences}.

    ``features=False`` leaves out the scorer's hidden states, which are most of the bytes.
    """
    count: Counter[str] = Counter(runs=0, samples=0, **dict.fromkeys(LISTS, 0), preferences=0)
    with whole_file(path) as file, store.database.reading() as db:
        file.write(json_line({"format": FORMAT, "version": VERSION, "features": bool(features)}))
        for run in _run_lines(db):
            file.write(json_line({"run": run}))
            count["runs"] += 1
        # seq -> 1, 2, 3, ...: seq has gaps where events were refused or came from elsewhere
        rank = "SELECT seq, row_number() OVER (ORDER BY seq) FROM {}"
        ranks = {kind: dict(db.execute(rank.format(table)).fetchall()) for kind, table in TABLES.items()}
        for sample in iterate(db, "SELECT * FROM samples ORDER BY seq"):
            record: dict[str, Any] = {"sample": _present(sample, COLUMNS)}
            for kind, fields in LISTS.items():
                entries = rows(
                    db, f"SELECT * FROM {TABLES[kind]} WHERE sample = ? ORDER BY seq", (sample["id"],)
                )
                if kind == "events":
                    entries = [_portable(event, features) for event in entries]
                names = [name for name in fields if name != "sample"]
                listed = [{"n": ranks[kind][entry["seq"]], **_present(entry, names)} for entry in entries]
                if listed or kind in ("events", "submissions"):  # version 1 lacked the others
                    record[kind] = listed
                count[kind] += len(listed)
            file.write(json_line(record))
            count["samples"] += 1
        for n, vote in enumerate(rows(db, "SELECT * FROM preferences ORDER BY seq"), 1):
            file.write(json_line({"preference": {"n": n, **_present(vote, votes.COLUMNS)}}))
            count["preferences"] += 1
    return dict(count)


def _portable(event: dict[str, Any], features: bool) -> dict[str, Any]:
    """A score event without empty texts, its hidden states as base64 or left out."""
    if event["features"] is not None:
        event["features"] = base64.b64encode(event["features"]).decode() if features else None
    return {name: None if value == "" else value for name, value in readable(event).items()}


# -- import


def import_labels(
    store: Store,
    path: str | Path,
    images_dir: str | Path | None = None,
    dry_run: bool = False,
    *,
    units: Units,
) -> dict[str, Any]:
    """Import a file of ``export_labels``; returns {runs, samples, events, submissions, remarks, gold, preferences,
    runs_known, ..., words_new, words_changed, changes}.

    ``words_new`` words had no label and get one, ``words_changed`` words get another one, and ``changes`` lists the first of
    both: {line, sample, word_index, word, before (the label, 0 to 9, or None), after}. With ``images_dir`` each sample's
    image must be there under its image_path and have its sha256. With ``dry_run`` everything is checked and counted, and
    nothing is kept. ``units``: each score and gold score must be of a scored word of its prompt, at its place.
    ImportRefused names line and reason.
    """
    path = Path(path)
    for alone in (False, False, True):  # another import, or an undo, may conflict with what was read
        with staging(store, path.name, alone) as stage:
            count = _read(stage, path, Path(images_dir) if images_dir else None, units)
            if dry_run or stage.write(strict=True):
                break
    return count


def _read(stage: Staging, path: Path, images: Path | None, units: Units) -> dict[str, Any]:
    """Read and check the whole file."""
    task = LabelImport(stage, images, units)
    with refused(path.name, lambda: task.number), open(path, "rb") as file:
        lines = records(file, path.name)
        _, header = next(lines)
        if header.get("format") != FORMAT:
            raise ValueError(f"not a file of labels: its first line should say {FORMAT}.")
        version = header.get("version")
        if isinstance(version, bool) or version not in READABLE:
            readable = f"{', '.join(str(v) for v in READABLE[:-1])} and {READABLE[-1]}"
            raise ValueError(
                f"its version is {checks.shown(version)}; this app reads the versions {readable}."
            )
        task.features, task.first = header.get("features") is True, version == 1
        for task.number, record in lines:
            task.line(record)
        return task.finish()


def _only(record: Any, names: Iterable[str], what: str) -> dict[str, Any]:
    """A JSON object with no other fields than these."""
    if not isinstance(record, dict):
        raise ValueError(f"{what} must be a JSON object, not {checks.shown(record)}.")
    checks.names(record, names, f"{what} has an unknown field {{0}}.")
    return record


def _numbered(record: dict[str, Any]) -> tuple[int, dict[str, Any]]:
    """The ``n`` of an entry, and its other fields."""
    n = checks.integer("n", record.get("n"), 1, 2**62)
    return n, {name: value for name, value in record.items() if name != "n"}


def _event(entry: dict[str, Any], sample: dict[str, Any]) -> dict[str, Any]:
    if entry.get("features") is not None:
        try:
            entry["features"] = base64.b64decode(entry["features"], validate=True)
        except (binascii.Error, TypeError, ValueError):
            raise ValueError("features must be base64.") from None
    return checked_score(entry, sample)


CHECKS = {"events": _event, "submissions": queue.checked_submission, "remarks": desk.checked_remark,
          "gold": gold.checked_gold}  # fmt: skip


class LabelImport:
    """An import of labels: ``line`` for each line in order, then ``finish``."""

    features = True  # the file has hidden states
    first = False  # it has version 1, without remarks, gold and preferences
    number = 1  # the current line, for error messages

    def __init__(self, stage: Staging, images: Path | None, units: Units) -> None:
        self.stage, self.db, self.images, self.units = stage, stage.db, images, units
        self.count: Counter[str] = Counter()
        for name in ("runs", "samples", *LISTS, "preferences"):
            self.count[name] = self.count[f"{name}_known"] = 0
        for table in (
            "lines (sample PRIMARY KEY, line, labelled)",
            "waiting (kind, n, line, entry, PRIMARY KEY (kind, n, line, entry))",
            "labelled (sample, word_index, before, PRIMARY KEY (sample, word_index))",
        ):
            self.db.execute(f"CREATE TEMP TABLE {table} WITHOUT ROWID")

    def line(self, record: dict[str, Any]) -> None:
        """Stage a run or a sample; the events of a sample, and votes, are checked and wait for ``finish``."""
        if "run" in record:
            self._run(_only(_only(record, ["run"], "a line")["run"], RUN, "a run"))
            return
        if "preference" in record and not self.first:
            vote = _only(record, ["preference"], "a line")["preference"]
            n, entry = _numbered(_only(vote, ("n", *votes.COLUMNS), "a preference"))
            self._wait("preferences", n, votes.checked_preference(entry))
            return
        kinds = {kind: LISTS[kind] for kind in ("events", "submissions")} if self.first else LISTS
        _only(record, ("sample", *kinds), "a line")
        sample = checked_sample(checks.complete(_only(record.get("sample"), COLUMNS, "a sample")))
        place = (sample["id"], self.number, bool(record.get("events") or record.get("gold")))
        if not self.db.execute("INSERT OR IGNORE INTO lines VALUES (?, ?, ?)", place).rowcount:
            raise ValueError(f"the sample {sample['id']} is in the file twice.")
        self.stage.pull(sample["id"])
        if sample["projector_run"] is not None:
            self.stage.pull_run(sample["projector_run"])
        self._sample(sample)
        units = self.units(sample)
        for kind, names in kinds.items():
            entries = record.get(kind, [])
            if not isinstance(entries, list):
                raise ValueError(f"{kind} must be a list, not {checks.shown(entries)}.")
            allowed = ["n", *(name for name in names if name != "sample")]
            for entry in entries:
                n, given = _numbered(_only(entry, allowed, f"one of {kind}"))
                checked = CHECKS[kind](given, sample)
                if "word_index" in checked:
                    need_unit(sample, units, checked["word_index"], checked["word"])
                self._wait(kind, n, checked)

    def _wait(self, kind: str, n: int, entry: dict[str, Any]) -> None:
        sql = "INSERT INTO waiting VALUES (?, ?, ?, ?)"
        self.db.execute(sql, (kind, n, self.number, pickle.dumps(entry)))

    def finish(self) -> dict[str, Any]:
        """Stage the waiting entries in the order in which they came to be; returns the counts and the changes."""
        for ids in self._labelled():
            before = [(*place, round(expected(label), 4)) for place, label in labels_of(self.db, ids).items()]
            self.db.conn.executemany("INSERT INTO labelled VALUES (?, ?, ?)", before)
        for kind in (*LISTS, "preferences"):
            waiting = self.db.execute("SELECT line, entry FROM waiting WHERE kind = ? ORDER BY n", (kind,))
            for self.number, packed in waiting:
                self._store(kind, pickle.loads(packed))
        return {**self.count, **self._changes()}

    def _labelled(self) -> Iterator[list[str]]:
        """Batches of the samples that have labels in the file, in order of its lines."""
        samples = self.db.execute("SELECT sample FROM lines WHERE labelled ORDER BY line")
        while ids := [id for (id,) in samples.fetchmany(20)]:
            yield ids

    def _changes(self) -> dict[str, Any]:
        """The words whose label is another one now, as one number from 0 to 9."""
        count = {"words_new": 0, "words_changed": 0}
        changes: list[dict[str, Any]] = []
        for ids in self._labelled():
            for (sample, index), label in labels_of(self.db, ids).items():
                sql = "SELECT before FROM labelled WHERE sample = ? AND word_index = ?"
                (before,) = self.db.execute(sql, (sample, index)).fetchone() or (None,)
                after = round(expected(label), 4)
                if before == after:
                    continue
                count["words_new" if before is None else "words_changed"] += 1
                if len(changes) < CHANGES:
                    (line,) = self.db.execute("SELECT line FROM lines WHERE sample = ?", (sample,)).fetchone()
                    word = {"line": line, "sample": sample, "word_index": index, "word": label["word"]}
                    changes.append({**word, "before": before, "after": after})
        return {**count, "changes": changes}

    def _run(self, given: dict[str, Any]) -> None:
        run = checked_run(given)
        check_shape(given)
        if run["state"] in ACTIVE:
            raise ValueError("a run from elsewhere cannot be running here.")
        for id in filter(None, (run["id"], run.get("parent"))):
            self.stage.pull_run(id)
        if self._is_known("runs", "runs", {"id": run["id"], **{n: run.get(n) for n in RUN_FIXED}}):
            return
        if run.get("parent") and not exists(self.db, "runs", run["parent"]):
            raise ValueError(f"the run's parent {run['parent']} is not in the file.")
        insert(self.db, "runs", run)

    def _sample(self, sample: dict[str, Any]) -> None:
        if self.images is not None and sample["image_path"] is not None:
            try:
                digest = sha256((self.images / sample["image_path"]).read_bytes()).hexdigest()
            except OSError:
                raise ValueError(f"the image {sample['image_path']} is not in the images' folder.") from None
            if digest != sample["image_sha256"]:
                raise ValueError(f"the image {sample['image_path']} is not the one that was scored.")
        if not self._is_known("samples", "samples", sample):
            insert_sample(self.db, sample)

    def _store(self, kind: str, entry: dict[str, Any]) -> None:
        """Stage a score event, submission, remark, gold score or preference."""
        table = TABLES.get(kind, kind)
        # entropy is computed, and its last bit may differ between machines
        skipped = ("entropy",) if self.features else ("entropy", "features")
        if self._is_known(kind, table, {name: value for name, value in entry.items() if name not in skipped}):
            return
        for side in votes.SIDES:
            if side in entry:
                self.stage.pull(entry[side])
                if not exists(self.db, "samples", entry[side]):
                    raise ValueError(f"{side} {entry[side]} is neither in the file nor in the store.")
        for name in ("supersedes", "undoes"):
            if entry.get(name) is not None:
                self._same_lane(name, entry) if kind == "events" else self._check_undone(entry)
        insert(self.db, table, entry)

    def _check_undone(self, entry: dict[str, Any]) -> None:
        """ValueError unless it undoes a submit or skip of the same person and sample, which is not undone yet."""
        sql = "SELECT 1 FROM submissions WHERE id = :undoes AND sample = :sample AND who = :who AND undoes IS NULL"
        if not row(self.db, sql, entry):
            raise ValueError(
                f"undoes names {entry['undoes']}, which is no earlier submit or skip of that person."
            )
        if row(self.db, "SELECT 1 FROM submissions WHERE who = :who AND undoes = :undoes", entry):
            raise ValueError(f"the submission {entry['undoes']} is undone twice.")

    def _same_lane(self, name: str, event: dict[str, Any]) -> None:
        if name == "undoes" and event["source"] not in PERSONAL:
            raise ValueError("only a correction can undo one.")
        other = row(self.db, "SELECT * FROM scores WHERE id = ?", (event[name],))
        lane = ("sample", "word_index", "source", "who")
        if not other or any(other[x] != event[x] for x in lane):
            raise ValueError(f"{name} names {event[name]}, which is no earlier event of the same word.")
        if name == "undoes" and row(self.db, "SELECT 1 FROM scores WHERE undoes = ?", (event[name],)):
            raise ValueError(f"the event {event[name]} is undone twice.")

    def _is_known(self, kind: str, table: str, given: Mapping[str, Any]) -> bool:
        """Whether the store has a row already, and count it; ValueError where it has another content there."""
        existing = row_of(self.db, table, given["id"])
        self.count[f"{kind}_known" if existing else kind] += 1
        if not existing:
            return False
        for name, value in given.items():
            if existing[name] != value:
                what = {"gold": "gold score"}.get(kind, kind.removesuffix("s"))
                raise ValueError(
                    f"the {what} {given['id']} is in the store with another {name} "
                    f"({checks.shown(existing[name])}, not {checks.shown(value)})."
                )
        return True
