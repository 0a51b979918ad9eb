"""Who corrects what next (issue: the next item is the one whose correction teaches most).

"Teaches most" is read as: the sample on which the VLM is least sure, by the mean entropy of its scores over
the words that this person has not corrected yet. A mean, not a sum: a person's effort is counted in words.
The mean over all words is kept for each sample when scores are written, so the best untouched sample is
found on an index, and only the few samples that the person has begun lately are summed anew.

Every order walks its own index and stops at the first sample that may be given out. Where a filter leaves few
samples, these are sorted instead: a walk might pass by all the others first. How many it leaves is known beforehand
(``data.store.pools``), so that none are looked for where there are none.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from hashlib import sha256
from typing import Any

from sqlite_utils import Database

from data.store import checks, pools
from data.store.database import Records, insert, new_id, now, row, rows
from data.store.leases import checked_lease, checked_overlap, free, instant, take, vacant
from data.store.samples import named_filter, need_sample
from data.store.scores import EVENT, STEP, checked_event, insert_event, last_seq, need_word, undo_event

ORDERS = ("uncertainty", "random", "newest", "disagreement", "reward", "projected")
# orders by a cached figure: the table, what is asked of a row u, and the order
CACHES = {
    "disagreement": ("disagreement", "u.points > 0", "u.points DESC"),
    "reward": ("foreseen", "u.points > 0", "u.points DESC"),
    "projected": ("foreseen", "u.promise IS NOT NULL", "u.projected DESC, u.promise DESC"),
}
FILTERS = ("prompt", "prompt_set", "method", "split", "backbone", "projector_run", "kind", "scored")
FEW = 1000
SHARE = 5  # where the other filters leave less than one in so many, these are gone through for those of a common kind

RECENT = 500
TRIES = 3

# Neither submitted nor skipped by :who, or taken back. Asked of the figure's own column first, it saves reading the
# sample.
UNDONE = """coalesce((SELECT d.kind FROM submissions d WHERE d.who = :who AND d.sample = {id}
    ORDER BY d.seq DESC LIMIT 1), 'open') = 'open'"""

# Words of one sample that :who has begun and not corrected, by the VLM's latest scores. :floor: what was begun longer
# ago than that event counts as untouched, so that the work does not grow with all that a person ever did.
BEGUN = f"""
SELECT b.sample, avg(coalesce(v.entropy, 0)) AS entropy
FROM (SELECT DISTINCT sample FROM scores m WHERE who = :who AND who <> '' AND source = 'human' AND seq > :floor
        AND {UNDONE.format(id="m.sample")}) b
JOIN scores v ON v.sample = b.sample AND v.source = 'vlm' AND v.kind = 'set'
WHERE NOT EXISTS (SELECT 1 FROM scores n WHERE n.sample = v.sample AND n.word_index = v.word_index
        AND n.source = 'vlm' AND n.who = v.who AND n.seq > v.seq)
    AND coalesce((SELECT kind FROM scores h WHERE h.sample = v.sample AND h.word_index = v.word_index
        AND h.source = 'human' AND h.who = :who ORDER BY seq DESC LIMIT 1), 'clear') = 'clear'
GROUP BY b.sample
"""

# A submit or skip, on a table called e, that was not taken back.
STILL_LEFT = """e.undoes IS NULL
    AND NOT EXISTS (SELECT 1 FROM submissions u WHERE u.who = e.who AND u.undoes = e.id)"""

# The sample's prompt has a word of the kinds asked for. Where the samples that pass the filters are few, they are listed
# instead.
OF_KIND = """EXISTS (SELECT 1 FROM kinds k WHERE k.prompt = s.prompt
    AND k.kind IN (SELECT value FROM json_each(:kinds)))"""
ALONG = """kinds k CROSS JOIN samples s INDEXED BY samples_prompt ON s.prompt = k.prompt
    WHERE k.kind IN (SELECT value FROM json_each(:kinds))"""
LISTED = "s.id IN (SELECT value FROM json_each(:listed))"


def queue_filter(filters: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    """SQL and named values of the queue's filters, on a table called ``s``."""
    unknown = sorted(set(filters) - set(FILTERS))
    if unknown:
        raise ValueError(
            f"The queue cannot be filtered by {checks.shown(unknown[0])}; choose {', '.join(FILTERS)}."
        )
    where, values = named_filter({name: value for name, value in filters.items() if name != "kind"}, "f")
    if filters.get("kind") is not None:
        wanted = filters["kind"]
        kinds = list(wanted) if isinstance(wanted, (list, tuple, set, frozenset)) else [wanted]
        values["kinds"] = checks.as_json("kind", [checks.text("kind", kind, 40) for kind in kinds])
        where += f" AND {OF_KIND}"
    return where, values


