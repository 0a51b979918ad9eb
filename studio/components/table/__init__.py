"""A plain table whose cells are text and nothing else: prompts and names in it are never markup.

Not ``gr.Dataframe``: it has no row that the keyboard picks, no badge in a cell, and turns some texts into markup.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from studio.components import source
from studio.components.scripted import Scripted, text

CELL = {"anyOf": [{"type": "string"}, {"type": "number"}, {"type": "object"}]}
ROW = {"type": "object", "properties": {"key": {"type": "string"}, "cells": {"type": "array", "items": CELL}}}


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


class Table(Scripted):
    """Value: what ``rows`` makes. Event ``pick``: a row was chosen; its data is {key}."""

    SCRIPT = source("elements.js", "table/table.js")
    TEMPLATE = '<div class="table-root scroll"></div>'
    SCHEMA = {  # noqa: RUF012
        "head": {"type": "array", "items": CELL},
        "rows": {"type": "array", "items": ROW},
        "empty": {"type": "string"},
        "chosen": {"type": "string"},
        "caption": {"type": "string"},
    }

    def __init__(self, value: dict[str, Any] | None = None, *, caption: str = "", **options: Any) -> None:
        super().__init__(value, constants={"caption": caption}, **options)


def picked(data: Any) -> str:
    """The key that a ``pick`` carries, as it came over HTTP; '' where there is none."""
    return text(data, "key")
