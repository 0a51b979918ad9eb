"""What the components of the page Seeds share: a constant template, a script that draws the value, events with data.

DESIGN section 6: a ``gr.HTML`` template executes what it interpolates, so the template is one empty element and the
script writes every text with ``textContent``.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import gradio as gr

HERE = Path(__file__).parent


def source(*names: str) -> str:
    """Scripts or styles that lie beside this file, one after the other."""
    return "\n".join((HERE / name).read_text(encoding="utf-8") for name in names)


class Scripted(gr.HTML):
    """A value that is a dict, drawn by ``SCRIPT`` into an element of class ``ROOT``."""

    SCRIPT: ClassVar[str] = ""
    ROOT: ClassVar[str] = ""
    SCHEMA: ClassVar[dict[str, Any]] = {}  # of the value's properties

    def __init__(self, value: dict[str, Any] | None = None, **options: Any) -> None:
        super().__init__(
            value=value,
            html_template=f'<div class="{self.ROOT}"></div>',
            css_template="",
            js_on_load=self.SCRIPT,
            apply_default_css=False,
            elem_classes="bare",
            **options,
        )

    def preprocess(self, payload: Any) -> dict[str, Any] | None:
        return payload if isinstance(payload, dict) else None

    def postprocess(self, value: Any) -> dict[str, Any] | None:
        if value is not None and not isinstance(value, Mapping):
            raise ValueError(f"A {type(self).__name__} takes a dict, not a {type(value).__name__}.")
        return None if value is None else dict(value)

    def example_payload(self) -> Any:
        return {}

    def example_value(self) -> Any:
        return {}

    def api_info(self) -> dict[str, Any]:
        return {"type": "object", "properties": self.SCHEMA}


def text(data: Any, name: str, most: int = 64) -> str:
    """A text of an event's data, as it came over HTTP; '' where there is none or it is too long."""
    found = data.get(name) if isinstance(data, Mapping) else None
    return found if isinstance(found, str) and len(found) <= most else ""


def number(data: Any, name: str, most: int, missing: int = 0) -> int:
    """A whole number from 0 to ``most`` of an event's data; ``missing`` where there is none."""
    found = data.get(name) if isinstance(data, Mapping) else None
    good = isinstance(found, int) and not isinstance(found, bool) and 0 <= found <= most
    return found if good else missing
