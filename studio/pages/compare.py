"""The page Compare: the same seeds without and with the projector, or the best of 8 noises, with the scores of all words."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

import gradio as gr

from core.words import MAX_PROMPT
from studio.access.limits import limits
from studio.access.waiting import MODELS
from studio.components import detector, notices
from studio.components.detector import DetectorLine
from studio.components.notices import arrow, signed
from studio.components.word_scores import WordScores, chips
from studio.images.detecting import Opinion, compared
from studio.images.options import LONGEST_NAME, MOST, options_of, read_options, replaced
from studio.images.views import GUIDANCE, MAX_SEEDS, STEPS, totals
from studio.images.views import shared as in_both
from studio.pages import first, sampling, shared
from studio.pages.memory import KEY, Memory
from studio.pages.seeds.form import drawn_anew
from studio.pages.shared import ASKED, QUICK, SILENT, Loading, Update, shows_errors
from studio.studio import CompareUpdate, Pair, SampleView, Studio, check_request

PREVIEW_SECONDS = 0.2
NOISES = [("projected", "projected"), ("best of 8", "best-noise-of-8")]
NOISE_INFO = (
    "Of the second image. Projected: changed by the projector. Best of 8: nothing is changed, the most promising of 8 "
    "noises is taken before anything is drawn."
)
EMPTY = "Nothing is compared yet. Write what the image should show and press Compare, or click an example."
# what the images are called
FIRST, PROJECTED, CHOSEN = "Without projector", "With projector", "Best of several noises"
ALONE = (
    "No model is in use that would change the noise, so there is no second image. Train one (a projector, or for the best "
    "of 8 a reward model) and promote it."
)
GONE = "The file of this image is gone. Compare the same prompt and seed again to make it anew."
# a chip's digit is the most likely score, which may be another
MEAN = (
    "The mean over the words and “nothing else” of your score where there is one, else of the expected score of the VLM's "
    "ten probabilities."
)

# A reload ends a comparison, as its events are the page's: what was asked stays with the tab of the browser.
INTERRUPTED = (
    "The page was reloaded while this comparison was made, which ended it: press Compare to make it again."
)
REMEMBER = """(...asked) => {
  try { sessionStorage.setItem("KEY", JSON.stringify(asked)); } catch { /* a browser that keeps nothing */ }
}""".replace("KEY", f"{KEY}.compare")
FORGET = """() => {
  try { sessionStorage.removeItem("KEY"); } catch { /* nothing was kept */ }
}""".replace("KEY", f"{KEY}.compare")
RECALL = """(kept, asked) => {
  try { asked = JSON.parse(sessionStorage.getItem("KEY")); sessionStorage.removeItem("KEY"); } catch { asked = null; }
  return [kept, asked];
}""".replace("KEY", f"{KEY}.compare")


@dataclass
class CompareTab:
    """What other tabs listen to: the buttons that open an image for annotation, and the seed that is shown."""

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
                offered[0].prompt,
                label="Prompt",
                lines=2,
                max_lines=4,
                max_length=MAX_PROMPT,
                elem_id="prompt",
            )
            with gr.Row():
                run = gr.Button("Compare", variant="primary", scale=2, min_width=120, elem_id="run")
                stop = gr.Button("Stop", variant="stop", interactive=False, min_width=80, elem_id="stop")
            seeds = gr.Textbox(
                "7",
                label="Seeds",
                info=f"Whole numbers, such as 7, 8, 9 or 10-13; {MAX_SEEDS} at most.",
                elem_id="seeds",
            )
            randomise = gr.Button("Other seeds", size="sm")
            noise = gr.Dropdown(NOISES, value="projected", label="Noise", info=NOISE_INFO, elem_id="noise")
            strength = gr.Slider(
                0, 1, 1, step=0.05, label="Strength", info="0 is the very image without the projector."
            )
            with gr.Accordion("Sampling", open=False, elem_id="compare-sampling") as folded:
                defaults = studio.models.sampling()
                steps = gr.Slider(*STEPS, defaults["steps"], step=1, label="Steps", elem_id="steps")
                guidance = gr.Slider(*GUIDANCE, defaults["guidance"], step=0.1, label="Guidance")
                options = sampling.build(studio, "compare")
            texts = [[one.text] for one in offered]
            ready = gr.Dataset(
                components=[prompt], samples=texts, label="Examples", type="index", elem_id="examples"
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
                        none, none_seen, none_total, none_words, annotate_none = _side("none", FIRST)
                        projected, projected_seen, projected_total, projected_words, annotate_projected = (
                            _side("projected", PROJECTED)
                        )
                    with gr.Tab("Slider"):
                        slider = gr.ImageSlider(
                            format="png", show_label=False, interactive=False, elem_classes="picture",
                            elem_id="pair-slider", max_height=520,
                        )  # fmt: skip
                        gr.Markdown(
                            "Left of the line: the first image. Right: the second.", elem_classes="quiet"
                        )

    unseen = dict.fromkeys((none_seen, projected_seen), detector.line(None))  # until the detector has looked
    pair = [none, projected, slider, none_words, projected_words, none_total, projected_total, annotate_none,
            annotate_projected, *unseen]  # fmt: skip
    frame = [note, progress, nothing, result, seed, run, stop, kept]
    hidden, visible = gr.update(visible=False), gr.update(visible=True)
    on, off = gr.update(interactive=True), gr.update(interactive=False)
    idle: Update = {run: on, stop: off}
    blank: Update = {slider: None, none_words: chips([]), projected_words: chips([]), none_total: "", projected_total: "",
                     **unseen}  # fmt: skip

    def show(stored: Pair | None) -> Update:
        """A stored pair, or none."""
        if stored is None:
            return {none: None, projected: None, **blank}
        with_it, without = stored.projected, stored.none
        left, right = (
            shared.served(without.image_path),
            shared.served(with_it.image_path if with_it else None),
        )
        return {
            none: left,
            projected: gr.update(value=right, label=named(stored)),
            slider: None if left is None or right is None else (left, right),
            none_words: chips(without.words, sample=without.id),
            projected_words: chips(
                with_it.words if with_it else [], sample=with_it.id if with_it else "", before=without.words
            ),
            none_total: total(without),
            projected_total: total(with_it, without),
            annotate_none: on,
            annotate_projected: gr.update(visible=with_it is not None, interactive=True),
            **unseen,
        }

    def looked(kept: Any, seed: Any) -> Update:
        """The detector's opinions of the pair that is shown."""
        try:
            shown = pair_of(kept, seed)
        except ValueError:
            shown = None
        views = (shown.none, shown.projected) if shown else (None, None)
        opinions = [studio.detector.of(view) if view else None for view in views]
        return dict(zip(unseen, map(detector.line, opinions), strict=True))

    def drawn(update: CompareUpdate, second: str = PROJECTED) -> Update:
        """One report; second: the label of the second image meanwhile. The images go with each report: a browser that
        is behind takes only the last of several, and one that skipped them would leave the preview in place."""
        over = update.stage in ("done", "stopped")
        values: Update = {
            note: notices.notice(update.message),
            progress: notices.bar(*how_far(update)),
            nothing: gr.update(visible=update.stage == "stopped" and not update.pairs),
            run: gr.update(interactive=over),
            stop: gr.update(interactive=not over),
        }
        if update.pairs:
            seeds = {seed: _seed_choice(update.pairs), kept: _ids(update.pairs)}
            return {**values, result: visible, **seeds, **show(update.pairs[0])}
        if update.previews:
            left, right = (shared.enlarged(image) for image in update.previews[0])
            images = {none: left, projected: gr.update(value=right, label=second)}
            waiting = {seed: hidden, annotate_none: off, annotate_projected: off}
            return {**values, result: visible, **waiting, **images, **blank}
        return values  # the last pair stays till then

    @shows_errors
    def compare(request: gr.Request, profile: gr.OAuthProfile | None, *fields: Any) -> Iterator[Update]:
        prompt, seeds, strength, steps, guidance, noise, kept, *chosen = fields
        prompt, options = read_options(studio.settings, prompt, *chosen)
        asked = check_request(prompt, seeds, steps, guidance, strength, noise=noise, options=options)
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
                yield drawn(update, PROJECTED if asked.noise == "projected" else CHOSEN)
            if final is not None and final.stage == "stopped" and not final.pairs:
                yield before(kept, final)
            if final is not None and final.stage == "done" and len(final.pairs) > 1:
                values = drawn(final)
                for opinions in ({}, opinions_of(final.pairs)):
                    sentences = (summary(final.pairs, opinions), final.message)
                    yield {**values, note: notices.notice(" ".join(filter(None, sentences)))}
        finally:
            stops.pop(str(request.session_hash), None)

    def opinions_of(pairs: list[Pair]) -> dict[str, Any]:
        """The detector's of all images of some pairs, by sample."""
        views = [view for pair in pairs for view in (pair.none, pair.projected) if view]
        return {view.id: opinion for view in views if (opinion := studio.detector.of(view))}

    def before(kept: Any, stopped: CompareUpdate) -> Update:
        """After a stop that kept nothing: the comparison before it, or that there is none."""
        values, pairs = drawn(stopped), kept_pairs(kept)
        if not pairs:
            return {**values, result: hidden}
        said = notices.notice(f"{stopped.message} Below is the comparison before it.")
        return {**values, note: said, nothing: hidden, result: visible, **again(pairs)}

    def again(pairs: list[Pair]) -> Update:
        return {seed: _seed_choice(pairs), **show(pairs[0])}

    def failed(kept: Any) -> Update:
        """After an error: no progress, and the comparison before it where there is one."""
        pairs = kept_pairs(kept)
        return {**idle, progress: "", **(again(pairs) if pairs else {})}

    def halt(request: gr.Request) -> Any:
        """Stop this page's comparison, where one is made."""
        if event := stops.get(str(request.session_hash)):
            event.set()
        return off

    def gone(request: gr.Request) -> None:
        halt(request)

    def pair_of(kept: Any, seed: Any) -> Pair | None:
        """The pair of this seed; ValueError where one of its images is gone."""
        without, with_it = _readable(kept).get(str(seed), (None, None))
        if without is None:
            return None
        view = studio.annotation.sample
        return Pair(int(seed), view(without), view(with_it) if with_it else None)

    def kept_pairs(kept: Any) -> list[Pair]:
        """The last comparison of this browser; nothing where one of its images is gone."""
        try:
            return [pair for seed in _readable(kept) if (pair := pair_of(kept, seed))]
        except ValueError:
            return []

    @shows_errors
    def choose(kept: Any, seed: Any) -> Update:
        return show(pair_of(kept, seed))

    def opened(pairs: list[Pair]) -> Update:
        """Stored pairs, and what was asked for them. Of examples, the one that changes most is shown first."""
        says, at = "", 0
        if example := first.explanation(studio, pairs):
            at = max(range(len(pairs)), key=lambda i: abs(gain(pairs[i]) or 0.0))
            says = f"{example} Shown is the seed that changes most." if len(pairs) > 1 else example
        set_to = options_of(studio, studio.store.samples.get(pairs[0].none.id))
        asked = {
            prompt: set_to.weighted or pairs[0].none.prompt,
            seeds: ", ".join(str(p.seed) for p in pairs),
        }
        asked |= dict(zip(options, sampling.values_of(set_to), strict=True))
        says = f"{says} {replaced(studio.settings, set_to.hashes)}".strip()
        shown = {nothing: hidden, result: visible, seed: _seed_choice(pairs, at), kept: _ids(pairs)}
        return {**asked, note: notices.notice(says), **shown, **show(pairs[at])}

    @shows_errors
    def example_at(index: Any) -> Update:
        """An example: its pairs where they are stored, else its prompt."""
        chosen = offered[index if isinstance(index, int) and 0 <= index < len(offered) else 0]
        pairs = first.pairs_of(studio, chosen)
        return opened(pairs) if pairs else {prompt: chosen.prompt}

    def restore(kept: Any, asked: Any) -> Update:
        """The last comparison of this browser, from the store, and what was asked for it; else the first example. Where a
        reload has ended a comparison, what was asked is in its fields again."""
        pairs = kept_pairs(kept) or first.pairs_of(studio, offered[0])
        values = opened(pairs) if pairs else {}
        if again := interrupted(asked):
            values |= dict(zip([prompt, seeds, *options], again, strict=True)) | {
                note: notices.notice(INTERRUPTED)
            }
        return values or gr.skip()

    asked = gr.JSON(visible=False)  # of a comparison that a reload has ended
    place = [prompt, seeds, *options, note, nothing, result, seed, kept, *pair]
    settings = [prompt, seeds, strength, steps, guidance, noise, kept, *options]
    busy: dict[str, Any] = {"concurrency_limit": 1, "concurrency_id": MODELS, **SILENT}
    for ask in (run.click, prompt.submit, example.click):
        # first, as what comes after waits until the comparison has ended
        ask(None, [prompt, seeds, *options], None, js=REMEMBER)
        made = ask(compare, settings, [*frame, *pair], api_visibility="private", **busy)
        made.then(None, None, None, js=FORGET)
        made.success(lambda: idle, None, [run, stop], **ASKED).then(looked, [kept, seed], [*unseen], **QUICK)
        back = made.failure(failed, kept, [run, stop, progress, seed, *pair], **QUICK)
        back.then(looked, [kept, seed], [*unseen], **QUICK)
    stop.click(halt, None, stop, **ASKED)
    randomise.click(drawn_anew, seeds, seeds, **ASKED)
    for shown in (
        seed.input(choose, [kept, seed], pair, **ASKED),
        ready.click(example_at, ready, place, **ASKED),
        memory.recalled.then(restore, [kept, asked], place, js=RECALL, **QUICK),
    ):
        shown.then(looked, [kept, seed], [*unseen], **QUICK)
    folded.expand(lambda: sampling.choices(studio), None, options[2], **QUICK)
    noise.change(lambda way: gr.update(visible=way == "projected"), noise, strength, **QUICK)
    page.unload(gone)
    return CompareTab(annotate_none, annotate_projected, seed)


