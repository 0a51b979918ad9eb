"""Blind votes between two images of one prompt: which is better, neither (tie), or both bad (none).

Votes are append-only events. Of a person's votes on a pair the last one stands, whichever image was on the left.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from data.store import checks
from data.store.database import Records, insert, new_id, now
from data.store.samples import need_sample

CHOICES = ("left", "right", "tie", "none")
SIDES = ("left_sample", "right_sample")


COLUMNS: dict[str, checks.Shape] = {
    "id": checks.identifier, "left_sample": checks.identifier, "right_sample": checks.identifier,
    "choice": checks.choice(*CHOICES), "who": checks.text, "created": checks.time,
}  # fmt: skip


def checked_preference(entry: Mapping[str, Any]) -> dict[str, Any]:
    """A row of ``preferences`` from elsewhere."""
    vote = checks.entry(entry, COLUMNS)
    if vote["left_sample"] == vote["right_sample"]:
        raise ValueError("A vote is between two images; these are one and the same.")
    return vote


class Votes(Records):
    def add(self, left_sample: str, right_sample: str, choice: str, who: str) -> dict[str, Any]:
        """Add a vote; returns the event {id, left_sample, right_sample, choice, who, created}."""
        sides = {"left_sample": left_sample, "right_sample": right_sample}
        event = checked_preference({"id": new_id(), **sides, "choice": choice, "who": who, "created": now()})
        with self.database.writing() as db:
            left, right = (need_sample(db, event[side]) for side in SIDES)
            if left["prompt"] != right["prompt"]:
                raise ValueError("A vote is between two images of one prompt; these have different prompts.")
            insert(db, "preferences", event)
        return event

    def find(self, samples: Sequence[str] | None = None, who: str | None = None) -> list[dict[str, Any]]:
        """The votes that stand, oldest first, as ``add`` returns them; optionally between two of ``samples``, or of one person."""
        values = {
            "samples": None if samples is None else checks.as_json("samples", list(samples)),
            "who": None if who is None else checks.text("who", who),
        }
        within = "(SELECT value FROM json_each(:samples))"
        # the index of the left image finds listed samples; without a list, every pair is read
        chosen = f"left_sample IN {within} AND right_sample IN {within}" if samples is not None else "1"
        sql = f"""SELECT id, left_sample, right_sample, choice, who, created FROM preferences WHERE seq IN
                (SELECT max(seq) FROM preferences WHERE {chosen} AND (:who IS NULL OR who = :who)
                GROUP BY who, min(left_sample, right_sample), max(left_sample, right_sample))
            ORDER BY seq"""
        return self.rows(sql, values)
