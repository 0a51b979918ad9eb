"""Scores of words by the VLM, people, the simulated annotator and the calibrator; and words that the VLM could not score.

Scores are append-only events. A *lane* is (sample, word, source, who); its current state is its latest event by ``seq``, the
order of arrival (a clock may be set back), and every new event supersedes the one before it in its lane. Undo is an event too:
it names the event that it undoes and restores the state that the lane had before, any number of steps back. A person who
repeats the score that stands in their lane adds no event, and so no step of undo.
"""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Any

from sqlite_utils import Database

from data.store import checks
from data.store.checks import choice, maybe, words
from data.store.database import Records, insert, new_id, now, row, rows
from data.store.samples import need_sample
from data.store.schema import MEANS, SOURCES

ANNOTATORS = ("human", "simulated")
NOTHING_ELSE = "nothing else"  # the unit after a prompt's words; no word has a space
LISTED_WORDS = 600  # characters of a prompt's words in a message
PEOPLE = ("human", "confirmed")  # sources of which the median over people counts
PERSONAL = ("human", "confirmed", "simulated")  # sources that have a ``who``
SHAPES: dict[str, checks.Shape] = {
    "id": checks.identifier, "sample": checks.identifier, "word_index": partial(checks.integer, low=0, high=999),
    "word": words(checks.PROMPT_LENGTH), "source": choice(*SOURCES), "who": words(), "kind": choice("set", "clear"),
    "score": maybe(partial(checks.integer, low=0, high=9)), "distribution": maybe(checks.distribution),
    "features": maybe(checks.features), "scorer": words(200), "scorer_version": words(200),
    "weight": partial(checks.number, low=0, high=1000), "supersedes": maybe(checks.identifier),
    "undoes": maybe(checks.identifier), "created": checks.time,
}  # fmt: skip
FIELDS = list(SHAPES)
DEFAULTS = {"word": "", "who": "", "kind": "set", "scorer": "", "scorer_version": "", "weight": 1.0}
EVENT = ", ".join(["e.seq", *(f"e.{f}" for f in FIELDS if f != "features")])
STEP = "coalesce(e.step, e.created)"  # scores of a sample that are undone together; of imports, those of one time
# neither an undo nor undone; the plus keeps SQLite from searching the index of ``undoes``
NOT_UNDONE = "+undoes IS NULL AND NOT EXISTS (SELECT 1 FROM scores u WHERE u.undoes = e.id)"


def checked_event(given: Mapping[str, Any]) -> dict[str, Any]:
    """An event with all its fields; ValueError names the field that is wrong."""
    checks.names(given, FIELDS, "A score has no field {0}; it has {1}.")
    filled = {name: value for name, value in given.items() if value is not None}
    event = checks.columns({"id": new_id(), "created": now(), **DEFAULTS, **filled}, SHAPES)
    event["entropy"] = None
    source, probabilities = event["source"], event["distribution"]
    checks.text("who", event["who"], empty=source not in PERSONAL)
    if source not in PERSONAL and event["who"]:
        raise ValueError(f"A score of source {source} has no 'who'; name the scorer instead.")
    if source in PEOPLE and probabilities:
        raise ValueError("A person gives one score from 0 to 9, not a distribution.")
    if (event["kind"] == "clear") != (event["score"] is None and probabilities is None):
        raise ValueError("A 'set' needs a score from 0 to 9 or a distribution; a 'clear' has neither.")
    if probabilities:
        event["distribution"] = json.dumps(probabilities, separators=(",", ":"))
        event["entropy"] = checks.entropy(probabilities)
    return event


def checked_score(entry: Mapping[str, Any], sample: Mapping[str, Any]) -> dict[str, Any]:
    """A row of ``scores`` from elsewhere; ValueError names the field that is wrong."""
    event = checked_event({**checks.complete(entry), "sample": sample["id"]})
    need_word(sample, event["word_index"], event["word"])
    return event


def readable(event: dict[str, Any]) -> dict[str, Any]:
    """An event as the store returns it: the distribution as a list."""
    if event.get("distribution") is not None:
        event["distribution"] = json.loads(event["distribution"])
    return event


def need_word(sample: Mapping[str, Any], word_index: int, word: str = "") -> None:
    """ValueError where a sample has no such unit, or *nothing else*, the last one, is at another place."""
    last = sample["n_words"] - 1
    if word == NOTHING_ELSE and word_index < last:
        raise ValueError(
            f"word_index {word_index} is a word, and “{NOTHING_ELSE}” stands after the words: the sample has it at {last}, or "
            "lacks it."
        )
    if word_index > last:
        raise ValueError(
            f"word_index {word_index} is past the sample's {last + 1} words; give one from 0 to {last}."
        )


