"""Endpoints for grids of images, as the page Seeds has them, and for the blind votes between two of their columns."""

from dataclasses import asdict
from typing import Annotated, Any, Literal

import gradio as gr

from studio.access.limits import limits
from studio.api.answers import FILES, Variant, content, file
from studio.doors import OWNERS, PEOPLE, WRITERS, GridId, Loras, Negative, Scheduler, Weighted, endpoint
from studio.grids.grid import check_grid, grid_change
from studio.images import pictures
from studio.images.options import read_options
from studio.numbers import whole
from studio.pages import shared
from studio.studio import Studio


@endpoint()
def grid_methods(studio: Studio) -> list[dict[str, str]]:
    """The ways to make images that a grid can have as columns here.

    Returns: methods: [{method: as start_grid takes it, name}]
    """
    return [{"method": value, "name": name} for name, value in studio.grids.methods()]


@endpoint(PEOPLE)
def start_grid(
    studio: Studio,
    prompt: Annotated[str, "what the images should show"],
    who: str,
    seeds: Annotated[str, 'the rows, such as "1-16" or "7, 9"'] = "1-8",
    methods: Annotated[
        str, "the columns: none, projected, projected:RUN, pag, apg-7, lora, ... with commas between"
    ] = "none,projected",
    strengths: Annotated[str, 'of what is projected, such as "0,0.5,1"'] = "1",
    guidance: Annotated[str, 'values such as "3,5,7"; empty for the model\'s own'] = "",
    steps: Annotated[str, 'values such as "10-30 (+10)"; empty for the model\'s own'] = "",
    negative: Negative = None,
    scheduler: Scheduler = None,
    loras: Loras = "",
    weighted: Weighted = False,
    profile: gr.OAuthProfile | None = None,
) -> str:
    """Make a grid of images in the background, seeds against ways to make them; look at it with the endpoint grid.

    Returns: the grid's id
    """
    prompt, options = read_options(studio.settings, prompt, negative, scheduler, loras, weighted)
    request = check_grid(prompt, seeds, methods, strengths, guidance, steps, options=options)
    limits(studio, profile).check_grid(request, studio.store)
    return studio.grids.start(request, who)


@endpoint()
def grids(
    studio: Studio, limit: Annotated[int, "grids in the answer, 200 at most"] = 20
) -> list[dict[str, Any]]:
    """The latest grids, the newest first.

    Returns: grids: [{id, prompt, state, message, done: images of total, created, who}]
    """
    return studio.grids.find(whole("limit", limit, 1, 200))


@endpoint()
def grid(
    studio: Studio,
    grid: GridId,
    base: Annotated[int, "the variant that another one is compared with, by its place"] = 0,
    other: Annotated[int, "the variant that is compared with it"] = 1,
) -> dict[str, Any]:
    """A grid as it is now.

    Returns: id, prompt, seeds, variants: [{name, method, run, strength, guidance, steps}], state: queued, running, stopped, interrupted, done or failed, message, done: images of total, left: seconds, cells: [{seed, variant: a place among variants, sample: its id | null, total: its mean score 0..9 | null}], change: of the other variant against the base: {gain: {estimate, low, high}, wins, ties, losses, won: the share of wins {estimate, low, high}, broken: seeds, mended: seeds, words} | null
    """
    view = studio.grids.get(grid)
    cells = []
    for cell in view.cells:
        id, total = (cell.sample.id, cell.sample.total) if cell.sample else (None, None)
        cells.append({"seed": cell.seed, "variant": cell.variant, "sample": id, "total": total})
    change = grid_change(view, base, other) if len(view.variants) > 1 and view.done else None
    names = "id prompt seeds state message done total left".split()
    answer = {name: getattr(view, name) for name in names}
    return {**answer, "variants": list(map(asdict, view.variants)), "cells": cells, "change": change}


@endpoint(OWNERS)
def stop_grid(studio: Studio, grid: GridId, who: str) -> str:
    """Stop a grid after the step that it is in; what is made is kept. For who started it, and for administrators.

    Returns: the grid's id
    """
    studio.grids.stop(grid, who)
    return grid


@endpoint(OWNERS)
def resume_grid(studio: Studio, grid: GridId, who: str, profile: gr.OAuthProfile | None = None) -> str:
    """Go on with a grid that was stopped, interrupted or has failed, or make again what has gone from one. For
    who started it, and for administrators.

    Returns: the grid's id
    """
    limits(studio, profile).check_grid(studio.grids.request(grid), studio.store)
    studio.grids.resume(grid, who)
    return grid


@endpoint(line=FILES)
def grid_zip(studio: Studio, grid: GridId) -> dict[str, Any]:
    """The images of a grid, with their text, and a manifest with every score.

    Returns: the zip
    """
    id = studio.grids.get(grid).id
    with shared.room() as made:
        return file(studio.grid_files.zip(id, made / f"grid-{id}.zip"))


@endpoint(WRITERS)
def next_vote(
    studio: Studio, grid: GridId, who: str, base: Variant = 0, other: Variant = 1
) -> dict[str, Any]:
    """Two images of one seed from two variants of a grid, without saying which is which; answer with cast_vote.

    Returns: vote: the question's id, or null where this person has voted on all; prompt; left, right: images; left_over: questions that are left, this one too
    """
    return _asked(studio, grid, who, base, other)


@endpoint(WRITERS)
def cast_vote(
    studio: Studio,
    grid: GridId,
    vote: Annotated[str, "the question's id, from next_vote"],
    choice: Annotated[
        Literal["left", "right", "tie", "none"], "left, right, tie (as good) or none (neither is any good)"
    ],
    who: str,
    base: Annotated[int, "as in next_vote"] = 0,
    other: Annotated[int, "as in next_vote"] = 1,
) -> dict[str, Any]:
    """Say which of two images shows the prompt better. Of a person's votes on the same two the last one counts.

    Returns: the next question, as next_vote answers
    """
    studio.votes.add(*studio.votes.asked(grid, vote, who, base, other), choice, who)
    return _asked(studio, grid, who, base, other)


@endpoint()
def votes(studio: Studio, grid: GridId, base: Variant = 0, other: Variant = 1) -> dict[str, Any]:
    """What all people's blind votes between two variants of a grid say.

    Returns: base, other, tie, none: votes for each; voters: people; share: of the other variant, {estimate, low, high}, a tie counting half; names: of the two variants
    """
    counts = studio.votes.tally(grid, base, other)
    variants = studio.grids.request(grid).variants
    places = [whole("variant", at, 0, len(variants) - 1) for at in (base, other)]
    return {**counts, "names": [variants[at].name for at in places]}


def _asked(studio: Studio, grid: str, who: str, base: int, other: int) -> dict[str, Any]:
    question = studio.votes.next(grid, who, base, other)
    if question is None:
        prompt = studio.grids.request(grid).prompt
        return {"vote": None, "prompt": prompt, "left": None, "right": None, "left_over": 0}
    sides = {"left": question.left, "right": question.right}
    bodies = {side: pictures.without_text(view.image_path or "") for side, view in sides.items()}
    shown = {side: content(body, f"{side}.png") if body else None for side, body in bodies.items()}
    return {"vote": question.id, "prompt": question.left.prompt, **shown, "left_over": question.left_over}
