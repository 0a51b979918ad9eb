"""Parts of an experiment's report: figures, tables and sentences."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

WHOLE = "image is whole (every word holds and nothing else is there)"
FEW = 10  # prompts below which a bootstrap over them is not to be trusted
Cell = dict[str, Any]  # {estimate, low, high}
Part = dict[str, Any]  # a figure, a table or the pictures of a report


def report(
    judge: str | None,
    answer: Sequence[str],
    figures: Sequence[Part],
    tables: Sequence[Part],
    pictures: Sequence[Part],
    data: Mapping[str, Any],
) -> dict[str, Any]:
    """The parts of a report; a judge that is not independent is named at the end of the answer."""
    lines = list(answer)
    if judge == "scorer":
        lines.append(
            "The judge is the scorer itself, from which the labels came: this is not independent of what was trained on."
        )
    return {
        "judge": judge, "answer": lines, "figures": list(figures), "tables": list(tables),
        "pictures": list(pictures), "data": dict(data),
    }  # fmt: skip


def series(name: str, x: Sequence[Any], cells: Sequence[Cell], text: Sequence[str] | None = None) -> Part:
    """A series with intervals."""
    columns = {"y": "estimate", "low": "low", "high": "high"}
    values = {name: [cell[column] for cell in cells] for name, column in columns.items()}
    return {"name": name, "x": list(x), **values} | ({"text": list(text)} if text else {})


def figure(kind: str, title: str, x: str, y: str, series: Sequence[Part] = (), **more: Any) -> Part:
    """A figure; `more`: log_x, reference, reference_name, note; z, rows and columns of a heatmap."""
    return {"kind": kind, "title": title, "x": x, "y": y, "series": list(series), **more}


def table(title: str, rows: Sequence[Mapping[str, Any]], note: str = "", percent: Sequence[str] = ()) -> Part:
    """A table of rows by column; `percent` names the columns that are shares."""
    columns = list(dict.fromkeys(name for row in rows for name in row))
    lines = [[row.get(name) for name in columns] for row in rows]
    return {"title": title, "columns": columns, "rows": lines, "note": note, "percent": list(percent)}


def span(cell: Cell, form: str = ".3f", scale: float = 1, unit: str = "") -> str:
    """0.412 [0.380, 0.440]; "not measurable" where there is no estimate."""
    if cell["estimate"] is None:
        return "not measurable"
    bounds = [cell["low"], cell["high"]]
    end = "" if None in bounds else " [" + ", ".join(f"{scale * bound:{form}}" for bound in bounds) + "]"
    return f"{scale * cell['estimate']:{form}}{unit}{end}"


def share(cell: Cell) -> str:
    """41.2 % [38.0, 44.0]."""
    return span(cell, ".1f", 100, " %")


def clear(cell: Cell | None) -> bool:
    """Whether the interval excludes 0."""
    return cell is not None and cell["low"] is not None and (cell["low"] > 0 or cell["high"] < 0)


def compared(what: str, cell: Cell | None, against: str, outcome: str = "every word holds") -> str:
    """A sentence, which `what` opens, for a paired difference of the share of images with an outcome."""
    if cell is None or cell["estimate"] is None:
        return f"{what}: it could not be compared with {against}."
    points = span(cell, "+.1f", 100, " points")
    if not clear(cell):
        return f"{what}: whether {outcome} more often than {against} cannot be told, {points}."
    return f"{what}: {outcome} {'more' if cell['estimate'] > 0 else 'less'} often than {against}, {points}."


def few(prompts: int) -> list[str]:
    """A warning about intervals over a handful of prompts."""
    if prompts >= FEW:
        return []
    return [
        f"There are {prompts} prompts: intervals over so few are too narrow, so take them as a rough guide."
    ]
