"""Renders that are wrong on purpose, with their truth known by construction, as training data for the scorer.

``spoiled(scene, seed)`` draws up to three mistakes from CASES (wrong colour or shape, swapped, misplaced, missing, double,
half-formed, blended, faded, blurred ...), deforms every body a little in most pictures, renders the scene, and returns the
bodies in it. ``degraded`` returns how far each scored word of the scene still holds. A word holds in its binding: "red" of a
missing circle is 0.

Each case changes a plan of objects, layout and picture; it returns False where the scene leaves no room for it. SPOILING names
the cases that change what an object is; a picture gets at most two of these, so that something is left of its scene.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import TypeVar

import numpy as np
from scipy.ndimage import gaussian_filter, gaussian_filter1d, map_coordinates, zoom

from data.shapes import render as draw
from data.shapes.bodies import Body, bodies_of, truths_of
from data.shapes.masks import SHAPES
from data.shapes.render import PALETTE, Placement
from data.shapes.scenes import OPPOSITE, WORLDS, Scene, World
from data.shapes.truth import ramp

T = TypeVar("T")
MANY = (0.16, 0.46, 0.26, 0.12)  # probability of 0, 1, 2, 3 mistakes in a picture
_POINTS = 180
_ANGLES = np.linspace(-math.pi, math.pi, _POINTS, endpoint=False)
Cover = Callable[[np.ndarray], np.ndarray]
Colour = tuple[int, int, int]


@dataclass
class Object:
    """An object to be drawn.

    mix: the share (h, w) of a second colour `other` in its body; outline: overrides the shape's own; reshape: changes its
    coverage; out: moves it over the picture's edge by a share of its radius; at: its placement, once laid out.
    """

    thing: int
    shape: str
    colour: Colour
    range: tuple[float, float]
    opacity: float = 1.0
    other: Colour | None = None
    mix: Callable[[int, int], np.ndarray] | None = None
    reshape: Cover | None = None
    outline: np.ndarray | None = None
    turn: float = 15.0
    out: float | None = None
    at: Placement | None = None


@dataclass
class Plan:
    """What a case changes: the objects, their layout, and the whole picture.

    slant: angle off the relation's axis, in degrees; near: distance of two objects over the sum of their radii; bridge: width of
    a strip between two objects; blur, noise: of the picture; names: cases applied so far.
    """

    scene: Scene
    world: World
    rng: np.random.Generator
    objects: list[Object]
    relation: str | None
    slant: float | None = None
    near: float | None = None
    bridge: float | None = None
    blur: float = 0.0
    noise: float = 0.0
    names: list[str] = field(default_factory=list)

    def of(self, thing: int) -> list[Object]:
        return [o for o in self.objects if o.thing == thing]

    def any_thing(self) -> int:
        things = sorted({o.thing for o in self.objects if o.thing >= 0})
        return int(self.rng.choice(things)) if things else -1

    def pick(self, options: Sequence[T]) -> T:
        return options[int(self.rng.integers(len(options)))]

    def crowd(self) -> None:
        """Make room for one more object."""
        for o in self.objects:
            o.range = min(o.range, draw.PLAIN[3] if len(self.objects) < 3 else (0.1, 0.15))


def _correct(plan: Plan) -> bool:
    return True


def _colour(plan: Plan) -> bool:
    """One thing in another colour, never so that it becomes another thing of the scene."""
    i = plan.any_thing()
    thing = plan.scene.things[i]
    taken = {t.colour for t in plan.scene.things if t.shape == thing.shape} | {thing.colour}
    wrong = plan.pick([c for c in plan.world.colours if c not in taken])
    for o in plan.of(i):
        o.colour = draw.jittered(wrong, plan.rng)
    return True


def _shape(plan: Plan) -> bool:
    i = plan.any_thing()
    thing = plan.scene.things[i]
    taken = {t.shape for t in plan.scene.things if t.colour == thing.colour} | {thing.shape}
    options = [s for s in plan.world.shapes if s not in taken]
    wrong = plan.pick(options) if options else None
    for o in plan.of(i) if wrong else ():
        o.shape = wrong
    return wrong is not None


def _swapped_colours(plan: Plan) -> bool:
    """Things 0 and 1 exchange colours; only where both nouns and colours differ."""
    if len(plan.scene.things) < 2:
        return False
    a, b = plan.scene.things[:2]
    if a.colour == b.colour or a.shape == b.shape:
        return False
    for i, colour in ((0, b.colour), (1, a.colour)):
        for o in plan.of(i):
            o.colour = draw.jittered(colour, plan.rng)
    return True


def _replaced(plan: Plan) -> bool:
    """One thing drawn in the place of another as well."""
    if len(plan.scene.things) < 2:
        return False
    i = plan.any_thing()
    by = plan.pick([thing for k, thing in enumerate(plan.scene.things) if k != i])
    for o in plan.of(i):
        o.colour, o.shape = draw.jittered(by.colour, plan.rng), by.shape
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


def _room(plan: Plan) -> bool:
    return len(plan.objects) < max(4, plan.world.max_objects + 1)


def _extra(plan: Plan) -> bool:
    """One more object that is another thing."""
    if not _room(plan):
        return False
    taken = {t.key for t in plan.scene.things}
    pairs = [(c, s) for c in plan.world.colours for s in plan.world.shapes if f"{c} {s}" not in taken]
    colour, shape = plan.pick(pairs)
    plan.crowd()
    plan.objects.append(Object(-1, shape, draw.jittered(colour, plan.rng), (0.09, 0.17)))
    return True


def _double(plan: Plan) -> bool:
    """One thing again, as large as it is or smaller."""
    if not _room(plan):
        return False
    twin = plan.scene.things[plan.any_thing()]
    plan.crowd()
    size = (0.1, 0.17) if plan.rng.random() < 0.6 else (0.05, 0.1)
    plan.objects.append(Object(-1, twin.shape, draw.jittered(twin.colour, plan.rng), size))
    return True


def _fragment(plan: Plan) -> bool:
    """A small piece of no clear shape, mostly in the colour of a thing."""
    if not _room(plan):
        return False
    own = plan.scene.things[plan.any_thing()].colour
    colour = own if plan.rng.random() < 0.6 else plan.pick(plan.world.colours)
    shape = plan.pick(plan.world.shapes)
    piece = Object(-1, shape, draw.jittered(colour, plan.rng), (0.025, 0.08), turn=44.0)
    piece.outline = bent(shape, float(plan.rng.uniform(0.3, 1.6)), plan.rng)
    plan.objects.append(piece)
    return True


def _ghost(plan: Plan) -> bool:
    """Something more that is faint: a thing of the scene again, or another one."""
    if not (_double(plan) if plan.rng.random() < 0.5 else _extra(plan)):
        return False
    plan.objects[-1].opacity = float(plan.rng.uniform(0.04, 0.5))
    return True


def _bridge(plan: Plan) -> bool:
    """A strip of colour between two objects."""
    if len(plan.objects) < 2:
        return False
    plan.bridge = float(plan.rng.uniform(0.008, 0.05))
    if plan.rng.random() < 0.6 and len(plan.scene.things) < 3:
        plan.near = float(plan.rng.uniform(1.0, 1.3))
    return True


def _size(plan: Plan) -> bool:
    things = [i for i, t in enumerate(plan.scene.things) if t.size and plan.of(i)]
    for o in plan.of(plan.pick(things)) if things else ():
        o.range = draw.SMALL if plan.scene.things[o.thing].size == "large" else (draw.LARGE[0], 0.21)
    return bool(things)


def _cut(plan: Plan) -> bool:
    """A straight cut takes a part of the body away."""
    angle, offset = plan.rng.uniform(0, 2 * math.pi), plan.rng.uniform(-0.25, 0.75)

    def cut(cover: np.ndarray) -> np.ndarray:
        y, x = (np.linspace(-1, 1, n, dtype=np.float32) for n in cover.shape)
        side = offset - (math.cos(angle) * x[None] + math.sin(angle) * y[:, None])
        return cover * np.clip(side * cover.shape[0] / 2, 0, 1)

    for o in plan.of(plan.any_thing()):
        o.reshape = cut
    return True


def _edge(plan: Plan) -> bool:
    """An object that stands partly outside the picture."""
    plan.pick(plan.objects).out = float(plan.rng.uniform(0.0, 0.9))
    return True


def _melted(plan: Plan) -> bool:
    """A smooth random displacement bends the body."""
    field_ = plan.rng.normal(size=(2, 4, 4)) * plan.rng.uniform(0.02, 0.18)
    field_ -= field_.mean((1, 2), keepdims=True)

    def melt(cover: np.ndarray) -> np.ndarray:
        h, w = cover.shape
        shift = np.stack([zoom(f, (h / 4, w / 4), order=3, mode="nearest", grid_mode=True) for f in field_])
        grid = np.mgrid[:h, :w] + shift * np.array([h, w]).reshape(2, 1, 1)
        return map_coordinates(cover, grid, order=1, mode="constant").astype(np.float32)

    for o in plan.of(plan.any_thing()):
        o.reshape = melt
    return True


@lru_cache(maxsize=16)
def _reach(shape: str) -> np.ndarray:
    """Distance of a shape's outline from its origin in 180 directions."""
    corners = draw.OUTLINES[shape]
    steps = np.linspace(0, 1, 24, endpoint=False)[None, :, None]
    points = (corners[:, None] * (1 - steps) + np.roll(corners, -1, 0)[:, None] * steps).reshape(-1, 2)
    angles = np.arctan2(points[:, 1], points[:, 0])
    order = np.argsort(angles)
    return np.interp(_ANGLES, angles[order], np.hypot(*points[order].T), period=2 * math.pi)


