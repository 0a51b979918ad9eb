"""What an import checks and stores: one ``Intake`` is one import, beside the store (``data.exchange.staging``).

The lines come from elsewhere, so nothing in them is trusted: every field goes through the same checks as a
value from the page, and what a row points at must be there. The file format is in ``data/exchange/jsonl.py``.
"""

from __future__ import annotations

import base64
import binascii
import json
import pickle
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any

from data.exchange.staging import Staging, rows_of
from data.store import checks, run_shape
from data.store.database import insert, row
from data.store.labels import expected
from data.store.library import labels_of
from data.store.row_checks import (
    SIDES,
    checked_gold,
    checked_preference,
    checked_remark,
    checked_run,
    checked_score,
    checked_submission,
    complete,
)
from data.store.runs import ACTIVE
from data.store.samples import COLUMNS, checked_sample, insert_sample
from data.store.scores import FIELDS, PERSONAL, Units, need_unit

RUN = ("id", "kind", "config", "parent", "labels", "metrics", "checkpoint_sha256", "state", "message",
       "created", "finished")  # fmt: skip
RUN_FIXED = ("kind", "config", "parent", "created")
SUBMISSION = ("id", "sample", "who", "kind", "undoes", "created")
REMARK = ("id", "sample", "who", "kind", "text", "created")
GOLD = ("id", "sample", "word_index", "word", "score", "who", "created")
PREFERENCE = ("id", *SIDES, "choice", "who", "created")
PARTS = {"submissions": SUBMISSION, "remarks": REMARK, "gold": GOLD}  # of a sample, beside its events
CHANGES = 1000  # changed words that are listed; all are counted


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is no JSON number.")


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) != len(pairs):
        raise ValueError("a field is there twice.")
    return result


def parse(text: str) -> dict[str, Any]:
    try:
        record = json.loads(text, parse_constant=_no_constant, object_pairs_hook=_unique)
    except json.JSONDecodeError as error:
        raise ValueError(f"not JSON ({error.msg} at character {error.pos + 1}).") from None
    except RecursionError:
        raise ValueError("JSON that is nested too deep.") from None
    if not isinstance(record, dict):
        raise ValueError("a line must be a JSON object.")
    return record


def _only(record: Any, names: Sequence[str], what: str) -> dict[str, Any]:
    if not isinstance(record, dict):
        raise ValueError(f"{what} must be a JSON object, not {checks.shown(record)}.")
    unknown = sorted(set(record) - set(names))
    if unknown:
        raise ValueError(f"{what} has an unknown field {checks.shown(unknown[0])}.")
    return record


