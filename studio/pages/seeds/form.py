"""The form of the page Seeds: what to draw, and how to fill it again from a grid, a sample or a dropped PNG."""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Iterable, Sequence
from html import escape
from typing import Any

import gradio as gr

from core.words import MAX_PROMPT
from studio.components.notices import counted
from studio.grids.grid import MAX_CELLS, GridRequest, GridView, Variant, check_grid
from studio.images.options import read_options
from studio.pages import sampling, shared
from studio.pages.shared import QUICK
from studio.settings import Settings
from studio.studio import Studio

PROMPT = "a green star to the left of an orange triangle"
FIRST = {"prompt": "a red circle above a blue square", "seeds": "1-4", "methods": ["none", "projected"]}
MANY = 8  # seeds where none can be read
LARGEST = 2**31


@dataclasses.dataclass
class Form:
    """The parts of the form; ``fields`` in the order of ``check_grid``, then those of ``studio.pages.sampling``."""

    fields: list[Any]
    keep: gr.Checkbox
    randomise: gr.Button
    drop: gr.File
    start: gr.Button
    plan: gr.HTML

    @property
    def seeds(self) -> gr.Textbox:
        return self.fields[1]

    @property
    def methods(self) -> gr.Dropdown:
        return self.fields[2]


def build(studio: Studio) -> Form:
    methods = studio.grids.methods()

    def axis(name: str, info: str, value: str = "") -> gr.Textbox:
        """Text, as an empty number becomes 0."""
        return gr.Textbox(
            value, label=name, info=info, placeholder="" if value else "the model's own",
            elem_id=f"seeds-{name.lower()}", min_width=130, max_length=200, scale=2,
        )  # fmt: skip

    with gr.Row(equal_height=False):
        prompt = gr.Textbox(
            PROMPT, label="Prompt", info="What every image should show", max_lines=4, max_length=MAX_PROMPT, scale=6,
            min_width=300, elem_id="seeds-prompt",
        )  # fmt: skip
        seeds = gr.Textbox(
            "1-8", label="Seeds", info="The rows: 1-16, or 7, 9, 30-33", max_length=2000, scale=3, min_width=180,
            elem_id="seeds-seeds",
        )  # fmt: skip
        with gr.Column(scale=2, min_width=180):
            keep = gr.Checkbox(True, label="Lock the seeds", info="Else each start draws new ones.")
            randomise = gr.Button("Randomise", size="sm", elem_id="seeds-random")
    with gr.Row(equal_height=False):
        chosen = gr.Dropdown(
            methods,
            value=starting(methods),
            multiselect=True,
            allow_custom_value=True,
            label="Ways to make each image",
            info="The columns. The short names from cfg to seg are kinds of guidance; pag, seg, slg and autoguidance steer "
            "away from a weakened copy of the model. Others can be written: pag-4, cfg-7+projected.",
            scale=5,
            min_width=300,
        )
        strengths = axis("Strengths", "0,0.5,1 or 0-1 (+0.25)", "1")
        guidance, steps = axis("Guidance", "5 or 3,5,7"), axis("Steps", "20 or 10-30 (+10)")
    with gr.Accordion("Sampling", open=False, elem_id="seeds-sampling") as folded:
        options = sampling.build(studio, "seeds")
    folded.expand(lambda: sampling.choices(studio), None, options[2], **QUICK)
    with gr.Accordion("Size, and settings from a picture", open=False, elem_id="seeds-more"), gr.Row():
        width, height = axis("Width", "In pixels"), axis("Height", "In pixels")
        drop = gr.File(
            label="Drop a PNG to take over its settings", file_types=[".png"], height=130, scale=2, min_width=280,
            elem_id="seeds-drop",
        )  # fmt: skip
    with gr.Row(equal_height=True):
        start = gr.Button("Make the grid", variant="primary", scale=0, min_width=180, elem_id="seeds-start")
        plan = shared.html(elem_id="seeds-plan", scale=1)
    fields = [prompt, seeds, chosen, strengths, guidance, steps, width, height, *options]
    return Form(fields, keep, randomise, drop, start, plan)


def starting(methods: Sequence[tuple[str, str]]) -> list[str]:
    """The default methods: none, and projected where there is a projector."""
    values = [value for _, value in methods]
    return [value for value in ("none", "projected") if value in values]


