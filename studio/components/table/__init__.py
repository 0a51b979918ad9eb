"""A plain table whose cells are text and nothing else: prompts and names in it are never markup (DESIGN section 6)."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import gradio as gr

SCRIPT = (Path(__file__).parent / "table.js").read_text(encoding="utf-8")


def rows(
    head: Sequence[Any],
    body: Sequence[tuple[str, Sequence[Any]]],
    *,
    empty: str = "",
    chosen: str = "",
    caption: str = "",
) -> dict[str, Any]:
    """The component's value. body: (key, cells) a row; a cell is text or {text, tone}, tone being good, bad, now or
    number; so is a title of the head. With a key the row can be picked; ``chosen`` is the key of the row that is marked. caption:
    in place of the table's own."""
    return {
        "head": list(head),
        "rows": [{"key": key, "cells": list(cells)} for key, cells in body],
        "empty": empty,
        "chosen": chosen,
        **({"caption": caption} if caption else {}),
    }


class Table(gr.HTML):
    """Value: what ``rows`` makes. Event ``pick``: a row was chosen; its data is {key}."""

    def __init__(self, value: dict[str, Any] | None = None, *, caption: str = "", **options: Any) -> None:
        super().__init__(
            value=value,
            html_template='<div class="table-root scroll"></div>',
            css_template="",
            js_on_load=f"const caption = {json.dumps(caption)};\n{SCRIPT}",  # as a prop it could be forgotten
            apply_default_css=False,
            elem_classes="bare",
            **options,
        )

    def preprocess(self, payload: Any) -> dict[str, Any] | None:
        return payload if isinstance(payload, dict) else None

    def postprocess(self, value: Any) -> dict[str, Any] | None:
        if value is not None and not isinstance(value, Mapping):
            raise ValueError(f"A table takes a dict made by rows(), not a {type(value).__name__}.")
        return None if value is None else dict(value)

    def example_payload(self) -> Any:
        return rows([], [])

    def example_value(self) -> Any:
        return rows([], [])

    def api_info(self) -> dict[str, Any]:
        cell = {"anyOf": [{"type": "string"}, {"type": "number"}, {"type": "object"}]}
        row = {
            "type": "object",
            "properties": {"key": {"type": "string"}, "cells": {"type": "array", "items": cell}},
        }
        return {
            "type": "object",
            "properties": {
                "head": {"type": "array", "items": {"type": "string"}},
                "rows": {"type": "array", "items": row},
                "empty": {"type": "string"},
                "chosen": {"type": "string"},
                "caption": {"type": "string"},
            },
        }


def picked(data: Any) -> str:
    """The key that a ``pick`` carries, as it came over HTTP; '' where there is none."""
    key = data.get("key") if isinstance(data, Mapping) else None
    return key if isinstance(key, str) and len(key) <= 64 else ""
