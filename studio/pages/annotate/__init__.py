"""The page Annotate: an image and the scores of its words, corrected key by key; each key is stored at once.

The queue is counted and the history read only when an image comes or the person pauses, so that a key costs neither.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

import gradio as gr

from data.store.database import StoreError, now
from data.store.queue import LEASE_SECONDS
from studio.access import limits
from studio.access.limits import NotYet
from studio.annotation import desk, inbox
from studio.components import guidelines, notices
from studio.components.table import Table, number, picked, rows
from studio.components.word_scores import WordScores, chips
from studio.pages import people, shared
from studio.pages.annotate import queue
from studio.pages.annotate.queue import ANY, WISHES, Counts, Selection, read_selection
from studio.pages.memory import Memory
from studio.pages.shared import ASKED, QUICK, Update, shows_errors
from studio.studio import SampleView, Studio
from studio.times import moment

HISTORY = 30
EMPTY = "There is no image to correct yet. Compare a prompt first: each image of it comes here by itself."
NONE_FIT = "No image matches the filters under “Which images”. Choose all images, or compare more prompts."
TAKEN = (
    "Others are at work on the images that are left. Come back in a few minutes, or compare another prompt."
)
AGREED = "There is no image left on which people disagree. Choose another order."
DONE_HERE = "All images that match the filters under “Which images” are done. Choose all images to go on."
DONE = "All images are done. Compare more prompts, or train on what you have corrected."


@dataclass
class AnnotateTab:
    """What other tabs need to open an image here: ``open(sample, who, view, profile)`` gives an update of
    ``outputs``; and the event of a person who goes by another name."""

    open: Any
    inputs: list[Any]
    outputs: list[Any]
    compare: gr.Button
    renamed: gr.JSON


def build(studio: Studio, tab: gr.Tab, memory: Memory) -> AnnotateTab:
    counts, who, place = Counts(studio), memory.who, memory.sample

    progress = shared.html(elem_id="annotate-progress")
    with gr.Row(equal_height=False, elem_id="annotate-work"):
        with gr.Column(scale=3, min_width=280, elem_id="annotate-left"):
            picture = shared.image("annotate-image", visible=False)
        with gr.Column(scale=5, min_width=320):
            with gr.Column(visible=False, elem_id="annotate-none") as nothing:
                empty = shared.html(notices.empty(EMPTY))
                unfilter = gr.Button(
                    "Choose all images", elem_classes="action", elem_id="to-all", visible=False
                )
                reorder = gr.Button(
                    "Show images that the VLM is unsure of", elem_classes="action", visible=False
                )
                compare = gr.Button("Compare a prompt", elem_classes="action", elem_id="to-compare")
            with gr.Column(visible=False) as item:
                about = shared.html(elem_id="about-item")
            words = WordScores(editable=True, elem_id="annotate-words")
        with gr.Column(scale=0, min_width=48, elem_id="guide-column"):
            shared.html(guidelines.page(), elem_id="guidelines")
    with gr.Row(equal_height=True):
        name = people.field()
        view, order, blind = queue.head(name)
    renamed = people.build(studio, memory, name)
    why = shared.html(elem_id="why-next")
    controls = queue.build(studio, view, order, blind, memory)
    with gr.Accordion("My corrections", open=False):
        history = Table(caption="My last corrections, the newest first", elem_id="history")

    whole = [nothing, empty, unfilter, reorder, compare, item, picture, about, words, why, place]
    record = [progress, history]

    def none_left(writer: str, selection: Selection) -> str:
        """Why there is nothing to show."""
        counted = studio.store.tallies.queue(writer, **{"split": "train", **selection.filters})
        if not (counted["mine"] or counted["all"] or counted["left"]):
            return NONE_FIT if selection.filters else EMPTY
        if studio.annotation.next(writer, selection.order, lease=None, **selection.filters):
            return TAKEN
        if selection.order == "disagreement":
            return AGREED
        return DONE_HERE if selection.filters else DONE

    def barred(profile: Any) -> dict[str, Any]:
        """The chips' message where this visitor may not write; answers to edits leave it out, as they come from a
        page that may."""
        why = limits.may_write(studio.settings, profile)
        return {"locked": why, "login": why == limits.SIGN_IN}

    def face(
        item: desk.Item, writer: str, selection: Selection, opened: int | None, **more: Any
    ) -> dict[str, Any]:
        """The chips' value: all that the page may know of this image."""
        return chips(
            item.view.words, sample=item.view.id, hidden=item.hidden, others=item.others, flag=item.flag,
            note=item.note, flags=item.flags, who=writer, blind=selection.blind, mark=item.mark, opened=opened,
            **more,
        )  # fmt: skip

    def drawn(view: SampleView | None, writer: str, selection: Selection, **more: Any) -> Update:
        """The image with its words, or why there is none."""
        # so that the chips rest, and what stands beside them is counted, also where nothing else differs
        more["drawn"], reason = now(), notices.quiet(studio.annotation.why_next(selection.order))
        if view is None:
            says = none_left(writer, selection)
            button = {NONE_FIT: unfilter, DONE_HERE: unfilter, AGREED: reorder}.get(says, compare)
            return {
                nothing: gr.update(visible=True),
                empty: notices.empty(says),
                **{one: gr.update(visible=one is button) for one in (unfilter, reorder, compare)},
                item: gr.update(visible=False),
                picture: gr.update(value=None, visible=False),
                about: "",
                words: chips([], who=writer, **more),
                why: reason,
                place: "",
            }
        image, shown = shared.picture(view.image_path), desk.item(studio, view.id, writer, selection.blind)
        return {
            nothing: gr.update(visible=False),
            item: gr.update(visible=True),
            picture: gr.update(value=image, visible=True),
            about: _about(shown.view, image is None, studio.settings.confirm == "yes"),
            words: face(shown, writer, selection, shown.last, **more),
            why: reason,
            place: view.id,
        }

    def following(
        writer: str, holds: bool, selection: Selection, exclude: str | None = None
    ) -> SampleView | None:
        """The next image, leased to those who may hold one."""
        lease = LEASE_SECONDS if holds else None
        return studio.annotation.next(
            writer, selection.order, exclude or None, lease=lease, **selection.filters
        )

    def current(kept: Any, writer: str, holds: bool, selection: Selection) -> SampleView | None:
        """The image that this browser was at, unless it has been given to another person since; else the next one."""
        if isinstance(kept, str) and kept:
            try:
                if not holds or studio.store.leases.hold(kept, writer):
                    return studio.annotation.sample(kept, writer)
            except ValueError:
                pass
        return following(writer, holds, selection)

    @shows_errors
    def fill(
        shown: Any, kept_who: Any, kept_place: Any, kept_view: Any, profile: gr.OAuthProfile | None
    ) -> Update:
        """When the tab is opened: the image this browser was at, else the next one; nothing where one is open
        already."""
        if isinstance(shown, dict) and shown.get("sample"):
            return gr.skip()
        writer, selection = shared.person(kept_who, profile), read_selection(kept_view)
        view = current(kept_place, writer, shared.holds(studio, kept_who, profile), selection)
        return drawn(view, writer, selection, **barred(profile))

    @shows_errors
    def rename(names: Any, kept_place: Any, kept_view: Any, profile: gr.OAuthProfile | None) -> Update:
        """Another name is another person: their corrections, their progress, the same image."""
        before, kept = people.read_names(names)
        writer, selection = shared.person(kept, profile), read_selection(kept_view)
        if isinstance(kept_place, str) and kept_place and shared.holds(studio, before, profile):
            studio.store.leases.release(kept_place, shared.person(before, profile))
        view = current(kept_place, writer, shared.holds(studio, kept, profile), selection)
        return drawn(view, writer, selection, **barred(profile))

    def reselect(stay: bool, kept_who: Any, kept_place: Any, profile: Any, values: Sequence[Any]) -> Update:
        """The image by another selection: the one that is shown, where it may stay, else the next."""
        writer, made = shared.person(kept_who, profile), queue.selection_of(*values)
        holds, selection = shared.holds(studio, kept_who, profile), read_selection(made)
        image = current(kept_place if stay else None, writer, holds, selection)
        return {view: made, **drawn(image, writer, selection, **barred(profile))}

    @shows_errors
    def choose(kept_who: Any, kept_place: Any, profile: gr.OAuthProfile | None, *values: Any) -> Update:
        """Another order or filter: the next image by it."""
        return reselect(False, kept_who, kept_place, profile, values)

    @shows_errors
    def cover(kept_who: Any, kept_place: Any, profile: gr.OAuthProfile | None, *values: Any) -> Update:
        """Turn blind mode on or off for the image that is shown."""
        return reselect(True, kept_who, kept_place, profile, values)

    @shows_errors
    def open_sample(
        sample: str, kept_who: Any, kept_view: Any, profile: gr.OAuthProfile | None = None
    ) -> Update:
        writer = shared.person(kept_who, profile)
        return drawn(
            studio.annotation.sample(sample, writer), writer, read_selection(kept_view), **barred(profile)
        )

    @shows_errors
    def reopen(kept_who: Any, kept_view: Any, event: gr.EventData, profile: gr.OAuthProfile | None) -> Update:
        """Open the image of a line of the history."""
        return open_sample(picked(event._data), kept_who, kept_view, profile)

    def worked(
        kept_who: Any, kept_view: Any, event: gr.EventData, profile: gr.OAuthProfile | None
    ) -> tuple[inbox.Result, str, Selection]:
        """Apply a packet of keys, each of them once and in order; by whom, and which images they want."""
        packet, selection = inbox.read_packet(event._data), read_selection(kept_view)
        try:
            writer = shared.writer(studio, kept_who, profile)
        except (NotYet, StoreError) as problem:
            return inbox.retry(packet, problem), shared.person(kept_who, profile), selection
        except ValueError as problem:
            return inbox.refused(packet, problem), shared.person(kept_who, profile), selection
        done = inbox.apply(studio, packet, writer, selection.blind)
        if any(operation.kind == "undo" for operation in packet.operations):
            counts.forget(writer)
        return done, writer, selection

    def answered(done: inbox.Result, writer: str, selection: Selection) -> dict[str, Any]:
        """The chips' value where the image stays: up to which key all is stored, and the words where they changed."""
        packet, ack = done.packet, done.ack()
        if done.retry:
            return {**chips([], sample=packet.shown), "keep": True, "ack": ack}
        if not selection.blind and (mark := inbox.unchanged(studio, done, writer)):
            return {"sample": packet.shown, "who": writer, "same": True, "mark": mark, "ack": ack}
        shown = desk.item(studio, packet.shown, writer, selection.blind, packet.opened)
        return face(shown, writer, selection, packet.opened, ack=ack)

    @shows_errors
    def edit(kept_who: Any, kept_view: Any, event: gr.EventData, profile: gr.OAuthProfile | None) -> Update:
        """Keys of any kind; the answer is the same image or the next one."""
        done, writer, selection = worked(kept_who, kept_view, event, profile)
        shown = done.packet.shown
        if not done.retry:
            if done.left:
                return drawn(
                    following(writer, True, selection, done.packet.sample), writer, selection, ack=done.ack()
                )
            if done.place != shown:
                return drawn(studio.annotation.sample(done.place, writer), writer, selection, ack=done.ack())
            if not shown:
                return drawn(None, writer, selection, ack=done.ack())
        return {words: answered(done, writer, selection)}

    @shows_errors
    def digit(kept_who: Any, kept_view: Any, event: gr.EventData, profile: gr.OAuthProfile | None) -> Any:
        """Digits on the image that is shown. An event of their own, as Gradio (6.31) builds each output of an event anew,
        those that it skips too."""
        return answered(*worked(kept_who, kept_view, event, profile))

    @shows_errors
    def look(kept_who: Any, kept_view: Any, event: gr.EventData, profile: gr.OAuthProfile | None) -> Any:
        """Redraw the image where somebody else, or this person elsewhere, has changed it, or where they signed in or
        out."""
        asked = event._data if isinstance(event._data, Mapping) else {}
        opened, writer = inbox.read_opened(asked.get("opened")), shared.person(kept_who, profile)
        selection, sample, bars = read_selection(kept_view), str(asked.get("sample")), barred(profile)
        if desk.mark(studio, sample, writer) == asked.get("mark") and bars["locked"] == asked.get("locked"):
            return gr.skip()
        item = desk.item(studio, sample, writer, selection.blind, opened)
        return face(item, writer, selection, opened, looked=asked.get("revision"), **bars)

    @shows_errors
    def rested(kept_who: Any, kept_view: Any, profile: gr.OAuthProfile | None) -> Update:
        """The counts and the history."""
        writer, selection = shared.person(kept_who, profile), read_selection(kept_view)
        bar = queue.progress(counts.of(writer, selection), writer, bool(selection.filters))
        return {progress: bar, history: _history(studio.annotation.history(writer, HISTORY))}

    def this_prompt(kept_place: Any) -> Any:
        try:
            return studio.store.samples.get(kept_place)["prompt"]
        except ValueError:
            return gr.skip()

    shown, chosen = [words, who, place, view], [who, place, *controls.inputs]
    tab.select(fill, shown, whole, js=memory.known(shown, queue=view), **QUICK)
    renamed.change(rename, [renamed, place, view], whole, **QUICK)
    gr.on([c.input for c in (order, *controls.filters)], choose, chosen, [view, *whole], **ASKED)
    blind.input(cover, chosen, [view, *whole], **ASKED)
    presets = [reorder.click(lambda: "uncertainty", None, order, **ASKED)]
    for all_images in (controls.everything, unfilter):
        presets.append(
            all_images.click(lambda: [ANY] * len(controls.filters), None, controls.filters, **ASKED)
        )
    prompt = controls.filters[WISHES.index("prompt")]
    presets.append(controls.only.click(this_prompt, place, prompt, **ASKED))
    for preset in presets:
        preset.then(choose, chosen, [view, *whole], **QUICK)
    asks = {"js": memory.known([who, view], queue=view), **QUICK}
    words.edit(edit, [who, view], whole, trigger_mode="multiple", **asks)
    words.digit(digit, [who, view], words, trigger_mode="multiple", **asks)
    words.look(look, [who, view], words, **asks)
    words.rested(rested, [who, view], record, **asks)
    history.pick(reopen, [who, view], whole, **ASKED)
    return AnnotateTab(open_sample, [who, view], whole, compare, renamed)


def _history(events: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """A person's last corrections as a table."""
    said = {"set": "set", "clear": "taken back", "undo": "undone"}
    body = []
    for event in events:
        before, after = ("–" if event[name] is None else event[name] for name in ("before", "score"))
        change, when = number(f"{before} → {after}"), moment(event["created"])
        body.append([event["word"], change, said[event["action"]], event["prompt"], when])
    head, keys = ["word", "score", "what", "prompt", "when"], [event["sample"] for event in events]
    return rows(
        head, body, keys=keys, empty="You have not scored a word yet. Press a digit on a word to begin."
    )


def _about(view: SampleView, gone: bool, confirms: bool) -> str:
    parts = [f"seed {view.seed}", "with the projector" if view.method == "projected" else "without projector"]
    problem = notices.notice("The file of this image is gone; skip it.", problem=True) if gone else ""
    ask = "How well does each word show in the image? 0 not at all, 9 fully."
    if confirms:
        ask += " Done confirms the scores that you leave."
    return f'{problem}<p class="ask">{ask}</p><p class="quiet">{escape(", ".join(parts))}</p>'
