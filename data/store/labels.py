"""What training sees: one label a word, and snapshots that give them again (DESIGN 2, 5).

The target of a word is its gold score where there is one (``data.store.gold``), else the people's score, else what people
confirmed, else the simulated annotator's, else the calibrated scorer's (only where asked for), else the VLM's
distribution. Of several people: the median (`agreed`). Gold is of source human, as people set it, with the scorer
"gold"; whoever asks for labels without people's gets none.

An image is *judged* where every word that the VLM scored has a label of people or of the simulated annotator: somebody
gave each a score, or was done with the image and so confirmed the rest. Of an image of which only some words are
corrected nobody knows whether the others are right or were not looked at, and those that were corrected are the wrong
ones: whoever learns from them alone learns that the VLM is always wrong.

A snapshot is "all events up to this seq, and all gold up to that one" and the filters; as events are only ever added,
it yields the same labels for ever. One from before there was gold has no gold.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import math
import statistics
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from sqlite_utils import Database

from data.store import checks
from data.store.database import Records, StoreError, row, rows
from data.store.samples import sample_filter
from data.store.schema import SOURCES, SPLITS
from data.store.scores import PEOPLE

RULE = "gold first, then lower median of people"  # kept with a snapshot
# the same in the words of a page
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


def agreed(scores: Iterable[int]) -> int:
    """The score of a word that several people scored, as training uses it: their median, and of two middle scores the
    lower one. So it is always a score that someone gave, one person far off moves it little, and where two
    people differ the word counts as shown only as well as both say. Who was first or last does not matter."""
    return statistics.median_low(scores)


def label(events: list[dict[str, Any]], order: Sequence[str]) -> dict[str, Any] | None:
    """The one label of a word from its lanes' latest events, or None where no wanted source has spoken."""
    for source in order:
        said = [e for e in events if e["source"] == source and e["kind"] == "set"]
        if not said:
            continue
        chosen = said[-1]  # the latest: machines have one lane
        score, spread = chosen["score"], chosen["distribution"]
        distribution = json.loads(spread) if spread else None
        if source in PEOPLE:
            score, distribution = agreed(e["score"] for e in said), None
        return {
            **{k: v for k, v in chosen.items() if k not in ("seq", "kind", "who", "id", "place")},
            "source": "human" if source == GOLD else source,
            "score": score,
            "distribution": distribution,
            "weight": sum(e["weight"] for e in said) / len(said) if source in PEOPLE else chosen["weight"],
            "events": [e["id"] for e in (said if source in PEOPLE else [chosen])],
        }
    return None


def checked_filter(filters: Mapping[str, Any]) -> dict[str, Any]:
    unknown = sorted(set(filters) - set(FILTERS))
    if unknown:
        raise ValueError(
            f"Labels cannot be filtered by {checks.shown(unknown[0])}; choose {', '.join(FILTERS)}."
        )
    result = {k: v for k, v in filters.items() if v is not None}
    result["sources"] = sorted({checks.one_of("source", s, SOURCES) for s in result.get("sources", SOURCES)})
    result["include_calibrated"] = bool(result.get("include_calibrated", False))
    if "split" in result:
        checks.one_of("split", result["split"], SPLITS)
    json.loads(checks.as_json("the filter", result))
    return result


def _words(
    db: Database, last: int, filters: Mapping[str, Any], gold: int | None = None
) -> Iterator[list[dict[str, Any]]]:
    """The latest events up to ``last``, and the gold up to ``gold`` (all where None), grouped by (sample, word), in
    the order of samples and words."""
    where, values = sample_filter(
        {k: v for k, v in filters.items() if k not in ("sources", "include_calibrated")}
    )
    bound, within = "seq <= ?", [last]
    if filters.get("ids") is not None:  # along the lanes of these samples: nothing of the others is read
        bound, within = "sample IN (SELECT value FROM json_each(?)) AND +seq <= ?", [
            checks.as_json("ids", list(filters["ids"])), last,
        ]  # fmt: skip
    cursor = db.execute(
        f"""SELECT e.sample, e.word_index AS word_index, e.word, e.source, e.score, e.distribution, e.weight,
            e.scorer, e.scorer_version, {SAMPLE}, e.seq AS seq, e.kind, e.who, e.id, s.seq AS place
        FROM (SELECT max(seq) AS seq FROM scores WHERE {bound} GROUP BY sample, word_index, source, who) l
        JOIN scores e ON e.seq = l.seq JOIN samples s ON s.id = e.sample WHERE {where}
        UNION ALL
        SELECT g.sample, g.word_index, g.word, '{GOLD}', g.score, NULL, 1.0, '{GOLD}', '', {SAMPLE}, g.seq,
            'set', g.who, g.id, s.seq
        FROM (SELECT max(seq) AS seq FROM gold WHERE seq <= ? GROUP BY sample, word_index) l
        JOIN gold g ON g.seq = l.seq AND g.score IS NOT NULL JOIN samples s ON s.id = g.sample WHERE {where}
        ORDER BY place, word_index, seq""",
        [*within, *values, 2**62 if gold is None else gold, *values],
    )
    names = [column[0] for column in cursor.description]
    group: list[dict[str, Any]] = []
    for found in cursor:
        event = dict(zip(names, found))
        if group and (event["sample"], event["word_index"]) != (group[0]["sample"], group[0]["word_index"]):
            yield group
            group = []
        group.append(event)
    if group:
        yield group


