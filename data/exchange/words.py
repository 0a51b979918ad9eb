"""Word labels in the formats of two published datasets, out and in again; JSONL with a header that states the polarity.

- RichHF (arXiv 2312.10240) marks words: **1 = aligned, 0 = misaligned**. A word is aligned where its label is 4.5 or more of
  9. Lost in a round trip: everything between, as 1 comes back as 9 and 0 as 0.
- Rapidata's word_scores say how badly a word is shown: **higher = worse**. Here that is 9 - label, from 0 (fully shown) to 9
  (not shown), in the text of word_scores as they write it. Lost in a round trip: values between whole scores, as 9 - value is
  rounded half up when it comes back.

Both lose the distributions, who gave a label, its source and weight, the history, the scorer's hidden states, words without a
label, and *nothing else*, which is no word of the prompt. A line names a sample, which must be in the store.

A file of another tool is imported where it has our header, and lines with sample, prompt and word_index beside the words.
Its words may be split differently from ours ("&" or "mat." is one): where a line has all of them in order, they are located
in the prompt by their characters, and each word takes the worst mark among those that overlap it. Marks that overlap no word
of ours, or only words that are not scored ("a"), are left out and counted. A line whose words are neither the prompt's own at
their places nor all of the prompt is refused.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

from data.exchange.jsonl import json_line, records, whole_file
from data.exchange.staging import ScoreImport, refused, staging, whole
from data.store import Store, checks
from data.store.database import rows
from data.store.labels import expected
from data.store.scores import NOTHING_ELSE, Units, need_unit, prompt_words, same_word

VERSION = 1
COMMON = ("sample", "prompt", "image", "word_index")
HALF = 4.5


@dataclass(frozen=True)
class WordFormat:
    """polarity: as in the header; fields: of a line beside the common ones; value: of a label (0 to 9); score: of a value; pack:
    (words, values) into the fields; unpack: the inverse, checked."""

    name: str
    polarity: str
    fields: tuple[str, ...]
    value: Callable[[float], float]
    score: Callable[[float], int]
    pack: Callable[[list[str], list[float]], dict[str, Any]]
    unpack: Callable[[Mapping[str, Any]], tuple[list[Any], list[float]]]

    @property
    def header(self) -> dict[str, Any]:
        name = f"noise-projection-studio/{self.name}"
        return {"format": name, "version": VERSION, "polarity": self.polarity}


def _list(name: str, value: Any) -> list[Any]:
    if not isinstance(value, list):
        raise ValueError(f"{name} must be a list, not {checks.shown(value)}.")
    return value


def _unpack_richhf(record: Mapping[str, Any]) -> tuple[list[Any], list[float]]:
    words, marks = (_list(name, record.get(name)) for name in ("words", "aligned"))
    return words, [checks.integer("aligned", whole(mark), 0, 1) for mark in marks]


def _unpack_rapidata(record: Mapping[str, Any]) -> tuple[list[Any], list[float]]:
    text = record.get("word_scores")
    try:
        pairs = json.loads(text) if isinstance(text, str) else None
    except (json.JSONDecodeError, RecursionError):
        pairs = None
    if not isinstance(pairs, list) or any(not isinstance(p, list) or len(p) != 2 for p in pairs):
        raise ValueError(f'word_scores must be text such as [["red", 0.5]], not {checks.shown(text)}.')
    return [p[0] for p in pairs], [checks.number("a word's score", p[1], 0, 9) for p in pairs]


def _spans(prompt: str, words: Sequence[str]) -> list[tuple[int, int]] | None:
    """The places of words that, in order and with only spaces between them, make up the whole prompt; else None."""
    spans, end = [], 0
    for word in words:
        start = len(prompt) - len(prompt[end:].lstrip())
        end = start + len(word)
        if not word.strip() or not same_word(prompt[start:end], word):
            return None
        spans.append((start, end))
    return spans if not prompt[end:].strip() else None


def _placed(
    sample: Mapping[str, Any],
    units: Sequence[Any],
    places: Sequence[int],
    words: Sequence[str],
    values: Sequence[Any],
    score: Callable[[float], int],
) -> tuple[dict[int, Any], int]:
    """The value of each scored unit that the words of a line refer to (of several the lowest), and how many refer to none."""

    def agrees(place: int, word: str) -> bool:
        return place < len(units) and (not word or same_word(word, units[place].text))

    if all(map(agrees, places, words)):
        if len(set(places)) < len(places):
            raise ValueError(f"a word of the sample {sample['id']} is there twice.")
        scored = {place: value for place, value in zip(places, values) if units[place].scored}
        return scored, len(places) - len(scored)
    spans = _spans(sample["prompt"], words) if list(places) == list(range(len(words))) else None
    if spans is None:
        place, word = next(pair for pair in zip(places, words) if not agrees(*pair))
        need_unit(sample, units, place, word)
    assert spans is not None  # ``need_unit`` has refused the word
    placed: dict[int, Any] = {}
    unplaced = 0
    for (start, end), word, value in zip(spans, words, values):
        overlaps = [i for i, u in enumerate(units) if u.scored and u.start < end and u.end > start]
        if len(overlaps) > 1:
            raise ValueError(
                f"{checks.shown(word)} holds several words; mark them apart. {prompt_words(units)}"
            )
        unplaced += not overlaps
        for i in overlaps:
            placed[i] = min(placed.get(i, value), value, key=score)
    return placed, unplaced


RICHHF = WordFormat(
    name="richhf-words",
    polarity="1 = aligned (the image shows the word), 0 = misaligned",
    fields=("words", "aligned"),
    value=lambda label: int(label >= HALF),
    score=lambda value: 9 if value else 0,
    pack=lambda words, values: {"words": words, "aligned": values},
    unpack=_unpack_richhf,
)
RAPIDATA = WordFormat(
    name="rapidata-words",
    polarity="higher = worse: 0 = the image fully shows the word, 9 = not at all",
    fields=("word_scores",),
    value=lambda label: max(0.0, round(9 - label, 4)),
    score=lambda value: math.floor(9 - value + 0.5),
    pack=lambda words, values: {"word_scores": json.dumps(list(zip(words, values)), ensure_ascii=False)},
    unpack=_unpack_rapidata,
)


def export_words(store: Store, path: str | Path, kind: WordFormat) -> dict[str, int]:
    """Write each word's current label, a line per sample, whole or not at all; returns {samples, words, nothing_else_left_out}."""
    every = store.labels.current(include_calibrated=True)
    labels = [label for label in every if label["word"] != NOTHING_ELSE]
    with store.database.reading() as db:
        images = {s["id"]: s["image_path"] for s in rows(db, "SELECT id, image_path FROM samples")}
    samples = 0
    with whole_file(path) as file:
        file.write(json_line(kind.header))
        for id, group in groupby(labels, key=lambda label: label["sample"]):
            of_sample = list(group)
            record = {"sample": id, "prompt": of_sample[0]["prompt"], "image": images[id]}
            record["word_index"] = [x["word_index"] for x in of_sample]
            packed = kind.pack([x["word"] for x in of_sample], [kind.value(expected(x)) for x in of_sample])
            file.write(json_line({**record, **packed}))
            samples += 1
    return {"samples": samples, "words": len(labels), "nothing_else_left_out": len(every) - len(labels)}


