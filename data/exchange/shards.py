"""Shards: results of a process that must not write the store, as files that another process imports.

A file is one batch, {samples, events, missing} as ``Samples.add``, ``Scores.add`` and ``Missing.add`` take them, each row with
its final id and time. It is written, by its writer, and imported whole or not at all; existing rows are left as they are, so
importing a file twice changes nothing.
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

from data.exchange.jsonl import parse
from data.store import Store, checks
from data.store.database import exists, insert, new_id, now, row
from data.store.samples import checked_sample, insert_sample, need_sample
from data.store.scores import PERSONAL, checked_event, checked_note, insert_event, need_word, refresh_figures

Rows = list[dict[str, Any]]


@dataclass
class Batch:
    """Checked rows."""

    samples: Rows = field(default_factory=list)
    events: Rows = field(default_factory=list)
    missing: Rows = field(default_factory=list)

    def ids(self) -> set[str]:
        """The samples that the batch is about."""
        return {s["id"] for s in self.samples} | {e["sample"] for e in self.events + self.missing}


def written(kind: str, rows: Iterable[Mapping[str, Any]]) -> bytes:
    """The file of a batch of one kind of rows: samples, events or missing."""
    keeps = {"created": now()} if kind == "missing" else {"id": None, "created": now()}
    batch = [{**keeps, **r} for r in rows]
    for r in batch:
        if "id" in r:
            r["id"] = r["id"] or new_id()
        if r.get("features") is not None:
            r["features"] = base64.b64encode(r["features"]).decode()
    return json.dumps({kind: batch}, allow_nan=False, default=operator.index).encode()


def read(path: Path) -> Batch:
    """A checked batch; ValueError where the file cannot be imported."""
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
    """Write the rows that do not exist yet, all of them or none."""
    with store.database.writing() as db:
        for sample in batch.samples:
            if not exists(db, "samples", sample["id"]):
                insert_sample(db, sample)
        for event in batch.events:
            need_word(need_sample(db, event["sample"]), event["word_index"], event["word"])
            if not exists(db, "scores", event["id"]):
                insert_event(db, event)
        for note in batch.missing:
            need_word(need_sample(db, note["sample"]), note["word_index"])
            same = """SELECT 1 FROM missing WHERE sample = :sample AND word_index = :word_index
                AND scorer_version = :scorer_version AND created = :created"""
            if not row(db, same, note):
                insert(db, "missing", note)
        refresh_figures(db, {e["sample"] for e in batch.events if e["source"] not in PERSONAL})
