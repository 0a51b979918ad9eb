"""The plots of an experiment's report, one function a kind: dots, line, scatter, bars, heatmap, histogram.

Each takes a FIGURE of the report (``studio.components.report``) and gives a plotly figure that reads on a light and on a
dark ground. A series keeps its colour, form and dash through a whole report, so nothing rests on colour alone. What a
report says is data of which no form is trusted: what is missing or no finite number is left out, names are escaped, for
plotly reads a few tags, and a plot without a value says so.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from html import escape
from textwrap import wrap
from typing import Any

import numpy as np
import plotly.graph_objects as go

from studio.components.figures import SOFT, dressed, number

NOTHING = "There are no values to draw."
LONG = 8  # characters of a category from which the categories stand one below the other
GAP = "\u2003"  # between a dot and its value; plotly leaves out common spaces
NUMBERED = 16  # columns of a heatmap up to which each cell has its number written in it
APART = 1.4  # places on a log axis that are at least this many times each other can be labelled each
# what others are held against
PLAIN = ("none", "no projection", "no projector", "without projector", "without", "n(0, i)")


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
    """A series as far as it can be drawn; low and high are None where there is no interval."""

    name: str
    x: list[Any]
    y: list[float]
    low: list[float | None]
    high: list[float | None]
    text: list[str]


def styles(report: Mapping[str, Any]) -> list[dict[str, Style]]:
    """A style for each name of each figure's series. A name that comes again keeps its own; a new one takes the first
    that no other series of its figure has, with an open marker where all are taken; baselines are grey."""
    kept: dict[str, Style] = {}
    looks = []
    for spec in items(report, "figures"):
        names = list(dict.fromkeys(str(one.get("name") or "") for one in items(spec, "series")))
        free = [style for style in STYLES if style not in [kept.get(name) for name in names]]
        again = (replace(style, form=f"{style.form}-open") for style in itertools.cycle(STYLES))
        for name in names:
            if name not in kept:
                plain = name.strip().lower() in PLAIN
                kept[name] = HELD_AGAINST if plain else free.pop(0) if free else next(again)
        looks.append({name: kept[name] for name in names})
    return looks


def items(holder: Mapping[str, Any], name: str) -> list[Mapping[str, Any]]:
    """The dicts of a list in a report; none where it has another form."""
    return [one for one in listed(holder, name) if isinstance(one, Mapping)]


def listed(holder: Mapping[str, Any], name: str) -> list[Any]:
    """A list in a report; an empty one where it has another form."""
    value = holder.get(name)
    return list(value) if isinstance(value, list | tuple) else []


def significant(value: Any) -> str:
    """A number with three significant digits and no trailing zeros."""
    known = number(value)
    if known is None:
        return str(value)
    if known == int(known) and abs(known) < 1e15:
        return str(int(known))
    if abs(known) < 1e-3 or abs(known) >= 1e6:
        return f"{known:.3g}"
    return f"{known:.{decimals(known)}f}".rstrip("0").rstrip(".")


def decimals(*values: float) -> int:
    """Digits after the point with which the largest value shows three significant ones; 1 to 6."""
    largest = max(map(abs, values), default=0.0)
    return min(6, max(1, 2 - math.floor(math.log10(largest)))) if largest else 1


def interval(estimate: float, low: float | None, high: float | None, digits: int | None = None) -> str:
    """An estimate with its interval, such as 59.2 [55.1, 63.0]."""
    if low is None or high is None:
        return significant(estimate) if digits is None else f"{estimate:.{digits}f}"
    places = decimals(estimate, low, high) if digits is None else digits
    return f"{estimate:.{places}f} [{low:.{places}f}, {high:.{places}f}]"


def points(one: Mapping[str, Any]) -> Points:
    """The points of a series that can be drawn."""

    columns = [listed(one, name) for name in ("x", "y", "low", "high", "text")]
    kept: list[tuple[Any, ...]] = []
    for x, y, low, high, text in itertools.zip_longest(*columns):
        if number(y) is not None and (isinstance(x, str) or number(x) is not None):
            bounds = [number(low), number(high)]
            if None in bounds:
                bounds = [None, None]
            kept.append((x, float(y), *bounds, "" if text is None else str(text)))
    x, y, low, high, text = zip(*kept, strict=True) if kept else ((),) * 5
    return Points(str(one.get("name") or ""), list(x), list(y), list(low), list(high), list(text))


# -- the parts of a plot


def categories(series: Sequence[Points]) -> list[Any]:
    """The places along a category axis: numbers in their order, names as they come."""
    places = list(dict.fromkeys(x for one in series for x in one.x))
    return sorted(places) if not any(isinstance(x, str) for x in places) else places


def name_of(text: Any, width: int = 22) -> str:
    """A name for plotly, in lines of at most ``width`` characters; what would be a tag is text."""
    return "<br>".join(escape(line, quote=False) for line in wrap(str(text), width)) or " "


def hover(one: Points, xs: Sequence[Any]) -> dict[str, Any]:
    """What a point says under the mouse. Through hovertext, as a template would read names as placeholders."""
    lines = []
    for x, y, low, high, text in zip(xs, one.y, one.low, one.high, one.text, strict=True):
        parts = [one.name, f"{significant(x)}: {interval(y, low, high)}", text]
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
        places = categories(series)
        self.spec = spec
        self.names = places if any(isinstance(x, str) for x in places) else []
        self.log = spec.get("log_x") is True and not self.names and places[0] > 0
        # at the measured places where they are few and far apart: a scale of 1, 2, 5 says nothing about tau
        apart = self.log and all(after / before >= APART for before, after in itertools.pairwise(places))
        self.ticks = places if apart and len(places) <= 8 else round_ones(places) if self.log else []
        self._alone: dict[float, int] = {}
        self._width = 0.0 if self.names else places[-1] - places[0]
        if self.log:
            self._width = math.log(places[-1] / places[0])

    def places(self, one: Points) -> list[Any]:
        return [self.names.index(x) for x in one.x] if self.names else one.x

    def beside(self, x: float) -> float:
        """A place for a point that stands alone: beside those that were put at x before, lest one cover the other."""
        k = self._alone[x] = self._alone.get(x, -1) + 1
        step = 0.012 * self._width * ((k + 1) // 2) * (-1) ** k
        return x * math.exp(step) if self.log else x + step

    def dress(self, figure: go.Figure, first: Points, height: int) -> go.Figure:
        """The figure with its axes, the line of reference and the common layout. first: its first series."""
        figure.update_xaxes(
            title_text=name_of(self.spec.get("x") or "", 40), type="log" if self.log else "linear"
        )
        figure.update_yaxes(title_text=name_of(self.spec.get("y") or "", 40), exponentformat="power")
        shown = list(range(len(self.names))) if self.names else self.ticks
        if shown:
            names = [name_of(significant(x), 10) for x in (self.names or self.ticks)]
            figure.update_xaxes(tickvals=shown, ticktext=names)
        reference(figure, self.spec, False, self.places(first)[0])
        return dressed(figure, height, legend=legend(figure))


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
    label = name_of(spec.get("reference_name") or significant(value), 40)
    dash = {"color": SOFT, "dash": "dot", "width": 1.8}
    place = {"x": [value], "y": [x]} if flat else {"x": [x], "y": [value]}
    hidden = {"mode": "markers", "marker": {"opacity": 0}, "hoverinfo": "skip", "showlegend": False}
    figure.add_scatter(**place, **hidden)  # a line alone does not widen the axis
    if flat:
        figure.add_vline(x=value, line=dash, layer="below")
        beside = {"showarrow": False, "yanchor": "bottom", "xanchor": "left", "xshift": 5}
        figure.add_annotation(x=value, y=bottom, text=label, **beside)
    else:
        figure.add_hline(y=value, line=dash, layer="below")
        figure.add_scatter(x=[None], y=[None], mode="lines", name=label, line=dash)


def legend(figure: go.Figure) -> bool:
    return sum(trace.showlegend is not False for trace in figure.data) > 1


def faint(tone: str, alpha: float) -> str:
    return f"rgba({int(tone[1:3], 16)},{int(tone[3:5], 16)},{int(tone[5:7], 16)},{alpha})"


# -- the plots


def figure(spec: Mapping[str, Any], style: Mapping[str, Style]) -> go.Figure:
    """The plot of one FIGURE. style: what ``styles`` gave for its report."""
    draw = KINDS.get(str(spec.get("kind")))
    if draw is None:
        return _empty(f"A plot of kind {str(spec.get('kind'))[:40]} is not known here.")
    drawn = draw(spec, style)
    if drawn is None:
        return _empty(NOTHING)
    drawn.update_layout(
        margin={"l": 8, "r": 44 if spec.get("kind") == "dots" else 16, "t": 16, "b": 48},
        legend={"orientation": "h", "x": 0, "y": 1.02, "yanchor": "bottom"},
        dragmode=False,  # a finger on a plot scrolls the page
        hoverlabel={"align": "left"},
        barmode="group",
        bargap=0.3,
    )
    drawn.update_xaxes(title_standoff=12, title_font_size=13, zeroline=False)
    drawn.update_yaxes(title_standoff=12, title_font_size=13, zeroline=False)
    return drawn


def _drawable(spec: Mapping[str, Any]) -> list[Points]:
    return [drawable for one in items(spec, "series") if (drawable := points(one)).x]


def _categorical(spec: Mapping[str, Any], style: Mapping[str, Style], bars: bool) -> go.Figure | None:
    """Dots or bars. Long names stand one below the other, so that none is cut or turned on its side."""
    series = _drawable(spec)
    if not series:
        return None
    places = categories(series)
    labels = [significant(place) for place in places]
    flat = max(map(len, labels)) > LONG or len(labels) > 12
    figure, index = go.Figure(), {place: i for i, place in enumerate(places)}
    for order, one in enumerate(series):
        look = style[one.name]
        shift = 0.0 if bars else (order - (len(series) - 1) / 2) * min(0.3, 0.7 / len(series))
        along = [index[x] + shift for x in one.x]
        about: dict[str, Any] = {
            "name": name_of(one.name, 60),
            ("error_x" if flat else "error_y"): error_bars(one, SOFT if bars else look.tone),
            **({"x": one.y, "y": along} if flat else {"x": along, "y": one.y}),
            **hover(one, one.x),
        }
        marker: dict[str, Any] = {
            "color": look.tone,
            "line": {"width": 1.5 if bars else 2, "color": look.tone},
        }
        if not bars:
            marker |= {"size": 10, "symbol": look.form}
            figure.add_scatter(**about, mode="markers", cliponaxis=False, marker=marker)
            continue
        if look.pattern:
            marker["pattern"] = {
                "shape": look.pattern, "solidity": 0.35, "fgcolor": look.tone, "fillmode": "replace",
            }  # fmt: skip
        figure.add_bar(**about, marker=marker, orientation="h" if flat else "v")
    if flat and not bars and len(places) * len(series) <= 30:
        _numbers(figure, series)
    names = [name_of(label, 22 if flat else 10) for label in labels]
    ticks = {"tickvals": list(range(len(places))), "ticktext": names}
    room = 0.55 if number(spec.get("reference")) is not None and flat else 0.0  # for the name of the line
    if flat:
        several = len(series) if len(series) > 1 else 0
        lines = 17 * max(name.count("<br>") + 1 for name in names) + 8
        rows = max(28 * several + 12 if several else 34, lines)
        below = [len(places) - 0.45 + room, -0.6]
        figure.update_yaxes(**ticks, range=below, showgrid=False, ticklabelstandoff=8)
        figure.update_xaxes(title_text=name_of(spec.get("y") or "", 40), exponentformat="power")
        height = round(90 + rows * (len(places) + room)) + 22 * several
    else:
        title = name_of(spec.get("x") or "", 40)
        figure.update_xaxes(**ticks, range=[-0.6, len(places) - 0.4], showgrid=False, title_text=title)
        figure.update_yaxes(title_text=name_of(spec.get("y") or "", 40))
        height = 360
    reference(figure, spec, flat, bottom=len(places) - 0.45 + room)
    return dressed(figure, height, legend=legend(figure))


def _numbers(figure: go.Figure, series: Sequence[Points]) -> None:
    """Each value, written to the right of its interval."""
    digits = decimals(*(y for one in series for y in one.y))
    for one, dots in zip(series, list(figure.data), strict=True):
        figure.add_scatter(
            x=[y if high is None else max(y, high) for y, high in zip(one.y, one.high, strict=True)],
            y=dots.y,
            mode="text",
            text=[f"{GAP}{y:z.{digits}f}" for y in one.y],
            textposition="middle right",
            textfont={"size": 12, "color": SOFT},
            cliponaxis=False,
            hoverinfo="skip",
            showlegend=False,
        )


def line(spec: Mapping[str, Any], style: Mapping[str, Style]) -> go.Figure | None:
    """Lines with their interval as a band; a single point has error bars in its stead. With "written": true the text of
    each point stands above it."""
    series = _drawable(spec)
    if not series:
        return None
    figure, axis, written = go.Figure(), Axis(spec, series), spec.get("written") is True
    for one in series:
        look, xs = style[one.name], axis.places(one)
        if len(one.x) == 1 and not axis.names:
            xs = [axis.beside(one.x[0])]
        band = [(x, low, high) for x, low, high in zip(xs, one.low, one.high, strict=True) if low is not None]
        if len(band) > 1:
            around = [x for x, _, _ in band] + [x for x, _, _ in reversed(band)]
            edge = [low for _, low, _ in band] + [high for _, _, high in reversed(band)]
            figure.add_scatter(
                x=around, y=edge, fill="toself", mode="none", fillcolor=faint(look.tone, 0.16),
                showlegend=False, hoverinfo="skip",
            )  # fmt: skip
        figure.add_scatter(
            x=xs,
            y=one.y,
            mode="lines+markers+text" if written else "lines+markers",
            text=[name_of(text, 20) for text in one.text] if written else None,
            textposition="top center",
            textfont={"size": 12, "color": SOFT},
            name=name_of(one.name, 60),
            error_y=error_bars(one, look.tone) if len(band) == 1 else None,
            line={"color": look.tone, "width": 2.5, "dash": look.dash},
            marker={"size": 8, "symbol": look.form, "color": look.tone},
            **hover(one, one.x),
        )
    return axis.dress(figure, series[0], 380)


def scatter(spec: Mapping[str, Any], style: Mapping[str, Style]) -> go.Figure | None:
    """A point each, see-through where there are many; with "diagonal": true the line on which x is y."""
    series = _drawable(spec)
    if not series:
        return None
    figure, axis = go.Figure(), Axis(spec, series)
    many = max(len(one.x) for one in series)
    for one in series:
        look = style[one.name]
        figure.add_scatter(
            x=axis.places(one),
            y=one.y,
            mode="markers",
            name=name_of(one.name, 60),
            error_y=error_bars(one, faint(look.tone, 0.5), 0),
            opacity=0.85 if many <= 40 else 0.6 if many <= 400 else 0.35,
            marker={"size": 9 if many <= 40 else 6, "symbol": look.form, "color": look.tone},
            **hover(one, one.x),
        )
    if spec.get("diagonal") is True and not axis.names:
        values = [v for one in series for v in (*one.x, *one.y)]
        ends = [min(values), max(values)]
        figure.add_scatter(
            x=ends, y=ends, mode="lines", name="equal", line={"color": SOFT, "dash": "dot", "width": 1.5},
            hoverinfo="skip",
        )  # fmt: skip
    return axis.dress(figure, series[0], 420)


def heatmap(spec: Mapping[str, Any], style: Mapping[str, Style]) -> go.Figure | None:
    """A cell each, its number written in it; where there are values of both signs, nothing is drawn at 0."""
    z = [[number(v) for v in row] for row in listed(spec, "z") if isinstance(row, list | tuple)]
    values = [v for row in z for v in row if v is not None]
    if not values:
        return None
    wide = max(map(len, z))
    rows, columns = (
        [name_of(names[i] if i < len(names) else i + 1, width) for i in range(count)]
        for names, width, count in ((listed(spec, "rows"), 22, len(z)), (listed(spec, "columns"), 12, wide))
    )
    numbered, whole = wide <= NUMBERED, all(v == int(v) for v in values)
    written = [["–" if v is None else str(int(v)) if whole else significant(v) for v in row] for row in z]
    low, most = min(values), max(map(abs, values)) or 1.0
    scale = [[0, faint(STYLES[0].tone, 0.04)], [1, faint(STYLES[0].tone, 0.62)]]
    if low < 0:
        scale = [[0, faint(STYLES[1].tone, 0.62)], [0.5, faint(SOFT, 0.03)], [1, faint(STYLES[0].tone, 0.62)]]
    about = [[f"{r}, {c}: {text}" for c, text in zip(columns, row, strict=False)]
             for r, row in zip(rows, written, strict=True)]  # fmt: skip
    figure = go.Figure()
    figure.add_heatmap(
        z=z,
        text=written,
        texttemplate="%{text}" if numbered else None,
        textfont={"size": 12 if wide <= 10 else 10, "color": SOFT},
        colorscale=scale,
        zmin=-most if low < 0 else min(0.0, low),
        zmax=most,
        showscale=not numbered,
        xgap=2,
        ygap=2,
        hovertext=about,
        hovertemplate="%{hovertext}<extra></extra>",
    )
    shared = {"showgrid": False, "ticks": "", "ticklabelstandoff": 5}
    for name, names, update in (("x", columns, figure.update_xaxes), ("y", rows, figure.update_yaxes)):
        title = name_of(spec.get(name) or "", 40)
        update(**shared, tickvals=list(range(len(names))), ticktext=names, title_text=title)
    figure.update_yaxes(range=[len(z) - 0.5, -0.5])
    return dressed(figure, max(200, 100 + 34 * min(len(z), 24)))


def histogram(spec: Mapping[str, Any], style: Mapping[str, Style]) -> go.Figure | None:
    """Outlines over each other on common bins, each in percent of its own values."""
    series = []
    for one in items(spec, "series"):
        numbers = [n for v in listed(one, "values") if (n := number(v)) is not None]
        if numbers:
            series.append((str(one.get("name") or ""), np.array(numbers)))
    if not series:
        return None
    figure, edges = go.Figure(), bins(np.concatenate([values for _, values in series]))
    for name, values in series:
        look, shares = style[name], 100 * np.histogram(values, edges)[0] / len(values)
        bounds = itertools.pairwise(edges)
        texts = [
            f"{significant(a)} to {significant(b)}: {s:.1f} %"
            for (a, b), s in zip(bounds, shares, strict=True)
        ]
        figure.add_scatter(
            x=[edges[0], *edges.tolist()],
            y=[0.0, *shares.tolist(), 0.0],
            mode="lines",
            name=name_of(f"{name} ({len(values)})", 60),
            line={"color": look.tone, "width": 2.2, "dash": look.dash, "shape": "hv"},
            fill="tozeroy",
            fillcolor=faint(look.tone, 0.12),
            hovertext=[f"{name_of(name, 48)}<br>{text}" for text in ["", *texts, ""]],
            hovertemplate="%{hovertext}<extra></extra>",
        )
    figure.update_xaxes(title_text=name_of(spec.get("x") or "", 40))
    figure.update_yaxes(title_text="share of the values, %", rangemode="tozero")
    return dressed(figure, 360, legend=legend(figure))


def bins(values: np.ndarray) -> np.ndarray:
    """Edges of bins for (N,) finite values: one a whole number where they are few whole numbers, else by
    Freedman and Diaconis's rule, 8 to 60 of them."""
    low, high = float(values.min()), float(values.max())
    if high - low <= 30 and np.all(values == np.round(values)):
        return np.arange(low - 0.5, high + 1.0)
    quarter, three = np.percentile(values, [25, 75])
    width = 2 * (three - quarter) / len(values) ** (1 / 3)
    count = round((high - low) / width) if width > 0 else 8
    return np.linspace(low, high, min(60, max(8, count)) + 1)


KINDS: dict[str, Callable[[Mapping[str, Any], Mapping[str, Style]], go.Figure | None]] = {
    "dots": partial(_categorical, bars=False), "line": line, "scatter": scatter,
    "bars": partial(_categorical, bars=True), "heatmap": heatmap, "histogram": histogram,
}  # fmt: skip


def _empty(sentence: str) -> go.Figure:
    """A plot that says why there is none."""
    figure = dressed(go.Figure(), 120)
    figure.update_layout(margin={"l": 0, "r": 0, "t": 0, "b": 0})
    figure.update_xaxes(visible=False)
    figure.update_yaxes(visible=False)
    figure.add_annotation(
        text=name_of(sentence, 48), x=0.5, y=0.5, xref="paper", yref="paper", showarrow=False
    )
    return figure
