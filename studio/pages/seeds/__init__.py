"""The page Seeds: a grid of seeds by variants, with a viewer and a blind vote."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from functools import partial
from html import escape
from typing import Any

import gradio as gr

from studio.access.limits import limits, may_tend, may_write
from studio.components import grid as cells
from studio.components import notices, viewer
from studio.components.grid import SeedGrid, grid_value, no_grid, read_ask, strongest
from studio.components.scripted import text
from studio.components.table import Table, number, picked, rows
from studio.components.thumbnails import thumbnail
from studio.components.viewer import PairViewer, pair_value
from studio.components.vote import BlindVote, read_vote, sorry
from studio.errors import sentence
from studio.grids.grid import GridView, grid_change
from studio.images import png_text
from studio.images.options import default_options, lora_names, replaced
from studio.pages import runs, sampling, shared
from studio.pages.memory import Memory
from studio.pages.seeds import form as seeds_form
from studio.pages.seeds.vote import LIGHT, Sittings
from studio.pages.shared import ASKED, QUICK, Loading, Update, shows_errors
from studio.studio import SampleView, Studio

EMPTY = (
    "The same seeds, made in several ways, beside each other: see which ones the projector mends and which it breaks. "
    "Say what to draw above and press Make the grid, or begin with a small one."
)
LISTED = 20
CHANGES = 64  # comparisons of two columns that are kept
DOWNLOAD = "() => setTimeout(() => document.querySelector('#seeds-zip')?.click(), 50)"


def build(studio: Studio, loading: Loading, tab: gr.Tab, memory: Memory) -> PairViewer:
    """The tab; returns the viewer, whose ``annotate`` says which sample to open in Annotate."""
    sittings = Sittings(studio)
    changes: dict[tuple[Any, ...], dict[str, Any]] = {}
    who = memory.who

    with gr.Accordion("What to draw", open=True, elem_id="seeds-form") as drawer:
        form = seeds_form.build(studio)
    with gr.Column(visible=True) as nothing:
        shared.html(notices.empty(EMPTY))
        example = gr.Button("Make a small grid", elem_classes="action", elem_id="seeds-example")
    grid = SeedGrid(elem_id="seed-grid")
    pair, vote = PairViewer(elem_id="pair-viewer"), BlindVote(elem_id="blind-vote")
    with gr.Accordion("Earlier grids", open=False, elem_id="seeds-earlier"):
        earlier = Table(caption="The newest first", elem_id="seeds-list")
    packed = gr.DownloadButton("Zip", visible="hidden", elem_id="seeds-zip")

    page = [grid, nothing, drawer, earlier]

    def small(sample: SampleView) -> str:
        return thumbnail(sample.image_path, sample.id, lossless=LIGHT)

    def change(view: GridView, base: int, other: int) -> dict[str, Any] | None:
        """The comparison of two columns, computed anew only when a cell has changed."""
        if not cells.comparable(view, base, other):
            return None
        stamps = tuple(cells.stamp_of(cell.sample) for cell in view.cells if cell.sample)
        key = (view.id, base, other, hash(stamps))
        if key not in changes:
            compared = grid_change(view, base, other)
            points = [{**point, "seed": str(point["seed"])} for point in compared["points"]]
            marked = {name: [str(seed) for seed in compared[name]] for name in ("broken", "mended")}
            changes[key] = {**compared, **marked, "points": points}
            if len(changes) > CHANGES:
                changes.pop(next(iter(changes)), None)
        return changes[key]

    def value_of(view: GridView, ask: Any, compared: Any, **more: Any) -> dict[str, Any]:
        """The grid's value with the detector's opinions so far: it looks in its own time, and no cell waits for it."""
        opinions, looking = studio.detector.known([cell.sample for cell in view.cells if cell.sample])
        return grid_value(view, small, ask, compared, opinions, looking=looking, **more)

    def listed() -> dict[str, Any]:
        grids = studio.grids.find(LISTED)
        body = [
            [one["prompt"], number(f"{one['done']} of {one['total']}"), runs.badge(one), runs.when(one)]
            for one in grids
        ]
        head, keys = ["prompt", "images", "state", "when"], [one["id"] for one in grids]
        return rows(head, body, keys=keys, empty="No grid was made yet: each one you make is kept here.")

    def rights(view: GridView, kept: Any, profile: Any) -> dict[str, Any]:
        """Whether Stop and Go on are shown, and why the blind vote is off; who presses one must prove who they are."""
        person, token = shared.person(kept, profile), shared.with_token()
        tends = not may_tend(studio.settings, view.made_by, person, profile, token=token)
        return {"tends": tends, "votes": may_write(studio.settings, profile)}

    def opened(id: str, kept: Any, profile: Any) -> Update:
        """This grid, with the form folded away."""
        view = studio.grids.get(id, shared.person(kept, profile))
        compared = change(view, 0, strongest(view))
        value = value_of(view, None, compared, opened=True, **rights(view, kept, profile))
        return {
            grid: value,
            nothing: gr.update(visible=False),
            drawer: gr.update(open=False),
            earlier: listed(),
        }

    def closed(problem: str = "") -> Update:
        shown = {nothing: gr.update(visible=True), drawer: gr.update(open=True)}
        return {grid: no_grid(problem), earlier: listed(), **shown}

    def again(id: str, kept: Any, profile: Any) -> dict[str, Any]:
        """The grid after something was done to it; the page asks for the cells that it lacks."""
        view = studio.grids.get(id, shared.person(kept, profile))
        return {**value_of(view, None, None, **rights(view, kept, profile)), "cells": [], "more": True}

    def filled(values: Sequence[Any]) -> Update:
        return dict(zip(form.fields, values, strict=True))

    def asked_of(id: str) -> Update:
        """The form as it asks for a grid again."""
        config, view = studio.store.grids.get(id)["config"], studio.grids.get(id)
        sides = config.get("width"), config.get("height")
        if another := replaced(studio.settings, view.options.hashes):
            gr.Info(escape(another), duration=15)
        return filled(seeds_form.of_grid(view, studio.grids.methods(), *sides))

    @shows_errors
    def more(kept: Any, event: gr.EventData, profile: gr.OAuthProfile | None) -> Update:
        """The cells that the page does not have yet; where it knows no grid, one that is being made, else this
        person's last. A page that has just been opened gets the grid's settings in the form, too."""
        ask, writer = read_ask(event._data), shared.person(kept, profile)
        if not ask.grid:
            latest = studio.grids.find(LISTED)
            theirs = [g["id"] for g in latest[:1] if g["state"] in runs.ACTIVE] or [
                g["id"] for g in latest if g["who"] == writer
            ]
            return {**asked_of(theirs[0]), **opened(theirs[0], kept, profile)} if theirs else closed()
        try:
            view = studio.grids.get(ask.grid, writer)
        except ValueError as error:
            return closed(sentence(error))
        compared = change(view, ask.base, ask.other)
        value = value_of(view, ask, compared, **rights(view, kept, profile))
        if not ask.fresh:
            return {grid: value} if view.state in runs.ACTIVE else {grid: value, earlier: listed()}
        shown = {nothing: gr.update(visible=False), drawer: gr.update(open=False)}
        return {**asked_of(view.id), grid: value, earlier: listed(), **shown}

    def begun(asked: list[Any], kept: Any, profile: Any) -> str:
        if loading.problem:
            raise ValueError(loading.problem)
        request = seeds_form.request_of(studio.settings, *asked)
        limits(studio, profile).check_grid(request, studio.store)
        return studio.grids.start(request, shared.proven(studio, kept, profile))

    @shows_errors
    def start(profile: gr.OAuthProfile | None, kept: Any, locked: Any, *asked: Any) -> Update:
        fields = list(asked)
        if locked is False:
            fields[1] = seeds_form.drawn_anew(fields[1])
        return {form.seeds: fields[1], **opened(begun(fields, kept, profile), kept, profile)}

    @shows_errors
    def first(kept: Any, profile: gr.OAuthProfile | None) -> Update:
        """The example: small, so that it is there in seconds."""
        methods = seeds_form.starting(studio.grids.methods())
        fields = [seeds_form.FIRST["prompt"], seeds_form.FIRST["seeds"], methods, "1", "", "", None, None]
        fields += sampling.values_of(default_options(studio.settings))
        return {**filled(fields), **opened(begun(fields, kept, profile), kept, profile)}

    @shows_errors
    def halt(kept: Any, event: gr.EventData, profile: gr.OAuthProfile | None) -> dict[str, Any]:
        id = text(event._data, "grid")
        studio.grids.stop(id, shared.tender(studio, id, kept, profile))
        gr.Info("The grid stops after the step it is in; what is made is kept.", duration=5)
        return again(id, kept, profile)

    @shows_errors
    def go_on(kept: Any, event: gr.EventData, profile: gr.OAuthProfile | None) -> dict[str, Any]:
        id = text(event._data, "grid")
        writer = shared.tender(studio, id, kept, profile)
        limits(studio, profile).check_grid(studio.grids.request(id), studio.store)
        studio.grids.resume(id, writer)
        return again(id, kept, profile)

    @shows_errors
    def pick(kept: Any, event: gr.EventData, profile: gr.OAuthProfile | None) -> Update:
        return opened(picked(event._data), kept, profile)

    @shows_errors
    def look(kept: Any, event: gr.EventData, profile: gr.OAuthProfile | None) -> dict[str, Any]:
        """Two cells in full, or one."""
        data, writer = event._data, shared.person(kept, profile)
        view = studio.grids.get(text(data, "grid"), writer)
        names: dict[str, list[str]] = defaultdict(list)
        seeds: dict[str, int] = {}
        for cell in view.cells:
            if cell.sample:
                names[cell.sample.id].append(view.variants[cell.variant].name)
                seeds[cell.sample.id] = cell.seed
        ids = list(dict.fromkeys(text(data, name) for name in ("left", "right")))
        if any(id not in names for id in ids):
            raise ValueError("That image is not in this grid: reload the page.")
        samples = [studio.annotation.sample(id, writer) for id in ids]
        opinions, _ = studio.detector.known(samples)

        def side(sample: SampleView, before: SampleView | None = None) -> dict[str, Any]:
            try:
                png = studio.grid_files.png(sample.id)
            except ValueError:
                png = None
            name, opinion = " and ".join(names[sample.id]), opinions.get(sample.id)
            return viewer.side(name, sample, png, before, seed=seeds[sample.id], opinion=opinion)

        left = side(samples[0])
        right = side(samples[1], samples[0]) if len(ids) > 1 else None
        return pair_value(view.prompt, left, right, steps=True)

    @shows_errors
    def pack(kept: Any, event: gr.EventData) -> str:
        id = studio.grids.get(text(event._data, "grid")).id
        with shared.room() as folder:
            return shared.download(studio.grid_files.zip(id, folder / f"grid-{id}.zip"))

    # -- the form, filled again

    @shows_errors
    def from_grid(event: gr.EventData) -> Update:
        return {**asked_of(text(event._data, "grid")), drawer: gr.update(open=True)}

    def from_png(content: bytes | str) -> tuple[Update, str]:
        """The form as a picture says, and what of the picture was left out."""
        settings = png_text.read_png(content)
        fields, note = seeds_form.of_picture(settings, studio.grids.methods(), lora_names(studio.settings))
        note = f"{note} {replaced(studio.settings, settings['hashes'])}".strip()
        seeds_form.request_of(studio.settings, *fields)  # held to the same bounds as what is typed
        return {**filled(fields), drawer: gr.update(open=True)}, note

    @shows_errors
    def from_sample(event: gr.EventData) -> Update:
        update, left_out = from_png(studio.grid_files.png(text(event._data, "sample")))
        if left_out:
            gr.Info(escape(left_out), duration=15)
        return update

    @shows_errors
    def seed_of(event: gr.EventData) -> Update:
        seed = str(studio.annotation.sample(text(event._data, "sample")).seed)
        return {form.seeds: seed, drawer: gr.update(open=True)}

    @shows_errors
    def from_file(file: Any) -> Update:
        update, left_out = from_png(str(file))
        said = escape(f"The form has the settings of this picture. {left_out}".strip())
        gr.Info(said, duration=15 if left_out else 5)
        return {**update, form.drop: None}

    # -- the blind vote

    @shows_errors
    def begin(kept: Any, event: gr.EventData, profile: gr.OAuthProfile | None) -> dict[str, Any]:
        ask, writer = read_ask(event._data), shared.writer(studio, kept, profile)
        return sittings.begin(studio.grids.get(ask.grid), ask.base, ask.other, writer)

    def cast(kept: Any, event: gr.EventData, profile: gr.OAuthProfile | None) -> dict[str, Any]:
        """Store a vote. One that cannot be stored leaves the pair in place, and says why."""
        try:
            round, token, choice = read_vote(event._data)
            if sittings.who(round) != shared.writer(studio, kept, profile):
                raise ValueError("Your name has changed since this vote was begun: close it and begin again.")
            return sittings.cast(round, token, choice)
        except Exception as error:  # noqa: BLE001 - told beside the pair
            return sorry(sentence(error))

    @shows_errors
    def finish(event: gr.EventData) -> dict[str, Any]:
        return sittings.finish(text(event._data, "token"))

    @shows_errors
    def vote_on(event: gr.EventData) -> dict[str, Any]:
        return sittings.again(text(event._data, "token"))

    grid.more(more, who, [*form.fields, *page], js=memory.known([who]), trigger_mode="multiple", **QUICK)
    form.start.click(start, [who, form.keep, *form.fields], [form.seeds, *page], **ASKED)
    example.click(first, who, [*form.fields, *page], **ASKED)
    grid.halt(halt, who, grid, **ASKED)
    grid.go_on(go_on, who, grid, **ASKED)
    earlier.pick(pick, who, page, **ASKED)
    grid.open(look, who, pair, **ASKED)
    grid.pack(pack, who, packed, **ASKED).success(None, None, None, js=DOWNLOAD)
    grid.reuse(from_grid, None, [*form.fields, drawer], **ASKED)
    pair.reuse(from_sample, None, [*form.fields, drawer], **ASKED)
    pair.reseed(seed_of, None, [form.seeds, drawer], **ASKED)
    form.drop.upload(from_file, form.drop, [*form.fields, drawer, form.drop], **ASKED)
    form.randomise.click(seeds_form.drawn_anew, form.seeds, form.seeds, **ASKED)
    grid.vote(begin, who, vote, **ASKED)
    vote.cast(cast, who, vote, trigger_mode="multiple", **QUICK)
    vote.finish(finish, None, vote, **ASKED)
    vote.again(vote_on, None, vote, **ASKED)
    tab.select(lambda: gr.update(choices=studio.grids.methods()), None, form.methods, **QUICK)
    gr.on(
        [tab.select, *(field.change for field in form.fields)],
        partial(seeds_form.planned, studio.settings), form.fields, form.plan, trigger_mode="always_last", **QUICK,
    )  # fmt: skip
    return pair
