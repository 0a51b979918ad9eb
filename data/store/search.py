"""What a search of the library asks for, and how it is best found: from the narrowest of its parts.

SQLite keeps no figures of how many rows a value has, and would begin with an index of which nearly all rows are. So each
part of a search is counted first, up to a bound, which its own index answers; the samples of the narrowest part are asked
for the other parts. Where no part is narrow, the samples are walked through in the order that was asked for.
"""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from sqlite_utils import Database

from data.store import checks, pools
from data.store.database import row

POOLED = ("prompt_set", "split", "method", "projector_run")
FILTERS = (*POOLED, "seed", "who", "remark", "disagreement", "mean_from", "mean_to")
ANYONE = "*"  # for ``who``: any person, or the simulated annotator
FEW = 20_000  # samples, or events of a person, that are counted; of what has more, no search begins
TERMS = 20
LONGEST_TEXT = 500
LIKE = "prompt LIKE ? ESCAPE '\\'"

STANDING = """SELECT sample, kind, who, text, created FROM remarks r WHERE text <> '' AND NOT EXISTS
    (SELECT 1 FROM remarks n WHERE n.sample = r.sample AND n.who = r.who AND n.kind = r.kind AND n.seq > r.seq)"""


@dataclass
class Wanted:
    """where: SQL of all parts on a table called ``s``, of a form that no index answers; values: by their names; source:
    SQL of the ``seq`` of the narrowest part's samples, '' where none is narrow; size: how many these are at most; mean:
    SQL of the bounds of the mean score, on its column, '' where there are none."""

    clauses: list[str] = field(default_factory=list)
    values: dict[str, Any] = field(default_factory=dict)
    source: str = ""
    size: int = 0
    mean: str = ""

    @property
    def where(self) -> str:
        return " AND ".join(self.clauses) or "1"

    def part(self, clause: str, source: str, size: int) -> None:
        self.clauses.append(clause)
        if size < self.size:
            self.source, self.size = source, size


def wanted(db: Database, text: str, filters: Mapping[str, Any], gold: bool = True) -> Wanted:
    """A search, read and counted; ValueError where it cannot be asked. ``gold``: whether it counts in mean scores."""
    unknown = sorted(set(filters) - set(FILTERS))
    if unknown:
        raise ValueError(
            f"The library cannot be filtered by {checks.shown(unknown[0])}; choose {', '.join(FILTERS)}."
        )
    found = Wanted(size=FEW)
    _text(db, found, text)
    _pool(db, found, filters)
    if filters.get("seed") is not None:
        found.values["seed"] = checks.seed(filters["seed"])
        source = "SELECT seq FROM samples INDEXED BY samples_seed WHERE seed = :seed"
        found.part("+s.seed = :seed", source, _count(db, source, found))
    if filters.get("who") is not None:
        _who(db, found, checks.text("who", filters["who"]))
    if filters.get("remark") is not None:
        found.values["remark"] = checks.one_of("remark", filters["remark"], ("flag", "note"))
        _of_ids(db, found, f"SELECT DISTINCT sample FROM ({STANDING}) WHERE kind = :remark")
    if filters.get("disagreement") is not None:
        found.values["points"] = checks.number("disagreement", filters["disagreement"], 0, 9)
        _of_ids(db, found, "SELECT sample FROM disagreement WHERE points >= :points")
    _mean(db, found, filters, mean_column(gold))
    return found


def mean_column(gold: bool) -> str:
    """The column of ``means`` that holds a sample's mean score with gold, or without."""
    return "golden" if gold else "mean"


def _count(db: Database, source: str, found: Wanted) -> int:
    return db.execute(
        f"SELECT count(*) FROM (SELECT 1 FROM ({source}) LIMIT {FEW})", found.values
    ).fetchone()[0]


def _of_ids(db: Database, found: Wanted, ids: str) -> None:
    source = f"SELECT seq FROM samples WHERE id IN ({ids})"
    found.part(f"+s.id IN ({ids})", source, _count(db, ids, found))


