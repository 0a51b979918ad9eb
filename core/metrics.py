"""Statistics of fidelity and alignment, with intervals. NumPy arrays in, plain numbers out.

Intervals are from a bootstrap clustered by prompt: images of one prompt are correlated, so prompts are resampled, each
with all its seeds. Resampling the seeds of a drawn prompt as well would count the variance between seeds twice (intervals
of paired binary outcomes become about 1.4 times too wide), so that is done only for a single prompt.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

DRAWS = 2000
_CHUNK = 4_000_000  # weights held at once by the bootstrap

Statistic = Callable[[np.ndarray], np.ndarray]  # weights of items (draws, N) -> (draws,)
Groups = Sequence[Any] | np.ndarray  # of items, of any hashable kind


class Interval(NamedTuple):
    """An estimate and its interval; `nan` where there was nothing to estimate."""

    estimate: float
    low: float
    high: float

    @property
    def cell(self) -> dict[str, float | None]:
        """{estimate, low, high}, None for what is not a number: as reports have it."""
        return {name: finite(value) for name, value in self._asdict().items()}


def pearson(x: np.ndarray, y: np.ndarray) -> float:
    """Linear correlation of x and y (N,); nan where either does not vary."""
    x, y = _pair(x, y)
    return float(pearson_of(x, y)(np.ones((1, len(x))))[0]) if len(x) else math.nan


def spearman(x: np.ndarray, y: np.ndarray) -> float:
    """Rank correlation of x and y (N,), tied values sharing their mean rank."""
    x, y = _pair(x, y)
    from scipy.stats import rankdata  # a second to import: not when a page starts

    return pearson(rankdata(x), rankdata(y)) if len(x) else math.nan


def mae(x: np.ndarray, y: np.ndarray) -> float:
    """Mean absolute difference of x and y (N,)."""
    x, y = _pair(x, y)
    return float(np.abs(x - y).mean()) if len(x) else math.nan


def auc(scores: np.ndarray, truth: np.ndarray) -> float:
    """Area under the ROC curve: the probability that a true item scores above a false one, a tie counting half
    (Mann-Whitney); scores, truth (N,). nan for a single class."""
    scores, truth = _pair(scores, truth)
    return float(auc_of(scores, truth)(np.ones((1, len(scores))))[0]) if len(scores) else math.nan


def confusion(truth: Sequence[int] | np.ndarray, predicted: Sequence[int] | np.ndarray) -> np.ndarray:
    """Confusion matrix (10, 10) of digits (N,): rows are the true digits, columns the predicted ones."""
    truth, predicted = np.asarray(truth, np.int64), np.asarray(predicted, np.int64)
    return np.bincount(truth * 10 + predicted, minlength=100).reshape(10, 10)


def within(values: np.ndarray, groups: Groups) -> np.ndarray:
    """values (N,) with the mean of their group subtracted."""
    values, code = np.asarray(values, np.float64), codes(groups)
    return values - (np.bincount(code, values) / np.bincount(code))[code] if len(values) else values


def pearson_of(x: np.ndarray, y: np.ndarray) -> Statistic:
    """Weighted correlation of x and y (N,)."""
    x, y = _pair(x, y)
    x, y = (x - x.mean(), y - y.mean()) if len(x) else (x, y)
    moments = np.stack([np.ones_like(x), x, y, x * x, y * y, x * y], 1)
    flat = len(x) == 0 or min(np.ptp(x), np.ptp(y)) < 1e-12  # only rounding is left to correlate

    def statistic(weights: np.ndarray) -> np.ndarray:
        n, sx, sy, sxx, syy, sxy = (weights @ moments).T
        mx, my = _divide(sx, n), _divide(sy, n)
        spread = (_divide(sxx, n) - mx**2) * (_divide(syy, n) - my**2)
        return _divide(_divide(sxy, n) - mx * my, np.sqrt(np.maximum(spread, 0))) * (np.nan if flat else 1.0)

    return statistic


def auc_of(scores: np.ndarray, truth: np.ndarray) -> Statistic:
    """Weighted area under the curve of scores (N,) for truth (N,) of 0 and 1."""
    scores, truth = _pair(scores, truth)
    _, level = np.unique(scores, return_inverse=True)
    order = np.argsort(level, kind="stable")
    starts = np.flatnonzero(np.diff(level[order], prepend=-1))
    positive = truth[order] > 0.5

    def statistic(weights: np.ndarray) -> np.ndarray:
        weights = weights[:, order]
        right = np.add.reduceat(weights * positive, starts, axis=1)
        wrong = np.add.reduceat(weights * ~positive, starts, axis=1)
        below = np.cumsum(wrong, axis=1) - 0.5 * wrong
        return _divide((right * below).sum(1), right.sum(1) * wrong.sum(1))

    return statistic


def bootstrap(statistic: Statistic, clusters: Groups, *, draws: int = DRAWS, seed: int = 0) -> Interval:
    """Clustered percentile bootstrap: the 95 % interval of a weighted statistic of N items, resampled by their clusters
    (prompts), or one by one where there is a single cluster."""
    code = codes(clusters)
    if len(code) == 0:
        return Interval(math.nan, math.nan, math.nan)
    sizes = np.bincount(code)
    rng = np.random.default_rng(seed)
    resampled, step = [], max(1, _CHUNK // len(code))
    for at in range(0, draws, step):
        count = min(step, draws - at)
        weights = rng.multinomial(len(sizes), np.full(len(sizes), 1 / len(sizes)), size=count)
        if len(sizes) == 1:
            weights = rng.multinomial(weights[:, 0] * len(code), np.full(len(code), 1 / len(code)))
        else:
            weights = weights[:, code]
        resampled.append(statistic(weights.astype(float)))
    values = np.concatenate(resampled)
    values = values[np.isfinite(values)]
    estimate = float(statistic(np.ones((1, len(code))))[0])
    if len(values) == 0:
        return Interval(estimate, math.nan, math.nan)
    low, high = np.quantile(values, [0.025, 0.975])
    return Interval(estimate, float(low), float(high))


def mean_interval(values: np.ndarray, clusters: Groups, *, draws: int = DRAWS, seed: int = 0) -> Interval:
    """Mean of values (N,) with its clustered bootstrap interval; paired differences give a paired interval."""
    row = np.asarray(values, np.float64)
    return bootstrap(lambda w: _divide(w @ row, w.sum(1)), clusters, draws=draws, seed=seed)


def wilson(successes: int, count: int) -> Interval:
    """Wilson's 95 % score interval of a share of independent trials."""
    from scipy.stats import binomtest

    if count == 0:
        return Interval(math.nan, math.nan, math.nan)
    low, high = binomtest(successes, count).proportion_ci(method="wilson")
    return Interval(successes / count, float(low), float(high))


