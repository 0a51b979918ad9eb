"""Who corrects what next (issue: the next item is the one whose correction teaches most).

"Teaches most" is read as: the sample on which the VLM is least sure, by the mean entropy of its scores over
the words that this person has not corrected yet. A mean, not a sum: a person's effort is counted in words.
The mean over all words is kept for each sample when scores are written, so the best untouched sample is
found on an index, and only the few samples that the person has begun are summed anew.
"""

from __future__ import annotations

from typing import Any

from data import checks
from data.database import DatabaseFile, insert, new_id, now, row, rows
from data.samples import need_sample, sample_filter

ORDERS = ("uncertainty", "random", "newest")
FILTERS = ("prompt_set", "method", "split", "backbone", "projector_run")

# Words of one sample that :who has not corrected, by the VLM's latest scores.
BEGUN = """
SELECT b.sample, avg(coalesce(v.entropy, 0)) AS entropy
FROM (SELECT DISTINCT sample FROM scores WHERE who = :who AND who <> '' AND source = 'human') b
JOIN scores v ON v.sample = b.sample AND v.source = 'vlm' AND v.kind = 'set'
WHERE NOT EXISTS (SELECT 1 FROM scores n WHERE n.sample = v.sample AND n.word_index = v.word_index
        AND n.source = 'vlm' AND n.who = v.who AND n.seq > v.seq)
    AND coalesce((SELECT kind FROM scores h WHERE h.sample = v.sample AND h.word_index = v.word_index
        AND h.source = 'human' AND h.who = :who ORDER BY seq DESC LIMIT 1), 'clear') = 'clear'
GROUP BY b.sample
"""


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
        return event

    def next_to_annotate(
        self, who: str, order: str = "uncertainty", exclude: str | None = None, **filters: Any
    ) -> dict[str, Any] | None:
        """The sample (all its columns, and entropy: float|None) to show this person next, or None.

        Left out: what the person has submitted or skipped, what has no image or no words, and ``exclude``
        (the one on the screen). Orders: uncertainty (scored samples only), random, newest. Filters:
        prompt_set, method, split, backbone, projector_run.
        """
        checks.one_of("order", order, ORDERS)
        unknown = sorted(set(filters) - set(FILTERS))
        if unknown:
            raise ValueError(
                f"The queue cannot be filtered by {checks.shown(unknown[0])}; choose {', '.join(FILTERS)}."
            )
        where, given = sample_filter(filters)
        # named parameters, since :who is needed in several places
        values: dict[str, Any] = {"who": checks.text("who", who), "exclude": exclude}
        for i, value in enumerate(given):
            where = where.replace("?", f":f{i}", 1)
            values[f"f{i}"] = value
        free = f"""{where} AND s.image_path IS NOT NULL AND s.n_words > 0 AND s.id IS NOT :exclude
            AND NOT EXISTS (SELECT 1 FROM submissions d WHERE d.who = :who AND d.sample = s.id)"""
        with self.reading() as db:
            if order != "uncertainty":
                by = "random()" if order == "random" else "s.seq DESC"
                return row(
                    db,
                    f"""SELECT s.*, u.entropy FROM samples s LEFT JOIN uncertainty u ON u.sample = s.id
                    WHERE s.seq = (SELECT s.seq FROM samples s WHERE {free} ORDER BY {by} LIMIT 1)""",
                    values,
                )
            begun = rows(
                db,
                f"""SELECT s.*, b.entropy FROM ({BEGUN}) b JOIN samples s ON s.id = b.sample WHERE {free}
                ORDER BY b.entropy DESC, s.seq LIMIT 1""",
                values,
            )
            untouched = rows(
                db,
                f"""SELECT s.*, u.entropy FROM uncertainty u JOIN samples s ON s.id = u.sample
                WHERE {free} AND NOT EXISTS
                    (SELECT 1 FROM scores h WHERE h.sample = s.id AND h.source = 'human' AND h.who = :who)
                ORDER BY u.entropy DESC LIMIT 1""",
                values,
            )
        return max(begun + untouched, key=lambda s: s["entropy"], default=None)

    def progress(self, who: str, **filters: Any) -> dict[str, int]:
        """This person's counts: {samples, scored, submitted, skipped, remaining, corrected_words,
        corrected_samples}. ``samples`` can be annotated at all; ``remaining`` are those not yet submitted
        or skipped. The filters bound every figure."""
        where, given = sample_filter(filters)
        who = checks.text("who", who)
        with self.reading() as db:
            r = row(
                db,
                f"""WITH pool AS (SELECT s.id FROM samples s
                        WHERE {where} AND s.image_path IS NOT NULL AND s.n_words > 0),
                    done AS (SELECT sample, kind, max(seq) FROM submissions
                        WHERE who = ? AND sample IN (SELECT id FROM pool) GROUP BY sample),
                    mine AS (SELECT e.sample FROM scores e WHERE e.seq IN
                            (SELECT max(seq) FROM scores WHERE who = ? AND who <> '' AND source = 'human'
                             GROUP BY sample, word_index)
                        AND e.kind = 'set' AND e.sample IN (SELECT id FROM pool))
                SELECT (SELECT count(*) FROM pool) AS samples,
                    (SELECT count(*) FROM pool WHERE id IN (SELECT sample FROM uncertainty)) AS scored,
                    (SELECT count(*) FROM done WHERE kind = 'submit') AS submitted,
                    (SELECT count(*) FROM done WHERE kind = 'skip') AS skipped,
                    (SELECT count(*) FROM mine) AS corrected_words,
                    (SELECT count(DISTINCT sample) FROM mine) AS corrected_samples""",
                [*given, who, who],
            )
        assert r is not None
        r["remaining"] = r["samples"] - r["submitted"] - r["skipped"]
        return r
