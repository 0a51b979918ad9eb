"""Training runs, and which of them is in use.

A run's identity (kind, configuration, parent) never changes; its state, progress and result do. The run in use follows from
``promotions``, a log of events: promote pushes a run onto the stack of its kind, rollback pops one, and an empty stack
means the model that the project ships. A run whose files were deleted is archived, and a rollback skips it.

Pages and commands read some fields of a run's config, labels and metrics, whose shape is in ``SHAPES``; all else in them
is free. An imported run must have this shape; in runs of the store, fields that do not fit are left out where they are read.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from sqlite_utils import Database

from data.store import checks
from data.store.checks import any_text, choice, count, each, figure, flag, items, maybe, record, relative_path
from data.store.database import Records, StoreError, exists, insert, need, new_id, now, row, rows
from data.store.schema import RUN_KINDS, RUN_STATES

JSON = ("config", "labels", "metrics")
CHANGEABLE = ("state", "metrics", "message", "checkpoint", "checkpoint_sha256", "labels", "pid", "heartbeat",
              "finished")  # fmt: skip
ACTIVE = ("queued", "running")
PROMOTABLE = ("reward", "projector", "calibrator", "warmup", "cycle", "lora")

INTERVAL = record({"estimate": maybe(figure), "low": maybe(figure), "high": maybe(figure)})
INTERVALS = each(INTERVAL)
CHANGED = record(
    {"prompt": any_text, "seed": count, "whole": flag, "before": relative_path, "after": relative_path}
)
SEEDS = record({"broken": count, "mended": count, "spoiled": count}, {"shown": items(CHANGED)})
HELDOUT = record(
    {"of": any_text, "judge": any_text, "independent": flag, "key": any_text, "base": any_text,
     "difference": each(INTERVAL, "words"), "after": INTERVALS},
    {"against_none": INTERVALS, "none": INTERVALS, "before": INTERVALS, "prompts": count, "images": count,
     "seeds": maybe(SEEDS)},
)  # fmt: skip
FORESEEN = record({"before": figure, "after": figure})
PEARSON = record({}, dict.fromkeys(("pearson_within", "finished_pearson_within"), maybe(figure)))
READER = record({}, {"metrics": maybe(PEARSON)})
PARTS = record({}, {"foresight": maybe(record({}, {"foreseen": maybe(FORESEEN)})), "reader": maybe(READER)})
SHAPES: dict[str, dict[str, checks.Shape]] = {
    "config": {"used": maybe(each(maybe(any_text))), "cycle": any_text, "source": any_text, "name": any_text},
    "labels": {"sources": each(count), "count": count, "last": count, "sha256": any_text, "rule": maybe(any_text)},
    "metrics": {
        "heldout": maybe(HELDOUT), "note": maybe(any_text), "calibrator": maybe(record({}, {"note": maybe(any_text)})),
        "left_out": maybe(each(count)), "kinds": items(any_text), "use": flag, "chosen_by": maybe(any_text),
        "parts": maybe(PARTS), "reward": maybe(record({}, {"parts": maybe(PARTS), "chosen_by": maybe(any_text)})),
    },
}  # fmt: skip


class RunBusy(StoreError):
    """Another run is active; ``run`` is its id."""

    def __init__(self, run: str, kind: str) -> None:
        super().__init__(f"A {kind} run ({run}) is on. Wait for it or stop it, then start this one.")
        self.run = run


def check_shape(run: Mapping[str, Any]) -> None:
    """ValueError that names the first field of a run that has another shape."""
    for column, shapes in SHAPES.items():
        for field, shape in shapes.items():
            if field in (run.get(column) or {}):
                shape(f"{column}.{field}", run[column][field])


def _as_json(name: str, value: Any) -> str:
    if not isinstance(value, Mapping):
        raise ValueError(f"A run's {name} must be a dict, not {checks.shown(value)}.")
    return checks.as_json(name, value)


COLUMNS: dict[str, checks.Shape] = {
    "id": checks.run_id, "kind": choice(*RUN_KINDS), "config": _as_json, "parent": maybe(checks.run_id),
    "labels": maybe(_as_json), "metrics": maybe(_as_json), "checkpoint": maybe(partial(checks.text, longest=500)),
    "checkpoint_sha256": maybe(checks.sha256), "state": choice(*RUN_STATES),
    "pid": maybe(partial(checks.integer, low=1, high=2**31 - 1)), "heartbeat": maybe(checks.time),
    "message": checks.words(2000), "created": checks.time, "finished": maybe(checks.time), "archived": maybe(checks.time),
}  # fmt: skip


def _checked(fields: Mapping[str, Any]) -> dict[str, Any]:
    """Columns of a run as SQL keeps them; ValueError where a value cannot be kept."""
    return {name: COLUMNS[name](name, value) for name, value in fields.items()}


def checked_run(given: Mapping[str, Any]) -> dict[str, Any]:
    """The given fields of a run from elsewhere as columns; ValueError names the field that is missing or wrong."""
    run = _checked(checks.complete(given))
    for name in ("kind", "config", "state"):
        if name not in run:
            raise ValueError(f"the run's {name} is missing.")
    return run


def promoted_runs(db: Database, kind: str) -> list[str]:
    """The stack of promoted runs of a kind, the one in use last."""
    stack: list[dict[str, Any]] = []
    sql = """SELECT p.run, p.action, r.archived FROM promotions p LEFT JOIN runs r ON r.id = p.run
        WHERE p.kind = ? ORDER BY p.seq"""
    for event in rows(db, sql, (kind,)):
        if event["action"] == "promote":
            stack.append(event)
        elif stack:
            stack.pop()
            while stack and stack[-1]["run"] != event["run"]:  # archived by then, so the rollback skipped it
                stack.pop()
    return [event["run"] for event in stack if not event["archived"]]


def parse_json(run: dict[str, Any]) -> dict[str, Any]:
    """A row of ``runs`` with its JSON columns parsed, in place, without the fields that have another shape."""
    for name in JSON:
        value = None if run[name] is None else json.loads(run[name])
        fields = dict(value) if isinstance(value, Mapping) else {}
        for field in SHAPES[name].keys() & fields.keys():
            try:
                SHAPES[name][field](field, fields[field])
            except ValueError:
                del fields[field]
        run[name] = None if value is None else fields
    return run


def readable(db: Database, runs: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Rows of ``runs`` as the store returns them; the run in use is looked up once per kind."""
    used = {kind: promoted_runs(db, kind)[-1:] for kind in {run["kind"] for run in runs}}
    return [{**parse_json(run), "promoted": used[run["kind"]] == [run["id"]]} for run in runs]