def _both(cache: str, few: bool) -> str:
    """The samples and their cached figure: along the figure's index, or from the few samples to the figure."""
    outer, inner = ("samples s", f"{cache} u") if few else (f"{cache} u", "samples s")
    return f"{outer} CROSS JOIN {inner} ON s.id = u.sample"


class Queue(Records):
    def submit(self, sample: str, who: str, confirmed: Iterable[Mapping[str, Any]] = ()) -> dict[str, Any]:
        """This person is done with the sample; returns the event {id, sample, who, kind, created}.

        ``confirmed``: the scores that the person was shown and left as they are, {word_index, word, score}, each kept
        as an event of source confirmed, of the same step and time as the submit; all or none.
        """
        return self._submission(sample, who, "submit", confirmed)

    def skip(self, sample: str, who: str) -> dict[str, Any]:
        """This person does not want to judge the sample."""
        return self._submission(sample, who, "skip")

    def come_back(self, event: str, who: str) -> dict[str, Any] | None:
        """Take this person's submit or skip back, by its event's id: the sample is to them what it was before, and
        comes again where that was open; what the submit confirmed is taken back with it. Returns the event that says so, {id, sample, who, kind: submit, skip or open,
        undoes, created}, or None where there is no such event, or it is taken back already."""
        mine = {"id": checks.identifier("event", event), "who": checks.text("who", who)}
        with self.database.writing() as db:
            left = row(
                db, f"SELECT * FROM submissions e WHERE id = :id AND who = :who AND {STILL_LEFT}", mine
            )
            if not left:
                return None
            before = row(
                db,
                f"""SELECT kind FROM submissions e WHERE who = :who AND sample = :sample AND id <> :id AND {STILL_LEFT}
                ORDER BY seq DESC LIMIT 1""",
                mine | {"sample": left["sample"]},
            )
            taken = {
                "id": new_id(),
                "sample": left["sample"],
                "who": who,
                "kind": before["kind"] if before else "open",
                "undoes": left["id"],
                "created": now(),
            }
            insert(db, "submissions", {**taken, "after": last_seq(db)})
            for confirmed in rows(
                db,
                f"""SELECT {EVENT} FROM scores e WHERE sample = :sample AND +who = :who AND {STEP} IN (:id, :created)
                AND source = 'confirmed' AND +undoes IS NULL
                AND NOT EXISTS (SELECT 1 FROM scores u WHERE u.undoes = e.id) ORDER BY seq DESC""",
                left,
            ):
                undo_event(db, confirmed)
        return taken

    def _submission(
        self, sample: str, who: str, kind: str, confirmed: Iterable[Mapping[str, Any]] = ()
    ) -> dict[str, Any]:
        who = checks.text("who", who)
        event = {"id": new_id(), "sample": sample, "who": who, "kind": kind, "created": now()}
        same = {"sample": sample, "who": who, "source": "confirmed", "created": event["created"]}
        scores = [checked_event({**score, **same}) for score in confirmed]
        with self.database.writing() as db:
            found = need_sample(db, sample)
            insert(db, "submissions", {**event, "after": last_seq(db)})
            for score in scores:
                need_word(found, score["word_index"])
                insert_event(db, score, event["id"])
            free(db, sample, who)
        return event

    def next(
        self,
        who: str,
        order: str = "uncertainty",
        exclude: str | None = None,
        *,
        lease: float | None = None,
        overlap: int | None = None,
        **filters: Any,
    ) -> dict[str, Any] | None:
        """The sample (all its columns, and entropy: float|None) to show this person next, or None.

        Left out: what the person has submitted or skipped, what has no image or no words, and ``exclude``
        (the one on the screen). Orders: uncertainty (scored samples only), disagreement (samples on which
        people disagree, by how many points), reward (samples on which the reward model is furthest from the VLM,
        as far as ``foreseen`` is filled), projected (samples of projected noise, then the others, those first of which
        the reward model expects much and the VLM is unsure, as far as ``foreseen`` is filled), random, newest. Filters: prompt, prompt_set, method, split, backbone,
        projector_run, kind (of a word in the prompt, as far as ``kinds`` is filled), scored (by the VLM: True/False).

        ``lease``: the sample is this person's for so many seconds; what others hold is left out. The random
        order, by id, which is random, is then this person's own and lasting: it starts at a place given by the name.
        Without a lease the place is drawn anew each time, or, of few, the sample. ``overlap``: at most so many people are given a sample.
        """
        checks.one_of("order", order, ORDERS)
        where, values = queue_filter(filters)
        values |= {"who": checks.text("who", who), "exclude": exclude, "overlap": checked_overlap(overlap)}
        if lease is None:
            with self.database.reading() as db:
                return self._search(db, order, where, values, filters, overlap, leased=False)
        seconds = checked_lease(lease)
        for _ in range(TRIES):  # the search is not made under the lock that others wait for
            with self.database.reading() as db:
                found = self._search(db, order, where, values, filters, overlap, leased=True)
            if not found:
                return None
            with self.database.writing() as db:
                still = f"SELECT 1 FROM samples s WHERE s.id = :id AND {UNDONE.format(id='s.id')} AND {vacant(overlap)}"
                if row(db, still, values | {"id": found["id"], "now": instant()}):
                    take(db, found["id"], who, seconds)
                    return found
        with self.database.writing() as db:
            found = self._search(db, order, where, values, filters, overlap, leased=True)
            if found:
                take(db, found["id"], who, seconds)
        return found

    def _search(
        self,
        db: Database,
        order: str,
        where: str,
        values: dict[str, Any],
        filters: Mapping[str, Any],
        overlap: int | None,
        leased: bool,
    ) -> dict[str, Any] | None:
        """The first sample of the order that may be given to :who now."""
        values["now"] = instant()
        chosen, more = pools.pool_filter(filters)
        values |= more
        few = self._few(db, where, values, filters, chosen)
        # the plus keeps SQLite from sorting what an index of the filter finds
        where = LISTED if few else where.replace("s.", "+s.")
        where += f""" AND s.image_path IS NOT NULL AND s.n_words > 0 AND s.id IS NOT :exclude
            AND {UNDONE.format(id="s.id")}"""
        if leased or overlap is not None:
            where += f" AND {vacant(overlap)}"
        if order == "uncertainty":
            return self._least_sure(db, where, values, few)
        apart = any(filters.get(name) is not None for name in pools.COLUMNS if name != "split")
        return self._by(order, db, where, values, few, lasting=leased, chosen=chosen if apart else "")

    def _few(
        self, db: Database, where: str, values: dict[str, Any], filters: Mapping[str, Any], chosen: str
    ) -> bool:
        """Whether the filters leave few samples, which are then named in ``values``; of those that they leave by a
        prompt or a kind, the first are looked at."""
        left = pools.count(db, chosen, values)
        if left < FEW:
            source = f"{pools.SAMPLES} WHERE {chosen} AND {where}"
        elif filters.get("prompt") is not None:
            source = f"samples s INDEXED BY samples_prompt WHERE {where}"
        elif filters.get("kind") is None:
            return False
        elif self._rarer(db, left, values):
            source = f"{pools.SAMPLES} WHERE {chosen} AND {where}"
        else:
            source = f"{ALONG} AND {where.replace(OF_KIND, '1')}"
        found = db.execute(f"SELECT s.id FROM {source} LIMIT {FEW}", values).fetchall()
        values["listed"] = checks.as_json("ids", [id for (id,) in found])
        return len(found) < FEW

    def _rarer(self, db: Database, left: int, values: dict[str, Any]) -> bool:
        """Whether samples that the other filters leave are rarer than those of the kinds, which are counted up to a
        bound."""
        if SHARE * left >= pools.count(db, "1", values):
            return False
        some = f"SELECT 1 FROM {ALONG} LIMIT {SHARE * FEW}"
        return db.execute(f"SELECT count(*) FROM ({some})", values).fetchone()[0] == SHARE * FEW

    def _least_sure(self, db: Database, where: str, values: dict[str, Any], few: bool) -> dict | None:
        steps = "SELECT seq FROM scores WHERE who = ? AND who <> '' ORDER BY seq DESC LIMIT 1 OFFSET ?"
        floor = row(db, steps, (values["who"], RECENT))
        values["floor"] = floor["seq"] if floor else 0
        begun = rows(
            db,
            f"""SELECT s.*, b.entropy FROM ({BEGUN}) b JOIN samples s ON s.id = b.sample WHERE {where}
            ORDER BY b.entropy DESC, s.seq LIMIT 1""",
            values,
        )
        untouched = rows(
            db,
            f"""SELECT s.*, u.entropy FROM {_both("uncertainty", few)}
            WHERE {where} AND NOT EXISTS
                (SELECT 1 FROM scores h WHERE h.sample = s.id AND h.source = 'human' AND h.who = :who
                    AND h.seq > :floor)
                AND {UNDONE.format(id="u.sample")}
            ORDER BY u.entropy DESC LIMIT 1""",
            values,
        )
        return max(begun + untouched, key=lambda s: s["entropy"], default=None)

    def _by(
        self,
        order: str,
        db: Database,
        where: str,
        values: dict[str, Any],
        few: bool,
        lasting: bool,
        chosen: str,
    ) -> dict[str, Any] | None:
        """chosen: SQL of the pools that a filter leaves, '' where it is best not to go through them."""
        if order in CACHES:
            table, asked, by = CACHES[order]
            where += f" AND {asked} AND {UNDONE.format(id='u.sample')}"
            walks = [f"{_both(table, few)} WHERE {where} ORDER BY {by}"]
        elif order == "newest" and chosen and not few:  # the newest of each pool: they may all be old
            first = f"SELECT s.seq FROM samples s INDEXED BY samples_pool WHERE {pools.OF_POOL} AND {where}"
            walks = [
                f"""(SELECT ({first} ORDER BY s.seq DESC LIMIT 1) AS seq FROM pools p WHERE {chosen}) s
                WHERE s.seq IS NOT NULL ORDER BY s.seq DESC"""
            ]
        elif order == "newest":
            walks = [f"samples s WHERE {where} ORDER BY s.seq DESC"]
        elif not lasting and (
            few or db.execute("SELECT coalesce(max(seq), 0) <= ? FROM samples", (FEW,)).fetchone()[0]
        ):
            walks = [f"samples s WHERE {where} ORDER BY random()"]
        else:
            values["start"] = sha256(values["who"].encode()).hexdigest()[:32] if lasting else new_id()
            walks = [f"samples s WHERE s.id {side} :start AND {where} ORDER BY s.id" for side in (">=", "<")]
        for walk in walks:
            found = row(
                db,
                f"""SELECT s.*, u.entropy FROM samples s LEFT JOIN uncertainty u ON u.sample = s.id
                WHERE s.seq = (SELECT s.seq FROM {walk} LIMIT 1)""",
                values,
            )
            if found:
                return found
        return None
