"""The library: samples by search, filter and order, one page at a time, and the history of one sample.

A page begins after the last row of the one before it (keyset pagination). An order by a cached figure (uncertainty,
disagreement, mean score) walks that figure's index; where the filters leave few samples, these are sorted instead.

A search starts from its narrowest part, since SQLite keeps no statistics of how many rows a value has and might start with an
index that nearly all rows are in. Each part is counted first, up to a bound, on an index of its own; the samples of the
narrowest part are then checked against the other parts. Where no part is narrow, the samples are walked in order.
"""

from __future__ import annotations

import json
import re
import unicodedata
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from math import fsum
from typing import Any

from sqlite_utils import Database

from data.store import checks
from data.store.database import Records, last_seq, row, rows
from data.store.desk import REMARKS, STANDING_REMARKS
from data.store.labels import GOLD, checked_filter, expected, labels_at
from data.store.queue import POOLED_SAMPLES, count_pooled, pool_filter
from data.store.samples import need_sample
from data.store.scores import EVENT, latest_events, readable

SORTS = ("newest", "oldest", "uncertain", "disagreement", "lowest", "highest", "prompt", "seed")
COUNTED = 10_000  # matches that are counted
SMALL = 20_000  # rows of a cache that is walked rather than the samples
# order: (the cache that it walks, columns of its key, whether each descends); {mean} is the column of the mean score
ORDERS: dict[str, tuple[str, tuple[tuple[str, bool], ...]]] = {
    "newest": ("", (("s.seq", True),)),
    "oldest": ("", (("s.seq", False),)),
    "prompt": ("", (("s.prompt", False), ("s.seed", False), ("s.seq", False))),
    "seed": ("", (("s.seed", False), ("s.seq", False))),
    "uncertain": ("uncertainty", (("u.entropy", True), ("u.sample", False))),
    "disagreement": ("disagreement", (("u.points", True), ("u.sample", False))),
    "lowest": ("means", (("u.{mean}", False), ("u.sample", False))),
    "highest": ("means", (("u.{mean}", True), ("u.sample", True))),
}
FIGURES = ("u.entropy", "u.points", "u.mean", "u.golden")
POOLED = ("prompt_set", "split", "method", "projector_run")
FILTERS = (*POOLED, "seed", "who", "remark", "disagreement", "mean_from", "mean_to")
ANYONE = "*"  # for ``who``: any person, or the simulated annotator
FEW = 20_000  # samples, or events of a person, that are counted; no search starts from a part with more
TERMS = 20
LONGEST_TEXT = 500
# LIKE and not full-text search, which finds whole words or, with trigrams, at least three characters, and would slow down every
# write; this finds any part of a word, and reads the prompts from their index: 5 to 25 ms for 20,000 of them.
LIKE = "prompt LIKE ? ESCAPE '\\'"


@dataclass
class Search:
    """A search with its parts counted.

    clauses: SQL conditions on a table called ``s``, written so that no index serves them; values: by name; source: SQL of the
    ``seq`` of the narrowest part's samples, '' where none is narrow; size: how many these are at most; mean: SQL of the
    bounds of the mean score, on its column, '' without.
    """

    clauses: list[str] = field(default_factory=list)
    values: dict[str, Any] = field(default_factory=dict)
    source: str = ""
    size: int = 0
    mean: str = ""

    @property
    def where(self) -> str:
        return " AND ".join(self.clauses) or "1"

    def add(self, clause: str, source: str, size: int) -> None:
        self.clauses.append(clause)
        if size < self.size:
            self.source, self.size = source, size

    def count(self, db: Database, source: str) -> int:
        """Number of rows of a SELECT, up to a bound."""
        sql = f"SELECT count(*) FROM (SELECT 1 FROM ({source}) LIMIT {FEW})"
        return db.execute(sql, self.values).fetchone()[0]

    def add_ids(self, db: Database, ids: str) -> None:
        source = f"SELECT seq FROM samples WHERE id IN ({ids})"
        self.add(f"+s.id IN ({ids})", source, self.count(db, ids))


