"""The first round through the studio: compare, correct, retrain; and how far this store is on it.

Read from the store, so that it is the same after a reload and in every browser. Each question stops at the first rows
that answer it: a store of a million scores is asked as quickly as an empty one.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from studio.images import examples

if TYPE_CHECKING:
    from studio.studio import Studio

WORDS = 10  # corrected words after which the second step is done
TRAIN = ("cycle", "reward", "projector", "calibrator", "lora")
LOOKED = 200  # the newest runs, among which a training is looked for


@dataclass(frozen=True)
class Step:
    """A step: the tab that it is done in, what to do there, how it stands, and whether it is done."""

    tab: str
    title: str
    says: str
    done: bool


def steps(studio: Studio) -> list[Step]:
    """The three steps as the store has them."""
    return [_compare(studio), _correct(studio), _retrain(studio)]


def over(found: list[Step]) -> bool:
    """Whether the round is done; then nothing of it is shown any more."""
    return all(step.done for step in found)


def _compare(studio: Studio) -> Step:
    newest = studio.store.samples.find(limit=1)
    own = bool(newest) and newest[0]["prompt_set"] != examples.SET
    says = "Write a prompt; see each seed with and without the projector."
    if newest and not own:
        says = "Look at the examples, then write a prompt of your own."
    return Step("compare", "Compare", "There are images of your own." if own else says, own)


def _correct(studio: Studio) -> Step:
    count = studio.store.scores.first_corrections(WORDS)
    done = count >= WORDS
    says = (
        f"{count} of {WORDS} words. Set the digits that are wrong."
        if count
        else "Set the digits that are wrong."
    )
    return Step("annotate", "Correct", f"{WORDS} words or more are corrected." if done else says, done)


def _retrain(studio: Studio) -> Step:
    runs = [run for run in studio.store.runs.find(limit=LOOKED) if _trained(run)]
    states = {run["state"] for run in runs}
    if "done" in states:
        return Step("train", "Retrain", "A training is done: look at what it changed.", True)
    if states & {"queued", "running"}:
        return Step("train", "Retrain", "A training is on.", False)
    return Step("train", "Retrain", "Start the whole loop; it takes some minutes.", False)


def _trained(run: dict[str, Any]) -> bool:
    """Whether it trains and a user started it: what the project ships is a run as well."""
    return run["kind"] in TRAIN and run["config"].get("source") != "shipped"
