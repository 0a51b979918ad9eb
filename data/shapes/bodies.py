"""Bodies in a picture that was drawn on purpose, and the truth of the words of any prompt about it.

The renderer knows for every pixel which object it painted there and in which colour. ``bodies_of`` turns this map into bodies:
parts of one object that do not touch are several, touching parts of similar colour are one, and a body of two colours
stays one if it makes a better shape whole. Each gets its truths by the rules of ``truth``: the overlap of its mask with the
outlines of all shapes, its colour, and how far it stands out. ``truths_of`` assigns bodies to the things of a scene so that
colours and shapes match best overall, as the detector does with what it finds on pixels. Nothing is detected on the finished
picture, so blur, noise or an autoencoder may follow.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import permutations

import numpy as np
from scipy import ndimage

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
from data.shapes.render import Placement
from data.shapes.scenes import Scene
from data.shapes.truth import COLOURS, colour_truths, lab, ramp, word_truths

STANDS_OUT = (8.0, 20.0)  # weighted Lab distance from the background: not seen, and clearly seen
LARGE_ENOUGH = (0.002, 0.006)  # area as a share of the picture: not seen, and clearly seen
SPECK = 8  # pixels that a part must keep in an erosion; smaller ones join a neighbour
CLOSE = 0.08  # assignments of bodies to things within this of the best count alike


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
        """How well it matches a thing of this colour and shape, 0 to 2.05; in a tie the shape decides."""
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
    """Truth in [0, 1] of each of scene.words, and of *nothing else*, in a picture of these bodies.

    Where several assignments of bodies to things are about equally good, the mean over them.
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
    truths = [_truths(scene, bodies, slots, way) for way in best]
    words = tuple(float(np.mean(word)) for word in zip(*(words for words, _ in truths), strict=True))
    return words, float(np.mean([alone for _, alone in truths]))


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
    pixel last, 0 where none did. Only `shapes` are considered.
    """
    colour = lab(canvas)
    contrast = np.linalg.norm(colour - lab(paper), axis=-1)
    labels = _parts(colour, owner)
    known = np.array([name in shapes for name in SHAPES])
    bodies = []
    for i, window in enumerate(ndimage.find_objects(labels)):
        if window is None:
            continue
        cover = labels[window] == i + 1
        seen = ramp(float(cover.sum()) / owner.size, *LARGE_ENOUGH) * ramp(
            float(np.median(contrast[window][cover])), *STANDS_OUT
        )
        if seen > 0:
            bodies.append(_body(cover, colour[window], window, owner.shape[0], seen, known))
    return tuple(sorted(bodies, key=lambda body: -body.radius))


def _body(
    cover: np.ndarray,
    colour: np.ndarray,
    window: tuple[slice, slice],
    size: int,
    seen: float,
    known: np.ndarray,
) -> Body:
    overlaps = overlaps_of(cover.astype(np.float32)) * known
    y, x = np.nonzero(cover)
    pixels = colour[cover]
    colours = median_truths(pixels) if _plain(pixels) else colours_by_area(pixels)
    return Body(
        tuple(colours.tolist()),
        tuple(shape_truths(overlaps)),
        (window[1].start + float(x.mean()) + 0.5) / size,
        (window[0].start + float(y.mean()) + 0.5) / size,
        math.sqrt(len(x) / area_of(int(overlaps.argmax()))) / size,
        seen,
    )


def _parts(colour: np.ndarray, owner: np.ndarray) -> np.ndarray:
    """Label (S, S) of the bodies: parts of objects, joined where they touch and belong together; 0 is background."""
    labels, count = np.zeros(owner.shape, np.int32), 0
    split = False
    for k in np.unique(owner[owner > 0]):
        drawn = owner == k
        if _plain(colour[drawn]):
            areas = [drawn]
        else:
            split, areas = True, split_by_colour(colour, drawn)
        for area in areas:
            labels, count = add_parts(labels, count, area, SPECK)
    if count > 1:
        count = join_alike(labels, count, colour)
    if split and count:
        labels = fill_gaps(labels, owner > 0)
    if count > 1:
        join_whole(labels, count)
    return labels


def _plain(pixels: np.ndarray) -> bool:
    """Whether a body of weighted Lab (N, 3) has one colour."""
    away = np.square(pixels - np.median(pixels, axis=0)).sum(1)
    return bool(np.quantile(away, 0.9) < SIMILAR**2)
