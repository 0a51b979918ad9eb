"""Gold: scores of words that are known to be right, set by people who are trusted to know.

Append-only events; of a word the last one stands, and one without a score takes it back. Gold is not a judgement: it
never counts as one more person in the agreement. It is the label of its word before all that others say
(``data.store.labels``), and what each annotator can be held against. Nobody is held against gold of their own making.

Samples that carry gold go into people's queues now and then, like any other (``gold_to_annotate``): who is given one is
not told so. All but those who set it get every such sample once, however many have done it.
"""

from __future__ import annotations

from hashlib import sha256
from typing import Any

from data.store import checks
from data.store.audit import audit_line
from data.store.database import Records, insert, new_id, now, row, rows
from data.store.leases import checked_lease, instant, take, vacant
from data.store.queue import UNDONE, queue_filter
from data.store.samples import need_sample
from data.store.scores import need_word

# Gold that stands, on a table called g.
STANDS = """g.score IS NOT NULL AND NOT EXISTS (SELECT 1 FROM gold n WHERE n.sample = g.sample
    AND n.word_index = g.word_index AND n.seq > g.seq)"""


class Gold(Records):
    def set(
        self, sample: str, word_index: int, score: int | None, who: str, word: str | None = None
    ) -> dict[str, Any] | None:
        """This score of the word is right; None takes it back. In the audit log as well.

        Returns the event that stands, {id, sample, word_index, word, score, who, created}, or None where none does.
        Saying again what stands returns the standing event, whoever set it.
        """
        who = checks.text("who", who)
        given = None if score is None else checks.score(score)
        with self.database.writing() as db:
            found = need_sample(db, sample)
            index = checks.integer("word_index", word_index, 0, 999)
            need_word(found, index, word or "")
            standing = row(
                db,
                """SELECT id, sample, word_index, word, score, who, created FROM gold
                WHERE sample = ? AND word_index = ? ORDER BY seq DESC LIMIT 1""",
                (sample, index),
            )
            before = standing["score"] if standing else None
            if before == given:
                return standing if given is not None else None
            if word is None:
                said = row(
                    db,
                    "SELECT word FROM scores WHERE sample = ? AND word_index = ? AND word <> '' LIMIT 1",
                    (sample, index),
                )
                word = said["word"] if said else standing["word"] if standing else ""
            event = {
                "id": new_id(),
                "sample": sample,
                "word_index": index,
                "word": checks.text("word", word, checks.PROMPT_LENGTH, empty=True),
                "score": given,
                "who": who,
                "created": now(),
            }
            insert(db, "gold", event)
            detail = {"word_index": index, "word": event["word"][:80], "before": before, "score": given}
            insert(db, "audit", audit_line(who, "gold", sample, detail))
        return event if given is not None else None

    def scores(self, sample: str | None = None, limit: int | None = None) -> list[dict[str, Any]]:
        """The gold that stands, the newest first: {sample, word_index, word, score, who, created, prompt}."""
        most = -1 if limit is None else checks.integer("limit", limit, 0, 1_000_000)
        where, values = ("1", [most]) if sample is None else ("g.sample = ?", [sample, most])
        with self.database.reading() as db:
            return rows(
                db,
                f"""SELECT g.sample, g.word_index, g.word, g.score, g.who, g.created, s.prompt
                FROM gold g JOIN samples s ON s.id = g.sample WHERE {where} AND {STANDS}
                ORDER BY g.seq DESC LIMIT ?""",
                values,
            )

    def count(self) -> dict[str, int]:
        """{words, samples} that carry gold."""
        with self.database.reading() as db:
            found = row(
                db, f"SELECT count(*) AS words, count(DISTINCT sample) AS samples FROM gold g WHERE {STANDS}"
            )
        assert found is not None
        return found

    def done(self, who: str) -> int:
        """How often this person has submitted or skipped a sample, less what was taken back."""
        taken_back = "SELECT count(*) FROM submissions WHERE who = :who AND undoes IS NOT NULL"
        with self.database.reading() as db:
            found = db.execute(
                f"SELECT count(*) - 2 * ({taken_back}) FROM submissions WHERE who = :who",
                {"who": checks.text("who", who)},
            )
            return int(found.fetchone()[0])

    def next(
        self, who: str, exclude: str | None = None, *, lease: float | None = None, **filters: Any
    ) -> dict[str, Any] | None:
        """A sample with gold that this person has not done (all its columns), or None; as ``next_to_annotate``.

        Left out: what others hold, and gold that this person set. In an order of the person's own that lasts.
        """
        where, values = queue_filter(filters)
        values |= {"who": checks.text("who", who), "exclude": exclude, "now": instant()}
        values["start"] = sha256(f"gold {who}".encode()).hexdigest()[:32]
        seconds = checked_lease(lease) if lease is not None else 0.0
        sql = f"""SELECT s.* FROM samples s WHERE s.id IN (SELECT g.sample FROM gold g WHERE {STANDS})
                AND NOT EXISTS (SELECT 1 FROM gold g WHERE g.sample = s.id AND g.who = :who AND {STANDS})
                AND {where} AND s.image_path IS NOT NULL AND s.n_words > 0 AND s.id IS NOT :exclude
                AND {UNDONE.format(id="s.id")} AND {vacant(None)}
            ORDER BY s.id < :start, s.id LIMIT 1"""
        with (
            self.database.reading() as db
        ):  # nearly always there is none, or none that is due: no lock for that
            found = row(db, sql, values)
        if found is None or lease is None:
            return found
        with self.database.writing() as db:
            found = row(db, sql, {**values, "now": instant()})
            if found:
                take(db, found["id"], who, seconds)
        return found