def plan_search(db: Database, text: str, filters: Mapping[str, Any], mean: str = "golden") -> Search:
    """Check a search and count its parts; ValueError where it is malformed. ``mean``: the column of the mean scores."""
    checks.names(filters, FILTERS, "The library cannot be filtered by {0}; choose {1}.")
    given = {name: value for name, value in filters.items() if value is not None}
    search = Search(size=FEW)
    _add_text(db, search, text)
    _add_pool(db, search, given)
    if "seed" in given:
        search.values["seed"] = checks.seed(given["seed"])
        source = "SELECT seq FROM samples INDEXED BY samples_seed WHERE seed = :seed"
        search.add("+s.seed = :seed", source, search.count(db, source))
    if "who" in given:
        _add_who(db, search, checks.text("who", given["who"]))
    if "remark" in given:
        search.values["remark"] = checks.one_of("remark", given["remark"], REMARKS)
        search.add_ids(db, f"SELECT DISTINCT sample FROM ({STANDING_REMARKS}) WHERE kind = :remark")
    if "disagreement" in given:
        search.values["points"] = checks.number("disagreement", given["disagreement"], 0, 9)
        search.add_ids(db, "SELECT sample FROM disagreement WHERE points >= :points")
    _add_mean(db, search, given, mean)
    return search


def _add_text(db: Database, search: Search, text: str) -> None:
    terms = checks.text("search", text, LONGEST_TEXT, empty=True).split()
    if len(terms) > TERMS:
        raise ValueError(f"The search has {len(terms)} words; give {TERMS} at most.")
    if not terms:
        return
    # prompts first: there are fewer than samples, and the index has all that is needed. A store holds composed prompts,
    # an older one prompts as they were typed
    forms = [sorted({unicodedata.normalize("NFC", t), unicodedata.normalize("NFD", t)}) for t in terms]
    every = " AND ".join(f"({' OR '.join([LIKE] * len(both))})" for both in forms)
    sql = f"SELECT prompt, count(*) FROM samples INDEXED BY samples_prompt WHERE {every} GROUP BY prompt"
    escaped = [re.sub(r"([\\%_])", r"\\\1", form) for both in forms for form in both]
    prompts = db.execute(sql, [f"%{term}%" for term in escaped]).fetchall()
    search.values["prompts"] = json.dumps([prompt for prompt, _ in prompts])
    clause = "+s.prompt IN (SELECT value FROM json_each(:prompts))"
    source = """SELECT seq FROM samples INDEXED BY samples_prompt
        WHERE prompt IN (SELECT value FROM json_each(:prompts))"""
    if len(terms) == 1 and row(db, "SELECT 1 FROM samples WHERE id = ?", terms):
        search.values["id"] = terms[0]
        clause = f"({clause} OR +s.id = :id)"
        source = f"{source} UNION SELECT seq FROM samples WHERE id = :id"
    search.add(clause, source, sum(count for _, count in prompts) + 1)


def _add_pool(db: Database, search: Search, given: Mapping[str, Any]) -> None:
    pooled = {name: checks.text(name, given[name], 200, empty=True) for name in POOLED if name in given}
    if pooled:
        in_pools, values = pool_filter(pooled)
        search.values |= {**values, **pooled}
        clause = " AND ".join(f"+s.{name} = :{name}" for name in pooled)
        source = f"SELECT s.seq FROM {POOLED_SAMPLES} WHERE {in_pools}"
        search.add(clause, source, count_pooled(db, in_pools, values))


def _add_who(db: Database, search: Search, who: str) -> None:
    """Samples of which this person, or anyone, has scored or confirmed a word."""
    if who == ANYONE:
        condition = "x.who <> ''"
        ids = "SELECT DISTINCT sample FROM scores INDEXED BY scores_said WHERE who <> ''"
    else:
        search.values["who"] = who
        condition = "x.who = :who AND x.who <> ''"
        ids = "SELECT sample FROM scores WHERE who = :who AND who <> ''"
    clause = f"EXISTS (SELECT 1 FROM scores x INDEXED BY scores_said WHERE x.sample = s.id AND {condition})"
    search.add(clause, f"SELECT seq FROM samples WHERE id IN ({ids})", search.count(db, ids))