def _outline(reach: np.ndarray) -> np.ndarray:
    return reach[:, None] * np.stack([np.cos(_ANGLES), np.sin(_ANGLES)], 1)


def bent(
    shape: str, strength: float, rng: np.random.Generator, reach: np.ndarray | None = None
) -> np.ndarray:
    """A shape's outline (180, 2) made a little wrong, as a drawing by hand is: lobes too long or short, soft corners, a
    wave along the rim, leaning, stretched. At strength 1 it is often another shape."""
    reach = _reach(shape) if reach is None else reach
    for _ in range(int(rng.integers(0, 3))):
        away = np.angle(np.exp(1j * (_ANGLES - rng.uniform(-math.pi, math.pi))))
        gain = strength * rng.uniform(-0.7, 0.7)
        reach = reach * (1 + gain * np.exp(-0.5 * (away / rng.uniform(0.15, 0.6)) ** 2))
    points = _outline(reach)
    if rng.random() < 0.6:
        soft = strength * rng.uniform(0, 9)
        points = gaussian_filter1d(points, soft, axis=0, mode="wrap") if soft > 0.3 else points
    for k in (1, 2, 3, 5):
        phase = rng.uniform(0, 2 * math.pi, 2)
        size = strength * rng.normal(0, 0.07, 2)
        points = points + np.stack([size[d] * np.cos(k * _ANGLES + phase[d]) for d in range(2)], 1)
    lean = np.eye(2) + strength * rng.normal(0, 0.17, (2, 2))
    return points @ lean