def sample_of(kept: Any, seed: Any, projected: bool) -> str:
    """The id of the sample that is shown; ValueError where there is none."""
    id = _readable(kept).get(str(seed), (None, None))[projected]
    if id is None:
        raise ValueError("There is no image here to annotate: compare something first.")
    return id


def _side(name: str, label: str) -> tuple[Any, ...]:
    """An image, the detector's line, its mean score, its words, and the button that opens it in Annotate."""
    with gr.Column(min_width=240):
        image = shared.image(f"image-{name}", label, buttons=["download", "fullscreen"])
        seen, total = DetectorLine(elem_id=f"detector-{name}"), shared.html()
        words = WordScores(elem_id=f"words-{name}")
        return image, seen, total, words, gr.Button("Annotate this", size="sm", elem_id=f"annotate-{name}")


def _seed_choice(pairs: list[Pair], at: int = 0) -> Any:
    """The seeds to choose from, each with its gain; ``at`` is the one that is shown."""
    choices = [(f"{pair.seed}  {arrow(gain(pair))}".strip(), str(pair.seed)) for pair in pairs]
    return gr.update(choices=choices, value=choices[at][1], visible=len(choices) > 1)


def _ids(pairs: list[Pair]) -> list[list[str | None]]:
    """What the browser keeps: [seed, id without the projector, id with it or None] a pair."""
    return [[str(p.seed), p.none.id, p.projected.id if p.projected else None] for p in pairs]


