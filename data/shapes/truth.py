"""What "holds" means in the shapes world, as graded truth in [0, 1]: 1 clearly so, 0.5 at the border, 0 not so.

What the renderer knows (`degrade`) and what is found on pixels (`detect`) become truths by the same rules.
Colour works in CIE Lab (scikit-image), with lightness weighing less than hue and chroma.
"""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np
from skimage.color import rgb2lab

from data.shapes.render import AXES, LARGE, PALETTE, SMALL

COLOURS = tuple(PALETTE)
LIGHTNESS = 0.7  # weight of L* beside a* and b*
PAPER = (68.0, 98.0)  # L* of the backgrounds: a colour that fades ends there
_WEIGHTS = np.array([LIGHTNESS, 1.0, 1.0], np.float32)


@lru_cache(maxsize=1)
def _table() -> np.ndarray:
    """Weighted Lab of every RGB colour at 6 bits a channel, (64, 64, 64, 3): a lookup is ten times faster."""
    steps = np.arange(64, dtype=np.float32) * 4 + 1.5
    grid = np.stack(np.meshgrid(steps, steps, steps, indexing="ij"), -1) / 255
    return (rgb2lab(grid).astype(np.float32) * _WEIGHTS).reshape(-1, 3)


def lab(rgb: np.ndarray) -> np.ndarray:
    """uint8 RGB (..., 3) -> weighted Lab (..., 3) in which distances are compared."""
    codes = (np.asarray(rgb, np.uint8) >> 2).astype(np.int32)
    return _table()[(codes[..., 0] << 12) | (codes[..., 1] << 6) | codes[..., 2]]


@lru_cache(maxsize=1)
def palette_lab() -> np.ndarray:
    """Weighted Lab of the palette, (colours, 3), in the order of COLOURS."""
    rgb = np.array([PALETTE[colour] for colour in COLOURS], np.float32) / 255
    return rgb2lab(rgb).astype(np.float32) * _WEIGHTS


def colour_truths(colour: np.ndarray) -> np.ndarray:
    """Weighted Lab (..., 3) -> truth (..., colours) that it is each palette colour.

    0.5 halfway to the nearest other colour, or to paper; 1 once three times nearer to this one.
    """
    colour = np.asarray(colour, np.float32)
    distance = np.linalg.norm(colour[..., None, :] - palette_lab(), axis=-1)
    light = colour[..., 0] - np.clip(colour[..., 0], PAPER[0] * LIGHTNESS, PAPER[1] * LIGHTNESS)
    paper = np.sqrt(light**2 + colour[..., 1] ** 2 + colour[..., 2] ** 2)
    rivals = np.concatenate([distance, paper[..., None]], -1)
    lowest = np.sort(rivals, -1)[..., :2]
    other = np.where(distance <= lowest[..., :1], lowest[..., 1:], lowest[..., :1])
    return np.clip(0.5 + (other - distance) / (other + distance + 1e-6), 0, 1)


def ramp(value: float, zero: float, one: float) -> float:
    """0 at `zero`, 1 at `one`, linear between, whichever of them is larger."""
    return float(min(max((value - zero) / (one - zero), 0.0), 1.0))


def shape_truth(overlap: float) -> float:
    """Truth of a shape whose overlap (intersection over union) with the true outline is known."""
    return ramp(overlap, 0.55, 0.9)


def size_truth(radius: float, wanted: str) -> float:
    """Truth of "small" or "large" for a radius (fraction of the image); 0.5 in the middle of the gap."""
    large = ramp(radius, SMALL[1], LARGE[0])
    return large if wanted == "large" else 1.0 - large


def relation_truth(first: np.ndarray, second: np.ndarray, relation: str) -> float:
    """Truth that centre (2,) `first` is `relation` (of) `second`: 1 within 30 degrees, 0.5 on the diagonal."""
    axis, sign = AXES[relation]
    step = np.asarray(first, float) - np.asarray(second, float)
    if not step.any():
        return 0.0
    angle = math.degrees(math.atan2(abs(step[1 - axis]), sign * step[axis]))
    return ramp(angle, 60.0, 30.0)


def near_truth(gap: float) -> float:
    """Truth that two objects stand next to each other, by the gap between their outlines (fraction of the image)."""
    return ramp(gap, 0.35, 0.15)


def count_truth(number: int, wanted: int) -> float:
    """1 for the right number, 0.25 when off by one, else 0."""
    return {0: 1.0, 1: 0.25}.get(abs(number - wanted), 0.0)
