"""Event-stream cursors: up to which event a follower of ``scores`` has come (the webhook, which posts new labels elsewhere).

``seq`` only grows, and a write takes its lock before its seq, so a follower that has read up to a seq has seen all before it.
"""

from __future__ import annotations

from typing import Any

from data.store import checks
from data.store.database import Records, last_seq, now, rows, store_id
from data.store.scores import EVENT, readable

WINDOW = 5000  # events that are searched in one call
PUBLISHED = "seq id sample word_index word who kind score undoes supersedes created prompt seed".split()


class Cursors(Records):
    def get(self, name: str) -> int | None:
        """The seq up to which this follower has come; None where it has not begun."""
        return self.value("SELECT max(seq) FROM cursors WHERE name = ?", (checks.text("name", name),))

    def move(self, name: str, seq: int | None = None) -> int:
        """Move a cursor to this seq (None: the last event), but never back nor past the last event; returns it."""
        wanted = None if seq is None else checks.integer("seq", seq, 0, 2**62)
        with self.database.writing() as db:
            sql = """INSERT INTO cursors (name, seq, changed)
                VALUES (?, min(coalesce(?, 1 << 62), (SELECT coalesce(max(seq), 0) FROM scores)), ?)
                ON CONFLICT (name) DO UPDATE SET seq = max(seq, excluded.seq), changed = excluded.changed"""
            db.execute(sql, (checks.text("name", name), wanted, now()))
            return db.execute("SELECT seq FROM cursors WHERE name = ?", (name,)).fetchone()[0]

    def corrections_after(self, seq: int, limit: int = 100) -> tuple[list[dict[str, Any]], int]:
        """People's events after this seq, oldest first, and the seq up to which these are all.

        An event has ``store`` (its id) and the fields in ``PUBLISHED``.
        """
        first = checks.integer("seq", seq, 0, 2**62)
        limit = checks.integer("limit", limit, 1, WINDOW)
        with self.database.reading() as db:
            last, store = min(last_seq(db), first + WINDOW), store_id(db)
            sql = f"""SELECT {EVENT}, s.prompt, s.seed FROM scores e JOIN samples s ON s.id = e.sample
                WHERE e.seq > ? AND e.seq <= ? AND e.source = 'human' ORDER BY e.seq LIMIT ?"""
            scores = rows(db, sql, (first, last, limit))
        events = [{"store": store, **{name: readable(e)[name] for name in PUBLISHED}} for e in scores]
        return events, (scores[-1]["seq"] if len(scores) == limit else max(last, first))