def _readable(kept: Any) -> dict[str, tuple[str, str | None]]:
    """{seed: (id without, id with)} of what the browser kept, as far as it has the right form."""
    pairs: dict[str, tuple[str, str | None]] = {}
    for entry in kept[:MAX_SEEDS] if isinstance(kept, list) else []:
        if isinstance(entry, list) and len(entry) == 3:
            seed, without, with_it = entry
            if (
                isinstance(seed, str)
                and seed.isdecimal()
                and isinstance(without, str)
                and isinstance(with_it, str | None)
            ):
                pairs[seed] = without, with_it
    return pairs


def interrupted(asked: Any) -> list[Any]:
    """Prompt, seeds and options of the comparison that a reload ended, as the browser kept them; nothing where it kept none."""
    kinds = (str, str, str, str, list, bool)
    if not isinstance(asked, list) or [type(value) for value in asked] != list(kinds):
        return []
    if not all(isinstance(name, str) for name in asked[4]):
        return []
    texts = [text[:MAX_PROMPT] for text in asked[:4]]
    return [*texts, [name[: LONGEST_NAME + 20] for name in asked[4][:MOST]], asked[5]]  # with a weight


# -- what is said of a pair


def how_far(update: CompareUpdate) -> tuple[float, str]:
    """Progress in 0..1, and its text."""
    done = update.step / max(1, update.total)
    return {
        "encode": (0.0, "Reading the prompt"),
        "denoise": (0.9 * done, f"Step {update.step} of {update.total}"),
        "decode": (0.93, "The images are there and stored"),
        "score": (0.96, "Scoring the words"),
        "done": (1.0, ""),
        "stopped": (0.0, ""),
    }[update.stage]


