"""People's judgements and steps as plain rows, from which agreement is computed (``data.store.agreement``).

People only: the simulated annotator is a program, and agrees with itself.
"""

from __future__ import annotations

from typing import Any

from sqlite_utils import Database

from data.store import checks
from data.store.database import Records, rows
from data.store.scores import latest_events, readable, standing


class Judgements(Records):
    def scores(self, most: int | None = None) -> list[dict[str, Any]]:
        """The scores of people that stand, one row per person and word, by arrival of the sample.

        Row: sample, word_index, word, prompt, word_rules, who, score, seq (of its event), vlm (the VLM's latest score of
        the word, 0-9, or its most likely one where it has only a distribution; None without either), gold (the word's gold
        score, or None) and gold_by (who set it). ``most``: only of the latest so many events.
        """
        with self.database.reading() as db:
            sql = """SELECT e.sample, e.word_index, e.word, s.prompt, s.word_rules, e.who, e.score, e.seq, v.score AS vlm,
                    v.distribution, g.score AS gold, iif(g.score IS NULL, NULL, g.who) AS gold_by
                FROM (SELECT max(seq) AS seq FROM scores WHERE source = 'human' AND seq >= :first
                    GROUP BY sample, word_index, who) l
                JOIN scores e ON e.seq = l.seq JOIN samples s ON s.id = e.sample
                LEFT JOIN scores v ON v.seq = (SELECT max(seq) FROM scores WHERE sample = e.sample
                    AND word_index = e.word_index AND source = 'vlm' AND who = '')
                LEFT JOIN gold g ON g.seq = (SELECT max(seq) FROM gold WHERE sample = e.sample
                    AND word_index = e.word_index)
                WHERE e.kind = 'set' ORDER BY s.seq, e.word_index, e.who"""
            judgements = rows(db, sql, {"first": self._seq_of(db, "scores", "source = 'human'", most)})
        for judgement in judgements:
            distribution = readable(judgement).pop("distribution")
            if judgement["vlm"] is None and distribution:
                judgement["vlm"] = distribution.index(max(distribution))
        return judgements

    def steps(self, most: int | None = None) -> list[dict[str, Any]]:
        """All steps of people, oldest first: {who, sample, action, created, seq: its number among scores, or among submits and
        skips}.

        action is set, clear or undo of a word's score, submit or skip of a sample, or open where that was taken back
        (submit or skip again, where the sample had been left before). ``most``: only so many of the latest of either.
        """
        with self.database.reading() as db:
            sql = """SELECT who, sample, CASE WHEN undoes IS NULL THEN kind ELSE 'undo' END AS action, created, seq
                FROM scores WHERE source = 'human' AND seq >= :first
                UNION ALL
                SELECT who, sample, kind, created, seq FROM submissions WHERE seq >= :done
                    AND who NOT IN (SELECT who FROM scores WHERE source = 'simulated' AND who <> '')
                ORDER BY created"""
            first = self._seq_of(db, "scores", "source = 'human'", most)
            return rows(db, sql, {"first": first, "done": self._seq_of(db, "submissions", "1", most)})

    def said_of(self, sample: str, word_index: int) -> list[tuple[str, int]]:
        """(who, score) of each person whose score of the word stands, lowest first."""
        with self.database.reading() as db:
            words = standing(latest_events(db, [sample]), None)
        people = words[word_index]["people"] if word_index in words else {}
        return sorted(people.items(), key=lambda said: (said[1], said[0]))

    def judged(self) -> tuple[Any, ...]:
        """A quick value that changes whenever the figures of the quality may have, also by a restored backup (thus the ids)."""
        newest = "SELECT seq, id FROM {} ORDER BY seq DESC LIMIT 1"
        with self.database.reading() as db:
            return tuple(db.execute(newest.format(t)).fetchone() for t in ("scores", "submissions", "gold"))

    def _seq_of(self, db: Database, table: str, where: str, most: int | None) -> int:
        """The seq of the ``most``-th last row; 0 where there are fewer, or ``most`` is None."""
        if most is None:
            return 0
        sql = f"SELECT seq FROM {table} WHERE {where} ORDER BY seq DESC LIMIT 1 OFFSET ?"
        first = db.execute(sql, (checks.integer("most", most, 1, 2**62) - 1,)).fetchone()
        return first[0] if first else 0
