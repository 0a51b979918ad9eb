"""The strip of the first minute: three steps, where one stands, and a way to be rid of it for good.

Its words are the studio's own; they are drawn by ``guide.js`` through ``textContent`` all the same (DESIGN section 6).
That it was dismissed is kept in the browser.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import gradio as gr

SCRIPT = (Path(__file__).parent / "guide.js").read_text(encoding="utf-8")


def value(steps: Sequence[Any]) -> dict[str, Any]:
    """The component's value for some ``studio.annotation.first_round.Step``s; the first that is not done is the one to take."""
    now = next((at for at, step in enumerate(steps) if not step.done), -1)
    return {
        "now": now,
        "steps": [{name: getattr(step, name) for name in ("tab", "title", "says", "done")} for step in steps],
    }


class Guide(gr.HTML):
    """Value: what ``value`` makes, or None. Events: ``open``, whose data is {tab}, and ``dismiss``."""

    def __init__(self, value: dict[str, Any] | None = None, **options: Any) -> None:
        super().__init__(
            value=value,
            html_template='<nav class="guide-root" aria-label="First steps"></nav>',
            css_template="",
            js_on_load=SCRIPT,
            apply_default_css=False,
            elem_classes="bare",
            **options,
        )

    def preprocess(self, payload: Any) -> dict[str, Any] | None:
        return payload if isinstance(payload, dict) else None

    def postprocess(self, value: Any) -> dict[str, Any] | None:
        if value is not None and not isinstance(value, Mapping):
            raise ValueError(f"The guide takes a dict made by value(), not a {type(value).__name__}.")
        return None if value is None else dict(value)

    def example_payload(self) -> Any:
        return {"now": -1, "steps": []}

    def example_value(self) -> Any:
        return {"now": -1, "steps": []}

    def api_info(self) -> dict[str, Any]:
        step = {
            "type": "object",
            "properties": {
                "tab": {"type": "string"},
                "title": {"type": "string"},
                "says": {"type": "string"},
                "done": {"type": "boolean"},
            },
        }
        return {
            "type": "object",
            "properties": {"now": {"type": "integer"}, "steps": {"type": "array", "items": step}},
        }


def opened(data: Any) -> str:
    """The tab that an ``open`` asks for, as it came over HTTP; '' for one that no step leads to."""
    tab = data.get("tab") if isinstance(data, Mapping) else None
    return tab if tab in ("compare", "annotate", "train") else ""