def gain(pair: Pair) -> float | None:
    """The gain in mean score of the second image, or None where it is unknown."""
    return None if pair.projected is None else change(pair.none, pair.projected)


def change(before: SampleView, after: SampleView) -> float | None:
    """The change in mean score, over the words that both have; None where a word has a score on one of them alone."""
    was, now = totals(before, after)
    if (
        was is None
        or now is None
        or any((a.score is None) != (b.score is None) for a, b in in_both(before, after))
    ):
        return None
    return now - was


def named(pair: Pair) -> str:
    """The label of the second image of a pair."""
    if pair.projected is None or not pair.chosen:
        return PROJECTED
    return f"{CHOSEN}, of seed {pair.projected.seed}"


def summary(pairs: Sequence[Pair], opinions: Mapping[str, Opinion] | None = None) -> str:
    """The change over all seeds by the VLM, and by the detector where it knows the prompt, in a sentence or two.
    opinions: the detector's, by sample."""
    gains = [by for by in map(gain, pairs) if by is not None]
    if not gains:
        return ""
    better = sum(by > 0.05 for by in gains)
    worse = sum(by < -0.05 for by in gains)
    mean = round(sum(gains) / len(gains), 1) + 0.0  # never -0.0
    does = f"changes the mean score by {signed(mean)}" if mean else "does not change the mean score"
    who = "the chosen noise" if any(pair.chosen for pair in pairs) else "the projector"
    return " ".join([
        f"By the VLM, over {len(gains)} seeds {who} {does}: better on {better}, worse on {worse}. The VLM can be wrong.",
        *detected(pairs, opinions or {}),
    ])  # fmt: skip


def detected(pairs: Sequence[Pair], opinions: Mapping[str, Opinion]) -> list[str]:
    """The detector's comparison over the same seeds; nothing where it knows none."""
    both = [
        (opinions[pair.none.id], opinions[pair.projected.id])
        for pair in pairs
        if pair.projected and pair.none.id in opinions and pair.projected.id in opinions
    ]
    if not both:
        return []
    counts = compared(both)
    return ["By the detector: better on {better}, the same on {same}, worse on {worse}.".format(**counts)]


def total(sample: SampleView | None, before: SampleView | None = None) -> str:
    """The mean score under an image, and its change; or why there is none."""
    if sample is None:
        return notices.quiet(ALONE)
    gone = "" if sample.image_path else notices.notice(GONE, problem=True)
    if sample.total is None:
        return f'{gone}<p class="total">Not scored yet</p>'
    said = ""
    if before is not None and (by := change(before, sample)) is not None:
        said = f", {arrow(by)}"
    return f'{gone}<p class="total" title="{escape(MEAN)}">Mean score <strong>{sample.total:.1f}</strong> of 9{escape(said)}</p>'
