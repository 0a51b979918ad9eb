"""How far the annotators are: counts that a page asks for at every key, on a store of any size.

What is counted only ever grows: samples, scores and submissions are never changed or deleted (undo is an event). So a count is kept
with the last event that it has seen, and the next time only what came after is looked at: for each thing that the
new events touch, whether it counts now, less whether it counted then. A store that was put in the place of this one
lacks that event, or has another one there, and is counted from the start; so is a filter by what may change.

Every SELECT below gives the change of a count from the event :last to the event :now; from 0 it is the count itself.
"""

from __future__ import annotations

from collections import OrderedDict
from datetime import datetime
from threading import Lock
from typing import Any

from sqlite_utils import Database

from data.store import checks
from data.store.database import DatabaseFile, Records, row
from data.store.leases import checked_overlap, instant
from data.store.queue import STILL_LEFT, queue_filter
from data.store.samples import EQUALS

KEPT = 4000  # counts, of all people and filters
POOL = "{where} AND s.image_path IS NOT NULL AND s.n_words > 0"

SAMPLES = f"SELECT count(*) FROM samples s WHERE s.seq > :last AND s.seq <= :now AND {POOL}"

# A sample is scored from the VLM's first event on; from the start, every scored sample has an uncertainty.
SCORED = f"""SELECT count(*) FROM
    (SELECT DISTINCT sample FROM scores NOT INDEXED WHERE seq > :last AND seq <= :now AND source = 'vlm') t
    CROSS JOIN samples s ON s.id = t.sample WHERE {POOL} AND NOT EXISTS
        (SELECT 1 FROM scores b WHERE b.sample = t.sample AND b.source = 'vlm' AND b.seq <= :last)"""
FIRST_SCORED = f"SELECT count(*) FROM samples s JOIN uncertainty u ON u.sample = s.id WHERE {POOL}"

# Things of a submission: the samples that are touched, each with its state then and now.
DONE = f"""SELECT coalesce(sum(({{now}}) - ({{then}})), 0) FROM
    (SELECT DISTINCT sample FROM submissions NOT INDEXED WHERE seq > :last AND seq <= :now {{mine}}) t
    CROSS JOIN samples s ON s.id = t.sample WHERE {POOL}"""
LATEST = """coalesce((SELECT kind FROM submissions d WHERE d.who = :who AND d.sample = t.sample AND d.seq <= {bound}
    ORDER BY seq DESC LIMIT 1), 'open') {is}"""
SUBMITTED, SKIPPED, DONE_WITH = (LATEST.replace("{is}", x) for x in ("= 'submit'", "= 'skip'", "<> 'open'"))
STAND = """o.sample = t.sample AND o.kind = 'submit' AND o.seq <= {bound} AND NOT EXISTS (SELECT 1 FROM submissions n
    WHERE n.who = o.who AND n.sample = o.sample AND n.seq > o.seq AND n.seq <= {bound})"""
ANYONE = f"EXISTS (SELECT 1 FROM submissions o WHERE {STAND})"
# not done by :who, and no longer given to them: enough others are done with it. The simulated annotator is nobody
CLOSED = f"""(NOT {DONE_WITH} AND (SELECT count(DISTINCT o.who) FROM submissions o
    WHERE {STAND} AND o.who <> :who AND NOT EXISTS
        (SELECT 1 FROM scores x WHERE x.sample = o.sample AND x.source = 'simulated' AND x.who = o.who)) >= :overlap)"""

# Things of a correction: words, or the samples of words.
SAID = """SELECT coalesce(sum(({now}) - ({then})), 0) FROM (SELECT DISTINCT {thing} FROM scores {index}
    WHERE {whose} AND seq > :last AND seq <= :now) t CROSS JOIN samples s ON s.id = t.sample WHERE {pool}"""
STANDS = """EXISTS (SELECT 1 FROM scores e WHERE e.sample = t.sample {word} AND {whose} AND e.kind = 'set'
    AND e.seq <= {bound} AND NOT EXISTS (SELECT 1 FROM scores n WHERE n.sample = e.sample
        AND n.word_index = e.word_index AND n.source = e.source AND n.who = e.who
        AND n.seq > e.seq AND n.seq <= {bound}))"""
OWN = "who = :who AND who <> '' AND source = 'human'"
ANYBODY = "who <> '' AND source <> 'confirmed'"


def _change(of: str, state: str, **parts: str) -> str:
    """The SELECT of a count: a state :now less the same at :last."""
    return of.format(now=state.replace("{bound}", ":now"), then=state.replace("{bound}", ":last"), **parts)


def _said(pool: str, whose: str, index: str, words: bool = True) -> str:
    word = "AND e.word_index = t.word_index" if words else ""
    state = STANDS.format(
        word=word, whose=whose.replace("who", "e.who").replace(":e.who", ":who"), bound="{bound}"
    )
    thing = "sample, word_index" if words else "sample"
    return _change(SAID, state, thing=thing, index=index, whose=whose, pool=pool)


