"""The page Quality: agreement of annotators, figures of each, and gold. The figures are computed in the background."""

from __future__ import annotations

import time
from dataclasses import dataclass
from html import escape
from typing import Any

import gradio as gr

from studio.annotation.quality import GOOD, USABLE, without_gold
from studio.components import notices
from studio.components.table import Table, picked
from studio.pages import runs as listing
from studio.pages import shared
from studio.pages.memory import Memory
from studio.pages.people import Rights
from studio.pages.quality import gold, parts
from studio.pages.shared import ASKED, QUICK, Update, shows_errors
from studio.studio import Studio

SECONDS = 1.5  # between two looks while figures are on their way
AT_ONCE = 0.7  # seconds that opening the page waits for them
EMPTY = "No person has scored a word yet. What people say in Annotate is compared here: with each other, with the VLM and with gold."
NOT_APART = "None of their scores is two points or more from gold or from the scores of the others."


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
            with gr.Column(visible=False) as content:
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
                shared.html(notices.quiet(parts.READ))
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
            contested = shared.html()
            gallery = gr.Gallery(
                show_label=False, format="png", columns=6, height="auto", allow_preview=False, object_fit="contain",
                interactive=False, buttons=[], visible=False, elem_id="quality-gallery",
            )  # fmt: skip
        with gr.Tab("Gold", id="gold"):
            golden = gold.build(studio, memory, rights, lambda: kept.look().value)

    page = [person, histogram, against, lacking, contested, gallery, shown]
    every = [drawn, since, timer, about, nothing, content, verdict, alphas, kinds, matrix, pairs, people, chosen, *page,
             *golden.lists]  # fmt: skip

    def seen_by(figures: Any, kept_who: Any, profile: Any) -> tuple[Any, bool]:
        """The figures as this visitor may see them, and whether that is with gold."""
        golden_too = shared.manages(studio, kept_who, profile)
        if figures is None or golden_too:
            return figures, golden_too
        return without_gold(figures, shared.known(studio, kept_who, profile)), False

    def see(known: Any, asked: Any, asked_at: Any, kept_who: Any, profile: Any, wait: float = 0.0) -> Update:
        """The whole page; only the progress where the figures are those that ``known`` says are drawn already."""
        look = kept.look(wait)
        figures, golden_too = seen_by(look.value, kept_who, profile)
        you = shared.person(kept_who, profile)
        waits = look.busy or (look.at or 0.0) < asked_at and look.stale
        going = {since: asked_at, timer: gr.Timer(active=waits), about: parts.state(look, waits)}
        stamp = listing.digest([look.at, asked, golden_too or you])
        if figures is None or stamp == known:
            return going
        names = [one["who"] for one in figures["people"]]
        name = next((name for name in (asked, you, *names[:1]) if name in names), "")
        return {
            **going,
            drawn: stamp,
            nothing: gr.update(visible=not names),
            content: gr.update(visible=bool(names)),
            verdict: parts.verdict(figures),
            alphas: plotted(parts.alpha_by_kind(figures["kinds"], USABLE, GOOD)),
            kinds: parts.kinds(figures),
            matrix: plotted(parts.matrix(figures["pairs"], names)),
            pairs: parts.pairs(figures),
            **one_person(figures, name),
            **golden.listed(figures, golden_too),
        }

    def plotted(figure: Any) -> Any:
        return gr.update(value=figure, visible=figure is not None)

    def one_person(figures: Any, name: str) -> Update:
        """This person's page, and the list with them marked; an empty page for nobody."""
        listed = {people: parts.people(figures, name), chosen: name}
        one = next((one for one in figures["people"] if one["who"] == name), None)
        if one is None:
            blank: Update = {person: "", against: None, lacking: "", contested: "", shown: []}
            return {**listed, **blank, histogram: plotted(None), gallery: gr.update(visible=False)}
        everyone = [sum(column) for column in zip(*(p["scores"] for p in figures["people"]), strict=True)]
        pictures, samples = captioned(one["contested"])
        hint = "Choose a picture to open it in Annotate." if samples else NOT_APART
        return {
            **listed,
            person: parts.person(one),
            histogram: plotted(parts.scores(one["scores"], everyone, name)),
            against: parts.against(one),
            lacking: parts.lacking(one),
            contested: f'<h3 class="quality-caption">Recent disagreements</h3><p class="quiet">{hint}</p>',
            gallery: gr.update(value=pictures, visible=bool(samples)),
            shown: samples,
        }

    def captioned(words: Any) -> tuple[list[Any], list[str]]:
        """Pictures captioned with the scores, and their samples; those whose file is gone are left out."""
        pictures, samples = [], []
        for word in words:
            image = shared.picture(studio.annotation.sample(word["sample"]).image_path)
            if image is not None:
                by = "gold" if word["by"] == "gold" else "others"
                pictures.append((image, f"{word['word']}: {word['score']}, {by} {word['against']}"))
                samples.append(word["sample"])
        return pictures, samples

    @shows_errors
    def fill(known: Any, asked: Any, kept_who: Any, profile: gr.OAuthProfile | None) -> Update:
        return see(known, asked, time.time(), kept_who, profile, AT_ONCE)

    @shows_errors
    def tick(known: Any, asked: Any, since: Any, kept_who: Any, profile: gr.OAuthProfile | None) -> Update:
        return see(known, asked, since, kept_who, profile)

    @shows_errors
    def pick(kept_who: Any, event: gr.EventData, profile: gr.OAuthProfile | None) -> Update:
        """A person's page."""
        (figures, _), place = seen_by(kept.look().value, kept_who, profile), picked(event._data)
        listed = figures["people"] if figures else []
        if not place.isdecimal() or int(place) >= len(listed):
            raise ValueError("That person is no longer listed: choose another one.")
        return one_person(figures, listed[int(place)]["who"])

    @shows_errors
    def open_picture(samples: Any, event: gr.SelectData) -> str:
        if not isinstance(event.index, int) or not 0 <= event.index < len(samples):
            raise ValueError("That picture is no longer listed: choose another one.")
        return samples[event.index]

    asks = [drawn, chosen, memory.who]
    tab.select(fill, asks, every, js=memory.known(asks), **QUICK)
    for ask in (again.click, *golden.changed):
        ask(fill, asks, every, **QUICK)
    timer.tick(tick, [drawn, chosen, since, memory.who], every, **QUICK)
    people.pick(pick, memory.who, [people, chosen, *page], **ASKED)
    asked = [
        gallery.select(open_picture, shown, wanted, **ASKED),
        golden.opens.click(lambda sample: sample, golden.sample, wanted, **ASKED),
    ]
    return QualityTab(wanted, asked, annotate)