def _text(db: Database, found: Wanted, text: str) -> None:
    terms = checks.text("search", text, LONGEST_TEXT, empty=True).split()
    if len(terms) > TERMS:
        raise ValueError(f"The search has {len(terms)} words; give {TERMS} at most.")
    if not terms:
        return
    # the prompts first: there are fewer than samples, and the index has all that this asks for
    # a store holds composed prompts, an older one as they were typed
    forms = [sorted({unicodedata.normalize(form, term) for form in ("NFC", "NFD")}) for term in terms]
    every = " AND ".join(f"({' OR '.join([LIKE] * len(both))})" for both in forms)
    sql = f"SELECT prompt, count(*) FROM samples INDEXED BY samples_prompt WHERE {every} GROUP BY prompt"
    prompts = db.execute(sql, [_like(form) for both in forms for form in both]).fetchall()
    found.values["prompts"] = json.dumps([prompt for prompt, _ in prompts])
    clause = "+s.prompt IN (SELECT value FROM json_each(:prompts))"
    source = """SELECT seq FROM samples INDEXED BY samples_prompt
        WHERE prompt IN (SELECT value FROM json_each(:prompts))"""
    if len(terms) == 1 and row(db, "SELECT 1 FROM samples WHERE id = ?", terms):
        found.values["id"] = terms[0]
        clause, source = (
            f"({clause} OR +s.id = :id)",
            f"{source} UNION SELECT seq FROM samples WHERE id = :id",
        )
    found.part(clause, source, sum(count for _, count in prompts) + 1)


def _like(term: str) -> str:
    for special in ("\\", "%", "_"):
        term = term.replace(special, f"\\{special}")
    return f"%{term}%"


def _pool(db: Database, found: Wanted, filters: Mapping[str, Any]) -> None:
    given = {
        name: checks.text(name, filters[name], 200, empty=True)
        for name in POOLED
        if filters.get(name) is not None
    }
    if given:
        chosen, values = pools.pool_filter(given)
        found.values |= {**values, **given}
        clause = " AND ".join(f"+s.{name} = :{name}" for name in given)
        source = f"SELECT s.seq FROM {pools.SAMPLES} WHERE {chosen}"
        found.part(clause, source, pools.count(db, chosen, values))


def _who(db: Database, found: Wanted, who: str) -> None:
    """Samples of which this person, or anyone, has scored or confirmed a word."""
    if who == ANYONE:
        whose, ids = (
            "x.who <> ''",
            "SELECT DISTINCT sample FROM scores INDEXED BY scores_said WHERE who <> ''",
        )
    else:
        found.values["who"] = who
        whose, ids = (
            "x.who = :who AND x.who <> ''",
            "SELECT sample FROM scores WHERE who = :who AND who <> ''",
        )
    clause = f"EXISTS (SELECT 1 FROM scores x INDEXED BY scores_said WHERE x.sample = s.id AND {whose})"
    found.part(clause, f"SELECT seq FROM samples WHERE id IN ({ids})", _count(db, ids, found))


def _mean(db: Database, found: Wanted, filters: Mapping[str, Any], column: str) -> None:
    """Samples whose mean score is within these bounds."""
    given = {
        name: checks.number(name, filters[name], 0, 9)
        for name in ("mean_from", "mean_to")
        if filters.get(name) is not None
    }
    low, high = given.get("mean_from", 0), given.get("mean_to", 9)
    if low > high:
        raise ValueError(f"The lowest mean score {low:g} is above the highest, {high:g}: turn them round.")
    if given:
        found.values |= {"mean_from": low, "mean_to": high}
        found.mean = f"{column} BETWEEN :mean_from AND :mean_to"
        clause = f"EXISTS (SELECT 1 FROM means m WHERE m.sample = s.id AND m.{found.mean})"
        source = f"SELECT s.seq FROM means m CROSS JOIN samples s ON s.id = m.sample WHERE m.{found.mean}"
        found.part(clause, source, _count(db, f"SELECT 1 FROM means m WHERE m.{found.mean}", found))