class Tallies(Records):
    def __init__(self, database: DatabaseFile) -> None:
        super().__init__(database)
        self._counts: OrderedDict[Any, tuple[int, str, int]] = OrderedDict()
        self._counting, self._first = Lock(), Lock()

    def queue(self, who: str, overlap: int | None = None, **filters: Any) -> dict[str, Any]:
        """How far the queue is: {mine, all, left: int, per_hour: float|None}, of what the filters leave.

        mine: samples that this person has submitted; all: that anyone has; left: that this person may still
        be given, now or when a lease ends. per_hour: this person's pace between the first and the last
        submit or skip of the past hour, on any sample; None before there are two. Of a person's submits and skips of a
        sample the last one counts, and none where they were taken back.
        """
        where, values = queue_filter(filters)
        mine = values | {"who": checks.text("who", who)}
        others = mine | {"overlap": checked_overlap(overlap)}
        own = "AND who = :who"
        fixed = _fixed(filters)
        with self.database.reading() as db:

            def done(state: str, values: dict[str, Any], whose: str = "") -> int:
                return self._count(
                    db, "submissions", _change(DONE, state, mine=whose, where=where), values, fixed
                )

            samples = self._count(db, "samples", SAMPLES.format(where=where), values, fixed)
            found: dict[str, Any] = {
                "mine": done(SUBMITTED, mine, own),
                "all": done(ANYONE, values),
                "left": samples - done(DONE_WITH, mine, own),
            }
            if overlap is not None:
                found["left"] -= done(CLOSED, others)
            pace = row(
                db,
                f"""SELECT count(*) AS n, min(created) AS first, max(created) AS last FROM submissions e
                WHERE who = ? AND created > ? AND {STILL_LEFT}""",
                (who, instant(-3600)),
            )
        assert pace is not None
        found["per_hour"] = None
        if pace["n"] > 1 and pace["last"] > pace["first"]:
            worked = datetime.fromisoformat(pace["last"]) - datetime.fromisoformat(pace["first"])
            found["per_hour"] = (pace["n"] - 1) * 3600 / worked.total_seconds()
        return found

    def progress(self, who: str, **filters: Any) -> dict[str, int]:
        """This person's counts: {samples, scored, submitted, skipped, remaining, corrected_words,
        corrected_samples}. ``samples`` can be annotated at all; ``remaining`` are those not yet submitted or skipped. The filters
        bound every figure."""
        where, values = queue_filter(filters)
        mine, fixed = values | {"who": checks.text("who", who)}, _fixed(filters)
        pool = POOL.format(where=where)
        with self.database.reading() as db:

            def ended(state: str) -> int:
                sql = _change(DONE, state, mine="AND who = :who", where=where)
                return self._count(db, "submissions", sql, mine, fixed)

            def said(words: bool) -> int:
                sql = _said(pool, OWN, "INDEXED BY scores_who", words)
                return self._count(db, "scores", sql, mine, fixed)

            found = {
                "samples": self._count(db, "samples", SAMPLES.format(where=where), values, fixed),
                "scored": self._count(
                    db, "scores", SCORED.format(where=where), values, fixed, FIRST_SCORED.format(where=where)
                ),
                "submitted": ended(SUBMITTED),
                "skipped": ended(SKIPPED),
                "corrected_words": said(words=True),
                "corrected_samples": said(words=False),
            }
        return found | {"remaining": found["samples"] - found["submitted"] - found["skipped"]}

    def count_corrected(self) -> int:
        """How many words have a correction that stands, by people or the simulated annotator; those of held-out
        samples, which nothing learns from, are not counted."""
        with self.database.reading() as db:
            # from the start along people's events, later along the newest
            first, later = (
                _said("s.split <> 'heldout'", ANYBODY, index)
                for index in ("INDEXED BY scores_who", "NOT INDEXED")
            )
            return self._count(db, "scores", later, {}, True, first)

    def _count(
        self, db: Database, table: str, sql: str, values: dict[str, Any], fixed: bool, first: str = ""
    ) -> int:
        """The count that ``sql`` gives the change of, as of the last row of ``table``. ``fixed``: whether a thing that
        has passed the filter always will. ``first``: a quicker SELECT from the start."""
        newest = row(db, f"SELECT seq, id FROM {table} ORDER BY seq DESC LIMIT 1")
        if newest is None:
            return 0
        key = (sql, tuple(values.items()))
        last, count = self._known(db, table, key, newest["seq"]) if fixed else (0, 0)
        if last == newest["seq"]:
            return count
        if last:
            count += self._changed(db, sql, values, last, newest["seq"])
        else:  # many who come at once wait for the first, where the question is the same
            with self._first:
                last, count = self._known(db, table, key, newest["seq"]) if fixed else (0, 0)
                count += self._changed(db, sql if last else first or sql, values, last, newest["seq"])
        with self._counting:
            self._counts[key] = (newest["seq"], newest["id"], count)
            self._counts.move_to_end(key)
            while len(self._counts) > KEPT:
                self._counts.popitem(last=False)
        return count

    def _known(self, db: Database, table: str, key: Any, newest: int) -> tuple[int, int]:
        """The last row that a count has seen, and the count; (0, 0) where there is none, or not of this store."""
        with self._counting:
            last, id, count = self._counts.get(key, (0, "", 0))
        if not 0 < last <= newest:
            return 0, 0
        known = row(db, f"SELECT id FROM {table} WHERE seq = ?", (last,))
        return (last, count) if known and known["id"] == id else (0, 0)

    def _changed(self, db: Database, sql: str, values: dict[str, Any], last: int, newest: int) -> int:
        return db.execute(sql, values | {"last": last, "now": newest}).fetchone()[0] if newest > last else 0


def _fixed(filters: dict[str, Any]) -> bool:
    """Whether a filter asks only for what never changes: columns of a sample."""
    return set(filters) <= set(EQUALS)
