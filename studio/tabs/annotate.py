"""Annotate: an image, its words with the scorer's digits, and a person who knows better; each key is kept at once."""

from __future__ import annotations

from dataclasses import dataclass
from html import escape
from typing import Any

import gradio as gr

from studio.components import notices
from studio.components.table import Table, picked, rows
from studio.components.word_scores import Inbox, Operation, WordScores, chips, read_packet
from studio.service import SampleView, Studio, sentence
from studio.tabs import people, shared
from studio.tabs.memory import Memory
from studio.tabs.shared import told

ORDERS = [
    ("Most useful", "uncertainty"),
    ("Newest", "newest"),
    ("Random", "random"),
    ("People disagree", "disagreement"),
]
HISTORY = 30
EMPTY = "There is no image to correct yet. Compare a prompt first: each image of it comes here by itself."
TAKEN = (
    "Others are at work on the images that are left. Come back in a few minutes, or compare another prompt."
)
AGREED = "There is no image left on which people disagree. Choose another order."
DONE = "All images are done. Compare more prompts, or train on what you have corrected."


@dataclass
class AnnotateTab:
    """What another tab needs to open an image here: ``open(sample, who, order)`` gives values for ``outputs``."""

    open: Any
    inputs: list[Any]
    outputs: list[Any]
    compare: gr.Button


def build(studio: Studio, page: gr.Blocks, tab: gr.Tab, memory: Memory) -> AnnotateTab:
    inbox, who, place = Inbox(), memory.who, memory.sample

    with gr.Row(equal_height=False):
        with gr.Column(scale=5, min_width=280):
            people.build(studio, page, memory)
            with gr.Row():
                order = gr.Dropdown(
                    ORDERS, value="uncertainty", label="Next comes", elem_id="order", min_width=150
                )
            picture = gr.Image(
                show_label=False,
                format="png",
                interactive=False,
                buttons=["fullscreen"],
                visible=False,
                elem_id="annotate-image",
                elem_classes="picture",
            )
        with gr.Column(scale=7, min_width=320):
            with gr.Column(visible=False) as nothing:
                empty = shared.html(notices.empty(EMPTY))
                compare = gr.Button("Compare a prompt", elem_classes="action", elem_id="to-compare")
            with gr.Column(visible=False) as item:
                about = shared.html(elem_id="about-item")
                words = WordScores(editable=True, elem_id="annotate-words")
                why = shared.html(elem_id="why-next")
            progress = shared.html(elem_id="annotate-progress")
            with gr.Accordion("My corrections", open=False):
                history = Table(caption="My last corrections, the newest first", elem_id="history")

    whole = [nothing, empty, item, picture, about, words, why, place]
    record = [progress, history]

    def none_left(writer: str, order: str) -> str:
        """Why there is nothing to show."""
        if not studio.progress(writer)["samples"]:
            return EMPTY
        if studio.next_item(writer, order, lease=None):
            return TAKEN
        return AGREED if order == "disagreement" else DONE

    def drawn(view: SampleView | None, writer: str, order: str, **more: Any) -> list[Any]:
        """Values of ``whole``."""
        if view is None:
            gone = [
                gr.update(visible=True),
                notices.empty(none_left(writer, order)),
                gr.update(visible=False),
            ]
            return [*gone, gr.update(value=None, visible=False), "", chips([], **more), "", ""]
        image = shared.picture(view.image_path)
        return [
            gr.update(visible=False),
            gr.skip(),
            gr.update(visible=True),
            gr.update(value=image, visible=True),
            _about(view, image is None),
            chips(view.words, sample=view.id, **more),
            f'<p class="quiet">{escape(studio.why_next(order))}</p>',
            view.id,
        ]

    def recorded(writer: str) -> list[Any]:
        """Values of ``record``."""
        return [_progress(studio.progress(writer), writer), _history(studio.history(writer, HISTORY))]

    def current(kept: Any, writer: str, order: str) -> SampleView | None:
        """The image that this browser was at, else the next one."""
        if isinstance(kept, str) and kept:
            try:
                return studio.sample(kept, writer)
            except ValueError:
                pass
        return studio.next_item(writer, order)

    @told
    def fill(
        shown: Any, kept_who: Any, kept_place: Any, order: Any, profile: gr.OAuthProfile | None
    ) -> list[Any]:
        """When the tab is opened: where they were, else the next image; nothing where one is open already."""
        if isinstance(shown, dict) and shown.get("sample"):
            return [gr.skip()] * (len(whole) + len(record))
        writer = shared.person(kept_who, profile)
        return [*drawn(current(kept_place, writer, order), writer, order), *recorded(writer)]

    @told
    def another(
        shown: Any, kept: Any, kept_place: Any, order: Any, profile: gr.OAuthProfile | None
    ) -> list[Any]:
        """Another name is another person: their corrections, their progress, the same image."""
        if not (isinstance(shown, dict) and shown.get("sample")):
            return [gr.skip()] * (len(whole) + len(record))
        writer = shared.person(kept, profile)
        return [*drawn(current(kept_place, writer, order), writer, order), *recorded(writer)]

    @told
    def following(kept_who: Any, order: Any, profile: gr.OAuthProfile | None) -> list[Any]:
        writer = shared.person(kept_who, profile)
        return [*drawn(studio.next_item(writer, order), writer, order), *recorded(writer)]

    @told
    def open_sample(
        sample: str, kept_who: Any, order: Any, profile: gr.OAuthProfile | None = None
    ) -> list[Any]:
        writer = shared.person(kept_who, profile)
        return [*drawn(studio.sample(sample, writer), writer, order), *recorded(writer)]

    @told
    def reopen(kept_who: Any, order: Any, event: gr.EventData, profile: gr.OAuthProfile | None) -> list[Any]:
        """A line of the history: back to its image."""
        writer = shared.person(kept_who, profile)
        return drawn(studio.sample(picked(event._data), writer), writer, order)

    def apply(operation: Operation, sample: str, writer: str) -> None:
        if operation.kind == "set":
            studio.correct(sample, operation.word or 0, operation.score, writer)
        elif operation.kind == "clear":
            studio.correct(sample, operation.word or 0, None, writer)
        elif operation.kind == "undo":
            studio.undo(writer, sample)
        else:
            studio.submit(sample, writer, operation.kind)

    @told
    def edit(kept_who: Any, order: Any, event: gr.EventData, profile: gr.OAuthProfile | None) -> list[Any]:
        """A packet of keys: each done once and in order, and the answer says up to which."""
        packet, writer = read_packet(event._data), shared.writer(studio, kept_who, profile)
        error, left = "", False
        with inbox.page(packet.client):
            for operation in inbox.new(packet):
                try:
                    apply(operation, packet.sample, writer)
                except ValueError as problem:  # a key that cannot be kept is named; those after it go on
                    error = sentence(problem)
                else:
                    left = operation.kind in ("submit", "skip")
                inbox.done(packet.client, operation.revision)
            ack = {
                "client": packet.client,
                "revision": inbox.last(packet.client),
                "error": error,
                "left": left,
            }
            if left:
                view = studio.next_item(writer, order, exclude=packet.sample)
                return [*drawn(view, writer, order, ack=ack), *recorded(writer)]
            view = studio.sample(packet.sample, writer)
        same = [gr.skip()] * len(whole)
        same[whole.index(words)] = chips(view.words, sample=view.id, ack=ack)
        return [*same, *recorded(writer)]

    quick = {"queue": False, "show_progress": "hidden", "api_visibility": "private"}
    tab.select(fill, [words, who, place, order], [*whole, *record], **quick)
    who.change(another, [words, who, place, order], [*whole, *record], **quick)
    order.input(following, [who, order], [*whole, *record], **quick)
    words.edit(edit, [who, order], [*whole, *record], trigger_mode="multiple", **quick)
    history.pick(reopen, [who, order], whole, **quick)
    return AnnotateTab(open_sample, [who, order], [*whole, *record], compare)


