"""The annotation queue: which sample a person corrects next, leases, submits and skips, and progress counts.

The default order is by the VLM's uncertainty: the mean entropy of its scores over the words that this person has not corrected
yet (a mean, not a sum, because effort is counted in words). The mean over all words is cached, so the best untouched sample
comes from an index, and only the few samples that the person has begun recently are averaged anew.

Every order walks its own index and stops at the first sample that may be given out. Where a filter leaves few samples, these
are sorted instead, since a walk might first skip all the others. How many a filter leaves is known from ``pools``, which counts
the samples that are alike in every filtered column but the prompt.

A *lease* keeps a sample from being given to others while one person works on it. It lasts ten minutes, is renewed by activity
and ends with submit or skip. A person may hold several, one per browser tab. Leases never affect who may correct.

*Tallies* are counts that a page asks for at every key press, on a store of any size. Samples, scores and submissions are never
changed or deleted, so a count is kept with the last event that it covers, and next time only newer events are read: for each
thing that they touch, whether it counts now, less whether it counted then. Where that event is gone or another one (a backup
was restored), or the filter is on something that may change, the count starts anew.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from hashlib import sha256
from threading import Lock
from typing import Any

from sqlite_utils import Database

from data.store import checks
from data.store.database import DatabaseFile, Records, insert, last_seq, new_id, now, row, rows
from data.store.samples import EQUALS, named_filter, need_sample
from data.store.scores import EVENT, NOT_UNDONE, STEP, checked_event, insert_event, need_word, undo_event

ORDERS = ("uncertainty", "random", "newest", "disagreement", "reward", "projected")
# orders by a cached figure: the table, a condition on its row u, and the order
CACHES = {
    "disagreement": ("disagreement", "u.points > 0", "u.points DESC"),
    "reward": ("foreseen", "u.points > 0", "u.points DESC"),
    "projected": ("foreseen", "u.promise IS NOT NULL", "u.projected DESC, u.promise DESC"),
}
FILTERS = ("prompt", "prompt_set", "method", "split", "backbone", "projector_run", "kind", "scored")
FEW = 1000  # samples that are sorted rather than walked
SHARE = 5  # where the other filters leave less than one in so many, these are searched for samples of a common kind
RECENT = 500  # events of a person in which a sample counts as begun
TRIES = 3
LEASE_SECONDS = 600.0
TALLIES_KEPT = 4000  # counts, over all people and filters

# -- SQL

# Neither submitted nor skipped by :who, or taken back. Asking it of the cache's own column first saves reading the sample.
UNDONE = """coalesce((SELECT d.kind FROM submissions d WHERE d.who = :who AND d.sample = {id}
    ORDER BY d.seq DESC LIMIT 1), 'open') = 'open'"""

# Samples that :who has begun, with the VLM's latest entropy over the words not yet corrected. Samples begun before the
# event :floor count as untouched, so that the work does not grow with everything that a person ever did.
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

# A submit or skip, in a table called e, that was not taken back.
STILL_LEFT = """e.undoes IS NULL
    AND NOT EXISTS (SELECT 1 FROM submissions u WHERE u.who = e.who AND u.undoes = e.id)"""

# The sample's prompt has a word of the requested kinds. Where few samples pass the filters, they are listed instead.
OF_KIND = """EXISTS (SELECT 1 FROM kinds k WHERE k.prompt = s.prompt
    AND k.kind IN (SELECT value FROM json_each(:kinds)))"""
BY_KIND = """kinds k CROSS JOIN samples s INDEXED BY samples_prompt ON s.prompt = k.prompt
    WHERE k.kind IN (SELECT value FROM json_each(:kinds))"""
LISTED = "s.id IN (SELECT value FROM json_each(:listed))"

# The samples s of a pool p, in order of arrival; a pool without a run has '' for one.
POOL_COLUMNS = ("split", "prompt_set", "method", "backbone", "projector_run")
OF_POOL = """s.split = p.split AND s.prompt_set = p.prompt_set AND s.method = p.method AND s.backbone = p.backbone
    AND s.projector_run IS nullif(p.projector_run, '')"""
POOLED_SAMPLES = f"pools p CROSS JOIN samples s INDEXED BY samples_pool ON {OF_POOL}"

# Other people who hold the sample s now, and who hold or have submitted it. The simulated annotator does not count.
HELD = "SELECT l.who FROM leases l WHERE l.sample = s.id AND l.who <> :who AND l.expires > :now"
TAKEN = f"""{HELD} UNION
SELECT d.who FROM submissions d WHERE d.sample = s.id AND d.kind = 'submit' AND d.who <> :who AND NOT EXISTS
    (SELECT 1 FROM submissions n WHERE n.who = d.who AND n.sample = d.sample AND n.seq > d.seq) AND NOT EXISTS
    (SELECT 1 FROM scores x WHERE x.sample = s.id AND x.source = 'simulated' AND x.who = d.who)"""

# Each SELECT of a tally gives the change of a count from the event :last to the event :now; from 0 it is the count itself.
ANNOTATABLE = "{where} AND s.image_path IS NOT NULL AND s.n_words > 0"
COUNT_SAMPLES = f"SELECT count(*) FROM samples s WHERE s.seq > :last AND s.seq <= :now AND {ANNOTATABLE}"
# A sample is scored from the VLM's first event on; from the start, every scored sample has an uncertainty.
COUNT_SCORED = f"""SELECT count(*) FROM
    (SELECT DISTINCT sample FROM scores NOT INDEXED WHERE seq > :last AND seq <= :now AND source = 'vlm') t
    CROSS JOIN samples s ON s.id = t.sample WHERE {ANNOTATABLE} AND NOT EXISTS
        (SELECT 1 FROM scores b WHERE b.sample = t.sample AND b.source = 'vlm' AND b.seq <= :last)"""
COUNT_SCORED_FIRST = (
    f"SELECT count(*) FROM samples s JOIN uncertainty u ON u.sample = s.id WHERE {ANNOTATABLE}"
)
# Samples touched by submissions, each with its state then and now.
COUNT_SUBMISSIONS = f"""SELECT coalesce(sum(({{now}}) - ({{then}})), 0) FROM
    (SELECT DISTINCT sample FROM submissions NOT INDEXED WHERE seq > :last AND seq <= :now {{mine}}) t
    CROSS JOIN samples s ON s.id = t.sample WHERE {ANNOTATABLE}"""
LATEST = """coalesce((SELECT kind FROM submissions d WHERE d.who = :who AND d.sample = t.sample AND d.seq <= {bound}
    ORDER BY seq DESC LIMIT 1), 'open') {is}"""
SUBMITTED, SKIPPED, DONE = (LATEST.replace("{is}", x) for x in ("= 'submit'", "= 'skip'", "<> 'open'"))
SUBMIT_STANDS = """o.sample = t.sample AND o.kind = 'submit' AND o.seq <= {bound} AND NOT EXISTS
    (SELECT 1 FROM submissions n WHERE n.who = o.who AND n.sample = o.sample AND n.seq > o.seq AND n.seq <= {bound})"""
SUBMITTED_BY_ANYONE = f"EXISTS (SELECT 1 FROM submissions o WHERE {SUBMIT_STANDS})"
# Not done by :who and no longer given to them, since enough others have done it. The simulated annotator does not count.
CLOSED = f"""(NOT {DONE} AND (SELECT count(DISTINCT o.who) FROM submissions o
    WHERE {SUBMIT_STANDS} AND o.who <> :who AND NOT EXISTS
        (SELECT 1 FROM scores x WHERE x.sample = o.sample AND x.source = 'simulated' AND x.who = o.who)) >= :overlap)"""
# Words, or samples of words, touched by corrections.
COUNT_CORRECTED = """SELECT coalesce(sum(({now}) - ({then})), 0) FROM (SELECT DISTINCT {thing} FROM scores {index}
    WHERE {whose} AND seq > :last AND seq <= :now) t CROSS JOIN samples s ON s.id = t.sample WHERE {pool}"""
CORRECTION_STANDS = """EXISTS (SELECT 1 FROM scores e WHERE e.sample = t.sample {word} AND {whose} AND e.kind = 'set'
    AND e.seq <= {bound} AND NOT EXISTS (SELECT 1 FROM scores n WHERE n.sample = e.sample
        AND n.word_index = e.word_index AND n.source = e.source AND n.who = e.who
        AND n.seq > e.seq AND n.seq <= {bound}))"""
BY_PERSON = "who = :who AND who <> '' AND source = 'human'"
BY_ANYBODY = "who <> '' AND source <> 'confirmed'"


def queue_filter(filters: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    """SQL and named values of the queue's filters, for a table called ``s``."""
    checks.names(filters, FILTERS, "The queue cannot be filtered by {0}; choose {1}.")
    where, values = named_filter({name: value for name, value in filters.items() if name != "kind"}, "f")
    if filters.get("kind") is not None:
        wanted = filters["kind"]
        kinds = list(wanted) if isinstance(wanted, (list, tuple, set, frozenset)) else [wanted]
        values["kinds"] = checks.as_json("kind", [checks.text("kind", kind, 40) for kind in kinds])
        where += f" AND {OF_KIND}"
    return where, values


