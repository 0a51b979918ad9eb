"""The words of a prompt as chips with their scores 0..9: read-only under an image, or corrected key by key.

A correction leaves the browser as a packet of numbered operations; each is done once and in order
(``studio.pages.annotate.keys.apply``), so a packet that comes late or twice changes nothing.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from studio.components import source
from studio.components.scripted import Scripted
from studio.images.views import WordView

START = '\nwatch("value", () => receive());\nreceive();\n'
KINDS = ("set", "clear", "undo", "accept", "clean", "submit", "skip", "flag", "unflag", "note")
LONGEST = {"flag": 200, "note": 2000}
MAX_OPERATIONS = 200
MARK = re.compile(r"\d{1,18}\.\d{1,18}\.[01]\.\d{1,10}")

# of a WordView
FIELDS = tuple("index text kind scored seen known vlm expected calibrated human by score uncertain".split())


def chips(
    words: Sequence[WordView],
    *,
    sample: str = "",
    before: Sequence[WordView] = (),
    hidden: Collection[int] = (),
    others: Mapping[int, Sequence[Mapping[str, Any]]] | None = None,
    **more: Any,
) -> dict[str, Any]:
    """The component's value for some words. ``before``: the same words of the image to compare with; each scored word
    then carries ``change``, its score here less its score there, and ``change_by``, whose scores those are.
    ``hidden``: indices of words whose scores are withheld; ``others``: what other people have said of a word
    meanwhile, [{who, score}]."""
    earlier = {w.index: w for w in before}
    shown = []
    for word in words:
        entry = {name: getattr(word, name) for name in FIELDS}
        then = earlier.get(word.index)
        scored = then is not None and then.score is not None and word.score is not None
        entry["change"] = word.score - then.score if scored else None
        corrected = scored and (word.human is not None or then.human is not None)
        entry["change_by"] = ("corrections" if corrected else "the VLM") if scored else ""
        entry["hidden"], entry["others"] = word.index in hidden, list((others or {}).get(word.index, ()))
        shown.append(entry)
    return {"sample": sample, "compared": bool(before), "words": shown, **more}


def _or_null(schema: dict[str, Any]) -> dict[str, Any]:
    """A type list would do in JSON schema, but Gradio's reader of schemas knows ``anyOf`` only."""
    return {"anyOf": [schema, {"type": "null"}]}


TEXT, FLAG = {"type": "string"}, {"type": "boolean"}
DIGIT, NUMBER = _or_null({"type": "integer", "minimum": 0, "maximum": 9}), _or_null({"type": "number"})
WORD = {
    "type": "object",
    "properties": {
        "index": {"type": "integer", "minimum": 0},
        **dict.fromkeys(("text", "kind", "change_by"), TEXT),
        **dict.fromkeys(("scored", "seen", "known", "hidden"), FLAG),
        **dict.fromkeys(("vlm", "calibrated", "human", "score"), DIGIT),
        "change": _or_null({"type": "integer", "minimum": -9, "maximum": 9}),
        **dict.fromkeys(("expected", "uncertain"), NUMBER),
        "by": _or_null(TEXT),
        "others": {"type": "array", "items": {"type": "object"}},
    },
    "required": ["index", "text", "scored"],
}


class WordScores(Scripted):
    """Chips. Value: what ``chips`` makes, or None. With ``editable`` it has four events. ``edit``: a packet, see
    ``read_packet``, and ``digit``: one of digits alone on the shown sample; answer by a value with ``ack``: {client,
    revision, error, retry, moved, at}, and without words where ``same`` says that the page knows them. ``look``: may the
    shown sample have changed? ``rested``: an item or a pause has come, in which to count."""

    SCRIPT = source("elements.js", "buttons.js", "word_scores/word_scores.js")
    TEMPLATE = '<div class="word-scores"></div>'
    SCHEMA = {"sample": TEXT, "compared": FLAG, "words": {"type": "array", "items": WORD}}  # noqa: RUF012

    def __init__(
        self, value: dict[str, Any] | None = None, *, editable: bool = False, **options: Any
    ) -> None:
        # read-only chips do without the larger part of the script
        script = self.SCRIPT if editable else self.SCRIPT.partition("// ---- corrections ----")[0]
        super().__init__(value, constants={"editable": editable}, script=script + START, **options)


@dataclass(frozen=True)
class Operation:
    """One of KINDS: set has a word and a score, clear a word, flag and note a text."""

    revision: int
    kind: str
    word: int | None = None
    score: int | None = None
    text: str = ""


@dataclass(frozen=True)
class Packet:
    """Operations of one page on one sample. shown: the sample on the screen by now; opened: the number of its last
    score when it came there; mark: the state of the sample that the page knows (``desk.mark``), '' where it needs
    all of it."""

    client: str
    sample: str
    operations: tuple[Operation, ...]
    shown: str = ""
    opened: int | None = None
    mark: str = ""


def read_packet(data: Any) -> Packet:
    """A packet as it came over HTTP; ValueError for anything that our script would not send."""
    if not isinstance(data, Mapping):
        raise ValueError("That was no correction: reload the page and try again.")
    client, sample, given = data.get("client"), data.get("sample"), data.get("operations")
    if not (isinstance(client, str) and 8 <= len(client) <= 64 and isinstance(sample, str) and sample):
        raise ValueError("That correction names no sample: reload the page and try again.")
    if len(sample) > 64 or not isinstance(given, list) or not 1 <= len(given) <= MAX_OPERATIONS:
        raise ValueError(f"A packet holds 1 to {MAX_OPERATIONS} corrections: reload the page and try again.")
    shown = data.get("shown", sample)
    if not isinstance(shown, str) or len(shown) > 64:
        raise ValueError("That correction names no sample on the screen: reload the page and try again.")
    operations = tuple(_operation(entry) for entry in given)
    return Packet(
        client, sample, operations, shown, read_opened(data.get("opened")), read_mark(data.get("mark"))
    )


def read_opened(value: Any) -> int | None:
    """The number of a score that the page was given by the server, or None."""
    if isinstance(value, bool) or not (value is None or (isinstance(value, int) and 0 <= value < 2**53)):
        raise ValueError("It cannot be read when that image was opened: reload the page and try again.")
    return value


def read_mark(value: Any) -> str:
    """A mark that the page was given by the server, '' for none."""
    if not value:
        return ""
    if not isinstance(value, str) or not MARK.fullmatch(value):
        raise ValueError("It cannot be read what that correction was made on: reload the page and try again.")
    return value


def _operation(entry: Any) -> Operation:
    if not isinstance(entry, Mapping) or entry.get("kind") not in KINDS:
        raise ValueError(f"A correction is one of {', '.join(KINDS)}: reload the page and try again.")
    revision = _integer("revision", entry.get("revision"), 1, 2**31)
    kind = entry["kind"]
    word = _integer("word", entry.get("word"), 0, 999) if kind in ("set", "clear") else None
    score = _integer("score", entry.get("score"), 0, 9) if kind == "set" else None
    text = entry.get("text", "") if kind in LONGEST else ""
    if not isinstance(text, str) or len(text) > LONGEST.get(kind, 0):
        raise ValueError(
            f"The text of that correction ({kind}) has {LONGEST[kind]} characters at most: shorten it."
        )
    return Operation(revision, kind, word, score, text)


def _integer(name: str, value: Any, low: int, high: int) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
        raise ValueError(f"The {name} of a correction must be a whole number from {low} to {high}.")
    return value
