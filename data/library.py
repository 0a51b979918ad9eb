"""The library: all samples by search, filter and order, a page at a time, and all that was said of one.

A page begins after the last row of the one before it (keyset), so page 4,000 costs what page 1 does and nothing is
shown twice when rows arrive meanwhile. An order with a figure of its own (uncertainty, disagreement) walks that
figure's index; where the filters leave few samples, these are sorted instead: a walk might pass by all the others
first.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from math import fsum
from typing import Any

from sqlite_utils import Database

from data import checks
from data.database import DatabaseFile, row, rows
from data.labels import GOLD, checked_filter, expected, labels_at
from data.samples import need_sample
from data.scores import EVENT, readable

SORTS = ("newest", "oldest", "uncertain", "disagreement", "prompt", "seed")
EQUAL = ("prompt_set", "split", "method", "projector_run", "seed")
FILTERS = (*EQUAL, "who", "remark", "disagreement")
ANYONE = "*"  # for ``who``: any person, or the simulated annotator
COUNTED = 10_000  # matches are counted so far
FEW = 20_000  # events of a person that are looked through one by one
SMALL = 20_000  # rows of a cache that are walked rather than the samples
TERMS = 20
LONGEST_TEXT = 500

# order: (the cache it walks, columns of its key, whether each falls)
ORDERS: dict[str, tuple[str, tuple[tuple[str, bool], ...]]] = {
    "newest": ("", (("s.seq", True),)),
    "oldest": ("", (("s.seq", False),)),
    "prompt": ("", (("s.prompt", False), ("s.seed", False), ("s.seq", False))),
    "seed": ("", (("s.seed", False), ("s.seq", False))),
    "uncertain": ("uncertainty", (("u.entropy", True), ("u.sample", False))),
    "disagreement": ("disagreement", (("u.points", True), ("u.sample", False))),
}
STANDING = """SELECT sample, kind, who, text, created FROM remarks r WHERE text <> '' AND NOT EXISTS
    (SELECT 1 FROM remarks n WHERE n.sample = r.sample AND n.who = r.who AND n.kind = r.kind AND n.seq > r.seq)"""


def labels_of(
    db: Database, samples: Iterable[str], gold: bool = True
) -> dict[tuple[str, int], dict[str, Any]]:
    """(sample, word index) -> the label as it is within this transaction, of these samples; with or without gold."""
    last = db.execute("SELECT coalesce(max(seq), 0) FROM scores").fetchone()[0]
    ids, found = list(samples), {}
    for start in range(0, len(ids), 1000):
        wanted = checked_filter({"ids": ids[start : start + 1000], "include_calibrated": True})
        labels = labels_at(db, last, wanted, None if gold else 0)
        found |= {(x["sample"], x["word_index"]): x for x in labels}
    return found


def _like(term: str) -> str:
    for special in ("\\", "%", "_"):
        term = term.replace(special, f"\\{special}")
    return f"%{term}%"


def _wanted(db: Database, text: str, filters: Mapping[str, Any]) -> tuple[str, list[Any]]:
    """SQL and values of a search, on a table called ``s``; ValueError where it cannot be asked."""
    unknown = sorted(set(filters) - set(FILTERS))
    if unknown:
        raise ValueError(
            f"The library cannot be filtered by {checks.shown(unknown[0])}; choose {', '.join(FILTERS)}."
        )
    clauses: list[str] = ["1"]
    values: list[Any] = []
    terms = checks.text("search", text, LONGEST_TEXT, empty=True).split()
    if len(terms) > TERMS:
        raise ValueError(f"The search has {len(terms)} words; give {TERMS} at most.")
    if terms:
        # the prompts first: there are fewer than samples, and the index has all that this asks for
        every = " AND ".join(["prompt LIKE ? ESCAPE '\\'"] * len(terms))
        sql = f"SELECT DISTINCT prompt FROM samples INDEXED BY samples_prompt WHERE {every}"
        found = [prompt for (prompt,) in db.execute(sql, [_like(term) for term in terms])]
        clauses.append("s.prompt IN (SELECT value FROM json_each(?))")
        values.append(json.dumps(found))
        if len(terms) == 1 and row(db, "SELECT 1 FROM samples WHERE id = ?", terms):
            clauses[-1] = f"({clauses[-1]} OR s.id = ?)"
            values.append(terms[0])
    for name in EQUAL:
        if filters.get(name) is not None:
            value = filters[name]
            values.append(checks.seed(value) if name == "seed" else checks.text(name, value, 200, empty=True))
            clauses.append(f"s.{name} = ?")
    if filters.get("who") is not None:
        sql, more = _by(db, checks.text("who", filters["who"]))
        clauses.append(sql)
        values += more
    if filters.get("remark") is not None:
        clauses.append(f"s.id IN (SELECT sample FROM ({STANDING}) WHERE kind = ?)")
        values.append(checks.one_of("remark", filters["remark"], ("flag", "note")))
    if filters.get("disagreement") is not None:
        clauses.append("s.id IN (SELECT sample FROM disagreement WHERE points >= ?)")
        values.append(checks.number("disagreement", filters["disagreement"], 0, 9))
    return " AND ".join(clauses), values


def _by(db: Database, who: str) -> tuple[str, list[Any]]:
    """Samples that this person has scored: from the person's events where they are few, else each sample is asked."""
    given, values = ("who <> ''", []) if who == ANYONE else ("who = ? AND who <> ''", [who])
    counted = f"SELECT count(*) FROM (SELECT 1 FROM scores WHERE {given} LIMIT {FEW})"
    if db.execute(counted, values).fetchone()[0] < FEW:
        return f"s.id IN (SELECT sample FROM scores WHERE {given})", values
    return (
        f"EXISTS (SELECT 1 FROM scores x WHERE x.sample = s.id AND x.{given.replace('AND who', 'AND x.who')})",
        values,
    )


