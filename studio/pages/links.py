"""Links into the page: ``?grid=ID`` opens Seeds, ``?sample=ID`` and "Annotate this" of Seeds open Annotate."""

from __future__ import annotations

from typing import Any

import gradio as gr

from studio.components.scripted import text
from studio.pages.annotate import AnnotateTab
from studio.pages.memory import Memory
from studio.pages.seeds import SeedsTab
from studio.pages.shared import ASKED, told

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
    outputs, wanted = [tabs, *annotating.outputs], gr.Textbox(visible=False)

    @told
    def follow(request: gr.Request) -> list[Any]:
        """Where the address leads, once the browser has said who it is."""
        sample = linked(request, "sample")
        where = gr.Tabs(selected="seeds") if linked(request, "grid") and not sample else gr.skip()
        return [where, sample or gr.skip()]

    @told
    def open_linked(sample: str, profile: gr.OAuthProfile | None, *given: Any) -> list[Any]:
        return [gr.Tabs(selected="annotate"), *annotating.open(sample, *given, profile)]

    @told
    def annotate(event: gr.EventData, profile: gr.OAuthProfile | None, *given: Any) -> list[Any]:
        sample = text(event._data, "sample")
        return [gr.Tabs(selected="annotate"), *annotating.open(sample, *given, profile)]

    memory.recalled.then(follow, None, [tabs, wanted], **ASKED)
    wanted.change(open_linked, [wanted, *annotating.inputs], outputs, **ASKED).then(
        None, None, None, js=OPENED
    )
    seeing.viewer.annotate(annotate, annotating.inputs, outputs, **ASKED)
