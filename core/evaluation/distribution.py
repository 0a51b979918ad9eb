"""Two-sample comparisons: of noises, of images by their features, and of a scorer's answers. NumPy in, plain numbers out.

Dimension key: N, M items, F features, K classes, B bins. All entropies are in nats.

The Frechet distance between finite sets is biased upwards, more so for small ones. It is therefore compared with the
*inner* Frechet distance between two random halves of one set: its value for sets of that size without any difference.

An **invalid** image has latents that are not finite, or is nearly of one colour, or has latents whose spread is far
outside the range of the unprojected images of the same experiment (`invalid`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from core.metrics import codes, frechet

ITEMS = 1000  # of which the median distance is taken
DRAWS = 200  # permutations of a test
BINS, SPAN = 120, 6.0  # histogram of noise: bins from -SPAN to SPAN, values outside in the outer ones
FLAT = 2.0  # standard deviation of an image's pixels, in 255ths, below which it counts as one colour
FAR = 3.0  # multiple of the usual range (5 to 95 %) by which a spread may lie outside it


def mmd_test(a: np.ndarray, b: np.ndarray, *, seed: int = 0) -> tuple[float, float]:
    """Squared maximum mean discrepancy of a (N, F) and b (M, F) under the kernel exp(-d^2 / (2 width^2)), and its 95 %
    quantile under the hypothesis of one distribution.

    The unbiased estimate (Gretton et al. 2012, eq. 3): about 0, and as often below it, for one distribution. The quantile
    is from DRAWS permutations of the items. width: the median Euclidean distance between items of both sets, at most ITEMS
    evenly spaced ones.
    """
    a, b = _sets(a, b)
    items, rng = np.concatenate([a, b]), np.random.default_rng(seed)
    items = items - items.mean(0)
    norms = np.square(items).sum(1)
    squared = np.maximum(norms[:, None] + norms - 2 * items @ items.T, 0)  # Euclidean distances
    rows = np.linspace(0, len(squared) - 1, min(ITEMS, len(squared))).astype(int)
    between = squared[np.ix_(rows, rows)][np.triu_indices(len(rows), 1)]
    width = float(np.sqrt(np.median(between)))
    kernel = np.exp(-squared / (2 * max(width, 1e-12) ** 2))
    np.fill_diagonal(kernel, 0)  # an item is not compared with itself
    orders = np.stack([np.arange(len(kernel)), *(rng.permutation(len(kernel)) for _ in range(DRAWS))])
    values = _mmd_of(kernel, orders, len(a))
    return float(values[0]), float(np.quantile(values[1:], 0.95))


def jensen_shannon(p: np.ndarray, q: np.ndarray) -> float:
    """Jensen-Shannon divergence in nats of two histograms (B,) of counts or shares: 0 for equal, ln 2 for disjoint ones."""
    from scipy.spatial.distance import jensenshannon  # here, as a page should not wait for it

    p, q = np.asarray(p, np.float64), np.asarray(q, np.float64)
    if p.shape != q.shape or p.ndim != 1 or min(p.sum(), q.sum()) <= 0 or min(p.min(), q.min()) < 0:
        raise ValueError(
            f"Histograms of one length that hold something are needed, got {p.shape}, {q.shape}."
        )
    return float(jensenshannon(p, q) ** 2)


def histogram(values: np.ndarray) -> np.ndarray:
    """Counts (BINS,) of values of any shape between -SPAN and SPAN; values outside go to the outer bins."""
    return np.histogram(np.clip(values, -SPAN, SPAN), BINS, (-SPAN, SPAN))[0]


def gaussian_kl(noises: np.ndarray) -> float:
    """KL(N(m, s^2) || N(0, 1)) in nats, averaged over the F positions of noises (N, F), m and s being those of a position
    over the N items. About 1 / N for white noise; larger for a pattern that all noises of a prompt share, which no single
    one shows."""
    x = np.asarray(noises, np.float64)
    if x.ndim != 2 or len(x) < 2:
        raise ValueError(f"Noises must be (N, F) with N of 2 or more, got {x.shape}.")
    mean, variance = x.mean(0), np.maximum(x.var(0, ddof=1), 1e-12)
    return float((0.5 * (variance + mean**2 - 1 - np.log(variance))).mean())


def halves(groups: Sequence[Any], rng: np.random.Generator) -> np.ndarray:
    """A random half of the items as a mask (N,), stratified by group; which half of an odd group is larger is random too."""
    code = codes(groups)
    half = np.zeros(len(code), bool)
    for group in range(code.max() + 1):
        members = rng.permutation(np.flatnonzero(code == group))
        half[members[: (len(members) + rng.integers(2)) // 2]] = True
    return half


def half_frechet(a: np.ndarray, b: np.ndarray, groups: Sequence[Any]) -> list[float]:
    """Frechet distances between a half of a (N, F) and the other half of b (N, F), for ten fixed random halves; items with
    one index are paired, and groups (N,) are their prompts. With a = b it is the *inner* Frechet distance."""
    a, b = _sets(a, b)
    if len(a) != len(b) or len(a) != len(groups):
        raise ValueError(f"Paired sets need one size, got {len(a)}, {len(b)} and {len(groups)} groups.")
    rng, distances = np.random.default_rng(0), []
    for _ in range(10):
        half = halves(groups, rng)
        if min(half.sum(), (~half).sum()) > 1:
            distances.append(frechet(a[half], b[~half]))
    return distances


def inception_like(answers: np.ndarray) -> dict[str, float]:
    """exp of the mean KL between each answer's distribution (N, K) and their mean: the inception score with the scorer's
    ten digits as the classes, not ImageNet's, and an answer (one word of one image) as the item.

    score: 1 where all answers are equal or the scorer is always undecided, K where each is certain and all classes are
    equally common. Its two components are given too: `certain`, the mean entropy of an answer (0: certain), and `spread`,
    the entropy of the mean answer.
    """
    from scipy.special import entr

    p = np.asarray(answers, np.float64)
    if p.ndim != 2 or len(p) < 1 or np.abs(p.sum(1) - 1).max() > 0.01:
        raise ValueError(f"Answers are distributions (N, K) that sum to 1, got the shape {p.shape}.")
    p = p / p.sum(1, keepdims=True)
    certain, spread = float(entr(p).sum(1).mean()), float(entr(p.mean(0)).sum())
    return {"score": float(np.exp(max(0.0, spread - certain))), "certain": certain, "spread": spread}


def looks(images: np.ndarray, latents: np.ndarray) -> list[list[float]]:
    """The measurements behind `invalid`, of images uint8 (N, S, S, 3) and their latents (N, ...): for each [1 where the
    latents are finite, else 0; their standard deviation, 0 where they are not; that of the pixels in 255ths]."""
    pairs = zip(images, np.asarray(latents, np.float64), strict=True)
    return [
        [1, round(float(latent.std()), 5), round(float(image.std()), 3)]
        if np.isfinite(latent).all()
        else [0, 0.0, round(float(image.std()), 3)]
        for image, latent in pairs
    ]


def invalid(images: Sequence[Sequence[float]], usual: Sequence[Sequence[float]]) -> np.ndarray:
    """Mask (N,) of invalid images (see the module), from their `looks` and those of the unprojected images.

    Not finite; pixels that deviate by less than FLAT; or latents whose standard deviation lies more than FAR times the
    range of 5 to 95 % of the usual ones below or above that range.
    """
    rows, base = np.asarray(images, np.float64).reshape(-1, 3), np.asarray(usual, np.float64).reshape(-1, 3)
    base = base[base[:, 0] == 1]
    low, high = np.quantile(base[:, 1], [0.05, 0.95]) if len(base) else (-np.inf, np.inf)
    slack = FAR * (high - low) if len(base) else 0.0
    spread = rows[:, 1]
    return (rows[:, 0] < 1) | (rows[:, 2] < FLAT) | (spread < low - slack) | (spread > high + slack)


def _sets(a: Any, b: Any) -> tuple[np.ndarray, np.ndarray]:
    a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
    if a.ndim != 2 or b.ndim != 2 or a.shape[1] != b.shape[1] or min(len(a), len(b)) < 2:
        raise ValueError(
            f"Two sets (N, F) of one F and N of 2 or more are needed, got {a.shape} and {b.shape}."
        )
    if not (np.isfinite(a).all() and np.isfinite(b).all()):
        raise ValueError("A number in the sets is not finite.")
    return a, b


def _mmd_of(kernel: np.ndarray, orders: np.ndarray, n: int) -> np.ndarray:
    """MMD^2 (draws,) with the first n items of each order (draws, N + M) as the one set and the rest as the other."""
    first = np.zeros(orders.shape)
    np.put_along_axis(first, orders[:, :n], 1.0, axis=1)
    m = orders.shape[1] - n
    of_first = first @ kernel
    inner, cross = (of_first * first).sum(1), (of_first * (1 - first)).sum(1)
    outer = kernel.sum() - inner - 2 * cross
    return inner / (n * (n - 1)) + outer / (m * (m - 1)) - 2 * cross / (n * m)
