"""Values that the browser keeps across reloads and restarts of the server.

Not ``gr.BrowserState``: that reads its value when it is mounted, which in a tab is when the tab is first opened and
elsewhere may be after the page's ``load``, and it does not keep an empty value. These are components that are never
mounted; a script fills them from localStorage before any handler of ``load`` runs, and keeps each change.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import gradio as gr

from studio.pages.shared import QUICK, shows_errors
from studio.studio import Studio

KEY = "noise-projection-studio"

RECALL = """() => ["who", "sample", "pairs"].map((name) => {
  try { return JSON.parse(localStorage.getItem("KEY." + name)); } catch { return null; }
})""".replace("KEY", KEY)
KEEP = """(value) => {
  try { localStorage.setItem("KEY.NAME", JSON.stringify(value)); } catch { /* a browser that keeps nothing */ }
}""".replace("KEY", KEY)

# a tab may be opened before the server has said who this browser is: what it keeps is waited for, half a minute at most
KNOWN = """async (...given) => {
  const places = PLACES;
  const none = (value) => !value || (typeof value === "object" && !Object.keys(value).length);
  const recall = () => {
    for (const [name, place] of Object.entries(places))
      if (none(given[place])) given[place] = JSON.parse(localStorage.getItem("KEY." + name)) ?? given[place];
  };
  try {
    recall();
    for (let i = 0; i < 600 && !given[places.who]; i++) {
      await new Promise((done) => setTimeout(done, 50));
      recall();
    }
  } catch { /* a browser that keeps nothing */ }
  return given;
}""".replace("KEY", KEY)

# the name in what is kept of a person, '' for an anonymous one
NAME = "(who) => { const name = (who ?? '').replace(/^[0-9a-f]{32}:/, ''); return name.startsWith('anonymous-') ? '' : name; }"


@dataclass(frozen=True)
class Memory:
    """Who is writing (``KEY:NAME``, for ``shared.writer`` and ``shared.person`` alone to read), the sample that is open
    in Annotate, and the pairs of the last comparison. What a page needs of these when it opens follows
    ``recalled.then``."""

    who: gr.Textbox
    sample: gr.Textbox
    pairs: gr.JSON
    recalled: gr.events.Dependency

    def known(self, inputs: Sequence[Any], **kept: Any) -> str:
        """The ``js`` of an event that may come before this browser is known: its inputs, ``who`` among them, are
        filled from what the browser keeps. kept: inputs that it keeps beside ``who`` and ``sample``, by the names
        it keeps them under."""
        parts = {"who": self.who, "sample": self.sample, **kept}
        places = {name: i for i, part in enumerate(inputs) for name in parts if parts[name] is part}
        return KNOWN.replace("PLACES", json.dumps(places))


def build(studio: Studio, page: gr.Blocks) -> Memory:
    """The components; a browser that comes for the first time gets its key and its anonymous id here, from the
    server."""
    who, sample, pairs = gr.Textbox(visible=False), gr.Textbox(visible=False), gr.JSON(visible=False)
    kept: dict[str, Any] = {"who": who, "sample": sample, "pairs": pairs}
    for name, part in kept.items():
        part.change(None, part, None, js=KEEP.replace("NAME", name))

    @shows_errors
    def recall(kept: Any, at: Any, compared: Any) -> list[Any]:
        return [studio.people.issue(kept), at, compared]

    every = [*kept.values()]
    return Memory(who, sample, pairs, page.load(recall, every, every, js=RECALL, **QUICK))