def _after(key: Sequence[Any], columns: Sequence[tuple[str, bool]]) -> tuple[str, list[Any]]:
    """SQL: the rows that come after this key in the order."""
    clauses, values = [], []
    for i, (column, falls) in enumerate(columns):
        equal = " AND ".join(f"{name} = ?" for name, _ in columns[:i])
        clauses.append(f"({equal + ' AND ' if equal else ''}{column} {'<' if falls else '>'} ?)")
        values += key[: i + 1]
    first, falls = columns[0]  # an index can begin here; OR alone would begin at its start
    bound = f"{first} {'<=' if falls else '>='} ?"
    return f"{bound} AND ({' OR '.join(clauses)})", [key[0], *values]


def _checked_key(key: Any, columns: Sequence[tuple[str, bool]]) -> list[Any]:
    """The key of a page, as it came back from a browser."""
    good = isinstance(key, (list, tuple)) and len(key) == len(columns)
    kinds = {"s.prompt": str, "u.sample": str, "u.entropy": float, "u.points": float}
    if not good or any(
        not isinstance(k, (int, float) if kinds.get(c) is float else kinds.get(c, int)) or isinstance(k, bool)
        for k, (c, _) in zip(key, columns)
    ):
        raise ValueError("There is no such page any more; begin with the first one.")
    return list(key)


