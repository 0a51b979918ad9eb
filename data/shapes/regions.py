"""Regions of a picture: cut apart by colour, joined where they belong together, named by colour and shape.

The renderer's own pictures (`bodies`) and pictures of which only the pixels are known (`detect`) are read by these rules.
Colours are weighted Lab (`truth.lab`).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from functools import lru_cache

import numpy as np
from scipy import ndimage

from data.shapes.render import OUTLINES, Placement, mask
from data.shapes.truth import COLOURS, colour_truths, palette_lab, ramp, shape_truth

SHAPES = tuple(OUTLINES)
GRID, EXTENT = 32, 1.25  # masks are compared on GRID x GRID points, +-EXTENT square roots of their area
TURNS = tuple(range(-44, 45, 4))
MARGIN = 0.06  # lead in overlap over the next shape at which a shape is certain
SIMILAR = 22.0  # touching regions whose colours differ by less are one


def one_colour(pixels: np.ndarray) -> bool:
    """Whether a region of weighted Lab (N, 3) has one colour."""
    away = np.square(pixels - np.median(pixels, axis=0)).sum(1)
    place = int(0.9 * len(away))
    return bool(np.partition(away, place)[place] < SIMILAR**2)


def colours_of(pixels: np.ndarray) -> np.ndarray:
    """Truth of every palette colour: of the median of weighted Lab (N, 3), or by area where there are several."""
    if one_colour(pixels):
        return colour_truths(np.median(pixels, axis=0))
    return np.bincount(_nearest(pixels), minlength=len(COLOURS)) / len(pixels)


def by_colour(colour: np.ndarray, region: np.ndarray) -> list[np.ndarray]:
    """The parts (H, W) of a region (H, W) of a picture in weighted Lab (H, W, 3), by the nearest palette colour."""
    nearest = np.zeros(region.shape, np.uint8)
    nearest[region] = _nearest(colour[region]) + 1
    return [nearest == index for index in np.flatnonzero(np.bincount(nearest.ravel())[1:]) + 1]


def _nearest(pixels: np.ndarray) -> np.ndarray:
    """Weighted Lab (N, 3) -> place of the nearest palette colour (N,)."""
    return np.square(pixels[:, None] - palette_lab()).sum(-1).argmin(1)


def segmented(
    colour: np.ndarray, parts: Iterable[np.ndarray], least: float, foreground: np.ndarray | None = None
) -> np.ndarray:
    """Label (H, W) the connected pieces of parts (H, W) that keep `least` pixels in an erosion; 0 is none.

    Pieces that touch are one region if they hardly differ in colour (H, W, 3) or make a better shape together. What is
    left of `foreground` (H, W), such as rims of mixed colour, joins the nearest piece of its own blob.
    """

    def alike(a: int, b: int) -> bool:
        """Whether two regions hardly differ in colour."""
        first, second = (np.median(colour[labels == i], 0) for i in (a, b))
        return float(np.linalg.norm(first - second)) < SIMILAR

    def one_body(a: int, b: int) -> bool:
        """Whether two regions make a better shape together than the larger one alone: a body of two colours."""
        first, second = labels == a, labels == b
        larger = first if first.sum() >= second.sum() else second
        together = float(overlaps_of(first | second).max())
        return together > 0.88 and together > float(overlaps_of(larger).max()) + 0.03

    labels, count = np.zeros(colour.shape[:2], np.int32), 0
    for part in parts:
        pieces, n = ndimage.label(part)
        keep = np.bincount(pieces[ndimage.binary_erosion(part)], minlength=n + 1)[1:] >= least
        numbers = np.concatenate([[0], np.where(keep, count + np.cumsum(keep), 0)])
        labels = np.maximum(labels, numbers[pieces])
        count += int(keep.sum())
    if count > 1:
        count = _join(labels, count, alike)
    if count and foreground is not None:
        nearest = ndimage.distance_transform_edt(labels == 0, return_distances=False, return_indices=True)
        rows, columns = nearest
        blobs, _ = ndimage.label(foreground)
        labels = np.where(foreground & (blobs == blobs[rows, columns]), labels[rows, columns], 0)
    if count > 1:
        _join(labels, count, one_body)
    return labels


def _join(labels: np.ndarray, count: int, belong: Callable[[int, int], bool]) -> int:
    """Give touching regions that belong together one label, in place; returns how many are left."""
    grown = ndimage.grey_dilation(labels, 3)
    touching = (labels > 0) & (grown > labels)
    parent = list(range(count + 1))
    for a, b in sorted(set(zip(labels[touching].tolist(), grown[touching].tolist(), strict=True))):
        if belong(a, b):
            parent = [parent[a] if p == parent[b] else p for p in parent]
    kept = sorted(set(parent[1:]))
    labels[...] = np.array([0, *(kept.index(p) + 1 for p in parent[1:])], labels.dtype)[labels]
    return len(kept)


def overlaps_of(region: np.ndarray) -> np.ndarray:
    """Mask (h, w) -> best overlap (intersection over union) with each of SHAPES, turned up to 44 degrees."""
    templates, _ = _templates()
    unit = _unit(region.astype(np.float32))
    shared = templates @ unit
    overlap = shared / (templates.sum(1) + unit.sum() - shared)
    return overlap.reshape(len(SHAPES), len(TURNS)).max(1)


def shapes_of(region: np.ndarray, known: Sequence[str]) -> tuple[tuple[float, ...], int]:
    """Truth that a region's mask (h, w) is each of SHAPES, and the place of the likeliest; only `known` ones are thought of."""
    overlaps = overlaps_of(region) * [name in known for name in SHAPES]
    second, first = np.sort(overlaps)[-2:]
    rivals = np.where(overlaps == first, second, first)
    leads = [ramp(float(lead), -MARGIN, MARGIN) for lead in overlaps - rivals]
    truths = [min(shape_truth(float(o)), lead) for o, lead in zip(overlaps, leads, strict=True)]
    return tuple(truths), int(overlaps.argmax())


def unit_area(shape: int) -> float:
    """The area of a shape (its place among SHAPES) at radius 1."""
    return float(_templates()[1][shape])


@lru_cache(maxsize=1)
def _templates() -> tuple[np.ndarray, np.ndarray]:
    """Masks (shapes * turns, GRID * GRID), float32, and the area of every shape at radius 1."""
    rows, areas = [], []
    for shape in SHAPES:
        for turn in TURNS:
            cover, *_ = mask(Placement((0, 0, 0), shape, 0.5, 0.5, 0.35, turn), 256)
            rows.append(_unit(cover))
        areas.append(float(cover.sum()) / (0.35 * 256) ** 2)
    return np.stack(rows), np.array(areas)


def _unit(cover: np.ndarray) -> np.ndarray:
    """Coverage (h, w) -> (GRID * GRID,): centred on its centroid and scaled to unit area."""
    total = float(cover.sum())
    y = float(cover.sum(1) @ np.arange(cover.shape[0])) / total
    x = float(cover.sum(0) @ np.arange(cover.shape[1])) / total
    line = np.linspace(-EXTENT, EXTENT, GRID) * math.sqrt(total)
    points = np.stack(np.meshgrid(line + y, line + x, indexing="ij"))
    return ndimage.map_coordinates(cover, points, order=1, mode="constant").ravel()
