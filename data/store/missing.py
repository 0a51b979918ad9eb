"""Words that a scorer gave no readable answer for: noted, so that they are not asked again for ever (DESIGN section 5)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from data.store import checks
from data.store.database import Records, insert, now, rows
from data.store.samples import need_sample
from data.store.scores import need_word


def checked_note(given: Mapping[str, Any]) -> dict[str, Any]:
    """A whole row of a word that a scorer gave no readable answer for; ValueError names the field that is wrong."""
    return {
        "sample": checks.identifier("sample", given.get("sample")),
        "word_index": checks.integer("word_index", given.get("word_index"), 0, 999),
        "scorer": checks.text("scorer", given.get("scorer") or "", 200, empty=True),
        "scorer_version": checks.text("scorer_version", given.get("scorer_version"), 200),
        "reason": checks.text("reason", given.get("reason"), 200),
        "created": checks.time("created", given.get("created") or now()),
    }


class Missing(Records):
    def add(self, found: Iterable[Mapping[str, Any]]) -> int:
        """Note words that a scorer gave no readable answer for: sample, word_index, scorer, scorer_version, reason.

        All or none. A sample with such a note counts as looked at by that version, so it is not asked again for ever.
        """
        notes = [checked_note(m) for m in found]
        with self.database.writing() as db:
            for note in notes:
                need_word(need_sample(db, note["sample"]), note["word_index"])
                insert(db, "missing", note)
        return len(notes)

    def find(self, sample: str) -> list[dict[str, Any]]:
        """The notes of a sample's words that a scorer gave no readable answer for, oldest first."""
        with self.database.reading() as db:
            need_sample(db, sample)
            return rows(db, "SELECT * FROM missing WHERE sample = ? ORDER BY seq", (sample,))
