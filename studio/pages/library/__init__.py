"""The page Library: search samples, labels and runs; export, import and back up; the audit log."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import gradio as gr

from data.store.library import SORTS
from studio.components.cards import Cards
from studio.components.table import Table, picked
from studio.numbers import real
from studio.pages import shared
from studio.pages.library import backup, exchange, views
from studio.pages.library import runs as runs_tab
from studio.pages.library import words as words_tab
from studio.pages.memory import Memory
from studio.pages.people import Rights
from studio.pages.shared import ASKED, QUICK, Update, shows_errors
from studio.studio import Studio

PAGE = 24
ALL = ("All", "")
ORDERS = {
    "newest": "Newest",
    "oldest": "Oldest",
    "uncertain": "Scorer least sure",
    "disagreement": "People disagree most",
    "lowest": "Lowest mean score",
    "highest": "Highest mean score",
    "prompt": "Prompt",
    "seed": "Seed",
}
POINTS = ("disagreement", "mean_from", "mean_to")  # filters that are numbers
# label and choices, to which those of the store are added
FILTERS: dict[str, tuple[str, list[Any]]] = {
    "prompt_set": ("Prompt set", []),
    "split": ("Split", []),
    "method": ("Method", []),
    "projector_run": ("Projector run", []),
    "who": ("Scored by", [("Anyone", "*")]),
    "remark": ("Remarks", [("Flagged", "flag"), ("With a note", "note")]),
    "disagreement": ("People differ by", [(f"{n} points or more", str(n)) for n in (1, 2, 3, 5)]),
    "mean_from": ("Mean score from", [str(n) for n in range(1, 10)]),
    "mean_to": ("Mean score to", [str(n) for n in range(9)]),
}
# the run that was opened, in the table of its tab
SHOW_RUN = """(run) => {
  const look = (left) => {
    const line = document.querySelector(`:is(#runs, #experiments) [data-key="${CSS.escape(run)}"]`);
    if (line) line.scrollIntoView({ block: "center" }); else if (left) setTimeout(look, 150, left - 1);
  };
  if (run) look(20);
}"""


# what each page up to this one begins after, and the next one
FIRST: dict[str, Any] = {"keys": [None], "next": None}


@dataclass
class LibraryTab:
    """What the page joins with other tabs: 'Annotate this' (the sample's id is in ``chosen``), 'Compare a prompt',
    and the table of runs, whose ``pick_run(event)`` is (id, kind); ``SHOW_RUN`` scrolls to the run in ``run`` in
    its own tab's table."""

    chosen: gr.Textbox
    annotate: gr.Button
    compare: gr.Button
    run: gr.Textbox
    runs: Table
    pick_run: Callable[[gr.EventData], tuple[str, str]]


def build(studio: Studio, tab: gr.Tab, memory: Memory, rights: Rights) -> LibraryTab:
    who = memory.who
    chosen, run = gr.Textbox(visible=False), gr.Textbox(visible=False)
    place = gr.State(FIRST)

    with gr.Tabs(elem_id="library"):
        with gr.Tab("Browse", id="browse"):
            with gr.Column() as listed:
                with gr.Row(equal_height=False):
                    text = gr.Textbox(
                        label="Search prompts", placeholder="words of a prompt, or the id of an image", max_length=500,
                        elem_id="library-search", scale=5, min_width=200,
                    )  # fmt: skip
                    sort = gr.Dropdown(
                        [(ORDERS[name], name) for name in SORTS], value="newest", label="Order", elem_id="library-sort",
                        scale=2, min_width=150,
                    )  # fmt: skip
                    look = gr.Radio(
                        ["Images", "Labels"],
                        value="Images",
                        label="Show",
                        elem_id="library-look",
                        scale=2,
                        min_width=230,
                    )
                with gr.Accordion("Filters", open=False, elem_id="library-filters"), gr.Row():
                    filters = {
                        name: gr.Dropdown(
                            [ALL, *choices],
                            value="",
                            label=label,
                            elem_id=f"library-{name.replace('_', '-')}",
                            min_width=118,
                        )
                        for name, (label, choices) in FILTERS.items()
                    }
                narrow, words_asked = words_tab.build()
                amount = shared.html(elem_id="library-count")
                pictures = Cards(label="Images", elem_id="library-images")
                table = Table(caption=words_tab.CAPTION, visible=False, elem_id="library-labels")
                compare = gr.Button("Compare a prompt", visible=False, elem_classes="action")
                with gr.Row(visible=False) as paging:
                    previous = gr.Button("Previous page", elem_id="library-previous")
                    following = gr.Button("Next page", elem_id="library-next")
            with gr.Column(visible=False) as one:
                with gr.Row():
                    close = gr.Button("Back", elem_id="library-close")
                    annotate = gr.Button("Annotate this", variant="primary", elem_id="library-annotate")
                with gr.Row(equal_height=False):
                    with gr.Column(scale=5, min_width=280):
                        picture = shared.image("library-picture")
                    with gr.Column(scale=7, min_width=300):
                        about = shared.html()
                        remarks = shared.html()
                        words = Table(caption="Scores of each word, 0 to 9", elem_id="library-words")
                history = Table(
                    caption="All that was said of it, the newest first", elem_id="library-history"
                )
        with gr.Tab("Runs", id="library-runs") as panel:
            runs, pick_run = runs_tab.build(studio, panel)
        exchange.build(studio, who, rights)
        backup.build(studio, who, rights)

    asked = [who, text, sort, look, *filters.values(), *words_asked]
    page = [amount, narrow, pictures, table, compare, paging, previous, following, place]
    detail = [listed, one, chosen, picture, about, remarks, words, history]

    def search(keys: list[Any], given: tuple[Any, ...], kept: Any, profile: Any) -> Update:
        """The page of results after the last of the keys."""
        golden = shared.manages(studio, kept, profile)
        wanted, order, how, *rest = given
        as_images = how != "Labels"
        word_filter = words_tab.WordFilter.read(*rest[len(filters) :])
        named = {name: value or None for name, value in zip(filters, rest, strict=False)}
        for name in POINTS:
            if named[name] is not None:
                named[name] = real(FILTERS[name][0].lower(), named[name], 0, 9)
        results = studio.store.library.search(
            wanted or "",
            sort=order,
            after=keys[-1],
            limit=PAGE if as_images else words_tab.LOOKED,
            gold=golden,
            **named,
        )
        samples, number = results["samples"], len(keys) - 1
        fresh = not samples and not studio.store.samples.find(limit=1)
        none = views.EMPTY if fresh else views.NONE
        if as_images:
            shown = {
                amount: views.count(results, number, order),
                pictures: gr.update(value=views.gallery(studio, samples, none), visible=True),
                table: gr.update(value=None, visible=False),
            }
        else:
            words = words_tab.chosen(samples, word_filter)
            lines = words_tab.lines(words, words_tab.NONE if samples else none, golden)
            shown = {
                amount: words_tab.count(words, len(samples), results, number),
                pictures: gr.update(value=None, visible=False),
                table: gr.update(value=lines, visible=True),
            }
        return {
            **shown,
            narrow: gr.update(visible=not as_images),
            compare: gr.update(visible=fresh),
            paging: gr.update(visible=len(keys) > 1 or results["next"] is not None),
            previous: gr.update(interactive=len(keys) > 1),
            following: gr.update(interactive=results["next"] is not None),
            place: {"keys": keys, "next": results["next"]},
        }

    @shows_errors
    def first(profile: gr.OAuthProfile | None, kept: Any, *given: Any) -> Update:
        return search([None], given, kept, profile)

    @shows_errors
    def forward(profile: gr.OAuthProfile | None, at: dict[str, Any], kept: Any, *given: Any) -> Update:
        return search([*at["keys"], *([at["next"]] if at["next"] else [])], given, kept, profile)

    @shows_errors
    def backward(profile: gr.OAuthProfile | None, at: dict[str, Any], kept: Any, *given: Any) -> Update:
        return search(at["keys"][:-1] or [None], given, kept, profile)

    @shows_errors
    def opened() -> Update:
        """The choices of the filters, read when the tab is opened."""
        return {
            filters[name]: gr.update(choices=[ALL, *FILTERS[name][1], *values])
            for name, values in studio.store.library.choices().items()
        }

    @shows_errors
    def open_one(kept: Any, event: gr.EventData, profile: gr.OAuthProfile | None) -> Update:
        id, golden = picked(event._data), shared.manages(studio, kept, profile)
        results = studio.store.library.search(id, limit=1, gold=golden)["samples"]
        if not results or results[0]["id"] != id:
            raise ValueError("This image is not in the store any more: search again.")
        sample = results[0]
        image = shared.picture(studio.annotation.sample(id).image_path)
        return {
            listed: gr.update(visible=False),
            one: gr.update(visible=True),
            chosen: id,
            picture: gr.update(value=image, visible=image is not None),
            about: views.about(sample, image is None),
            remarks: views.remarks(studio.store.remarks.find(sample=id)),
            words: views.words(studio.store.scores.current(id), sample["words"]),
            history: views.history(studio.store.library.events(id, gold=golden)),
        }

    def closed() -> Update:
        return {listed: gr.update(visible=True), one: gr.update(visible=False)}

    tab.select(first, asked, page, js=memory.known(asked), **QUICK)
    tab.select(opened, None, list(filters.values()), **QUICK)
    text.submit(first, asked, page, **QUICK)
    for part in (text, words_asked[0]):
        part.change(first, asked, page, trigger_mode="multiple", **QUICK)
    for part in (sort, look, *filters.values(), *words_asked[1:]):
        part.input(first, asked, page, **ASKED)
    following.click(forward, [place, *asked], page, **ASKED)
    previous.click(backward, [place, *asked], page, **ASKED)
    for part in (pictures, table):
        part.pick(open_one, who, detail, **ASKED)
    close.click(closed, None, [listed, one], **ASKED)
    return LibraryTab(chosen, annotate, compare, run, runs, pick_run)
