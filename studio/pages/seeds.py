"""Seeds: a grid of seeds x ways to make them, looked at closely, voted on blind, kept and shared."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from html import escape
from typing import Any

import gradio as gr

from studio.access.limits import limits, may_tend, may_write
from studio.components import grid as cells
from studio.components import notices, viewer
from studio.components.grid import SeedGrid, grid_value, no_grid, read_ask, strongest
from studio.components.scripted import text
from studio.components.table import Table, picked, rows
from studio.components.viewer import PairViewer, pair_value
from studio.components.vote import BlindVote, read_vote, sorry
from studio.errors import sentence
from studio.grids.grid import GridView, check_grid, grid_change
from studio.images import png_text
from studio.pages import runs, seeds_form, shared
from studio.pages.memory import Memory
from studio.pages.seeds_pictures import Thumbnails
from studio.pages.seeds_vote import Sittings
from studio.pages.shared import Loading, told
from studio.studio import SampleView, Studio

EMPTY = (
    "The same seeds, made in several ways, beside each other: see which ones the projector mends and which it breaks. "
    "Say what to draw above and press Make the grid, or begin with a small one."
)
LISTED = 20
CHANGES = 64  # comparisons of two columns that are kept
DOWNLOAD = "() => setTimeout(() => document.querySelector('#seeds-zip')?.click(), 50)"


@dataclass
class SeedsTab:
    """What the page listens to: ``viewer.annotate`` says which sample to open in Annotate."""

    viewer: PairViewer


def build(studio: Studio, loading: Loading, tab: gr.Tab, memory: Memory) -> SeedsTab:
    thumbnails, sittings = Thumbnails(), Sittings(studio)
    changes: OrderedDict[tuple, dict[str, Any]] = OrderedDict()
    who = memory.who

    with gr.Accordion("What to draw", open=True, elem_id="seeds-form") as drawer:
        form = seeds_form.build(studio)
    with gr.Column(visible=True, elem_id="seeds-empty") as nothing:
        shared.html(notices.empty(EMPTY))
        example = gr.Button("Make a small grid", elem_classes="action", elem_id="seeds-example")
    grid = SeedGrid(elem_id="seed-grid")
    pair, vote = PairViewer(elem_id="pair-viewer"), BlindVote(elem_id="blind-vote")
    with gr.Accordion("Earlier grids", open=False, elem_id="seeds-earlier"):
        earlier = Table(caption="The newest first", elem_id="seeds-list")
    packed = gr.DownloadButton("Zip", visible="hidden", elem_id="seeds-zip")

    page = [grid, nothing, drawer, earlier]
    blank = [gr.skip()] * len(form.fields)

    def change(view: GridView, base: int, other: int) -> dict[str, Any] | None:
        """Of two columns, computed anew only when a cell has changed."""
        if not (0 <= base < len(view.variants) and 0 <= other < len(view.variants)) or base == other:
            return None
        stamps = tuple(cells.stamp_of(cell.sample) for cell in view.cells if cell.sample)
        key = (view.id, base, other, hash(stamps))
        if key not in changes:
            found = grid_change(view, base, other)
            points = [{**point, "seed": str(point["seed"])} for point in found["points"]]
            marked = {name: [str(seed) for seed in found[name]] for name in ("broken", "mended")}
            changes[key] = {**found, **marked, "points": points}
            while len(changes) > CHANGES:
                changes.pop(next(iter(changes)), None)
        return changes[key]

    def value_of(view: GridView, ask: Any, compared: Any, **more: Any) -> dict[str, Any]:
        """The grid's value, with what the detector has said by now: it looks in its own time, and no cell waits for it."""
        opinions, looking = studio.detector.known([cell.sample for cell in view.cells if cell.sample])
        return grid_value(view, thumbnails, ask, compared, opinions, looking=looking, **more)

    def listed() -> dict[str, Any]:
        body = []
        for found in studio.grids.find(LISTED):
            made = {"text": f"{found['done']} of {found['total']}", "tone": "number"}
            state = {"text": found["state"], "tone": runs.TONES.get(found["state"], "plain")}
            body.append((found["id"], [found["prompt"], made, state, runs.when(found)]))
        head = ["prompt", "images", "state", "when"]
        return rows(head, body, empty="No grid was made yet: each one you make is kept here.")

    def rights(view: GridView, kept: Any, profile: Any) -> dict[str, Any]:
        """Whether Stop and Go on are shown, and why the blind vote is off; whoever presses one must prove who they are."""
        person, token = shared.person(kept, profile), shared.with_token()
        tends = not may_tend(studio.settings, view.made_by, person, profile, token=token)
        return {"tends": tends, "votes": may_write(studio.settings, profile)}

    def opened(id: str, kept: Any, profile: Any) -> list[Any]:
        """Values of ``page``: this grid, and the form out of its way."""
        view = studio.grids.get(id, shared.person(kept, profile))
        compared = change(view, 0, strongest(view))
        value = value_of(view, None, compared, opened=True, **rights(view, kept, profile))
        return [value, gr.update(visible=False), gr.update(open=False), listed()]

    def closed(problem: str = "") -> list[Any]:
        return [no_grid(problem), gr.update(visible=True), gr.update(open=True), listed()]

    def again(id: str, kept: Any, profile: Any) -> dict[str, Any]:
        """The value of the grid after something was done to it; the page asks for the cells that it lacks."""
        view = studio.grids.get(id, shared.person(kept, profile))
        return {**value_of(view, None, None, **rights(view, kept, profile)), "cells": [], "more": True}

    def asked_of(id: str) -> list[Any]:
        """Values of the form's fields that ask for a grid again."""
        config = studio.store.grids.get(id)["config"]
        sides = config.get("width"), config.get("height")
        return seeds_form.of_grid(studio.grids.get(id), studio.grids.methods(), *sides)

    @told
    def more(kept: Any, event: gr.EventData, profile: gr.OAuthProfile | None) -> list[Any]:
        """What the page does not have yet; where it knows no grid, one that is being made, else this person's last.
        The form says what the grid that a page opens with asks for."""
        ask, writer = read_ask(event._data), shared.person(kept, profile)
        if not ask.grid:
            latest = studio.grids.find(LISTED)
            theirs = [g["id"] for g in latest[:1] if g["state"] in runs.ON] or [
                g["id"] for g in latest if g["who"] == writer
            ]
            return (
                [*asked_of(theirs[0]), *opened(theirs[0], kept, profile)] if theirs else [*blank, *closed()]
            )
        try:
            view = studio.grids.get(ask.grid, writer)
        except ValueError as error:
            return [*blank, *closed(sentence(error))]
        compared = change(view, ask.base, ask.other)
        value = value_of(view, ask, compared, **rights(view, kept, profile))
        if not ask.fresh:
            return [*blank, value, gr.skip(), gr.skip(), gr.skip() if view.state in runs.ON else listed()]
        return [*asked_of(view.id), value, gr.update(visible=False), gr.update(open=False), listed()]

    def begun(asked: list[Any], kept: Any, profile: Any) -> str:
        if loading.problem:
            raise ValueError(loading.problem)
        request = limits(studio, profile).check_grid(check_grid(*asked), studio.store)
        return studio.grids.start(request, shared.proven(studio, kept, profile))

    @told
    def start(profile: gr.OAuthProfile | None, kept: Any, locked: Any, *asked: Any) -> list[Any]:
        fields = list(asked)
        if locked is False:
            fields[1] = seeds_form.drawn_anew(fields[1])
        return [fields[1], *opened(begun(fields, kept, profile), kept, profile)]

    @told
    def first(kept: Any, profile: gr.OAuthProfile | None) -> list[Any]:
        """The example: small, so that it is there in seconds."""
        methods = seeds_form.starting(studio.grids.methods())
        asked = [seeds_form.FIRST["prompt"], seeds_form.FIRST["seeds"], methods]
        fields = [*asked, "1", "", "", None, None]
        return [*fields, *opened(begun(fields, kept, profile), kept, profile)]

    @told
    def halt(kept: Any, event: gr.EventData, profile: gr.OAuthProfile | None) -> dict[str, Any]:
        id = text(event._data, "grid")
        studio.grids.stop(id, shared.tender(studio, id, kept, profile))
        gr.Info("The grid stops after the step it is in; what is made is kept.", duration=5)
        return again(id, kept, profile)

    @told
    def go_on(kept: Any, event: gr.EventData, profile: gr.OAuthProfile | None) -> dict[str, Any]:
        id = text(event._data, "grid")
        writer = shared.tender(studio, id, kept, profile)
        limits(studio, profile).check_grid(studio.grids.request(id), studio.store)
        studio.grids.resume(id, writer)
        return again(id, kept, profile)

    @told
    def pick(kept: Any, event: gr.EventData, profile: gr.OAuthProfile | None) -> list[Any]:
        return opened(picked(event._data), kept, profile)

    def png(sample: SampleView) -> bytes | None:
        try:
            return studio.grid_files.png(sample.id)
        except ValueError:
            return None

    @told
    def look(kept: Any, event: gr.EventData, profile: gr.OAuthProfile | None) -> dict[str, Any]:
        """Two cells in full, or one."""
        data, writer = event._data, shared.person(kept, profile)
        view = studio.grids.get(text(data, "grid"), writer)
        names: dict[str, list[str]] = {}
        seeds = {cell.sample.id: cell.seed for cell in view.cells if cell.sample}
        for cell in view.cells:
            if cell.sample:
                names.setdefault(cell.sample.id, []).append(view.variants[cell.variant].name)
        ids = list(dict.fromkeys(text(data, name) for name in ("left", "right")))
        if any(id not in names for id in ids):
            raise ValueError("That image is not in this grid: reload the page.")
        samples = [studio.annotation.sample(id, writer) for id in ids]
        opinions, _ = studio.detector.known(samples)

        def side(sample: SampleView, before: SampleView | None = None) -> dict[str, Any]:
            name, opinion = " and ".join(names[sample.id]), opinions.get(sample.id)
            return viewer.side(name, sample, png(sample), before, seed=seeds[sample.id], opinion=opinion)

        left = side(samples[0])
        right = side(samples[1], samples[0]) if len(ids) > 1 else None
        return pair_value(view.prompt, left, right, steps=True)

    @told
    def pack(kept: Any, event: gr.EventData) -> str:
        id = studio.grids.get(text(event._data, "grid")).id
        with shared.room() as folder:
            return shared.download(studio.grid_files.zip(id, folder / f"grid-{id}.zip"))

    # -- the form, filled again

    @told
    def from_grid(event: gr.EventData) -> list[Any]:
        return [*asked_of(text(event._data, "grid")), gr.update(open=True)]

    def from_png(content: bytes | str) -> tuple[list[Any], str]:
        """The form's values and its drawer, and what of the picture was left out."""
        found = png_text.read_png(content)
        fields = seeds_form.of_picture(found, studio.grids.methods())
        seeds_form.checked(fields)
        return [*fields, gr.update(open=True)], found["note"]

    @told
    def from_sample(event: gr.EventData) -> list[Any]:
        return from_png(studio.grid_files.png(text(event._data, "sample")))[0]

    @told
    def seed_of(event: gr.EventData) -> list[Any]:
        return [str(studio.annotation.sample(text(event._data, "sample")).seed), gr.update(open=True)]

    @told
    def from_file(file: Any) -> list[Any]:
        found, left_out = from_png(str(file))
        said = escape(f"The form has the settings of this picture. {left_out}".strip())
        gr.Info(said, duration=15 if left_out else 5)
        return [*found, None]

    # -- the blind vote

    @told
    def begin(kept: Any, event: gr.EventData, profile: gr.OAuthProfile | None) -> dict[str, Any]:
        ask, writer = read_ask(event._data), shared.writer(studio, kept, profile)
        return sittings.begin(studio.grids.get(ask.grid), ask.base, ask.other, writer)

    def cast(kept: Any, event: gr.EventData, profile: gr.OAuthProfile | None) -> dict[str, Any]:
        """A vote that cannot be kept leaves the pair where it is, and says why."""
        try:
            round, token, choice = read_vote(event._data)
            if sittings.who(round) != shared.writer(studio, kept, profile):
                raise ValueError("Your name has changed since this vote was begun: close it and begin again.")
            return sittings.cast(round, token, choice)
        except Exception as error:  # noqa: BLE001 - told beside the pair
            return sorry(sentence(error))

    @told
    def finish(event: gr.EventData) -> dict[str, Any]:
        return sittings.finish(text(event._data, "token"))

    @told
    def vote_on(event: gr.EventData) -> dict[str, Any]:
        return sittings.again(text(event._data, "token"))

    quick = shared.QUICK
    says = shared.ASKED
    grid.more(more, who, [*form.fields, *page], js=memory.known([who]), trigger_mode="multiple", **quick)
    form.start.click(start, [who, form.keep, *form.fields], [form.seeds, *page], **says)
    example.click(first, who, [*form.fields, *page], **says)
    grid.halt(halt, who, grid, **says)
    grid.go_on(go_on, who, grid, **says)
    earlier.pick(pick, who, page, **says)
    grid.open(look, who, pair, **says)
    grid.pack(pack, who, packed, **says).success(None, None, None, js=DOWNLOAD)
    grid.reuse(from_grid, None, [*form.fields, drawer], **says)
    pair.reuse(from_sample, None, [*form.fields, drawer], **says)
    pair.reseed(seed_of, None, [form.seeds, drawer], **says)
    form.drop.upload(from_file, form.drop, [*form.fields, drawer, form.drop], **says)
    form.randomise.click(seeds_form.drawn_anew, form.seeds, form.seeds, **says)
    grid.vote(begin, who, vote, **says)
    vote.cast(cast, who, vote, trigger_mode="multiple", **quick)
    vote.finish(finish, None, vote, **says)
    vote.again(vote_on, None, vote, **says)
    tab.select(lambda: gr.update(choices=studio.grids.methods()), None, form.methods, **quick)
    gr.on(
        [tab.select, *(field.change for field in form.fields)],
        seeds_form.planned, form.fields, form.plan, trigger_mode="always_last", **quick,
    )  # fmt: skip
    return SeedsTab(pair)
