"""What this browser remembers across reloads and restarts of the server.

Not ``gr.BrowserState``: that reads its value when it is mounted, which in a tab is when the tab is first opened and
elsewhere may be after the page's ``load``, and it does not keep an empty value. These are components that are never
mounted; a script fills them from localStorage before any handler of ``load`` runs, and keeps each change.
"""

from __future__ import annotations

from dataclasses import dataclass

import gradio as gr

KEY = "noise-projection-studio"

# a browser without a name gives itself an anonymous id, in the form of ``identity.anonymous``
RECALL = """() => {
  const recalled = ["who", "sample", "pairs"].map((name) => {
    try { return JSON.parse(localStorage.getItem("KEY." + name)); } catch { return null; }
  });
  if (typeof recalled[0] !== "string" || !recalled[0]) {
    const bytes = crypto.getRandomValues(new Uint8Array(6));
    recalled[0] = "anonymous-" + Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
  }
  return recalled;
}""".replace("KEY", KEY)
KEEP = """(value) => {
  try { localStorage.setItem("KEY.NAME", JSON.stringify(value)); } catch { /* a browser that keeps nothing */ }
}""".replace("KEY", KEY)


@dataclass(frozen=True)
class Memory:
    """Who is writing, the sample that is open in Annotate, and the pairs of the last comparison. What a page needs of
    these when it opens follows ``recalled.then``."""

    who: gr.Textbox
    sample: gr.Textbox
    pairs: gr.JSON
    recalled: gr.events.Dependency


def build(page: gr.Blocks) -> Memory:
    who, sample, pairs = gr.Textbox(visible=False), gr.Textbox(visible=False), gr.JSON(visible=False)
    for name, part in {"who": who, "sample": sample, "pairs": pairs}.items():
        part.change(None, part, None, js=KEEP.replace("NAME", name))
    return Memory(who, sample, pairs, page.load(None, None, [who, sample, pairs], js=RECALL))
