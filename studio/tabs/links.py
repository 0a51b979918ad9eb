"""Links into the page: ``?grid=ID`` opens Seeds, ``?sample=ID`` and "Annotate this" of Seeds open Annotate."""

from __future__ import annotations

from typing import Any

import gradio as gr

from studio.components.scripted import text
from studio.tabs.annotate import AnnotateTab
from studio.tabs.memory import Memory
from studio.tabs.seeds import SeedsTab
from studio.tabs.shared import told

LONGEST = 64  # characters of an id
# a sample that was opened by its link is remembered as any other; a reload goes on from there
OPENED = """() => {
  const here = new URL(location.href);
  if (here.searchParams.has("sample")) {
    here.searchParams.delete("sample");
    history.replaceState(null, "", here);
  }
}"""


def linked(request: gr.Request | None, name: str) -> str:
    """What the address gives under a name; ValueError with a sentence for what can be no id."""
    found = request.query_params.get(name) if request is not None else None
    if found is None:
        return ""
    if not found.strip() or len(found) > LONGEST:
        raise ValueError(f"The link's {name} is no id: copy the whole link again.")
    return found.strip()


def build(memory: Memory, tabs: gr.Tabs, annotating: AnnotateTab, seeing: SeedsTab) -> None:
    outputs = [tabs, *annotating.outputs]

    @told
    def follow(request: gr.Request, profile: gr.OAuthProfile | None, *given: Any) -> list[Any]:
        """Where the address leads, once the browser has said who it is."""
        sample = linked(request, "sample")
        if sample:
            return [gr.Tabs(selected="annotate"), *annotating.open(sample, *given, profile)]
        where = gr.Tabs(selected="seeds") if linked(request, "grid") else gr.skip()
        return [where, *[gr.skip()] * len(annotating.outputs)]

    @told
    def annotate(event: gr.EventData, profile: gr.OAuthProfile | None, *given: Any) -> list[Any]:
        sample = text(event._data, "sample")
        return [gr.Tabs(selected="annotate"), *annotating.open(sample, *given, profile)]

    # through the queue: Gradio shows no error of what does not go through it
    says = {"concurrency_limit": None, "show_progress": "hidden", "api_visibility": "private"}
    memory.recalled.then(follow, annotating.inputs, outputs, **says).then(None, None, None, js=OPENED)
    seeing.viewer.annotate(annotate, annotating.inputs, outputs, **says)
