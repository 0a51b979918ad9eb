"""What a person remarks of a sample beside its scores: a flag with a reason, and a note.

Append-only events; of a person's flags (notes) on a sample the last one stands. To take one back is an event
too, with an empty text. A flag does not end the work on a sample: that is submit or skip.
"""

from __future__ import annotations

from typing import Any

from data.store import checks
from data.store.database import Records, insert, new_id, now, row, rows
from data.store.samples import need_sample

REMARKS = ("flag", "note")
REASON_LENGTH, NOTE_LENGTH = 200, 2000


class Remarks(Records):
    def flag(self, sample: str, who: str, reason: str) -> dict[str, Any]:
        """Something is wrong with the sample; returns the event {id, sample, who, kind, text, created}."""
        return self._remark(sample, who, "flag", checks.text("reason", reason, REASON_LENGTH))

    def unflag(self, sample: str, who: str) -> dict[str, Any] | None:
        """Take this person's flag back. None where there was none."""
        return self._remark(sample, who, "flag", "")

    def note(self, sample: str, who: str, text: str) -> dict[str, Any] | None:
        """What this person wants to say of the sample; an empty text takes the note back."""
        text = checks.text("note", text, NOTE_LENGTH, empty=True)
        return self._remark(sample, who, "note", text if text.strip() else "")

    def _remark(self, sample: str, who: str, kind: str, text: str) -> dict[str, Any] | None:
        """Saying again what stands returns the standing event."""
        who = checks.text("who", who)
        with self.database.writing() as db:
            need_sample(db, sample)
            standing = row(
                db,
                """SELECT id, sample, who, kind, text, created FROM remarks
                WHERE sample = ? AND who = ? AND kind = ? ORDER BY seq DESC LIMIT 1""",
                (sample, who, kind),
            )
            if standing and standing["text"] == text:
                return standing if text else None
            if not standing and not text:
                return None
            event = {
                "id": new_id(),
                "sample": sample,
                "who": who,
                "kind": kind,
                "text": text,
                "created": now(),
            }
            insert(db, "remarks", event)
        return event

    def find(
        self, sample: str | None = None, who: str | None = None, kind: str | None = None
    ) -> list[dict[str, Any]]:
        """The flags and notes that stand, the newest first: {id, sample, who, kind, text, created}."""
        if kind is not None:
            checks.one_of("kind", kind, REMARKS)
        with self.database.reading() as db:
            return rows(
                db,
                """SELECT id, sample, who, kind, text, created FROM remarks r
                WHERE (:sample IS NULL OR sample = :sample) AND (:who IS NULL OR who = :who)
                    AND (:kind IS NULL OR kind = :kind) AND text <> '' AND NOT EXISTS
                    (SELECT 1 FROM remarks n WHERE n.sample = r.sample AND n.who = r.who
                        AND n.kind = r.kind AND n.seq > r.seq)
                ORDER BY seq DESC""",
                {"sample": sample, "who": who, "kind": kind},
            )
