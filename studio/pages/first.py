"""The first visit: example pairs that the store began with, and the strip of first steps."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import gradio as gr

from studio.annotation import first_round
from studio.components import guide as strip
from studio.components.guide import Guide
from studio.images import examples
from studio.images.views import Pair
from studio.pages.shared import QUICK, Update, shows_errors
from studio.studio import Studio

SECONDS = 4.0  # between two looks at the store while the steps are open
FIXED = (
    "Made beforehand by the projector that comes with the studio, on seeds {seeds} of prompts in a fixed order: none of these "
    "was picked by hand. {checked}Compare makes more."
)
CHECKED = (
    "The detector, on which nothing is trained, has looked at them: {right} of {digits} digits of the VLM are on the right "
    "side of 5, and {false}. Prompts passed over for a ▲ or more digits that are false: {passed}. "
)
PICKED = (
    "This one was picked, to be fair: of {looked} pairs looked at in order, it is the first on which the projector breaks "
    "a word that held without it, as {by}."
)


@dataclass(frozen=True)
class Example:
    """An entry under Examples: its text; the prompt and the seeds of the stored pairs, none for a prompt alone; and
    how they were chosen."""

    text: str
    prompt: str
    seeds: tuple[int, ...] = ()
    says: str = ""


def offered(studio: Studio) -> list[Example]:
    """The examples of the store, else the prompts alone."""
    stored = examples.pairs(studio)
    if not stored:
        return [Example(prompt, prompt) for prompt in examples.PROMPTS[:4]]
    broken, checked = examples.broken(studio.settings), examples.checked(studio.settings)
    fixed = FIXED.format(seeds=" and ".join(map(str, examples.SEEDS)), checked=_checked(checked))
    several = []
    for prompt, pairs in stored:
        seeds = tuple(p.seed for p in pairs if (prompt, p.seed) != (broken.get("prompt"), broken.get("seed")))
        if seeds:
            several.append(Example(prompt, prompt, seeds, fixed))
    if broken:
        text = f"Broken: {broken['prompt']}, seed {broken['seed']}"
        by = "the VLM and the detector read it" if checked else "the VLM reads it"
        says = PICKED.format(looked=broken["looked"], by=by)
        several.append(Example(text, broken["prompt"], (broken["seed"],), says))
    return several


def _checked(counts: dict[str, int]) -> str:
    """The detector's counts over the examples, in a sentence."""
    if not counts:
        return ""
    rises = counts["false_rises"]
    false = "no ▲ is false" if not rises else f"{rises} ▲ {'is' if rises == 1 else 'are'} false"
    return CHECKED.format(
        right=counts["right"], digits=counts["digits"], false=false, passed=counts["passed_over"]
    )


def pairs_of(studio: Studio, example: Example) -> list[Pair]:
    """The stored pairs of an example."""
    stored = dict(examples.pairs(studio)).get(example.prompt, [])
    return [pair for pair in stored if pair.seed in example.seeds]


def explanation(studio: Studio, pairs: list[Pair]) -> str:
    """How these pairs were chosen, where they are an example's; else ''."""
    shown = [pair.none.id for pair in pairs]
    for example in offered(studio):
        if example.seeds and shown == [pair.none.id for pair in pairs_of(studio, example)]:
            return example.says
    return ""


def wire(studio: Studio, page: gr.Blocks, guide: Guide, tabs: gr.Tabs, go: Callable[[str], Any]) -> None:
    """Keep the strip of first steps in step with the store until all are done."""
    clock = gr.Timer(SECONDS)

    def look() -> Update:
        steps = first_round.steps(studio)
        return {guide: strip.value(steps), clock: gr.Timer(active=not first_round.over(steps))}

    @shows_errors
    def opened(event: gr.EventData) -> Any:
        tab = strip.opened(event._data)
        return go(tab) if tab else gr.skip()

    gr.on([page.load, clock.tick], look, None, [guide, clock], **QUICK)
    guide.open(opened, None, tabs, **QUICK)
    guide.dismiss(lambda: gr.Timer(active=False), None, clock, **QUICK)