def _samples(words: Iterable[list[dict[str, Any]]]) -> Iterator[list[list[dict[str, Any]]]]:
    """What ``_words`` gives, grouped by sample."""
    for _, group in itertools.groupby(words, key=lambda events: events[0]["sample"]):
        yield list(group)


def _judges(include_simulated: bool) -> tuple[str, ...]:
    return JUDGES if include_simulated else JUDGES[:-1]


def _scored(events: Sequence[Mapping[str, Any]]) -> Mapping[str, Any] | None:
    """The VLM's latest score of a word."""
    return next((e for e in reversed(events) if e["source"] == "vlm" and e["kind"] == "set"), None)


def _is_judged(words: Sequence[list[dict[str, Any]]], order: Sequence[str]) -> bool:
    """Whether each word of a sample that the VLM scored has a label of one of these sources."""
    return all(label(events, order) for events in words if _scored(events))


def labels_at(
    db: Database, last: int, filters: Mapping[str, Any], gold: int | None = None
) -> list[dict[str, Any]]:
    """The labels that the events up to ``last`` and the gold up to ``gold`` (None: all) give, under a checked filter;
    rows as ``Labels.labels`` gives them."""
    wanted = [*filters["sources"], *([GOLD] if "human" in filters["sources"] else [])]
    order = [s for s in PRECEDENCE if s in wanted and (s != "calibrated" or filters["include_calibrated"])]
    found = (label(events, order) for events in _words(db, last, filters, gold))
    return [x for x in found if x is not None]


def expected(label: Mapping[str, Any]) -> float:
    """A label as one number, 0 to 9: its distribution's mean where it has one, as training takes it, else its score."""
    if label["distribution"] is None:
        return float(label["score"])
    return math.fsum(k * p for k, p in enumerate(label["distribution"])) / math.fsum(label["distribution"])


def digest(labels: Iterable[Mapping[str, Any]]) -> str:
    """sha256 over what training takes from the labels."""
    h = hashlib.sha256()
    for x in labels:
        key = [x["sample"], x["word_index"], x["source"], x["score"], x["distribution"], x["weight"]]
        h.update(json.dumps(key).encode())
    return h.hexdigest()


