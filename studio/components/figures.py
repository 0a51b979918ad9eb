"""Figures of training runs: learning curves while a run is active, held-out results as dots with their intervals.

Colours are middle tones on a transparent ground, so that one figure reads in the light and in the dark theme; what a
colour says is said in words or by a shape as well.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from studio.training.results import IN_NATS

ACCENT, SOFT, GRID = "#2b919b", "#85888f", "rgba(133,136,143,0.25)"
TONES = {"none": "#85888f", "before": "#c9772f", "after": "#4a86c8"}
FORMS = {"none": "circle-open", "before": "square", "after": "diamond"}
TITLES = {"none": "no projector", "before": "before", "after": "after"}
SMOOTHING = 0.9
ROW = 125  # pixels of a row of the held-out figures, which stand side by side
SHARES = {
    "words": "words that hold",
    "strict": "images in which all hold",
    "clean": "… and nothing else is there",
}
LABELS = {"words": "log-likelihood"}


def curves(history: Sequence[Mapping[str, Any]]) -> go.Figure | None:
    """Learning curves: a panel per stage, in the order the stages came, with the loss of each report, faint, and its
    running mean. history: what ``Runs.status`` gives, each entry with stage, step and metrics. None where no loss
    was reported yet."""
    stages: dict[str, tuple[list[int], list[float]]] = {}
    for report in history:
        loss = report.get("metrics", {}).get("loss")
        if loss is None or not math.isfinite(loss):
            continue
        steps, losses = stages.setdefault(str(report.get("stage", "")), ([], []))
        steps.append(report["step"])
        losses.append(loss)
    if not stages:
        return None
    figure = make_subplots(1, len(stages), subplot_titles=[f"{name}: loss" for name in stages])
    for column, (name, (steps, losses)) in enumerate(stages.items(), 1):
        faint: dict[str, Any] = {"line": {"color": SOFT, "width": 1}, "opacity": 0.45, "name": name}
        smooth = {"line": {"color": ACCENT, "width": 2.5}, "name": "running mean"}
        figure.add_scatter(x=steps, y=losses, mode="lines", **faint, row=1, col=column)
        figure.add_scatter(x=steps, y=running_mean(losses), mode="lines", **smooth, row=1, col=column)
        figure.update_xaxes(title_text="step", row=1, col=column)
    return dressed(figure, 290)


def running_mean(values: Sequence[float], keep: float = SMOOTHING) -> list[float]:
    """Exponential moving average with bias correction, so that the first value is itself."""
    return pd.Series(values).ewm(alpha=1 - keep).mean().tolist()


def heldout(result: Mapping[str, Any]) -> go.Figure | None:
    """The ``heldout`` of a run's metrics, by method. A figure is {estimate, low, high}, its bounds None where no
    interval is known; shares are shown in percent."""
    series = [(TITLES[name], TONES[name], FORMS[name], result[name]) for name in TITLES if name in result]
    return _in_rows(result, series, [result.get("after", {})], "held-out result, {unit}", ROW)


def change(result: Mapping[str, Any]) -> go.Figure | None:
    """The same ``heldout``: the paired difference after less before, with the line of no difference."""
    differences = result.get("difference", {})
    base = TITLES.get(str(result.get("base", "before")), "before")
    title, series = f"after less {base}, {{unit}}", [("difference", ACCENT, "diamond", differences)]
    figure = _in_rows(result, series, [differences], title, ROW, signed=True)
    if figure is not None:
        figure.add_vline(x=0, line={"color": SOFT, "dash": "dot", "width": 1.5})
    return figure


def two_runs(names: Sequence[str], results: Sequence[Mapping[str, Any]]) -> go.Figure | None:
    """The held-out results of two runs on the same prompts and seeds: a row per figure, a shape per run."""
    after = [result.get("after", {}) for result in results]
    looks = zip(names, (TONES["after"], TONES["before"]), ("diamond", "square"), after, strict=True)
    return _in_rows(results[0], list(looks), after, "held-out result, {unit}", 100, apart=0.4)


def _in_rows(
    result: Mapping[str, Any],
    series: Sequence[tuple[str, str, str, Mapping[str, Any]]],
    needed: Sequence[Mapping[str, Any]],
    title: str,
    height: int,
    *,
    apart: float = 0.3,
    signed: bool = False,
) -> go.Figure | None:
    """A row of so many pixels for each figure that all of ``needed`` have, None where there is none; in it a dot with its
    interval for each series (name, tone, form, figures), ``apart`` from each other. The title stands at the left, as there
    may be little room for it."""
    shares = result.get("of") not in IN_NATS
    labels = SHARES if shares else LABELS
    shown = [name for name in labels if all(_usable(figures.get(name)) for figures in needed)]
    if not shown:
        return None
    unit = "nats a word" if not shares else "points" if signed else "%"
    scale, spec = (100, ".1f") if shares else (1, ".3f")
    figure = go.Figure()
    for place, (name, tone, form, figures) in enumerate(series):
        shift = apart * ((len(series) - 1) / 2 - place)
        dots = [(i + shift, figures[n]) for i, n in enumerate(shown) if _usable(figures.get(n))]
        spans = [(f["low"], f["high"]) if bounded(f) else (f["estimate"], f["estimate"]) for _, f in dots]
        figure.add_scatter(
            x=[scale * f["estimate"] for _, f in dots],
            y=[at for at, _ in dots],
            mode="markers+text",
            text=[format(scale * f["estimate"], f"+{spec}" if signed else spec) for _, f in dots],
            textposition="top center",
            textfont={"size": 12, "color": tone},
            name=name,
            showlegend=not signed,
            marker={"color": tone, "size": 11, "symbol": form, "line": {"width": 2, "color": tone}},
            error_x={
                "array": [scale * (high - f["estimate"]) for (_, f), (_, high) in zip(dots, spans, strict=True)],
                "arrayminus": [scale * (f["estimate"] - low) for (_, f), (low, _) in zip(dots, spans, strict=True)],
                "color": tone,
                "thickness": 2,
                "width": 6,
            },
            hovertemplate=f"{name}: %{{x:{spec}}} {unit}<extra></extra>",
        )  # fmt: skip
    ticks = {"tickvals": list(range(len(shown))), "ticktext": [labels[name] for name in shown]}
    figure.update_yaxes(**ticks, range=[-0.6, len(shown) - 0.4])
    title_at = {"x": 0, "y": 1, "xanchor": "left", "yanchor": "top", "pad": {"l": 14, "t": 12}}
    figure.update_layout(title={"text": title.format(unit=unit), "font": {"size": 13}, **title_at})
    dressed(figure, 120 + height * len(shown), legend=True)
    return figure.update_layout(legend={"y": -36 / (height * len(shown)), "yanchor": "top"})


def number(value: Any) -> float | None:
    """A finite number, or None."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        known = float(value)
    except OverflowError:
        return None
    return known if math.isfinite(known) else None


