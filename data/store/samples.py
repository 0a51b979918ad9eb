"""Samples: one image each, with everything that is needed to make it again.

A sample is written once, before it is shown, and never changes.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from functools import partial
from typing import Any

from sqlite_utils import Database

from data.store import checks
from data.store.checks import choice, maybe, words
from data.store.database import Records, exists, insert, need, new_id, now
from data.store.schema import SPLITS

LORA_WEIGHT = 10.0  # of a LoRA file, at most
IMAGES = (".png", ".jpg", ".jpeg", ".webp")
# word_rules: as every sample was counted before rules had numbers
DEFAULTS = {"prompt_set": "", "split": "train", "backbone_revision": "", "sampler": "", "method": "none", "strength": 0.0,
            "word_rules": 1, "negative": "", "weighted": "", "loras": "[]"}  # fmt: skip
NEEDED = ("prompt", "n_words", "seed", "backbone", "width", "height", "steps", "guidance")
EQUALS = (
    "prompt prompt_set split seed backbone backbone_revision method projector_run group_id noise_sha256 "
    "sampler"
).split()


def _side(name: str, value: Any) -> int:
    side = checks.integer(name, value, 8, 8192)
    if side % 8:
        raise ValueError(f"{name} must be a multiple of 8, not {side}.")
    return side


def _image_path(name: str, value: Any) -> str:
    path = checks.relative_path(name, value)
    if not path.lower().endswith(IMAGES):  # this file is shown to everybody
        raise ValueError(f"{name} must name an image ({', '.join(IMAGES)}): {checks.shown(path)}.")
    return path


def _loras(name: str, value: Any) -> str:
    """A JSON list of LoRA files {name, sha256, weight}, in one spelling."""
    try:
        files = json.loads(checks.text(name, value, 4000))
    except (ValueError, RecursionError):
        files = None
    if not isinstance(files, list) or not all(isinstance(file, dict) for file in files):
        raise ValueError(
            f"{name} must be a JSON list of {{name, sha256, weight}}, not {checks.shown(value)}."
        )
    for file in files:
        checks.names(file, LORA, f"A file of {name} has no field {{0}}; it has {{1}}.")
    checked = [{key: shape(f"{name}.{key}", file.get(key)) for key, shape in LORA.items()} for file in files]
    return checks.as_json(name, checked)


LORA: dict[str, checks.Shape] = {
    "name": partial(checks.text, longest=200), "sha256": checks.sha256,
    "weight": partial(checks.number, low=-LORA_WEIGHT, high=LORA_WEIGHT),
}  # fmt: skip
SHAPES: dict[str, checks.Shape] = {
    "id": checks.identifier, "prompt": partial(checks.text, longest=checks.PROMPT_LENGTH), "prompt_set": words(),
    "split": choice(*SPLITS), "n_words": partial(checks.integer, low=0, high=1000),
    "word_rules": partial(checks.integer, low=1, high=1000),
    "seed": partial(checks.integer, low=0, high=checks.SEED_LIMIT - 1),
    "backbone": partial(checks.text, longest=200), "backbone_revision": words(200),
    "width": _side, "height": _side, "steps": partial(checks.integer, low=1, high=10000),
    "guidance": partial(checks.number, low=0, high=1000), "sampler": words(), "method": checks.text,
    "strength": partial(checks.number, low=0, high=1), "projector_run": maybe(checks.identifier),
    "image_path": maybe(_image_path), "image_sha256": maybe(checks.sha256), "noise_sha256": maybe(checks.sha256),
    "group_id": maybe(checks.identifier), "created": checks.time, "negative": words(checks.PROMPT_LENGTH),
    "weighted": words(checks.PROMPT_LENGTH), "loras": _loras,
}  # fmt: skip
COLUMNS = list(SHAPES)


def checked_sample(given: Mapping[str, Any]) -> dict[str, Any]:
    """The whole row, in the order of ``COLUMNS``; ValueError names the field that is wrong."""
    checks.names(given, COLUMNS, "A sample has no field {0}; it has {1}.")
    for name in NEEDED:
        if given.get(name) is None:
            raise ValueError(f"A sample needs its {name}.")
    return checks.columns({"id": new_id(), "created": now(), **DEFAULTS, **given}, SHAPES)


def sample_filter(filters: Mapping[str, Any]) -> tuple[str, list[Any]]:
    """SQL and values for the filters of ``Samples.find``, on a table called ``s``; a list means any of them."""
    clauses, values = ["1"], []
    for name, wanted in filters.items():
        if wanted is None:
            continue
        if name == "scored":  # by the VLM
            has = "EXISTS (SELECT 1 FROM scores x WHERE x.sample = s.id AND x.source = 'vlm')"
            clauses.append(has if wanted else f"NOT {has}")
        elif name == "scorer_version":  # not yet scored by this one
            for table in ("scores", "missing"):
                has = f"EXISTS (SELECT 1 FROM {table} x WHERE x.sample = s.id AND x.scorer_version = ?)"
                clauses.append(f"NOT {has}")
            values += [checks.text(name, wanted, 200)] * 2
        elif name in ("ids", *EQUALS):
            options = wanted if isinstance(wanted, (list, tuple, set, frozenset)) else [wanted]
            check = SHAPES["seed"] if name == "seed" else words(checks.PROMPT_LENGTH)
            checked = [check(name, option) for option in options]
            clauses.append(f"s.{'id' if name == 'ids' else name} IN (SELECT value FROM json_each(?))")
            values.append(checks.as_json(name, checked))
        else:
            known = ", ".join(("ids", *EQUALS, "scored", "scorer_version"))
            raise ValueError(f"Samples cannot be filtered by {checks.shown(name)}; choose from {known}.")
    return " AND ".join(clauses), values


def named_filter(filters: Mapping[str, Any], name: str) -> tuple[str, dict[str, Any]]:
    """``sample_filter`` with named values, whose names start with ``name``."""
    where, given = sample_filter(filters)
    values = {f"{name}{i}": value for i, value in enumerate(given)}
    for key in values:
        where = where.replace("?", f":{key}", 1)
    return where, values


def need_sample(db: Database, id: Any) -> dict[str, Any]:
    """All columns of a sample; ValueError where there is none."""
    return need(db, "samples", id)


def insert_sample(db: Database, record: dict[str, Any]) -> None:
    """Insert a checked row; ValueError where it exists already, or its projector run does not."""
    if exists(db, "samples", record["id"]):
        raise ValueError(f"The sample {record['id']} is stored already; samples never change.")
    run = record["projector_run"]
    if run is not None and not exists(db, "runs", run):
        raise ValueError(f"The sample's projector_run {run} is no run of this store; add the run first.")
    insert(db, "samples", record)


class Samples(Records):
    def add(self, samples: Iterable[Mapping[str, Any]]) -> list[str]:
        """Write all samples or none; returns their ids in order (made up where none are given).

        A sample needs prompt, n_words (all words of the prompt, scored or not, and *nothing else*), seed, backbone, width,
        height, steps and guidance; the rest of ``COLUMNS`` is optional. word_rules: the version of the rules by which the
        words were counted.
        """
        records = [checked_sample(s) for s in samples]
        with self.database.writing() as db:
            for record in records:
                insert_sample(db, record)
        return [r["id"] for r in records]

    def get(self, id: str) -> dict[str, Any]:
        """All columns of one sample; ValueError where there is none."""
        with self.database.reading() as db:
            return need_sample(db, id)

    def find(
        self, *, limit: int = 100, offset: int = 0, newest: bool = True, **filters: Any
    ) -> list[dict[str, Any]]:
        """Samples in order of arrival. Filters: ids and the columns in ``EQUALS`` (a value or a list), scored (by the VLM:
        True/False), scorer_version (samples that this version has not scored)."""
        where, values = sample_filter(filters)
        values += [checks.integer("limit", limit, 0, 10_000_000), checks.integer("offset", offset, 0, 2**62)]
        sql = f"SELECT * FROM samples s WHERE {where} ORDER BY s.seq {'DESC' if newest else 'ASC'} LIMIT ? OFFSET ?"
        return self.rows(sql, values)

    def count(self, **filters: Any) -> int:
        """Number of samples that pass the filters of ``find``."""
        where, values = sample_filter(filters)
        if filters == {"scored": True}:  # each has an uncertainty: quicker than a look-up per sample
            return self.value("SELECT count(*) FROM uncertainty")
        return self.value(f"SELECT count(*) FROM samples s WHERE {where}", values)
