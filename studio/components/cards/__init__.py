"""Cards: small images that can be opened.

Not ``gr.Gallery``: a card has a title, a score and badges, is a button for the keyboard, and its picture is no file
that is served.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from studio.components import source
from studio.components.scripted import Scripted


def cards(shown: Sequence[Mapping[str, Any]], *, empty: str = "") -> dict[str, Any]:
    """The component's value. A card: {key, image: a data URL or '', title, about, mark, badges: [{text, tone}]}."""
    return {"cards": [dict(card) for card in shown], "empty": empty}


class Cards(Scripted):
    """Value: what ``cards`` makes. Event ``pick``: a card was opened; its data is {key}."""

    SCRIPT = source("elements.js", "cards/cards.js")
    TEMPLATE = '<div class="cards-root"></div>'

    def __init__(self, value: dict[str, Any] | None = None, *, label: str = "", **options: Any) -> None:
        super().__init__(value, constants={"caption": label}, **options)