def request_of(settings: Settings, *fields: Any) -> GridRequest:
    """What the fields of the form ask for."""
    axes, options = fields[1 : -sampling.COUNT], fields[-sampling.COUNT :]
    prompt, chosen = read_options(settings, fields[0], *options)
    return dataclasses.replace(check_grid(prompt, *axes), options=chosen)


def planned(settings: Settings, *asked: Any) -> str:
    """What the form as it stands would make, or why it cannot."""
    try:
        request = request_of(settings, *asked)
    except ValueError as error:
        return f'<p class="quiet seeds-unfit" role="status">{escape(str(error))}</p>'
    rows, columns = len(request.seeds), len(request.variants)
    words = f"{counted(rows, 'seed')} × {counted(columns, 'column')} = {counted(request.total, 'image')}"
    most = "" if request.total <= MAX_CELLS / 2 else f" (at most {MAX_CELLS})"
    projected = any("projected" in variant.method.split("+") for variant in request.variants)
    plan = f"{words}{most}; those that exist already are not made again."
    notes = request.options.notes(projected) if request.options else []
    return f'<p class="quiet" role="status">{" ".join([plan, *notes])}</p>'


def drawn_anew(seeds: Any, number: random.Random | None = None) -> str:
    """As many seeds as the box has now, consecutive from a random one."""
    try:
        many = len(check_grid("red", seeds, ["none"]).seeds)
    except ValueError:
        many = MANY
    first = (number or random.SystemRandom()).randrange(1, LARGEST)
    return str(first) if many == 1 else f"{first}-{first + many - 1}"


def of_grid(
    view: GridView, methods: Sequence[tuple[str, str]], width: Any = None, height: Any = None
) -> list[Any]:
    """Values of the form's fields that ask for a grid again."""
    return [
        view.options.weighted or view.prompt,
        ranges(view.seeds),
        list(dict.fromkeys(_method(variant, methods) for variant in view.variants)),
        _numbers(v.strength for v in view.variants if "projected" in v.method.split("+")) or "1",
        _numbers(variant.guidance for variant in view.variants),
        _numbers(variant.steps for variant in view.variants),
        _text(width),
        _text(height),
        *sampling.values_of(view.options),
    ]


def of_picture(
    settings: dict[str, Any], methods: Sequence[tuple[str, str]], loras: Sequence[str] = ()
) -> tuple[list[Any], str]:
    """Values of the form's fields that ask for one image again, beside the same without a projector, and what of the picture
    was left out. loras: the LoRA files that are there."""
    method, seed, strength = (
        str(settings.get("method") or "none"),
        settings.get("seed"),
        settings.get("strength"),
    )
    made = Variant("", method, str(settings.get("run") or ""))
    chosen = ["none"] if method == "none" else ["none", _method(made, methods)]
    power = "1" if method == "none" or strength is None else _text(strength)
    options, missing = sampling.values_of_picture(settings, loras)
    fields = [settings.get("prompt", ""), f"1-{MANY}" if seed is None else str(seed), chosen, power,
              *(_text(settings.get(name)) for name in ("guidance", "steps", "width", "height")), *options]  # fmt: skip
    return fields, f"{settings.get('note', '')} {missing}".strip()


def _method(variant: Variant, methods: Sequence[tuple[str, str]]) -> str:
    """A variant's method as the list has it: the one in use by its plain name."""
    exact = f"{variant.method}:{variant.run}" if variant.run else variant.method
    values = {value: label for label, value in methods}
    if exact in values or not variant.run:
        return exact
    used = values.get(variant.method, "")
    return variant.method if variant.run in used else exact


def ranges(seeds: Sequence[int]) -> str:
    """Seeds as ranges: "1-4, 9"."""
    parts: list[list[int]] = []
    for seed in seeds:
        if parts and seed == parts[-1][-1] + 1:
            parts[-1][1:] = [seed]
        else:
            parts.append([seed])
    return ", ".join("-".join(str(seed) for seed in run) for run in parts)


def _numbers(values: Iterable[Any]) -> str:
    return ",".join(dict.fromkeys(_text(value) for value in values if value is not None))


def _text(value: Any) -> str:
    return "" if value is None else f"{float(value):g}"