def bounded(figure: Mapping[str, Any]) -> bool:
    """Whether a figure has an interval: both its bounds are finite numbers."""
    return number(figure.get("low")) is not None and number(figure.get("high")) is not None


def _usable(figure: Any) -> bool:
    """Whether it can be drawn: a dot, and its interval where there is one."""
    if not isinstance(figure, Mapping) or number(figure.get("estimate")) is None:
        return False
    return bounded(figure) or figure.get("low") is None and figure.get("high") is None


def dressed(figure: go.Figure, height: int, legend: bool = False) -> go.Figure:
    """The layout that all figures share."""
    figure.update_layout(
        height=height,
        margin={"l": 10, "r": 16, "t": 42, "b": 40},
        paper_bgcolor="rgba(0,0,0,0)",
        plot_bgcolor="rgba(0,0,0,0)",
        font={"family": "system-ui, sans-serif", "color": SOFT, "size": 13},
        showlegend=legend,
        legend={"orientation": "h", "y": -0.22, "x": 0},
        uirevision="keep",
        # shown under the mouse alone (theme.css), and on a phone over the title: the picture can be taken away, no more
        modebar={
            "bgcolor": "rgba(0,0,0,0)",
            "color": SOFT,
            "activecolor": ACCENT,
            "remove": ["zoom", "pan", "select", "lasso", "zoomin", "zoomout", "autoscale", "resetscale"],
        },
        hovermode="closest",
    )
    figure.update_annotations(font={"size": 13, "color": SOFT}, selector={"xref": "paper"})
    figure.update_xaxes(gridcolor=GRID, zerolinecolor=GRID, automargin=True)
    figure.update_yaxes(gridcolor=GRID, zerolinecolor=GRID, automargin=True)
    return figure
