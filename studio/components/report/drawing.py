"""What the plots of a report share: names as plotly may read them, axes, error bars, and the line to hold against."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from html import escape
from textwrap import wrap
from typing import Any

import plotly.graph_objects as go

from studio.components.figures import SOFT
from studio.components.report.series import Points, interval, number, said

APART = 1.4  # places on a log axis that are at least this many times each other can be labelled each


def categories(series: Sequence[Points]) -> list[Any]:
    """The places along a category axis: numbers in their order, names as they come."""
    found = list(dict.fromkeys(x for one in series for x in one.x))
    return sorted(found) if not any(isinstance(x, str) for x in found) else found


def name_of(text: Any, width: int = 22) -> str:
    """A name for plotly, in lines of so many characters; what would be a tag is text."""
    return "<br>".join(escape(line, quote=False) for line in wrap(str(text), width)) or " "


def hover(one: Points, xs: Sequence[Any]) -> dict[str, Any]:
    """What a point says under the mouse. Through hovertext, for a template would read names as places to fill."""
    lines = []
    for x, y, low, high, text in zip(xs, one.y, one.low, one.high, one.text, strict=True):
        parts = [one.name, f"{said(x)}: {interval(y, low, high)}", text]
        lines.append("<br>".join(name_of(part, 48) for part in parts if part))
    return {"hovertext": lines, "hovertemplate": "%{hovertext}<extra></extra>"}


def error_bars(one: Points, tone: str, width: int = 5) -> dict[str, Any] | None:
    """Error bars; of no length where a point has no interval."""
    if all(low is None for low in one.low):
        return None
    above = [0.0 if high is None else max(0.0, high - y) for y, high in zip(one.y, one.high, strict=True)]
    below = [0.0 if low is None else max(0.0, y - low) for y, low in zip(one.y, one.low, strict=True)]
    return {"array": above, "arrayminus": below, "color": tone, "thickness": 1.8, "width": width}


class Axis:
    """The x axis of lines and points: numbers, or names at places of their own."""

    def __init__(self, spec: Mapping[str, Any], series: Sequence[Points]) -> None:
        found = categories(series)
        self.spec = spec
        self.names = found if any(isinstance(x, str) for x in found) else []
        self.log = spec.get("log_x") is True and not self.names and found[0] > 0
        # at the measured places where they are few and far apart: a scale of 1, 2, 5 says nothing about tau
        apart = self.log and all(after / before >= APART for before, after in itertools.pairwise(found))
        self.ticks = found if apart and len(found) <= 8 else round_ones(found) if self.log else []
        self._alone: dict[float, int] = {}
        self._beside = (
            0.0 if self.names else math.log(found[-1] / found[0]) if self.log else found[-1] - found[0]
        )

    def places(self, one: Points) -> list[Any]:
        return [self.names.index(x) for x in one.x] if self.names else one.x

    def beside(self, x: float) -> float:
        """A place for a point that stands alone: beside those that were put at x before, lest one cover the other."""
        k = self._alone[x] = self._alone.get(x, -1) + 1
        step = 0.012 * self._beside * ((k + 1) // 2) * (-1) ** k
        return x * math.exp(step) if self.log else x + step

    def dress(self, figure: go.Figure) -> None:
        figure.update_xaxes(
            title_text=name_of(self.spec.get("x") or "", 40), type="log" if self.log else "linear"
        )
        figure.update_yaxes(title_text=name_of(self.spec.get("y") or "", 40), exponentformat="power")
        shown = list(range(len(self.names))) if self.names else self.ticks
        if shown:
            names = [name_of(said(x), 10) for x in (self.names or self.ticks)]
            figure.update_xaxes(tickvals=shown, ticktext=names)


def round_ones(values: Sequence[float]) -> list[float]:
    """The 1, 2, 4 and 7 of each decade between the first and the last of values, some of which there must be."""
    low, high = math.floor(math.log10(values[0])), math.ceil(math.log10(values[-1]))
    ticks = [round(k * 10.0**e, 12) for e in range(low, high + 1) for k in (1, 2, 4, 7)]
    return [tick for tick in ticks if values[0] * 0.95 <= tick <= values[-1] * 1.05]


def reference(
    figure: go.Figure, spec: Mapping[str, Any], flat: bool, x: Any = 0, bottom: float = 0.0
) -> None:
    """The line that values are held against, with its name: beside it where categories stand below each other (there
    is room for it at the bottom), else in the legend, where it covers no value. x: a place on the axis."""
    value = number(spec.get("reference"))
    if value is None:
        return
    label = name_of(spec.get("reference_name") or said(value), 40)
    dash = {"color": SOFT, "dash": "dot", "width": 1.8}
    place = {"x": [value], "y": [x]} if flat else {"x": [x], "y": [value]}
    hidden = {"mode": "markers", "marker": {"opacity": 0}, "hoverinfo": "skip", "showlegend": False}
    figure.add_scatter(**place, **hidden)  # a line alone does not widen the axis
    if flat:
        figure.add_vline(x=value, line=dash, layer="below")
        figure.add_annotation(
            x=value, y=bottom, text=label, showarrow=False, yanchor="bottom", xanchor="left", xshift=5
        )
        return
    figure.add_hline(y=value, line=dash, layer="below")
    figure.add_scatter(x=[None], y=[None], mode="lines", name=label, line=dash)


def legend(figure: go.Figure) -> bool:
    return sum(trace.showlegend is not False for trace in figure.data) > 1


def faint(tone: str, alpha: float) -> str:
    return f"rgba({int(tone[1:3], 16)},{int(tone[3:5], 16)},{int(tone[5:7], 16)},{alpha})"
