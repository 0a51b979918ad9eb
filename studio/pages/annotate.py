"""Annotate: an image, its words with the scorer's digits, and a person who knows better; each key is kept at once.

What a key costs is the key alone: the queue is counted, and the history read, when an item comes or a pause does.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from html import escape
from typing import Any

import gradio as gr

from data.store.database import StoreError, now
from studio.access import limits
from studio.access.limits import NotYet
from studio.annotation import desk
from studio.components import guidelines, notices
from studio.components.table import Table, picked
from studio.components.word_scores import WordScores, chips, read_opened, read_packet
from studio.pages import annotate_keys, annotate_queue, people, shared
from studio.pages.annotate_queue import Counts, Wish, wanted
from studio.pages.memory import Memory
from studio.pages.shared import told
from studio.studio import SampleView, Studio

HISTORY = 30
EMPTY = "There is no image to correct yet. Compare a prompt first: each image of it comes here by itself."
NONE_FIT = "No image is what you asked for under “Which images”. Choose all images, or compare more prompts."
TAKEN = (
    "Others are at work on the images that are left. Come back in a few minutes, or compare another prompt."
)
AGREED = "There is no image left on which people disagree. Choose another order."
DONE_HERE = "All images that you asked for under “Which images” are done. Choose all images to go on."
DONE = "All images are done. Compare more prompts, or train on what you have corrected."


@dataclass
class AnnotateTab:
    """What another tab needs to open an image here: ``open(sample, who, view)`` gives values for ``outputs``; and when
    this person goes by another name."""

    open: Any
    inputs: list[Any]
    outputs: list[Any]
    compare: gr.Button
    renamed: people.Renamed


def build(studio: Studio, tab: gr.Tab, memory: Memory) -> AnnotateTab:
    counts, who, place = Counts(studio), memory.who, memory.sample

    progress = shared.html(elem_id="annotate-progress")
    with gr.Row(equal_height=False, elem_id="annotate-work"):
        with gr.Column(scale=3, min_width=280, elem_id="annotate-left"):
            picture = gr.Image(
                show_label=False,
                format="png",
                interactive=False,
                buttons=["fullscreen"],
                visible=False,
                elem_id="annotate-image",
                elem_classes="picture",
            )
        with gr.Column(scale=5, min_width=320):
            with gr.Column(visible=False, elem_id="annotate-none") as nothing:
                empty = shared.html(notices.empty(EMPTY))
                unfilter = gr.Button(
                    "Choose all images", elem_classes="action", elem_id="to-all", visible=False
                )
                reorder = gr.Button(
                    "Next: where the VLM is unsure", elem_classes="action", elem_id="to-order", visible=False
                )
                compare = gr.Button("Compare a prompt", elem_classes="action", elem_id="to-compare")
            with gr.Column(visible=False) as item:
                about = shared.html(elem_id="about-item")
            words = WordScores(editable=True, elem_id="annotate-words")
        with gr.Column(scale=0, min_width=48, elem_id="guide-column"):
            shared.html(guidelines.page(), elem_id="guidelines")
    with gr.Row(equal_height=True):
        name = people.field()
        view, order, blind = annotate_queue.head(name)
    renamed = people.build(studio, memory, name)
    why = shared.html(elem_id="why-next")
    queue = annotate_queue.build(studio, view, order, blind, memory)
    with gr.Accordion("My corrections", open=False):
        history = Table(caption="My last corrections, the newest first", elem_id="history")

    whole = [nothing, empty, unfilter, reorder, compare, item, picture, about, words, why, place]
    record = [progress, history]
    same = [gr.skip()] * len(whole)

    def none_left(writer: str, wish: Wish) -> str:
        """Why there is nothing to show."""
        found = studio.store.tallies.queue(writer, **{"split": "train", **wish.filters})
        if not (found["mine"] or found["all"] or found["left"]):
            return NONE_FIT if wish.filters else EMPTY
        if studio.annotation.next(writer, wish.order, lease=None, **wish.filters):
            return TAKEN
        if wish.order == "disagreement":
            return AGREED
        return DONE_HERE if wish.filters else DONE

    def barred(profile: Any) -> dict[str, Any]:
        """What the chips say and do where this visitor may not write; edits answer without it, as of a page that may."""
        why = limits.may_write(studio.settings, profile)
        return {"locked": why, "login": why == limits.SIGN_IN}

    def face(found: desk.Item, writer: str, wish: Wish, opened: int | None, **more: Any) -> dict[str, Any]:
        """The chips' value: all that the page may know of this item."""
        others = {
            word: [{**said, "who": annotate_keys.called(said["who"])} for said in people]
            for word, people in found.others.items()
        }
        flags = [{**flag, "who": annotate_keys.called(flag["who"])} for flag in found.flags]
        value = chips(
            found.view.words, sample=found.view.id, hidden=found.hidden, others=others, flag=found.flag,
            note=found.note, flags=flags, who=writer, blind=wish.blind,
        )  # fmt: skip
        return {**value, "mark": found.mark, "opened": opened, **more}

    def drawn(view: SampleView | None, writer: str, wish: Wish, **more: Any) -> list[Any]:
        """Values of ``whole``."""
        # so that the chips rest, and what stands beside them is counted, also where nothing else differs
        more["drawn"] = now()
        if view is None:
            says = none_left(writer, wish)
            does = {NONE_FIT: unfilter, DONE_HERE: unfilter, AGREED: reorder}.get(says, compare)
            gone = [
                gr.update(visible=True),
                notices.empty(says),
                *(gr.update(visible=button is does) for button in (unfilter, reorder, compare)),
                gr.update(visible=False),
            ]
            return [
                *gone,
                gr.update(value=None, visible=False),
                "",
                chips([], who=writer, **more),
                _why(studio, wish),
                "",
            ]
        image = shared.picture(view.image_path)
        found = desk.item(studio, view.id, writer, wish.blind)
        return [
            gr.update(visible=False),
            *([gr.skip()] * 4),
            gr.update(visible=True),
            gr.update(value=image, visible=True),
            _about(found.view, image is None, studio.settings.confirm == "yes"),
            face(found, writer, wish, found.last, **more),
            _why(studio, wish),
            view.id,
        ]

    def following(writer: str, holds: bool, wish: Wish, exclude: str | None = None) -> SampleView | None:
        """The next image, which is kept for who holds what they are given."""
        more = {} if holds else {"lease": None}
        return studio.annotation.next(writer, wish.order, exclude=exclude or None, **more, **wish.filters)

    def current(kept: Any, writer: str, holds: bool, wish: Wish) -> SampleView | None:
        """The image that this browser was at, unless another person has been given it since; else the next one."""
        if isinstance(kept, str) and kept:
            try:
                if not holds or studio.store.leases.hold(kept, writer):
                    return studio.annotation.sample(kept, writer)
            except ValueError:
                pass
        return following(writer, holds, wish)

    @told
    def fill(
        shown: Any, kept_who: Any, kept_place: Any, kept_view: Any, profile: gr.OAuthProfile | None
    ) -> list[Any]:
        """When the tab is opened: where they were, else the next image; nothing where one is open already."""
        if isinstance(shown, dict) and shown.get("sample"):
            return same
        writer, wish = shared.person(kept_who, profile), wanted(kept_view)
        view = current(kept_place, writer, shared.holds(studio, kept_who, profile), wish)
        return drawn(view, writer, wish, **barred(profile))

    @told
    def rename(names: Any, kept_place: Any, kept_view: Any, profile: gr.OAuthProfile | None) -> list[Any]:
        """Another name is another person: their corrections, their progress, the same image."""
        before, kept = people.read_names(names)
        writer, wish = shared.person(kept, profile), wanted(kept_view)
        if isinstance(kept_place, str) and kept_place and shared.holds(studio, before, profile):
            studio.store.leases.release(kept_place, shared.person(before, profile))
        view = current(kept_place, writer, shared.holds(studio, kept, profile), wish)
        return drawn(view, writer, wish, **barred(profile))

    @told
    def choose(kept_who: Any, kept_place: Any, profile: gr.OAuthProfile | None, *values: Any) -> list[Any]:
        """Another order or filter: the next image by it."""
        writer, made = shared.person(kept_who, profile), annotate_queue.made_of(*values)
        holds, wish = shared.holds(studio, kept_who, profile), wanted(made)
        return [made, *drawn(following(writer, holds, wish), writer, wish, **barred(profile))]

    @told
    def cover(kept_who: Any, kept_place: Any, profile: gr.OAuthProfile | None, *values: Any) -> list[Any]:
        """Blind mode on or off, on the image that is shown."""
        writer, made = shared.person(kept_who, profile), annotate_queue.made_of(*values)
        holds, wish = shared.holds(studio, kept_who, profile), wanted(made)
        return [made, *drawn(current(kept_place, writer, holds, wish), writer, wish, **barred(profile))]

    @told
    def open_sample(
        sample: str, kept_who: Any, kept_view: Any, profile: gr.OAuthProfile | None = None
    ) -> list[Any]:
        writer = shared.person(kept_who, profile)
        return drawn(studio.annotation.sample(sample, writer), writer, wanted(kept_view), **barred(profile))

    @told
    def reopen(
        kept_who: Any, kept_view: Any, event: gr.EventData, profile: gr.OAuthProfile | None
    ) -> list[Any]:
        """A line of the history: back to its image."""
        return open_sample(picked(event._data), kept_who, kept_view, profile)

    def worked(
        kept_who: Any, kept_view: Any, event: gr.EventData, profile: gr.OAuthProfile | None
    ) -> tuple[annotate_keys.Done, str, Wish]:
        """A packet of keys, each of them done once and in order; by whom, and what they wish."""
        packet, wish = read_packet(event._data), wanted(kept_view)
        try:
            writer = shared.writer(studio, kept_who, profile)
        except (NotYet, StoreError) as problem:
            return annotate_keys.stuck(packet, problem), shared.person(kept_who, profile), wish
        except ValueError as problem:
            return annotate_keys.refused(packet, problem), shared.person(kept_who, profile), wish
        done = annotate_keys.work(studio, packet, writer, wish.blind)
        if any(operation.kind == "undo" for operation in packet.operations):
            counts.forget(writer)
        return done, writer, wish

    def answered(done: annotate_keys.Done, writer: str, wish: Wish) -> dict[str, Any]:
        """The chips' value where the image stays: up to which key all is stored, and the words where there is news."""
        packet, ack = done.packet, done.ack()
        if done.retry:
            return {**chips([], sample=packet.shown), "keep": True, "ack": ack}
        if not wish.blind and (mark := annotate_keys.news(studio, done, writer)):
            return {"sample": packet.shown, "who": writer, "same": True, "mark": mark, "ack": ack}
        found = desk.item(studio, packet.shown, writer, wish.blind, packet.opened)
        return face(found, writer, wish, packet.opened, ack=ack)

    @told
    def edit(
        kept_who: Any, kept_view: Any, event: gr.EventData, profile: gr.OAuthProfile | None
    ) -> list[Any]:
        """Keys of any kind: the same image, or the one that is due."""
        done, writer, wish = worked(kept_who, kept_view, event, profile)
        shown = done.packet.shown
        if not done.retry:
            if done.left:
                return drawn(following(writer, True, wish, done.packet.sample), writer, wish, ack=done.ack())
            if done.place != shown:
                return drawn(studio.annotation.sample(done.place, writer), writer, wish, ack=done.ack())
            if not shown:
                return drawn(None, writer, wish, ack=done.ack())
        return [answered(done, writer, wish) if part is words else gr.skip() for part in whole]

    @told
    def digit(kept_who: Any, kept_view: Any, event: gr.EventData, profile: gr.OAuthProfile | None) -> Any:
        """Digits on the image that is shown. An event of their own, as Gradio (6.31) builds each output of an event anew,
        those that it skips too."""
        return answered(*worked(kept_who, kept_view, event, profile))

    @told
    def look(kept_who: Any, kept_view: Any, event: gr.EventData, profile: gr.OAuthProfile | None) -> Any:
        """Whether somebody else, or this person elsewhere, has changed what is shown, or whether they signed in or out:
        then it is drawn anew."""
        asked = event._data if isinstance(event._data, Mapping) else {}
        opened, writer, wish = (
            read_opened(asked.get("opened")),
            shared.person(kept_who, profile),
            wanted(kept_view),
        )
        sample, bars = str(asked.get("sample")), barred(profile)
        if desk.mark(studio, sample, writer) == asked.get("mark") and bars["locked"] == asked.get("locked"):
            return gr.skip()
        found = desk.item(studio, sample, writer, wish.blind, opened)
        return face(found, writer, wish, opened, looked=asked.get("revision"), **bars)

    @told
    def rested(kept_who: Any, kept_view: Any, profile: gr.OAuthProfile | None) -> list[Any]:
        """Values of ``record``: the counts and the history."""
        writer, wish = shared.person(kept_who, profile), wanted(kept_view)
        bar = annotate_queue.progress(counts.of(writer, wish), writer, bool(wish.filters))
        return [bar, annotate_keys.listed(studio.annotation.history(writer, HISTORY))]

    def this_prompt(kept_place: Any) -> Any:
        try:
            return studio.store.samples.get(kept_place)["prompt"]
        except ValueError:
            return gr.skip()

    quick = shared.QUICK
    shown = [words, who, place, view]
    tab.select(fill, shown, whole, js=memory.known(shown, queue=view), **quick)
    renamed.names.change(rename, [renamed.names, place, view], whole, **quick)
    chosen = [who, place, *queue.controls]
    gr.on([c.input for c in (order, *queue.filters)], choose, chosen, [view, *whole], **shared.ASKED)
    blind.input(cover, chosen, [view, *whole], **shared.ASKED)
    if "prompt" in annotate_queue.WISHES:
        prompt = queue.filters[annotate_queue.WISHES.index("prompt")]
        queue.only.click(this_prompt, place, prompt, **shared.ASKED).then(
            choose, chosen, [view, *whole], **quick
        )
    for every in (queue.everything, unfilter):
        every.click(
            lambda: [annotate_queue.ANY] * len(queue.filters), None, queue.filters, **shared.ASKED
        ).then(choose, chosen, [view, *whole], **quick)
    reorder.click(lambda: "uncertainty", None, order, **shared.ASKED).then(
        choose, chosen, [view, *whole], **quick
    )
    asks = {"js": memory.known([who, view], queue=view), **quick}
    words.edit(edit, [who, view], whole, trigger_mode="multiple", **asks)
    words.digit(digit, [who, view], words, trigger_mode="multiple", **asks)
    words.look(look, [who, view], words, **asks)
    words.rested(rested, [who, view], record, **asks)
    history.pick(reopen, [who, view], whole, **shared.ASKED)
    return AnnotateTab(open_sample, [who, view], whole, compare, renamed)


def _why(studio: Studio, wish: Wish) -> str:
    return f'<p class="quiet">{escape(studio.annotation.why_next(wish.order))}</p>'


def _about(view: SampleView, gone: bool, confirms: bool) -> str:
    parts = [f"seed {view.seed}", "with the projector" if view.method == "projected" else "without projector"]
    problem = notices.notice("The file of this image is gone; skip it.", problem=True) if gone else ""
    ask = "How well does each word show in the image? 0 not at all, 9 fully."
    if confirms:
        ask += " Done confirms the scores that you leave."
    return f'{problem}<p class="ask">{ask}</p><p class="quiet">{escape(", ".join(parts))}</p>'
