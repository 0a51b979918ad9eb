"""Gold scores: scores of words that are known to be right, set by trusted people.

Gold scores are append-only events; of a word the last one stands, and one without a score takes it back. Gold is the label of
its word before anything else (``data.store.labels``), never counts as one more person in the agreement, and annotators are
measured against it, but nobody against their own.

Samples with gold are mixed into people's queues like any other (``Gold.next``), once for everybody but those who set the gold.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from hashlib import sha256
from typing import Any

from data.store import checks
from data.store.audit import audit_line
from data.store.database import Records, insert, new_id, now, row
from data.store.queue import UNDONE, checked_lease, queue_filter, take, vacant
from data.store.samples import need_sample
from data.store.scores import need_word, word_of

# Gold that stands, in a table called g.
STANDS = """g.score IS NOT NULL AND NOT EXISTS (SELECT 1 FROM gold n WHERE n.sample = g.sample
    AND n.word_index = g.word_index AND n.seq > g.seq)"""


COLUMNS: dict[str, checks.Shape] = {
    "id": checks.identifier, "sample": checks.identifier, "word_index": partial(checks.integer, low=0, high=999),
    "word": checks.words(checks.PROMPT_LENGTH), "score": checks.maybe(partial(checks.integer, low=0, high=9)),
    "who": checks.text, "created": checks.time,
}  # fmt: skip


def checked_gold(entry: Mapping[str, Any], sample: Mapping[str, Any]) -> dict[str, Any]:
    """A row of ``gold`` from elsewhere."""
    gold = checks.entry(entry, COLUMNS, sample["id"])
    need_word(sample, gold["word_index"], gold["word"])
    return gold


class Gold(Records):
    def set(
        self, sample: str, word_index: int, score: int | None, who: str, word: str | None = None
    ) -> dict[str, Any] | None:
        """Set a word's gold score, or take it back (None), and note it in the audit log.

        Returns the event that stands, {id, sample, word_index, word, score, who, created}, or None where none does.
        Repeating what stands returns the standing event, whoever set it.
        """
        given = {"word_index": word_index, "score": score, "who": who, "word": word or ""}
        with self.database.writing() as db:
            event = checked_gold({"id": new_id(), **given, "created": now()}, need_sample(db, sample))
            sql = """SELECT id, sample, word_index, word, score, who, created FROM gold
                WHERE sample = ? AND word_index = ? ORDER BY seq DESC LIMIT 1"""
            standing = row(db, sql, (sample, event["word_index"]))
            before = standing["score"] if standing else None
            if before == event["score"]:
                return standing if before is not None else None
            if word is None:
                earlier = standing["word"] if standing else ""
                event["word"] = word_of(db, sample, event["word_index"]) or earlier
            insert(db, "gold", event)
            detail = {"word_index": event["word_index"], "score": event["score"], "word": event["word"][:80]}
            insert(db, "audit", audit_line(event["who"], "gold", sample, {**detail, "before": before}))
        return event if event["score"] is not None else None

    def scores(self, sample: str | None = None, limit: int | None = None) -> list[dict[str, Any]]:
        """The gold that stands, newest first: {sample, word_index, word, score, who, created, prompt}."""
        most = -1 if limit is None else checks.integer("limit", limit, 0, 1_000_000)
        sql = f"""SELECT g.sample, g.word_index, g.word, g.score, g.who, g.created, s.prompt
            FROM gold g JOIN samples s ON s.id = g.sample
            WHERE {"1" if sample is None else "g.sample = :sample"} AND {STANDS} ORDER BY g.seq DESC LIMIT :limit"""
        return self.rows(sql, {"sample": sample, "limit": most})

    def count(self) -> dict[str, int]:
        """{words, samples} with gold."""
        sql = f"SELECT count(*) AS words, count(DISTINCT sample) AS samples FROM gold g WHERE {STANDS}"
        return self.rows(sql)[0]

    def done(self, who: str) -> int:
        """Number of this person's submits and skips that were not taken back."""
        taken_back = "SELECT count(*) FROM submissions WHERE who = :who AND undoes IS NOT NULL"
        sql = f"SELECT count(*) - 2 * ({taken_back}) FROM submissions WHERE who = :who"
        return self.value(sql, {"who": checks.text("who", who)})

    def next(
        self, who: str, exclude: str | None = None, *, lease: float | None = None, **filters: Any
    ) -> dict[str, Any] | None:
        """A sample with gold that this person has not done (all its columns), or None; parameters as for ``Queue.next``.

        Left out: what others hold, and gold that this person set. In an order of the person's own that lasts.
        """
        where, values = queue_filter(filters)
        values |= {"who": checks.text("who", who), "exclude": exclude, "now": now()}
        values["start"] = sha256(f"gold {who}".encode()).hexdigest()[:32]
        seconds = checked_lease(lease) if lease is not None else 0.0
        sql = f"""SELECT s.* FROM samples s WHERE s.id IN (SELECT g.sample FROM gold g WHERE {STANDS})
                AND NOT EXISTS (SELECT 1 FROM gold g WHERE g.sample = s.id AND g.who = :who AND {STANDS})
                AND {where} AND s.image_path IS NOT NULL AND s.n_words > 0 AND s.id IS NOT :exclude
                AND {UNDONE.format(id="s.id")} AND {vacant(None)}
            ORDER BY s.id < :start, s.id LIMIT 1"""
        sample = self.row(sql, values)  # most often there is none due, which needs no lock
        if sample is None or lease is None:
            return sample
        with self.database.writing() as db:
            sample = row(db, sql, {**values, "now": now()})
            if sample:
                take(db, sample["id"], who, seconds)
        return sample
