"""Quality: how far annotators agree, a page for each of them, and gold. The figures are worked out behind the page."""

from __future__ import annotations

import time
from dataclasses import dataclass
from html import escape
from typing import Any

import gradio as gr

from studio.annotation.quality import GOOD, USABLE, without_gold
from studio.components import notices, quality_figures
from studio.components.table import Table, picked
from studio.pages import quality_gold, shared
from studio.pages import quality_parts as parts
from studio.pages import runs as listing
from studio.pages.memory import Memory
from studio.pages.rights import Rights
from studio.pages.shared import told
from studio.studio import Studio

SECONDS = 1.5  # between two looks while figures are on their way
AT_ONCE = 0.7  # seconds that opening the page waits for them
EMPTY = "No person has scored a word yet. What people say in Annotate is compared here: with each other, with the VLM and with gold."
NOT_APART = "Nothing of theirs is two points or more from gold or from what the others say."


@dataclass
class QualityTab:
    """What the page needs to open an image in Annotate: after each of ``asked``, ``wanted`` holds the sample."""

    wanted: gr.Textbox
    asked: list[Any]
    annotate: gr.Button


def build(studio: Studio, tab: gr.Tab, memory: Memory, rights: Rights) -> QualityTab:
    kept = studio.figures
    drawn, chosen = listing.drawn(), gr.State("")
    since = gr.State(0.0)  # when figures were last asked for: newer ones are not waited for
    shown = gr.State([])  # the samples of the pictures
    wanted = gr.Textbox(visible=False)
    timer = gr.Timer(SECONDS, active=False)

    with gr.Row(equal_height=True):
        about = shared.html(elem_id="quality-state", container=False)
        again = gr.Button("Count again", size="sm", scale=0, min_width=120, elem_id="quality-again")
    with gr.Tabs(elem_id="quality-tabs"):
        with gr.Tab("Agreement", id="agreement"):
            with gr.Column(visible=False) as nothing:
                shared.html(notices.empty(EMPTY))
                annotate = gr.Button("Annotate", elem_classes="action", elem_id="quality-to-annotate")
            with gr.Column(visible=False) as some:
                verdict = shared.html(elem_id="quality-verdict")
                with gr.Row(equal_height=False):
                    with gr.Column(scale=5, min_width=300):
                        alphas = gr.Plot(show_label=False, elem_id="quality-alphas")
                    with gr.Column(scale=6, min_width=300):
                        kinds = Table(caption="Alpha by kind of word", elem_id="quality-kinds")
                with gr.Row(equal_height=False):
                    with gr.Column(scale=5, min_width=300):
                        matrix = gr.Plot(show_label=False, elem_id="quality-matrix")
                    with gr.Column(scale=6, min_width=300):
                        pairs = Table(caption="Each two people who share words", elem_id="quality-pairs")
                shared.html(f'<p class="quiet">{escape(parts.READ)}</p>')
            rule = f'<h3 class="quality-caption">Which label training uses</h3><p>{escape(parts.RULE)}</p>'
            shared.html(rule, elem_id="label-rule")
        with gr.Tab("People", id="people"):
            people = Table(caption="Annotators; choose one to see how they work", elem_id="quality-people")
            person = shared.html(elem_id="quality-person")
            with gr.Row(equal_height=False):
                with gr.Column(scale=5, min_width=300):
                    histogram = gr.Plot(show_label=False, elem_id="quality-scores")
                with gr.Column(scale=6, min_width=300):
                    against = Table(caption="Agreement by kind of word", elem_id="quality-against")
                    lacking = shared.html()
            contested = shared.html(elem_id="quality-contested")
            gallery = gr.Gallery(
                show_label=False, format="png", columns=6, height="auto", allow_preview=False, object_fit="contain",
                interactive=False, buttons=[], visible=False, elem_id="quality-gallery",
            )  # fmt: skip
        with gr.Tab("Gold", id="gold"):
            golden = quality_gold.build(studio, memory, rights, lambda: kept.look().value)

    page = [person, histogram, against, lacking, contested, gallery, shown]
    figures = [verdict, alphas, kinds, matrix, pairs, people, chosen, *page, *golden.lists]
    every = [drawn, since, timer, about, nothing, some, *figures]

    def seen_by(found: Any, kept_who: Any, profile: Any) -> tuple[Any, bool]:
        """The figures as this visitor may see them, and whether that is with gold."""
        golden_too = shared.manages(studio, kept_who, profile)
        if found is None or golden_too:
            return found, golden_too
        return without_gold(found, shared.known(studio, kept_who, profile)), False

    def see(known: Any, asked: Any, since: Any, kept_who: Any, profile: Any, wait: float = 0.0) -> list[Any]:
        """The whole page; only what goes on where the figures are those that ``known`` says are drawn already."""
        look = kept.look(wait)
        found, golden_too = seen_by(look.value, kept_who, profile)
        you = shared.person(kept_who, profile)
        waits = look.busy or (look.at or 0.0) < since and look.stale
        going = [since, gr.Timer(active=waits), parts.state(look, waits)]
        stamp = listing.digest([look.at, asked, golden_too or you])
        if found is None or stamp == known:
            return [known, *going, *[gr.skip()] * (len(every) - 4)]
        anyone = bool(found["people"])
        there = [gr.update(visible=not anyone), gr.update(visible=anyone)]
        return [stamp, *going, *there, *_figures(found, asked, you, golden_too)]

    def _figures(found: Any, asked: Any, you: str, golden_too: bool) -> list[Any]:
        """Values of ``figures``."""
        names = [one["who"] for one in found["people"]]
        who = next((name for name in (asked, you, *names[:1]) if name in names), "")
        alpha = quality_figures.alpha_by_kind(found["kinds"], USABLE, GOOD)
        two = quality_figures.matrix(found["pairs"], names)
        return [
            parts.verdict(found),
            gr.update(value=alpha, visible=alpha is not None),
            parts.kinds(found),
            gr.update(value=two, visible=two is not None),
            parts.pairs(found),
            parts.people(found, who),
            who,
            *_person(found, who),
            *golden.apart(found, golden_too),
        ]

    def _person(found: Any, who: str) -> list[Any]:
        """Values of ``page``."""
        one = next((one for one in found["people"] if one["who"] == who), None)
        if one is None:
            return ["", gr.update(visible=False), None, "", "", gr.update(visible=False), []]
        everyone = [sum(column) for column in zip(*(p["scores"] for p in found["people"]), strict=True)]
        plot = quality_figures.scores(one["scores"], everyone, who)
        pictures, samples = _pictures(one["contested"])
        hint = "Choose a picture to open it in Annotate." if samples else NOT_APART
        return [
            parts.person(one),
            gr.update(value=plot, visible=plot is not None),
            parts.against(one),
            parts.lacking(one),
            f'<h3 class="quality-caption">Recent disagreements</h3><p class="quiet">{hint}</p>',
            gr.update(value=pictures, visible=bool(samples)),
            samples,
        ]

    def _pictures(words: Any) -> tuple[list[Any], list[str]]:
        """Pictures with what was said as their captions, and their samples; those whose file is gone are left out."""
        pictures, samples = [], []
        for word in words:
            image = shared.picture(studio.annotation.sample(word["sample"]).image_path)
            if image is not None:
                by = "gold" if word["by"] == "gold" else "others"
                pictures.append((image, f"{word['word']}: {word['score']}, {by} {word['against']}"))
                samples.append(word["sample"])
        return pictures, samples

    @told
    def fill(known: Any, asked: Any, kept_who: Any, profile: gr.OAuthProfile | None) -> list[Any]:
        return see(known, asked, time.time(), kept_who, profile, AT_ONCE)

    @told
    def tick(known: Any, asked: Any, since: Any, kept_who: Any, profile: gr.OAuthProfile | None) -> list[Any]:
        return see(known, asked, since, kept_who, profile)

    @told
    def pick(kept_who: Any, event: gr.EventData, profile: gr.OAuthProfile | None) -> list[Any]:
        """A person's page."""
        (found, _), place = seen_by(kept.look().value, kept_who, profile), picked(event._data)
        listed = found["people"] if found else []
        if not place.isdecimal() or int(place) >= len(listed):
            raise ValueError("That person is no longer listed: choose another one.")
        who = listed[int(place)]["who"]
        return [parts.people(found, who), who, *_person(found, who)]

    @told
    def open_picture(samples: Any, event: gr.SelectData) -> str:
        if not isinstance(event.index, int) or not 0 <= event.index < len(samples):
            raise ValueError("That picture is no longer listed: choose another one.")
        return samples[event.index]

    quick = shared.QUICK
    told_of = shared.ASKED
    asks = [drawn, chosen, memory.who]
    tab.select(fill, asks, every, js=memory.known(asks), **quick)
    for ask in (again.click, *golden.changed):
        ask(fill, asks, every, **quick)
    timer.tick(tick, [drawn, chosen, since, memory.who], every, **quick)
    people.pick(pick, memory.who, [people, chosen, *page], **told_of)
    asked = [
        gallery.select(open_picture, shown, wanted, **told_of),
        golden.opens.click(lambda sample: sample, golden.sample, wanted, **shared.ASKED),
    ]
    return QualityTab(wanted, asked, annotate)
