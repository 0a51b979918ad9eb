"""How far something that follows ``scores`` has come: the webhook, which tells another server of new labels.

``seq`` only grows, and a write takes its lock before its seq: whoever reads up to a seq has seen all before it.
"""

from __future__ import annotations

from typing import Any

from data.store import checks
from data.store.database import Records, now, row, rows
from data.store.scores import EVENT, readable

WINDOW = 5000  # events that are looked at in one go


class Cursors(Records):
    def get(self, name: str) -> int | None:
        """Up to which seq this follower has come; None where it has not begun."""
        with self.database.reading() as db:
            found = row(db, "SELECT seq FROM cursors WHERE name = ?", (checks.text("name", name),))
        return found["seq"] if found else None

    def move(self, name: str, seq: int | None = None) -> int:
        """All up to this seq is done (None: all that there is now); returns it. It never goes back, and never past the
        last event: where a backup has brought an older store meanwhile, what comes next has a seq from there on."""
        wanted = None if seq is None else checks.integer("seq", seq, 0, 2**62)
        with self.database.writing() as db:
            db.execute(
                """INSERT INTO cursors (name, seq, changed)
                VALUES (?, min(coalesce(?, 1 << 62), (SELECT coalesce(max(seq), 0) FROM scores)), ?)
                ON CONFLICT (name) DO UPDATE SET seq = max(seq, excluded.seq), changed = excluded.changed""",
                (checks.text("name", name), wanted, now()),
            )
            return db.execute("SELECT seq FROM cursors WHERE name = ?", (name,)).fetchone()[0]

    def corrections_after(self, seq: int, limit: int = 100) -> tuple[list[dict[str, Any]], int]:
        """What people said after this seq, the oldest first, and the seq up to which that is all.

        An event: seq, id, sample, word_index, word, who, kind, score, undoes, supersedes, created, prompt, seed.
        """
        first = checks.integer("seq", seq, 0, 2**62)
        limit = checks.integer("limit", limit, 1, WINDOW)
        with self.database.reading() as db:
            last = db.execute("SELECT coalesce(max(seq), 0) FROM scores").fetchone()[0]
            last = min(last, first + WINDOW)
            found = rows(
                db,
                f"""SELECT {EVENT}, s.prompt, s.seed FROM scores e JOIN samples s ON s.id = e.sample
                WHERE e.seq > ? AND e.seq <= ? AND e.source = 'human' ORDER BY e.seq LIMIT ?""",
                (first, last, limit),
            )
            store = db.execute("SELECT id FROM store").fetchone()[0]
        names = ("seq id sample word_index word who kind score undoes supersedes created prompt seed").split()
        events = [{"store": store, **{name: readable(e)[name] for name in names}} for e in found]
        return events, (found[-1]["seq"] if len(found) == limit else max(last, first))