def wobble(plan: Plan) -> None:
    """Make every body a little wrong, mostly so little that nothing is lost; a third of the pictures stay exact."""
    rng = plan.rng
    if rng.random() < 0.33:
        return
    most = float(rng.uniform(0, 1.0) ** 1.4)
    for o in plan.objects:
        strength = most * float(rng.uniform(0.2, 1.0))
        if o.outline is None:
            o.outline = bent(o.shape, strength, rng)
            o.turn = max(o.turn, 15 + 40 * strength * float(rng.random()))
        if o.mix is None and rng.random() < 0.5 * most:
            o.other = draw.jittered(plan.pick(plan.world.colours), rng)
            if rng.random() < 0.3:
                o.other = tuple(int(0.35 * c) for c in o.colour)
            o.mix = _shade(rng, float(rng.uniform(0, 0.8) * most))


def _morphed(plan: Plan) -> bool:
    """A body between the wanted shape and another one."""
    i = plan.any_thing()
    wanted = plan.scene.things[i].shape
    other, part = plan.pick([s for s in plan.world.shapes if s != wanted]), float(plan.rng.uniform(0.1, 0.9))
    reach = (1 - part) * _reach(wanted) + part * _reach(other)
    for o in plan.of(i):
        o.outline = bent(wanted, 0.2 * float(plan.rng.random()), plan.rng, reach)
    return True