def _entries(
    task: ScoreImport, record: Mapping[str, Any], kind: WordFormat
) -> tuple[dict[str, Any], dict[int, Any], int]:
    """The sample of a line, the values of its words by place, and the number of values of no scored word."""
    checks.names(record, {*COMMON, *kind.fields}, "a line has an unknown field {0}.")
    if record.get("prompt") is None:
        raise ValueError("prompt is missing.")
    sample = task.sample(record.get("sample"), record["prompt"])
    given = _list("word_index", record.get("word_index"))
    places = [checks.integer("word_index", whole(place), 0, 999) for place in given]
    words, values = kind.unpack(record)
    if not len(places) == len(words) == len(values):
        raise ValueError(
            f"there are {len(places)} places, {len(words)} words and {len(values)} values; give as many of each."
        )
    for word in words:
        checks.text("a word", word, checks.PROMPT_LENGTH, empty=True)
    return sample, *_placed(sample, task.units(sample["id"]), places, words, values, kind.score)


def import_words(
    store: Store, path: str | Path, kind: WordFormat, who: str, dry_run: bool = False, *, units: Units
) -> dict[str, Any]:
    """Import the words that differ from the store, all of them or, where a line is wrong, none.

    Returns {samples, words, same, new, changed, not_scored, changes}: ``new`` words had no label, ``not_scored`` marks are of
    no scored word, ``changes`` has for each of the first 1000 events {line, sample, word_index, word, before (the label, or
    None), after (the person's score)}. With ``dry_run`` nothing is kept. ImportRefused names line and reason.
    """
    path, number = Path(path), 1
    checks.text("who", who)
    with refused(path.name, lambda: number), open(path, "rb") as file, staging(store, path.name) as stage:
        lines = records(file, path.name)
        _, header = next(lines)
        for name, wanted in kind.header.items():
            if header.get(name) != wanted:
                raise ValueError(
                    f"its header's {name} is {checks.shown(header.get(name))}; the first line must be "
                    f"{json_line(kind.header).decode().strip()}, and the values after it must mean that."
                )
        task, not_scored = ScoreImport(stage, who, f"from {kind.name}", units), 0
        for number, record in lines:
            before = task.samples
            sample, values, unplaced = _entries(task, record, kind)
            not_scored += unplaced
            if task.samples == before:
                raise ValueError(f"the sample {sample['id']} is in the file twice.")
            for index, value in values.items():

                def same(given: float | None, label: Mapping[str, Any] | None, value: float = value) -> bool:
                    if given is not None and (given == kind.score(value) or kind.value(given) == value):
                        return True
                    return label is not None and kind.value(expected(label)) == value

                task.word(number, sample, index, "", kind.score(value), same)
        return {**task.finish(dry_run), "not_scored": not_scored}
