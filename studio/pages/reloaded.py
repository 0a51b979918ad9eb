"""A reload ends a comparison (its events are the page's): what was asked stays with the tab of the browser, to be asked again."""

from __future__ import annotations

from typing import Any

from studio.pages.memory import KEY

LONGEST = 2000  # characters of a prompt
ENDED = (
    "The page was reloaded while this comparison was made, which ended it: press Compare to make it again."
)
ASKED = """(prompt, seeds) => {
  try { sessionStorage.setItem("KEY", JSON.stringify([prompt, seeds])); } catch { /* a browser that keeps nothing */ }
}""".replace("KEY", f"{KEY}.compare")
ANSWERED = """() => {
  try { sessionStorage.removeItem("KEY"); } catch { /* nothing was kept */ }
}""".replace("KEY", f"{KEY}.compare")
RECALL = """(kept, asked) => {
  try { asked = JSON.parse(sessionStorage.getItem("KEY")); sessionStorage.removeItem("KEY"); } catch { asked = null; }
  return [kept, asked];
}""".replace("KEY", f"{KEY}.compare")


def read(asked: Any) -> list[str]:
    """Prompt and seeds of the comparison that was ended, as the browser kept them; nothing where it kept none."""
    good = isinstance(asked, list) and len(asked) == 2 and all(isinstance(text, str) for text in asked)
    return [text[:LONGEST] for text in asked] if good else []