def _grown(plan: Plan) -> bool:
    """A body that grew together from two shapes: the outer rim of both."""
    i = plan.any_thing()
    wanted = plan.scene.things[i].shape
    other = _reach(plan.pick(plan.world.shapes))
    other = np.roll(other, int(plan.rng.integers(-20, 20))) * plan.rng.uniform(0.5, 1.15)
    reach = np.maximum(_reach(wanted) * plan.rng.uniform(0.6, 1.0), other)
    for o in plan.of(i):
        o.outline = bent(wanted, 0.3 * float(plan.rng.random()), plan.rng, reach)
    return True


def _bent(plan: Plan) -> bool:
    """A body whose outline is far from right."""
    i = plan.any_thing()
    for o in plan.of(i):
        o.outline = bent(o.shape, float(plan.rng.uniform(0.4, 1.4)), plan.rng)
        o.turn = 44.0
    return True


def _other_colour(plan: Plan, colour: str) -> Colour:
    if len(plan.scene.things) > 1 and plan.rng.random() < 0.5:
        others = [t.colour for t in plan.scene.things if t.colour != colour]
        if others:
            return draw.jittered(plan.pick(others), plan.rng)
    return draw.jittered(plan.pick([c for c in plan.world.colours if c != colour]), plan.rng)


def _blended(plan: Plan) -> bool:
    """A colour between two of the palette."""
    i = plan.any_thing()
    wanted = plan.scene.things[i].colour
    part, other = plan.rng.uniform(0.1, 0.9), np.array(_other_colour(plan, wanted))
    rgb = np.round((1 - part) * np.array(PALETTE[wanted]) + part * other).astype(np.uint8)
    for o in plan.of(i):
        o.colour = tuple(rgb.tolist())
    return True


def _line(rng: np.random.Generator, part: float) -> Callable[[int, int], np.ndarray]:
    """The second colour beyond a straight line, with a sharp or a soft border."""
    angle, soft = rng.uniform(0, 2 * math.pi), float(rng.uniform(0.05, 0.8))

    def mix(height: int, width: int) -> np.ndarray:
        y, x = (np.linspace(-1, 1, n, dtype=np.float32) for n in (height, width))
        along = (math.cos(angle) * x[None] + math.sin(angle) * y[:, None]) * 0.5 + 0.5
        return np.clip((along - part) / soft + 0.5, 0, 1)

    return mix


def _spot(rng: np.random.Generator) -> Callable[[int, int], np.ndarray]:
    """The second colour in a soft spot."""
    at, radius, most = rng.uniform(-0.5, 0.5, 2), rng.uniform(0.15, 0.6), rng.uniform(0.5, 1.0)

    def mix(height: int, width: int) -> np.ndarray:
        y, x = (np.linspace(-1, 1, n, dtype=np.float32) for n in (height, width))
        away = ((x[None] - at[0]) ** 2 + (y[:, None] - at[1]) ** 2) / radius**2
        return most * np.exp(-0.5 * away).astype(np.float32)

    return mix