def _add_mean(db: Database, search: Search, given: Mapping[str, Any], column: str) -> None:
    """Samples whose mean score is within these bounds."""
    low = checks.number("mean_from", given.get("mean_from", 0), 0, 9)
    high = checks.number("mean_to", given.get("mean_to", 9), 0, 9)
    if low > high:
        raise ValueError(f"The lowest mean score {low:g} is above the highest, {high:g}: turn them round.")
    if "mean_from" in given or "mean_to" in given:
        search.values |= {"mean_from": low, "mean_to": high}
        search.mean = f"{column} BETWEEN :mean_from AND :mean_to"
        clause = f"EXISTS (SELECT 1 FROM means m WHERE m.sample = s.id AND m.{search.mean})"
        source = f"SELECT s.seq FROM means m CROSS JOIN samples s ON s.id = m.sample WHERE m.{search.mean}"
        search.add(clause, source, search.count(db, f"SELECT 1 FROM means m WHERE m.{search.mean}"))


def _after(key: Sequence[Any], columns: Sequence[tuple[str, bool]]) -> tuple[str, dict[str, Any]]:
    """SQL and named values of the rows that come after this key in the order."""
    clauses = []
    for i, (column, descends) in enumerate(columns):
        equal = "".join(f"{name} = :key{k} AND " for k, (name, _) in enumerate(columns[:i]))
        clauses.append(f"({equal}{column} {'<' if descends else '>'} :key{i})")
    first, descends = columns[0]  # an index can start here, while OR alone would start at its beginning
    bound = f"{first} {'<=' if descends else '>='} :key0"
    return f"{bound} AND ({' OR '.join(clauses)})", {f"key{i}": value for i, value in enumerate(key)}


def _checked_key(key: Any, columns: Sequence[tuple[str, bool]]) -> list[Any]:
    """The key of a page, as it came back from a browser."""

    def checked(column: str, value: Any) -> Any:
        if column in FIGURES:
            return checks.number(column, value, 0, 10)
        if column in ("s.prompt", "u.sample"):
            return checks.text(column, value, checks.PROMPT_LENGTH)
        return checks.integer(column, value, 0, 2**63 - 1)

    try:
        if not isinstance(key, (list, tuple)):
            raise ValueError
        return [checked(column, value) for (column, _), value in zip(columns, key, strict=True)]
    except ValueError:
        raise ValueError("There is no such page any more; begin with the first one.") from None


def labels_of(
    db: Database, samples: Iterable[str], gold: bool = True
) -> dict[tuple[str, int], dict[str, Any]]:
    """The current labels of these samples by (sample, word index), as of this transaction, with gold or without."""
    last, ids = last_seq(db), list(samples)
    labels: dict[tuple[str, int], dict[str, Any]] = {}
    for start in range(0, len(ids), 1000):
        filters = checked_filter({"ids": ids[start : start + 1000], "include_calibrated": True})
        for label in labels_at(db, last, filters, None if gold else 0):
            labels[label["sample"], label["word_index"]] = label
    return labels


