"""Training labels, one per word, and snapshots that reproduce them.

The label of a word comes from the first source in ``PRECEDENCE`` that has scored it: gold (``data.store.gold``; its label has
source human and the scorer "gold"), people, what people confirmed (of several people the median, ``agreed``), the simulated
annotator, the calibrated scorer (only on request), the VLM's distribution.

An image is *judged* where every word that the VLM scored has a label of people or of the simulated annotator: somebody gave
it a score, or submitted the image and so confirmed it. In other images the corrected words are mostly the wrong ones, and
nobody knows of the others: a model that learns from these alone learns that the VLM is always wrong.

A snapshot is "all events up to this seq and all gold up to that one", with the filters. As events are only ever added, it
yields the same labels for ever.
"""

from __future__ import annotations

import hashlib
import json
import math
import statistics
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import groupby
from operator import itemgetter
from typing import Any

from sqlite_utils import Database

from data.store import checks
from data.store.database import Records, StoreError, iterate, last_seq, row, store_id
from data.store.samples import sample_filter
from data.store.schema import SOURCES, SPLITS
from data.store.scores import PEOPLE, readable

RULE = "gold first, then lower median of people"  # kept with a snapshot
# the same for users
RULE_SAID = (
    "The label of a word that training uses: its gold score where it has one; else the median of the people who scored "
    "it (of two middle scores the lower one); else what people confirmed by being done with the image; else the simulated "
    "annotator's; else the VLM's own."
)
GOLD = "gold"
JUDGES = (GOLD, "human", "confirmed", "simulated")
PRECEDENCE = (*JUDGES, "calibrated", "vlm")
FILTERS = ("sources", "include_calibrated", "split", "prompt_set", "method", "backbone", "ids")
SAMPLE = (
    "s.prompt, s.prompt_set, s.split, s.seed, s.method, s.strength, s.projector_run, s.noise_sha256, "
    "s.backbone, s.word_rules"
)
Word = tuple[list[dict[str, Any]], dict[str, Any] | None]  # events and label


def agreed(scores: Iterable[int]) -> int:
    """The lower median of several people's scores of a word: a score that someone gave, and of two the lower one."""
    return statistics.median_low(scores)


def label(events: list[dict[str, Any]], order: Sequence[str]) -> dict[str, Any] | None:
    """The label of a word, given the latest events of its lanes; None where no source in ``order`` has scored it."""
    for source in order:
        scores = [e for e in events if e["source"] == source and e["kind"] == "set"]
        if not scores:
            continue
        latest = scores[-1]
        result = {k: v for k, v in latest.items() if k not in ("seq", "kind", "who", "id", "place")}
        if source in PEOPLE:
            result |= {"score": agreed(e["score"] for e in scores), "distribution": None}
            result |= {"weight": sum(e["weight"] for e in scores) / len(scores)}
        else:  # one lane
            scores = [latest]
            result["distribution"] = json.loads(latest["distribution"]) if latest["distribution"] else None
        return result | {"source": "human" if source == GOLD else source, "events": [e["id"] for e in scores]}
    return None


def checked_filter(filters: Mapping[str, Any]) -> dict[str, Any]:
    """The filters of labels with their defaults; ValueError where there is no such filter or value."""
    checks.names(filters, FILTERS, "Labels cannot be filtered by {0}; choose {1}.")
    result = {k: v for k, v in filters.items() if v is not None}
    result["sources"] = sorted({checks.one_of("source", s, SOURCES) for s in result.get("sources", SOURCES)})
    result["include_calibrated"] = bool(result.get("include_calibrated", False))
    if "split" in result:
        checks.one_of("split", result["split"], SPLITS)
    checks.as_json("the filter", result)  # as it is kept with a run
    return result


