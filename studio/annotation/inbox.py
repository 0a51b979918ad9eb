"""The inbox of the Annotate page: packets of numbered keys from browsers, each key applied once and in order.

A page sends a key until it is acknowledged, under the same number (its revision). The store keeps the number of each
page's last key together with the effect of that key, so a packet that comes late or twice changes nothing.
"""

from __future__ import annotations

import re
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from data.store import StoreError
from data.store.desk import SENTENCE, page_digest
from studio.access.limits import NotYet
from studio.annotation import desk
from studio.errors import sentence

if TYPE_CHECKING:
    from studio.studio import Studio

KINDS = ("set", "clear", "undo", "accept", "clean", "submit", "skip", "flag", "unflag", "note")
LEAVING = ("submit", "skip", "clean")  # after these the next image is due
LONGEST = {"flag": 200, "note": 2000}  # characters
MAX_OPERATIONS = 200
MARK = re.compile(r"\d{1,18}\.\d{1,18}\.[01]\.\d{1,10}")
NOTHING = "There is nothing left to undo."


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
    """Operations of one page (``client``) on one sample. shown: the sample that is on the screen by now; opened: the
    number of its last score when it came there; mark: the state of it that the page knows (``desk.mark``), '' for none."""

    client: str
    sample: str
    operations: tuple[Operation, ...]
    shown: str = ""
    opened: int | None = None
    mark: str = ""


def read_packet(data: Any) -> Packet:
    """A packet as it came over HTTP; ValueError for anything that the page's script would not send."""
    sent = data if isinstance(data, Mapping) else {}
    operations, sample = sent.get("operations"), _text("sample", sent.get("sample"), 1)
    if not isinstance(operations, list) or not 1 <= len(operations) <= MAX_OPERATIONS:
        raise ValueError(f"A packet holds 1 to {MAX_OPERATIONS} corrections: reload the page and try again.")
    return Packet(
        _text("page", sent.get("client"), 8),
        sample,
        tuple(map(_operation, operations)),
        _text("image on the screen", sent.get("shown", sample), 0),
        read_opened(sent.get("opened")),
        read_mark(sent.get("mark")),
    )


def read_opened(value: Any) -> int | None:
    """The number of a score that the server gave the page, or None."""
    if isinstance(value, bool) or not (value is None or (isinstance(value, int) and 0 <= value < 2**53)):
        raise ValueError("It cannot be read when that image was opened: reload the page and try again.")
    return value


def read_mark(value: Any) -> str:
    """A mark that the server gave the page, '' for none."""
    if value and not (isinstance(value, str) and MARK.fullmatch(value)):
        raise ValueError("It cannot be read what that correction was made on: reload the page and try again.")
    return value or ""


def _operation(entry: Any) -> Operation:
    if not isinstance(entry, Mapping) or entry.get("kind") not in KINDS:
        raise ValueError(f"A correction is one of {', '.join(KINDS)}: reload the page and try again.")
    kind, text = entry["kind"], entry.get("text", "")
    if kind not in LONGEST:
        text = ""
    elif not isinstance(text, str) or len(text) > LONGEST[kind]:
        raise ValueError(
            f"The text of that correction ({kind}) has {LONGEST[kind]} characters at most: shorten it."
        )
    return Operation(
        _integer("revision", entry.get("revision"), 1, 2**31),
        kind,
        _integer("word", entry.get("word"), 0, 999) if kind in ("set", "clear") else None,
        _integer("score", entry.get("score"), 0, 9) if kind == "set" else None,
        text,
    )


def _text(name: str, value: Any, least: int) -> str:
    if not isinstance(value, str) or not least <= len(value) <= 64:
        raise ValueError(f"That was no correction, as its {name} is missing: reload the page and try again.")
    return value


def _integer(name: str, value: Any, low: int, high: int) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
        raise ValueError(f"The {name} of a correction must be a whole number from {low} to {high}.")
    return value


