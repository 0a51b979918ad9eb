"""What a report's JSON says, made safe to show: its numbers, its series and the style of each, and numbers as people
read them. Nothing here trusts the form of a report: what is missing or no finite number is left out.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from studio.components.figures import SOFT

PLAIN = (
    "none",
    "no projection",
    "no projector",
    "without projector",
    "without",
    "n(0, i)",
)  # what others are held against


@dataclass(frozen=True)
class Style:
    tone: str
    form: str
    dash: str
    pattern: str


STYLES = [
    Style("#4a86c8", "diamond", "solid", ""),
    Style("#c9772f", "square", "dash", "/"),
    Style("#2f9a82", "circle", "dot", "."),
    Style("#9b6bc8", "triangle-up", "dashdot", "x"),
    Style("#b08a1e", "triangle-down", "longdash", "-"),
    Style("#c85f86", "star", "longdashdot", "\\"),
    Style("#9a7558", "hexagon", "5px,2px", "|"),
]
HELD_AGAINST = Style(SOFT, "circle-open", "dash", "")


@dataclass(frozen=True)
class Points:
    """A series without what cannot be drawn; low and high are None where there is no interval."""

    name: str
    x: list[Any]
    y: list[float]
    low: list[float | None]
    high: list[float | None]
    text: list[str]


def styles(report: Mapping[str, Any]) -> list[dict[str, Style]]:
    """A style for every name of each figure's series. A name that comes again keeps its own; a new one takes the first
    that no other of its figure has, with an open marker where all are taken, and what the others are held against is
    grey."""
    kept: dict[str, Style] = {}
    found = []
    for spec in items(report, "figures"):
        names = list(dict.fromkeys(str(one.get("name") or "") for one in items(spec, "series")))
        free = [style for style in STYLES if style not in [kept.get(name) for name in names]]
        again = (replace(style, form=f"{style.form}-open") for style in itertools.cycle(STYLES))
        for name in names:
            if name not in kept:
                plain = name.strip().lower() in PLAIN
                kept[name] = HELD_AGAINST if plain else free.pop(0) if free else next(again)
        found.append({name: kept[name] for name in names})
    return found


def items(holder: Any, name: str) -> list[Mapping[str, Any]]:
    """The dicts of a list in a report; none where it has another form."""
    found = holder.get(name) if isinstance(holder, Mapping) else None
    return [one for one in found if isinstance(one, Mapping)] if isinstance(found, list | tuple) else []


def number(value: Any) -> float | None:
    """A finite number, or None."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        known = float(value)
    except OverflowError:
        return None
    return known if math.isfinite(known) else None


def said(value: Any) -> str:
    """A number as people read it: three digits that count, no zeros behind the point."""
    known = number(value)
    if known is None:
        return str(value)
    if known == int(known) and abs(known) < 1e15:
        return str(int(known))
    if abs(known) < 1e-3 or abs(known) >= 1e6:
        return f"{known:.3g}"
    return f"{known:.{decimals(known)}f}".rstrip("0").rstrip(".")


def decimals(*values: float) -> int:
    """Digits after the point with which the largest of them shows three that count; 1 to 6."""
    largest = max(map(abs, values), default=0.0)
    return min(6, max(1, 2 - math.floor(math.log10(largest)))) if largest else 1


def interval(estimate: float, low: float | None, high: float | None, digits: int | None = None) -> str:
    """59.2 [55.1, 63.0]"""
    if low is None or high is None:
        return said(estimate) if digits is None else f"{estimate:.{digits}f}"
    places = decimals(estimate, low, high) if digits is None else digits
    return f"{estimate:.{places}f} [{low:.{places}f}, {high:.{places}f}]"


def points(one: Mapping[str, Any]) -> Points:
    """The points of a series that can be drawn."""

    def column(name: str) -> list[Any]:
        found = one.get(name)
        return list(found) if isinstance(found, list | tuple) else []

    x, y, text = column("x"), column("y"), column("text")
    low, high = column("low"), column("high")
    kept = [i for i in range(min(len(x), len(y))) if number(y[i]) is not None and _is_place(x[i])]

    def bound(given: list[Any], i: int) -> float | None:
        return number(given[i]) if i < len(given) else None

    whole = [i for i in kept if bound(low, i) is not None and bound(high, i) is not None]
    return Points(
        str(one.get("name") or ""),
        [x[i] for i in kept],
        [float(y[i]) for i in kept],
        [bound(low, i) if i in whole else None for i in kept],
        [bound(high, i) if i in whole else None for i in kept],
        [str(text[i]) if i < len(text) and text[i] is not None else "" for i in kept],
    )


def _is_place(x: Any) -> bool:
    return isinstance(x, str) or number(x) is not None
