"""The strip of first steps: three steps, the current one marked, and a button that hides it for good.

That it was dismissed is kept in the browser.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from studio.annotation.first_round import Step
from studio.components import source
from studio.components.scripted import Scripted, text


def value(steps: Sequence[Step]) -> dict[str, Any]:
    """The component's value for some steps; the first that is not done is the one to take."""
    now = next((at for at, step in enumerate(steps) if not step.done), -1)
    return {
        "now": now,
        "steps": [{name: getattr(step, name) for name in ("tab", "title", "says", "done")} for step in steps],
    }


class Guide(Scripted):
    """Value: what ``value`` makes, or None. Events: ``open``, whose data is {tab}, and ``dismiss``."""

    SCRIPT = source("elements.js", "guide/guide.js")
    TEMPLATE = '<nav class="guide-root" aria-label="First steps"></nav>'


def opened(data: Any) -> str:
    """The tab that an ``open`` asks for, as it came over HTTP; '' for one that no step leads to."""
    tab = text(data, "tab")
    return tab if tab in ("compare", "annotate", "train") else ""
