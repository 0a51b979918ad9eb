"""The detector of the shapes world: pixels -> objects -> truth of every scored word. No learned part.

The background is a plane of colour through the picture's border; what differs from it is foreground. Its inner pixels
take the nearest palette colour (CIE Lab), rim pixels join their neighbour; every connected piece of one colour is an
object. Its mask, at half of its own contrast and scaled to unit area, is compared with turned templates of all shapes
by intersection over union (`regions`, `truth`).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from scipy import ndimage
from scipy.optimize import linear_sum_assignment

from data.shapes.bodies import PRESENT, Body, word_truths
from data.shapes.degrade import degraded
from data.shapes.regions import SHAPES, by_colour, colours_of, segmented, shapes_of, unit_area
from data.shapes.render import render
from data.shapes.scenes import SPLITS, WORLDS, Scene, World, sample_scene, world_of
from data.shapes.truth import COLOURS, lab

CONTRAST = 14.0  # weighted Lab distance from the background at which foreground begins
SMALLEST = 0.004  # of the image's area: anything less is no object


@dataclass(frozen=True, kw_only=True)
class Detected(Body):
    """An object: the likeliest of its colours and shapes, and its area as a share of the image."""

    colour: str
    shape: str
    area: float

    @property
    def shape_confidence(self) -> float:
        """Truth that it has that shape."""
        return self.shapes[SHAPES.index(self.shape)]


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


def detect(image: np.ndarray, world: str | World = "small") -> list[Detected]:
    """Image uint8 (H, W, 3) -> its objects, largest first. Only shapes of the world are thought of, but any colour."""
    image = np.asarray(image)
    if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8 or min(image.shape[:2]) < 16:
        raise ValueError(
            f"image {image.shape} {image.dtype}: give uint8 RGB (H, W, 3) of at least 16 x 16 pixels."
        )
    soft = ndimage.uniform_filter(image, (3, 3, 1)) if min(image.shape[:2]) >= 64 else image
    colour = lab(soft)
    distance = np.linalg.norm(colour - _background(colour), axis=-1)
    # what stands out nearly as much as the most outstanding pixel around: no soft rims
    around = ndimage.maximum_filter(distance, 2 * round(min(distance.shape) / 18) + 1)
    core = (distance > CONTRAST) & (distance > 0.75 * around)
    least = max(3, 0.12 * max(6, int(SMALLEST * distance.size)))
    labels = segmented(colour, by_colour(colour, core), least, distance > CONTRAST)
    height, width = labels.shape
    objects = []
    for i, (rows, columns) in enumerate(ndimage.find_objects(labels)):
        top, left = max(rows.start - 2, 0), max(columns.start - 2, 0)
        window = slice(top, rows.stop + 2), slice(left, columns.stop + 2)
        piece = labels[window] == i + 1
        edge = 0.5 * float(np.percentile(distance[window][piece], 60))  # half of the piece's own contrast
        region = ndimage.binary_dilation(piece) & (distance[window] > edge)
        area = int(region.sum()) / (height * width)
        if area < SMALLEST:
            continue
        inner = ndimage.binary_erosion(region & core[window])
        colours = colours_of(colour[window][inner if inner.sum() > 12 else region])
        truths, shape = shapes_of(region, world_of(world).shapes)
        y, x = np.nonzero(region)
        objects.append(
            Detected(
                colours=tuple(colours.tolist()),
                shapes=truths,
                x=(left + float(x.mean()) + 0.5) / width,
                y=(top + float(y.mean()) + 0.5) / height,
                radius=math.sqrt(area / unit_area(shape)),
                colour=COLOURS[int(colours.argmax())],
                shape=SHAPES[shape],
                area=area,
            )
        )
    return sorted(objects, key=lambda d: -d.area)


def judge(scene: Scene, image: np.ndarray, world: str | World = "small") -> Verdict:
    """How far every scored word of a scene holds in an image uint8 (H, W, 3).

    `world` bounds the shapes that an object may be taken for; a scene that goes beyond it is judged in the large one.

    Objects are given to things so that colours and shapes match best in all (where both claim an object, the shape
    has the say); a thing without an object scores 0 in all its words.
    """
    world = world_of(world)
    known = {thing.shape for thing in scene.things} <= set(world.shapes)
    objects = detect(image, world if known else WORLDS["large"])
    slots = scene.slots
    match = np.array([[body.match(scene.things[i]) for body in objects] for i in slots])
    match = match.reshape(len(slots), len(objects))
    way = [-1] * len(slots)
    for slot, which in zip(*linear_sum_assignment(match, maximize=True), strict=True):
        if match[slot, which] >= PRESENT:
            way[slot] = which
    words = word_truths(scene, way, objects)
    extra = len(objects) - sum(which >= 0 for which in way)
    return Verdict(words, all(word >= 0.5 for word in words), extra, tuple(objects))


def accuracy(
    world: str = "small",
    n: int = 2000,
    seed: int = 0,
    transform: Callable[[np.ndarray], np.ndarray] | None = None,
    wrong: bool = False,
    size: int = 128,
) -> dict[str, float | int | dict[str, float]]:
    """Share of the words judged rightly (truth >= 0.5 against construction) on fresh renders, or on wrong ones.

    `transform` takes and returns an image uint8 (S, S, 3): a VAE round trip, for one. Also the share of the images in
    which every word was judged to hold, and of those with objects that nobody asked for.
    """
    rng = np.random.default_rng([seed, 77])
    right: dict[str, list[bool]] = {}
    strict, extra = 0, 0
    for i in range(n):
        scene = sample_scene(rng, world, SPLITS[i % 3])
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
