"""The blind vote: two pictures of one seed, sides shuffled by the server, one key per answer; the methods are
revealed at the end.

A pair is sent as a token and two pictures without their text: nothing in the page says which method made which.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from studio.components import source
from studio.components.scripted import Scripted, moment, text

CHOICES = ("left", "right", "tie", "none")


def ballot(
    round: str, prompt: str, token: str, left: str | None, right: str | None, done: int, total: int
) -> dict[str, Any]:
    """The component's value for a pair. round: of the votes of one sitting; token: of the pair; left, right: data
    URLs; done of total votes are cast."""
    return {
        "at": moment(),
        "round": round,
        "prompt": prompt,
        "token": token,
        "left": left,
        "right": right,
        "done": done,
        "total": total,
    }


def outcome(
    round: str, prompt: str, votes: Mapping[str, Any], base: str, other: str, done: int, over: bool
) -> dict[str, Any]:
    """The value once the vote is over: the names of the two, how often each was chosen, and the share with its
    interval. votes: {base, other, tie, none, share {estimate, low, high} of ``other``}; over: no pair is left."""
    return {
        "at": moment(),
        "round": round,
        "prompt": prompt,
        "token": "",
        "done": done,
        "over": over,
        "result": {**votes, "names": [base, other]},
    }


def sorry(problem: str) -> dict[str, Any]:
    """The value where a vote could not be stored: the pair stays, with a sentence."""
    return {"at": moment(), "problem": problem}


def read_vote(data: Any) -> tuple[str, str, str]:
    """(round, token, choice) as they came over HTTP; ValueError for what the page would not send."""
    round, token, choice = (text(data, name) for name in ("round", "token", "choice"))
    if not round or not token or choice not in CHOICES:
        raise ValueError("A vote is left, right, tie or none of a pair that was shown: reload the page.")
    return round, token, choice


class BlindVote(Scripted):
    """Value: what ``ballot`` or ``outcome`` makes, or None. Events: ``cast`` {round, token, choice};
    ``finish`` and ``again`` {token: the round}: the result, and another pair after it."""

    SCRIPT = source("elements.js", "buttons.js", "dialog.js", "vote/vote.js")
    TEMPLATE = '<div class="blind-vote"></div>'