def pool_filter(filters: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    """SQL and named values that choose pools, in a table called ``p``; all pools where no filter applies to them."""
    given = {name: filters[name] for name in POOL_COLUMNS if filters.get(name) is not None}
    where, values = named_filter(given, "p")
    where = where.replace("s.", "p.")
    return where + (" AND p.projector_run <> ''" if "projector_run" in given else ""), values


def count_pooled(db: Database, where: str, values: dict[str, Any]) -> int:
    """Number of samples in the chosen pools."""
    return db.execute(f"SELECT coalesce(sum(samples), 0) FROM pools p WHERE {where}", values).fetchone()[0]


SUBMISSION: dict[str, checks.Shape] = {
    "id": checks.identifier, "sample": checks.identifier, "who": checks.text,
    "kind": checks.choice("submit", "skip", "open"), "undoes": checks.maybe(checks.identifier), "created": checks.time,
}  # fmt: skip


def checked_submission(entry: Mapping[str, Any], sample: Mapping[str, Any]) -> dict[str, Any]:
    """A row of ``submissions`` from elsewhere."""
    if entry.get("undoes") is None:
        checks.one_of("kind", entry.get("kind"), ("submit", "skip"))
    return checks.entry(entry, SUBMISSION, sample["id"])


def checked_overlap(overlap: Any) -> int | None:
    return None if overlap is None else checks.integer("overlap", overlap, 1, 1000)


def checked_lease(seconds: Any) -> float:
    return checks.number("lease", seconds, 0.001, 86400)


def vacant(overlap: int | None) -> str:
    """SQL: the sample s may be given to :who at :now.

    ``overlap`` None: nobody else holds it, however many have done it. Otherwise fewer than :overlap others hold it or have
    submitted it; a skip does not count.
    """
    return f"NOT EXISTS ({HELD})" if overlap is None else f"(SELECT count(*) FROM ({TAKEN})) < :overlap"


def take(db: Database, sample: str, who: str, seconds: float) -> None:
    """Take or renew a lease within the open transaction, and remove expired ones."""
    db.execute("DELETE FROM leases WHERE expires <= ?", (now(),))
    sql = """INSERT INTO leases (sample, who, expires) VALUES (?, ?, ?)
        ON CONFLICT (sample, who) DO UPDATE SET expires = excluded.expires"""
    db.execute(sql, (sample, who, now(seconds)))


def free(db: Database, sample: str, who: str) -> None:
    db.execute("DELETE FROM leases WHERE sample = ? AND who = ?", (sample, who))


class Leases(Records):
    def hold(self, sample: str, who: str, lease: float = LEASE_SECONDS, overlap: int | None = None) -> bool:
        """Take this person's lease of the sample, or renew it. False where others hold it.

        Writes only where less than half of the time is left, so that a key press does not cost two writes.
        """
        lease, overlap = checked_lease(lease), checked_overlap(overlap)
        mine = (checks.identifier("sample", sample), checks.text("who", who))
        fresh = "SELECT 1 FROM leases WHERE sample = ? AND who = ? AND expires > ?"
        with self.database.reading() as db:
            if row(db, fresh, (*mine, now(lease / 2))):
                return True
        with self.database.writing() as db:
            need_sample(db, sample)
            sql = f"""SELECT 1 FROM samples s WHERE s.id = :sample AND ({vacant(overlap)} OR EXISTS
                    (SELECT 1 FROM leases l WHERE l.sample = s.id AND l.who = :who AND l.expires > :now))"""
            free_or_mine = row(db, sql, {"sample": sample, "who": who, "now": now(), "overlap": overlap})
            if free_or_mine:
                take(db, sample, who, lease)
        return bool(free_or_mine)

    def release(self, sample: str, who: str) -> None:
        """End this person's lease of the sample."""
        with self.database.writing() as db:
            free(db, checks.identifier("sample", sample), checks.text("who", who))

    def current(self, who: str | None = None) -> list[dict[str, Any]]:
        """The unexpired leases, {sample, who, expires}, the first to expire first."""
        sql = "SELECT * FROM leases WHERE expires > :now AND (:who IS NULL OR who = :who) ORDER BY expires"
        return self.rows(sql, {"now": now(), "who": who})


def _joined(cache: str, few: bool) -> str:
    """The samples and their cached figure: along the figure's index, or from the few samples to the figure."""
    outer, inner = ("samples s", f"{cache} u") if few else (f"{cache} u", "samples s")
    return f"{outer} CROSS JOIN {inner} ON s.id = u.sample"


@dataclass
class Request:
    """What a person asks of the queue, with the filters as SQL; leased: leave out what others hold."""

    order: str
    filters: Mapping[str, Any]
    where: str
    values: dict[str, Any]
    overlap: int | None
    leased: bool


class Queue(Records):
    def submit(self, sample: str, who: str, confirmed: Iterable[Mapping[str, Any]] = ()) -> dict[str, Any]:
        """Record that this person is done with the sample; returns the event {id, sample, who, kind, created}.

        ``confirmed``: the scores that the person was shown and left unchanged, {word_index, word, score}, each kept
        as an event of source confirmed, of the same step and time as the submit; all or none.
        """
        return self._submission(sample, who, "submit", confirmed)

    def skip(self, sample: str, who: str) -> dict[str, Any]:
        """Record that this person does not want to judge the sample."""
        return self._submission(sample, who, "skip")

    def come_back(self, event: str, who: str) -> dict[str, Any] | None:
        """Take back this person's submit or skip, given the id of its event.

        The sample has the state for them that it had before, and is queued again where that was open; what the submit
        confirmed is undone with it. Returns the new event, {id, sample, who, kind: submit, skip or open, undoes,
        created}, or None where there is no such event or it has been taken back already.
        """
        mine = {"id": checks.identifier("event", event), "who": checks.text("who", who)}
        with self.database.writing() as db:
            sql = f"SELECT * FROM submissions e WHERE id = :id AND who = :who AND {STILL_LEFT}"
            left = row(db, sql, mine)
            if not left:
                return None
            sql = f"""SELECT kind FROM submissions e WHERE who = :who AND sample = :sample AND id <> :id AND {STILL_LEFT}
                ORDER BY seq DESC LIMIT 1"""
            before = row(db, sql, mine | {"sample": left["sample"]})
            reverted = {"id": new_id(), "sample": left["sample"], "who": who}
            reverted |= {"kind": before["kind"] if before else "open", "undoes": left["id"], "created": now()}
            insert(db, "submissions", {**reverted, "after": last_seq(db)})
            sql = f"""SELECT {EVENT} FROM scores e WHERE sample = :sample AND +who = :who AND {STEP} IN (:id, :created)
                AND source = 'confirmed' AND {NOT_UNDONE} ORDER BY seq DESC"""
            for confirmed in rows(db, sql, left):
                undo_event(db, confirmed)
        return reverted

    def _submission(
        self, sample: str, who: str, kind: str, confirmed: Iterable[Mapping[str, Any]] = ()
    ) -> dict[str, Any]:
        who = checks.text("who", who)
        event = {"id": new_id(), "sample": sample, "who": who, "kind": kind, "created": now()}
        shared = {"sample": sample, "who": who, "source": "confirmed", "created": event["created"]}
        scores = [checked_event({**score, **shared}) for score in confirmed]
        with self.database.writing() as db:
            record = need_sample(db, sample)
            insert(db, "submissions", {**event, "after": last_seq(db)})
            for score in scores:
                need_word(record, score["word_index"])
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
        """The next sample for this person (all its columns, and entropy: float|None), or None.

        Left out: samples that the person has submitted or skipped, samples without an image or words, and ``exclude``
        (the one on the screen).

        Orders: uncertainty (scored samples only), disagreement (samples on which people disagree, most points first),
        reward (the reward model furthest from the VLM first, as far as ``foreseen`` is filled), projected (samples
        of projected noise before the others, first those of which the reward model expects much and the VLM is unsure,
        as far as ``foreseen`` is filled), random, newest. Filters: prompt, prompt_set, method, split, backbone,
        projector_run, kind (of a word in the prompt, as far as ``kinds`` is filled), scored (by the VLM: True/False).

        ``lease``: lease the sample to this person for so many seconds, and leave out what others hold. The random
        order, by id, then starts at a place derived from the person's name, so that it is their own and lasts; without
        a lease the place (or, of few samples, the sample) is drawn anew each time. ``overlap``: the number of people who
        are given a sample at most.
        """
        checks.one_of("order", order, ORDERS)
        where, values = queue_filter(filters)
        values |= {"who": checks.text("who", who), "exclude": exclude, "overlap": checked_overlap(overlap)}
        request = Request(order, filters, where, values, overlap, lease is not None)
        if lease is None:
            with self.database.reading() as db:
                return self._search(db, request)
        seconds = checked_lease(lease)
        for _ in range(TRIES):  # search outside the lock that others wait for
            with self.database.reading() as db:
                sample = self._search(db, request)
            if not sample:
                return None
            with self.database.writing() as db:
                still = f"SELECT 1 FROM samples s WHERE s.id = :id AND {UNDONE.format(id='s.id')} AND {vacant(overlap)}"
                if row(db, still, values | {"id": sample["id"], "now": now()}):
                    take(db, sample["id"], who, seconds)
                    return sample
        with self.database.writing() as db:
            if sample := self._search(db, request):
                take(db, sample["id"], who, seconds)
        return sample

    def _search(self, db: Database, request: Request) -> dict[str, Any] | None:
        """The first sample in the order that may be given to :who now."""
        in_pools, pool_values = pool_filter(request.filters)
        values = request.values | pool_values | {"now": now()}
        few = self._few(db, request, values, in_pools)
        # the plus keeps SQLite from sorting the rows that an index of the filter gives
        where = LISTED if few else request.where.replace("s.", "+s.")
        where += f""" AND s.image_path IS NOT NULL AND s.n_words > 0 AND s.id IS NOT :exclude
            AND {UNDONE.format(id="s.id")}"""
        if request.leased or request.overlap is not None:
            where += f" AND {vacant(request.overlap)}"
        if request.order == "uncertainty":
            return self._least_sure(db, where, values, few)
        by_pool = any(request.filters.get(name) is not None for name in POOL_COLUMNS if name != "split")
        return self._by(db, request, where, values, few, in_pools if by_pool else "")

    def _few(self, db: Database, request: Request, values: dict[str, Any], in_pools: str) -> bool:
        """Whether the filters leave few samples, which are then listed in ``values``."""
        pooled = count_pooled(db, in_pools, values)
        source = f"{POOLED_SAMPLES} WHERE {in_pools} AND {request.where}"
        if pooled >= FEW:
            if request.filters.get("prompt") is not None:
                source = f"samples s INDEXED BY samples_prompt WHERE {request.where}"
            elif request.filters.get("kind") is None:
                return False
            elif not self._rarer(db, pooled, values):
                source = f"{BY_KIND} AND {request.where.replace(OF_KIND, '1')}"
        ids = [id for (id,) in db.execute(f"SELECT s.id FROM {source} LIMIT {FEW}", values)]
        values["listed"] = checks.as_json("ids", ids)
        return len(ids) < FEW

    def _rarer(self, db: Database, pooled: int, values: dict[str, Any]) -> bool:
        """Whether samples in the chosen pools are rarer than samples of the kinds, which are counted up to a bound."""
        if SHARE * pooled >= count_pooled(db, "1", values):
            return False
        some = f"SELECT 1 FROM {BY_KIND} LIMIT {SHARE * FEW}"
        return db.execute(f"SELECT count(*) FROM ({some})", values).fetchone()[0] == SHARE * FEW

    def _least_sure(
        self, db: Database, where: str, values: dict[str, Any], few: bool
    ) -> dict[str, Any] | None:
        steps = "SELECT seq FROM scores WHERE who = ? AND who <> '' ORDER BY seq DESC LIMIT 1 OFFSET ?"
        floor = row(db, steps, (values["who"], RECENT))
        values["floor"] = floor["seq"] if floor else 0
        sql = f"""SELECT s.*, b.entropy FROM ({BEGUN}) b JOIN samples s ON s.id = b.sample WHERE {where}
            ORDER BY b.entropy DESC, s.seq LIMIT 1"""
        begun = rows(db, sql, values)
        sql = f"""SELECT s.*, u.entropy FROM {_joined("uncertainty", few)}
            WHERE {where} AND NOT EXISTS
                (SELECT 1 FROM scores h WHERE h.sample = s.id AND h.source = 'human' AND h.who = :who
                    AND h.seq > :floor)
                AND {UNDONE.format(id="u.sample")}
            ORDER BY u.entropy DESC LIMIT 1"""
        untouched = rows(db, sql, values)
        return max(begun + untouched, key=lambda s: s["entropy"], default=None)

    def _by(
        self, db: Database, request: Request, where: str, values: dict[str, Any], few: bool, in_pools: str
    ) -> dict[str, Any] | None:
        """in_pools: SQL of the pools that a filter leaves, '' where walking them does not pay."""
        order, lasting = request.order, request.leased
        if order in CACHES:
            table, condition, by = CACHES[order]
            where += f" AND {condition} AND {UNDONE.format(id='u.sample')}"
            walks = [f"{_joined(table, few)} WHERE {where} ORDER BY {by}"]
        elif order == "newest" and in_pools and not few:  # the newest of each pool: they may all be old
            first = f"SELECT s.seq FROM samples s INDEXED BY samples_pool WHERE {OF_POOL} AND {where}"
            newest = f"SELECT ({first} ORDER BY s.seq DESC LIMIT 1) AS seq FROM pools p WHERE {in_pools}"
            walks = [f"({newest}) s WHERE s.seq IS NOT NULL ORDER BY s.seq DESC"]
        elif order == "newest":
            walks = [f"samples s WHERE {where} ORDER BY s.seq DESC"]
        elif not lasting and (few or last_seq(db, "samples") <= FEW):
            walks = [f"samples s WHERE {where} ORDER BY random()"]
        else:
            values["start"] = sha256(values["who"].encode()).hexdigest()[:32] if lasting else new_id()
            walks = [f"samples s WHERE s.id {side} :start AND {where} ORDER BY s.id" for side in (">=", "<")]
        for walk in walks:
            sql = f"""SELECT s.*, u.entropy FROM samples s LEFT JOIN uncertainty u ON u.sample = s.id
                WHERE s.seq = (SELECT s.seq FROM {walk} LIMIT 1)"""
            if sample := row(db, sql, values):
                return sample
        return None


def _change(count: str, state: str, **parts: str) -> str:
    """The SELECT of a tally's change: a state at :now less the same at :last."""
    return count.format(now=state.replace("{bound}", ":now"), then=state.replace("{bound}", ":last"), **parts)


def _corrected(pool: str, whose: str, index: str, words: bool = True) -> str:
    word = "AND e.word_index = t.word_index" if words else ""
    whose_event = whose.replace("who", "e.who").replace(":e.who", ":who")
    state = CORRECTION_STANDS.format(word=word, whose=whose_event, bound="{bound}")
    thing = "sample, word_index" if words else "sample"
    return _change(COUNT_CORRECTED, state, thing=thing, index=index, whose=whose, pool=pool)


class Tallies(Records):
    def __init__(self, database: DatabaseFile) -> None:
        super().__init__(database)
        self._counts: OrderedDict[Any, tuple[int, str, int]] = OrderedDict()
        self._counting, self._first = Lock(), Lock()

    def queue(self, who: str, overlap: int | None = None, **filters: Any) -> dict[str, Any]:
        """Progress of the queue under the filters: {mine, all, left: int, per_hour: float|None}.

        mine: samples that this person has submitted; all: that anyone has; left: that this person may still be given,
        now or when a lease ends. per_hour: this person's pace between the first and the last submit or skip of the past
        hour, on any sample; None before there are two. Of a person's submits and skips of a sample the last one counts,
        and none where they were taken back.
        """
        where, values = queue_filter(filters)
        mine = values | {"who": checks.text("who", who)}
        fixed, of_person = _is_fixed(filters), "AND who = :who"
        with self.database.reading() as db:

            def done(state: str, values: dict[str, Any], whose: str = "") -> int:
                sql = _change(COUNT_SUBMISSIONS, state, mine=whose, where=where)
                return self._count(db, "submissions", sql, values, fixed)

            samples = self._count(db, "samples", COUNT_SAMPLES.format(where=where), values, fixed)
            tally: dict[str, Any] = {
                "mine": done(SUBMITTED, mine, of_person),
                "all": done(SUBMITTED_BY_ANYONE, values),
                "left": samples - done(DONE, mine, of_person),
            }
            if overlap is not None:
                tally["left"] -= done(CLOSED, mine | {"overlap": checked_overlap(overlap)})
            sql = f"""SELECT count(*) AS n, min(created) AS first, max(created) AS last FROM submissions e
                WHERE who = ? AND created > ? AND {STILL_LEFT}"""
            (pace,) = rows(db, sql, (who, now(-3600)))
        tally["per_hour"] = None
        if pace["n"] > 1 and pace["last"] > pace["first"]:
            worked = datetime.fromisoformat(pace["last"]) - datetime.fromisoformat(pace["first"])
            tally["per_hour"] = (pace["n"] - 1) * 3600 / worked.total_seconds()
        return tally

    def progress(self, who: str, **filters: Any) -> dict[str, int]:
        """This person's counts: {samples, scored, submitted, skipped, remaining, corrected_words, corrected_samples}."""
        where, values = queue_filter(filters)
        mine, fixed = values | {"who": checks.text("who", who)}, _is_fixed(filters)
        pool = ANNOTATABLE.format(where=where)
        with self.database.reading() as db:

            def ended(state: str) -> int:
                sql = _change(COUNT_SUBMISSIONS, state, mine="AND who = :who", where=where)
                return self._count(db, "submissions", sql, mine, fixed)

            def corrected(words: bool) -> int:
                sql = _corrected(pool, BY_PERSON, "INDEXED BY scores_who", words)
                return self._count(db, "scores", sql, mine, fixed)

            scored, at_first = (sql.format(where=where) for sql in (COUNT_SCORED, COUNT_SCORED_FIRST))
            counts = {
                "samples": self._count(db, "samples", COUNT_SAMPLES.format(where=where), values, fixed),
                "scored": self._count(db, "scores", scored, values, fixed, at_first),
                "submitted": ended(SUBMITTED),
                "skipped": ended(SKIPPED),
                "corrected_words": corrected(words=True),
                "corrected_samples": corrected(words=False),
            }
        return counts | {"remaining": counts["samples"] - counts["submitted"] - counts["skipped"]}

    def count_corrected(self) -> int:
        """Number of words with a correction that stands, by people or the simulated annotator, outside of held-out samples."""
        with self.database.reading() as db:
            # from the start along people's events, later along the newest
            first = _corrected("s.split <> 'heldout'", BY_ANYBODY, "INDEXED BY scores_who")
            later = _corrected("s.split <> 'heldout'", BY_ANYBODY, "NOT INDEXED")
            return self._count(db, "scores", later, {}, True, first)

    def _count(
        self, db: Database, table: str, sql: str, values: dict[str, Any], fixed: bool, first: str = ""
    ) -> int:
        """The count of whose change ``sql`` is the SELECT, as of the last row of ``table``. ``fixed``: whether what has
        passed the filter always will. ``first``: a quicker SELECT from the start."""
        newest = row(db, f"SELECT seq, id FROM {table} ORDER BY seq DESC LIMIT 1")
        if newest is None:
            return 0
        key = (sql, tuple(values.items()))
        last, count = self._known(db, table, key, newest["seq"]) if fixed else (0, 0)
        if last == newest["seq"]:
            return count
        if last:
            count += self._changed(db, sql, values, last, newest["seq"])
        else:  # of many who ask the same at once, all wait for the first
            with self._first:
                last, count = self._known(db, table, key, newest["seq"]) if fixed else (0, 0)
                count += self._changed(db, sql if last else first or sql, values, last, newest["seq"])
        with self._counting:
            self._counts[key] = (newest["seq"], newest["id"], count)
            self._counts.move_to_end(key)
            while len(self._counts) > TALLIES_KEPT:
                self._counts.popitem(last=False)
        return count

    def _known(self, db: Database, table: str, key: Any, newest: int) -> tuple[int, int]:
        """The last row that a kept count covers, and the count; (0, 0) where there is none, or not of this store."""
        with self._counting:
            last, id, count = self._counts.get(key, (0, "", 0))
        if not 0 < last <= newest:
            return 0, 0
        known = row(db, f"SELECT id FROM {table} WHERE seq = ?", (last,))
        return (last, count) if known and known["id"] == id else (0, 0)

    def _changed(self, db: Database, sql: str, values: dict[str, Any], last: int, newest: int) -> int:
        return db.execute(sql, values | {"last": last, "now": newest}).fetchone()[0] if newest > last else 0


def _is_fixed(filters: dict[str, Any]) -> bool:
    """Whether a filter asks only for columns of a sample, which never change."""
    return set(filters) <= set(EQUALS)
