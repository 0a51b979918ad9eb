"""What each row must be that was written elsewhere: the checks of an import, and of every row of a restored database.

A row of a file of labels and one of a database of the same schema go through the same functions, so neither can bring
what the other would refuse: a path out of the home folder, a kind with markup, an id that is a folder's name.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from sqlite_utils import Database

from data.store import checks
from data.store.audit import audit_line
from data.store.database import row, rows
from data.store.grids import GRID_STATES, MOST_CELLS
from data.store.missing import checked_note
from data.store.receipts import checked_answer
from data.store.remarks import NOTE_LENGTH, REASON_LENGTH, REMARKS
from data.store.runs import JSON, PROMOTABLE, checked_field
from data.store.samples import COLUMNS, checked_sample
from data.store.scores import FIELDS, PERSONAL, checked_event, need_word

CHOICES = ("left", "right", "tie", "none")
SIDES = ("left_sample", "right_sample")
Row = Mapping[str, Any]


def complete(record: dict[str, Any]) -> dict[str, Any]:
    """The record, with what the store would make up for a new row and a row from elsewhere must have."""
    for name in ("id", "created"):
        if record.get(name) is None:
            raise ValueError(f"{name} is missing.")
    return record


def checked_run(given: Row) -> dict[str, Any]:
    """The fields of a run that are there, as SQL keeps them."""
    run = {name: checked_field(name, value) for name, value in complete(dict(given)).items()}
    for name in ("kind", "config", "state"):
        if name not in run:
            raise ValueError(f"the run's {name} is missing.")
    return run


def checked_score(entry: Row, sample: Row) -> dict[str, Any]:
    event = checked_event({**complete(dict(entry)), "sample": sample["id"]})
    need_word(sample, event["word_index"], event["word"])
    return event


def checked_submission(entry: Row, sample: Row) -> dict[str, Any]:
    undoes = entry.get("undoes")
    kinds = ("submit", "skip") if undoes is None else ("submit", "skip", "open")
    return {
        "id": checks.identifier("id", complete(dict(entry))["id"]),
        "sample": sample["id"],
        "who": checks.text("who", entry.get("who")),
        "kind": checks.one_of("kind", entry.get("kind"), kinds),
        "undoes": None if undoes is None else checks.identifier("undoes", undoes),
        "created": checks.time("created", entry["created"]),
    }


def checked_remark(entry: Row, sample: Row) -> dict[str, Any]:
    kind = checks.one_of("kind", entry.get("kind"), REMARKS)
    longest = REASON_LENGTH if kind == "flag" else NOTE_LENGTH
    return {
        "id": checks.identifier("id", complete(dict(entry))["id"]),
        "sample": sample["id"],
        "who": checks.text("who", entry.get("who")),
        "kind": kind,
        "text": checks.text("text", entry.get("text"), longest, empty=True),
        "created": checks.time("created", entry["created"]),
    }


def checked_gold(entry: Row, sample: Row) -> dict[str, Any]:
    index = checks.integer("word_index", complete(dict(entry)).get("word_index"), 0, 999)
    need_word(sample, index, entry.get("word") or "")
    return {
        "id": checks.identifier("id", entry["id"]),
        "sample": sample["id"],
        "word_index": index,
        "word": checks.text("word", entry.get("word"), checks.PROMPT_LENGTH, empty=True),
        "score": None if entry.get("score") is None else checks.score(entry["score"]),
        "who": checks.text("who", entry.get("who")),
        "created": checks.time("created", entry["created"]),
    }


def checked_preference(entry: Row) -> dict[str, Any]:
    sides = [checks.identifier(name, entry.get(name)) for name in SIDES]
    if sides[0] == sides[1]:
        raise ValueError("a preference is between two samples, not one.")
    return {
        "id": checks.identifier("id", complete(dict(entry))["id"]),
        **dict(zip(SIDES, sides)),
        "choice": checks.one_of("choice", entry.get("choice"), CHOICES),
        "who": checks.text("who", entry.get("who")),
        "created": checks.time("created", entry["created"]),
    }


# -- a whole database


def _object(name: str, text: str | None) -> Any:
    """JSON of a column, parsed; None for none."""
    try:
        return None if text is None else json.loads(text)
    except (ValueError, RecursionError):
        raise ValueError(f"{name} is not JSON that can be read.") from None


def _sample(r: Row) -> None:
    checked_sample({name: r[name] for name in COLUMNS})


def _score(r: Row) -> None:
    entry = {name: r[name] for name in FIELDS}
    checked_score({**entry, "distribution": _object("distribution", r["distribution"])}, _of(r))
    if r["entropy"] is not None:
        checks.number("entropy", r["entropy"], 0, 3)
    if r["step"] is not None:
        checks.identifier("step", r["step"])


def _submission(r: Row) -> None:
    checked_submission(r, _of(r))
    if r["after"] is not None:
        checks.integer("after", r["after"], 0, 2**62)


def _of(r: Row) -> dict[str, Any]:
    """The sample that a row is about, as far as its checks need it."""
    return {"id": r["sample"], "n_words": r["n_words"]}


def _run(r: Row) -> None:
    run = {name: value for name, value in r.items() if name != "seq"}
    for name in JSON:
        run[name] = _object(name, run[name])
    checked_run(run)
    # only what the project ships lies outside of the home folder
    if r["checkpoint"] is not None and run["config"].get("source") != "shipped":
        checks.relative_path("checkpoint", r["checkpoint"])


def _grid(r: Row) -> None:
    checks.identifier("id", r["id"])
    checks.text("who", r["who"])
    checks.one_of("state", r["state"], GRID_STATES)
    checks.text("message", r["message"], 2000, empty=True)
    if not isinstance(_object("config", r["config"]), dict):
        raise ValueError("config must be a JSON object.")
    _times(r, "created", "finished")


def _times(r: Row, *names: str) -> None:
    for name in names:
        if r[name] is not None:
            checks.time(name, r[name])


def _promotion(r: Row) -> None:
    checks.one_of("kind", r["kind"], PROMOTABLE)
    if r["run"] is not None:
        checks.identifier("run", r["run"])
    checks.one_of("action", r["action"], ("promote", "rollback"))
    checks.text("who", r["who"])
    _times(r, "created")


def _audit(r: Row) -> None:
    detail = _object("detail", r["detail"])
    if not isinstance(detail, dict):
        raise ValueError("detail must be a JSON object.")
    audit_line(r["who"], r["action"], r["subject"], detail)
    _times(r, "created")


def _figures(**bounds: float) -> Callable[[Row], None]:
    """A check of a cache: its columns with numbers, from 0 to their bounds."""

    def check(r: Row) -> None:
        for name, high in bounds.items():
            if r[name] is not None:
                checks.number(name, r[name], 0, high)

    return check


def _store(r: Row) -> None:
    checks.identifier("id", r["id"])
    checks.time("created", r["created"])


def _person(r: Row) -> None:
    checks.text("name", r["name"])
    checks.sha256("key_sha256", r["key_sha256"])
    checks.time("created", r["created"])


def _lease(r: Row) -> None:
    checks.text("who", r["who"])
    checks.time("expires", r["expires"])


def _cursor(r: Row) -> None:
    checks.text("name", r["name"])
    checks.time("changed", r["changed"])


def _receipt(r: Row) -> None:
    checks.sha256("page_sha256", r["page_sha256"])
    checks.time("changed", r["changed"])
    answer = _object("answer", r["answer"])
    if not isinstance(answer, dict):
        raise ValueError("answer must be a JSON object.")
    checked_answer(answer)


def _pool(r: Row) -> None:
    for name in ("split", "prompt_set", "method", "backbone", "projector_run"):
        checks.text(name, r[name], 200, empty=True)


def _kind(r: Row) -> None:
    checks.text("prompt", r["prompt"], checks.PROMPT_LENGTH)
    checks.text("kind", r["kind"], 40, empty=True)


def _foreseen(r: Row) -> None:
    _figures(points=9, promise=1, projected=1)(r)
    checks.text("model", r["model"], 301)


def _import(r: Row) -> None:
    checks.identifier("id", r["id"])
    checks.text("name", r["name"], 200, empty=True)
    checks.time("created", r["created"])


CHECKS: dict[str, Callable[[Row], Any]] = {
    "store": _store,
    "samples": _sample,
    "scores": _score,
    "runs": _run,
    "submissions": _submission,
    "remarks": lambda r: checked_remark(r, _of(r)),
    "gold": lambda r: checked_gold(r, _of(r)),
    "preferences": checked_preference,
    "promotions": _promotion,
    "missing": lambda r: (checked_note(r), need_word(_of(r), r["word_index"])),
    "audit": _audit,
    "grids": _grid,
    "cells": _figures(place=MOST_CELLS),
    "people": _person,
    "leases": _lease,
    "cursors": _cursor,
    "receipts": _receipt,
    "imports": _import,
    "kinds": _kind,
    "pools": _pool,
    "foreseen": _foreseen,
    "uncertainty": _figures(entropy=3),
    "disagreement": _figures(points=9),
    "means": _figures(mean=9, golden=9),
}
# what one row says of another: (table, condition of a row e that is wrong, what is wrong)
LANE = "o.sample = e.sample AND o.word_index = e.word_index AND o.source = e.source AND o.who = e.who AND o.seq < e.seq"
BETWEEN = (
    ("scores", f"supersedes IS NOT NULL AND NOT EXISTS (SELECT 1 FROM scores o WHERE o.id = e.supersedes AND {LANE})",
     "supersedes names no earlier event of the same word."),
    ("scores", f"undoes IS NOT NULL AND NOT EXISTS (SELECT 1 FROM scores o WHERE o.id = e.undoes AND {LANE})",
     "undoes names no earlier event of the same word."),
    ("scores", f"undoes IS NOT NULL AND source NOT IN {PERSONAL}", "only a correction can undo one."),
    ("submissions", """undoes IS NOT NULL AND NOT EXISTS (SELECT 1 FROM submissions o WHERE o.id = e.undoes
        AND o.sample = e.sample AND o.who = e.who AND o.undoes IS NULL AND o.seq < e.seq)""",
     "undoes names no earlier submit or skip of that person."),
)  # fmt: skip


def check_rows(db: Database) -> None:
    """ValueError with table, row and reason for the first row that no import would take."""
    for table, check in CHECKS.items():
        for number, found in enumerate(_rows(db, table), 1):
            try:
                check(found)
            except ValueError as error:
                key = found.get("id") or found.get("sample") or found.get("seq") or number
                raise ValueError(f"{table}, row {checks.shown(key)}: {error}") from None
    for table, wrong, said in BETWEEN:
        found = row(db, f"SELECT e.id FROM {table} e WHERE {wrong} LIMIT 1")
        if found:
            raise ValueError(f"{table}, row {checks.shown(found['id'])}: {said}")
    if len(rows(db, "SELECT 1 FROM store LIMIT 2")) != 1:
        raise ValueError("store: there must be one row, with the store's id.")


def _rows(db: Database, table: str) -> Iterator[dict[str, Any]]:
    """All rows, one after the other, those that are about a sample with its n_words."""
    about = table in ("scores", "submissions", "remarks", "gold", "missing")
    join = " JOIN samples s ON s.id = e.sample" if about else ""
    cursor = db.execute(f"SELECT e.*{', s.n_words' if about else ''} FROM {table} e{join}")
    names = [column[0] for column in cursor.description]
    for values in cursor:
        yield dict(zip(names, values))