class Library(DatabaseFile):
    def search(
        self,
        text: str = "",
        *,
        sort: str = "newest",
        after: Any = None,
        limit: int = 24,
        gold: bool = True,
        **filters: Any,
    ) -> dict[str, Any]:
        """A page of samples whose prompt has every word of ``text`` (or whose id it is). ``gold=False``: for one who
        may not see gold, labels as they were without it.

        Filters: prompt_set, split, method, projector_run, seed; who (has scored it; '*' anyone), remark ('flag' or
        'note' that stands), disagreement (people differ by so many points or more). ``after`` is the ``next`` of the
        page before. The orders uncertain and disagreement leave out what has no such figure.

        Returns {samples, count, more: whether there are more than are counted, next: None at the end}; a sample has
        its columns and entropy, points, people, flags, mean (0..9, of the labels; of the VLM its expected score, as
        every page has it) and words: {index, word, label, source, vlm, people: {name: score}}.
        """
        cache, columns = ORDERS[checks.one_of("sort", sort, SORTS)]
        limit = checks.integer("limit", limit, 1, 1000)
        with self.reading() as db:
            where, values = _wanted(db, text, filters)
            table = walk = "samples s"
            if cache:
                walk = f"{cache} u CROSS JOIN samples s ON s.id = u.sample"
                size = db.execute(f"SELECT count(*) FROM (SELECT 1 FROM {cache} LIMIT {SMALL})").fetchone()[0]
                table = walk if size < SMALL else f"samples s CROSS JOIN {cache} u ON s.id = u.sample"
            elif (
                sort == "seed"
            ):  # no index has this order: the narrow one is sorted, then the samples are asked
                walk = """(SELECT seq, seed FROM samples INDEXED BY samples_prompt ORDER BY seed, seq LIMIT -1) o
                    CROSS JOIN samples s ON s.seq = o.seq"""
            count = db.execute(
                f"SELECT count(*) FROM (SELECT 1 FROM {table} WHERE {where} LIMIT {COUNTED + 1})", values
            ).fetchone()[0]
            if count > COUNTED:
                table = walk
            if after is not None:
                more, key = _after(_checked_key(after, columns), columns)
                where, values = f"{where} AND {more}", [*values, *key]
            order = ", ".join(f"{name} {'DESC' if falls else 'ASC'}" for name, falls in columns)
            ordered = "" if sort == "seed" and table == walk else f"ORDER BY {order}"
            names = ", ".join(f"{name} AS key{i}" for i, (name, _) in enumerate(columns))
            keys = rows(
                db,
                f"SELECT s.seq AS found, {names} FROM {table} WHERE {where} {ordered} LIMIT ?",
                [*values, limit + 1],
            )
            page = keys[:limit]
            found = _described(db, [key["found"] for key in page], gold)
        last = [page[-1][f"key{i}"] for i in range(len(columns))] if len(keys) > limit else None
        return {"samples": found, "count": min(count, COUNTED), "more": count > COUNTED, "next": last}

    def library_choices(self) -> dict[str, list[str]]:
        """What the filters can be set to: {prompt_set, split, method, projector_run, who}."""
        found = {}
        with self.reading() as db:
            for name in ("prompt_set", "projector_run"):
                found[name] = _distinct(db, "samples", name)
            pairs = db.execute(
                "SELECT DISTINCT split, method FROM samples INDEXED BY samples_kind"
            ).fetchall()
            found["split"] = sorted({split for split, _ in pairs})
            found["method"] = sorted({method for _, method in pairs})
            found["who"] = _distinct(db, "scores", "who")
        return found

    def sample_events(self, sample: str, limit: int = 200, gold: bool = True) -> list[dict[str, Any]]:
        """All that was said of a sample, the newest first: {created, who, source, what, word_index, word, before,
        after, text}. what: set, clear, undo, submit, skip, flag, note, gold, or preferred / passed over / tied in a
        vote; a distribution counts as its mean. ``gold=False`` leaves gold out."""
        limit = checks.integer("limit", limit, 0, 100_000)
        with self.reading() as db:
            need_sample(db, sample)
            events = rows(
                db,
                f"""SELECT {EVENT}, b.score AS before, b.distribution AS spread FROM scores e
                LEFT JOIN scores b ON b.id = e.supersedes WHERE e.sample = ? ORDER BY e.seq DESC LIMIT ?""",
                (sample, limit),
            )
            others = rows(
                db,
                """SELECT d.created, d.who, iif(d.undoes IS NULL, d.kind, 'undo') AS what, coalesce(b.kind, '') AS text
                    FROM submissions d LEFT JOIN submissions b ON b.id = d.undoes WHERE d.sample = :sample
                UNION ALL SELECT created, who, kind, text FROM remarks WHERE sample = :sample
                UNION ALL SELECT created, who, 'gold', coalesce(word || ' = ' || score, word || ' taken back')
                    FROM gold WHERE sample = :sample AND :gold
                UNION ALL SELECT created, who, CASE choice WHEN 'left' THEN 'preferred' WHEN 'right' THEN 'passed over'
                    ELSE 'tied' END, '' FROM preferences WHERE left_sample = :sample
                UNION ALL SELECT created, who, CASE choice WHEN 'right' THEN 'preferred' WHEN 'left' THEN 'passed over'
                    ELSE 'tied' END, '' FROM preferences WHERE right_sample = :sample
                ORDER BY created DESC LIMIT :limit""",
                {"sample": sample, "limit": limit, "gold": gold},
            )
        plain = [
            {
                "created": e["created"],
                "who": e["who"] or e["scorer"],
                "source": e["source"],
                "what": "undo" if e["undoes"] else e["kind"],
                "word_index": e["word_index"],
                "word": e["word"],
                "before": _value(e["before"], e["spread"]),
                "after": _value(e["score"], e["distribution"]),
                "text": "",
            }
            for e in events
        ]
        bare = {"source": "human", "word_index": None, "word": "", "before": None, "after": None}
        plain += [{**bare, **other} for other in others]
        return sorted(plain, key=lambda event: event["created"], reverse=True)[:limit]


