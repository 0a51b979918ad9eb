"""Who corrects what next (issue: the next item is the one whose correction teaches most).

"Teaches most" is read as: the sample on which the VLM is least sure, by the mean entropy of its scores over
the words that this person has not corrected yet. A mean, not a sum: a person's effort is counted in words.
The mean over all words is kept for each sample when scores are written, so the best untouched sample is
found on an index, and only the few samples that the person has begun are summed anew.

Every order walks its own index and stops at the first sample that may be given out. Where a filter leaves few
samples, these are sorted instead: a walk might pass by all the others first.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager
from datetime import datetime
from hashlib import sha256
from typing import Any

from sqlite_utils import Database

from data import checks
from data.database import DatabaseFile, insert, new_id, now, row, rows
from data.leases import checked_lease, checked_overlap, free, instant, take, vacant
from data.samples import need_sample, sample_filter

ORDERS = ("uncertainty", "random", "newest", "disagreement", "reward")
CACHES = {"disagreement": "disagreement", "reward": "foreseen"}  # orders by points, and the table of these
FILTERS = ("prompt", "prompt_set", "method", "split", "backbone", "projector_run", "kind")
INDEXED = ("prompt", "prompt_set", "projector_run", "kind")
FEW = 1000

# Words of one sample that :who has begun and not corrected, by the VLM's latest scores.
BEGUN = """
SELECT b.sample, avg(coalesce(v.entropy, 0)) AS entropy
FROM (SELECT DISTINCT sample FROM scores m WHERE who = :who AND who <> '' AND source = 'human'
        AND NOT EXISTS (SELECT 1 FROM submissions d WHERE d.who = :who AND d.sample = m.sample)) b
JOIN scores v ON v.sample = b.sample AND v.source = 'vlm' AND v.kind = 'set'
WHERE NOT EXISTS (SELECT 1 FROM scores n WHERE n.sample = v.sample AND n.word_index = v.word_index
        AND n.source = 'vlm' AND n.who = v.who AND n.seq > v.seq)
    AND coalesce((SELECT kind FROM scores h WHERE h.sample = v.sample AND h.word_index = v.word_index
        AND h.source = 'human' AND h.who = :who ORDER BY seq DESC LIMIT 1), 'clear') = 'clear'
GROUP BY b.sample
"""


# Neither submitted nor skipped by :who. Asked of the figure's own column first, it saves reading the sample.
UNDONE = "NOT EXISTS (SELECT 1 FROM submissions d WHERE d.who = :who AND d.sample = {id})"

# The sample's prompt has a word of the kinds asked for; where such samples are few, they are listed instead.
OF_KIND = """EXISTS (SELECT 1 FROM kinds k WHERE k.prompt = s.prompt
    AND k.kind IN (SELECT value FROM json_each(:kinds)))"""
LISTED = "s.id IN (SELECT value FROM json_each(:listed))"


def queue_filter(filters: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    """SQL and named values of the queue's filters, on a table called ``s``."""
    unknown = sorted(set(filters) - set(FILTERS))
    if unknown:
        raise ValueError(
            f"The queue cannot be filtered by {checks.shown(unknown[0])}; choose {', '.join(FILTERS)}."
        )
    where, given = sample_filter({name: value for name, value in filters.items() if name != "kind"})
    values: dict[str, Any] = {}
    for i, value in enumerate(given):  # named, since :who is needed in several places
        where = where.replace("?", f":f{i}", 1)
        values[f"f{i}"] = value
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


