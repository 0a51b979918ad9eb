"""The figures of the page Quality, as the reports' plots draw them: alpha by kind of word, pairs of people, scores given."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import plotly.graph_objects as go

from studio.annotation.quality import named
from studio.components import plots
from studio.components.figures import SOFT
from studio.components.series import styles

MOST = 12  # people in the matrix


def _drawn(spec: dict[str, Any]) -> go.Figure:
    return plots.figure(spec, styles({"figures": [spec]})[0])


def alpha_by_kind(kinds: Sequence[Mapping[str, Any]], usable: float, good: float) -> go.Figure | None:
    """A dot a kind of word, and the two bounds that alpha is read by. None where no alpha is known."""
    known = [kind for kind in kinds if kind["ordinal"] is not None]
    if not known:
        return None
    spec = {
        "kind": "dots",
        "y": "Krippendorff's alpha (ordinal)",
        "series": [
            {
                "name": "alpha",
                "x": [named(kind["kind"]) for kind in known],
                "y": [kind["ordinal"] for kind in known],
                "text": [f"{kind['words']:,} words by {kind['people']} people" for kind in known],
            }
        ],
        "reference": usable,
        "reference_name": f"usable from {usable:g}",
    }
    figure = _drawn(spec)
    # both to the left of their lines: to the right the other's line would cross one, and a phone cut the other off
    figure.update_annotations(xanchor="right", xshift=-5)
    figure.add_vline(x=good, line={"color": SOFT, "dash": "dash", "width": 1.8}, layer="below")
    figure.add_annotation(
        x=good, y=1.0, yref="paper", text=f"good from {good:g}", showarrow=False, xanchor="right", xshift=-5,
        yanchor="bottom", font={"size": 13, "color": SOFT},
    )  # fmt: skip
    figure.update_layout(margin={"t": 28})
    figure.update_xaxes(range=[min(0.0, *(kind["ordinal"] for kind in known)) - 0.05, 1.12])
    return figure


def matrix(pairs: Sequence[Mapping[str, Any]], people: Sequence[str]) -> go.Figure | None:
    """Alpha of each two people, of those with most words; None where no two share enough."""
    known = {frozenset(pair["people"]): pair["ordinal"] for pair in pairs if pair["ordinal"] is not None}
    names = [who for who in people if any(who in pair for pair in known)][:MOST]
    if len(names) < 2:
        return None
    short = [who if len(who) <= 18 else f"{who[:15]}…" for who in names]
    z = [
        [None if one == other else _rounded(known.get(frozenset((one, other)))) for other in names]
        for one in names
    ]
    figure = _drawn({"kind": "heatmap", "rows": short, "columns": short, "z": z})
    figure.update_xaxes(tickangle=0 if len(names) <= 5 else -40)
    return figure


def _rounded(alpha: float | None) -> float | None:
    """As the table beside it says it."""
    return None if alpha is None else round(alpha, 2)


def scores(given: Sequence[int], everyone: Sequence[int], who: str) -> go.Figure | None:
    """How often a person gives each score beside everyone, in percent of their own; None where they gave none."""
    if not sum(given):
        return None
    series = [
        {"name": name, "x": list(range(10)), "y": [100 * n / sum(counts) for n in counts]}
        for name, counts in ((who, given), ("everyone", everyone))
    ]
    figure = _drawn({"kind": "bars", "x": "score", "y": "share of the scores, %", "series": series})
    figure.update_layout(height=300)
    return figure
