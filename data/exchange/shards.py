"""Shards: what a process that must not write the store has finished, as files that another takes over.

A file is one batch, {samples, events, missing} as `add_samples`, `add_scores` and `add_missing` take them, each row with
the id and time that it keeps. It is written whole or not at all (by its writer) and taken over whole or not at all; what
is there already is left as it is, so taking a file over twice is the same as once.
"""

from __future__ import annotations

import base64
import binascii
import json
import operator
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from data.exchange.intake import parse
from data.store import Store, checks
from data.store.database import insert, new_id, now, row
from data.store.missing import checked_note
from data.store.samples import checked_sample, insert_sample, need_sample
from data.store.scores import PERSONAL, checked_event, insert_event, need_word, refresh_figures

Rows = list[dict[str, Any]]


@dataclass
class Batch:
    """Checked rows."""

    samples: Rows = field(default_factory=list)
    events: Rows = field(default_factory=list)
    missing: Rows = field(default_factory=list)

    def ids(self) -> set[str]:
        """The samples that it says something of."""
        return {s["id"] for s in self.samples} | {e["sample"] for e in self.events + self.missing}


def written(kind: str, rows: Iterable[Mapping[str, Any]]) -> bytes:
    """The file of a batch of one kind of rows: samples, events or missing."""
    keeps = {"created": now()} if kind == "missing" else {"id": None, "created": now()}
    found = [{**keeps, **r} for r in rows]
    for r in found:
        if "id" in r:
            r["id"] = r["id"] or new_id()
        if r.get("features") is not None:
            r["features"] = base64.b64encode(r["features"]).decode()
    return json.dumps({kind: found}, allow_nan=False, default=operator.index).encode()


def read(path: Path) -> Batch:
    """A batch, checked; ValueError where the file cannot be taken over."""
    try:
        given = parse(path.read_text(encoding="utf-8"))
        for event in given.get("events", []):
            if event.get("features") is not None:
                event["features"] = base64.b64decode(event["features"], validate=True)
        return Batch(
            [checked_sample(s) for s in given.get("samples", [])],
            [checked_event(e) for e in given.get("events", [])],
            [checked_note(m) for m in given.get("missing", [])],
        )
    except (ValueError, TypeError, AttributeError, binascii.Error) as error:
        raise ValueError(
            f"The shard {path.name} cannot be read ({checks.shown(str(error))}): delete it, and what it held is made again."
        ) from None


def take_over(store: Store, batch: Batch) -> None:
    """Write what is not there yet: all of it or nothing."""
    with store.database.writing() as db:
        for sample in batch.samples:
            if not row(db, "SELECT 1 FROM samples WHERE id = ?", (sample["id"],)):
                insert_sample(db, sample)
        for event in batch.events:
            need_word(need_sample(db, event["sample"]), event["word_index"], event["word"])
            if not row(db, "SELECT 1 FROM scores WHERE id = ?", (event["id"],)):
                insert_event(db, event)
        for note in batch.missing:
            need_word(need_sample(db, note["sample"]), note["word_index"])
            same = (note["sample"], note["word_index"], note["scorer_version"], note["created"])
            if not row(
                db,
                "SELECT 1 FROM missing WHERE sample = ? AND word_index = ? AND scorer_version = ? AND created = ?",
                same,
            ):
                insert(db, "missing", note)
        refresh_figures(db, {e["sample"] for e in batch.events if e["source"] not in PERSONAL})
