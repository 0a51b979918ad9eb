"""Labels in the Library: the words of the images that match, by word, kind, score and difference from the VLM.

A store has no index of words: a page searches a fixed number of the matching images, and says so; the next page the
next ones.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import gradio as gr

from core.words import KINDS
from studio.annotation.quality import named
from studio.components import notices
from studio.components.table import heads, number, rows
from studio.numbers import whole
from studio.pages.library.views import SOURCES, figure
from studio.training.calibration import kinds_of

LOOKED = 200  # images that a page of labels looks through
SHOWN = 400  # rows
LONGEST = 100  # characters of a word
ORDERS = {
    "images": "As the images",
    "apart": "Furthest from the VLM",
    "low": "Lowest label",
    "high": "Highest label",
}
NONE = "No word of these images matches. Take a filter away, or look at the next page."
CAPTION = "Words of the images found, with the label that training takes"
WITHOUT_GOLD = "Words of the images found, each with its label as it would be without gold, which only administrators see"
Words = list[tuple[Mapping[str, Any], Mapping[str, Any]]]  # (sample, one of its words)


@dataclass(frozen=True)
class WordFilter:
    """Which words: part of one ('' for any), its kind, the label's bounds (0 and 9: also those without a label),
    whether only where label and VLM differ, and the order."""

    word: str = ""
    kind: str = ""
    low: int = 0
    high: int = 9
    differs: bool = False
    order: str = "images"

    @classmethod
    def read(cls, word: Any, kind: Any, low: Any, high: Any, differs: Any, order: Any) -> WordFilter:
        """A filter as it came over HTTP; ValueError with a sentence for one that is impossible."""
        if not isinstance(word or "", str) or len(word or "") > LONGEST:
            raise ValueError(f"Search for a word of at most {LONGEST} characters.")
        if (kind or "") not in ("", *KINDS) or order not in ORDERS:
            raise ValueError("Choose a kind of word and an order of those that are listed.")
        low, high = whole("lowest label", low, 0, 9), whole("highest label", high, 0, 9)
        if low > high:
            raise ValueError(f"The lowest label {low} is above the highest, {high}: turn them round.")
        return cls((word or "").strip().casefold(), kind or "", low, high, differs is True, order)


def build() -> tuple[gr.Row, list[Any]]:
    """The hidden row of controls; and its parts in the order of ``WordFilter.read``."""
    scores = [str(score) for score in range(10)]
    with gr.Row(visible=False) as row:
        parts = [
            gr.Textbox(label="Word", placeholder="part of a word", max_length=LONGEST, elem_id="library-word", min_width=140),
            gr.Dropdown([("All", ""), *((named(kind), kind) for kind in KINDS)], value="", label="Kind of word", min_width=118),
            gr.Dropdown(scores, value="0", label="Label from", min_width=90),
            gr.Dropdown(scores, value="9", label="to", min_width=90),
            gr.Checkbox(label="Label differs from the VLM", min_width=160),
            gr.Dropdown([(t, n) for n, t in ORDERS.items()], value="images", label="Order of words", min_width=150),
        ]  # fmt: skip
    return row, parts


def _apart(word: Mapping[str, Any]) -> float:
    """How far the label is from what the VLM says, in points; 0 where either is missing."""
    return 0.0 if word["label"] is None or word["vlm"] is None else abs(word["label"] - word["vlm"])


def chosen(samples: Sequence[Mapping[str, Any]], word_filter: WordFilter) -> Words:
    """The words of these samples that match, in the order asked for."""
    every = (word_filter.low, word_filter.high) == (0, 9)
    matching: Words = []
    for sample in samples:
        kinds = kinds_of(sample["prompt"], sample["word_rules"]) if word_filter.kind else ()
        for word in sample["words"]:
            label = word["label"]
            kind = kinds[word["index"]] if word["index"] < len(kinds) else None
            if (
                word_filter.word in word["word"].casefold()
                and (not word_filter.kind or kind == word_filter.kind)
                and (every or label is not None and word_filter.low <= label <= word_filter.high)
                and (not word_filter.differs or _apart(word) >= 0.5)
            ):
                matching.append((sample, word))
    if word_filter.order == "images":
        return matching
    if word_filter.order == "apart":
        return sorted(matching, key=lambda one: -_apart(one[1]))
    labelled = [one for one in matching if one[1]["label"] is not None]
    return sorted(labelled, key=lambda one: one[1]["label"], reverse=word_filter.order == "high")


def lines(words: Words, empty: str, golden: bool = True) -> dict[str, Any]:
    """A row per word; a row opens its sample, whose prompt and seed stand beside the first of its words. golden: the
    labels are those that training takes, as for one who may see gold."""
    body, keys, before = [], [], None
    for sample, word in words[:SHOWN]:
        people = ", ".join(f"{who} {score}" for who, score in word["people"].items()) or "–"
        again = sample["id"] == before
        before = sample["id"]
        cells = [
            word["word"],
            number(figure(word["label"])),
            SOURCES.get(word["source"], "–"),
            number(figure(word["vlm"])),
            people,
            "" if again else sample["prompt"],
            number("" if again else sample["seed"]),
        ]
        body.append(cells)
        keys.append(sample["id"])
    head = heads("word", "#label", "by", "#VLM", "each person", "prompt", "#seed")
    return rows(head, body, keys=keys, empty=empty, caption="" if golden else WITHOUT_GOLD)


def count(words: Words, samples: int, every: Mapping[str, Any], page: int) -> str:
    """How many words match, and in which images they were searched."""
    if not samples:
        return ""
    first = f", the first {SHOWN} shown" if len(words) > SHOWN else ""
    images = f"{'more than ' if every['more'] else ''}{every['count']:,} found"
    return (
        f'<p class="library-count" role="status">{notices.counted(len(words), "word")}{first}, in '
        f"{notices.counted(samples, 'image')} of {images}, page {page + 1}. A page looks through {LOOKED} images.</p>"
    )
