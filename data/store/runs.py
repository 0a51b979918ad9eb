"""Training runs and which of them is in use (DESIGN section 5).

A run's identity (kind, configuration, parent) never changes; its state, progress and result do. What is in
use follows from ``promotions``, events that are only added: promote puts a run on top, rollback takes the
top off, and an empty stack means what the project ships. A run is never deleted, since samples and other runs
name it: it is archived, which says that its files are gone, and nothing falls back to it any more.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from sqlite_utils import Database

from data.store import checks
from data.store.database import Records, StoreError, insert, new_id, now, row, rows
from data.store.run_shape import fitting
from data.store.schema import RUN_KINDS, RUN_STATES

JSON = ("config", "labels", "metrics")
ACTIVE = ("queued", "running")
NEXT = {  # a run that is done stays done; any other can be taken up again
    "queued": RUN_STATES,
    "running": RUN_STATES,
    "stopped": RUN_STATES,
    "interrupted": RUN_STATES,
    "failed": RUN_STATES,
    "done": ("done",),
}
PROMOTABLE = ("reward", "projector", "calibrator", "warmup", "cycle", "lora")


class RunBusy(StoreError):
    """Another run is on; ``run`` is its id."""

    def __init__(self, run: str, kind: str) -> None:
        super().__init__(f"A {kind} run ({run}) is on. Wait for it or stop it, then start this one.")
        self.run = run


def checked_field(name: str, value: Any) -> Any:
    """A run's column as SQL keeps it; ValueError where the value cannot be kept."""
    if name == "kind":
        return checks.one_of(name, value, RUN_KINDS)
    if name == "state":
        return checks.one_of(name, value, RUN_STATES)
    if name == "message":
        return checks.text(name, value, 2000, empty=True)
    if value is None and name != "config":
        return None
    if name in JSON:
        if not isinstance(value, Mapping):
            raise ValueError(f"A run's {name} must be a dict, not {checks.shown(value)}.")
        return checks.as_json(name, value)
    if name in ("id", "parent"):
        return checks.run_id(name, value)
    if name == "checkpoint_sha256":
        return checks.sha256(name, value)
    if name == "checkpoint":
        return checks.text(name, value, 500)
    if name == "pid":
        return checks.integer(name, value, 1, 2**31 - 1)
    return checks.time(name, value)


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
            while stack and stack[-1]["run"] != event["run"]:  # archived by then: the rollback passed it by
                stack.pop()
    return [event["run"] for event in stack if not event["archived"]]


def readable(db: Database, found: dict[str, Any]) -> dict[str, Any]:
    return all_readable(db, [found])[0]


