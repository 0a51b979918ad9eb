"""Sittings of blind votes: the pair that a page shows, by a token, so that the page cannot tell the methods apart."""

from __future__ import annotations

import secrets
import threading
from collections import OrderedDict
from dataclasses import dataclass, field
from typing import Any

from studio.components import vote
from studio.components.thumbnails import UNREADABLE, small
from studio.grids.grid import GridView
from studio.studio import Studio

LIGHT = 16_384  # bytes up to which a picture is sent without loss
KEPT = 1000  # sittings that are remembered; one that is forgotten begins anew


@dataclass
class Sitting:
    """One person's votes between two columns of a grid. asked: the pair of each token; one leaves it when it is
    answered, so that a vote which comes twice counts once."""

    grid: str
    prompt: str
    who: str
    base: int
    other: int
    names: tuple[str, str]
    done: int = 0
    asked: dict[str, tuple[str, str]] = field(default_factory=dict)
    lock: threading.Lock = field(default_factory=threading.Lock)


class Sittings:
    """What `BlindVote` asks for and is answered; safe to share between threads."""

    def __init__(self, studio: Studio) -> None:
        self.studio = studio
        self._open: OrderedDict[str, Sitting] = OrderedDict()
        self._lock = threading.Lock()

    def begin(self, view: GridView, base: int, other: int, who: str) -> dict[str, Any]:
        """The first pair; ValueError with a sentence where there is nothing to vote on."""
        names = (view.variants[base].name, view.variants[other].name) if base != other else ("", "")
        sitting, key = Sitting(view.id, view.prompt, who, base, other, names), secrets.token_hex(8)
        with self._lock:
            self._open[key] = sitting
            while len(self._open) > KEPT:
                self._open.popitem(last=False)
        value = self._next(key, sitting)
        if value.get("result") and not any(
            value["result"][name] for name in ("base", "other", "tie", "none")
        ):
            raise ValueError(
                f"No seed has two different images of {names[0]} and {names[1]} to vote between: make more seeds, or "
                "compare other columns."
            )
        return {**value, "begin": True}

    def cast(self, round: str, token: str, choice: str) -> dict[str, Any]:
        """Keep a vote and show the next pair."""
        sitting = self._sitting(round)
        with sitting.lock:
            pair = sitting.asked.get(token)
            if pair is not None:
                self.studio.votes.add(*pair, choice, sitting.who)
                del sitting.asked[token]
                sitting.done += 1
            return self._next(round, sitting)

    def finish(self, round: str) -> dict[str, Any]:
        """The result."""
        return self._outcome(round, self._sitting(round), over=False)

    def again(self, round: str) -> dict[str, Any]:
        return self._next(round, self._sitting(round))

    def who(self, round: str) -> str:
        return self._sitting(round).who

    def _sitting(self, round: str) -> Sitting:
        with self._lock:
            if round not in self._open:
                raise ValueError(
                    "This vote was begun long ago: close it and begin again. The votes are kept."
                )
            self._open.move_to_end(round)
            return self._open[round]

    def _next(self, key: str, sitting: Sitting) -> dict[str, Any]:
        pair = self.studio.votes.next(sitting.grid, sitting.who, sitting.base, sitting.other)
        if pair is None:
            return self._outcome(key, sitting, over=True)
        token = secrets.token_hex(8)
        sitting.asked = {token: (pair.left.id, pair.right.id)}
        left, right = _whole(pair.left.image_path), _whole(pair.right.image_path)
        total = sitting.done + pair.left_over
        return vote.ballot(key, sitting.prompt, token, left, right, sitting.done, total)

    def _outcome(self, key: str, sitting: Sitting, over: bool) -> dict[str, Any]:
        votes = self.studio.votes.tally(sitting.grid, sitting.base, sitting.other)
        return vote.outcome(key, sitting.prompt, votes, *sitting.names, sitting.done, over)


def _whole(path: str | None) -> str | None:
    """An image in its full size without its text; None where its file is gone."""
    try:
        return small(path, 4096, LIGHT) if path else None
    except UNREADABLE:
        return None