class Labels(Records):
    def snapshot(self, **filters: Any) -> dict[str, Any]:
        """The labels as they are now, to be kept with a run: {store, last, gold, filter, rule, count,
        sources, sha256}. JSON; ``labels(snapshot=...)`` gives them again. Filters as for ``labels``."""
        wanted = checked_filter(filters)
        with self.database.reading() as db:
            last = self._last(db)
            gold = self._last(db, "gold")
            found = labels_at(db, last, wanted, gold)
            store = db.execute("SELECT id FROM store").fetchone()[0]
        return {
            "store": store,
            "last": last,
            "gold": gold,
            "filter": wanted,
            "rule": RULE,
            "count": len(found),
            "sources": dict(sorted(Counter(x["source"] for x in found).items())),
            "sha256": digest(found),
        }

    def current(self, snapshot: Mapping[str, Any] | None = None, **filters: Any) -> list[dict[str, Any]]:
        """One row a word for training, by arrival of the sample, then by word.

        Row: sample, word_index, word, source, score (int|None), distribution (10 floats|None; at least one
        of the two is there), weight, scorer, scorer_version, prompt, prompt_set, split, seed, method,
        strength, projector_run, noise_sha256, backbone, word_rules, events. Filters: sources (default all),
        include_calibrated (default False), split, prompt_set, method, backbone, ids. With a ``snapshot``:
        its filters, and exactly its labels; StoreError where this store cannot give them.
        """
        if snapshot is not None and filters:
            raise ValueError("A snapshot has its own filters; give either a snapshot or filters.")
        with self.database.reading() as db:
            if snapshot is None:
                return labels_at(db, self._last(db), checked_filter(filters))
            store = db.execute("SELECT id FROM store").fetchone()[0]
            if snapshot.get("store") != store:
                raise StoreError(
                    "This snapshot of labels was taken in another database; open that one, or take a new one."
                )
            last = checks.integer("last", snapshot.get("last"), 0, 2**62)
            gold = checks.integer("gold", snapshot.get("gold", 0), 0, 2**62)
            found = labels_at(db, last, checked_filter(snapshot.get("filter", {})), gold)
        if digest(found) != snapshot.get("sha256"):
            if snapshot.get("rule") != RULE:
                raise StoreError(
                    "This snapshot of labels was taken when the label of a word that several people scored followed "
                    "another rule; take a new snapshot."
                )
            raise StoreError(
                "The labels are not those of the snapshot: the database lacks events that it had then. "
                "Restore the backup that has them, or take a new snapshot."
            )
        return found

    def corrections(
        self,
        split: str | None = None,
        include_simulated: bool = True,
        last: int | None = None,
        gold: int | None = None,
    ) -> list[dict[str, Any]]:
        """For the calibrator: the words that have both a label of people and a VLM score, by the events up to
        ``last`` and the gold up to ``gold``; all where they are None.

        Row: as a label of source human or confirmed (or simulated); judged: whether the whole image is; apart: points
        between the highest and the lowest score that people gave the word; and vlm: {id, score, distribution, features
        (float16 bytes|None), scorer, scorer_version}, the VLM's latest.
        """
        order, found = _judges(include_simulated), []
        with self.database.reading() as db:
            bound = self._last(db) if last is None else checks.integer("last", last, 0, 2**62)
            for words in list(_samples(_words(db, bound, {"split": split}, gold))):
                judged = _is_judged(words, order)
                for events in words:
                    target, scored = label(events, order), _scored(events)
                    if target and scored:
                        vlm = row(
                            db,
                            "SELECT id, score, distribution, features, scorer, scorer_version FROM scores "
                            "WHERE seq = ?",
                            (scored["seq"],),
                        )
                        given = [e["score"] for e in events if e["source"] == "human" and e["kind"] == "set"]
                        apart = max(given) - min(given) if given else 0
                        found.append({**target, "judged": judged, "apart": apart, "vlm": _parsed(vlm or {})})
        return found

    def judged_images(
        self,
        split: str | None = None,
        include_simulated: bool = True,
        last: int | None = None,
        gold: int | None = None,
    ) -> dict[str, Any]:
        """The images that are judged (see above), by the events up to ``last`` and the gold up to ``gold``; all where
        they are None. {images: {sample: {word_index: label}}, left_out: {samples, words}}.

        A label is as ``labels`` gives it, but for its source: gold, human, confirmed or simulated. ``left_out``: images
        of which people or the simulated annotator scored some words and left others open, and how many they scored.
        """
        order = _judges(include_simulated)
        images: dict[str, dict[int, dict[str, Any]]] = {}
        left = {"samples": 0, "words": 0}
        with self.database.reading() as db:
            bound = self._last(db) if last is None else checks.integer("last", last, 0, 2**62)
            for words in _samples(_words(db, bound, {"split": split}, gold)):
                said = [found for found in (label(events, order) for events in words) if found]
                if said and _is_judged(words, order):
                    images[said[0]["sample"]] = {
                        x["word_index"]: {**x, "source": GOLD if x["scorer"] == GOLD else x["source"]}
                        for x in said
                    }
                elif said:
                    left["samples"] += 1
                    left["words"] += len(said)
        return {"images": images, "left_out": left}

    def vlm_scores(self, split: str | None = None, page: int = 1000) -> Iterator[dict[str, Any]]:
        """The VLM's latest score of every word, with features, for the calibrator to score again.

        Row: sample, word_index, word, prompt, split, word_rules, id, score, distribution, features, scorer,
        scorer_version. Read a page at a time; what is written meanwhile is left out.
        """
        where, values = sample_filter({"split": split})
        after, last = 0, None
        while True:
            with self.database.reading() as db:
                last = self._last(db) if last is None else last
                found = rows(
                    db,
                    f"""SELECT e.seq, e.sample, e.word_index, e.word, s.prompt, s.split, s.word_rules, e.id, e.score,
                        e.distribution, e.features, e.scorer, e.scorer_version
                    FROM scores e JOIN samples s ON s.id = e.sample
                    WHERE e.seq > ? AND e.seq <= ? AND e.source = 'vlm' AND e.kind = 'set' AND {where}
                        AND NOT EXISTS (SELECT 1 FROM scores n WHERE n.sample = e.sample
                            AND n.word_index = e.word_index AND n.source = 'vlm' AND n.seq > e.seq
                            AND n.seq <= ?)
                    ORDER BY e.seq LIMIT ?""",
                    [after, last, *values, last, page],
                )
            if not found:
                return
            after = found[-1]["seq"]
            for f in found:
                f.pop("seq")
                yield _parsed(f)

    def _last(self, db: Database, table: str = "scores") -> int:
        return db.execute(f"SELECT coalesce(max(seq), 0) FROM {table}").fetchone()[0]


def _parsed(event: dict[str, Any]) -> dict[str, Any]:
    if event.get("distribution"):
        event["distribution"] = json.loads(event["distribution"])
    return event
