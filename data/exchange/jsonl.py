"""Labels as JSONL, for other machines and other tools (issue: export and import, a round trip without loss).

The first line is a header. Then a line for each run that a sample refers to (without its checkpoint path,
which means nothing elsewhere), a line for each sample with all its score events, submissions, remarks and gold
scores, and a line for each preference between two of the samples. An event's ``n`` is its place among all events
of its sort in the file, so that undo and history work after an import as before it. Export, import into an empty
store, export: the same bytes. Leases, caches, names that browsers hold and the audit log stay where they are.

Version 2 added remarks, gold and preferences; a file of version 1 has none, and is read as it always was. Version 3
added the submits and skips that were taken back, version 4 the scores that a submit confirmed.

Import is all or nothing. What is there already is skipped; what is there with another content is refused.
"""

from __future__ import annotations

import base64
import itertools
import json
import os
import uuid
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

from sqlite_utils import Database

from data.exchange.intake import PARTS, PREFERENCE, RUN, Intake, parse
from data.exchange.staging import Staging, staging
from data.exchange.text import decoded
from data.store import Store, checks
from data.store.database import rows
from data.store.run_shape import fitting
from data.store.runs import ACTIVE
from data.store.samples import COLUMNS
from data.store.scores import FIELDS, Units

FORMAT, VERSION = "noise-projection-studio/labels", 4
READABLE = (1, 2, 3, 4)
LONGEST_LINE = 8 * 2**20  # bytes
MOST_VALUES = 150_000  # of a line


class ImportRefused(ValueError):
    """A line of the file (of a table without lines: a row) cannot be taken over; nothing was. ``line`` counts from 1."""

    def __init__(self, name: str, line: int, reason: str, what: str = "line") -> None:
        super().__init__(f"{name}, {what} {line}: {reason} Nothing was imported.")
        self.line = line


