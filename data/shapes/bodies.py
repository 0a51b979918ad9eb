"""What stands in a picture that was drawn on purpose, and what that makes of the words of any prompt.

The renderer knows for every pixel which object it painted there and in which colour. `bodies_of` turns this map into
bodies: parts of one object that do not touch are several, touching parts of like colour are one, and a body of two
colours stays one if it makes a better shape whole. Each gets its truths by the rules of `truth`: the overlap of its
own mask with the outlines of all shapes, its own colour, how far it stands out. `truths_of` gives bodies to the things
of a scene so that colours and shapes match best in all, as the detector does with what it finds on pixels. Nothing is
looked for on the finished picture, so blur, noise or an autoencoder may follow.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import permutations

import numpy as np
from scipy import ndimage

from data.shapes.render import OUTLINES, Placement, mask
from data.shapes.scenes import Scene
from data.shapes.truth import COLOURS, colour_truths, lab, palette_lab, ramp, shape_truth, word_truths

SHAPES = tuple(OUTLINES)
GRID, EXTENT = 32, 1.25  # masks are compared on GRID x GRID points, +-EXTENT square roots of their area
TURNS = tuple(range(-44, 45, 4))
MARGIN = 0.06  # lead in overlap over the next shape at which a shape is certain
SIMILAR = 22.0  # touching parts whose colours differ by less are one body
STANDS_OUT = (8.0, 20.0)  # weighted Lab distance from the background: not seen, and clearly seen
LARGE_ENOUGH = (0.002, 0.006)  # area as a part of the picture: not seen, and clearly seen
SPECK = 8  # pixels that a part must keep in an erosion; smaller ones join a neighbour
PRESENT = 0.25  # a body that matches a thing less than this (colour and shape together) is not that thing
CLOSE = 0.08  # ways to give bodies to things that are this near to the best count alike


@dataclass(frozen=True)
class Body:
    """A body: truth in [0, 1] that it has each of COLOURS (8,) and each of SHAPES (6,), its centre and the radius of
    its shape as fractions of the side, and how far it is seen at all."""

    colours: tuple[float, ...]
    shapes: tuple[float, ...]
    x: float
    y: float
    radius: float
    seen: float = 1.0

    @property
    def mirrored(self) -> Body:
        """The body in the picture's mirror image."""
        return replace(self, x=1.0 - self.x)

    def match(self, colour: str, shape: str) -> float:
        """How well it is a thing of this colour and shape, 0 to 2.05; where both claim a body, the shape has the say."""
        return self.seen * (self.colours[COLOURS.index(colour)] + 1.05 * self.shapes[SHAPES.index(shape)])


def clear(placements: Sequence[Placement]) -> tuple[Body, ...]:
    """Bodies of a right render."""
    return tuple(
        Body(
            tuple(colour_truths(lab(np.array(p.colour))).tolist()),
            tuple(float(shape == p.shape) for shape in SHAPES),
            p.x,
            p.y,
            p.radius,
        )
        for p in placements
    )


def truths_of(scene: Scene, bodies: Sequence[Body]) -> tuple[tuple[float, ...], float]:
    """Truth in [0, 1] of each of scene.words, and that nothing else is there, in a picture of these bodies.

    Where several ways to give bodies to things are about equally good, the mean of what holds in them.
    """
    slots = [i for i, thing in enumerate(scene.things) for _ in range(thing.count)]
    match = np.zeros((len(slots), len(bodies) + 1))  # the last column: no body
    for row, i in zip(match, slots, strict=True):
        row[:-1] = [body.match(scene.things[i].colour, scene.things[i].shape) for body in bodies]
    places = [*range(len(bodies)), *[len(bodies)] * len(slots)]
    ways = np.array(list(dict.fromkeys(permutations(places, len(slots)))))
    values = match[np.arange(len(slots)), ways].sum(1)
    best = {
        tuple(int(o) if match[s, o] >= PRESENT else -1 for s, o in enumerate(way))
        for way in ways[values > values.max() - CLOSE]
    }
    found = [_truths(scene, bodies, slots, way) for way in best]
    words = tuple(float(np.mean(word)) for word in zip(*(words for words, _ in found), strict=True))
    return words, float(np.mean([alone for _, alone in found]))


