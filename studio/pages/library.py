"""Library: everything that is kept. Look through samples, labels and runs; take them out and in; back up; who did what.

The labels are in ``library_words``, the runs in ``library_runs``, the panels that carry things in ``library_carry`` and
``library_keep``, what a sample looks like in ``library_views``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import gradio as gr

from data.store.library import SORTS
from studio.components.cards import Cards
from studio.components.table import Table, picked
from studio.pages import library_exchange, library_keep, library_runs, library_words, shared
from studio.pages import library_views as views
from studio.pages.memory import Memory
from studio.pages.rights import Rights
from studio.pages.shared import told
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
# the run that was opened, in the table of its tab
SHOW_RUN = """(run) => {
  const look = (left) => {
    const line = document.querySelector(`:is(#runs, #experiments) [data-key="${CSS.escape(run)}"]`);
    if (line) line.scrollIntoView({ block: "center" }); else if (left) setTimeout(look, 150, left - 1);
  };
  if (run) look(20);
}"""


FIRST: dict[str, Any] = {
    "keys": [None],
    "next": None,
}  # what each page up to this one begins after, and the next one


@dataclass
class LibraryTab:
    """What the page joins with other tabs: 'Annotate this' (the sample's id is in ``chosen``), 'Compare a prompt', and
    the table of runs, whose ``pick_run(event)`` is (id, kind); ``SHOW_RUN`` shows the one whose id is in ``run`` in its
    tab's own table."""

    chosen: gr.Textbox
    annotate: gr.Button
    compare: gr.Button
    run: gr.Textbox
    runs: Table
    pick_run: Any


def build(studio: Studio, tab: gr.Tab, memory: Memory, rights: Rights) -> LibraryTab:
    who = memory.who
    chosen, run = gr.Textbox(visible=False), gr.Textbox(visible=False)
    place = gr.State(FIRST)

    with gr.Tabs(elem_id="library"):
        with gr.Tab("Browse", id="browse"):
            with gr.Column() as listed:
                with gr.Row(equal_height=False):
                    text = gr.Textbox(
                        label="Search prompts",
                        placeholder="words of a prompt, or the id of an image",
                        max_length=500,
                        elem_id="library-search",
                        scale=5,
                        min_width=200,
                    )
                    sort = gr.Dropdown(
                        [(ORDERS[name], name) for name in SORTS],
                        value="newest",
                        label="Order",
                        elem_id="library-sort",
                        scale=2,
                        min_width=150,
                    )
                    look = gr.Radio(
                        [("Images", "images"), ("Labels", "labels")],
                        value="images",
                        label="Show",
                        elem_id="library-look",
                        scale=2,
                        min_width=230,
                    )
                with gr.Accordion("Filters", open=False, elem_id="library-filters"), gr.Row():

                    def menu(label: str, name: str, choices: list[Any]) -> gr.Dropdown:
                        return gr.Dropdown(
                            choices, value="", label=label, elem_id=f"library-{name}", min_width=118
                        )

                    filters = {
                        "prompt_set": menu("Prompt set", "set", [ALL]),
                        "split": menu("Split", "split", [ALL]),
                        "method": menu("Method", "method", [ALL]),
                        "projector_run": menu("Projector run", "run", [ALL]),
                        "who": menu("Scored by", "who", [ALL, ("Anyone", "*")]),
                        "remark": menu(
                            "Remarks", "remark", [ALL, ("Flagged", "flag"), ("With a note", "note")]
                        ),
                        "disagreement": menu(
                            "People differ by",
                            "disagreement",
                            [ALL, *((f"{n} points or more", str(n)) for n in (1, 2, 3, 5))],
                        ),
                        "mean_from": menu("Mean score from", "mean-from", [ALL, *map(str, range(1, 10))]),
                        "mean_to": menu("Mean score to", "mean-to", [ALL, *map(str, range(9))]),
                    }
                narrow, words_asked = library_words.build()
                amount = shared.html(elem_id="library-count")
                pictures = Cards(label="Images", elem_id="library-images")
                table = Table(
                    caption=library_words.CAPTION,
                    visible=False,
                    elem_id="library-labels",
                )
                compare = gr.Button(
                    "Compare a prompt", visible=False, elem_classes="action", elem_id="library-compare"
                )
                with gr.Row(visible=False) as paging:
                    back = gr.Button("Previous page", elem_id="library-previous")
                    on = gr.Button("Next page", elem_id="library-next")
            with gr.Column(visible=False, elem_id="library-one") as one:
                with gr.Row():
                    close = gr.Button("Back", elem_id="library-close")
                    annotate = gr.Button("Annotate this", variant="primary", elem_id="library-annotate")
                with gr.Row(equal_height=False):
                    with gr.Column(scale=5, min_width=280):
                        picture = gr.Image(
                            show_label=False,
                            format="png",
                            interactive=False,
                            buttons=["fullscreen"],
                            elem_id="library-picture",
                            elem_classes="picture",
                        )
                    with gr.Column(scale=7, min_width=300):
                        about = shared.html(elem_id="library-about")
                        remarks = shared.html(elem_id="library-remarks")
                        words = Table(caption="Scores of each word, 0 to 9", elem_id="library-words")
                history = Table(
                    caption="All that was said of it, the newest first", elem_id="library-history"
                )
        with gr.Tab("Runs", id="library-runs") as runs_tab:
            runs = library_runs.build(studio, runs_tab)
        library_exchange.build(studio, who, rights)
        library_keep.build(studio, who, rights)

    asked = [who, text, sort, look, *filters.values(), *words_asked]
    page = [amount, narrow, pictures, table, compare, paging, back, on, place]
    detail = [listed, one, chosen, picture, about, remarks, words, history]

    def search(keys: list[Any], given: tuple[Any, ...], kept: Any, profile: Any) -> list[Any]:
        """Values of ``page``: the page that begins after the last of the keys."""
        golden = shared.manages(studio, kept, profile)
        wanted, order, how, *rest = given
        chosen_filters, as_images = rest[: len(filters)], how != "labels"
        wish = library_words.Wish.of(*rest[len(filters) :])
        named = {name: value or None for name, value in zip(filters, chosen_filters, strict=True)}
        for name in POINTS:
            if named[name] is not None:
                named[name] = _points(filters[name].label, named[name])
        found = studio.store.library.search(
            wanted or "",
            sort=order,
            after=keys[-1],
            limit=PAGE if as_images else library_words.LOOKED,
            gold=golden,
            **named,
        )
        samples = found["samples"]
        said = [] if as_images else library_words.chosen(samples, wish)
        nothing = not found["samples"]
        fresh = nothing and not studio.store.samples.find(limit=1)
        none = views.EMPTY if fresh else views.NONE
        return [
            views.count(found, len(keys) - 1, order)
            if as_images
            else library_words.count(said, len(samples), found, len(keys) - 1),
            gr.update(visible=not as_images),
            gr.update(
                value=views.gallery(studio, found["samples"], none) if as_images else None, visible=as_images
            ),
            gr.update(
                value=None
                if as_images
                else library_words.lines(said, library_words.NONE if samples else none, golden),
                visible=not as_images,
            ),
            gr.update(visible=fresh),
            gr.update(visible=len(keys) > 1 or found["next"] is not None),
            gr.update(interactive=len(keys) > 1),
            gr.update(interactive=found["next"] is not None),
            {"keys": keys, "next": found["next"]},
        ]

    @told
    def first(profile: gr.OAuthProfile | None, kept: Any, *given: Any) -> list[Any]:
        return search([None], given, kept, profile)

    @told
    def forward(profile: gr.OAuthProfile | None, at: dict[str, Any], kept: Any, *given: Any) -> list[Any]:
        return search([*at["keys"], at["next"]] if at["next"] else at["keys"], given, kept, profile)

    @told
    def backward(profile: gr.OAuthProfile | None, at: dict[str, Any], kept: Any, *given: Any) -> list[Any]:
        return search(at["keys"][:-1] or [None], given, kept, profile)

    @told
    def opened() -> list[Any]:
        """What the filters can be set to now, when the tab is opened."""
        found = studio.store.library.choices()
        found["who"] = ["*", *found["who"]]
        named = {"*": "Anyone"}
        return [
            gr.update(choices=[ALL, *((named.get(v, v), v) for v in found[name])])
            if name in found
            else gr.skip()
            for name in filters
        ]

    @told
    def open_one(kept: Any, event: gr.EventData, profile: gr.OAuthProfile | None) -> list[Any]:
        id, golden = picked(event._data), shared.manages(studio, kept, profile)
        found = studio.store.library.search(id, limit=1, gold=golden)["samples"]
        if not found or found[0]["id"] != id:
            raise ValueError("This image is not in the store any more: search again.")
        sample = found[0]
        path = studio.settings.home / sample["image_path"] if sample["image_path"] else None
        image = shared.picture(str(path)) if path else None
        return [
            gr.update(visible=False),
            gr.update(visible=True),
            id,
            gr.update(value=image, visible=image is not None),
            views.about(studio, sample, image is None),
            views.remarks(studio.store.remarks.find(sample=id)),
            views.words(studio.store.scores.current(id), sample["words"]),
            views.history(studio.store.library.events(id, gold=golden)),
        ]

    def closed() -> list[Any]:
        return [gr.update(visible=True), gr.update(visible=False)]

    quick = shared.QUICK
    tab.select(first, asked, page, js=memory.known(asked), **quick)
    text.submit(first, asked, page, **quick)
    tab.select(opened, None, list(filters.values()), **quick)
    text.change(first, asked, page, trigger_mode="multiple", **quick)
    words_asked[0].change(first, asked, page, trigger_mode="multiple", **quick)
    for part in (sort, look, *filters.values(), *words_asked[1:]):
        part.input(first, asked, page, **shared.ASKED)
    on.click(forward, [place, *asked], page, **shared.ASKED)
    back.click(backward, [place, *asked], page, **shared.ASKED)
    for part in (pictures, table):
        part.pick(open_one, who, detail, **shared.ASKED)
    close.click(closed, None, [listed, one], **shared.ASKED)
    return LibraryTab(chosen, annotate, compare, run, runs.table, runs.pick_run)


def _points(label: str, value: Any) -> float:
    """A number of points, as it came over HTTP."""
    try:
        return float(value)
    except (TypeError, ValueError):
        raise ValueError(f"“{label}” must be a number of points from 0 to 9.") from None