def all_readable(db: Database, found: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Rows of ``runs`` as the store gives them out; what is in use is asked once a kind."""
    used = {kind: promoted_runs(db, kind)[-1:] for kind in {run["kind"] for run in found}}
    for run in found:
        for name in JSON:
            run[name] = fitting(name, json.loads(run[name])) if run[name] is not None else None
        run["promoted"] = used[run["kind"]] == [run["id"]]
    return found


def need_run(db: Database, run: Any) -> dict[str, Any]:
    found = row(db, "SELECT * FROM runs WHERE id = ?", (checks.run_id("run", run),))
    if not found:
        raise ValueError(f"There is no run {run} in this store; choose one that is listed.")
    return found


class Runs(Records):
    def new(
        self,
        kind: str,
        config: Mapping[str, Any],
        parent: str | None = None,
        labels: Mapping[str, Any] | None = None,
        id: str | None = None,
    ) -> str:
        """A queued run; returns its id. ``labels`` is what ``snapshot()`` returned."""
        record = {
            "id": new_id()[:12] if id is None else id,
            "kind": kind,
            "config": config,
            "parent": parent,
            "labels": labels,
            "state": "queued",
            "created": now(),
        }
        record = {name: checked_field(name, value) for name, value in record.items()}
        with self.database.writing() as db:
            if row(db, "SELECT 1 FROM runs WHERE id = ?", (record["id"],)):
                raise ValueError(f"There is a run {record['id']} already; give another id.")
            if record["parent"] is not None:
                need_run(db, record["parent"])
            insert(db, "runs", record)
        return record["id"]

    def claim(self, id: str, pid: int) -> dict[str, Any]:
        """Make a run the one that is on; RunBusy where another is. Exactly one of several callers gets it,
        and a run that is on already is refused as well (a dead one is first set to 'interrupted')."""
        with self.database.writing() as db:
            run = need_run(db, id)
            other = row(db, "SELECT id, kind FROM runs WHERE state = 'running' ORDER BY seq LIMIT 1")
            if other:
                raise RunBusy(other["id"], other["kind"])
            if run["state"] == "done" or run["archived"]:
                what = "was deleted" if run["archived"] else "is done"
                raise ValueError(f"The run {id} {what}; start a new one.")
            db.execute(
                "UPDATE runs SET state = 'running', pid = ?, heartbeat = ?, finished = NULL, message = '' "
                "WHERE id = ?",
                (checked_field("pid", pid), now(), run["id"]),
            )
            return readable(db, need_run(db, id))

    def update(self, id: str, **fields: Any) -> dict[str, Any]:
        """Change state, metrics, message, checkpoint, checkpoint_sha256, labels, pid, heartbeat ('now' for
        now) or finished; returns the run. A run that ends is given its ``finished`` time."""
        fixed = sorted(set(fields) - {"state", "metrics", "message", "checkpoint", "checkpoint_sha256",
                                      "labels", "pid", "heartbeat", "finished"})  # fmt: skip
        if fixed:
            raise ValueError(f"A run's {checks.shown(fixed[0])} cannot be changed; start a new run instead.")
        fields = {name: now() if value == "now" else value for name, value in fields.items()}
        with self.database.writing() as db:
            run = need_run(db, id)
            changes = {name: checked_field(name, value) for name, value in fields.items()}
            state = changes.get("state", run["state"])
            if state not in NEXT[run["state"]]:
                raise ValueError(
                    f"The run {id} is {run['state']} and cannot become {state}; start a new one."
                )
            other = changes.get("checkpoint_sha256", run["checkpoint_sha256"]) != run["checkpoint_sha256"]
            if run["state"] == "done" and other:
                raise ValueError(f"The run {id} is done; its checkpoint cannot be another one.")
            if state not in ACTIVE and run["state"] in ACTIVE:
                changes.setdefault("finished", now())
            if changes:
                places = ", ".join(f"{name} = ?" for name in changes)
                db.execute(f"UPDATE runs SET {places} WHERE id = ?", [*changes.values(), run["id"]])
            return readable(db, need_run(db, id))

    def get(self, id: str) -> dict[str, Any]:
        """All columns of a run, JSON parsed, and promoted: whether it is the one in use of its kind."""
        with self.database.reading() as db:
            return readable(db, need_run(db, id))

    def find(
        self,
        kind: str | None = None,
        state: str | None = None,
        parent: str | None = None,
        limit: int = 100,
        offset: int = 0,
        archived: bool = False,
    ) -> list[dict[str, Any]]:
        """Runs, the newest first; those that were archived only where asked for."""
        wanted = {"kind": kind, "state": state, "parent": parent}
        chosen = {k: checked_field(k, v) for k, v in wanted.items() if v is not None}
        where = " AND ".join(["1" if archived else "archived IS NULL", *(f"{name} = ?" for name in chosen)])
        values = [checks.integer("limit", limit, 0, 1_000_000), checks.integer("offset", offset, 0, 2**62)]
        with self.database.reading() as db:
            found = rows(
                db,
                f"SELECT * FROM runs WHERE {where} ORDER BY seq DESC LIMIT ? OFFSET ?",
                [*chosen.values(), *values],
            )
            return all_readable(db, found)

    def archive(self, ids: Sequence[str]) -> None:
        """Put runs away together, before their files are deleted; ValueError where one is on or in use."""
        with self.database.writing() as db:
            for run in [need_run(db, id) for id in ids]:
                if run["state"] in ACTIVE:
                    raise ValueError(f"The run {run['id']} is {run['state']}; stop it before it is deleted.")
                if promoted_runs(db, run["kind"])[-1:] == [run["id"]]:
                    raise ValueError(f"The run {run['id']} is in use; roll it back before it is deleted.")
                if not run["archived"]:
                    db.execute("UPDATE runs SET archived = ? WHERE id = ?", (now(), run["id"]))

    def promote(self, run_id: str, who: str) -> dict[str, Any]:
        """Put a finished run into use; returns it. Whether it is good enough is for the caller to say."""
        who = checks.text("who", who)
        with self.database.writing() as db:
            run = need_run(db, run_id)
            if run["kind"] not in PROMOTABLE:
                raise ValueError(f"A run of kind {run['kind']} makes nothing that could be promoted.")
            if run["archived"]:
                raise ValueError(f"The run {run_id} was deleted; train another one.")
            if run["state"] != "done" or not run["checkpoint_sha256"]:
                raise ValueError(
                    f"The run {run_id} is {run['state']} and has no finished checkpoint; let it finish first."
                )
            if promoted_runs(db, run["kind"])[-1:] != [run["id"]]:
                insert(
                    db,
                    "promotions",
                    {
                        "kind": run["kind"],
                        "run": run["id"],
                        "action": "promote",
                        "who": who,
                        "created": now(),
                    },
                )
            return readable(db, need_run(db, run_id))

    def rollback(self, kind: str, who: str) -> dict[str, Any] | None:
        """Back to what was in use before; returns that run, or None for what the project ships."""
        kind, who = checks.one_of("kind", kind, PROMOTABLE), checks.text("who", who)
        with self.database.writing() as db:
            stack = promoted_runs(db, kind)
            if not stack:
                raise ValueError(f"No {kind} has been promoted; the one that the project ships is in use.")
            now_used = stack[-2] if len(stack) > 1 else None
            insert(
                db,
                "promotions",
                {"kind": kind, "run": now_used, "action": "rollback", "who": who, "created": now()},
            )
            return readable(db, need_run(db, now_used)) if now_used else None

    def promoted(self, kind: str) -> dict[str, Any] | None:
        """The run of this kind that is in use; None: what the project ships."""
        checks.one_of("kind", kind, RUN_KINDS)
        with self.database.reading() as db:
            stack = promoted_runs(db, kind)
            return readable(db, need_run(db, stack[-1])) if stack else None

    def promotions(self, kind: str | None = None, limit: int = 100) -> list[dict[str, Any]]:
        """The events, the newest first: {seq, kind, run, action, who, created}."""
        with self.database.reading() as db:
            return rows(
                db,
                "SELECT * FROM promotions WHERE ? IS NULL OR kind = ? ORDER BY seq DESC LIMIT ?",
                (kind, kind, checks.integer("limit", limit, 0, 1_000_000)),
            )
