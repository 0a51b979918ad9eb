"""What an annotator's page asks of the store: what people said of a sample, steps to go back over, and choices.

Steps are what one person did, in the order in which it was written, whatever the clock said: scores, and leaving a sample by
submit or skip. Both are undone by an event of their own (``Scores.undo``, ``Annotation.come_back``), so what was undone is
no step any more.
"""

from __future__ import annotations

from typing import Any

from data.store import checks
from data.store.database import Records, row, rows
from data.store.queue import STILL_LEFT
from data.store.samples import need_sample

CHOICES = ("prompt_set", "method", "projector_run", "prompt")


class Desk(Records):
    def said(self, sample: str) -> list[dict[str, Any]]:
        """What each person said last of each word: {seq, word_index, who, score: 0-9, or None where it was taken
        back, created}, the oldest first."""
        with self.database.reading() as db:
            need_sample(db, sample)
            return rows(
                db,
                """SELECT seq, word_index, who, score, created FROM scores WHERE seq IN
                    (SELECT max(seq) FROM scores WHERE sample = ? AND source = 'human' GROUP BY word_index, who)
                ORDER BY seq""",
                (sample,),
            )

    def mark(self, sample: str) -> tuple[int, int]:
        """The numbers of the last score and the last remark of a sample, 0 for none: as long as they stay, so does all
        that anybody and anything said of it."""
        with self.database.reading() as db:
            found = db.execute(
                """SELECT (SELECT max(seq) FROM scores WHERE sample = :sample),
                    (SELECT max(seq) FROM remarks WHERE sample = :sample)""",
                {"sample": checks.identifier("sample", sample)},
            ).fetchone()
        return found[0] or 0, found[1] or 0

    def scored_since(self, sample: str, seq: int) -> set[int]:
        """The numbers of the scores of a sample that came after this one."""
        with self.database.reading() as db:
            found = db.execute("SELECT seq FROM scores WHERE sample = ? AND seq > ?", (sample, seq))
            return {r[0] for r in found}

    def last_step(self, who: str, sample: str | None = None) -> dict[str, Any] | None:
        """This person's last score (of ``sample``, or any) that is not undone: {seq, sample}, or None."""
        with self.database.reading() as db:
            return row(
                db,
                """SELECT seq, sample FROM scores e
                WHERE who = :who AND who <> '' AND source = 'human' AND +undoes IS NULL
                    AND NOT EXISTS (SELECT 1 FROM scores u WHERE u.undoes = e.id)
                    AND (:sample IS NULL OR sample = :sample)
                ORDER BY seq DESC LIMIT 1""",
                {"who": checks.text("who", who), "sample": sample},
            )

    def last_left(self, who: str, sample: str | None = None) -> dict[str, Any] | None:
        """This person's last submit or skip (of ``sample``, or any) that was not taken back: {id, sample, kind, after: the
        seq of the last score before it}, or None."""
        with self.database.reading() as db:
            return row(
                db,
                f"""SELECT id, sample, kind, coalesce(after, (SELECT max(seq) FROM scores s WHERE s.who = e.who
                    AND s.who <> '' AND s.created < e.created), 0) AS after FROM submissions e
                WHERE who = :who AND {STILL_LEFT} AND (:sample IS NULL OR sample = :sample)
                ORDER BY seq DESC LIMIT 1""",
                {"who": checks.text("who", who), "sample": sample},
            )

    def choices(self, name: str, limit: int = 300) -> list[str]:
        """What the samples that are trained on offer a filter of the queue: its values, prompts the newest first."""
        checks.one_of("filter", name, CHOICES)
        order = "max(seq) DESC" if name == "prompt" else name
        with self.database.reading() as db:
            found = rows(
                db,
                f"""SELECT {name} AS value FROM samples WHERE split = 'train' AND {name} IS NOT NULL AND {name} <> ''
                GROUP BY {name} ORDER BY {order} LIMIT ?""",
                (checks.integer("limit", limit, 1, 10_000),),
            )
        return [r["value"] for r in found]
