"""What changed from one variant of a grid to another: seed by seed, word by word, with intervals over the seeds."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from core.metrics import Interval, mean_interval, wilson
from studio.images.views import shared, totals, value_of
from studio.numbers import finite, whole

if TYPE_CHECKING:
    from studio.grids.grid import GridView

HOLDS = 5  # a word whose score is at least this holds
TIE = 0.05  # totals (0-9) that are nearer than this look the same on the page


def grid_change(view: GridView, base: int = 0, other: int = 1) -> dict[str, Any]:
    """The change from a base variant to another one over the seeds of which both have scored images.

    points [{seed, base, other, base_sample, other_sample}]: totals 0..9, over what both images have; words [{word, index,
    change, low, high}]: the mean change of each scored word, *nothing else* among them; wins, ties, losses of the other's
    totals; won {estimate, low, high}: the share of the seeds that it wins; gain {estimate, low, high}: the mean change of
    the total; broken and mended: the seeds where a word that held (5 or more) no longer does, and the other way round.
    Intervals: 95 %, Wilson's for the share, else bootstrap over seeds; None where there are fewer than two.
    """
    columns = len(view.variants)
    base, other = check_variants(base, other, columns)
    points: list[dict[str, Any]] = []
    broken, mended = [], []
    changes: dict[int, dict[int, float]] = {}  # {word index: {seed: change}}
    names: dict[int, str] = {}
    for row, seed in enumerate(view.seeds):
        a, b = (view.cells[row * columns + column].sample for column in (base, other))
        if a is None or b is None:
            continue
        was, now = totals(a, b)
        if was is None or now is None:
            continue
        points.append({"seed": seed, "base": was, "other": now, "base_sample": a.id, "other_sample": b.id})
        holds = set()  # (before, after) of its words
        for before, after in shared(a, b):
            was, now = value_of(before), value_of(after)
            if was is not None and now is not None:
                names[before.index] = before.text
                changes.setdefault(before.index, {})[seed] = now - was
            if before.scored and before.score is not None and after.score is not None:
                holds.add((before.score >= HOLDS, after.score >= HOLDS))
        if (True, False) in holds:
            broken.append(seed)
        if (False, True) in holds:
            mended.append(seed)
    gains = [point["other"] - point["base"] for point in points]
    words = []
    for index, by_seed in sorted(changes.items()):
        mean = mean_over_seeds(list(by_seed.values()), list(by_seed))
        words.append({
            "word": names[index], "index": index, "change": mean["estimate"], "low": mean["low"], "high": mean["high"],
        })  # fmt: skip
    wins = sum(gain >= TIE for gain in gains)
    return {
        "points": points,
        "words": words,
        "wins": wins,
        "ties": sum(abs(gain) < TIE for gain in gains),
        "losses": sum(gain <= -TIE for gain in gains),
        "won": bounded(wilson(wins, len(gains)), len(gains)),
        "gain": mean_over_seeds(gains, [point["seed"] for point in points]),
        "broken": broken,
        "mended": mended,
    }


def check_variants(base: Any, other: Any, columns: int) -> tuple[int, int]:
    """The indices of two different variants; ValueError with a sentence otherwise."""
    base = whole("variant to compare with", base, 0, columns - 1)
    other = whole("variant to compare", other, 0, columns - 1)
    if base == other:
        raise ValueError("A variant cannot be compared with itself: choose two different ones.")
    return base, other


def mean_over_seeds(values: Sequence[float], seeds: Sequence[int]) -> dict[str, float | None]:
    """The mean of values as {estimate, low, high}, by a bootstrap over their seeds; None for what is not known."""
    return bounded(mean_interval(np.array(values, np.float64), seeds), len(set(seeds)))


def bounded(interval: Interval, seeds: int) -> dict[str, float | None]:
    """An interval for JSON: None for a value that is not finite, and for the bounds over fewer than two seeds."""
    known = interval._asdict() if seeds > 1 else {"estimate": interval.estimate, "low": None, "high": None}
    return {name: value if finite(value) else None for name, value in known.items()}