def _words(
    db: Database, last: int, filters: Mapping[str, Any], gold: int | None = None
) -> Iterator[list[dict[str, Any]]]:
    """The latest events up to ``last`` and the gold up to ``gold`` (None: all) by (sample, word), in their order."""
    of_samples = {k: v for k, v in filters.items() if k not in ("sources", "include_calibrated")}
    where, values = sample_filter(of_samples)
    bound = "seq <= ?"
    bounds: list[Any] = [last]
    if filters.get("ids") is not None:  # walk the lanes of these samples only
        bound = "sample IN (SELECT value FROM json_each(?)) AND +seq <= ?"
        bounds = [checks.as_json("ids", list(filters["ids"])), last]
    sql = f"""SELECT e.sample, e.word_index AS word_index, e.word, e.source, e.score, e.distribution, e.weight,
            e.scorer, e.scorer_version, {SAMPLE}, e.seq AS seq, e.kind, e.who, e.id, s.seq AS place
        FROM (SELECT max(seq) AS seq FROM scores WHERE {bound} GROUP BY sample, word_index, source, who) l
        JOIN scores e ON e.seq = l.seq JOIN samples s ON s.id = e.sample WHERE {where}
        UNION ALL
        SELECT g.sample, g.word_index, g.word, '{GOLD}', g.score, NULL, 1.0, '{GOLD}', '', {SAMPLE}, g.seq,
            'set', g.who, g.id, s.seq
        FROM (SELECT max(seq) AS seq FROM gold WHERE seq <= ? GROUP BY sample, word_index) l
        JOIN gold g ON g.seq = l.seq AND g.score IS NOT NULL JOIN samples s ON s.id = g.sample WHERE {where}
        ORDER BY place, word_index, seq"""
    events = iterate(db, sql, [*bounds, *values, 2**62 if gold is None else gold, *values])
    for _, word in groupby(events, key=itemgetter("sample", "word_index")):
        yield list(word)


def _by_vlm(events: Sequence[Mapping[str, Any]]) -> Mapping[str, Any] | None:
    """The VLM's latest score of a word, or None."""
    return next((e for e in reversed(events) if e["source"] == "vlm" and e["kind"] == "set"), None)


def _judgements(
    db: Database, split: str | None, include_simulated: bool, last: int | None, gold: int | None
) -> Iterator[tuple[bool, list[Word]]]:
    """For each sample: whether it is judged, and its words, each with its events and its label by a judge or None."""
    order = JUDGES if include_simulated else JUDGES[:-1]
    bound = last_seq(db) if last is None else checks.integer("last", last, 0, 2**62)
    every = _words(db, bound, {"split": split}, gold)
    for _, sample in groupby(every, key=lambda events: events[0]["sample"]):
        words = [(events, label(events, order)) for events in sample]
        yield all(target for events, target in words if _by_vlm(events)), words


def labels_at(
    db: Database, last: int, filters: Mapping[str, Any], gold: int | None = None
) -> list[dict[str, Any]]:
    """Rows of ``Labels.current`` from the events up to ``last`` and the gold up to ``gold`` (None: all), under a checked filter."""
    wanted = [*filters["sources"], *([GOLD] if "human" in filters["sources"] else [])]
    order = [s for s in PRECEDENCE if s in wanted and (s != "calibrated" or filters["include_calibrated"])]
    labels = (label(events, order) for events in _words(db, last, filters, gold))
    return [x for x in labels if x is not None]


def expected(score: Mapping[str, Any]) -> float:
    """A label or event as one number, 0 to 9: the mean of its distribution, else its score."""
    if score["distribution"] is None:
        return float(score["score"])
    return math.fsum(k * p for k, p in enumerate(score["distribution"])) / math.fsum(score["distribution"])


def digest(labels: Iterable[Mapping[str, Any]]) -> str:
    """sha256 of the fields of the labels that training uses."""
    h = hashlib.sha256()
    for x in labels:
        key = [x["sample"], x["word_index"], x["source"], x["score"], x["distribution"], x["weight"]]
        h.update(json.dumps(key).encode())
    return h.hexdigest()