class Library(Records):
    def search(
        self,
        text: str = "",
        *,
        sort: str = "newest",
        after: Sequence[Any] | None = None,
        limit: int = 24,
        gold: bool = True,
        **filters: Any,
    ) -> dict[str, Any]:
        """A page of samples whose prompt has every word of ``text`` (or whose id it is). ``gold=False``: with labels, mean
        scores and orders as they are without gold, for people who may not see it.

        Filters: prompt_set, split, method, projector_run, seed; who (has scored it; '*' anyone), remark ('flag' or 'note'
        that stands), disagreement (people differ by so many points or more), mean_from and mean_to (bounds of the mean
        score, 0..9). ``after`` is the ``next`` of the page before. The orders uncertain, disagreement, lowest and highest
        (mean score) leave out samples without such a figure.

        Returns {samples, count, more: whether there are more than were counted, next: None at the end}. A sample has its
        columns and entropy, points, people, flags, mean (0..9, of the labels; of the VLM its expected score, as on every
        page) and words: {index, word, label, source, vlm, people: {name: score}}.
        """
        cache, columns = ORDERS[checks.one_of("sort", sort, SORTS)]
        limit, mean = checks.integer("limit", limit, 1, 1000), "golden" if gold else "mean"
        columns = tuple((name.format(mean=mean), descends) for name, descends in columns)
        with self.database.reading() as db:
            search = plan_search(db, text, filters, mean)
            where, values = search.where, search.values
            if cache == "means":  # the walk keeps to the bounds, and to samples with such a figure
                where = f"{where} AND u.{search.mean or f'{mean} IS NOT NULL'}"
            figure = f"CROSS JOIN {cache} u ON u.sample = s.id" if cache else ""
            table = walk = f"{cache} u CROSS JOIN samples s ON s.id = u.sample" if cache else "samples s"
            if search.source:
                table = f"({search.source}) f CROSS JOIN samples s ON s.seq = f.seq {figure}"
            elif cache and search.count(db, f"SELECT 1 FROM {cache}") >= SMALL:
                table = f"samples s {figure}"
            sql = f"SELECT s.seq FROM {table} WHERE {where} LIMIT {COUNTED + 1}"
            seqs = [seq for (seq,) in db.execute(sql, values)]
            order = ", ".join(f"{name} {'DESC' if descends else 'ASC'}" for name, descends in columns)
            if len(seqs) <= COUNTED:  # sort all matches
                table = f"json_each(:matches) f CROSS JOIN samples s ON s.seq = f.value {figure}"
                where, values = "1", {"matches": json.dumps(seqs)}
            else:
                table = walk
            if after is not None:
                later, key = _after(_checked_key(after, columns), columns)
                where, values = f"{where} AND {later}", {**values, **key}
            names = ", ".join(f"{name} AS key{i}" for i, (name, _) in enumerate(columns))
            sql = f"SELECT s.seq, {names} FROM {table} WHERE {where} ORDER BY {order} LIMIT {limit + 1}"
            keys = rows(db, sql, values)
            page = keys[:limit]
            samples = _described(db, [key["seq"] for key in page], gold)
        last = [page[-1][f"key{i}"] for i in range(len(columns))] if len(keys) > limit else None
        count = len(seqs)
        return {"samples": samples, "count": min(count, COUNTED), "more": count > COUNTED, "next": last}

    def choices(self) -> dict[str, list[str]]:
        """The values that the filters can have: {prompt_set, split, method, projector_run, who}."""
        with self.database.reading() as db:
            choices = {name: _distinct(db, "samples", name) for name in ("prompt_set", "projector_run")}
            pairs = rows(db, "SELECT DISTINCT split, method FROM samples INDEXED BY samples_kind")
            choices |= {name: sorted({pair[name] for pair in pairs}) for name in ("split", "method")}
            choices["who"] = _distinct(db, "scores", "who")
        return choices

    def events(self, sample: str, limit: int = 200, gold: bool = True) -> list[dict[str, Any]]:
        """The history of a sample, newest first: {created, who, source, what, word_index, word, before, after, text}.

        what: set, clear, undo, confirmed, submit, skip, flag, note, gold, or preferred / passed over / tied in a vote; a
        distribution counts as its mean. ``gold=False`` leaves gold out.
        """
        limit = checks.integer("limit", limit, 0, 100_000)
        with self.database.reading() as db:
            need_sample(db, sample)
            sql = f"""SELECT {EVENT}, b.score AS before, b.distribution AS before_distribution FROM scores e
                LEFT JOIN scores b ON b.id = e.supersedes WHERE e.sample = ? ORDER BY e.seq DESC LIMIT ?"""
            scores = rows(db, sql, (sample, limit))
            sql = """SELECT d.created, d.who, iif(d.undoes IS NULL, d.kind, 'undo') AS what, coalesce(b.kind, '') AS text
                    FROM submissions d LEFT JOIN submissions b ON b.id = d.undoes WHERE d.sample = :sample
                UNION ALL SELECT created, who, kind, text FROM remarks WHERE sample = :sample
                UNION ALL SELECT created, who, 'gold', coalesce(word || ' = ' || score, word || ' taken back')
                    FROM gold WHERE sample = :sample AND :gold
                UNION ALL SELECT created, who, CASE choice WHEN 'left' THEN 'preferred' WHEN 'right' THEN 'passed over'
                    ELSE 'tied' END, '' FROM preferences WHERE left_sample = :sample
                UNION ALL SELECT created, who, CASE choice WHEN 'right' THEN 'preferred' WHEN 'left' THEN 'passed over'
                    ELSE 'tied' END, '' FROM preferences WHERE right_sample = :sample
                ORDER BY created DESC LIMIT :limit"""
            others = rows(db, sql, {"sample": sample, "limit": limit, "gold": gold})
        bare = {"source": "human", "word_index": None, "word": "", "before": None, "after": None, "text": ""}
        events = []
        for e in scores:
            event = {name: e[name] for name in ("created", "source", "word_index", "word")}
            event["what"] = (
                "undo" if e["undoes"] else "confirmed" if e["source"] == "confirmed" else e["kind"]
            )
            change = (_value(e["before"], e["before_distribution"]), _value(e["score"], e["distribution"]))
            event |= {"who": e["who"] or e["scorer"], "before": change[0], "after": change[1]}
            events.append({**bare, **event})
        events += [{**bare, **other} for other in others]
        return sorted(events, key=lambda event: event["created"], reverse=True)[:limit]


