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
from data.shapes.scenes import WORLDS, Scene, World, sample_scene
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
    nearest = np.zeros(foreground.shape, np.uint8)
    nearest[core] = np.square(colour[core][:, None] - palette_lab()).sum(-1).argmin(1) + 1
    labels, count = np.zeros(foreground.shape, np.int32), 0
    for index in np.flatnonzero(np.bincount(nearest.ravel())[1:]) + 1:
        same = nearest == index
        part, n = ndimage.label(same)
        sizes = np.bincount(part[ndimage.binary_erosion(same)], minlength=n + 1)[1:]
        keep = sizes >= max(3, 0.12 * smallest)
        lookup = np.concatenate([[0], np.where(keep, count + np.cumsum(keep), 0)])
        labels = np.maximum(labels, lookup[part])
        count += int(keep.sum())
    if count > 1:
        count = _join(labels, count, lambda a, b: _alike(colour, labels, a, b))
    if count:
        rows, columns = ndimage.distance_transform_edt(
            labels == 0, return_distances=False, return_indices=True
        )
        blobs, _ = ndimage.label(foreground)
        labels = np.where(foreground & (blobs == blobs[rows, columns]), labels[rows, columns], 0)
    if count > 1:
        _join(labels, count, lambda a, b: _whole(labels, a, b))
    return labels


def _alike(colour: np.ndarray, labels: np.ndarray, a: int, b: int) -> bool:
    """Whether two touching pieces hardly differ in colour."""
    first, second = (np.median(colour[labels == i], 0) for i in (a, b))
    return float(np.linalg.norm(first - second)) < SIMILAR


def _whole(labels: np.ndarray, a: int, b: int) -> bool:
    """Whether two touching pieces make a better shape together than the larger of them alone: a two-coloured body."""
    first, second = labels == a, labels == b
    larger = first if first.sum() >= second.sum() else second
    together = float(_shapes((first | second).astype(np.float32)).max())
    return together > 0.88 and together > float(_shapes(larger.astype(np.float32)).max()) + 0.03


def _join(labels: np.ndarray, count: int, belong: Callable[[int, int], bool]) -> int:
    """Give touching pieces that belong together one label, in place; returns how many are left."""
    grown = ndimage.grey_dilation(labels, 3)
    touching = (labels > 0) & (grown > labels)
    parent = list(range(count + 1))
    for a, b in sorted(set(zip(labels[touching].tolist(), grown[touching].tolist(), strict=True))):
        if belong(a, b):
            parent = [parent[a] if p == parent[b] else p for p in parent]
    kept = sorted(set(parent[1:]))
    labels[...] = np.array([0, *(kept.index(p) + 1 for p in parent[1:])], labels.dtype)[labels]
    return len(kept)


def _shapes(cover: np.ndarray) -> np.ndarray:
    """Coverage (h, w) -> best overlap (intersection over union) with each of SHAPES."""
    templates, _ = _templates()
    unit = _unit(cover)
    shared = templates @ unit
    overlap = shared / (templates.sum(1) + unit.sum() - shared)
    return overlap.reshape(len(SHAPES), len(TURNS)).max(1)


def _colours(pixels: np.ndarray) -> np.ndarray:
    """Weighted Lab (N, 3) of a body -> truth of every palette colour: of its median, or by area if it has several."""
    median = np.median(pixels, axis=0)
    away = np.square(pixels - median).sum(1)
    if np.partition(away, int(0.9 * len(away)))[int(0.9 * len(away))] < SIMILAR**2:
        return colour_truths(median)
    nearest = np.square(pixels[:, None] - palette_lab()).sum(-1).argmin(1)
    return np.bincount(nearest, minlength=len(COLOURS)) / len(nearest)


def _object(
    colour: np.ndarray,
    distance: np.ndarray,
    core: np.ndarray,
    piece: np.ndarray,
    left: int,
    top: int,
    shape,
    known,
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
    overlaps = _shapes(cover) * [name in known for name in SHAPES]
    best = int(overlaps.argmax())
    order = np.sort(overlaps)
    rivals = np.where(overlaps == order[-1], order[-2], order[-1])
    shapes = [
        min(shape_truth(float(o)), ramp(float(o - r), -MARGIN, MARGIN))
        for o, r in zip(overlaps, rivals, strict=True)
    ]
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
        math.sqrt(area / _templates()[1][best] / (height * width)),
        float(colours[hue]),
        float(shapes[best]),
        dict(zip(COLOURS, colours.tolist(), strict=True)),
        dict(zip(SHAPES, shapes, strict=True)),
    )


def detect(image: np.ndarray, world: str | World = "small") -> list[Detected]:
    """Image uint8 (H, W, 3) -> its objects, largest first. Only shapes of the world are thought of, but any colour."""
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
    found = []
    for i, (rows, columns) in enumerate(ndimage.find_objects(labels)):
        top, left = max(rows.start - 2, 0), max(columns.start - 2, 0)
        part = slice(top, rows.stop + 2), slice(left, columns.stop + 2)
        piece = labels[part] == i + 1
        found.append(
            _object(colour[part], distance[part], core[part], piece, left, top, labels.shape, shapes)
        )
    return sorted((d for d in found if d is not None), key=lambda d: -d.area)


def judge(scene: Scene, image: np.ndarray, world: str | World = "small") -> Verdict:
    """How far every scored word of a scene holds in an image uint8 (H, W, 3).

    `world` bounds the shapes that an object may be taken for; a scene that goes beyond it is judged in the large one.

    Objects are given to things so that colours and shapes match best in all (where both claim an object, the shape
    has the say); a thing without an object scores 0 in all its words.
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