class Intake:
    """One import: ``line`` for each line in order, then ``finish``."""

    def __init__(
        self, stage: Staging, images: Path | None, features: bool, units: Units, first: bool = False
    ) -> None:
        """first: the file is of version 1, which had neither remarks nor gold nor preferences."""
        self.stage, self.db, self.images, self.features, self.first = stage, stage.db, images, features, first
        self._units_of, self._units = units, ()
        self.number = 1  # the line that is being taken over, for the error message
        self.count: Counter[str] = Counter()
        for name in ("runs", "samples", "events", *PARTS, "preferences"):
            self.count[name] = self.count[f"{name}_known"] = 0
        self.db.execute("CREATE TEMP TABLE lines (sample PRIMARY KEY, line, told) WITHOUT ROWID")
        self.db.execute(
            "CREATE TEMP TABLE waiting (kind, n, line, entry, PRIMARY KEY (kind, n, line, entry)) WITHOUT ROWID"
        )
        self.db.execute(
            "CREATE TEMP TABLE told (sample, word_index, before, PRIMARY KEY (sample, word_index)) WITHOUT ROWID"
        )

    def line(self, number: int, record: dict[str, Any]) -> None:
        """Store a run or a sample; the sample's events are checked and wait for ``finish``."""
        self.number = number
        if "run" in record:
            self.run(_only(_only(record, ["run"], "a line")["run"], RUN, "a run"))
            return
        if "preference" in record and not self.first:
            entry = dict(
                _only(
                    _only(record, ["preference"], "a line")["preference"], ("n", *PREFERENCE), "a preference"
                )
            )
            n = checks.integer("n", entry.pop("n", None), 1, 2**62)
            self._wait("preferences", n, checked_preference(entry))
            return
        kinds = {"events": FIELDS, "submissions": SUBMISSION} if self.first else {"events": FIELDS, **PARTS}
        _only(record, ("sample", *kinds), "a line")
        sample = checked_sample(complete(_only(record.get("sample"), COLUMNS, "a sample")))
        place = (sample["id"], number, bool(record.get("events") or record.get("gold")))
        if not self.db.execute("INSERT OR IGNORE INTO lines VALUES (?, ?, ?)", place).rowcount:
            raise ValueError(f"the sample {sample['id']} is in the file twice.")
        self.stage.pull(sample["id"])
        if sample["projector_run"] is not None:
            self.stage.pull_run(sample["projector_run"])
        self.sample(sample)
        self._units = self._units_of(sample)
        make = {
            "events": self.event,
            "submissions": checked_submission,
            "remarks": checked_remark,
            "gold": self.gold,
        }
        for kind, names in kinds.items():
            entries = record.get(kind, [])
            if not isinstance(entries, list):
                raise ValueError(f"{kind} must be a list, not {checks.shown(entries)}.")
            allowed = ["n", *(name for name in names if name != "sample")]
            for entry in entries:
                entry = dict(_only(entry, allowed, f"one of {kind}"))
                n = checks.integer("n", entry.pop("n", None), 1, 2**62)
                self._wait(kind, n, make[kind](entry, sample))

    def _wait(self, kind: str, n: int, entry: dict[str, Any]) -> None:
        self.db.execute(
            "INSERT INTO waiting VALUES (?, ?, ?, ?)", (kind, n, self.number, pickle.dumps(entry))
        )

    def finish(self) -> dict[str, Any]:
        """Take in the events of all lines in the order in which they came to be; returns the counts and the changes."""
        for ids in self._told():
            before = [(*place, round(expected(label), 4)) for place, label in labels_of(self.db, ids).items()]
            self.db.conn.executemany("INSERT INTO told VALUES (?, ?, ?)", before)
        for kind in ("events", *PARTS, "preferences"):
            waiting = self.db.execute("SELECT line, entry FROM waiting WHERE kind = ? ORDER BY n", (kind,))
            for self.number, packed in waiting:
                entry = pickle.loads(packed)
                self.store_event(entry) if kind == "events" else self.store_part(kind, entry)
        return {**self.count, **self._changes()}

    def _told(self) -> Iterator[list[str]]:
        """The samples of the file that it says something of, some at a time, in the order of its lines."""
        found = self.db.execute("SELECT sample FROM lines WHERE told ORDER BY line")
        while ids := [id for (id,) in found.fetchmany(20)]:
            yield ids

    def _changes(self) -> dict[str, Any]:
        """Which words have another label now, as one number from 0 to 9."""
        new, changed, changes = 0, 0, []
        for ids in self._told():
            for (sample, index), label in labels_of(self.db, ids).items():
                place, after = (sample, index), round(expected(label), 4)
                found = self.db.execute(
                    "SELECT before FROM told WHERE sample = ? AND word_index = ?", place
                ).fetchone()
                before = found and found[0]
                if before == after:
                    continue
                new += before is None
                changed += before is not None
                if len(changes) < CHANGES:
                    (line,) = self.db.execute("SELECT line FROM lines WHERE sample = ?", (sample,)).fetchone()
                    changes.append(
                        {"line": line, "sample": sample, "word_index": index, "word": label["word"],
                         "before": before, "after": after}
                    )  # fmt: skip
        return {"words_new": new, "words_changed": changed, "changes": changes}

    def run(self, given: dict[str, Any]) -> None:
        run = checked_run(given)
        run_shape.check(given)
        if run["state"] in ACTIVE:
            raise ValueError("a run from elsewhere cannot be running here.")
        for id in filter(None, (run["id"], run.get("parent"))):
            self.stage.pull_run(id)
        there = rows_of(self.db, "runs", run["id"])
        if there:
            self._same("run", run["id"], {n: run.get(n) for n in RUN_FIXED}, there)
            self.count["runs_known"] += 1
            return
        if run.get("parent") and not row(self.db, "SELECT 1 FROM runs WHERE id = ?", (run["parent"],)):
            raise ValueError(f"the run's parent {run['parent']} is not in the file.")
        insert(self.db, "runs", run)
        self.count["runs"] += 1

    def sample(self, sample: dict[str, Any]) -> None:
        if self.images is not None and sample["image_path"] is not None:
            try:
                found = sha256((self.images / sample["image_path"]).read_bytes()).hexdigest()
            except OSError:
                raise ValueError(f"the image {sample['image_path']} is not in the images' folder.") from None
            if found != sample["image_sha256"]:
                raise ValueError(f"the image {sample['image_path']} is not the one that was scored.")
        there = rows_of(self.db, "samples", sample["id"])
        if there:
            self._same("sample", sample["id"], sample, there)
            self.count["samples_known"] += 1
        else:
            insert_sample(self.db, sample)
            self.count["samples"] += 1

    def event(self, entry: dict[str, Any], sample: dict[str, Any]) -> dict[str, Any]:
        if entry.get("features") is not None:
            try:
                entry["features"] = base64.b64decode(entry["features"], validate=True)
            except (binascii.Error, TypeError, ValueError):
                raise ValueError("features must be base64.") from None
        return self._of_a_word(checked_score(entry, sample), sample)

    def gold(self, entry: dict[str, Any], sample: dict[str, Any]) -> dict[str, Any]:
        return self._of_a_word(checked_gold(entry, sample), sample)

    def _of_a_word(self, entry: dict[str, Any], sample: dict[str, Any]) -> dict[str, Any]:
        need_unit(sample, self._units, entry["word_index"], entry["word"])
        return entry

    def store_event(self, event: dict[str, Any]) -> None:
        there = rows_of(self.db, "scores", event["id"])
        if there:
            apart = () if self.features else ("features",)
            # entropy is derived, and its last bit may differ between two machines' logarithms
            given = {k: v for k, v in event.items() if k not in ("entropy", *apart)}
            self._same("event", event["id"], given, there)
            self.count["events_known"] += 1
            return
        for name in ("supersedes", "undoes"):
            self._same_lane(name, event)
        insert(self.db, "scores", event)
        self.count["events"] += 1

    def store_part(self, kind: str, entry: dict[str, Any]) -> None:
        """One of submissions, remarks, gold or preferences."""
        there = rows_of(self.db, kind, entry["id"])
        if there:
            self._same({"gold": "gold score"}.get(kind, kind.removesuffix("s")), entry["id"], entry, there)
            self.count[f"{kind}_known"] += 1
            return
        for name in SIDES:
            if name in entry:
                self.stage.pull(entry[name])
            if name in entry and not row(self.db, "SELECT 1 FROM samples WHERE id = ?", (entry[name],)):
                raise ValueError(f"{name} {entry[name]} is neither in the file nor in the store.")
        if entry.get("undoes") is not None:
            self._left_before(entry)
        insert(self.db, kind, entry)
        self.count[kind] += 1

    def _left_before(self, entry: dict[str, Any]) -> None:
        """What is taken back is a submit or skip of the same person and sample, and is taken back once."""
        found = row(
            self.db,
            "SELECT 1 FROM submissions WHERE id = :undoes AND sample = :sample AND who = :who AND undoes IS NULL",
            entry,
        )
        if not found:
            raise ValueError(
                f"undoes names {entry['undoes']}, which is no earlier submit or skip of that person."
            )
        taken = "SELECT 1 FROM submissions WHERE who = :who AND undoes = :undoes"
        if row(self.db, taken, entry):
            raise ValueError(f"the submission {entry['undoes']} is undone twice.")

    def _same_lane(self, name: str, event: dict[str, Any]) -> None:
        if event[name] is None:
            return
        if name == "undoes" and event["source"] not in PERSONAL:
            raise ValueError("only a correction can undo one.")
        other = row(self.db, "SELECT * FROM scores WHERE id = ?", (event[name],))
        lane = ("sample", "word_index", "source", "who")
        if not other or any(other[x] != event[x] for x in lane):
            raise ValueError(f"{name} names {event[name]}, which is no earlier event of the same word.")
        if name == "undoes" and row(self.db, "SELECT 1 FROM scores WHERE undoes = ?", (event[name],)):
            raise ValueError(f"the event {event[name]} is undone twice.")

    def _same(self, what: str, id: str, given: Mapping[str, Any], there: Mapping[str, Any]) -> None:
        for name, value in given.items():
            if there[name] != value:
                raise ValueError(
                    f"the {what} {id} is in the store with another {name} "
                    f"({checks.shown(there[name])}, not {checks.shown(value)})."
                )
