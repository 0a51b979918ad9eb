"""Renders that are wrong on purpose, with their truth known by construction: what the scorer learns from.

`degraded(scene, seed)` draws a case (CASES: right, wrong colour or shape, swapped, misplaced, missing, extra,
half-formed, blended, faded, blurred ...), sometimes two, renders it, and tells for every scored word of the scene how
far it still holds. A word holds in its binding: "red" of a missing circle is 0.
"""

from __future__ import annotations

import math

import numpy as np
from scipy.ndimage import gaussian_filter

from data.shapes import render as draw
from data.shapes.mistakes import CASES, IDENTITY, Object, Plan
from data.shapes.render import Placement
from data.shapes.scenes import WORLDS, Scene, World
from data.shapes.truth import colour_truth, lab, ramp, shape_truth, word_truths


def _lay_out(plan: Plan) -> None:
    """Give every object its placement."""
    rng, objects = plan.rng, plan.objects
    if not objects:
        return
    groups = [o.thing for o in objects]
    both = {0, 1} <= set(groups)
    radii, centres = draw.arrange([o.range for o in objects], rng, plan.relation if both else None, groups)
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
    for o, r, (x, y), angle in zip(objects, radii, centres, rng.uniform(-15, 15, len(objects)), strict=True):
        o.at = Placement(
            o.colour, o.shape, float(x), float(y), float(r), float(angle), o.thing, o.opacity, o.outline
        )


def _paint(plan: Plan, size: int) -> np.ndarray:
    """Draw the plan -> float32 (S, S, 3), and grade what drawing alone can tell: overlap, fading, the cut."""
    background = draw.draw_background(plan.rng)
    canvas = draw.blank(background, size)
    left_of: list[tuple[Object, np.ndarray]] = []  # every object with its visible cover on the whole image
    for o in plan.objects:
        cover, top, left = draw.mask(o.at, size)
        body = np.zeros((size, size), np.float32)
        whole = body.copy()
        draw.paint(whole[..., None], cover, top, left, 1.0)
        if o.reshape is not None:
            cover = np.pad(cover, (p := round(0.12 * cover.shape[0])))
            top, left, cover = top - p, left - p, o.reshape(cover)
        draw.paint(body[..., None], cover, top, left, 1.0)
        for _, below in left_of:
            below *= 1 - body * o.opacity
        under = canvas[body > 0.5].mean(0) if (body > 0.5).any() else np.asarray(background.colour)
        colour = np.asarray(o.colour, np.float32)
        if o.other is not None:
            line = np.cumsum(cover.sum(0)) / max(float(cover.sum()), 1e-6)
            side = np.clip((o.part - line) / 0.15 + 0.5, 0, 1)[None, :, None]
            colour = np.broadcast_to(
                side * colour + (1 - side) * np.asarray(o.other, np.float32), (*cover.shape, 3)
            )
        draw.paint(canvas, cover, top, left, colour, o.opacity)
        left_of.append((o, body))
        o.whole = whole
        if o.opacity < 1:
            _fade(o, plan.scene, under)
    for o, visible in left_of:
        union = float(np.maximum(visible, o.whole).sum())
        o.shape_truth *= shape_truth(float(np.minimum(visible, o.whole).sum()) / max(union, 1e-6))
        o.seen *= ramp(float(visible.sum()), 0.05 * float(o.whole.sum()), 0.25 * float(o.whole.sum()))
    return canvas


def _fade(o: Object, scene: Scene, under: np.ndarray) -> None:
    """Grade a body of some opacity over the colour `under` (3,) by what remains to be seen."""
    mixed = o.opacity * np.asarray(o.colour, np.float32) + (1 - o.opacity) * under
    contrast = float(np.linalg.norm(lab(np.clip(mixed, 0, 255)) - lab(np.clip(under, 0, 255))))
    o.seen *= ramp(contrast, 5.0, 20.0)
    if o.thing >= 0 and o.colour_truth > 0:
        o.colour_truth = min(
            o.colour_truth, colour_truth(lab(np.clip(mixed, 0, 255)), scene.things[o.thing].colour)
        )


def _spoil(plan: Plan, canvas: np.ndarray, size: int) -> np.ndarray:
    """Blur and noise over the whole picture, mild half the time (nothing is lost) and strong where the case says so."""
    blur, noise, rng = plan.blur, plan.noise, plan.rng
    mild = rng.random(2) < 0.5
    sigma = blur or (rng.uniform(0.002, 0.008) if mild[0] else 0.0)
    deviation = noise or (rng.uniform(1, 6) if mild[1] else 0.0)
    if sigma:
        canvas = gaussian_filter(canvas, (sigma * size, sigma * size, 0), mode="nearest")
    if deviation:
        canvas = canvas + rng.normal(0, deviation, canvas.shape).astype(np.float32)
    for o in plan.objects:
        sharp = ramp(blur / o.at.radius, 0.55, 0.12) * ramp(noise, 150, 25)
        o.shape_truth *= sharp
        o.colour_truth *= ramp(blur / o.at.radius, 0.9, 0.35) * ramp(noise, 200, 50)
    return canvas


def _truths(plan: Plan) -> tuple[float, ...]:
    scene = plan.scene
    colours, shapes, presences, radii, centres, counts = [], [], [], [], [], []
    for i, thing in enumerate(scene.things):
        mine = [o for o in plan.objects if o.thing == i]
        pad = [0.0] * (thing.count - len(mine))
        colours.append([o.colour_truth * o.seen for o in mine] + pad)
        shapes.append([o.shape_truth * o.seen for o in mine] + pad)
        presences.append([o.seen for o in mine] + pad)
        radii.append([o.at.radius for o in mine if o.seen >= 0.5])
        centres.append([(o.at.x, o.at.y) for o in mine])
        match = [o for o in mine if o.colour_truth * o.seen >= 0.5 and o.shape_truth * o.seen >= 0.5]
        twins = [o for o in plan.objects if o.thing < 0 and o.shape == thing.shape]
        counts.append(
            len(match) + sum(colour_truth(lab(np.array(o.colour)), thing.colour) >= 0.5 for o in twins)
        )
    return word_truths(scene, colours, shapes, presences, radii, centres, counts)


def degraded(
    scene: Scene, seed: int, size: int = 128, world: str | World = "small", case: str | None = None
) -> tuple[np.ndarray, tuple[float, ...]]:
    """Render a scene rightly or wrongly -> (image uint8 (S, S, 3), truth in [0, 1] for each of scene.words).

    Deterministic from (scene, seed, size, case). `world` bounds the colours and shapes that mistakes may use;
    `case` names one of CASES, else they are drawn by weight; ValueError if the scene leaves no room for it.
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
    todo = 2 if case is None and rng.random() < 0.25 else 1
    while len(plan.names) < todo and any(o.thing >= 0 for o in plan.objects):
        name = case or str(rng.choice(list(CASES), p=weights / weights.sum()))
        clash = name in plan.names or (name in IDENTITY and IDENTITY & set(plan.names))
        if not clash and CASES[name][1](plan):
            plan.names.append(name)
        elif case:
            raise ValueError(f"case {case!r} does not apply to {scene.prompt!r}: choose another case.")
    _lay_out(plan)
    image = draw.finish(_spoil(plan, _paint(plan, size), size))
    return image, _truths(plan)
