"""Apply the keys of an annotator's page to the store, in order, and report to the page."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Any

from data.store import StoreError
from data.store.desk import SENTENCE, page_digest
from studio.access.limits import NotYet
from studio.annotation import desk
from studio.components.table import number, rows
from studio.components.word_scores import Operation, Packet
from studio.errors import sentence
from studio.studio import Studio
from studio.times import moment

LEAVING = ("submit", "skip", "clean")
NOTHING = "There is nothing left to undo."


@dataclass
class Result:
    """A packet that was applied. place: the sample to show; left: it was submitted or skipped, so the next one is
    due; retry: what was not done is to be sent again; says: a sentence that is no error; scores: the numbers of
    the scores that stand for its digits; more: whether it held anything but digits."""

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
        """What is stored of this, to be repeated where the same keys come again."""
        return {
            "shown": self.packet.shown,
            "place": self.place,
            "left": self.left,
            "error": self.error[:SENTENCE],
            "says": self.says[:SENTENCE],
            "word": self.word,
        }

    def repeat(self, answer: dict[str, Any]) -> None:
        """The page sends again what was done: it gets the same answer, and moves where the same image is still shown."""
        self.error, self.says, self.more = answer["error"], answer["says"], True
        if answer["shown"] == self.packet.shown:
            self.place, self.left, self.word = answer["place"], answer["left"], answer["word"]


def refused(packet: Packet, problem: ValueError) -> Result:
    """Nothing was done, and sending it again will not help: this visitor may not write."""
    last = max(o.revision for o in packet.operations)
    return Result(packet, packet.shown, last, error=sentence(problem))


def retry(packet: Packet, problem: NotYet | StoreError) -> Result:
    """Nothing was done: the store itself fails, or this visitor must sign in or show the token first. The page keeps
    all of it and sends it again."""
    return Result(packet, packet.shown, error=sentence(problem), retry=True)


def apply(studio: Studio, packet: Packet, who: str, blind: bool) -> Result:
    """Do what was not done yet. A key that cannot be stored is reported, and those after it go on; where the store
    itself fails (a full disk), that key and all after it stay with the page, which sends them again.

    A key and its receipt are one transaction, so that a key whose answer was lost, with its page or with the server,
    is never done twice.
    """
    done, store, page = Result(packet, packet.shown), studio.store, page_digest(packet.client, who)
    for operation in sorted(packet.operations, key=lambda o: o.revision):
        try:
            with store.database.writing():
                last = store.receipts.get(page)
                if last is None or last["revision"] < operation.revision:
                    _attempt(studio, operation, done, who, blind)
                    store.receipts.give(page, operation.revision, done.answer())
                elif last["revision"] == operation.revision:
                    done.repeat(last["answer"])
        except Exception as problem:  # noqa: BLE001 - the page keeps the key and says why
            done.error, done.retry = sentence(problem), True
            break
        done.revision = max(operation.revision, last["revision"] if last else 0)
    return done


def _attempt(studio: Studio, operation: Operation, done: Result, who: str, blind: bool) -> None:
    """Do a key, or leave the store as it was and say why it cannot be stored."""
    try:
        with studio.store.database.writing():
            _do(studio, operation, done, who, blind)
    except ValueError as problem:
        done.error = sentence(problem)


def _do(studio: Studio, operation: Operation, done: Result, who: str, blind: bool) -> None:
    kind, sample = operation.kind, done.packet.sample
    done.more |= kind != "set"  # of a score that is taken back only the store knows what stands instead
    if kind == "undo":
        step = desk.back(studio.store, who)
        if step is None:
            done.says = NOTHING
        else:
            done.place, done.says, done.word = step.sample, step.says, step.word
    elif kind in ("set", "clear"):
        if event := studio.annotation.keep(sample, operation.word or 0, operation.score, who):
            done.scores.add(event["seq"])
    elif kind == "flag":
        studio.store.remarks.flag(sample, who, operation.text)
    elif kind == "unflag":
        studio.store.remarks.unflag(sample, who)
    elif kind == "note":
        studio.store.remarks.note(sample, who, operation.text)
    else:
        if kind == "skip":
            studio.annotation.submit(sample, who, "skip")
        else:
            {"accept": desk.accept, "clean": desk.clean, "submit": desk.submit}[kind](
                studio, sample, who, blind
            )
        if kind in LEAVING:
            done.left = sample == done.packet.shown


def unchanged(studio: Studio, done: Result, who: str) -> str | None:
    """The mark of the image on the screen after this packet (``desk.mark``) where nothing but the page's own keys has
    changed it; else None."""
    packet = done.packet
    if not packet.mark or packet.sample != packet.shown or done.more or done.error or done.says:
        return None
    return desk.marked(studio, packet.shown, who, packet.mark, done.scores)


def display_name(who: str) -> str:
    """The name of another person, as annotators see it."""
    return "somebody" if who.startswith("anonymous-") else who


def history_table(events: list[dict[str, Any]]) -> dict[str, Any]:
    """A person's last corrections as a table."""
    said = {"set": "set", "clear": "taken back", "undo": "undone"}
    body = []
    for event in events:
        then, now = ("–" if event[name] is None else event[name] for name in ("before", "score"))
        change, when = number(f"{then} → {now}"), moment(event["created"])
        body.append([event["word"], change, said[event["action"]], event["prompt"], when])
    head, keys = ["word", "score", "what", "prompt", "when"], [event["sample"] for event in events]
    return rows(
        head, body, keys=keys, empty="You have not scored a word yet. Press a digit on a word to begin."
    )
