"""A plain table whose cells are text and nothing else: prompts and names in it are never markup.

Not ``gr.Dataframe``: its rows are no buttons for the keyboard and screen readers, and its cells carry no badges.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from studio.components import source
from studio.components.scripted import Scripted, text


def number(text: Any) -> dict[str, Any]:
    """A cell or a title that stands at the right."""
    return {"text": text, "tone": "number"}


def badge(text: str, tone: str) -> dict[str, Any]:
    """A cell with a frame: good, bad, now, or plain."""
    return {"text": text, "tone": tone}


def heads(*titles: str) -> list[Any]:
    """A table's head; a title that begins with # stands above numbers."""
    return [number(title[1:]) if title.startswith("#") else title for title in titles]


def rows(
    head: Sequence[Any],
    body: Iterable[Sequence[Any]],
    *,
    keys: Sequence[str] = (),
    empty: str = "",
    chosen: str = "",
    caption: str = "",
) -> dict[str, Any]:
    """The component's value. body: a row's cells each; a cell is text, a ``number`` or a ``badge``, and so is a title of
    the head. keys: one for each row, where rows can be picked; ``chosen`` is the key of the row that is marked. caption:
    in place of the table's own."""
    lines = [list(cells) for cells in body]
    return {
        "head": list(head),
        "rows": [
            {"key": key, "cells": cells} for key, cells in zip(keys or [""] * len(lines), lines, strict=True)
        ],
        "empty": empty,
        "chosen": chosen,
        **({"caption": caption} if caption else {}),
    }


class Table(Scripted):
    """Value: what ``rows`` makes. Event ``pick``: a row was chosen; its data is {key}."""

    SCRIPT = source("elements.js", "table/table.js")
    TEMPLATE = '<div class="table-root scroll"></div>'

    def __init__(self, value: dict[str, Any] | None = None, *, caption: str = "", **options: Any) -> None:
        super().__init__(value, constants={"caption": caption}, **options)


def picked(data: Any) -> str:
    """The key that a ``pick`` carries, as it came over HTTP; '' where there is none."""
    return text(data, "key")
