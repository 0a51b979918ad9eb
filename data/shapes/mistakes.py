"""The mistakes that a render can make: each case changes a plan of objects, layout and picture, and grades its words.

`degrade` draws the plan. A case returns False where a scene leaves no room for it. IDENTITY names the cases that
change what an object is: two of them together could turn one thing into another, so that no truth would be sure.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import lru_cache

import numpy as np
from scipy.ndimage import map_coordinates, zoom

from data.shapes import render as draw
from data.shapes.render import PALETTE, Placement
from data.shapes.scenes import OPPOSITE, Scene, World
from data.shapes.truth import colour_truth, lab, ramp

_ANGLES = np.linspace(-math.pi, math.pi, 180, endpoint=False)
Cover = Callable[[np.ndarray], np.ndarray]


@dataclass
class Object:
    """An object to be drawn, and how far its words hold. `other` is a second colour for a two-tone body."""

    thing: int
    shape: str
    colour: tuple[int, int, int]
    range: tuple[float, float]
    colour_truth: float = 1.0
    shape_truth: float = 1.0
    seen: float = 1.0
    opacity: float = 1.0
    other: tuple[int, int, int] | None = None
    part: float = 1.0
    reshape: Cover | None = None
    at: Placement | None = None
    outline: np.ndarray | None = None
    whole: np.ndarray | None = None


@dataclass
class Plan:
    """What a case changes: the objects, their layout, and what happens to the whole picture."""

    scene: Scene
    world: World
    rng: np.random.Generator
    objects: list[Object]
    relation: str | None
    slant: float | None = None
    near: float | None = None
    blur: float = 0.0
    noise: float = 0.0
    names: list[str] = field(default_factory=list)

    def of(self, thing: int) -> list[Object]:
        return [o for o in self.objects if o.thing == thing]

    def any_thing(self) -> int:
        things = sorted({o.thing for o in self.objects if o.thing >= 0})
        return int(self.rng.choice(things)) if things else -1

    def pick(self, options):
        return options[int(self.rng.integers(len(options)))]


def _correct(plan: Plan) -> bool:
    return True


def _colour(plan: Plan) -> bool:
    """One thing in another colour, never so that it becomes another thing of the scene."""
    i = plan.any_thing()
    thing = plan.scene.things[i]
    taken = {t.colour for t in plan.scene.things if t.shape == thing.shape} | {thing.colour}
    wrong = plan.pick([c for c in plan.world.colours if c not in taken])
    for o in plan.of(i):
        o.colour, o.colour_truth = draw.jittered(wrong, plan.rng), 0.0
    return True


def _shape(plan: Plan) -> bool:
    i = plan.any_thing()
    thing = plan.scene.things[i]
    taken = {t.shape for t in plan.scene.things if t.colour == thing.colour} | {thing.shape}
    options = [s for s in plan.world.shapes if s not in taken]
    wrong = plan.pick(options) if options else None
    for o in plan.of(i) if wrong else ():
        o.shape, o.shape_truth = wrong, 0.0
    return wrong is not None


def _swapped_colours(plan: Plan) -> bool:
    """Things 0 and 1 exchange colours; a noun keeps its object, so only where both nouns and colours differ."""
    if len(plan.scene.things) < 2:
        return False
    a, b = plan.scene.things[:2]
    if a.colour == b.colour or a.shape == b.shape:
        return False
    for i, colour in ((0, b.colour), (1, a.colour)):
        for o in plan.of(i):
            o.colour, o.colour_truth = draw.jittered(colour, plan.rng), 0.0
    return True


def _relation(plan: Plan) -> bool:
    """The opposite relation, or now and then one along the other axis."""
    if plan.scene.relation is None:
        return False
    across = [r for r in OPPOSITE if r not in (plan.scene.relation, OPPOSITE[plan.scene.relation])]
    plan.relation = OPPOSITE[plan.scene.relation] if plan.rng.random() < 0.6 else plan.pick(across)
    return True


def _diagonal(plan: Plan) -> bool:
    """A placement between two relations: 10 to 80 degrees off the axis."""
    if plan.scene.relation is None or len(plan.objects) != 2:
        return False
    plan.slant = float(plan.rng.uniform(10, 80) * plan.pick((-1, 1)))
    return True


def _missing(plan: Plan) -> bool:
    gone = {plan.any_thing()} if plan.rng.random() < 0.85 else set(range(len(plan.scene.things)))
    if plan.rng.random() < 0.5 and (several := plan.of(min(gone)))[1:]:
        plan.objects.remove(several[0])
    else:
        plan.objects = [o for o in plan.objects if o.thing not in gone]
    return True


def _extra(plan: Plan) -> bool:
    """One more object: any other thing, or (where nothing is placed or counted by it) a double."""
    things = plan.scene.things
    if len(plan.objects) >= max(3, plan.world.max_objects):
        return False
    if plan.scene.relation is None and plan.rng.random() < 0.4:
        twin = plan.pick(things)
        colour, shape = twin.colour, twin.shape
    else:
        taken = {t.key for t in things}
        pairs = [(c, s) for c in plan.world.colours for s in plan.world.shapes if f"{c} {s}" not in taken]
        colour, shape = plan.pick(pairs)
    for o in plan.objects:
        o.range = min(o.range, draw.PLAIN[3])
    plan.objects.append(Object(-1, shape, draw.jittered(colour, plan.rng), (0.1, 0.17)))
    return True


def _size(plan: Plan) -> bool:
    things = [i for i, t in enumerate(plan.scene.things) if t.size and plan.of(i)]
    for o in plan.of(plan.pick(things)) if things else ():
        o.range = draw.SMALL if plan.scene.things[o.thing].size == "large" else (draw.LARGE[0], 0.21)
    return bool(things)


def _reshaped(plan: Plan, reshape: Cover) -> bool:
    for o in plan.of(plan.any_thing()):
        o.reshape = reshape
    return True


def _cut(plan: Plan) -> bool:
    """A straight cut takes a part of the body away."""
    angle, offset = plan.rng.uniform(0, 2 * math.pi), plan.rng.uniform(-0.25, 0.65)

    def cut(cover: np.ndarray) -> np.ndarray:
        y, x = (np.linspace(-1, 1, n, dtype=np.float32) for n in cover.shape)
        side = offset - (math.cos(angle) * x[None] + math.sin(angle) * y[:, None])
        return cover * np.clip(side * cover.shape[0] / 2, 0, 1)

    return _reshaped(plan, cut)


def _melted(plan: Plan) -> bool:
    """A smooth random displacement bends the body."""
    field_ = plan.rng.normal(size=(2, 4, 4)) * plan.rng.uniform(0.02, 0.18)
    field_ -= field_.mean((1, 2), keepdims=True)

    def melt(cover: np.ndarray) -> np.ndarray:
        h, w = cover.shape
        shift = np.stack([zoom(f, (h / 4, w / 4), order=3, mode="nearest", grid_mode=True) for f in field_])
        grid = np.mgrid[:h, :w] + shift * np.array([h, w]).reshape(2, 1, 1)
        return map_coordinates(cover, grid, order=1, mode="constant").astype(np.float32)

    return _reshaped(plan, melt)


@lru_cache(maxsize=16)
def _reach(shape: str) -> np.ndarray:
    """Distance of a shape's outline from its origin in 180 directions."""
    corners = draw.OUTLINES[shape]
    steps = np.linspace(0, 1, 24, endpoint=False)[None, :, None]
    points = (corners[:, None] * (1 - steps) + np.roll(corners, -1, 0)[:, None] * steps).reshape(-1, 2)
    angles = np.arctan2(points[:, 1], points[:, 0])
    order = np.argsort(angles)
    return np.interp(_ANGLES, angles[order], np.hypot(*points[order].T), period=2 * math.pi)