def _about(view: SampleView, gone: bool) -> str:
    parts = [f"seed {view.seed}", "with the projector" if view.method == "projected" else "without projector"]
    if view.total is not None:
        parts.append(f"mean score {view.total:.1f} of 9")
    problem = notices.notice("The file of this image is gone; skip it.", problem=True) if gone else ""
    ask = "How well does each word show in the image? 0 not at all, 9 fully."
    return f'{problem}<p class="ask">{ask}</p><p class="quiet">{escape(", ".join(parts))}</p>'


def _progress(found: dict[str, int], writer: str) -> str:
    if not found["samples"]:
        return ""
    done = found["submitted"] + found["skipped"]
    you = "you" if writer.startswith("anonymous-") else writer
    words = (
        f"{found['submitted']} of {found['samples']} images done, {found['skipped']} skipped; "
        f"{found['corrected_words']} words corrected by {you}"
    )
    return notices.bar(done / found["samples"], words)


def _history(events: list[dict[str, Any]]) -> dict[str, Any]:
    said = {"set": "set", "clear": "taken back", "undo": "undone"}
    body = []
    for event in events:
        then = "–" if event["before"] is None else event["before"]
        now = "–" if event["score"] is None else event["score"]
        change = {"text": f"{then} → {now}", "tone": "number"}
        when = str(event["created"])[:16].replace("T", " ")
        body.append((event["sample"], [event["word"], change, said[event["action"]], event["prompt"], when]))
    head = ["word", "score", "what", "prompt", "when"]
    return rows(head, body, empty="You have not corrected a word yet. Press a digit on a word to begin.")
