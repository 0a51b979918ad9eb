"""Figures of training runs: learning curves while a run is active, held-out results as dots with their intervals.

Colours are middle tones on a transparent ground, so that one figure reads in the light and in the dark theme; what a
colour says is said in words or by a shape as well.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

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
        faint = go.Scatter(
            x=steps, y=losses, mode="lines", line={"color": SOFT, "width": 1}, opacity=0.45, name=name
        )
        smooth = go.Scatter(
            x=steps,
            y=running_mean(losses),
            mode="lines",
            line={"color": ACCENT, "width": 2.5},
            name="running mean",
        )
        figure.add_trace(faint, 1, column)
        figure.add_trace(smooth, 1, column)
        figure.update_xaxes(title_text="step", row=1, col=column)
    return dressed(figure, 290)


def running_mean(values: Sequence[float], keep: float = SMOOTHING) -> list[float]:
    """Exponential moving average with bias correction, so that the first value is itself."""
    means, mean, weight = [], 0.0, 0.0
    for value in values:
        mean, weight = keep * mean + (1 - keep) * value, keep * weight + (1 - keep)
        means.append(mean / weight)
    return means


def heldout(result: Mapping[str, Any]) -> go.Figure | None:
    """The ``heldout`` of a run's metrics, by method. A figure is {estimate, low, high}, its bounds None where no
    interval is known; shares are shown in percent."""
    shares = result.get("of") not in IN_NATS
    scale, unit = (100, "%") if shares else (1, "nats a word")
    names = SHARES if shares else LABELS
    shown = [name for name in names if _usable(result.get("after", {}).get(name))]
    if not shown:
        return None
    figure = go.Figure()
    methods = [method for method in ("none", "before", "after") if method in result]
    for place, method in enumerate(methods):
        shift = (len(methods) - 1) / 2 - place
        dots = [
            (i + 0.3 * shift, result[method][n])
            for i, n in enumerate(shown)
            if _usable(result[method].get(n))
        ]
        figure.add_trace(_dots(dots, scale, unit, TITLES[method], TONES[method], FORMS[method]))
    return _in_rows(figure, f"held-out result, {unit}", [names[name] for name in shown], ROW)


def change(result: Mapping[str, Any]) -> go.Figure | None:
    """The same ``heldout``: the paired difference after less before, with the line of no difference."""
    shares = result.get("of") not in IN_NATS
    scale, unit = (100, "points") if shares else (1, "nats a word")
    names, differences = SHARES if shares else LABELS, result.get("difference", {})
    shown = [name for name in names if _usable(differences.get(name))]
    if not shown:
        return None
    figure = go.Figure()
    dots = [(i, differences[name]) for i, name in enumerate(shown)]
    figure.add_trace(_dots(dots, scale, unit, "difference", ACCENT, "diamond", legend=False, sign=True))
    figure.add_vline(x=0, line={"color": SOFT, "dash": "dot", "width": 1.5})
    base = TITLES.get(str(result.get("base", "before")), "before")
    return _in_rows(figure, f"after less {base}, {unit}", [names[name] for name in shown], ROW)


def _in_rows(figure: go.Figure, title: str, labels: Sequence[str], height: int) -> go.Figure:
    """A row per label, ``height`` pixels high. The title stands at the left, as there may be little room for it."""
    figure.update_yaxes(
        tickvals=list(range(len(labels))), ticktext=list(labels), range=[-0.6, len(labels) - 0.4]
    )
    title_at = {"x": 0, "y": 1, "xanchor": "left", "yanchor": "top", "pad": {"l": 14, "t": 12}}
    figure.update_layout(title={"text": title, "font": {"size": 13}, **title_at})
    dressed(figure, 120 + height * len(labels), legend=True)
    return figure.update_layout(legend={"y": -36 / (height * len(labels)), "yanchor": "top"})


def two_runs(names: Sequence[str], results: Sequence[Mapping[str, Any]]) -> go.Figure | None:
    """The held-out results of two runs on the same prompts and seeds: a row per figure, a shape per run."""
    shares = results[0].get("of") not in IN_NATS
    scale, unit, titles = (100, "%", SHARES) if shares else (1, "nats a word", LABELS)
    shown = [n for n in titles if all(_usable(result.get("after", {}).get(n)) for result in results)]
    if not shown:
        return None
    figure = go.Figure()
    looks = zip(
        names, results, (TONES["after"], TONES["before"]), ("diamond", "square"), (1, -1), strict=True
    )
    for name, result, tone, form, side in looks:
        dots = [(i + 0.2 * side, result["after"][n]) for i, n in enumerate(shown)]
        figure.add_trace(_dots(dots, scale, unit, name, tone, form))
    return _in_rows(figure, f"held-out result, {unit}", [titles[name] for name in shown], 100)


def bounded(figure: Mapping[str, Any]) -> bool:
    """Whether a figure has an interval: both its bounds are finite numbers."""
    return _finite(figure.get("low")) and _finite(figure.get("high"))


def _finite(value: Any) -> bool:
    return isinstance(value, int | float) and math.isfinite(value)


def _usable(figure: Any) -> bool:
    """Whether it can be drawn: a dot, and its interval where there is one."""
    if not isinstance(figure, Mapping) or not _finite(figure.get("estimate")):
        return False
    return bounded(figure) or figure.get("low") is None and figure.get("high") is None


def _dots(
    dots: Sequence[tuple[float, Mapping[str, float]]],
    scale: float,
    unit: str,
    name: str,
    tone: str,
    form: str,
    legend: bool = True,
    sign: bool = False,
) -> go.Scatter:
    middle = [scale * figure["estimate"] for _, figure in dots]
    spec = "+.1f" if sign and scale == 100 else "+.3f" if sign else ".1f" if scale == 100 else ".3f"
    return go.Scatter(
        x=middle,
        y=[place for place, _ in dots],
        mode="markers+text",
        text=[format(value, spec) for value in middle],
        textposition="top center",
        textfont={"size": 12, "color": tone},
        name=name,
        showlegend=legend,
        marker={"color": tone, "size": 11, "symbol": form, "line": {"width": 2, "color": tone}},
        error_x={
            "array": [scale * (f["high"] - f["estimate"]) if bounded(f) else 0 for _, f in dots],
            "arrayminus": [scale * (f["estimate"] - f["low"]) if bounded(f) else 0 for _, f in dots],
            "color": tone,
            "thickness": 2,
            "width": 6,
        },
        hovertemplate=f"{name}: %{{x:{spec}}} {unit}<extra></extra>",
    )


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
