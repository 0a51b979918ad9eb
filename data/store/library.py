"""The library: all samples by search, filter and order, a page at a time, and all that was said of one.

A page begins after the last row of the one before it (keyset), so page 4,000 costs what page 1 does and nothing is
shown twice when rows arrive meanwhile. An order with a figure of its own (uncertainty, disagreement, mean score)
walks that figure's index; where the filters leave few samples, these are sorted instead: a walk might pass by all the others
first. How they are found is in ``data.store.search``.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from math import fsum
from typing import Any

from sqlite_utils import Database

from data.store import checks
from data.store.database import Records, rows
from data.store.labels import GOLD, checked_filter, expected, labels_at
from data.store.samples import need_sample
from data.store.scores import EVENT, readable
from data.store.search import STANDING, mean_column, wanted

SORTS = ("newest", "oldest", "uncertain", "disagreement", "lowest", "highest", "prompt", "seed")
COUNTED = 10_000  # matches are counted so far
SMALL = 20_000  # rows of a cache that are walked rather than the samples
# order: (the cache it walks, columns of its key, whether each falls); {mean} is the column of the mean score
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


def _after(key: Sequence[Any], columns: Sequence[tuple[str, bool]]) -> tuple[str, dict[str, Any]]:
    """SQL and named values: the rows that come after this key in the order."""
    clauses = []
    for i, (column, falls) in enumerate(columns):
        equal = "".join(f"{name} = :key{k} AND " for k, (name, _) in enumerate(columns[:i]))
        clauses.append(f"({equal}{column} {'<' if falls else '>'} :key{i})")
    first, falls = columns[0]  # an index can begin here; OR alone would begin at its start
    bound = f"{first} {'<=' if falls else '>='} :key0"
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


class Library(Records):
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
        may not see gold, labels, mean scores and orders as they were without it.

        Filters: prompt_set, split, method, projector_run, seed; who (has scored it; '*' anyone), remark ('flag' or
        'note' that stands), disagreement (people differ by so many points or more), mean_from and mean_to (bounds of
        the mean score, 0..9). ``after`` is the ``next`` of the page before. The orders uncertain, disagreement, lowest and
        highest (mean score) leave out what has no such figure.

        Returns {samples, count, more: whether there are more than are counted, next: None at the end}; a sample has
        its columns and entropy, points, people, flags, mean (0..9, of the labels; of the VLM its expected score, as
        every page has it) and words: {index, word, label, source, vlm, people: {name: score}}.
        """
        cache, columns = ORDERS[checks.one_of("sort", sort, SORTS)]
        limit, mean = checks.integer("limit", limit, 1, 1000), mean_column(gold)
        columns = [(name.format(mean=mean), falls) for name, falls in columns]
        with self.database.reading() as db:
            asked = wanted(db, text, filters, gold)
            where, values = asked.where, asked.values
            if cache == "means":  # the walk keeps to the bounds, and to what has such a figure
                where = f"{where} AND u.{asked.mean or f'{mean} IS NOT NULL'}"
            walk, figure = "samples s", f"CROSS JOIN {cache} u ON u.sample = s.id" if cache else ""
            if cache:
                walk = f"{cache} u CROSS JOIN samples s ON s.id = u.sample"
            table = f"samples s {figure}"
            if asked.source:
                table = f"({asked.source}) f CROSS JOIN samples s ON s.seq = f.seq {figure}"
            elif cache and _size(db, cache) < SMALL:
                table = walk
            seqs = [seq for (seq,) in db.execute(
                f"SELECT s.seq FROM {table} WHERE {where} LIMIT {COUNTED + 1}", values
            )]  # fmt: skip
            order = ", ".join(f"{name} {'DESC' if falls else 'ASC'}" for name, falls in columns)
            if len(seqs) <= COUNTED:  # all that were found are sorted
                table = f"json_each(:found) f CROSS JOIN samples s ON s.seq = f.value {figure}"
                where, values = "1", {"found": json.dumps(seqs)}
            else:
                table = walk
            if after is not None:
                more, key = _after(_checked_key(after, columns), columns)
                where, values = f"{where} AND {more}", {**values, **key}
            names = ", ".join(f"{name} AS key{i}" for i, (name, _) in enumerate(columns))
            keys = rows(
                db,
                f"SELECT s.seq AS found, {names} FROM {table} WHERE {where} ORDER BY {order} LIMIT {limit + 1}",
                values,
            )
            page = keys[:limit]
            found = _described(db, [key["found"] for key in page], gold)
        last = [page[-1][f"key{i}"] for i in range(len(columns))] if len(keys) > limit else None
        count = len(seqs)
        return {"samples": found, "count": min(count, COUNTED), "more": count > COUNTED, "next": last}

    def choices(self) -> dict[str, list[str]]:
        """What the filters can be set to: {prompt_set, split, method, projector_run, who}."""
        found = {}
        with self.database.reading() as db:
            for name in ("prompt_set", "projector_run"):
                found[name] = _distinct(db, "samples", name)
            pairs = db.execute(
                "SELECT DISTINCT split, method FROM samples INDEXED BY samples_kind"
            ).fetchall()
            found["split"] = sorted({split for split, _ in pairs})
            found["method"] = sorted({method for _, method in pairs})
            found["who"] = _distinct(db, "scores", "who")
        return found

    def events(self, sample: str, limit: int = 200, gold: bool = True) -> list[dict[str, Any]]:
        """All that was said of a sample, the newest first: {created, who, source, what, word_index, word, before,
        after, text}. what: set, clear, undo, submit, skip, flag, note, gold, or preferred / passed over / tied in a
        vote; a distribution counts as its mean. ``gold=False`` leaves gold out."""
        limit = checks.integer("limit", limit, 0, 100_000)
        with self.database.reading() as db:
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
                "what": "undo" if e["undoes"] else "confirmed" if e["source"] == "confirmed" else e["kind"],
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


def _size(db: Database, table: str) -> int:
    """How many rows a table has, counted as far as matters."""
    return db.execute(f"SELECT count(*) FROM (SELECT 1 FROM {table} LIMIT {SMALL})").fetchone()[0]


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
