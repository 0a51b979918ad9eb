"""The fields of sampling that Compare and Seeds share: negative prompt, scheduler, LoRA files, weights in the prompt."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import gradio as gr

from core.schedulers import SCHEDULERS
from core.words import MAX_PROMPT
from studio.images.options import (
    SUFFIX,
    SamplingOptions,
    default_options,
    lora_items,
    lora_names,
    split_item,
)
from studio.images.png_text import SAMPLERS
from studio.studio import Studio

OWN = ("the model's own", "")
LORA_INFO = "Files of the folder loras in STUDIO_HOME. Another weight than 1 is written behind the name: style.safetensors:0.8."
NO_LORA = "There is none: an administrator can put .safetensors files into the folder loras of STUDIO_HOME."
COUNT = 4  # fields


def build(studio: Studio, name: str) -> list[Any]:
    """The fields in the order of `studio.images.options.read_options`. name: of the page, in the ids of its elements."""
    default, loras = default_options(studio.settings), lora_names(studio.settings)
    with gr.Row():
        negative = gr.Textbox(
            default.negative, label="Negative prompt", info="What the images should not show. The projector does not read it.",
            max_length=MAX_PROMPT, max_lines=3, min_width=260, elem_id=f"{name}-negative",
        )  # fmt: skip
        scheduler = gr.Dropdown(
            [OWN, *((f"{SAMPLERS.get(kind, kind)} ({kind})", kind) for kind in SCHEDULERS)], value=default.scheduler,
            label="Scheduler", min_width=200, elem_id=f"{name}-scheduler",
        )  # fmt: skip
    # one below the other: a row gives a checkbox no width of its own
    files = gr.Dropdown(
        loras, value=[], multiselect=True, allow_custom_value=True, label="LoRA files",
        info=LORA_INFO if loras else NO_LORA, elem_id=f"{name}-loras",
    )  # fmt: skip
    weighted = gr.Checkbox(
        False, label="Weights in the prompt", elem_id=f"{name}-weighted",
        info="(hat:1.3) draws more of the hat, [hat] less, also in the negative prompt. Words are scored as in the plain prompt.",
    )  # fmt: skip
    return [negative, scheduler, files, weighted]


def choices(studio: Studio) -> Any:
    """The LoRA files that are there now, for their field."""
    names = lora_names(studio.settings)
    return gr.update(choices=names, info=LORA_INFO if names else NO_LORA)


def values_of(options: SamplingOptions) -> list[Any]:
    """Values of the fields that ask for these options again."""
    return [options.negative, options.scheduler, lora_items(options.loras), bool(options.weighted)]


def values_of_picture(settings: dict[str, Any], names: Sequence[str]) -> tuple[list[Any], str]:
    """Values of the fields from a picture (`studio.images.png_text`), and what of it was left out. names: of the LoRA files
    that are there."""
    known: list[str] = []
    missing: list[str] = []
    for item in settings.get("loras") or []:
        name, weight = split_item(item)
        full = name if name.endswith(SUFFIX) else f"{name}{SUFFIX}"
        (known if full in names else missing).append(full if weight in ("", "1") else f"{full}:{weight}")
    note = f"Not there are its LoRA files {', '.join(missing)[:200]}." if missing else ""
    return [
        settings.get("negative") or "",
        settings.get("scheduler") or "",
        known,
        bool(settings.get("weighted")),
    ], note