def choice_matrix(scores: np.ndarray, n: int) -> np.ndarray:
    """Exact best-of-n: scores (M,) -> (M, M), row s the probability that each item is chosen from n of the M items drawn
    without replacement, s among them. The highest score is chosen, the earliest of equal ones.

    Rows times an outcome are the expected outcomes of best-of-n paired with item s; their mean is the mean over all
    subsets of n, an unbiased estimate for best-of-n on fresh seeds.
    """
    scores = np.asarray(scores, np.float64)
    m = len(scores)
    if not 1 <= n <= m:
        raise ValueError(f"The best of {n} needs at least {n} samples of a prompt, but there are {m}.")
    if np.isnan(scores).any():
        raise ValueError("A score to choose by is not a number.")
    rank = np.empty(m, np.int64)  # 0 the first choice
    rank[np.lexsort((np.arange(m), -scores))] = np.arange(m)
    total, chance = math.comb(m - 1, n - 1), np.zeros((m, m))
    for s, i in np.ndindex(m, m):
        worse = m - 1 - rank[i]
        if i == s:
            chance[s, i] = math.comb(worse, n - 1) / total
        elif rank[i] < rank[s] and n > 1:
            chance[s, i] = math.comb(worse - 1, n - 2) / total
    return chance


def best_of(outcomes: np.ndarray, scores: np.ndarray, n: int) -> np.ndarray:
    """Expected outcome (P, M) of best-of-n chosen by scores (P, M), paired with each of a prompt's M samples. With the
    outcomes themselves as scores it is the expected maximum."""
    outcomes, scores = np.asarray(outcomes, np.float64), np.asarray(scores, np.float64)
    if outcomes.shape != scores.shape or outcomes.ndim != 2:
        raise ValueError(f"Outcomes {outcomes.shape} and scores {scores.shape} must be (prompts, samples).")
    return np.stack([choice_matrix(s, n) @ o for s, o in zip(scores, outcomes, strict=True)])


def win_tie_loss(treated: np.ndarray, control: np.ndarray) -> dict[str, int]:
    """Counts of treated (N,) above, equal to and below its paired control (N,)."""
    treated, control = _pair(treated, control)
    above, below = int((treated > control).sum()), int((treated < control).sum())
    return {"win": above, "tie": len(treated) - above - below, "loss": below}


def frechet(a: np.ndarray, b: np.ndarray) -> float:
    """Frechet distance between normal fits of features a (N, F) and b (M, F):
    |m_a - m_b|^2 + tr(S_a + S_b - 2 (S_a S_b)^(1/2)). It is biased upwards for few samples: compare equal counts."""
    a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
    if a.ndim != 2 or b.ndim != 2 or a.shape[1] != b.shape[1] or min(len(a), len(b)) < 2:
        raise ValueError(f"Features must be (N, F), N of 2 or more and one F, got {a.shape}, {b.shape}.")
    cov_a, cov_b = np.atleast_2d(np.cov(a, rowvar=False)), np.atleast_2d(np.cov(b, rowvar=False))
    values, vectors = np.linalg.eigh(cov_a)
    root = (vectors * np.sqrt(np.maximum(values, 0))) @ vectors.T
    cross = np.sqrt(np.maximum(np.linalg.eigvalsh(root @ cov_b @ root), 0)).sum()
    distance = np.square(a.mean(0) - b.mean(0)).sum() + np.trace(cov_a) + np.trace(cov_b) - 2 * cross
    return float(max(0.0, distance))


def finite(value: float) -> float | None:
    """The value, None where it is not a finite number."""
    return float(value) if math.isfinite(value) else None


def codes(groups: Groups) -> np.ndarray:
    """Groups of any hashable kind as 0, 1, 2 ... (N,), in the order of their first appearance."""
    known: dict = {}
    return np.array([known.setdefault(group, len(known)) for group in groups], np.int64)


def _pair(x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    x, y = np.asarray(x, np.float64), np.asarray(y, np.float64)
    if x.shape != y.shape or x.ndim != 1:
        raise ValueError(f"Two rows of numbers of one length are needed, got {x.shape} and {y.shape}.")
    if not (np.isfinite(x).all() and np.isfinite(y).all()):
        raise ValueError("A number among the scores is not finite.")
    return x, y


def _divide(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return np.divide(a, b, out=np.full(np.broadcast(a, b).shape, np.nan), where=b > 0)