class Labels(Records):
    def snapshot(self, **filters: Any) -> dict[str, Any]:
        """A snapshot of the labels, to be kept with a run, as JSON: {store, last, gold, filter, rule, count, sources,
        sha256}. ``current(snapshot=...)`` reproduces them. Filters as for ``current``."""
        wanted = checked_filter(filters)
        with self.database.reading() as db:
            last, gold = last_seq(db), last_seq(db, "gold")
            labels = labels_at(db, last, wanted, gold)
            taken = {"store": store_id(db), "last": last, "gold": gold, "filter": wanted, "rule": RULE}
        sources = dict(sorted(Counter(x["source"] for x in labels).items()))
        return {**taken, "count": len(labels), "sources": sources, "sha256": digest(labels)}

    def current(self, snapshot: Mapping[str, Any] | None = None, **filters: Any) -> list[dict[str, Any]]:
        """The labels, one row per word, by arrival of the sample, then by word.

        Row: sample, word_index, word, source, score (int|None), distribution (10 floats|None; at least one of the two is
        given), weight, scorer, scorer_version, prompt, prompt_set, split, seed, method, strength, projector_run,
        noise_sha256, backbone, word_rules, events. Filters: sources (default all), include_calibrated (default False),
        split, prompt_set, method, backbone, ids. With a ``snapshot``: exactly its labels, under its filters; StoreError
        where this store cannot reproduce them.
        """
        if snapshot is not None and filters:
            raise ValueError("A snapshot has its own filters; give either a snapshot or filters.")
        with self.database.reading() as db:
            if snapshot is None:
                return labels_at(db, last_seq(db), checked_filter(filters))
            if snapshot.get("store") != store_id(db):
                raise StoreError(
                    "This snapshot of labels was taken in another database; open that one, or take a new one."
                )
            last = checks.integer("last", snapshot.get("last"), 0, 2**62)
            gold = checks.integer("gold", snapshot.get("gold", 0), 0, 2**62)
            labels = labels_at(db, last, checked_filter(snapshot.get("filter", {})), gold)
        if digest(labels) != snapshot.get("sha256"):
            if snapshot.get("rule") != RULE:
                raise StoreError(
                    "This snapshot of labels was taken when the label of a word that several people scored followed "
                    "another rule; take a new snapshot."
                )
            raise StoreError(
                "The labels are not those of the snapshot: the database lacks events that it had then. "
                "Restore the backup that has them, or take a new snapshot."
            )
        return labels

    def corrections(
        self,
        split: str | None = None,
        include_simulated: bool = True,
        last: int | None = None,
        gold: int | None = None,
    ) -> list[dict[str, Any]]:
        """The words with both a label of people and a VLM score, for the calibrator, from the events up to ``last`` and the
        gold up to ``gold``; all where they are None.

        Row: a label of source human or confirmed (or simulated); judged: whether the whole image is; apart: points between
        the highest and the lowest score that people gave the word; vlm: the VLM's latest, {id, score, distribution,
        features (float16 bytes|None), scorer, scorer_version}.
        """
        corrections = []
        sql = "SELECT id, score, distribution, features, scorer, scorer_version FROM scores WHERE seq = ?"
        with self.database.reading() as db:
            for judged, words in list(_judgements(db, split, include_simulated, last, gold)):
                for events, target in words:
                    scored = _by_vlm(events)
                    if target and scored:
                        vlm = readable(row(db, sql, (scored["seq"],)) or {})
                        people = [e["score"] for e in events if e["source"] == "human" and e["kind"] == "set"]
                        apart = max(people) - min(people) if people else 0
                        corrections.append({**target, "judged": judged, "apart": apart, "vlm": vlm})
        return corrections

    def judged_images(
        self,
        split: str | None = None,
        include_simulated: bool = True,
        last: int | None = None,
        gold: int | None = None,
    ) -> dict[str, Any]:
        """The judged images (see the module), from the events up to ``last`` and the gold up to ``gold``; all where they are
        None: {images: {sample: {word_index: label}}, left_out: {samples, words}}.

        A label is a row of ``current`` whose source is gold, human, confirmed or simulated. ``left_out`` counts images of
        which people or the simulated annotator scored only some words, and these words.
        """
        images: dict[str, dict[int, dict[str, Any]]] = {}
        left = {"samples": 0, "words": 0}
        with self.database.reading() as db:
            for judged, words in _judgements(db, split, include_simulated, last, gold):
                labels = [target for _, target in words if target]
                for x in labels if judged else []:
                    source = GOLD if x["scorer"] == GOLD else x["source"]
                    images.setdefault(x["sample"], {})[x["word_index"]] = {**x, "source": source}
                if labels and not judged:
                    left["samples"] += 1
                    left["words"] += len(labels)
        return {"images": images, "left_out": left}

    def vlm_scores(self, split: str | None = None, page: int = 1000) -> Iterator[dict[str, Any]]:
        """Iterate over the VLM's latest score of every word, with features, for the calibrator.

        Row: sample, word_index, word, prompt, split, word_rules, id, score, distribution, features, scorer,
        scorer_version. Read a page at a time; scores written meanwhile are left out.
        """
        where, values = sample_filter({"split": split})
        sql = f"""SELECT e.seq, e.sample, e.word_index, e.word, s.prompt, s.split, s.word_rules, e.id, e.score,
                e.distribution, e.features, e.scorer, e.scorer_version
            FROM scores e JOIN samples s ON s.id = e.sample
            WHERE e.seq > ? AND e.seq <= ? AND e.source = 'vlm' AND e.kind = 'set' AND {where}
                AND NOT EXISTS (SELECT 1 FROM scores n WHERE n.sample = e.sample
                    AND n.word_index = e.word_index AND n.source = 'vlm' AND n.seq > e.seq AND n.seq <= ?)
            ORDER BY e.seq LIMIT ?"""
        after, last = 0, self.value("SELECT coalesce(max(seq), 0) FROM scores")
        while scores := self.rows(sql, [after, last, *values, last, page]):
            after = scores[-1]["seq"]
            for score in scores:
                del score["seq"]
                yield readable(score)