Units = Callable[[Mapping[str, Any]], Sequence[Any]]
"""The units of a sample, each with text, start, end and scored: ``core.words.units_of``, which is passed in."""


def need_unit(sample: Mapping[str, Any], units: Sequence[Any], word_index: int, word: str = "") -> Any:
    """The unit of a sample that a label from elsewhere names; ValueError, with the prompt's words, where it is no scored one."""
    try:
        need_word(sample, word_index, word)
        if word_index >= len(units):
            raise ValueError(f"word_index {word_index} is past the prompt's {len(units)} words.")
        unit = units[word_index]
        if word and not same_word(word, unit.text):
            raise ValueError(
                f"word {word_index} of the prompt is {checks.shown(unit.text)}, not {checks.shown(word)}."
            )
        if not unit.scored:
            raise ValueError(f"word {word_index}, {checks.shown(unit.text)}, takes no score; leave it out.")
    except ValueError as error:
        raise ValueError(f"{error} {prompt_words(units)}") from None
    return unit


def prompt_words(units: Sequence[Any]) -> str:
    """A prompt's words with their places, for an error message."""
    words = ", ".join(f"{i} {unit.text}" for i, unit in enumerate(units))
    shortened = words if len(words) <= LISTED_WORDS else f"{words[:LISTED_WORDS]} ..."
    return f"The prompt's words are: {shortened}."


def same_word(a: str, b: str) -> bool:
    """Whether two texts are the same word, regardless of case and Unicode composition."""
    return unicodedata.normalize("NFC", a).casefold() == unicodedata.normalize("NFC", b).casefold()


def word_of(db: Database, sample: str, word_index: int) -> str:
    """The text of a word as an earlier score has it, '' where none has."""
    sql = "SELECT word FROM scores WHERE sample = ? AND word_index = ? AND word <> '' LIMIT 1"
    score = row(db, sql, (sample, word_index))
    return score["word"] if score else ""


def latest(db: Database, sample: str, word_index: int, source: str, who: str) -> dict[str, Any] | None:
    """The lane's latest event."""
    sql = f"""SELECT {EVENT} FROM scores e WHERE sample = ? AND word_index = ? AND source = ? AND who = ?
        ORDER BY seq DESC LIMIT 1"""
    return row(db, sql, (sample, word_index, source, who))


def latest_events(db: Database, samples: Sequence[str]) -> list[dict[str, Any]]:
    """The latest event of each lane of these samples, in order of arrival."""
    sql = f"""SELECT {EVENT} FROM scores e WHERE seq IN
            (SELECT max(seq) FROM scores WHERE sample IN (SELECT value FROM json_each(?))
            GROUP BY sample, word_index, source, who)
        ORDER BY seq"""
    return rows(db, sql, (checks.as_json("samples", list(samples)),))


def insert_event(db: Database, event: dict[str, Any], step: str | None = None) -> dict[str, Any]:
    """Insert a checked event after its lane's latest; returns it. step: shared by events that are undone together."""
    before = latest(db, event["sample"], event["word_index"], event["source"], event["who"])
    event = {**event, "supersedes": before["id"] if before else None, "step": step}
    insert(db, "scores", event)
    return event


def undo_event(db: Database, undone: dict[str, Any]) -> None:
    """Add the event that puts a lane into the state that it would have without one of its events."""
    sql = f"""SELECT {EVENT} FROM scores e
        WHERE sample = :sample AND word_index = :word_index AND source = :source AND who = :who
        AND id <> :id AND {NOT_UNDONE} ORDER BY seq DESC LIMIT 1"""
    before = row(db, sql, undone)
    state = readable(before or {"kind": "clear", "score": None, "distribution": None, "weight": 1.0})
    lane = {name: undone[name] for name in ("sample", "word_index", "word", "source", "who")}
    restored = {name: state[name] for name in ("kind", "score", "distribution", "weight")}
    event = checked_event({**lane, **restored, "undoes": undone["id"]})
    insert_event(db, event, event["id"])


def refresh_figures(db: Database, samples: Iterable[str]) -> None:
    """Refresh the caches after scores of machines: the mean entropy of the VLM's latest scores, and the mean score."""
    ids, which = (json.dumps(list(samples)),), "sample IN (SELECT value FROM json_each(?1))"
    sql = f"""INSERT INTO uncertainty (sample, entropy)
        SELECT sample, avg(coalesce(entropy, 0)) FROM scores WHERE seq IN
            (SELECT max(seq) FROM scores WHERE {which} AND source = 'vlm' GROUP BY sample, word_index)
        GROUP BY sample ON CONFLICT (sample) DO UPDATE SET entropy = excluded.entropy"""
    db.execute(sql, ids)
    db.execute(f"DELETE FROM means WHERE {which}", ids)
    db.execute(MEANS.format(which=f"e.{which}"), ids)