def _shade(rng: np.random.Generator, most: float) -> Callable[[int, int], np.ndarray]:
    """The second colour as a drift over the body, up to `most` of it."""
    coarse = rng.random((3, 3)).astype(np.float32)

    def mix(height: int, width: int) -> np.ndarray:
        drift = zoom(coarse, (height / 3, width / 3), order=1, mode="nearest", grid_mode=True)
        return most * np.clip(drift, 0, 1)

    return mix


def _two_tone(plan: Plan) -> bool:
    """A body that is partly of one colour and partly of another."""
    i = plan.any_thing()
    other, part = _other_colour(plan, plan.scene.things[i].colour), float(plan.rng.uniform(0.1, 0.9))
    for o in plan.of(i):
        o.other, o.mix = other, _line(plan.rng, part) if plan.rng.random() < 0.65 else _spot(plan.rng)
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
    plan.near = float(plan.rng.uniform(0.3, 0.98))
    return True


def _blurred(plan: Plan) -> bool:
    plan.blur = float(plan.rng.uniform(0.015, 0.11))
    return True


def _noisy(plan: Plan) -> bool:
    plan.noise = float(plan.rng.uniform(20, 90))
    return True


CASES: dict[str, tuple[float, Callable[[Plan], bool]]] = {  # weight, what it does to the plan
    "correct": (0.20, _correct),
    "colour": (0.08, _colour),
    "shape": (0.08, _shape),
    "swapped colours": (0.05, _swapped_colours),
    "replaced": (0.05, _replaced),
    "relation": (0.14, _relation),
    "diagonal": (0.07, _diagonal),
    "missing": (0.08, _missing),
    "extra": (0.07, _extra),
    "double": (0.16, _double),
    "fragment": (0.06, _fragment),
    "ghost": (0.03, _ghost),
    "bridge": (0.06, _bridge),
    "size": (0.04, _size),
    "cut": (0.04, _cut),
    "edge": (0.05, _edge),
    "melted": (0.07, _melted),
    "bent": (0.12, _bent),
    "morphed": (0.07, _morphed),
    "grown": (0.06, _grown),
    "blended": (0.05, _blended),
    "two-tone": (0.08, _two_tone),
    "faded": (0.04, _faded),
    "overlapping": (0.05, _overlapping),
    "blurred": (0.02, _blurred),
    "noisy": (0.01, _noisy),
}

SPOILING = {
    "colour",
    "shape",
    "swapped colours",
    "replaced",
    "missing",
    "morphed",
    "grown",
    "blended",
    "two-tone",
}


# -- drawing a plan


@dataclass(frozen=True)
class Spoiled:
    """image uint8 (S, S, 3), and the bodies that stand on it."""

    image: np.ndarray
    bodies: tuple[Body, ...]


