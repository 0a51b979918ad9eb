"""Masks of objects: their overlap with the outlines of all shapes, and splitting and joining them by colour and touch.

Both the bodies that were drawn on purpose (``bodies``) and those seen on pixels (``detect``) are measured with these.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import lru_cache

import numpy as np
from scipy import ndimage

from data.shapes.render import OUTLINES, Placement, mask
from data.shapes.truth import COLOURS, colour_truths, palette_lab, ramp, shape_truth

SHAPES = tuple(OUTLINES)
GRID, EXTENT = 32, 1.25  # masks are compared on GRID x GRID points, +-EXTENT square roots of their area
TURNS = tuple(range(-44, 45, 4))  # degrees
MARGIN = 0.06  # lead in overlap over the next shape at which a shape is certain
SIMILAR = 22.0  # touching parts whose colours differ by less belong together
PRESENT = 0.25  # a match (colour and shape together) below which an object is not the thing asked for


@lru_cache(maxsize=1)
def _templates() -> tuple[np.ndarray, np.ndarray]:
    """Masks (shapes * turns, GRID * GRID), float32, and the area of every shape at radius 1."""
    templates, areas = [], []
    for shape in SHAPES:
        for turn in TURNS:
            cover, *_ = mask(Placement((0, 0, 0), shape, 0.5, 0.5, 0.35, turn), 256)
            templates.append(_unit(cover))
        areas.append(float(cover.sum()) / (0.35 * 256) ** 2)
    return np.stack(templates), np.array(areas)


def _unit(cover: np.ndarray) -> np.ndarray:
    """Coverage (h, w) -> (GRID * GRID,): centred on its centroid and scaled to unit area."""
    total = float(cover.sum())
    y = float(cover.sum(1) @ np.arange(cover.shape[0])) / total
    x = float(cover.sum(0) @ np.arange(cover.shape[1])) / total
    line = np.linspace(-EXTENT, EXTENT, GRID) * math.sqrt(total)
    points = np.stack(np.meshgrid(line + y, line + x, indexing="ij"))
    return ndimage.map_coordinates(cover, points, order=1, mode="constant").ravel()


def overlaps_of(cover: np.ndarray) -> np.ndarray:
    """Coverage (h, w) -> best overlap (intersection over union) with each of SHAPES, turned up to 44 degrees."""
    templates, _ = _templates()
    unit = _unit(cover)
    shared = templates @ unit
    overlap = shared / (templates.sum(1) + unit.sum() - shared)
    return overlap.reshape(len(SHAPES), len(TURNS)).max(1)


def area_of(shape: int) -> float:
    """The area of a shape, by its place in SHAPES, at radius 1."""
    return float(_templates()[1][shape])


def shape_truths(overlaps: np.ndarray) -> list[float]:
    """Truth in [0, 1] of each of SHAPES for a mask: by its overlap, and its lead over the next shape."""
    order = np.sort(overlaps)
    rivals = np.where(overlaps == order[-1], order[-2], order[-1])
    return [
        min(shape_truth(float(o)), ramp(float(o - r), -MARGIN, MARGIN))
        for o, r in zip(overlaps, rivals, strict=True)
    ]


def colours_by_area(pixels: np.ndarray) -> np.ndarray:
    """Weighted Lab (N, 3) -> the share of pixels nearest to each palette colour."""
    nearest = np.square(pixels[:, None] - palette_lab()).sum(-1).argmin(1)
    return np.bincount(nearest, minlength=len(COLOURS)) / len(nearest)


def median_truths(pixels: np.ndarray) -> np.ndarray:
    """Truth of every palette colour for the median of weighted Lab (N, 3)."""
    return colour_truths(np.median(pixels, axis=0))


def split_by_colour(colour: np.ndarray, area: np.ndarray) -> list[np.ndarray]:
    """The pixels of an area (H, W) that are nearest to each palette colour, as masks."""
    nearest = np.zeros(area.shape, np.uint8)
    nearest[area] = np.square(colour[area][:, None] - palette_lab()).sum(-1).argmin(1) + 1
    return [nearest == index for index in np.flatnonzero(np.bincount(nearest.ravel())[1:]) + 1]


def add_parts(labels: np.ndarray, count: int, area: np.ndarray, smallest: float) -> tuple[np.ndarray, int]:
    """Label the connected parts of an area, from count + 1 on, that keep so many pixels in an erosion."""
    part, n = ndimage.label(area)
    sizes = np.bincount(part[ndimage.binary_erosion(area)], minlength=n + 1)[1:]
    keep = sizes >= smallest
    lookup = np.concatenate([[0], np.where(keep, count + np.cumsum(keep), 0)])
    return np.maximum(labels, lookup[part]), count + int(keep.sum())


def fill_gaps(labels: np.ndarray, foreground: np.ndarray) -> np.ndarray:
    """Give each unlabelled pixel of the foreground the nearest label within its blob."""
    rows, columns = ndimage.distance_transform_edt(labels == 0, return_distances=False, return_indices=True)
    blobs, _ = ndimage.label(foreground)
    return np.where(foreground & (blobs == blobs[rows, columns]), labels[rows, columns], 0)


def join_alike(labels: np.ndarray, count: int, colour: np.ndarray) -> int:
    """Join touching parts that hardly differ in colour, in place; returns how many labels are left."""

    def alike(a: int, b: int) -> bool:
        first, second = (np.median(colour[labels == i], 0) for i in (a, b))
        return float(np.linalg.norm(first - second)) < SIMILAR

    return _join(labels, count, alike)


def join_whole(labels: np.ndarray, count: int) -> int:
    """Join touching parts that make a better shape together than the larger one alone: a body of two colours. In place;
    returns how many labels are left."""

    def whole(a: int, b: int) -> bool:
        first, second = labels == a, labels == b
        larger = first if first.sum() >= second.sum() else second
        together = float(overlaps_of((first | second).astype(np.float32)).max())
        return together > 0.88 and together > float(overlaps_of(larger.astype(np.float32)).max()) + 0.03

    return _join(labels, count, whole)


def _join(labels: np.ndarray, count: int, belong: Callable[[int, int], bool]) -> int:
    """Give touching parts that belong together one label, in place; returns how many labels are left."""
    grown = ndimage.grey_dilation(labels, 3)
    touching = (labels > 0) & (grown > labels)
    parent = list(range(count + 1))
    for a, b in sorted(set(zip(labels[touching].tolist(), grown[touching].tolist(), strict=True))):
        if belong(a, b):
            parent = [parent[a] if p == parent[b] else p for p in parent]
    kept = sorted(set(parent[1:]))
    labels[...] = np.array([0, *(kept.index(p) + 1 for p in parent[1:])], labels.dtype)[labels]
    return len(kept)
