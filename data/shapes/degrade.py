"""Renders that are wrong on purpose, with their truth known by construction: what the scorer learns from.

`spoiled(scene, seed)` draws up to three cases (CASES: right, wrong colour or shape, swapped, misplaced, missing,
double, half-formed, blended, faded, blurred ...), bends every body a little in most pictures, renders it, and tells
which bodies stand there. `degraded` tells for every scored word of the scene how far it still holds. A word holds in
its binding: "red" of a missing circle is 0.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy.ndimage import gaussian_filter

from data.shapes import render as draw
from data.shapes.bodies import Body, bodies_of, truths_of
from data.shapes.mistakes import CASES, SPOILING, NoRoom, Object, Plan, axes, wobble
from data.shapes.regions import SHAPES
from data.shapes.render import Placement
from data.shapes.scenes import Scene, World, world_of
from data.shapes.truth import ramp

MANY = (0.16, 0.46, 0.26, 0.12)  # how often a picture makes 0, 1, 2, 3 mistakes


@dataclass(frozen=True)
class Spoiled:
    """image uint8 (S, S, 3), and the bodies that stand on it."""

    image: np.ndarray
    bodies: tuple[Body, ...]


def _lay_out(plan: Plan) -> list[Placement]:
    """The placement of every object; what finds no room among the objects that were not asked for is left out."""
    rng = plan.rng
    while plan.objects:
        objects, groups = plan.objects, [o.thing for o in plan.objects]
        both = {0, 1} <= set(groups)
        try:
            near = both and plan.scene.near and rng.random() < 0.5
            relation = plan.relation if both else None
            radii, centres = draw.arrange([o.range for o in objects], rng, relation, groups, near)
            break
        except ValueError:
            last = next((o for o in reversed(objects) if o.thing < 0), objects[-1])
            plan.objects = [o for o in objects if o is not last]
    else:
        return []
    if both and len(objects) == 2 and (plan.slant is not None or plan.near is not None):
        step = centres[1] - centres[0]
        reach = float(radii.sum()) * (plan.near if plan.near is not None else 1.05)
        angle = math.atan2(step[1], step[0])
        if plan.slant is not None:
            axis, sign = draw.AXES[str(plan.scene.relation)]
            angle = (math.pi / 2 if axis else 0.0) + (math.pi if sign > 0 else 0.0) + math.radians(plan.slant)
        half = np.array([math.cos(angle), math.sin(angle)]) * reach / 2
        room = 0.5 - np.maximum(np.abs(half) + radii.max(), 0.0)
        middle = 0.5 + rng.uniform(-1, 1, 2) * np.maximum(room, 0.0)
        centres = np.stack([middle - half, middle + half])
    angles = np.array([o.turn for o in objects]) * rng.uniform(-1, 1, len(objects))
    placements = []
    for o, r, (x, y), angle in zip(objects, radii, centres, angles, strict=True):
        if o.out is not None:
            beyond = float(r) * (1 - 2 * o.out)
            side = int(rng.integers(4))
            x, y = ((beyond, y), (1 - beyond, y), (x, beyond), (x, 1 - beyond))[side]
        placements.append(o.placed(x, y, r, angle))
    return placements


def _strip(plan: Plan, placements: Sequence[Placement]) -> list[tuple[Object, Placement]]:
    """The strip of colour between two objects, where the plan asks for one."""
    if plan.bridge is None or len(placements) < 2:
        return []
    a, b = (placements[int(k)] for k in plan.rng.permutation(len(placements))[:2])
    start, end = np.array([a.x, a.y]), np.array([b.x, b.y])
    half = (end - start) / 2
    length = float(np.hypot(*half))
    along = half / max(length, 1e-6)
    wide = np.array([-along[1], along[0]]) * plan.bridge / max(length, 1e-6)
    corners = np.stack([along + wide, along - 0.7 * wide, -along - wide, -along + 0.7 * wide])
    x, y = (start + end) / 2
    strip = Object(-1, a.shape, a.colour, (length, length), outline=corners)

    def mix(height: int, width: int) -> np.ndarray:
        """The second colour as a drift along the strip."""
        across, down = axes(height, width)
        return np.clip(0.5 + 0.7 * (along[0] * across + along[1] * down), 0, 1)

    if b.colour != a.colour:
        strip.other, strip.mix = b.colour, mix
    return [(strip, strip.placed(x, y, length, 0.0))]


def _paint(plan: Plan, placements: Sequence[Placement], size: int) -> tuple[np.ndarray, tuple[Body, ...]]:
    """Draw the plan -> float32 (S, S, 3), and the bodies that it makes."""
    background = draw.draw_background(plan.rng)
    canvas = draw.blank(background, size)
    paper = draw.finish(canvas)
    owner = np.zeros((size, size), np.int32)
    drawn = [*_strip(plan, placements), *zip(plan.objects, placements, strict=True)]
    for number, (o, placement) in enumerate(drawn, 1):
        cover, top, left = draw.mask(placement, size)
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
    # what a body may be taken for: all shapes where the scene goes beyond the world
    known = {thing.shape for thing in plan.scene.things} <= set(plan.world.shapes)
    shapes = plan.world.shapes if known else SHAPES
    return canvas, bodies_of(draw.finish(canvas), paper, owner, shapes)


def _spoil(plan: Plan, canvas: np.ndarray, bodies: tuple[Body, ...], size: int) -> Spoiled:
    """Blur and noise over the whole picture, mild half the time (nothing is lost) and strong where the case says so."""
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
    """What blur and noise leave of a body's shape and colour."""
    sharp = ramp(blur / body.radius, 0.55, 0.12) * ramp(noise, 150, 25)
    plain = ramp(blur / body.radius, 0.9, 0.35) * ramp(noise, 200, 50)
    colours, shapes = tuple(plain * c for c in body.colours), tuple(sharp * s for s in body.shapes)
    seen = body.seen * ramp(blur / body.radius, 1.6, 0.8)
    return replace(body, colours=colours, shapes=shapes, seen=seen)


