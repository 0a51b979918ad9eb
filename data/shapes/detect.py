"""The detector of the shapes world: pixels -> objects -> truth of every scored word. No learned part.

The background is a plane of colour through the picture's border; what differs from it is foreground. Its inner pixels
take the nearest palette colour (CIE Lab), rim pixels join their neighbour; every connected piece of one colour is an
object. Its mask, at half of its own contrast and scaled to unit area, is compared with turned templates of all shapes
by intersection over union. Built on scikit-image (Lab, templates' rules in `truth`) and scipy.ndimage.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from scipy import ndimage
from scipy.optimize import linear_sum_assignment

from data.shapes.degrade import degraded
from data.shapes.render import OUTLINES, Placement, mask, render
from data.shapes.scenes import Scene, sample_scene
from data.shapes.truth import COLOURS, colour_truths, lab, palette_lab, ramp, shape_truth, word_truths

SHAPES = tuple(OUTLINES)
CONTRAST = 14.0  # weighted Lab distance from the background at which foreground begins
SMALLEST = 0.004  # of the image's area: anything less is no object
SIMILAR = 22.0  # touching pieces whose colours differ by less are one object
GRID, EXTENT = (
    32,
    1.25,
)  # masks are compared on GRID x GRID points that span +-EXTENT square roots of their area
TURNS = tuple(range(-44, 45, 4))
MARGIN = 0.06  # lead in overlap over the next shape at which a shape is certain
PRESENT = 0.25  # a thing whose best object matches less than this (colour and shape together) has none


@dataclass(frozen=True)
class Detected:
    """One object. Box (x0, y0, x1, y1), centroid (x, y) and radius as fractions of the image; area of its pixels too.

    colours, shapes: truth in [0, 1] of every palette colour and shape; the confidences are those of the best.
    """

    colour: str
    shape: str
    box: tuple[float, float, float, float]
    area: float
    centroid: tuple[float, float]
    radius: float
    colour_confidence: float
    shape_confidence: float
    colours: dict[str, float]
    shapes: dict[str, float]


@dataclass(frozen=True)
class Verdict:
    """Truth of each of scene.words, whether all of them hold (>= 0.5), objects beyond those asked for, all objects."""

    words: tuple[float, ...]
    strict: bool
    extra: int
    objects: tuple[Detected, ...]


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


@lru_cache(maxsize=8)
def _border(height: int, width: int) -> tuple[np.ndarray, np.ndarray]:
    """Flat indices of the border pixels and the plane's terms (1, x, y) at every pixel, (H * W, 3)."""
    y, x = np.mgrid[:height, :width].astype(np.float32)
    terms = np.stack([np.ones_like(x), x / width - 0.5, y / height - 0.5], -1).reshape(-1, 3)
    edge = max(2, round(min(height, width) / 40))
    ring = (np.minimum(x, width - 1 - x) < edge) | (np.minimum(y, height - 1 - y) < edge)
    return np.flatnonzero(ring), terms


def _background(colour: np.ndarray) -> np.ndarray:
    """Weighted Lab (H, W, 3) -> the plane through its border; border pixels that belong to objects are left out."""
    ring, terms = _border(*colour.shape[:2])
    edge, at = colour.reshape(-1, 3)[ring], terms[ring]
    keep = np.linalg.norm(edge - np.median(edge, 0), axis=1) < 2 * CONTRAST
    for limit in (CONTRAST, CONTRAST / 2):
        plane = np.linalg.lstsq(at[keep], edge[keep], rcond=None)[0]
        near = np.linalg.norm(edge - at @ plane, axis=1) < limit
        keep = near if near.sum() > 0.2 * len(ring) else keep
    plane = np.linalg.lstsq(at[keep], edge[keep], rcond=None)[0]
    return (terms @ plane).reshape(colour.shape)


