"""The base of the components that a script of ours draws, and how the data of their events is read."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from typing import Any, ClassVar

import gradio as gr


class Scripted(gr.HTML):
    """A dict, drawn by ``SCRIPT`` into the one element of ``TEMPLATE``.

    A ``gr.HTML`` template executes what it interpolates. So the template is constant, and the script, which is the body
    of ``js_on_load`` (``element``, ``trigger``, ``props`` and ``watch`` are given), writes every text with
    ``textContent``. constants: what the script has as constants by these names; as props they could be lost, since Gradio
    (6.31) forgets those of a component that an event skips before it is shown."""

    SCRIPT: ClassVar[str] = ""
    TEMPLATE: ClassVar[str] = ""

    def __init__(
        self,
        value: dict[str, Any] | None = None,
        *,
        constants: Mapping[str, Any] | None = None,
        script: str | None = None,
        **options: Any,
    ) -> None:
        lines = [f"const {name} = {json.dumps(given)};" for name, given in (constants or {}).items()]
        super().__init__(
            value=value,
            html_template=self.TEMPLATE,
            css_template="",
            js_on_load="\n".join([*lines, script or self.SCRIPT]),
            apply_default_css=False,
            elem_classes="bare",
            **options,
        )

    # gr.HTML declares its value as a str
    def preprocess(self, payload: Any) -> dict[str, Any] | None:  # type: ignore[override]
        return payload if isinstance(payload, dict) else None

    def postprocess(self, value: Any) -> dict[str, Any] | None:  # type: ignore[override]
        if value is not None and not isinstance(value, Mapping):
            raise ValueError(f"A {type(self).__name__} takes a dict, not a {type(value).__name__}.")
        return None if value is None else dict(value)

    def api_info(self) -> dict[str, Any]:
        return {"type": "object"}


def moment() -> int:
    """Microseconds since 1970, by which a page tells a newer value from an older one."""
    return time.time_ns() // 1000


def text(data: Any, name: str, most: int = 64) -> str:
    """A text of an event's data, as it came over HTTP; '' where there is none or it is too long."""
    value = data.get(name) if isinstance(data, Mapping) else None
    return value if isinstance(value, str) and len(value) <= most else ""


def number(data: Any, name: str, most: int, missing: int = 0) -> int:
    """A whole number from 0 to ``most`` of an event's data; ``missing`` where there is none."""
    value = data.get(name) if isinstance(data, Mapping) else None
    return value if type(value) is int and 0 <= value <= most else missing