def read_run(db: Database, id: Any) -> dict[str, Any]:
    """A run as the store returns it; ValueError where there is none."""
    return readable(db, [need(db, "runs", id)])[0]


class Runs(Records):
    def new(
        self,
        kind: str,
        config: Mapping[str, Any],
        parent: str | None = None,
        labels: Mapping[str, Any] | None = None,
        id: str | None = None,
    ) -> str:
        """Add a queued run; returns its id. ``labels`` is a snapshot (``Labels.snapshot``)."""
        id = new_id()[:12] if id is None else id
        given = {"id": id, "kind": kind, "config": config, "parent": parent, "labels": labels}
        record = _checked({**given, "state": "queued", "created": now()})
        with self.database.writing() as db:
            if exists(db, "runs", record["id"]):
                raise ValueError(f"There is a run {record['id']} already; give another id.")
            if record["parent"] is not None:
                need(db, "runs", record["parent"])
            insert(db, "runs", record)
        return record["id"]

    def claim(self, id: str, pid: int) -> dict[str, Any]:
        """Make a run the active one; RunBusy where there is one, this one too (a dead one is first set to 'interrupted')."""
        with self.database.writing() as db:
            run = need(db, "runs", id)
            other = row(db, "SELECT id, kind FROM runs WHERE state = 'running' ORDER BY seq LIMIT 1")
            if other:
                raise RunBusy(other["id"], other["kind"])
            if run["state"] == "done" or run["archived"]:
                what = "was deleted" if run["archived"] else "is done"
                raise ValueError(f"The run {id} {what}; start a new one.")
            sql = "UPDATE runs SET state = 'running', pid = ?, heartbeat = ?, finished = NULL, message = '' WHERE id = ?"
            db.execute(sql, (_checked({"pid": pid})["pid"], now(), run["id"]))
            return read_run(db, id)

    def update(self, id: str, **fields: Any) -> dict[str, Any]:
        """Change fields in ``CHANGEABLE`` (times may be 'now'); returns the run. A run that ends gets its ``finished`` time."""
        checks.names(fields, CHANGEABLE, "A run's {0} cannot be changed; start a new run instead.")
        changes = _checked({name: now() if value == "now" else value for name, value in fields.items()})
        with self.database.writing() as db:
            run = need(db, "runs", id)
            state = changes.get("state", run["state"])
            if run["state"] == "done" and state != "done":  # any other run can be resumed
                raise ValueError(f"The run {id} is done and cannot become {state}; start a new one.")
            other = changes.get("checkpoint_sha256", run["checkpoint_sha256"]) != run["checkpoint_sha256"]
            if run["state"] == "done" and other:
                raise ValueError(f"The run {id} is done; its checkpoint cannot be another one.")
            if state not in ACTIVE and run["state"] in ACTIVE:
                changes.setdefault("finished", now())
            if changes:
                places = ", ".join(f"{name} = ?" for name in changes)
                db.execute(f"UPDATE runs SET {places} WHERE id = ?", [*changes.values(), run["id"]])
            return read_run(db, id)

    def get(self, id: str) -> dict[str, Any]:
        """All columns of a run, JSON parsed, and promoted: whether it is the one in use of its kind."""
        with self.database.reading() as db:
            return read_run(db, id)

    def find(
        self,
        kind: str | None = None,
        state: str | None = None,
        parent: str | None = None,
        limit: int = 100,
        offset: int = 0,
        archived: bool = False,
    ) -> list[dict[str, Any]]:
        """Runs, newest first; archived ones only on request."""
        wanted = {"kind": kind, "state": state, "parent": parent}
        chosen = _checked({name: value for name, value in wanted.items() if value is not None})
        where = " AND ".join(["1" if archived else "archived IS NULL", *(f"{name} = ?" for name in chosen)])
        values = [checks.integer("limit", limit, 0, 1_000_000), checks.integer("offset", offset, 0, 2**62)]
        with self.database.reading() as db:
            sql = f"SELECT * FROM runs WHERE {where} ORDER BY seq DESC LIMIT ? OFFSET ?"
            return readable(db, rows(db, sql, [*chosen.values(), *values]))

    def archive(self, ids: Sequence[str]) -> None:
        """Archive runs together, before their files are deleted; ValueError where one is active or in use."""
        with self.database.writing() as db:
            for run in [need(db, "runs", id) for id in ids]:
                if run["state"] in ACTIVE:
                    raise ValueError(f"The run {run['id']} is {run['state']}; stop it before it is deleted.")
                if promoted_runs(db, run["kind"])[-1:] == [run["id"]]:
                    raise ValueError(f"The run {run['id']} is in use; roll it back before it is deleted.")
                if not run["archived"]:
                    db.execute("UPDATE runs SET archived = ? WHERE id = ?", (now(), run["id"]))

    def promote(self, run_id: str, who: str) -> dict[str, Any]:
        """Put a finished run into use; returns it. The caller decides whether it is good enough."""
        who = checks.text("who", who)
        with self.database.writing() as db:
            run = need(db, "runs", run_id)
            if run["kind"] not in PROMOTABLE:
                raise ValueError(f"A run of kind {run['kind']} makes nothing that could be promoted.")
            if run["archived"]:
                raise ValueError(f"The run {run_id} was deleted; train another one.")
            if run["state"] != "done" or not run["checkpoint_sha256"]:
                raise ValueError(
                    f"The run {run_id} is {run['state']} and has no finished checkpoint; let it finish first."
                )
            if promoted_runs(db, run["kind"])[-1:] != [run["id"]]:
                event = {"kind": run["kind"], "run": run["id"], "action": "promote", "who": who}
                insert(db, "promotions", {**event, "created": now()})
            return read_run(db, run_id)

    def rollback(self, kind: str, who: str) -> dict[str, Any] | None:
        """Go back to what was in use before; returns that run, or None for the model that the project ships."""
        kind, who = checks.one_of("kind", kind, PROMOTABLE), checks.text("who", who)
        with self.database.writing() as db:
            stack = promoted_runs(db, kind)
            if not stack:
                raise ValueError(f"No {kind} has been promoted; the one that the project ships is in use.")
            previous = stack[-2] if len(stack) > 1 else None
            event = {"kind": kind, "run": previous, "action": "rollback", "who": who}
            insert(db, "promotions", {**event, "created": now()})
            return read_run(db, previous) if previous else None

    def promoted(self, kind: str) -> dict[str, Any] | None:
        """The run of this kind that is in use; None for the model that the project ships."""
        checks.one_of("kind", kind, RUN_KINDS)
        with self.database.reading() as db:
            stack = promoted_runs(db, kind)
            return read_run(db, stack[-1]) if stack else None

    def promotions(self, kind: str | None = None, limit: int = 100) -> list[dict[str, Any]]:
        """The events, newest first: {seq, kind, run, action, who, created}."""
        sql = "SELECT * FROM promotions WHERE ? IS NULL OR kind = ? ORDER BY seq DESC LIMIT ?"
        return self.rows(sql, (kind, kind, checks.integer("limit", limit, 0, 1_000_000)))
