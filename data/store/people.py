"""Who may write under a name: the first to write under it (issue: identity).

A name belongs to whoever holds its key; of the key only the digest is kept. A name without a row is free, also one
with events from before there were keys. Two names that people would take for one are one.
"""

from __future__ import annotations

import hmac
import json
import unicodedata
from typing import Any

from data.store import checks
from data.store.database import Records, insert, now, row, rows


def alike(name: str) -> str:
    """What two names that cannot be told apart have in common: width, case and spaces do not count."""
    return " ".join(unicodedata.normalize("NFKC", name).casefold().split())


class People(Records):
    def holds(self, name: str, key_sha256: str) -> bool | None:
        """Whether the name belongs to this key; None where it belongs to nobody yet."""
        digest = checks.sha256("key_sha256", key_sha256)
        with self.database.reading() as db:
            found = row(db, "SELECT key_sha256 FROM people WHERE name = ?", (checks.text("name", name),))
        return None if found is None else hmac.compare_digest(found["key_sha256"], digest)

    def claim(self, name: str, key_sha256: str) -> bool:
        """Take the name for this key where it is free; whether it belongs to the key now. ValueError where somebody else
        goes by a name that looks the same."""
        digest, name = checks.sha256("key_sha256", key_sha256), checks.text("name", name)
        with self.database.writing() as db:
            found = row(db, "SELECT key_sha256 FROM people WHERE name = ?", (name,))
            if found is not None:
                return hmac.compare_digest(found["key_sha256"], digest)
            like = alike(name)
            for other in rows(db, "SELECT name, key_sha256 FROM people"):
                if alike(other["name"]) == like and not hmac.compare_digest(other["key_sha256"], digest):
                    raise ValueError(
                        f"Somebody goes by {checks.shown(other['name'])}, which looks the same: choose another name."
                    )
            insert(db, "people", {"name": name, "key_sha256": digest, "created": now()})
        return True

    def wrote(self, name: str) -> bool:
        """Whether there are corrections under this name."""
        with self.database.reading() as db:
            return (
                row(db, "SELECT 1 AS one FROM scores WHERE who = ? AND who <> '' LIMIT 1", (name,))
                is not None
            )

    def find(self, limit: int = 1000) -> list[dict[str, Any]]:
        """The names that belong to somebody, the newest first: {name, created}. No key and no digest is told."""
        with self.database.reading() as db:
            return rows(
                db,
                "SELECT name, created FROM people ORDER BY created DESC, name LIMIT ?",
                (checks.integer("limit", limit, 0, 1_000_000),),
            )

    def release(self, name: str, by: str) -> None:
        """Free a name for the next one who writes under it, and note it in the audit log."""
        line = {"who": checks.text("by", by), "action": "release", "subject": name, "detail": json.dumps({})}
        with self.database.writing() as db:
            if not db.execute("DELETE FROM people WHERE name = ?", (checks.text("name", name),)).rowcount:
                raise ValueError(f"Nobody goes by {checks.shown(name)}: `people` lists the names.")
            insert(db, "audit", {**line, "created": now()})