def _morphed(plan: Plan) -> bool:
    """A body between the wanted shape and another one."""
    i = plan.any_thing()
    wanted = plan.scene.things[i].shape
    other, part = plan.pick([s for s in plan.world.shapes if s != wanted]), float(plan.rng.uniform(0.1, 0.9))
    reach = (1 - part) * _reach(wanted) + part * _reach(other)
    for o in plan.of(i):
        o.outline = reach[:, None] * np.stack([np.cos(_ANGLES), np.sin(_ANGLES)], 1)
        o.shape_truth *= ramp(part, 0.75, 0.25)
    return True


def _other_colour(plan: Plan, colour: str) -> tuple[int, int, int]:
    return draw.jittered(plan.pick([c for c in plan.world.colours if c != colour]), plan.rng)


def _blended(plan: Plan) -> bool:
    """A colour between two of the palette."""
    i = plan.any_thing()
    wanted = plan.scene.things[i].colour
    part, other = plan.rng.uniform(0.1, 0.9), np.array(_other_colour(plan, wanted))
    rgb = np.round((1 - part) * np.array(PALETTE[wanted]) + part * other).astype(np.uint8)
    for o in plan.of(i):
        o.colour, o.colour_truth = tuple(rgb.tolist()), colour_truth(lab(rgb), wanted)
    return True


def _two_tone(plan: Plan) -> bool:
    """A body that is partly of one colour and partly of another."""
    i = plan.any_thing()
    other, part = _other_colour(plan, plan.scene.things[i].colour), float(plan.rng.uniform(0.1, 0.9))
    for o in plan.of(i):
        o.other, o.part, o.colour_truth = other, part, ramp(part, 0.15, 0.85)
    return True


def _faded(plan: Plan) -> bool:
    """A body that the background shines through."""
    opacity = float(plan.rng.uniform(0.04, 0.8))
    for o in plan.of(plan.any_thing()):
        o.opacity = opacity
    return True


def _overlapping(plan: Plan) -> bool:
    """The second object covers a part of the first."""
    if len(plan.objects) != 2 or len(plan.scene.things) != 2:
        return False
    plan.near = float(plan.rng.uniform(0.35, 0.9))
    return True


def _blurred(plan: Plan) -> bool:
    plan.blur = float(plan.rng.uniform(0.015, 0.11))
    return True


def _noisy(plan: Plan) -> bool:
    plan.noise = float(plan.rng.uniform(20, 90))
    return True


CASES: dict[str, tuple[float, Callable[[Plan], bool]]] = {  # weight, what it does to the plan
    "correct": (0.22, _correct),
    "colour": (0.12, _colour),
    "shape": (0.12, _shape),
    "swapped colours": (0.08, _swapped_colours),
    "relation": (0.12, _relation),
    "diagonal": (0.05, _diagonal),
    "missing": (0.12, _missing),
    "extra": (0.06, _extra),
    "size": (0.05, _size),
    "cut": (0.06, _cut),
    "melted": (0.07, _melted),
    "morphed": (0.06, _morphed),
    "blended": (0.06, _blended),
    "two-tone": (0.04, _two_tone),
    "faded": (0.05, _faded),
    "overlapping": (0.04, _overlapping),
    "blurred": (0.04, _blurred),
    "noisy": (0.02, _noisy),
}

IDENTITY = {"colour", "shape", "swapped colours", "missing", "extra", "morphed", "blended", "two-tone"}
