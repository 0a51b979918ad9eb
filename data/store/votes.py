"""Blind votes between two images of one prompt: which is better, neither (tie), or none of them any good.

Append-only events. Of a person's votes on a pair the last one stands, whichever image lay left in it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from data.store import checks
from data.store.database import Records, insert, new_id, now, rows
from data.store.samples import need_sample

CHOICES = ("left", "right", "tie", "none")


class Votes(Records):
    def add(self, left_sample: str, right_sample: str, choice: str, who: str) -> dict[str, Any]:
        """A vote; returns the event {id, left_sample, right_sample, choice, who, created}."""
        event = {
            "id": new_id(),
            "left_sample": left_sample,
            "right_sample": right_sample,
            "choice": checks.one_of("choice", choice, CHOICES),
            "who": checks.text("who", who),
            "created": now(),
        }
        with self.database.writing() as db:
            left, right = need_sample(db, left_sample), need_sample(db, right_sample)
            if left["id"] == right["id"]:
                raise ValueError("A vote is between two images; these are one and the same.")
            if left["prompt"] != right["prompt"]:
                raise ValueError("A vote is between two images of one prompt; these have different prompts.")
            insert(db, "preferences", event)
        return event

    def find(self, samples: Sequence[str] | None = None, who: str | None = None) -> list[dict[str, Any]]:
        """The votes that stand, in the order of time, as ``add_preference`` returns them; of pairs that lie within
        ``samples``, and of one person, where these are given."""
        values = {
            "samples": None if samples is None else checks.as_json("samples", list(samples)),
            "who": None if who is None else checks.text("who", who),
        }
        within = "(SELECT value FROM json_each(:samples))"
        # a list is looked up by the index of the left image; without one, every pair is read
        chosen = f"left_sample IN {within} AND right_sample IN {within}" if samples is not None else "1"
        with self.database.reading() as db:
            return rows(
                db,
                f"""SELECT id, left_sample, right_sample, choice, who, created FROM preferences WHERE seq IN
                    (SELECT max(seq) FROM preferences WHERE {chosen} AND (:who IS NULL OR who = :who)
                    GROUP BY who, min(left_sample, right_sample), max(left_sample, right_sample))
                ORDER BY seq""",
                values,
            )