def spoiled(
    scene: Scene, seed: int, size: int = 128, world: str | World = "small", case: str | None = None
) -> Spoiled:
    """Render a scene rightly or wrongly. Deterministic from (scene, seed, size, case).

    `world` bounds the colours and shapes that mistakes may use; `case` names one of CASES, which is then the only
    mistake (bodies are not bent), else they are drawn by weight; ValueError if the scene leaves no room for it.
    """
    if case is not None and case not in CASES:
        raise ValueError(f"case {case!r} is not known: choose one of {', '.join(CASES)}.")
    rng = draw.generator(scene, seed, stream=1)
    objects = []
    for i in scene.slots:
        thing = scene.things[i]
        radii = draw.radius_range(thing.size, len(scene.slots))
        objects.append(Object(i, thing.shape, draw.jittered(thing.colour, rng), radii))
    plan = Plan(scene, world_of(world), rng, objects, scene.relation)
    weights = np.array([weight for weight, _ in CASES.values()])
    todo = 1 if case else int(rng.choice(len(MANY), p=MANY))
    while len(plan.names) < todo and any(o.thing >= 0 for o in plan.objects):
        name = case or str(rng.choice(list(CASES), p=weights / weights.sum()))
        if name in plan.names or (name in SPOILING and len(SPOILING & set(plan.names)) > 1):
            continue
        try:
            CASES[name][1](plan)
            plan.names.append(name)
        except NoRoom:
            if case:
                raise ValueError(
                    f"case {case!r} does not apply to {scene.prompt!r}: choose another case."
                ) from None
    if case is None:
        wobble(plan)
    return _spoil(plan, *_paint(plan, _lay_out(plan), size), size)


def degraded(
    scene: Scene, seed: int, size: int = 128, world: str | World = "small", case: str | None = None
) -> tuple[np.ndarray, tuple[float, ...]]:
    """`spoiled` -> (image uint8 (S, S, 3), truth in [0, 1] for each of scene.words)."""
    wrong = spoiled(scene, seed, size, world, case)
    return wrong.image, truths_of(scene, wrong.bodies)[0]