def _truths(
    scene: Scene, bodies: Sequence[Body], slots: list[int], way: tuple[int, ...]
) -> tuple[tuple[float, ...], float]:
    given: list[list[Body]] = [[] for _ in scene.things]
    for i, which in zip(slots, way, strict=True):
        if which >= 0:
            given[i].append(bodies[which])
    colours, shapes, presences, radii, centres, counts = [], [], [], [], [], []
    for thing, mine in zip(scene.things, given, strict=True):
        colour, shape = COLOURS.index(thing.colour), SHAPES.index(thing.shape)
        pad = [0.0] * (thing.count - len(mine))
        colours.append([b.colours[colour] * b.seen for b in mine] + pad)
        shapes.append([b.shapes[shape] * b.seen for b in mine] + pad)
        presences.append([min(1.0, 2 * max(b.colours[colour], b.shapes[shape])) * b.seen for b in mine] + pad)
        radii.append([b.radius for b in mine])
        centres.append([(b.x, b.y) for b in mine])
        counts.append(
            sum(b.seen * b.colours[colour] >= 0.5 and b.seen * b.shapes[shape] >= 0.5 for b in bodies)
        )
    alone = math.prod(1.0 - body.seen for i, body in enumerate(bodies) if i not in way)
    return word_truths(scene, colours, shapes, presences, radii, centres, counts), alone


def bodies_of(
    canvas: np.ndarray, paper: np.ndarray, owner: np.ndarray, shapes: Sequence[str] = SHAPES
) -> tuple[Body, ...]:
    """Bodies of a drawn picture, largest first.

    canvas, paper: uint8 (S, S, 3), what was painted and the background alone; owner: int (S, S), which object painted a
    pixel last, 0 where none did. Only `shapes` are thought of.
    """
    colour = lab(canvas)
    contrast = np.linalg.norm(colour - lab(paper), axis=-1)
    labels = _parts(colour, owner)
    known = np.array([name in shapes for name in SHAPES])
    found = []
    for i, window in enumerate(ndimage.find_objects(labels)):
        if window is None:
            continue
        cover = labels[window] == i + 1
        seen = ramp(float(cover.sum()) / owner.size, *LARGE_ENOUGH) * ramp(
            float(np.median(contrast[window][cover])), *STANDS_OUT
        )
        if seen > 0:
            found.append(_body(cover, colour[window], window, owner.shape[0], seen, known))
    return tuple(sorted(found, key=lambda body: -body.radius))


def _body(
    cover: np.ndarray, colour: np.ndarray, window: tuple[slice, slice], size: int, seen: float, known
) -> Body:
    overlaps = overlaps_of(cover.astype(np.float32)) * known
    order = np.sort(overlaps)
    rivals = np.where(overlaps == order[-1], order[-2], order[-1])
    shapes = [
        min(shape_truth(float(o)), ramp(float(o - r), -MARGIN, MARGIN))
        for o, r in zip(overlaps, rivals, strict=True)
    ]
    y, x = np.nonzero(cover)
    area = _templates()[1][int(overlaps.argmax())]
    return Body(
        tuple(_colours(colour[cover]).tolist()),
        tuple(shapes),
        (window[1].start + float(x.mean()) + 0.5) / size,
        (window[0].start + float(y.mean()) + 0.5) / size,
        math.sqrt(len(x) / area) / size,
        seen,
    )