def _lay_out(plan: Plan) -> None:
    """Give every object a placement; where there is no room, objects that were not asked for are dropped first."""
    rng = plan.rng
    while plan.objects:
        objects, groups = plan.objects, [o.thing for o in plan.objects]
        both = {0, 1} <= set(groups)
        try:
            radii, centres = draw.arrange(
                [o.range for o in objects],
                rng,
                plan.relation if both else None,
                groups,
                near=both and plan.scene.near and rng.random() < 0.5,
            )
            break
        except ValueError:
            last = next((o for o in reversed(objects) if o.thing < 0), objects[-1])
            plan.objects = [o for o in objects if o is not last]
    else:
        return
    if both and len(objects) == 2 and (plan.slant is not None or plan.near is not None):
        step = centres[1] - centres[0]
        reach = float(radii.sum()) * (plan.near if plan.near is not None else 1.05)
        angle = math.atan2(step[1], step[0])
        if plan.slant is not None:
            axis, sign = draw.AXES[plan.scene.relation]
            angle = (math.pi / 2 if axis else 0.0) + (math.pi if sign > 0 else 0.0) + math.radians(plan.slant)
        half = np.array([math.cos(angle), math.sin(angle)]) * reach / 2
        room = 0.5 - np.maximum(np.abs(half) + radii.max(), 0.0)
        middle = 0.5 + rng.uniform(-1, 1, 2) * np.maximum(room, 0.0)
        centres = np.stack([middle - half, middle + half])
    turns = np.array([o.turn for o in objects])
    for o, r, (x, y), angle in zip(
        objects, radii, centres, turns * rng.uniform(-1, 1, len(objects)), strict=True
    ):
        if o.out is not None:
            beyond = float(r) * (1 - 2 * o.out)
            side = int(rng.integers(4))
            x, y = ((beyond, y), (1 - beyond, y), (x, beyond), (x, 1 - beyond))[side]
        o.at = Placement(
            o.colour, o.shape, float(x), float(y), float(r), float(angle), o.thing, o.opacity, o.outline
        )


def _strip(plan: Plan) -> Object | None:
    """The strip of colour between two objects, if the plan has one."""
    if plan.bridge is None or len(plan.objects) < 2:
        return None
    a, b = (plan.objects[int(k)] for k in plan.rng.permutation(len(plan.objects))[:2])
    start, end = np.array([a.at.x, a.at.y]), np.array([b.at.x, b.at.y])
    half = (end - start) / 2
    length = float(np.hypot(*half))
    along = half / max(length, 1e-6)
    wide = np.array([-along[1], along[0]]) * plan.bridge / max(length, 1e-6)
    corners = np.stack([along + wide, along - 0.7 * wide, -along - wide, -along + 0.7 * wide])
    x, y = (start + end) / 2
    strip = Object(-1, a.shape, a.colour, (length, length), outline=corners)
    strip.at = Placement(a.colour, a.shape, float(x), float(y), length, 0.0, -1, 1.0, corners)
    if b.colour != a.colour:
        strip.other, strip.mix = b.colour, _between(along)
    return strip


def _between(along: np.ndarray) -> Callable[[int, int], np.ndarray]:
    """The second colour from one end of a strip to the other."""

    def mix(height: int, width: int) -> np.ndarray:
        y, x = (np.linspace(-1, 1, n, dtype=np.float32) for n in (height, width))
        return np.clip(0.5 + 0.7 * (along[0] * x[None] + along[1] * y[:, None]), 0, 1)

    return mix


def _paint(plan: Plan, size: int) -> tuple[np.ndarray, tuple[Body, ...]]:
    """Draw the plan -> float32 (S, S, 3), and the bodies that it makes."""
    background = draw.draw_background(plan.rng)
    canvas = draw.blank(background, size)
    paper = draw.finish(canvas)
    owner = np.zeros((size, size), np.int32)
    strip = _strip(plan)
    for number, o in enumerate([*([strip] if strip else []), *plan.objects], 1):
        cover, top, left = draw.mask(o.at, size)
        if o.reshape is not None:
            cover = np.pad(cover, (p := round(0.12 * cover.shape[0])))
            top, left, cover = top - p, left - p, o.reshape(cover)
        body = np.zeros((size, size, 1), np.float32)
        draw.paint(body, cover, top, left, 1.0)
        colour = np.asarray(o.colour, np.float32)
        if o.mix is not None:
            share = o.mix(*cover.shape)[..., None]
            colour = ((1 - share) * colour + share * np.asarray(o.other, np.float32)).astype(np.float32)
        draw.paint(canvas, cover, top, left, colour, o.opacity)
        owner[body[..., 0] > 0.5] = number
    return canvas, bodies_of(draw.finish(canvas), paper, owner, plan_shapes(plan))