def json_line(record: Mapping[str, Any]) -> bytes:
    """A line of JSONL: UTF-8, no spaces, no NaN."""
    return json.dumps(record, ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode() + b"\n"


@contextmanager
def whole_file(path: str | Path) -> Iterator[BinaryIO]:
    """A file to write that takes its name when all of it is on the disk; an error leaves the older one."""
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
    """Number and object of each line that is not empty (the first must not be); ImportRefused where a line is none."""
    for number in itertools.count(1):
        raw = file.readline(LONGEST_LINE)
        if not raw and number > 1:
            return
        try:
            if len(raw) >= LONGEST_LINE:
                raise ValueError(f"the line is longer than {LONGEST_LINE} bytes.")
            if not raw:
                raise ValueError("the file is empty.")
            # each takes far more room in memory than here
            if sum(raw.count(sign) for sign in (b",", b"[", b"{")) > MOST_VALUES:
                raise ValueError(f"the line has more than {MOST_VALUES:,} values.")
            text = decoded(raw, first=number == 1)
            record = parse(text) if text.strip() or number == 1 else None
        except ValueError as error:
            raise ImportRefused(name, number, str(error)) from None
        if record is not None:
            yield number, record


def _kept(record: Mapping[str, Any], names: tuple[str, ...] | list[str]) -> dict[str, Any]:
    """The fields that have a value, in order."""
    return {name: record[name] for name in names if record[name] is not None}


# -- export


def _run_lines(db: Database) -> list[dict[str, Any]]:
    found = rows(
        db,
        """WITH RECURSIVE needed (id) AS (
            SELECT projector_run FROM samples WHERE projector_run IS NOT NULL
            UNION SELECT r.parent FROM runs r JOIN needed n ON r.id = n.id WHERE r.parent IS NOT NULL)
        SELECT * FROM runs WHERE id IN (SELECT id FROM needed) ORDER BY seq""",
    )
    for run in found:
        for name in ("config", "labels", "metrics"):
            run[name] = fitting(name, json.loads(run[name])) if run[name] is not None else None
        if run["state"] in ACTIVE:  # it does not run elsewhere
            run["state"] = "interrupted"
    return [_kept(run, RUN) for run in found]


def export_labels(store: Store, path: str | Path, features: bool = True) -> dict[str, int]:
    """Write the file whole or not at all; returns {runs, samples, events, submissions, remarks, gold, preferences}.

    ``features=False`` leaves out the scorer's hidden states, which are most of the bytes.
    """
    count: Counter[str] = Counter(runs=0, samples=0, events=0, **dict.fromkeys(PARTS, 0), preferences=0)
    with whole_file(path) as file, store.database.reading() as db:
        file.write(json_line({"format": FORMAT, "version": VERSION, "features": bool(features)}))
        for run in _run_lines(db):
            file.write(json_line({"run": run}))
            count["runs"] += 1
        ranks = {table: _ranks(db, table) for table in ("scores", *PARTS)}
        samples = db.execute(f"SELECT {', '.join(COLUMNS)} FROM samples ORDER BY seq")
        for values in samples:
            sample = dict(zip(COLUMNS, values))
            record = {"sample": _kept(sample, COLUMNS)}
            record["events"] = _events(db, sample["id"], ranks["scores"], features)
            for part, fields in PARTS.items():
                found = _part(db, part, fields, sample["id"], ranks[part])
                if found or part == "submissions":  # what version 1 had not is only there where there is some
                    record[part] = found
                count[part] += len(found)
            file.write(json_line(record))
            count["samples"] += 1
            count["events"] += len(record["events"])
        for n, vote in enumerate(rows(db, "SELECT * FROM preferences ORDER BY seq"), 1):
            file.write(json_line({"preference": {"n": n, **_kept(vote, PREFERENCE)}}))
            count["preferences"] += 1
    return dict(count)


def _part(
    db: Database, table: str, fields: tuple[str, ...], sample: str, ranks: Mapping[int, int]
) -> list[dict[str, Any]]:
    """A sample's rows of one of ``PARTS``, in order."""
    names = [name for name in fields if name != "sample"]
    found = rows(db, f"SELECT * FROM {table} WHERE sample = ? ORDER BY seq", (sample,))
    return [{"n": ranks[entry["seq"]], **_kept(entry, names)} for entry in found]


def _ranks(db: Database, table: str) -> dict[int, int]:
    """seq -> 1, 2, 3, ...: seq has gaps where events were refused or came from elsewhere."""
    return {seq: n for n, (seq,) in enumerate(db.execute(f"SELECT seq FROM {table} ORDER BY seq"), 1)}


def _events(db: Database, sample: str, ranks: Mapping[int, int], features: bool) -> list[dict[str, Any]]:
    result = []
    for event in rows(db, "SELECT * FROM scores WHERE sample = ? ORDER BY seq", (sample,)):
        if event["distribution"] is not None:
            event["distribution"] = json.loads(event["distribution"])
        if event["features"] is not None:
            event["features"] = base64.b64encode(event["features"]).decode() if features else None
        names = [name for name in FIELDS if name != "sample" and event[name] != ""]
        result.append({"n": ranks[event["seq"]], **_kept(event, names)})
    return result


# -- import


def import_labels(
    store: Store,
    path: str | Path,
    images_dir: str | Path | None = None,
    dry_run: bool = False,
    *,
    units: Units,
) -> dict[str, Any]:
    """Take over a file of ``export_labels``; returns {runs, samples, events, submissions, remarks, gold, preferences,
    runs_known, ..., words_new, words_changed, changes}.

    ``words_new`` had no label and get one, ``words_changed`` get another one, and ``changes`` are the first of both:
    {line, sample, word_index, word, before (the label, 0 to 9, or None), after}. With ``images_dir`` each sample's
    image must lie there under its image_path and have its sha256. With ``dry_run`` everything is checked and counted,
    and nothing is kept. ``units``: each score and gold score must be of a scored word of its prompt, at its place.
    ImportRefused names line and reason.
    """
    path = Path(path)
    for alone in (False, False, True):  # another import, or an undo, may make it another matter
        with staging(store, path.name, alone) as stage:
            count = _taken(stage, path, Path(images_dir) if images_dir else None, units)
            if dry_run or stage.write(strict=True):
                break
    return count


def _taken(stage: Staging, path: Path, images: Path | None, units: Units) -> dict[str, Any]:
    """Read and check the whole file."""
    number = 1
    task: Intake | None = None
    try:
        with open(path, "rb") as file:
            lines = records(file, path.name)
            _, header = next(lines)
            if header.get("format") != FORMAT:
                raise ValueError(f"not a file of labels: its first line should say {FORMAT}.")
            version = header.get("version")
            if isinstance(version, bool) or version not in READABLE:
                said = f"{', '.join(str(v) for v in READABLE[:-1])} and {READABLE[-1]}"
                raise ValueError(
                    f"its version is {checks.shown(version)}; this app reads the versions {said}."
                )
            task = Intake(stage, images, header.get("features") is True, units, first=version == 1)
            for number, record in lines:
                task.line(number, record)
            number = 0
            return task.finish()
    except ImportRefused:
        raise
    except OSError as error:
        raise ValueError(f"{path.name} cannot be read ({error.strerror}); check its name.") from None
    except ValueError as error:
        line = number or (task.number if task else 1)
        raise ImportRefused(path.name, line, str(error)) from None
