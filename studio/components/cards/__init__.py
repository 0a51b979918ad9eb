"""A page of small pictures that can be opened; every text in it is text and nothing else (DESIGN section 6)."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import gradio as gr

HERE = Path(__file__).parent
SCRIPT = (HERE / "cards.js").read_text(encoding="utf-8")


def cards(found: Sequence[Mapping[str, Any]], *, empty: str = "") -> dict[str, Any]:
    """The component's value. A card: {key, image: a data URL or '', title, about, mark, badges: [{text, tone}]}."""
    return {"cards": [dict(card) for card in found], "empty": empty}


class Cards(gr.HTML):
    """Value: what ``cards`` makes. Event ``pick``: a card was opened; its data is {key}."""

    def __init__(self, value: dict[str, Any] | None = None, *, label: str = "", **options: Any) -> None:
        super().__init__(
            value=value,
            html_template='<div class="cards-root"></div>',
            css_template="",
            js_on_load=f"const caption = {json.dumps(label)};\n{SCRIPT}",  # as a prop it could be forgotten
            apply_default_css=False,
            elem_classes="bare",
            **options,
        )

    def preprocess(self, payload: Any) -> dict[str, Any] | None:
        return None  # nothing that a page sends of it is used

    def postprocess(self, value: Any) -> dict[str, Any] | None:
        if value is not None and not isinstance(value, Mapping):
            raise ValueError(f"Cards take a dict made by cards(), not a {type(value).__name__}.")
        return None if value is None else dict(value)

    def example_payload(self) -> Any:
        return cards([])

    def example_value(self) -> Any:
        return cards([])

    def api_info(self) -> dict[str, Any]:
        text = {"type": "string"}
        badge = {"type": "object", "properties": {"text": text, "tone": text}}
        names = ("key", "image", "title", "about", "mark")
        card = {
            "type": "object",
            "properties": {**dict.fromkeys(names, text), "badges": {"type": "array", "items": badge}},
        }
        return {"type": "object", "properties": {"cards": {"type": "array", "items": card}, "empty": text}}