class Annotation(DatabaseFile):
    def submit(self, sample: str, who: str) -> dict[str, Any]:
        """This person is done with the sample; returns the event {id, sample, who, kind, created}."""
        return self._submission(sample, who, "submit")

    def skip(self, sample: str, who: str) -> dict[str, Any]:
        """This person does not want to judge the sample."""
        return self._submission(sample, who, "skip")

    def _submission(self, sample: str, who: str, kind: str) -> dict[str, Any]:
        who = checks.text("who", who)
        with self.writing() as db:
            need_sample(db, sample)
            event = {"id": new_id(), "sample": sample, "who": who, "kind": kind, "created": now()}
            insert(db, "submissions", event)
            free(db, sample, who)
        return event

    def next_to_annotate(
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
        as far as ``foreseen`` is filled), random, newest. Filters: prompt, prompt_set, method, split, backbone,
        projector_run, kind (of a word in the prompt, as far as ``kinds`` is filled).

        ``lease``: the sample is this person's for so many seconds; what others hold is left out. The random
        order is then this person's own and lasting: by id, which is random, from a place given by the name.
        Without a lease it is drawn anew each time. ``overlap``: at most so many people are given a sample.
        """
        checks.one_of("order", order, ORDERS)
        where, values = queue_filter(filters)
        values |= {"who": checks.text("who", who), "exclude": exclude, "overlap": checked_overlap(overlap)}
        leased = lease is not None
        seconds = checked_lease(lease) if leased else 0.0
        operation: AbstractContextManager[Database] = self.writing() if leased else self.reading()
        with operation as db:
            values["now"] = instant()
            few = self._few(db, where, values, filters)
            if few:
                where = where.replace(OF_KIND, LISTED)
            else:  # the plus keeps SQLite from sorting what an index of the filter finds
                where = where.replace("s.", "+s.")
            where += f""" AND s.image_path IS NOT NULL AND s.n_words > 0 AND s.id IS NOT :exclude
                AND {UNDONE.format(id="s.id")}"""
            if leased or overlap is not None:
                where += f" AND {vacant(overlap)}"
            if order == "uncertainty":
                found = self._least_sure(db, where, values, few)
            else:
                found = self._by(order, db, where, values, few, lasting=leased)
            if found and leased:
                take(db, found["id"], who, seconds)
        return found

    def _few(self, db: Database, where: str, values: dict[str, Any], filters: Mapping[str, Any]) -> bool:
        """Whether a filter that has an index leaves few samples."""
        if all(filters.get(name) is None for name in INDEXED):
            return False
        pool = "samples s"
        if filters.get("kind") is not None:  # along the kinds: samples would be passed by one and all
            of_kind = "k.kind IN (SELECT value FROM json_each(:kinds))"
            pool, where = (
                "kinds k CROSS JOIN samples s ON s.prompt = k.prompt",
                where.replace(OF_KIND, of_kind),
            )
        found = db.execute(f"SELECT s.id FROM {pool} WHERE {where} LIMIT {FEW}", values).fetchall()
        values["listed"] = checks.as_json("ids", [id for (id,) in found])
        return len(found) < FEW

    def _least_sure(self, db: Database, where: str, values: dict[str, Any], few: bool) -> dict | None:
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
                (SELECT 1 FROM scores h WHERE h.sample = s.id AND h.source = 'human' AND h.who = :who)
                AND {UNDONE.format(id="u.sample")}
            ORDER BY u.entropy DESC LIMIT 1""",
            values,
        )
        return max(begun + untouched, key=lambda s: s["entropy"], default=None)

    def _by(
        self, order: str, db: Database, where: str, values: dict[str, Any], few: bool, lasting: bool
    ) -> dict[str, Any] | None:
        if order in CACHES:
            where += f" AND u.points > 0 AND {UNDONE.format(id='u.sample')}"
            walks = [f"{_both(CACHES[order], few)} WHERE {where} ORDER BY u.points DESC"]
        elif order == "newest":
            walks = [f"samples s WHERE {where} ORDER BY s.seq DESC"]
        elif lasting:
            values["start"] = sha256(values["who"].encode()).hexdigest()[:32]
            walks = [f"samples s WHERE s.id {side} :start AND {where} ORDER BY s.id" for side in (">=", "<")]
        else:
            walks = [f"samples s WHERE {where} ORDER BY random()"]
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

    def queue(self, who: str, overlap: int | None = None, **filters: Any) -> dict[str, Any]:
        """How far the queue is: {mine, all, left: int, per_hour: float|None}, of what the filters leave.

        mine: samples that this person has submitted; all: that anyone has; left: that this person may still
        be given, now or when a lease ends. per_hour: this person's pace between the first and the last
        submit or skip of the past hour, on any sample; None before there are two.
        """
        where, values = queue_filter(filters)
        values |= {"who": checks.text("who", who), "now": instant(), "overlap": checked_overlap(overlap)}
        # with no lease ever in the future of this time, only those who have submitted take a place
        room = "1" if overlap is None else vacant(overlap).replace(":now", "'~'")
        with self.reading() as db:
            found = row(
                db,
                f"""WITH pool AS (SELECT s.id FROM samples s
                    WHERE {where} AND s.image_path IS NOT NULL AND s.n_words > 0)
                SELECT count(*) FILTER (WHERE EXISTS (SELECT 1 FROM submissions d
                        WHERE d.who = :who AND d.sample = s.id AND d.kind = 'submit')) AS mine,
                    count(*) FILTER (WHERE EXISTS (SELECT 1 FROM submissions d
                        WHERE d.sample = s.id AND d.kind = 'submit')) AS "all",
                    count(*) FILTER (WHERE NOT EXISTS (SELECT 1 FROM submissions d
                        WHERE d.who = :who AND d.sample = s.id) AND {room}) AS left
                FROM pool s""",
                values,
            )
            pace = row(
                db,
                """SELECT count(*) AS n, min(created) AS first, max(created) AS last FROM submissions
                WHERE who = ? AND created > ?""",
                (who, instant(-3600)),
            )
        assert found is not None and pace is not None
        found["per_hour"] = None
        if pace["n"] > 1 and pace["last"] > pace["first"]:
            worked = datetime.fromisoformat(pace["last"]) - datetime.fromisoformat(pace["first"])
            found["per_hour"] = (pace["n"] - 1) * 3600 / worked.total_seconds()
        return found

    def progress(self, who: str, **filters: Any) -> dict[str, int]:
        """This person's counts: {samples, scored, submitted, skipped, remaining, corrected_words,
        corrected_samples}. ``samples`` can be annotated at all; ``remaining`` are those not yet submitted
        or skipped. The filters bound every figure."""
        where, values = queue_filter(filters)
        values["who"] = checks.text("who", who)
        with self.reading() as db:
            r = row(
                db,
                f"""WITH pool AS (SELECT s.id FROM samples s
                        WHERE {where} AND s.image_path IS NOT NULL AND s.n_words > 0),
                    done AS (SELECT sample, kind, max(seq) FROM submissions
                        WHERE who = :who AND sample IN (SELECT id FROM pool) GROUP BY sample),
                    mine AS (SELECT e.sample FROM scores e WHERE e.seq IN
                            (SELECT max(seq) FROM scores WHERE who = :who AND who <> '' AND source = 'human'
                             GROUP BY sample, word_index)
                        AND e.kind = 'set' AND e.sample IN (SELECT id FROM pool))
                SELECT (SELECT count(*) FROM pool) AS samples,
                    (SELECT count(*) FROM pool WHERE id IN (SELECT sample FROM uncertainty)) AS scored,
                    (SELECT count(*) FROM done WHERE kind = 'submit') AS submitted,
                    (SELECT count(*) FROM done WHERE kind = 'skip') AS skipped,
                    (SELECT count(*) FROM mine) AS corrected_words,
                    (SELECT count(DISTINCT sample) FROM mine) AS corrected_samples""",
                values,
            )
        assert r is not None
        r["remaining"] = r["samples"] - r["submitted"] - r["skipped"]
        return r
