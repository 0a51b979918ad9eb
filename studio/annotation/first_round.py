"""The first round through the studio: compare, correct, retrain; and the progress of this store.

It is read from the store, so that it is the same after a reload and in every browser. Each query stops at the first rows
that answer it: in a store of a million scores it is as quick as in an empty one.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from studio.images import examples

if TYPE_CHECKING:
    from studio.studio import Studio

WORDS = 10  # corrected words after which the second step is done
TRAIN = ("cycle", "reward", "projector", "calibrator", "lora")
LATEST = 200  # runs that are searched for a training


@dataclass(frozen=True)
class Step:
    """A step: its tab, what to do there, a sentence on its progress, and whether it is done."""

    tab: str
    title: str
    says: str
    done: bool


def steps(studio: Studio) -> list[Step]:
    """The three steps."""
    return [_compare(studio), _correct(studio), _retrain(studio)]


def over(steps: list[Step]) -> bool:
    """Whether the round is done and no longer shown."""
    return all(step.done for step in steps)


def _compare(studio: Studio) -> Step:
    newest = studio.store.samples.find(limit=1)
    done = bool(newest) and newest[0]["prompt_set"] != examples.SET
    says = "Write a prompt; see each seed with and without the projector."
    if newest:
        says = "Look at the examples, then write a prompt of your own."
    if done:
        says = "There are images of your own."
    return Step("compare", "Compare", says, done)


def _correct(studio: Studio) -> Step:
    count = studio.store.scores.first_corrections(WORDS)
    if count >= WORDS:
        return Step("annotate", "Correct", f"{WORDS} words or more are corrected.", True)
    so_far = f"{count} of {WORDS} words. " if count else ""
    return Step("annotate", "Correct", f"{so_far}Set the digits that are wrong.", False)


def _retrain(studio: Studio) -> Step:
    runs = [run for run in studio.store.runs.find(limit=LATEST) if run["kind"] in TRAIN]
    states = {run["state"] for run in runs if run["config"].get("source") != "shipped"}
    says = "Start the whole loop; it takes some minutes."
    if "done" in states:
        says = "A training is done: look at what it changed."
    elif states & {"queued", "running"}:
        says = "A training is on."
    return Step("train", "Retrain", says, "done" in states)
