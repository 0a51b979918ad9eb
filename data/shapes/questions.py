"""Questions about a right render: prompts near to what it shows, and the truth of each of their words."""

from __future__ import annotations

from dataclasses import replace
from itertools import permutations

import numpy as np

from data.shapes import scenes
from data.shapes.render import Placement
from data.shapes.scenes import Scene, Thing, World
from data.shapes.truth import relation_truth, word_truths

KINDS = ("same", "colour", "shape", "exchanged", "thing", "all")  # what is changed in a prompt, and how often
SHARES = (0.2, 0.15, 0.27, 0.15, 0.13, 0.1)


def truths_on(scene: Scene, drawn: Scene, placements: tuple[Placement, ...]) -> tuple[float, ...] | None:
    """Truth of each of scene.words on a right render of another scene: its objects are given to the things so that
    colours and shapes match best in all. None where two ways are equally good and differ in what holds."""
    objects = [(drawn.things[p.thing], p) for p in placements]
    slots = [i for i, thing in enumerate(scene.things) for _ in range(thing.count)]
    places: list[int | None] = [*range(len(objects)), *[None] * len(slots)]

    def fit(i: int, o: int | None) -> float:
        if o is None:
            return 0.0
        seen, wanted = objects[o][0], scene.things[i]
        return (seen.colour == wanted.colour) + 1.05 * (seen.shape == wanted.shape)

    ways = list(dict.fromkeys(permutations(places, len(slots))))
    values = np.array([sum(fit(i, o) for i, o in zip(slots, way, strict=True)) for way in ways])
    found = {
        _truths(scene, objects, slots, ways[k], fit) for k in np.flatnonzero(values > values.max() - 1e-6)
    }
    return found.pop() if len(found) == 1 else None


def _truths(scene, objects, slots, way, fit) -> tuple[float, ...]:
    given: list[list] = [[] for _ in scene.things]
    for i, o in zip(slots, way, strict=True):
        if fit(i, o) > 0:
            given[i].append(objects[o])
    colours, shapes, presences = [], [], []
    for thing, mine in zip(scene.things, given, strict=True):
        pad = [0.0] * (thing.count - len(mine))
        colours.append([float(seen.colour == thing.colour) for seen, _ in mine] + pad)
        shapes.append([float(seen.shape == thing.shape) for seen, _ in mine] + pad)
        presences.append([1.0] * len(mine) + pad)
    radii = [[p.radius for _, p in mine] for mine in given]
    centres = [[(p.x, p.y) for _, p in mine] for mine in given]
    counts = [sum(seen.key == thing.key for seen, _ in objects) for thing in scene.things]
    return word_truths(scene, colours, shapes, presences, radii, centres, counts)


def changed(
    drawn: Scene, placements: tuple[Placement, ...], world: World, rng: np.random.Generator, single: bool
) -> Scene:
    """A prompt near to what a right render shows, about one thing or (unless `single`) mostly two: order, phrasing, and
    mostly a colour, shape, thing or relation changed, so that a good third of the words do not hold. Always a training
    composition."""
    while True:
        things = [t for t in drawn.things if t.count == 1] if single else list(drawn.things)
        kind = str(rng.choice(KINDS, p=SHARES))
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
        if len(things) == 2 and world.relations and rng.random() < 0.75:
            relation = str(rng.choice(world.relations))
            if rng.random() < 0.4 and len(placements) == 2:
                relation = _holding(things, drawn, placements, world)
        if (
            len({thing.key for thing in things}) < len(things)
            or sum(t.count for t in things) > world.max_objects
        ):
            continue
        scene = scenes.parse(scenes.sentence(rng, things, relation), world)
        if scene.split == "train":
            return scene


def _holding(things: list[Thing], drawn: Scene, placements: tuple[Placement, ...], world: World) -> str:
    """The relation that holds best between the two objects, in the order in which `things` name them."""
    first, second = placements
    seen = drawn.things[first.thing]
    if (
        things[1].shape == seen.shape
        and things[0].shape != seen.shape
        or things[1].colour == seen.colour
        and things[0].colour != seen.colour
    ):
        first, second = second, first
    grade = {r: relation_truth((first.x, first.y), (second.x, second.y), r) for r in world.relations}
    return max(grade, key=grade.get)
