"""The detector of the shapes world: from pixels to objects to the truth of every scored word. No learned part.

The background is a plane of colour through the picture's border; what differs from it is foreground. Its inner pixels take the
nearest palette colour (CIE Lab), rim pixels join their neighbour; every connected piece of one colour is an object. Its mask,
at half of its own contrast and scaled to unit area, is compared with turned templates of all shapes by intersection over
union. Built on scikit-image (Lab, in `truth`) and scipy.ndimage.
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
from data.shapes.masks import (
    PRESENT,
    SHAPES,
    SIMILAR,
    add_parts,
    area_of,
    colours_by_area,
    fill_gaps,
    join_alike,
    join_whole,
    median_truths,
    overlaps_of,
    shape_truths,
    split_by_colour,
)
from data.shapes.render import render
from data.shapes.scenes import WORLDS, Scene, World, sample_scene
from data.shapes.truth import COLOURS, lab, word_truths

CONTRAST = 14.0  # weighted Lab distance from the background at which foreground begins
SMALLEST = 0.004  # share of the image's area below which nothing is an object


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
    keep = np.square(edge - np.median(edge, 0)).sum(1) < (2 * CONTRAST) ** 2
    for limit in (CONTRAST, CONTRAST / 2, 0.0):
        if keep.sum() < 0.2 * len(ring):
            keep = np.ones(len(ring), bool)
        inner = at[keep]
        plane = np.linalg.solve(inner.T @ inner + 1e-3 * np.eye(3, dtype=np.float32), inner.T @ edge[keep])
        keep = np.square(edge - at @ plane).sum(1) < limit * limit
    return (terms @ plane).reshape(colour.shape)


def _core(distance: np.ndarray) -> np.ndarray:
    """Foreground (H, W) that stands out nearly as much as the most outstanding pixel around: no soft rims."""
    window = 2 * round(min(distance.shape) / 18) + 1
    return (distance > CONTRAST) & (distance > 0.75 * ndimage.maximum_filter(distance, window))


def _pieces(colour: np.ndarray, foreground: np.ndarray, core: np.ndarray, smallest: int) -> np.ndarray:
    """Label (H, W) the foreground's pieces of one colour; 0 is background.

    The core takes the nearest palette colours. Rims, whose mixed colours would look like others, join a neighbour,
    and so do the lines between two colours, which vanish in an erosion.
    """
    labels, count = np.zeros(foreground.shape, np.int32), 0
    for area in split_by_colour(colour, core):
        labels, count = add_parts(labels, count, area, max(3, 0.12 * smallest))
    if count > 1:
        count = join_alike(labels, count, colour)
    if count:
        labels = fill_gaps(labels, foreground)
    if count > 1:
        join_whole(labels, count)
    return labels


def _colours(pixels: np.ndarray) -> np.ndarray:
    """Weighted Lab (N, 3) of a body -> truth of every palette colour: of its median, or by area if it has several."""
    away = np.square(pixels - np.median(pixels, axis=0)).sum(1)
    if np.partition(away, int(0.9 * len(away)))[int(0.9 * len(away))] < SIMILAR**2:
        return median_truths(pixels)
    return colours_by_area(pixels)


def _object(
    colour: np.ndarray,
    distance: np.ndarray,
    core: np.ndarray,
    piece: np.ndarray,
    left: int,
    top: int,
    shape: tuple[int, ...],
    known: tuple[str, ...],
) -> Detected | None:
    """A piece and its surroundings -> an object, its mask taken at half of the piece's own contrast.

    colour (h, w, 3), distance, core, piece (h, w) begin at pixel (left, top) of an image of `shape` (H, W).
    """
    height, width = shape
    body = ndimage.binary_dilation(piece) & (distance > 0.5 * float(np.percentile(distance[piece], 60)))
    cover = body.astype(np.float32)
    area = float(cover.sum())
    if area < SMALLEST * height * width:
        return None
    y, x = np.nonzero(body)
    inner = ndimage.binary_erosion(body & core)
    colours = _colours(colour[inner if inner.sum() > 12 else body])
    overlaps = overlaps_of(cover) * [name in known for name in SHAPES]
    best = int(overlaps.argmax())
    shapes = shape_truths(overlaps)
    hue = int(colours.argmax())
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
        math.sqrt(area / area_of(best) / (height * width)),
        float(colours[hue]),
        float(shapes[best]),
        dict(zip(COLOURS, colours.tolist(), strict=True)),
        dict(zip(SHAPES, shapes, strict=True)),
    )


def detect(image: np.ndarray, world: str | World = "small") -> list[Detected]:
    """Image uint8 (H, W, 3) -> its objects, largest first. Only shapes of the world are considered, but any colour."""
    shapes = WORLDS[world].shapes if isinstance(world, str) else world.shapes
    image = np.asarray(image)
    if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8 or min(image.shape[:2]) < 16:
        raise ValueError(
            f"image {image.shape} {image.dtype}: give uint8 RGB (H, W, 3) of at least 16 x 16 pixels."
        )
    soft = ndimage.uniform_filter(image, (3, 3, 1)) if min(image.shape[:2]) >= 64 else image
    colour = lab(soft)
    distance = np.linalg.norm(colour - _background(colour), axis=-1)
    smallest = max(6, int(SMALLEST * distance.size))
    core = _core(distance)
    labels = _pieces(colour, distance > CONTRAST, core, smallest)
    objects = []
    for i, (rows, columns) in enumerate(ndimage.find_objects(labels)):
        top, left = max(rows.start - 2, 0), max(columns.start - 2, 0)
        window = slice(top, rows.stop + 2), slice(left, columns.stop + 2)
        piece = labels[window] == i + 1
        objects.append(
            _object(colour[window], distance[window], core[window], piece, left, top, labels.shape, shapes)
        )
    return sorted((d for d in objects if d is not None), key=lambda d: -d.area)


def judge(scene: Scene, image: np.ndarray, world: str | World = "small") -> Verdict:
    """How far every scored word of a scene holds in an image uint8 (H, W, 3).

    `world` bounds the shapes that an object may have; a scene that goes beyond it is judged in the large one. Objects are
    assigned to things so that colours and shapes match best overall (in a tie the shape decides); a thing without an object
    scores 0 in all its words.
    """
    world = WORLDS[world] if isinstance(world, str) else world
    objects = detect(
        image, world if {t.shape for t in scene.things} <= set(world.shapes) else WORLDS["large"]
    )
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
    """Share of the words judged correctly (truth >= 0.5 against construction) on fresh renders, or on wrong ones.

    `transform` takes and returns an image uint8 (S, S, 3): a VAE round trip, for example. Also the share of right renders
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
        verdict = judge(scene, transform(image) if transform else image, world)
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
