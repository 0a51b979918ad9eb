"""What people said, as plain rows that agreement is counted on (``data.quality``): scores that stand, and steps.

Only people: the simulated annotator is a program, and it agrees with itself.
"""

from __future__ import annotations

import json
from typing import Any

from data.database import DatabaseFile, rows


class Judgements(DatabaseFile):
    def judgements(self) -> list[dict[str, Any]]:
        """The scores of people that stand, one row for each person and word, by arrival of the sample.

        Row: sample, word_index, word, prompt, who, score, vlm (the VLM's latest score of the word, 0-9, its likeliest
        where it has only a distribution; None where it has none).
        """
        with self.reading() as db:
            found = rows(
                db,
                """SELECT e.sample, e.word_index, e.word, s.prompt, e.who, e.score, v.score AS vlm, v.distribution
                FROM (SELECT max(seq) AS seq FROM scores WHERE source = 'human'
                    GROUP BY sample, word_index, who) l
                JOIN scores e ON e.seq = l.seq JOIN samples s ON s.id = e.sample
                LEFT JOIN scores v ON v.seq = (SELECT max(seq) FROM scores WHERE sample = e.sample
                    AND word_index = e.word_index AND source = 'vlm' AND who = '')
                WHERE e.kind = 'set' ORDER BY s.seq, e.word_index, e.who""",
            )
        for r in found:
            spread = r.pop("distribution")
            if r["vlm"] is None and spread:
                probabilities = json.loads(spread)
                r["vlm"] = probabilities.index(max(probabilities))
        return found

    def steps(self) -> list[dict[str, Any]]:
        """Everything that people did, in the order of time: {who, sample, action, created}; action is set, clear or
        undo of a word's score, submit or skip of a sample."""
        with self.reading() as db:
            return rows(
                db,
                """SELECT who, sample, CASE WHEN undoes IS NULL THEN kind ELSE 'undo' END AS action, created
                FROM scores WHERE source = 'human'
                UNION ALL
                SELECT who, sample, kind, created FROM submissions
                WHERE who NOT IN (SELECT who FROM scores WHERE source = 'simulated' AND who <> '')
                ORDER BY created""",
            )
