"""The controls of the queue (order, filters, blind mode), kept in the browser, and the progress of a person.

One hidden component holds the whole selection, as ``pages.memory`` holds who is writing; the controls fill it.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import gradio as gr

from core.words import EXTRA, KINDS
from studio.annotation.labelling import orders
from studio.components import notices
from studio.pages import shared
from studio.pages.memory import KEEP, KEY, Memory
from studio.studio import Studio
from studio.times import moment

ORDERS = {
    "uncertainty": "VLM unsure, alternating with any",
    "disagreement": "People disagree",
    "reward": "Reward model and VLM disagree",
    "projected": "Projected noise, high expected score",
    "prompt": "Stay with one prompt",
    "random": "Random",
    "newest": "Newest",
}
METHODS = {"none": "no projector", "projected": "projected"}
LABELS = {  # of the filters
    "prompt_set": "Prompt set",
    "method": "Method",
    "projector_run": "Run of the projector",
    "kind": "Kind of word",
    "prompt": "One prompt",
}
WISHES = tuple(LABELS)
ANY = ""
FRESH = 4.0  # seconds that a count is shown again instead of counting anew
RECALL = """() => {
  let kept = null;
  try { kept = JSON.parse(localStorage.getItem("KEY.queue")); } catch { /* as if nothing were kept */ }
  const selection = kept && typeof kept === "object" ? kept : {};
  return [selection, selection.order || "uncertainty", Boolean(selection.blind), ...NAMES.map((name) => selection[name] || "")];
}"""
# after a lost connection Gradio loads the page anew: back to the tab where keys of this page still wait
RETURN = """() => {
  try {
    const tab = JSON.parse(sessionStorage.getItem("KEY.tab"));
    if (!tab || !Object.keys(localStorage).some((name) => name.startsWith("KEY.pending." + tab + "."))) return;
    const buttons = Array.from(document.querySelectorAll("#tabs [role=tab]"));
    buttons.find((button) => button.textContent.trim() === "Annotate")?.click();
  } catch { /* a browser that keeps nothing has nothing to return to */ }
}"""


@dataclass(frozen=True)
class Selection:
    """Which images a person wants, in which order."""

    order: str = "uncertainty"
    blind: bool = False
    filters: dict[str, Any] = field(default_factory=dict)


def read_selection(kept: Any) -> Selection:
    """A selection from what the browser kept; what cannot be one is left out, as it came over HTTP."""
    kept = kept if isinstance(kept, Mapping) else {}
    order = kept.get("order")
    filters = {name: kept[name] for name in WISHES if isinstance(kept.get(name), str) and kept[name].strip()}
    return Selection(order if order in orders() else "uncertainty", kept.get("blind") is True, filters)


@dataclass
class Controls:
    """The filters, a button for the prompt of this image alone, one for all images; and the controls that make the
    selection, in the order of ``selection_of``."""

    filters: list[gr.Dropdown]
    only: gr.Button
    everything: gr.Button
    inputs: list[Any]


def selection_of(order: Any, blind: Any, *filters: Any) -> dict[str, Any]:
    """The selection that the controls show."""
    return {"order": order, "blind": blind is True, **dict(zip(WISHES, filters, strict=True))}


def head(name: gr.Textbox) -> tuple[gr.JSON, gr.Dropdown, gr.Checkbox]:
    """The controls that are changed most, beside the name; called where they stand on the page."""
    name.render()
    order = gr.Dropdown(
        [(label, order) for order, label in ORDERS.items()],
        value="uncertainty",
        label="Queue order",
        elem_id="order",
        min_width=230,
    )
    blind = gr.Checkbox(
        label="Blind mode",
        info="Hides the VLM's score of a word until you have given yours.",
        elem_id="blind",
        min_width=230,
    )
    return gr.JSON({}, visible=False), order, blind


def build(studio: Studio, view: gr.JSON, order: gr.Dropdown, blind: gr.Checkbox, memory: Memory) -> Controls:
    """The panel of filters, and the events that keep the selection in the browser."""
    with gr.Accordion("Which images", open=False, elem_id="which-images") as panel:
        with gr.Row():
            filters = [
                gr.Dropdown(
                    [("all", ANY)],
                    value=ANY,
                    label=LABELS[name],
                    allow_custom_value=True,
                    elem_id=f"filter-{name.replace('_', '-')}",
                    min_width=160,
                )
                for name in WISHES
            ]
        with gr.Row():
            only = gr.Button("Only this image's prompt", min_width=160)
            everything = gr.Button("All images", min_width=160)

    def offered() -> list[Any]:
        """The choices of each filter, from what is in the store by now."""
        return [gr.update(choices=choices(studio, name)) for name in WISHES]

    recall = RECALL.replace("KEY", KEY).replace("NAMES", str(list(WISHES)))
    memory.recalled.then(None, None, [view, order, blind, *filters], js=recall).then(
        None, None, None, js=RETURN.replace("KEY", KEY)
    )
    view.change(None, view, None, js=KEEP.replace("KEY", KEY).replace("NAME", "queue"))
    panel.expand(offered, None, filters, **shared.QUICK)
    return Controls(filters, only, everything, [order, blind, *filters])


def choices(studio: Studio, name: str) -> list[tuple[str, str]]:
    """(label, value) of a filter, all first."""
    labels: dict[str, str] = {}
    if name == "kind":
        values = [kind for kind in KINDS if kind != EXTRA]
    else:
        values = studio.store.desk.choices(name)
    if name == "method":
        labels = METHODS
    elif name == "projector_run":
        runs = {run["id"]: f"{moment(run['created'])}, " for run in studio.store.runs.find(limit=1000)}
        labels = {id: f"{runs.get(id, '')}{id[:8]}" for id in values}
    return [("all", ANY), *((labels.get(value, value), value) for value in values)]


class Counts:
    """The progress of each person, counted anew every few seconds at most: with a million scores it takes 0.4 s."""

    def __init__(self, studio: Studio) -> None:
        self.studio = studio
        self._kept: dict[Any, tuple[float, dict[str, Any]]] = {}
        self._lock = threading.Lock()

    def of(self, who: str, selection: Selection) -> dict[str, Any]:
        """{mine, all, left, per_hour}."""
        key = (who, tuple(sorted(selection.filters.items())))
        with self._lock:
            when, counted = self._kept.get(key, (0.0, {}))
        if counted and time.monotonic() - when < FRESH:
            return counted
        overlap = self.studio.settings.overlap or None
        counted = self.studio.store.tallies.queue(who, overlap, **{"split": "train", **selection.filters})
        with self._lock:
            if len(self._kept) > 500:
                self._kept.clear()
            self._kept[key] = (time.monotonic(), counted)
        return counted

    def forget(self, who: str) -> None:
        """Count this person's progress anew the next time: they took something back."""
        with self._lock:
            for key in [key for key in self._kept if key[0] == who]:
                del self._kept[key]


def progress(counted: Mapping[str, Any], who: str, filtered: bool) -> str:
    """The progress bar with its text; '' where there is nothing to do at all."""
    mine, left = counted["mine"], counted["left"]
    if not mine and not left and not counted["all"]:
        return ""
    you = "you" if who.startswith("anonymous-") else who
    pace = f" · {counted['per_hour']:.0f} images an hour" if counted["per_hour"] else ""
    which = " of the images that you chose" if filtered else ""
    words = f"{mine:,} done by {you} · {counted['all']:,} by all · {left:,} left for {you}{which}{pace}"
    return notices.bar(mine / (mine + left) if mine + left else 1.0, words)