def _parts(colour: np.ndarray, owner: np.ndarray) -> np.ndarray:
    """Label (S, S) of the bodies: parts of objects, joined where they touch and belong together; 0 is background."""
    labels, count = np.zeros(owner.shape, np.int32), 0
    torn = False
    for k in np.unique(owner[owner > 0]):
        mine = owner == k
        pixels = colour[mine]
        if _plain(pixels):
            parts = [mine]
        else:
            torn, nearest = True, np.zeros(owner.shape, np.uint8)
            nearest[mine] = np.square(pixels[:, None] - palette_lab()).sum(-1).argmin(1) + 1
            parts = [nearest == index for index in np.flatnonzero(np.bincount(nearest.ravel())[1:]) + 1]
        for same in parts:
            part, n = ndimage.label(same)
            sizes = np.bincount(part[ndimage.binary_erosion(same)], minlength=n + 1)[1:]
            keep = sizes >= SPECK
            labels = np.maximum(
                labels, np.concatenate([[0], np.where(keep, count + np.cumsum(keep), 0)])[part]
            )
            count += int(keep.sum())
    if count > 1:
        count = _join(labels, count, lambda a, b: _alike(colour, labels, a, b))
    if torn and count:
        rows, columns = ndimage.distance_transform_edt(
            labels == 0, return_distances=False, return_indices=True
        )
        blobs, _ = ndimage.label(owner > 0)
        labels = np.where((owner > 0) & (blobs == blobs[rows, columns]), labels[rows, columns], 0)
    if count > 1:
        _join(labels, count, lambda a, b: _whole(labels, a, b))
    return labels


def _plain(pixels: np.ndarray) -> bool:
    """Whether a body of weighted Lab (N, 3) has one colour."""
    away = np.square(pixels - np.median(pixels, axis=0)).sum(1)
    return bool(np.quantile(away, 0.9) < SIMILAR**2)


def _colours(pixels: np.ndarray) -> np.ndarray:
    """Truth of every palette colour: of the median of weighted Lab (N, 3), or by area where there are several."""
    if _plain(pixels):
        return colour_truths(np.median(pixels, axis=0))
    nearest = np.square(pixels[:, None] - palette_lab()).sum(-1).argmin(1)
    return np.bincount(nearest, minlength=len(COLOURS)) / len(nearest)


def _alike(colour: np.ndarray, labels: np.ndarray, a: int, b: int) -> bool:
    first, second = (np.median(colour[labels == i], 0) for i in (a, b))
    return float(np.linalg.norm(first - second)) < SIMILAR


def _whole(labels: np.ndarray, a: int, b: int) -> bool:
    """Whether two touching parts make a better shape together than the larger one alone."""
    first, second = labels == a, labels == b
    larger = first if first.sum() >= second.sum() else second
    together = float(overlaps_of((first | second).astype(np.float32)).max())
    return together > 0.88 and together > float(overlaps_of(larger.astype(np.float32)).max()) + 0.03


def _join(labels: np.ndarray, count: int, belong: Callable[[int, int], bool]) -> int:
    """Give touching parts that belong together one label, in place; returns how many are left."""
    grown = ndimage.grey_dilation(labels, 3)
    touching = (labels > 0) & (grown > labels)
    parent = list(range(count + 1))
    for a, b in sorted(set(zip(labels[touching].tolist(), grown[touching].tolist(), strict=True))):
        if belong(a, b):
            parent = [parent[a] if p == parent[b] else p for p in parent]
    kept = sorted(set(parent[1:]))
    labels[...] = np.array([0, *(kept.index(p) + 1 for p in parent[1:])], labels.dtype)[labels]
    return len(kept)


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


def overlaps_of(cover: np.ndarray) -> np.ndarray:
    """Coverage (h, w) -> best overlap (intersection over union) with each of SHAPES, turned up to 44 degrees."""
    templates, _ = _templates()
    unit = _unit(cover)
    shared = templates @ unit
    overlap = shared / (templates.sum(1) + unit.sum() - shared)
    return overlap.reshape(len(SHAPES), len(TURNS)).max(1)