@dataclass
class Result:
    """A packet that was applied. place: the sample to show; revision: of the last key that is done; left: the sample was
    submitted or skipped, so the next one is due; retry: what is not done is to be sent again; says: a sentence that is no
    error; word: the one whose score was undone; scores: the numbers of the scores that the packet stored; more: whether
    it held anything but digits."""

    packet: Packet
    place: str
    revision: int = 0
    left: bool = False
    error: str = ""
    says: str = ""
    retry: bool = False
    word: int | None = None
    scores: set[int] = field(default_factory=set)
    more: bool = False

    def ack(self) -> dict[str, Any]:
        """The acknowledgement that the page gets."""
        return {
            "client": self.packet.client,
            "revision": self.revision,
            "error": self.error,
            "says": self.says,
            "retry": self.retry,
            "moved": self.left or self.place != self.packet.shown,
            "word": self.word,
            "shown": self.packet.shown,
            "at": time.time(),  # so that an answer never looks like the one before it
        }

    def answer(self) -> dict[str, Any]:
        """The part of it that is stored, and given again where the same keys come again."""
        return {
            "shown": self.packet.shown,
            "place": self.place,
            "left": self.left,
            "error": self.error[:SENTENCE],
            "says": self.says[:SENTENCE],
            "word": self.word,
        }

    def repeat(self, answer: dict[str, Any]) -> None:
        """Take over the stored answer of a key that came again; the page moves only if it still shows the same image."""
        self.error, self.says, self.more = answer["error"], answer["says"], True
        if answer["shown"] == self.packet.shown:
            self.place, self.left, self.word = answer["place"], answer["left"], answer["word"]


def refused(packet: Packet, problem: ValueError) -> Result:
    """Nothing is done, and sending it again will not help: this visitor may not write."""
    last = max(operation.revision for operation in packet.operations)
    return Result(packet, packet.shown, last, error=sentence(problem))


def retry(packet: Packet, problem: NotYet | StoreError) -> Result:
    """Nothing is done, and the page is to send it again: the store fails, or this visitor has to sign in first."""
    return Result(packet, packet.shown, error=sentence(problem), retry=True)


def apply(studio: Studio, packet: Packet, who: str, blind: bool) -> Result:
    """Apply the keys that are not done yet.

    A key and its receipt are one transaction. A key that is refused is reported, and those after it go on; where the
    store fails (a full disk), that key and all after it stay with the page, which sends them again.
    """
    result, store, page = Result(packet, packet.shown), studio.store, page_digest(packet.client, who)
    for operation in sorted(packet.operations, key=lambda operation: operation.revision):
        try:
            with store.database.writing():
                last = store.receipts.get(page)
                if last is None or last["revision"] < operation.revision:
                    _attempt(studio, operation, result, who, blind)
                    store.receipts.give(page, operation.revision, result.answer())
                elif last["revision"] == operation.revision:
                    result.repeat(last["answer"])
        except Exception as problem:  # noqa: BLE001 - the page keeps the key and says why
            result.error, result.retry = sentence(problem), True
            break
        result.revision = max(operation.revision, last["revision"] if last else 0)
    return result


def _attempt(studio: Studio, operation: Operation, result: Result, who: str, blind: bool) -> None:
    """Apply a key, or leave the store as it was and say why the key is refused."""
    try:
        with studio.store.database.writing():
            _apply(studio, operation, result, who, blind)
    except ValueError as problem:
        result.error = sentence(problem)


def _apply(studio: Studio, operation: Operation, result: Result, who: str, blind: bool) -> None:
    kind, sample = operation.kind, result.packet.sample
    result.more |= kind != "set"  # of a score that is taken back only the store knows what stands instead
    match kind:
        case "set" | "clear":
            assert operation.word is not None
            if event := studio.annotation.keep(sample, operation.word, operation.score, who):
                result.scores.add(event["seq"])
        case "undo":
            if step := desk.back(studio.store, who):
                result.place, result.says, result.word = step.sample, step.says, step.word
            else:
                result.says = NOTHING
        case "flag":
            studio.store.remarks.flag(sample, who, operation.text)
        case "unflag":
            studio.store.remarks.unflag(sample, who)
        case "note":
            studio.store.remarks.note(sample, who, operation.text)
        case "accept":
            desk.accept(studio, sample, who, blind)
        case "clean":
            desk.clean(studio, sample, who, blind)
        case "submit":
            desk.submit(studio, sample, who, blind)
        case "skip":
            studio.annotation.submit(sample, who, "skip")
    if kind in LEAVING:
        result.left = sample == result.packet.shown


def unchanged(studio: Studio, result: Result, who: str) -> str | None:
    """The new mark (``desk.mark``) of the sample on the screen where only this packet's scores changed it; else None."""
    packet = result.packet
    if not packet.mark or packet.sample != packet.shown or result.more or result.error or result.says:
        return None
    return desk.marked(studio, packet.shown, who, packet.mark, result.scores)