def standing(events: Iterable[dict[str, Any]], who: str | None) -> dict[int, dict[str, Any]]:
    """The last event of each lane of a sample, as ``Scores.current`` returns them."""
    words: dict[int, dict[str, Any]] = {}
    keep = ("score", "distribution", "weight", "who", "scorer", "scorer_version", "id", "created")
    for e in events:
        entry = words.setdefault(e["word_index"], {"word": e["word"], **dict.fromkeys(SOURCES), "people": {}})
        entry["word"] = entry["word"] or e["word"]
        if e["kind"] == "clear":
            continue
        if e["source"] == "human":
            entry["people"][e["who"]] = e["score"]
        if e["source"] in PEOPLE and who is not None and e["who"] != who:
            continue
        event = readable(e)
        entry[event["source"]] = {name: event[name] for name in keep}
    return dict(sorted(words.items()))


class Scores(Records):
    def add(self, scores: Iterable[Mapping[str, Any]]) -> list[str]:
        """Write all scores or none; returns the events' ids in order.

        Each needs sample, word_index, source and a score or a distribution (ten numbers); may have word, features
        (float16), scorer, scorer_version, weight; and has a who where it is human, confirmed or simulated. A newer score
        of the same lane supersedes the older one, which is kept.
        """
        events = [checked_event(s) for s in scores]
        for e in events:
            if e["supersedes"] or e["undoes"]:
                raise ValueError("supersedes and undoes are set by the store; leave them out.")
        step = new_id()
        with self.database.writing() as db:
            known: dict[str, dict[str, Any]] = {}
            for e in events:
                if e["sample"] not in known:
                    known[e["sample"]] = need_sample(db, e["sample"])
                need_word(known[e["sample"]], e["word_index"], e["word"])
                insert_event(db, e, step if e["source"] in PERSONAL else None)
            refresh_figures(db, {e["sample"] for e in events if e["source"] not in PERSONAL})
        return [e["id"] for e in events]

    def set(
        self,
        sample: str,
        word_index: int,
        score: int,
        who: str,
        source: str = "human",
        word: str | None = None,
        weight: float = 1.0,
    ) -> dict[str, Any]:
        """Correct a word's score; returns the event, or the standing one where it has that score already."""
        kept = {"kind": "set", "score": checks.score(score), "word": word, "weight": weight}
        event = self._annotate(sample, word_index, who, source, kept)
        assert event is not None  # there is a score
        return event

    def clear(self, sample: str, word_index: int, who: str, source: str = "human") -> dict[str, Any] | None:
        """Take this person's correction of a word back. None where there was none."""
        return self._annotate(sample, word_index, who, source, {"kind": "clear"})

    def _annotate(
        self, sample: str, word_index: int, who: str, source: str, kept: Mapping[str, Any]
    ) -> dict[str, Any] | None:
        checks.one_of("source", source, ANNOTATORS)
        lane = {"sample": sample, "word_index": word_index, "source": source, "who": who}
        event = checked_event({**lane, **kept})
        with self.database.writing() as db:
            need_word(need_sample(db, sample), event["word_index"], event["word"])
            before = latest(db, sample, event["word_index"], source, who)
            standing = before if before and before["kind"] == "set" else None
            if event["kind"] == "clear" and not standing:
                return None
            if standing and (standing["score"], standing["weight"]) == (event["score"], event["weight"]):
                return readable(standing)
            if not event["word"]:
                event["word"] = word_of(db, sample, event["word_index"])
            insert_event(db, event, event["id"])
            return readable(latest(db, sample, event["word_index"], source, who) or {})

    def undo(self, sample: str | None, who: str) -> dict[str, Any] | None:
        """Undo this person's last step (on ``sample``, or anywhere); returns the event that restores the state before it, or
        None where nothing is left to undo. Repeated calls go further back. Scores of a sample that were written together
        are one step. Scores confirmed by a submit are undone with it (``Queue.come_back``)."""
        checks.text("who", who)
        with self.database.writing() as db:
            if sample is not None:
                need_sample(db, sample)
            sql = f"""SELECT {EVENT}, {STEP} AS step FROM scores e
                WHERE who = :who AND who <> '' AND source <> 'confirmed' AND {NOT_UNDONE}
                    AND (:sample IS NULL OR sample = :sample)
                ORDER BY seq DESC LIMIT 1"""
            last = row(db, sql, {"who": who, "sample": sample})
            if not last:
                return None
            sql = f"""SELECT {EVENT} FROM scores e WHERE sample = :sample AND +who = :who AND {STEP} = :step
                AND source = :source AND {NOT_UNDONE} ORDER BY seq DESC"""
            step = rows(db, sql, last)
            for event in step:
                undo_event(db, event)
            return readable(latest(db, last["sample"], last["word_index"], last["source"], who) or {})

    def history(
        self, who: str, limit: int = 50, offset: int = 0, sample: str | None = None
    ) -> list[dict[str, Any]]:
        """This person's events except confirmed scores, newest first. Beside the event's fields: prompt, seed, image_path;
        action: 'set', 'clear' or 'undo'; before: the score that it replaced; undone: bool."""
        values: dict[str, Any] = {"who": checks.text("who", who), "sample": sample}
        values |= {
            "limit": checks.integer("limit", limit, 0, 1_000_000),
            "offset": checks.count("offset", offset),
        }
        sql = f"""SELECT {EVENT}, s.prompt, s.seed, s.image_path,
                CASE WHEN e.undoes IS NULL THEN e.kind ELSE 'undo' END AS action, b.score AS before,
                EXISTS (SELECT 1 FROM scores u WHERE u.undoes = e.id) AS undone
            FROM scores e JOIN samples s ON s.id = e.sample LEFT JOIN scores b ON b.id = e.supersedes
            WHERE e.who = :who AND e.who <> '' AND e.source <> 'confirmed' AND (:sample IS NULL OR e.sample = :sample)
            ORDER BY e.seq DESC LIMIT :limit OFFSET :offset"""
        return [{**readable(e), "undone": bool(e["undone"])} for e in self.rows(sql, values)]

    def first_corrections(self, most: int) -> int:
        """Number of words that people have corrected, among the first 20 x ``most`` events: cheap in a full store."""
        sql = """SELECT count(*) FROM (SELECT DISTINCT sample, word_index FROM
            (SELECT sample, word_index FROM scores WHERE who <> '' AND kind = 'set' AND source = 'human' LIMIT ?))"""
        return self.value(sql, (20 * checks.integer("most", most, 1, 1000),))

    def current(self, sample: str, who: str | None = None) -> dict[int, dict[str, Any]]:
        """The current scores of each word: {word_index: {word, vlm, human, confirmed, simulated, calibrated, people}}.

        Each source is None or {score, distribution, weight, who, scorer, scorer_version, id, created}. With ``who`` the
        human and the confirmed one are that person's, without it the latest person's. ``people`` maps each person to the
        score that they gave.
        """
        with self.database.reading() as db:
            need_sample(db, sample)
            return standing(latest_events(db, [sample]), who)

    def currents(
        self, samples: Sequence[str], who: str | None = None
    ) -> dict[str, dict[int, dict[str, Any]]]:
        """``current`` of many samples at once, by id; a sample that nobody has scored has no words."""
        events: dict[str, list[dict[str, Any]]] = {sample: [] for sample in samples}
        with self.database.reading() as db:
            for event in latest_events(db, list(events)):
                events[event["sample"]].append(event)
        return {sample: standing(of_sample, who) for sample, of_sample in events.items()}


