"""`python -m studio pretrain scorer`: the small VLM, taught on renders of the shapes world only.

Two kinds of pictures: right renders, of which everything is known (they are described, and asked about with prompts
that are changed so that some words no longer hold), and renders that are wrong on purpose (`data.shapes.degrade`),
asked about with their own prompt. No generated image and no verdict of the detector is ever used.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np

from core.scoring.vlm import VLMScorer
from core.training.loop import FitResult, Progress
from core.training.scorer import Example, Question, evaluate_scorer, train_scorer
from core.training.scorer_model import ScorerConfig, make_scorer, save_scorer
from data.shapes import scenes
from data.shapes.degrade import degraded
from data.shapes.questions import changed, truths_on
from data.shapes.render import Render, render
from data.shapes.scenes import WORLDS, Scene, World

ASKS = ("describe", "where", "what", "from")
ALONE = 0.35  # of right renders show one thing, where a word's truth is whether it is seen at all
_STREAM = 40_507


def captions(drawn: Scene, picture: Render, rng: np.random.Generator) -> tuple[tuple[str, str], ...]:
    """Dense descriptions of a right render: all things with their place on a ten by ten grid; one looked up by name
    and one by place; and for a pair where the one is, seen from the other."""

    def cell(p) -> str:
        return f"{min(int(p.x * 10), 9)} {min(int(p.y * 10), 9)}"

    order = sorted(picture.placements, key=lambda p: (p.x, p.y))
    name = {id(p): f"{drawn.things[p.thing].colour} {p.shape}" for p in order}
    told = [("describe", " , ".join(f"{name[id(p)]} {cell(p)}" for p in order))]
    one, other = (order[int(k)] for k in rng.integers(len(order), size=2))
    told += [(f"where {name[id(one)]}", cell(one)), (f"what {cell(other)}", name[id(other)])]
    if len(order) == 2:
        a, b = (order[int(k)] for k in rng.permutation(2))
        side, level = ("left" if a.x < b.x else "right"), ("above" if a.y < b.y else "below")
        told.append((f"where {name[id(a)]} from {name[id(b)]}", f"{level} {side}"))
    return tuple(told)


def example(
    index: int,
    world: World,
    seed: int,
    wrong: bool,
    split: str = "train",
    prompts: int = 3,
    alone: float = ALONE,
) -> Example:
    """Training example `index`, a function of its arguments only. `alone` is the part of right renders that show one
    thing; `prompts` are asked about a right render, the first of them naming one thing."""
    rng = np.random.default_rng([_STREAM, seed, index, wrong])
    scene = scenes.sample_scene(rng, world, split)
    if wrong:
        image, truths = degraded(scene, int(rng.integers(2**31)), world=world)
        return Example(image, (Question(scene.prompt, truths),))
    if rng.random() < alone:
        singles = [
            scenes.parse(scenes.sentence(rng, [replace(t, count=1)], None), world) for t in scene.things
        ]
        scene = next((one for one in singles if one.split == split), scene)
    picture = render(scene, int(rng.integers(2**31)))
    asked = []
    while len(asked) < prompts:
        other = changed(scene, picture.placements, world, rng, single=not asked)
        truths = truths_on(other, scene, picture.placements)
        if truths is not None:
            asked.append(Question(other.prompt, truths))
    places = tuple(
        (f"{scene.things[p.thing].colour} {p.shape}", p.x, p.y, p.radius) for p in picture.placements
    )
    return Example(picture.image, tuple(asked), captions(scene, picture, rng), places)


def held_out(count: int, world: str = "small", split: str = "heldout", seed: int = 0) -> list[Example]:
    """Wrong renders of compositions that training never shows, for `evaluate_scorer`."""
    return [example(i, WORLDS[world], 1_000 + seed, True, split) for i in range(count)]


def pretrain_scorer(
    folder: Path | str,
    world: str = "small",
    *,
    work: Path | str | None = None,
    steps: int = 6000,
    sight_steps: int = 800,
    caption_steps: int = 800,
    simple_steps: int = 400,
    batch: int = 16,
    config: ScorerConfig | None = None,
    seed: int = 0,
    validate: int = 300,
    resume: bool = True,
    on_progress: Callable[[Progress], None] | None = None,
    stop: Callable[[], bool] | None = None,
) -> tuple[FitResult, dict]:
    """Train the small VLM and save it to `folder`; its state is kept in `work`, from where it goes on.

    In this order: the vision tower alone, descriptions, questions about single things (where the shape's signal is
    not hidden behind another object's), and questions about everything, half of them on wrong renders.

    Returns what the loop did and the figures by kind of word on held-out wrong renders.
    """
    kept = WORLDS[world]
    scorer = make_scorer([*scenes.vocabulary("large"), *ASKS], config, seed)

    def examples(step: int) -> list[Example]:
        if step < sight_steps:  # cheap: the vision tower alone, so twice as many
            return [example(2 * step * batch + i, kept, seed, False, prompts=0) for i in range(2 * batch)]
        start = (sight_steps + step) * batch
        if step < sight_steps + caption_steps:
            return [example(start + i, kept, seed, False, prompts=0) for i in range(batch)]
        if step < sight_steps + caption_steps + simple_steps:
            return [example(start + i, kept, seed, False, alone=1.0) for i in range(batch)]
        return [example(start + i, kept, seed, i % 2 == 1) for i in range(batch)]

    result = train_scorer(
        scorer, examples, steps=steps, sight_steps=sight_steps, caption_steps=caption_steps,
        folder=work,
        on_progress=on_progress, stop=stop, resume=resume, seed=seed,
    )  # fmt: skip
    figures: dict = {}
    if not result.stopped:
        figures = evaluate_scorer(scorer, held_out(validate, world)) if validate else {}
        meta = {
            "world": world, "steps": steps, "sight_steps": sight_steps, "caption_steps": caption_steps, "simple_steps": simple_steps,
            "batch": batch, "seed": seed, "held_out": figures,
        }  # fmt: skip
        save_scorer(scorer, folder, meta)
    return result, figures


def trained(work: Path | str, world: str = "small", config: ScorerConfig | None = None) -> VLMScorer:
    """The scorer as the state in `work` has it (averaged weights), to look at while it trains."""
    from core.checkpoint import load_state

    scorer = make_scorer([*scenes.vocabulary("large"), *ASKS], config)
    state = load_state(Path(work) / "state.pt")
    scorer.model.load_state_dict(state["modules"]["model"])
    for name, value in scorer.model.named_parameters():
        value.data.copy_(state["ema"]["model"]["shadow"][name])
    return scorer
