"""Compare: the same seeds without and with the projector, or the best of 8 noises; a score for every word under each."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import gradio as gr

from studio.access.limits import limits
from studio.access.waiting import MODELS
from studio.components import detector, notices
from studio.components.detector import DetectorLine
from studio.components.word_scores import WordScores, chips
from studio.images.views import GUIDANCE, MAX_SEEDS, STEPS
from studio.pages import first, reloaded, seeds_form, shared, wording
from studio.pages.memory import Memory
from studio.pages.shared import Loading, told
from studio.studio import CompareUpdate, Pair, Studio, check_request

PREVIEW_SECONDS = 0.2
NOISES = [("projected", "projected"), ("best of 8", "best-noise-of-8")]
NOISE_INFO = (
    "Of the second image. Projected: changed by the projector. Best of 8: nothing is changed, the most promising of 8 "
    "noises is taken before anything is drawn."
)
EMPTY = "Nothing is compared yet. Write what the image should show and press Compare, or click an example."

# what the browser keeps of a comparison: [seed, id without the projector, id with it or None] a pair
Kept = list[list[str | None]]


@dataclass
class CompareTab:
    """The parts that other tabs listen to: the buttons that open an image for annotation, and whose it is."""

    annotate_none: gr.Button
    annotate_projected: gr.Button
    seed: gr.Radio


def build(studio: Studio, loading: Loading, page: gr.Blocks, memory: Memory) -> CompareTab:
    stops: dict[str, threading.Event] = {}
    kept = memory.pairs
    offered = first.offered(studio)

    with gr.Row(equal_height=False):
        with gr.Column(scale=4, min_width=300):
            prompt = gr.Textbox(
                label="Prompt",
                value=offered[0].prompt,
                lines=2,
                max_lines=4,
                max_length=reloaded.LONGEST,
                elem_id="prompt",
            )
            with gr.Row():
                run = gr.Button("Compare", variant="primary", scale=2, min_width=120, elem_id="run")
                stop = gr.Button("Stop", variant="stop", interactive=False, min_width=80, elem_id="stop")
            seeds = gr.Textbox(
                label="Seeds",
                value="7",
                info=f"Whole numbers, such as 7, 8, 9 or 10-13; {MAX_SEEDS} at most.",
                elem_id="seeds",
            )
            randomise = gr.Button("Other seeds", size="sm", elem_id="other-seeds")
            noise = gr.Dropdown(NOISES, value="projected", label="Noise", info=NOISE_INFO, elem_id="noise")
            strength = gr.Slider(
                0, 1, 1, step=0.05, label="Strength", info="0 is the very image without the projector."
            )
            with gr.Accordion("Sampling", open=False):
                own = studio.models.sampling()
                steps = gr.Slider(*STEPS, own["steps"], step=1, label="Steps", elem_id="steps")
                guidance = gr.Slider(*GUIDANCE, own["guidance"], step=0.1, label="Guidance")
            ready = gr.Dataset(
                components=[prompt],
                samples=[[one.text] for one in offered],
                label="Examples",
                type="index",
                elem_id="examples",
            )
        with gr.Column(scale=8, min_width=320):
            note = shared.html(elem_id="compare-note", live=True)
            progress = shared.html(elem_id="compare-progress")
            with gr.Column(visible=not offered[0].seeds) as nothing:
                shared.html(notices.empty(EMPTY))
                example = gr.Button("Compare this prompt", elem_classes="action", elem_id="first-example")
            with gr.Column(visible=False, elem_id="pair") as result:
                seed = gr.Radio([], label="Seed", visible=False, elem_id="pair-seed")
                with gr.Tabs():
                    with gr.Tab("Side by side"), gr.Row(equal_height=False):
                        with gr.Column(min_width=240):
                            none = _image("Without projector", "image-none")
                            none_seen = DetectorLine(elem_id="detector-none")
                            none_total = shared.html()
                            none_words = WordScores(elem_id="words-none")
                            annotate_none = gr.Button("Annotate this", size="sm", elem_id="annotate-none")
                        with gr.Column(min_width=240):
                            projected = _image(wording.PROJECTED, "image-projected")
                            projected_seen = DetectorLine(elem_id="detector-projected")
                            projected_total = shared.html()
                            projected_words = WordScores(elem_id="words-projected")
                            annotate_projected = gr.Button(
                                "Annotate this", size="sm", elem_id="annotate-projected"
                            )
                    with gr.Tab("Slider"):
                        slider = gr.ImageSlider(
                            format="png",
                            show_label=False,
                            interactive=False,
                            elem_classes="picture",
                            elem_id="pair-slider",
                            max_height=520,
                        )
                        gr.Markdown(
                            "Left of the line: the first image. Right: the second.", elem_classes="quiet"
                        )

    seen = [none_seen, projected_seen]
    unseen = [detector.line(None)] * 2  # until the detector has looked, which no image waits for
    pair = [
        none,
        projected,
        slider,
        none_words,
        projected_words,
        none_total,
        projected_total,
        annotate_none,
        annotate_projected,
        *seen,
    ]
    frame = [note, progress, nothing, result, seed, run, stop, kept]

    def show(found: Pair | None) -> list[Any]:
        """Values of ``pair``."""
        if found is None:
            return [None, None, None, chips([]), chips([]), "", "", gr.skip(), gr.skip(), *unseen]
        with_it, without = found.projected, found.none
        left, right = shared.served(without.image_path), shared.served(with_it and with_it.image_path)
        return [
            left,
            gr.update(value=right, label=wording.named(found)),
            None if left is None or right is None else (left, right),
            chips(without.words, sample=without.id),
            chips(with_it.words, sample=with_it.id, before=without.words) if with_it else chips([]),
            wording.total(without),
            wording.total(with_it, without),
            gr.update(interactive=True),
            gr.update(visible=with_it is not None, interactive=True),
            *unseen,
        ]

    def looked(kept: Any, seed: Any) -> list[Any]:
        """What the detector says of the pair that is shown."""
        try:
            found = pair_of(kept, seed)
        except ValueError:
            found = None
        views = (found.none, found.projected) if found else (None, None)
        return [detector.line(view and studio.detector.of(view)) for view in views]

    def drawn(update: CompareUpdate, second: str = wording.PROJECTED) -> list[Any]:
        """Values of ``frame`` and ``pair`` for one report; second: what the second image is called meanwhile. The images go with each: a browser that is behind takes only
        the last of several reports, and one that skips them would leave the preview where it is."""
        over = update.stage in ("done", "stopped")
        values: list[Any] = [
            notices.notice(update.message),
            notices.bar(*wording.how_far(update)),
            gr.update(visible=update.stage == "stopped" and not update.pairs),
            gr.update(visible=True)
            if update.pairs or update.previews
            else gr.skip(),  # the last pair stays till then
            _seed_choice(update.pairs) if update.pairs else gr.skip(),
            gr.update(interactive=over),
            gr.update(interactive=not over),
            _ids(update.pairs) if update.pairs else gr.skip(),
        ]
        if update.pairs:
            return values + show(update.pairs[0])
        if update.previews:
            left, right = (shared.enlarged(image) for image in update.previews[0])
            values[frame.index(seed)] = gr.update(visible=False)  # those of the comparison before
            not_yet = [gr.update(interactive=False)] * 2
            second_image = gr.update(value=right, label=second)
            return [*values, left, second_image, None, chips([]), chips([]), "", "", *not_yet, *unseen]
        return values + [gr.skip()] * len(pair)

    @told
    def compare(
        prompt: Any,
        seeds: Any,
        strength: Any,
        steps: Any,
        guidance: Any,
        noise: Any,
        kept: Any,
        request: gr.Request,
        profile: gr.OAuthProfile | None,
    ) -> Iterator[list[Any]]:
        asked = check_request(prompt, seeds, steps, guidance, strength, noise=noise)
        limits(studio, profile).check_request(asked, studio.store)
        halt = stops[str(request.session_hash)] = threading.Event()
        try:
            while not loading.over and not halt.is_set():
                yield drawn(CompareUpdate("encode", message=f"{loading.stage} This goes on by itself."))
                time.sleep(0.5)
            if loading.problem:
                raise ValueError(loading.problem)
            last, final = 0.0, None
            for update in studio.comparison.compare(asked, halt):
                final = update
                if update.stage == "denoise" and update.step < update.total:
                    if time.monotonic() - last < PREVIEW_SECONDS:
                        continue
                    last = time.monotonic()
                yield drawn(update, wording.PROJECTED if asked.noise == "projected" else wording.CHOSEN)
            if final is not None and final.stage == "stopped" and not final.pairs:
                yield before(kept, final)
            if final is not None and final.stage == "done" and len(final.pairs) > 1:
                values = drawn(final)
                for opinions in ({}, opinions_of(final.pairs)):
                    told = (wording.summary(final.pairs, opinions), final.message)
                    values[0] = notices.notice(" ".join(part for part in told if part))
                    yield values
        finally:
            stops.pop(str(request.session_hash), None)

    def opinions_of(pairs: list[Pair]) -> dict[str, Any]:
        """The detector's of all images of some pairs, by sample."""
        views = [view for pair in pairs for view in (pair.none, pair.projected) if view]
        return {view.id: opinion for view in views if (opinion := studio.detector.of(view))}

    def before(kept: Any, stopped: CompareUpdate) -> list[Any]:
        """Values of ``frame`` and ``pair`` after a stop that kept nothing: what was shown before, or that there is nothing."""
        values, found = drawn(stopped), kept_pairs(kept)
        if not found:
            return [*values[:3], gr.update(visible=False), *values[4:]]
        told = notices.notice(f"{stopped.message} Below is the comparison before it.")
        return [
            told,
            values[1],
            gr.update(visible=False),
            gr.update(visible=True),
            _seed_choice(found),
            *values[5:8],
            *show(found[0]),
        ]

    def idle() -> tuple[Any, Any]:
        """The buttons, whatever happened; a run that failed shows no progress."""
        return gr.update(interactive=True), gr.update(interactive=False)

    def failed(kept: Any) -> list[Any]:
        """The comparison before it is shown again, where there is one."""
        found = kept_pairs(kept)
        again = [_seed_choice(found), *show(found[0])] if found else [gr.skip()] * (1 + len(pair))
        return [*idle(), "", *again]

    def halt(request: gr.Request) -> Any:
        event = stops.get(str(request.session_hash))
        if event is not None:
            event.set()
        return gr.update(interactive=False)

    def gone(request: gr.Request) -> None:
        event = stops.pop(str(request.session_hash), None)
        if event is not None:
            event.set()

    def pair_of(kept: Any, seed: Any) -> Pair | None:
        for number, without, with_it in _readable(kept):
            if number == str(seed):
                return Pair(
                    int(number),
                    studio.annotation.sample(without),
                    studio.annotation.sample(with_it) if with_it else None,
                )
        return None

    def kept_pairs(kept: Any) -> list[Pair]:
        """The last comparison of this browser; nothing where one of its images is gone."""
        try:
            entries = _readable(kept)
            return [p for p in (pair_of(entries, entry[0]) for entry in entries) if p is not None]
        except ValueError:
            return []

    @told
    def choose(kept: Any, seed: Any) -> list[Any]:
        return show(pair_of(kept, seed))

    def opened(found: list[Pair]) -> list[Any]:
        """Values of ``place``: stored pairs, and what was asked for them. Of examples, the one that changes most is
        shown first."""
        asked, says, at = [found[0].none.prompt, ", ".join(str(p.seed) for p in found)], "", 0
        if example := first.said_of(studio, found):
            at = max(range(len(found)), key=lambda i: abs(wording.gain(found[i]) or 0.0))
            says = f"{example} Shown is the seed that changes most." if len(found) > 1 else example
        shown = [gr.update(visible=False), gr.update(visible=True), _seed_choice(found, at)]
        return [*asked, notices.notice(says), *shown, _ids(found), *show(found[at])]

    @told
    def example_at(index: Any) -> list[Any]:
        """An example: its pairs where they are stored, else its prompt."""
        chosen = offered[index if isinstance(index, int) and 0 <= index < len(offered) else 0]
        found = first.pairs_of(studio, chosen)
        return opened(found) if found else [chosen.prompt, *[gr.skip()] * (len(place) - 1)]

    def restore(kept: Any, asked: Any) -> list[Any]:
        """The last comparison of this browser, from the store, and what was asked for it; else the first example. Where a
        reload has ended a comparison, what was asked is in its fields again."""
        found = kept_pairs(kept) or first.pairs_of(studio, offered[0])
        values = opened(found) if found else [gr.skip()] * len(place)
        if again := reloaded.read(asked):
            values[:3] = [*again, notices.notice(reloaded.ENDED)]
        return values

    asked = gr.JSON(visible=False)  # of a comparison that a reload has ended
    place = [prompt, seeds, note, nothing, result, seed, kept, *pair]
    settings = [prompt, seeds, strength, steps, guidance, noise]
    busy = {"concurrency_limit": 1, "concurrency_id": MODELS, "show_progress": "hidden"}
    quick = shared.QUICK
    for ask in (run.click, prompt.submit, example.click):
        made = ask(compare, [*settings, kept], [*frame, *pair], api_visibility="private", **busy)
        ask(None, [prompt, seeds], None, js=reloaded.ASKED)
        made.then(None, None, None, js=reloaded.ANSWERED)
        made.success(idle, None, [run, stop], **shared.ASKED).then(looked, [kept, seed], seen, **quick)
        back = made.failure(failed, kept, [run, stop, progress, seed, *pair], **quick)
        back.then(looked, [kept, seed], seen, **quick)
    stop.click(halt, None, stop, **shared.ASKED)
    randomise.click(seeds_form.drawn_anew, seeds, seeds, **shared.ASKED)
    for shown in (
        seed.input(choose, [kept, seed], pair, **shared.ASKED),
        ready.click(example_at, ready, place, **shared.ASKED),
        memory.recalled.then(restore, [kept, asked], place, js=reloaded.RECALL, **quick),
    ):
        shown.then(looked, [kept, seed], seen, **quick)
    noise.change(lambda way: gr.update(visible=way == "projected"), noise, strength, **quick)
    page.unload(gone)
    return CompareTab(annotate_none, annotate_projected, seed)


