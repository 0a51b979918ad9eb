"""The audit log: who did what to the store as a whole (import, export, backup, promotion, deletion).

Corrections are not repeated here: ``scores`` is a log of its own.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from data.store import checks
from data.store.database import Records, insert, now


def audit_line(
    who: str, action: str, subject: str, detail: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """A checked row of the log, to be inserted in the transaction that it is about."""
    return {
        "who": checks.text("who", who, empty=True),
        "action": checks.text("action", action),
        "subject": checks.text("subject", subject, 500, empty=True),
        "detail": checks.as_json("detail", dict(detail or {})),
        "created": now(),
    }


class Audit(Records):
    def note(self, who: str, action: str, subject: str = "", detail: Mapping[str, Any] | None = None) -> None:
        """Add an entry. who: '' for the studio itself; action: a verb such as "import"; subject: what it was done to."""
        record = audit_line(who, action, subject, detail)
        if self.database.damage:  # an export from a damaged store cannot be noted in it
            return
        with self.database.writing() as db:
            insert(db, "audit", record)

    def entries(self, limit: int = 100, offset: int = 0) -> list[dict[str, Any]]:
        """The entries, newest first: {seq, who, action, subject, detail, created}."""
        values = (checks.integer("limit", limit, 0, 1_000_000), checks.integer("offset", offset, 0, 2**62))
        entries = self.rows("SELECT * FROM audit ORDER BY seq DESC LIMIT ? OFFSET ?", values)
        return [{**entry, "detail": json.loads(entry["detail"])} for entry in entries]