def _pieces(colour: np.ndarray, foreground: np.ndarray, smallest: int) -> tuple[np.ndarray, int]:
    """Label (H, W) the foreground's pieces of one colour; 0 is background."""
    rim = max(1, round(min(foreground.shape) / 64))
    core = ndimage.binary_erosion(foreground, iterations=rim)
    core_colour = colour[core]
    nearest = np.zeros(foreground.shape, np.uint8)
    distance = np.square(core_colour[:, None] - palette_lab()).sum(-1)
    nearest[core] = distance.argmin(1) + 1
    labels, count = np.zeros(foreground.shape, np.int32), 0
    for index in np.unique(nearest[core]):
        part, n = ndimage.label(nearest == index)
        sizes = np.bincount(part.ravel(), minlength=n + 1)
        for piece in np.flatnonzero(sizes[1:] >= max(4, 0.15 * smallest)) + 1:
            count += 1
            labels[part == piece] = count
    if count > 1:
        count = _join(labels, count, colour)
    if count:
        rows, columns = ndimage.distance_transform_edt(
            labels == 0, return_distances=False, return_indices=True
        )
        blobs, _ = ndimage.label(foreground)
        grown = np.where(foreground, labels[rows, columns], 0)
        labels = np.where(blobs == blobs[rows, columns], grown, 0)
    return labels, count


def _join(labels: np.ndarray, count: int, colour: np.ndarray) -> int:
    """Give pieces that touch and hardly differ in colour one label, in place; returns how many are left."""
    grown = ndimage.grey_dilation(labels, 3)
    here, there = labels[(labels > 0) & (grown > labels)], grown[(labels > 0) & (grown > labels)]
    parent = list(range(count + 1))
    for a, b in sorted(set(zip(here.tolist(), there.tolist(), strict=True))):
        first, second = (np.median(colour[labels == i], 0) for i in (a, b))
        if np.linalg.norm(first - second) < SIMILAR:
            parent = [parent[a] if p == parent[b] else p for p in parent]
    kept = sorted(set(parent[1:]))
    lookup = np.array([0, *(kept.index(p) + 1 for p in parent[1:])], labels.dtype)
    labels[...] = lookup[labels]
    return len(kept)


def _shapes(cover: np.ndarray) -> np.ndarray:
    """Coverage (h, w) -> best overlap (intersection over union) with each of SHAPES."""
    templates, _ = _templates()
    unit = _unit(cover)
    shared = templates @ unit
    overlap = shared / (templates.sum(1) + unit.sum() - shared)
    return overlap.reshape(len(SHAPES), len(TURNS)).max(1)


def _object(colour: np.ndarray, distance: np.ndarray, piece: np.ndarray, smallest: int) -> Detected | None:
    """One labelled piece -> an object, its mask taken at half of the piece's own contrast."""
    height, width = piece.shape
    contrast = float(
        np.median(distance[ndimage.binary_erosion(piece)] if piece.sum() > 40 else distance[piece])
    )
    rows, columns = np.flatnonzero(piece.any(1)), np.flatnonzero(piece.any(0))
    part = (slice(max(rows[0] - 2, 0), rows[-1] + 3), slice(max(columns[0] - 2, 0), columns[-1] + 3))
    near = ndimage.binary_dilation(piece[part], iterations=1)
    cover = np.where(near & (distance[part] > 0.5 * contrast), 1.0, 0.0).astype(np.float32)
    area = float(cover.sum())
    if area < smallest:
        return None
    y, x = np.nonzero(cover)
    inner = ndimage.binary_erosion(cover > 0, iterations=2)
    median = np.median(colour[part][inner if inner.sum() > 12 else cover > 0], axis=0)
    colours, overlaps = colour_truths(median), _shapes(cover)
    best = int(overlaps.argmax())
    order = np.sort(overlaps)
    rivals = np.where(overlaps == order[-1], order[-2], order[-1])
    shapes = [
        min(shape_truth(float(o)), ramp(float(o - r), -MARGIN, MARGIN))
        for o, r in zip(overlaps, rivals, strict=True)
    ]
    hue = int(colours.argmax())
    top, left = part[0].start, part[1].start
    return Detected(
        COLOURS[hue],
        SHAPES[best],
        (
            (left + x.min()) / width,
            (top + y.min()) / height,
            (left + x.max() + 1) / width,
            (top + y.max() + 1) / height,
        ),
        area / (height * width),
        ((left + float(x.mean()) + 0.5) / width, (top + float(y.mean()) + 0.5) / height),
        math.sqrt(area / _templates()[1][best] / (height * width)),
        float(colours[hue]),
        float(shapes[best]),
        dict(zip(COLOURS, colours.tolist(), strict=True)),
        dict(zip(SHAPES, shapes, strict=True)),
    )


