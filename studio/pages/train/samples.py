"""The tab Samples of a run's card: a grid of the same seeds without projector, with the one before and with the run's.

It is an ordinary grid (``studio.grids.grid``), so that the page Seeds shows it as well.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

import gradio as gr

from studio.access.limits import limits
from studio.components import notices
from studio.components.thumbnails import thumbnail
from studio.grids.grid import GridView, check_grid
from studio.pages import runs as listing
from studio.pages import shared
from studio.pages.shared import ASKED, QUICK, Update, shows_errors
from studio.studio import SampleView, Studio
from studio.training.runs import projector_of

PROMPTS, SEEDS, LOOKED = 8, "1-4", 100
NONE = "Make the images of a held-out prompt without projector, with the projector before and with this one, on the same seeds."


@dataclass(frozen=True)
class Samples:
    """``outputs`` are filled by ``values(run id)``."""

    outputs: list[Any]
    values: Any


def build(studio: Studio, chosen: gr.State, who: gr.Textbox) -> Samples:
    """The tab Samples; chosen holds the run's id."""
    with gr.Tab("Samples", id="run-samples"):
        with gr.Row(equal_height=True):
            prompt = gr.Dropdown(
                studio.prompts.of("heldout", PROMPTS), allow_custom_value=True, label="Prompt",
                info="Held out, or one of your own.", scale=4, min_width=240,
            )  # fmt: skip
            seeds = gr.Textbox(SEEDS, label="Seeds", elem_id="samples-seeds", scale=1, min_width=100)
            make = gr.Button(
                "Make the images", variant="primary", elem_id="samples-make", scale=1, min_width=140
            )
        shown = shared.html(notices.empty(NONE), elem_id="samples-shown")
        # inside the tab: what stands between tabs counts as one
        grid, drawn, clock = gr.State(""), listing.drawn(), gr.Timer(listing.SECONDS, active=False)
    outputs = [grid, drawn, shown, clock, make]

    def show(grid_id: str, known: str) -> Update:
        if not grid_id:
            return {grid: "", drawn: "", shown: notices.empty(NONE), clock: gr.Timer(active=False)}
        view = studio.grids.get(grid_id)
        on = view.state in listing.ACTIVE
        scored = sum(c.sample is not None and c.sample.total is not None for c in view.cells)
        stamp = f"{grid_id} {view.state} {view.done} {scored}"
        table = {} if stamp == known else {shown: _table(view)}
        return {
            grid: grid_id,
            drawn: stamp,
            **table,
            clock: gr.Timer(active=on),
            make: gr.update(interactive=not on),
        }

    def values(run_id: str) -> Update:
        projects = gr.update(interactive=bool(studio.runs.sample_methods(run_id)))
        return {**show(_latest(studio, run_id), ""), make: projects}

    @shows_errors
    def begin(run_id: Any, text: Any, numbers: Any, kept: Any, profile: gr.OAuthProfile | None) -> Update:
        methods = studio.runs.sample_methods(run_id)
        if not methods:
            raise ValueError("Only a projector has samples of its own: choose the loop or the projector.")
        request = check_grid(text, numbers, ["none", *methods])
        limits(studio, profile).check_grid(request, studio.store)
        return show(studio.grids.start(request, shared.proven(studio, kept, profile)), "")

    make.click(begin, [chosen, prompt, seeds, who], outputs, **ASKED)
    clock.tick(shows_errors(show), [grid, drawn], outputs, **QUICK)
    return Samples(outputs, values)


def _latest(studio: Studio, run_id: str) -> str:
    """The newest grid that has this run's projector in it, or ''."""
    mine = projector_of(studio.runs.get(run_id))
    for grid in studio.store.grids.find(limit=LOOKED):
        if any(variant["run"] == mine for variant in grid["config"]["variants"]):
            return grid["id"]
    return ""


def pictures(head: Sequence[str], rows: Mapping[str, Sequence[str]], more: str = "") -> str:
    """A table of pictures: the heads of its columns, and the cells of each row by its head, all of it HTML."""
    top = "".join(f'<th scope="col">{name}</th>' for name in head)
    body = "".join(
        f'<tr><th scope="row">{name}</th>{"".join(f"<td>{cell}</td>" for cell in cells)}</tr>'
        for name, cells in rows.items()
    )
    return (
        f'<div class="scroll"><table class="plain samples{more}"><thead><tr><td></td>{top}</tr></thead>'
        f"<tbody>{body}</tbody></table></div>"
    )


def _table(view: GridView) -> str:
    """The grid as a table of pictures with their totals and, after the first column, their gain over it."""
    titles = (
        ["no projector", "before", "this run"] if len(view.variants) == 3 else [v.name for v in view.variants]
    )
    heads = [
        f'<span title="{escape(v.name)}">{escape(t)}</span>'
        for v, t in zip(view.variants, titles, strict=True)
    ]
    wide, body = len(view.variants), {}
    for at, seed in enumerate(view.seeds):
        samples = [cell.sample for cell in view.cells[at * wide : (at + 1) * wide]]
        first = samples[0].total if samples[0] else None
        body[f"seed {seed}"] = [_cell(sample, first if i else None) for i, sample in enumerate(samples)]
    bar = ""
    if view.state in listing.ACTIVE:
        words = [f"{view.done} of {view.total} images", notices.left(view.left)]
        bar = notices.bar(view.done / max(1, view.total), ", ".join(filter(None, words)))
    elif view.state != "done":
        bar = notices.notice(f"The grid {view.state}. {view.message}", problem=view.state == "failed")
    elif view.message:
        bar = notices.notice(view.message)
    return f'<p class="ask">{escape(view.prompt)}</p>{bar}{pictures(heads, body)}'


def _cell(sample: SampleView | None, base: float | None) -> str:
    if sample is None:
        return '<span class="sample-waiting" aria-label="not made yet"></span>'
    source, gain = thumbnail(sample.image_path), ""
    total = "no score yet" if sample.total is None else f"{sample.total:.1f}"
    if base is not None and sample.total is not None:
        by = sample.total - base
        gain = f' <span class="gain {notices.tone(by)}">{notices.arrow(by)}</span>'
    alt = f"{escape(sample.prompt)}, seed {sample.seed}, {escape(sample.method)}"
    picture = (
        f'<img src="{source}" alt="{alt}">'
        if source
        else '<span class="sample-waiting">The file is gone.</span>'
    )
    return f'{picture}<span class="total"><strong>{total}</strong>{gain}</span>'