def _value(score: int | None, distribution: str | None) -> float | None:
    """One number from 0 to 9 for what an event says, None for nothing."""
    if score is None and distribution is None:
        return None
    if score is not None:
        return float(score)
    return round(expected(readable({"score": None, "distribution": distribution})), 2)


def _distinct(db: Database, table: str, column: str) -> list[str]:
    """The values of an indexed column but '', from one to the next along its index (which may leave '' out)."""
    sql = f"""WITH RECURSIVE next (v) AS (SELECT min({column}) FROM {table} WHERE {column} > '' AND {column} <> ''
        UNION ALL SELECT (SELECT min({column}) FROM {table} WHERE {column} > v AND {column} <> '') FROM next
            WHERE v IS NOT NULL)
        SELECT v FROM next WHERE v IS NOT NULL LIMIT 1000"""
    return [v for (v,) in db.execute(sql)]


def _described(db: Database, seqs: Sequence[int], gold: bool) -> list[dict[str, Any]]:
    """These samples in this order, each with what a page shows of it."""
    wanted = checks.as_json("the page", list(seqs))
    found = rows(
        db,
        f"""SELECT s.*, u.entropy, d.points, (SELECT count(*) FROM ({STANDING} AND r.sample = s.id AND r.kind = 'flag'))
            AS flags FROM json_each(?) k JOIN samples s ON s.seq = k.value
        LEFT JOIN uncertainty u ON u.sample = s.id LEFT JOIN disagreement d ON d.sample = s.id ORDER BY k.key""",
        (wanted,),
    )
    ids = [s["id"] for s in found]
    standing = rows(
        db,
        """SELECT e.sample, e.word_index, e.word, e.source, e.who, e.score, e.distribution FROM scores e
        WHERE e.seq IN (SELECT max(seq) FROM scores WHERE sample IN (SELECT value FROM json_each(?))
            GROUP BY sample, word_index, source, who) AND e.kind = 'set' ORDER BY e.word_index, e.seq""",
        (checks.as_json("the page", ids),),
    )
    words: dict[str, dict[int, dict[str, Any]]] = defaultdict(dict)
    counted: dict[str, list[float]] = defaultdict(list)

    def word_of(said: Mapping[str, Any]) -> dict[str, Any]:
        bare = {
            "index": said["word_index"],
            "word": "",
            "label": None,
            "source": "",
            "vlm": None,
            "people": {},
        }
        word = words[said["sample"]].setdefault(said["word_index"], bare)
        word["word"] = word["word"] or said["word"]
        return word

    for e in standing:
        word = word_of(e)
        if e["source"] == "vlm":
            word["vlm"] = _value(e["score"], e["distribution"])
        elif e["source"] == "human":
            word["people"][e["who"]] = e["score"]
    for (id, _), label in labels_of(db, ids, gold).items():
        source = GOLD if label["source"] == "human" and label["scorer"] == GOLD else label["source"]
        digit = label["score"]  # as people read it; the mean counts what the VLM expects, which is finer
        word_of(label).update(label=round(expected(label), 2) if digit is None else digit, source=source)
        counted[id].append(expected(label))
    for sample in found:
        said = [word for _, word in sorted(words[sample["id"]].items())]
        sample["words"] = said
        sample["mean"] = fsum(counts) / len(counts) if (counts := counted[sample["id"]]) else None
        sample["people"] = len({who for word in said for who in word["people"]})
    return found