def detect(image: np.ndarray) -> list[Detected]:
    """Image uint8 (H, W, 3) -> its objects, largest first."""
    image = np.asarray(image)
    if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8 or min(image.shape[:2]) < 16:
        raise ValueError(
            f"image {image.shape} {image.dtype}: give uint8 RGB (H, W, 3) of at least 16 x 16 pixels."
        )
    soft = ndimage.uniform_filter(image, (3, 3, 1)) if min(image.shape[:2]) >= 64 else image
    colour = lab(soft)
    distance = np.linalg.norm(colour - _background(colour), axis=-1)
    foreground = distance > CONTRAST
    smallest = max(6, int(SMALLEST * foreground.size))
    labels, count = _pieces(colour, foreground, smallest)
    found = [_object(colour, distance, labels == i + 1, smallest) for i in range(count)]
    return sorted((d for d in found if d is not None), key=lambda d: -d.area)


def judge(scene: Scene, image: np.ndarray) -> Verdict:
    """How far every scored word of a scene holds in an image uint8 (H, W, 3).

    Objects are given to things so that colours and shapes match best in all (where both claim an object, the shape
    has the say); a thing without an object scores 0 in all its words.
    """
    objects = detect(image)
    slots = [i for i, thing in enumerate(scene.things) for _ in range(thing.count)]
    match = np.array(
        [
            [d.colours[scene.things[i].colour] + 1.05 * d.shapes[scene.things[i].shape] for d in objects]
            for i in slots
        ]
    ).reshape(len(slots), len(objects))
    given: list[list[Detected]] = [[] for _ in scene.things]
    for slot, which in zip(*linear_sum_assignment(match, maximize=True), strict=True):
        if match[slot, which] >= PRESENT:
            given[slots[slot]].append(objects[which])

    colours, shapes, presences, radii, centres, counts = [], [], [], [], [], []
    for thing, mine in zip(scene.things, given, strict=True):
        pad = [0.0] * (thing.count - len(mine))
        colours.append([d.colours[thing.colour] for d in mine] + pad)
        shapes.append([d.shapes[thing.shape] for d in mine] + pad)
        presences.append(
            [min(1.0, 2 * max(d.colours[thing.colour], d.shapes[thing.shape])) for d in mine] + pad
        )
        radii.append([d.radius for d in mine])
        centres.append([d.centroid for d in mine])
        counts.append(sum(d.colours[thing.colour] >= 0.5 and d.shapes[thing.shape] >= 0.5 for d in objects))
    words = word_truths(scene, colours, shapes, presences, radii, centres, counts)
    return Verdict(
        words, all(word >= 0.5 for word in words), len(objects) - sum(map(len, given)), tuple(objects)
    )


def accuracy(
    world: str = "small",
    n: int = 2000,
    seed: int = 0,
    transform: Callable[[np.ndarray], np.ndarray] | None = None,
    wrong: bool = False,
    size: int = 128,
) -> dict[str, float | int | dict[str, float]]:
    """Part of the words judged rightly (truth >= 0.5 against construction) on fresh renders, or on wrong ones.

    `transform` takes and returns an image uint8 (S, S, 3): a VAE round trip, for one. Also the part of right renders
    that are strictly right, and those with a wrong number of extra objects.
    """
    rng = np.random.default_rng([seed, 77])
    right: dict[str, list[bool]] = {}
    strict, extra = 0, 0
    for i in range(n):
        scene = sample_scene(rng, world, ("train", "validation", "heldout")[i % 3])
        if wrong:
            image, truths = degraded(scene, seed + i, size, world)
        else:
            image, truths = render(scene, seed + i, size).image, (1.0,) * len(scene.words)
        verdict = judge(scene, transform(image) if transform else image)
        strict, extra = strict + verdict.strict, extra + (verdict.extra > 0)
        for word, truth, seen in zip(scene.words, truths, verdict.words, strict=True):
            right.setdefault(word.kind, []).append((truth >= 0.5) == (seen >= 0.5))
    every = [ok for oks in right.values() for ok in oks]
    return {
        "images": n,
        "words": len(every),
        "right": float(np.mean(every)) if every else 0.0,
        "by_kind": {kind: float(np.mean(oks)) for kind, oks in sorted(right.items())},
        "strict": strict / max(n, 1),
        "extra": extra / max(n, 1),
    }
