"""Leases: while one person works on an item, nobody else is given it (issue: the annotation queue).

A lease lasts ten minutes, is renewed by activity and ends with submit or skip. One that has run out counts
for nothing, and is removed when the next one is taken. A person may hold several: each tab of a browser has
one. A lease governs what the queue gives out; it never stands in the way of a correction.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from sqlite_utils import Database

from data.store import checks
from data.store.database import Records, row, rows
from data.store.samples import need_sample

LEASE_SECONDS = 600.0

# Others who hold the sample s now, and others who have done it and not taken that back. The simulated annotator is nobody.
HELD = "SELECT l.who FROM leases l WHERE l.sample = s.id AND l.who <> :who AND l.expires > :now"
TAKEN = f"""{HELD} UNION
SELECT d.who FROM submissions d WHERE d.sample = s.id AND d.kind = 'submit' AND d.who <> :who AND NOT EXISTS
    (SELECT 1 FROM submissions n WHERE n.who = d.who AND n.sample = d.sample AND n.seq > d.seq) AND NOT EXISTS
    (SELECT 1 FROM scores x WHERE x.sample = s.id AND x.source = 'simulated' AND x.who = d.who)"""


def instant(seconds: float = 0.0) -> str:
    """The time in so many seconds, as the store writes times: such texts compare as the times do."""
    return (datetime.now(UTC) + timedelta(seconds=seconds)).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def vacant(overlap: int | None) -> str:
    """SQL: the sample s may be given to :who at :now.

    ``overlap`` None: nobody else holds it, however many have done it. Else fewer than :overlap others hold it
    or have submitted it; one who skipped it takes no place.
    """
    return f"NOT EXISTS ({HELD})" if overlap is None else f"(SELECT count(*) FROM ({TAKEN})) < :overlap"


def checked_overlap(overlap: Any) -> int | None:
    return None if overlap is None else checks.integer("overlap", overlap, 1, 1000)


def checked_lease(seconds: Any) -> float:
    return checks.number("lease", seconds, 0.001, 86400)


def take(db: Database, sample: str, who: str, seconds: float) -> None:
    """Lease or renew, inside the transaction that is open; those that have run out go."""
    db.execute("DELETE FROM leases WHERE expires <= ?", (instant(),))
    db.execute(
        """INSERT INTO leases (sample, who, expires) VALUES (?, ?, ?)
        ON CONFLICT (sample, who) DO UPDATE SET expires = excluded.expires""",
        (sample, who, instant(seconds)),
    )


def free(db: Database, sample: str, who: str) -> None:
    db.execute("DELETE FROM leases WHERE sample = ? AND who = ?", (sample, who))


class Leases(Records):
    def hold(self, sample: str, who: str, lease: float = LEASE_SECONDS, overlap: int | None = None) -> bool:
        """This person is at work on the sample: lease it, or renew the lease. False where others hold it.

        Writes only where less than half of the time is left, so that a key does not cost two writes.
        """
        lease, overlap = checked_lease(lease), checked_overlap(overlap)
        mine = (checks.identifier("sample", sample), checks.text("who", who))
        with self.database.reading() as db:
            if row(
                db,
                "SELECT 1 FROM leases WHERE sample = ? AND who = ? AND expires > ?",
                (*mine, instant(lease / 2)),
            ):
                return True
        with self.database.writing() as db:
            need_sample(db, sample)
            values = {"sample": sample, "who": who, "now": instant(), "overlap": overlap}
            found = row(
                db,
                f"""SELECT 1 FROM samples s WHERE s.id = :sample AND ({vacant(overlap)} OR EXISTS
                    (SELECT 1 FROM leases l WHERE l.sample = s.id AND l.who = :who AND l.expires > :now))""",
                values,
            )
            if found:
                take(db, sample, who, lease)
        return bool(found)

    def release(self, sample: str, who: str) -> None:
        """This person is no longer at work on the sample; others may have it."""
        with self.database.writing() as db:
            free(db, checks.identifier("sample", sample), checks.text("who", who))

    def current(self, who: str | None = None) -> list[dict[str, Any]]:
        """The leases that hold now: {sample, who, expires}, the next to run out first."""
        with self.database.reading() as db:
            return rows(
                db,
                "SELECT * FROM leases WHERE expires > :now AND (:who IS NULL OR who = :who) ORDER BY expires",
                {"now": instant(), "who": who},
            )
