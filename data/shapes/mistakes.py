"""The mistakes that a render can make: each case changes a plan of objects, layout and picture.

`degrade` draws the plan and grades the words by what was drawn. A case raises NoRoom where a scene leaves no room for
it, before it changes anything. SPOILING names the cases that change what an object is; a picture gets at most two of them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import TypeVar

import numpy as np
from scipy.ndimage import gaussian_filter1d, map_coordinates, zoom

from data.shapes import render as draw
from data.shapes.render import PALETTE, Colour, Placement
from data.shapes.scenes import OPPOSITE, Scene, Thing, World

T = TypeVar("T")
_POINTS = 180
_ANGLES = np.linspace(-math.pi, math.pi, _POINTS, endpoint=False)
Mix = Callable[[int, int], np.ndarray]


@dataclass
class Object:
    """An object to be drawn. `mix` gives the share (h, w) of a second colour `other` in its body, `outline` overrules
    the shape's own, `reshape` changes its cover, `out` moves it over the picture's edge by a part of its radius."""

    thing: int
    shape: str
    colour: Colour
    range: tuple[float, float]
    opacity: float = 1.0
    other: Colour | None = None
    mix: Mix | None = None
    reshape: Callable[[np.ndarray], np.ndarray] | None = None
    outline: np.ndarray | None = None
    turn: float = 15.0
    out: float | None = None

    def placed(self, x: float, y: float, radius: float, angle: float) -> Placement:
        """The object at a place: its centre, radius and angle."""
        placement = (float(x), float(y), float(radius), float(angle))
        return Placement(self.colour, self.shape, *placement, self.thing, self.opacity, self.outline)


@dataclass
class Plan:
    """What a case changes: the objects, their layout, and what happens to the whole picture. bridge: half the width of a
    strip that joins two objects. near: how far apart two objects stand, in sums of their radii."""

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
        """The objects of a thing."""
        return [o for o in self.objects if o.thing == thing]

    def any_place(self) -> int:
        """The place in the scene of one of the things that are still drawn."""
        return int(self.rng.choice(sorted({o.thing for o in self.objects if o.thing >= 0})))

    def any_thing(self) -> tuple[Thing, list[Object]]:
        """One of the things that are still drawn, and its objects."""
        i = self.any_place()
        return self.scene.things[i], self.of(i)

    def pick(self, options: Sequence[T]) -> T:
        """One of some options."""
        return options[int(self.rng.integers(len(options)))]

    def jittered(self, colour: str) -> Colour:
        """A palette colour slightly moved."""
        return draw.jittered(colour, self.rng)

    def add(self, shape: str, colour: str, size: tuple[float, float], turn: float = 15.0) -> Object:
        """One more object, which nobody asked for."""
        self.objects.append(Object(-1, shape, self.jittered(colour), size, turn=turn))
        return self.objects[-1]

    def has_room(self) -> bool:
        """Whether one more object fits."""
        return len(self.objects) < max(4, self.world.max_objects + 1)

    def crowd(self) -> None:
        """Make room for one more object."""
        for o in self.objects:
            o.range = min(o.range, draw.PLAIN[3] if len(self.objects) < 3 else (0.1, 0.15))


class NoRoom(Exception):
    """The scene leaves no room for a case."""


def need(condition: object) -> None:
    """NoRoom unless the condition holds."""
    if not condition:
        raise NoRoom


Change = Callable[[Plan], None]
CASES: dict[str, tuple[float, Change]] = {}  # how often each is drawn, and what it does to the plan
SPOILING: set[str] = set()


def case(name: str, weight: float, spoils: bool = False) -> Callable[[Change], Change]:
    """Makes a function one of the CASES; `spoils`: and of SPOILING."""

    def register(change: Change) -> Change:
        CASES[name] = weight, change
        if spoils:
            SPOILING.add(name)
        return change

    return register


@case("correct", 0.20)
def _correct(plan: Plan) -> None:
    """No mistake."""


@case("colour", 0.08, spoils=True)
def _colour(plan: Plan) -> None:
    """One thing in another colour, never so that it becomes another thing of the scene."""
    thing, objects = plan.any_thing()
    taken = {t.colour for t in plan.scene.things if t.shape == thing.shape} | {thing.colour}
    wrong = plan.pick([c for c in plan.world.colours if c not in taken])
    for o in objects:
        o.colour = plan.jittered(wrong)


@case("shape", 0.08, spoils=True)
def _shape(plan: Plan) -> None:
    """One thing in another shape, likewise."""
    thing, objects = plan.any_thing()
    taken = {t.shape for t in plan.scene.things if t.colour == thing.colour} | {thing.shape}
    options = [s for s in plan.world.shapes if s not in taken]
    need(options)
    wrong = plan.pick(options)
    for o in objects:
        o.shape = wrong


@case("swapped colours", 0.05, spoils=True)
def _swapped_colours(plan: Plan) -> None:
    """Things 0 and 1 exchange colours; only where both nouns and colours differ."""
    need(len(plan.scene.things) > 1)
    a, b = plan.scene.things[:2]
    need(a.colour != b.colour and a.shape != b.shape)
    for i, colour in ((0, b.colour), (1, a.colour)):
        for o in plan.of(i):
            o.colour = plan.jittered(colour)


@case("replaced", 0.05, spoils=True)
def _replaced(plan: Plan) -> None:
    """One thing drawn in the place of another as well."""
    need(len(plan.scene.things) > 1)
    i = plan.any_place()
    other = plan.pick([thing for k, thing in enumerate(plan.scene.things) if k != i])
    for o in plan.of(i):
        o.colour, o.shape = plan.jittered(other.colour), other.shape


@case("relation", 0.14)
def _relation(plan: Plan) -> None:
    """The opposite relation, or now and then one along the other axis."""
    need(plan.scene.relation)
    relation = str(plan.scene.relation)
    opposite = OPPOSITE[relation]
    across = [r for r in OPPOSITE if r not in (relation, opposite)]
    plan.relation = opposite if plan.rng.random() < 0.6 else plan.pick(across)


@case("diagonal", 0.07)
def _diagonal(plan: Plan) -> None:
    """A placement between two relations: 10 to 80 degrees off the axis."""
    need(plan.scene.relation and len(plan.objects) == 2)
    plan.slant = float(plan.rng.uniform(10, 80) * plan.pick((-1, 1)))


@case("missing", 0.08, spoils=True)
def _missing(plan: Plan) -> None:
    """One thing, one of its objects, or now and then all things left out."""
    absent = {plan.any_place()} if plan.rng.random() < 0.85 else set(range(len(plan.scene.things)))
    if plan.rng.random() < 0.5 and (several := plan.of(min(absent)))[1:]:
        plan.objects.remove(several[0])
    else:
        plan.objects = [o for o in plan.objects if o.thing not in absent]


@case("extra", 0.07)
def _extra(plan: Plan) -> None:
    """One more object that is another thing."""
    need(plan.has_room())
    taken = {t.key for t in plan.scene.things}
    pairs = [(c, s) for c in plan.world.colours for s in plan.world.shapes if f"{c} {s}" not in taken]
    colour, shape = plan.pick(pairs)
    plan.crowd()
    plan.add(shape, colour, (0.09, 0.17))


@case("double", 0.16)
def _double(plan: Plan) -> None:
    """One thing again, as large as it is or smaller."""
    need(plan.has_room())
    twin, _ = plan.any_thing()
    plan.crowd()
    size = (0.1, 0.17) if plan.rng.random() < 0.6 else (0.05, 0.1)
    plan.add(twin.shape, twin.colour, size)


@case("fragment", 0.06)
def _fragment(plan: Plan) -> None:
    """A small piece of no clear shape, mostly in the colour of a thing."""
    need(plan.has_room())
    thing, _ = plan.any_thing()
    colour = thing.colour if plan.rng.random() < 0.6 else plan.pick(plan.world.colours)
    piece = plan.add(plan.pick(plan.world.shapes), colour, (0.025, 0.08), turn=44.0)
    piece.outline = bent(piece.shape, float(plan.rng.uniform(0.3, 1.6)), plan.rng)


@case("ghost", 0.03)
def _ghost(plan: Plan) -> None:
    """Something more that is faint: a thing of the scene again, or another one."""
    (_double if plan.rng.random() < 0.5 else _extra)(plan)
    plan.objects[-1].opacity = float(plan.rng.uniform(0.04, 0.5))


@case("bridge", 0.06)
def _bridge(plan: Plan) -> None:
    """A strip of colour between two objects."""
    need(len(plan.objects) > 1)
    plan.bridge = float(plan.rng.uniform(0.008, 0.05))
    if plan.rng.random() < 0.6 and len(plan.scene.things) < 3:
        plan.near = float(plan.rng.uniform(1.0, 1.3))


@case("size", 0.04)
def _size(plan: Plan) -> None:
    """A thing with a size word as small or large as the other word says."""
    things = [i for i, t in enumerate(plan.scene.things) if t.size and plan.of(i)]
    need(things)
    for o in plan.of(plan.pick(things)):
        o.range = draw.SMALL if plan.scene.things[o.thing].size == "large" else (draw.LARGE[0], 0.21)


@case("cut", 0.04)
def _cut(plan: Plan) -> None:
    """A straight cut takes a part of the body away."""
    angle, offset = plan.rng.uniform(0, 2 * math.pi), plan.rng.uniform(-0.25, 0.75)

    def cut(cover: np.ndarray) -> np.ndarray:
        x, y = axes(*cover.shape)
        side = offset - (math.cos(angle) * x + math.sin(angle) * y)
        return cover * np.clip(side * cover.shape[0] / 2, 0, 1)

    for o in plan.any_thing()[1]:
        o.reshape = cut


@case("edge", 0.05)
def _edge(plan: Plan) -> None:
    """An object that stands partly outside the picture."""
    plan.pick(plan.objects).out = float(plan.rng.uniform(0.0, 0.9))


@case("melted", 0.07)
def _melted(plan: Plan) -> None:
    """A smooth random displacement bends the body."""
    coarse = plan.rng.normal(size=(2, 4, 4)) * plan.rng.uniform(0.02, 0.18)
    coarse -= coarse.mean((1, 2), keepdims=True)

    def melt(cover: np.ndarray) -> np.ndarray:
        h, w = cover.shape
        shift = np.stack([zoom(c, (h / 4, w / 4), order=3, mode="nearest", grid_mode=True) for c in coarse])
        grid = np.mgrid[:h, :w] + shift * np.array([h, w]).reshape(2, 1, 1)
        return map_coordinates(cover, grid, order=1, mode="constant").astype(np.float32)

    for o in plan.any_thing()[1]:
        o.reshape = melt


@case("bent", 0.12)
def _bent(plan: Plan) -> None:
    """A body whose outline is far from right."""
    for o in plan.any_thing()[1]:
        o.outline = bent(o.shape, float(plan.rng.uniform(0.4, 1.4)), plan.rng)
        o.turn = 44.0


@case("morphed", 0.07, spoils=True)
def _morphed(plan: Plan) -> None:
    """A body between the wanted shape and another one."""
    thing, objects = plan.any_thing()
    other = plan.pick([s for s in plan.world.shapes if s != thing.shape])
    share = float(plan.rng.uniform(0.1, 0.9))
    reach = (1 - share) * _reach(thing.shape) + share * _reach(other)
    for o in objects:
        o.outline = bent(thing.shape, 0.2 * float(plan.rng.random()), plan.rng, reach)


@case("grown", 0.06, spoils=True)
def _grown(plan: Plan) -> None:
    """A body that grew together from two shapes: the outer rim of both."""
    thing, objects = plan.any_thing()
    other = _reach(plan.pick(plan.world.shapes))
    other = np.roll(other, int(plan.rng.integers(-20, 20))) * plan.rng.uniform(0.5, 1.15)
    reach = np.maximum(_reach(thing.shape) * plan.rng.uniform(0.6, 1.0), other)
    for o in objects:
        o.outline = bent(thing.shape, 0.3 * float(plan.rng.random()), plan.rng, reach)


@case("blended", 0.05, spoils=True)
def _blended(plan: Plan) -> None:
    """A colour between two of the palette."""
    thing, objects = plan.any_thing()
    share, other = plan.rng.uniform(0.1, 0.9), np.array(_other_colour(plan, thing.colour))
    rgb = np.round((1 - share) * np.array(PALETTE[thing.colour]) + share * other).astype(np.uint8)
    for o in objects:
        o.colour = tuple(rgb.tolist())


@case("two-tone", 0.08, spoils=True)
def _two_tone(plan: Plan) -> None:
    """A body that is partly of one colour and partly of another."""
    thing, objects = plan.any_thing()
    other, share = _other_colour(plan, thing.colour), float(plan.rng.uniform(0.1, 0.9))
    for o in objects:
        o.other, o.mix = other, _line(plan.rng, share) if plan.rng.random() < 0.65 else _spot(plan.rng)


@case("faded", 0.04)
def _faded(plan: Plan) -> None:
    """A body that the background shines through."""
    opacity = float(plan.rng.uniform(0.04, 0.8))
    for o in plan.any_thing()[1]:
        o.opacity = opacity


@case("overlapping", 0.05)
def _overlapping(plan: Plan) -> None:
    """The second object covers a part of the first."""
    need(len(plan.objects) == len(plan.scene.things) == 2)
    plan.near = float(plan.rng.uniform(0.3, 0.98))


@case("blurred", 0.02)
def _blurred(plan: Plan) -> None:
    plan.blur = float(plan.rng.uniform(0.015, 0.11))


@case("noisy", 0.01)
def _noisy(plan: Plan) -> None:
    plan.noise = float(plan.rng.uniform(20, 90))


@lru_cache(maxsize=16)
def _reach(shape: str) -> np.ndarray:
    """Distance of a shape's outline from its origin in 180 directions."""
    corners = draw.OUTLINES[shape]
    steps = np.linspace(0, 1, 24, endpoint=False)[None, :, None]
    points = (corners[:, None] * (1 - steps) + np.roll(corners, -1, 0)[:, None] * steps).reshape(-1, 2)
    angles = np.arctan2(points[:, 1], points[:, 0])
    order = np.argsort(angles)
    return np.interp(_ANGLES, angles[order], np.hypot(*points[order].T), period=2 * math.pi)


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
    points = reach[:, None] * np.stack([np.cos(_ANGLES), np.sin(_ANGLES)], 1)
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
            o.other = plan.jittered(plan.pick(plan.world.colours))
            if rng.random() < 0.3:
                red, green, blue = (int(0.35 * c) for c in o.colour)
                o.other = (red, green, blue)
            o.mix = _shade(rng, float(rng.uniform(0, 0.8) * most))


