"""Questions about a picture: prompts near to what it shows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from data.shapes import scenes
from data.shapes.bodies import Body
from data.shapes.regions import SHAPES
from data.shapes.scenes import Scene, Thing, World
from data.shapes.truth import COLOURS, relation_truth

KINDS = ("same", "colour", "shape", "exchanged", "thing", "seen", "all")  # what is changed, and how often
SHARES = (0.2, 0.13, 0.22, 0.12, 0.1, 0.15, 0.08)


def changed(
    drawn: Scene, bodies: Sequence[Body], world: World, rng: np.random.Generator, single: bool
) -> Scene:
    """A prompt near to a scene whose picture shows `bodies`, about one thing or (unless `single`) mostly two: order,
    phrasing, and mostly a colour, shape, thing or relation changed, so that a good third of the words do not hold.
    Always a training composition."""
    while True:
        things = [t for t in drawn.things if t.count == 1] if single else list(drawn.things)
        kind = str(rng.choice(KINDS, p=SHARES))
        if kind == "seen" and (clear := seen_things(bodies, world)):
            order = rng.permutation(len(clear))[: world.max_objects if not single else 1]
            things = list(dict.fromkeys(clear[int(k)] for k in order))
        i = int(rng.integers(len(things))) if things else 0
        if not things or kind == "all":
            things = list(scenes.sample_scene(rng, world).things)
        elif kind == "thing":
            things[i] = scenes.sample_scene(rng, world).things[0]
        elif kind == "colour":
            others = [colour for colour in world.colours if colour != things[i].colour]
            things[i] = replace(things[i], colour=str(rng.choice(others)))
        elif kind == "shape":
            others = [shape for shape in world.shapes if shape != things[i].shape]
            things[i] = replace(things[i], shape=str(rng.choice(others)))
        elif kind == "exchanged" and len(things) > 1:
            a, b = things[:2]
            things[:2] = [replace(a, colour=b.colour), replace(b, colour=a.colour)]
        if single:
            things = [things[i % len(things)]]
        elif len(things) > 1 and rng.random() < 0.5:
            things = things[::-1]
        elif len(things) == 1 and things[0].count < world.max_objects and rng.random() < 0.4:
            things.append(scenes.sample_scene(rng, world).things[0])
        relation = None
        if len(things) == 2 and rng.random() < 0.75:
            relation = str(rng.choice(world.relations))
            if rng.random() < 0.45:
                relation = _holding(things, bodies, world) or relation
        twice = len({thing.key for thing in things}) < len(things)
        if twice or sum(thing.count for thing in things) > world.max_objects:
            continue
        scene = scenes.parse(scenes.sentence(rng, things, relation), world)
        if scene.split == "train":
            return scene


def seen_things(bodies: Sequence[Body], world: World) -> list[Thing]:
    """The bodies of a clear colour and shape, as things of the world."""
    things = []
    for body in bodies:
        thing = Thing(COLOURS[int(np.argmax(body.colours))], SHAPES[int(np.argmax(body.shapes))])
        if body.match(thing) > 1.3 and thing.colour in world.colours and thing.shape in world.shapes:
            things.append(thing)
    return things


def _holding(things: list[Thing], bodies: Sequence[Body], world: World) -> str | None:
    """The relation that holds best between the bodies most like two things, in this order; None where they are one or none."""
    if len(bodies) < 2:
        return None
    first, second = (bodies[int(np.argmax([body.match(thing) for body in bodies]))] for thing in things)
    if first is second:
        return None
    a, b = (np.array([body.x, body.y]) for body in (first, second))
    return max(world.relations, key=lambda relation: relation_truth(a, b, relation))