def _value(score: int | None, distribution: str | None) -> float | None:
    """An event as one number from 0 to 9: its score, else the mean of its distribution; None without either."""
    if score is not None:
        return float(score)
    if distribution is None:
        return None
    return round(expected(readable({"distribution": distribution})), 2)


def _distinct(db: Database, table: str, column: str) -> list[str]:
    """The non-empty values of an indexed column, jumping from one to the next along its index (which may leave '' out)."""
    sql = f"""WITH RECURSIVE next (v) AS (SELECT min({column}) FROM {table} WHERE {column} > '' AND {column} <> ''
        UNION ALL SELECT (SELECT min({column}) FROM {table} WHERE {column} > v AND {column} <> '') FROM next
            WHERE v IS NOT NULL)
        SELECT v FROM next WHERE v IS NOT NULL LIMIT 1000"""
    return [v for (v,) in db.execute(sql)]


def _described(db: Database, seqs: Sequence[int], gold: bool) -> list[dict[str, Any]]:
    """These samples in this order, each with what a page shows of it."""
    sql = f"""SELECT s.*, u.entropy, d.points,
            (SELECT count(*) FROM ({STANDING_REMARKS} AND r.sample = s.id AND r.kind = 'flag')) AS flags
        FROM json_each(?) k JOIN samples s ON s.seq = k.value
        LEFT JOIN uncertainty u ON u.sample = s.id LEFT JOIN disagreement d ON d.sample = s.id ORDER BY k.key"""
    samples = rows(db, sql, (json.dumps(list(seqs)),))
    ids = [sample["id"] for sample in samples]
    words: dict[str, dict[int, dict[str, Any]]] = defaultdict(dict)
    values: dict[str, list[float]] = defaultdict(list)

    def word_of(score: Mapping[str, Any]) -> dict[str, Any]:
        index = score["word_index"]
        bare = {"index": index, "word": "", "label": None, "source": "", "vlm": None, "people": {}}
        word = words[score["sample"]].setdefault(index, bare)
        word["word"] = word["word"] or score["word"]
        return word

    for event in latest_events(db, ids):
        if event["kind"] == "set":
            word = word_of(event)
            if event["source"] == "vlm":
                word["vlm"] = _value(event["score"], event["distribution"])
            elif event["source"] == "human":
                word["people"][event["who"]] = event["score"]
    for (id, _), label in labels_of(db, ids, gold).items():
        source = GOLD if label["source"] == "human" and label["scorer"] == GOLD else label["source"]
        digit = label["score"]  # as people read it; the mean counts the VLM's expected score, which is finer
        word_of(label).update(label=round(expected(label), 2) if digit is None else digit, source=source)
        values[id].append(expected(label))
    for sample in samples:
        described = [word for _, word in sorted(words[sample["id"]].items())]
        sample["words"] = described
        sample["mean"] = fsum(of_sample) / len(of_sample) if (of_sample := values[sample["id"]]) else None
        sample["people"] = len({who for word in described for who in word["people"]})
    return samples