def plan_shapes(plan: Plan) -> tuple[str, ...]:
    """The shapes that a body may have: those of the world, or all where the scene goes beyond it."""
    known = plan.world.shapes
    return known if {thing.shape for thing in plan.scene.things} <= set(known) else SHAPES


def _spoil(plan: Plan, canvas: np.ndarray, bodies: tuple[Body, ...], size: int) -> Spoiled:
    """Blur and noise over the whole picture: mild half the time, so that nothing is lost, and strong where a case asks for it."""
    blur, noise, rng = plan.blur, plan.noise, plan.rng
    mild = rng.random(2) < 0.5
    sigma = blur or (rng.uniform(0.002, 0.008) if mild[0] else 0.0)
    deviation = noise or (rng.uniform(1, 6) if mild[1] else 0.0)
    if sigma:
        canvas = gaussian_filter(canvas, (sigma * size, sigma * size, 0), mode="nearest")
    if deviation:
        canvas = canvas + rng.normal(0, deviation, canvas.shape).astype(np.float32)
    if blur or noise:
        bodies = tuple(_dimmed(body, blur, noise) for body in bodies)
    return Spoiled(draw.finish(canvas), bodies)


def _dimmed(body: Body, blur: float, noise: float) -> Body:
    """A body with the shape and colour that blur and noise leave."""
    sharp = ramp(blur / body.radius, 0.55, 0.12) * ramp(noise, 150, 25)
    plain = ramp(blur / body.radius, 0.9, 0.35) * ramp(noise, 200, 50)
    return replace(
        body,
        colours=tuple(plain * c for c in body.colours),
        shapes=tuple(sharp * s for s in body.shapes),
        seen=body.seen * ramp(blur / body.radius, 1.6, 0.8),
    )


def spoiled(
    scene: Scene, seed: int, size: int = 128, world: str | World = "small", case: str | None = None
) -> Spoiled:
    """Render a scene correctly or with mistakes, deterministically from (scene, seed, size, case).

    `world` bounds the colours and shapes that mistakes may use. `case`: one of CASES, which is then the only mistake (bodies
    are not deformed); by default they are drawn by weight. ValueError if the scene leaves no room for the case.
    """
    world = WORLDS[world] if isinstance(world, str) else world
    if case is not None and case not in CASES:
        raise ValueError(f"case {case!r} is not known: choose one of {', '.join(CASES)}.")
    rng = draw.generator(scene, seed, stream=1)
    many = [i for i, thing in enumerate(scene.things) for _ in range(thing.count)]
    objects = [
        Object(i, scene.things[i].shape, draw.jittered(scene.things[i].colour, rng), r)
        for i in many
        for r in [draw.radius_range(scene.things[i].size, len(many))]
    ]
    plan = Plan(scene, world, rng, objects, scene.relation)
    weights = np.array([weight for weight, _ in CASES.values()])
    todo = 1 if case else int(rng.choice(len(MANY), p=MANY))
    while len(plan.names) < todo and any(o.thing >= 0 for o in plan.objects):
        name = case or str(rng.choice(list(CASES), p=weights / weights.sum()))
        clash = name in plan.names or (name in SPOILING and len(SPOILING & set(plan.names)) > 1)
        if not clash and CASES[name][1](plan):
            plan.names.append(name)
        elif case:
            raise ValueError(f"case {case!r} does not apply to {scene.prompt!r}: choose another case.")
    if case is None:
        wobble(plan)
    _lay_out(plan)
    return _spoil(plan, *_paint(plan, size), size)


def degraded(
    scene: Scene, seed: int, size: int = 128, world: str | World = "small", case: str | None = None
) -> tuple[np.ndarray, tuple[float, ...]]:
    """`spoiled` -> (image uint8 (S, S, 3), truth in [0, 1] for each of scene.words)."""
    result = spoiled(scene, seed, size, world, case)
    return result.image, truths_of(scene, result.bodies)[0]