def _other_colour(plan: Plan, colour: str) -> Colour:
    """Half the time that of another thing, else any other one."""
    if len(plan.scene.things) > 1 and plan.rng.random() < 0.5:
        others = [t.colour for t in plan.scene.things if t.colour != colour]
        if others:
            return plan.jittered(plan.pick(others))
    return plan.jittered(plan.pick([c for c in plan.world.colours if c != colour]))


def axes(height: int, width: int) -> tuple[np.ndarray, np.ndarray]:
    """x (1, w) and y (h, 1) from -1 to 1 over a body."""
    y, x = (np.linspace(-1, 1, n, dtype=np.float32) for n in (height, width))
    return x[None], y[:, None]


def _line(rng: np.random.Generator, share: float) -> Mix:
    """The second colour beyond a straight line, with a sharp or a soft border."""
    angle, soft = rng.uniform(0, 2 * math.pi), float(rng.uniform(0.05, 0.8))

    def mix(height: int, width: int) -> np.ndarray:
        x, y = axes(height, width)
        along = (math.cos(angle) * x + math.sin(angle) * y) * 0.5 + 0.5
        return np.clip((along - share) / soft + 0.5, 0, 1)

    return mix


def _spot(rng: np.random.Generator) -> Mix:
    """The second colour in a soft spot."""
    at, radius, most = rng.uniform(-0.5, 0.5, 2), rng.uniform(0.15, 0.6), rng.uniform(0.5, 1.0)

    def mix(height: int, width: int) -> np.ndarray:
        x, y = axes(height, width)
        away = ((x - at[0]) ** 2 + (y - at[1]) ** 2) / radius**2
        return most * np.exp(-0.5 * away).astype(np.float32)

    return mix


def _shade(rng: np.random.Generator, most: float) -> Mix:
    """The second colour as a drift over the body, up to `most` of it."""
    coarse = rng.random((3, 3)).astype(np.float32)

    def mix(height: int, width: int) -> np.ndarray:
        drift = zoom(coarse, (height / 3, width / 3), order=1, mode="nearest", grid_mode=True)
        return most * np.clip(drift, 0, 1)

    return mix
