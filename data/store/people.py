"""Names and their owners: a name belongs to whoever first wrote under it.

The owner holds a key, of which only the digest is kept. A name without a row is free, also one with events from before there
were keys. Names that look the same count as one.
"""

from __future__ import annotations

import hmac
import unicodedata
from typing import Any

from data.store import checks
from data.store.audit import audit_line
from data.store.database import Records, insert, now, rows


def alike(name: str) -> str:
    """A name without the differences that people overlook: width, case and spaces."""
    return " ".join(unicodedata.normalize("NFKC", name).casefold().split())


class People(Records):
    def holds(self, name: str, key_sha256: str) -> bool | None:
        """Whether the name belongs to this key; None where it belongs to nobody yet."""
        digest, name = checks.sha256("key_sha256", key_sha256), checks.text("name", name)
        owner = self.row("SELECT key_sha256 FROM people WHERE name = ?", (name,))
        return None if owner is None else hmac.compare_digest(owner["key_sha256"], digest)

    def claim(self, name: str, key_sha256: str) -> bool:
        """Claim a free name for this key; returns whether the key owns it now. ValueError where somebody has one that looks the same."""
        digest, name = checks.sha256("key_sha256", key_sha256), checks.text("name", name)
        with self.database.writing() as db:
            if (holds := self.holds(name, digest)) is not None:
                return holds
            like = alike(name)
            for other in rows(db, "SELECT name, key_sha256 FROM people"):
                if alike(other["name"]) == like and not hmac.compare_digest(other["key_sha256"], digest):
                    taken = checks.shown(other["name"])
                    raise ValueError(f"Somebody goes by {taken}, which looks the same: choose another name.")
            insert(db, "people", {"name": name, "key_sha256": digest, "created": now()})
        return True

    def wrote(self, name: str) -> bool:
        """Whether there are corrections under this name."""
        return bool(self.rows("SELECT 1 FROM scores WHERE who = ? AND who <> '' LIMIT 1", (name,)))

    def find(self, limit: int = 1000) -> list[dict[str, Any]]:
        """The names that belong to somebody, newest first: {name, created}, without keys or digests."""
        sql = "SELECT name, created FROM people ORDER BY created DESC, name LIMIT ?"
        return self.rows(sql, (checks.integer("limit", limit, 0, 1_000_000),))

    def release(self, name: str, by: str) -> None:
        """Free a name for the next one who writes under it, and note it in the audit log."""
        checks.text("by", by)
        with self.database.writing() as db:
            if not db.execute("DELETE FROM people WHERE name = ?", (checks.text("name", name),)).rowcount:
                raise ValueError(f"Nobody goes by {checks.shown(name)}: `people` lists the names.")
            insert(db, "audit", audit_line(by, "release", name))
