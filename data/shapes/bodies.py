"""What stands in a picture that was drawn on purpose, and what that makes of the words of any prompt.

The renderer knows for every pixel which object it painted there and in which colour. `bodies_of` turns this map into
bodies: parts of one object that do not touch are several, touching parts of like colour are one, and a body of two
colours stays one if it makes a better shape whole. Each gets its truths by the rules of `truth`: the overlap of its
mask with the outlines of all shapes, its colour, how far it stands out. `truths_of` gives bodies to the things
of a scene so that colours and shapes match best in all, as the detector does with what it finds on pixels. Nothing is
looked for on the finished picture, so blur, noise or an autoencoder may follow.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import permutations, product

import numpy as np
from scipy import ndimage

from data.shapes.regions import SHAPES, by_colour, colours_of, one_colour, segmented, shapes_of, unit_area
from data.shapes.render import Placement
from data.shapes.scenes import Scene, Thing
from data.shapes.truth import (
    COLOURS,
    colour_truths,
    count_truth,
    lab,
    near_truth,
    ramp,
    relation_truth,
    size_truth,
)

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

    def truths(self, thing: Thing) -> tuple[float, float]:
        """Truths that it has the thing's colour and its shape, as if it were clearly seen."""
        return self.colours[COLOURS.index(thing.colour)], self.shapes[SHAPES.index(thing.shape)]

    def match(self, thing: Thing) -> float:
        """How well it is a thing, 0 to 2.05; where colour and shape claim different bodies, the shape has the say."""
        colour, shape = self.truths(thing)
        return self.seen * (colour + 1.05 * shape)

    def is_thing(self, thing: Thing) -> bool:
        """Whether it counts as one of a thing."""
        return all(self.seen * truth >= 0.5 for truth in self.truths(thing))


def clear(placements: Sequence[Placement]) -> tuple[Body, ...]:
    """Bodies of a right render."""
    bodies = []
    for p in placements:
        colours = tuple(colour_truths(lab(np.array(p.colour))).tolist())
        bodies.append(Body(colours, tuple(float(s == p.shape) for s in SHAPES), p.x, p.y, p.radius))
    return tuple(bodies)


def truths_of(scene: Scene, bodies: Sequence[Body]) -> tuple[tuple[float, ...], float]:
    """Truth in [0, 1] of each of scene.words, and that nothing else is there, in a picture of these bodies.

    Where several ways to give bodies to things are about equally good, the mean of what holds in them.
    """
    slots = scene.slots
    match = np.zeros((len(slots), len(bodies) + 1))  # the last column: no body
    for row, i in zip(match, slots, strict=True):
        row[:-1] = [body.match(scene.things[i]) for body in bodies]
    places = [*range(len(bodies)), *[len(bodies)] * len(slots)]
    ways = np.array(list(dict.fromkeys(permutations(places, len(slots)))))
    values = match[np.arange(len(slots)), ways].sum(1)
    likely = ways[values > values.max() - CLOSE]
    best = {tuple(int(o) if match[s, o] >= PRESENT else -1 for s, o in enumerate(way)) for way in likely}
    words = [word_truths(scene, way, bodies) for way in best]
    alone = [math.prod(1.0 - body.seen for i, body in enumerate(bodies) if i not in way) for way in best]
    return tuple(float(np.mean(word)) for word in zip(*words, strict=True)), float(np.mean(alone))


def word_truths(scene: Scene, way: Sequence[int], bodies: Sequence[Body]) -> tuple[float, ...]:
    """Truth of every scored word where `way` says which body each of the slots has, -1 for none. A word holds in its
    binding: those of a thing without a body are 0."""
    given: list[list[Body]] = [[] for _ in scene.things]
    for i, which in zip(scene.slots, way, strict=True):
        if which >= 0:
            given[i].append(bodies[which])
    truths = []
    for word in scene.words:
        thing, mine = scene.things[word.things[0]], given[word.things[0]]
        if word.kind in ("colour", "object"):
            truth = _mean([body.truths(thing)[word.kind == "object"] * body.seen for body in mine], thing)
        elif word.kind == "count":
            truth = count_truth(sum(body.is_thing(thing) for body in bodies), thing.count)
        elif word.kind == "size" and thing.size:
            truth = float(sum(size_truth(body.radius, thing.size) for body in mine)) / thing.count
        else:
            truth = _related(scene, given)
        truths.append(min(max(truth, 0.0), 1.0))
    return tuple(truths)


def _mean(truths: list[float], thing: Thing) -> float:
    """The mean over the objects that a thing asks for; one that is missing counts 0."""
    return float(np.mean(truths + [0.0] * (thing.count - len(truths))))


def _related(scene: Scene, given: Sequence[Sequence[Body]]) -> float:
    """Truth that things 0 and 1 stand as the scene says: as far as they are there at all."""
    first, second = given[:2]
    if not (first and second):
        return 0.0
    presence = []
    for thing, mine in zip(scene.things[:2], given[:2], strict=True):
        presence.append(_mean([min(1.0, 2 * max(body.truths(thing))) * body.seen for body in mine], thing))
    truth = min(presence)
    if truth and scene.near:
        gaps = [math.dist((a.x, a.y), (b.x, b.y)) - a.radius - b.radius for a, b in product(first, second)]
        truth *= near_truth(min(gaps))
    elif truth and scene.relation:
        a, b = (np.mean([(body.x, body.y) for body in mine], 0) for mine in (first, second))
        truth *= relation_truth(a, b, scene.relation)
    return truth


def bodies_of(
    canvas: np.ndarray, paper: np.ndarray, owner: np.ndarray, shapes: Sequence[str] = SHAPES
) -> tuple[Body, ...]:
    """Bodies of a drawn picture, largest first.

    canvas, paper: uint8 (S, S, 3), what was painted and the background alone; owner: int (S, S), which object painted a
    pixel last, 0 where none did. Only `shapes` are thought of.
    """
    colour = lab(canvas)
    contrast = np.linalg.norm(colour - lab(paper), axis=-1)
    labels, bodies = _regions(colour, owner), []
    for i, window in enumerate(ndimage.find_objects(labels)):
        if window is None:
            continue
        region = labels[window] == i + 1
        seen = ramp(float(region.sum()) / owner.size, *LARGE_ENOUGH)
        seen *= ramp(float(np.median(contrast[window][region])), *STANDS_OUT)
        if seen > 0:
            truths, shape = shapes_of(region, shapes)
            colours = tuple(colours_of(colour[window][region]).tolist())
            y, x = np.nonzero(region)
            centre_x = (window[1].start + float(x.mean()) + 0.5) / len(owner)
            centre_y = (window[0].start + float(y.mean()) + 0.5) / len(owner)
            radius = math.sqrt(len(x) / unit_area(shape)) / len(owner)
            bodies.append(Body(colours, truths, centre_x, centre_y, radius, seen))
    return tuple(sorted(bodies, key=lambda body: -body.radius))


def _regions(colour: np.ndarray, owner: np.ndarray) -> np.ndarray:
    """Label (S, S) of the bodies: parts of objects, joined where they touch and belong together; 0 is background."""
    parts: list[np.ndarray] = []
    torn = False
    for number in np.unique(owner[owner > 0]):
        drawn = owner == number
        if one_colour(colour[drawn]):
            parts.append(drawn)
        else:
            torn = True
            parts += by_colour(colour, drawn)
    return segmented(colour, parts, SPECK, owner > 0 if torn else None)