NOTE: dict[str, checks.Shape] = {
    "sample": checks.identifier, "word_index": SHAPES["word_index"], "scorer": words(200),
    "scorer_version": partial(checks.text, longest=200), "reason": partial(checks.text, longest=200),
    "created": checks.time,
}  # fmt: skip


def checked_note(given: Mapping[str, Any]) -> dict[str, Any]:
    """A row of ``missing``; ValueError names the field that is wrong."""
    return checks.columns({"scorer": "", "created": now(), **given}, NOTE)


class Missing(Records):
    def add(self, words: Iterable[Mapping[str, Any]]) -> int:
        """Note words that a scorer gave no readable answer for: sample, word_index, scorer, scorer_version, reason.

        All or none; returns their number. A sample with such a note counts as scored by that version, so that it is not
        scored again and again.
        """
        notes = [checked_note(word) for word in words]
        with self.database.writing() as db:
            for note in notes:
                need_word(need_sample(db, note["sample"]), note["word_index"])
                insert(db, "missing", note)
        return len(notes)

    def find(self, sample: str) -> list[dict[str, Any]]:
        """A sample's notes, oldest first."""
        with self.database.reading() as db:
            need_sample(db, sample)
            return rows(db, "SELECT * FROM missing WHERE sample = ? ORDER BY seq", (sample,))
