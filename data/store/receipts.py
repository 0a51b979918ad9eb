"""What of each page was done: the number of the last of its keys that was worked on, and what was answered.

A page numbers its keys and sends again what was not acknowledged: after a lost answer, a reload, a restart of the server.
The receipt is written in the transaction of the key's own events (``with store.database.writing():`` around both), so that after a
kill either both are there or neither, and what was done is never done again.

A page is known by a digest of its secret number and its person's name, from which neither can be had. Receipts stay where
they are, as leases do: no export has them. A page that was silent for ``KEPT_DAYS`` is forgotten; a browser gives up keys
that wait for 14 days (``WEEKS`` in ``word_scores_line.js``).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from hashlib import sha256
from typing import Any

from data.store import checks
from data.store.database import Records, row
from data.store.leases import instant

KEPT_DAYS = 60
SENTENCE = 2000  # characters of what a page is told, as far as it is kept


def page_digest(client: str, who: str) -> str:
    """Under which name a person's page has its receipt; keys of another person on the same page have another one."""
    return sha256(f"{client}\n{who}".encode()).hexdigest()


def checked_answer(answer: Mapping[str, Any]) -> str:
    """An answer as JSON: {shown, place, left, error, says, word}, as ``studio.pages.annotate.keys.Result`` has them."""
    for name, longest in (("shown", 64), ("place", 64), ("error", SENTENCE), ("says", SENTENCE)):
        checks.text(name, answer.get(name), longest, empty=True)
    if not isinstance(answer.get("left"), bool):
        raise ValueError(f"left must be true or false, not {checks.shown(answer.get('left'))}.")
    if answer.get("word") is not None:
        checks.integer("word", answer["word"], 0, 999)
    return checks.as_json("answer", dict(answer))


class Receipts(Records):
    def get(self, page: str) -> dict[str, Any] | None:
        """The last key of a page that was worked on: {revision, answer}; None where none was."""
        with self.database.reading() as db:
            found = row(
                db,
                "SELECT revision, answer FROM receipts WHERE page_sha256 = ?",
                (checks.sha256("page", page),),
            )
        return found and {**found, "answer": json.loads(found["answer"])}

    def give(self, page: str, revision: int, answer: Mapping[str, Any]) -> None:
        """This key of the page, and so all before it, was worked on."""
        values = (
            checks.integer("revision", revision, 1, 2**31),
            checked_answer(answer),
            instant(),
            checks.sha256("page", page),
        )
        with self.database.writing() as db:
            sql = "UPDATE receipts SET revision = ?, answer = ?, changed = ? WHERE page_sha256 = ?"
            if not db.execute(sql, values).rowcount:
                db.execute("DELETE FROM receipts WHERE changed < ?", (instant(-86400 * KEPT_DAYS),))
                db.execute(
                    "INSERT INTO receipts (revision, answer, changed, page_sha256) VALUES (?, ?, ?, ?)",
                    values,
                )
