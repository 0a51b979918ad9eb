"""What changed from one variant of a grid to another: seed by seed, word by word, with intervals over the seeds."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from core.metrics import Interval, mean_interval, wilson
from studio.images.views import shared, totals, value_of
from studio.numbers import whole

HOLDS = 5  # a word whose score is at least this holds
TIE = 0.05  # totals (0-9) that are nearer than this look the same on the page


def grid_change(view: Any, base: int = 0, other: int = 1) -> dict[str, Any]:
    """The change from a base variant to another one over the seeds that both have scored images of.

    points [{seed, base, other, base_sample, other_sample}]: totals 0..9, over what both images have; words [{word, index,
    change, low, high}]: the mean change of each scored word, *nothing else* among them; wins, ties, losses of the other's
    totals; won {estimate, low, high}: the share of the seeds that it wins; gain {estimate, low, high}: the mean change of
    the total; broken and mended: the seeds where a word that held (5 or more) no longer does, and the other way round.
    Intervals: 95 %, Wilson's for the share, else bootstrap over seeds; None where there are fewer than two.
    """
    columns = len(view.variants)
    base = whole("variant to compare with", base, 0, columns - 1)
    other = whole("variant to compare", other, 0, columns - 1)
    if base == other:
        raise ValueError("A variant cannot be compared with itself: choose two different ones.")
    points, broken, mended = [], [], []
    changes: dict[int, dict[int, float]] = {}
    names: dict[int, str] = {}
    for row, seed in enumerate(view.seeds):
        a, b = (view.cells[row * columns + column].sample for column in (base, other))
        if a is None or b is None:
            continue
        was, now = totals(a, b)
        if was is None or now is None:
            continue
        points.append({"seed": seed, "base": was, "other": now, "base_sample": a.id, "other_sample": b.id})
        for before, after in shared(a, b):
            was, now = value_of(before), value_of(after)
            if was is not None and now is not None:
                names[before.index] = before.text
                changes.setdefault(before.index, {})[seed] = now - was
        pairs = [(x.score >= HOLDS, y.score >= HOLDS) for x, y in shared(a, b)
                 if x.scored and x.score is not None and y.score is not None]  # fmt: skip
        if (True, False) in pairs:
            broken.append(seed)
        if (False, True) in pairs:
            mended.append(seed)
    gains = [point["other"] - point["base"] for point in points]
    words = []
    for index in sorted(changes):
        found = span(list(changes[index].values()), list(changes[index]))
        words.append({
            "word": names[index], "index": index, "change": found["estimate"], "low": found["low"],
            "high": found["high"],
        })  # fmt: skip
    wins = sum(gain >= TIE for gain in gains)
    return {
        "points": points,
        "words": words,
        "wins": wins,
        "ties": sum(abs(gain) < TIE for gain in gains),
        "losses": sum(gain <= -TIE for gain in gains),
        "won": told(wilson(wins, len(gains)), len(gains)),
        "gain": span(gains, [point["seed"] for point in points]),
        "broken": broken,
        "mended": mended,
    }


def span(values: Sequence[float], seeds: Sequence[int]) -> dict[str, float | None]:
    """The mean of values with its interval, their seeds drawn again; what cannot be told is None."""
    return told(mean_interval(np.array(values, np.float64), seeds), len(set(seeds)))


def told(found: Interval, seeds: int) -> dict[str, float | None]:
    """An interval over so many seeds as JSON has it; what cannot be told is None."""
    if seeds < 2:
        found = Interval(found.estimate, math.nan, math.nan)
    return {name: value if math.isfinite(value) else None for name, value in found._asdict().items()}