def sample_of(kept: Any, seed: Any, projected: bool) -> str:
    """The id of the sample that is shown; ValueError where there is none."""
    for entry in _readable(kept):
        if entry[0] == str(seed):
            id = entry[2] if projected else entry[1]
            if id:
                return id
    raise ValueError("There is no image here to annotate: compare something first.")


def _image(label: str, name: str) -> gr.Image:
    return gr.Image(
        label=label,
        format="png",
        interactive=False,
        buttons=["download", "fullscreen"],
        elem_id=name,
        elem_classes="picture",
    )


def _seed_choice(pairs: list[Pair], at: int = 0) -> Any:
    """The seeds to choose from, each with its gain; which of them is shown."""
    choices = []
    for pair in pairs:
        by = wording.gain(pair)
        choices.append((f"{pair.seed}  {wording.arrow(by)}".strip(), str(pair.seed)))
    return gr.update(choices=choices, value=choices[at][1], visible=len(choices) > 1)


def _ids(pairs: list[Pair]) -> Kept:
    return [[str(p.seed), p.none.id, p.projected.id if p.projected else None] for p in pairs]


def _readable(kept: Any) -> Kept:
    """What the browser kept, as far as it has the right form."""
    found: Kept = []
    for entry in kept if isinstance(kept, list) else []:
        if not (isinstance(entry, list) and len(entry) == 3 and all(isinstance(id, str) for id in entry[:2])):
            continue
        if entry[0].isdecimal() and (entry[2] is None or isinstance(entry[2], str)):
            found.append(entry)
    return found[:MAX_SEEDS]
