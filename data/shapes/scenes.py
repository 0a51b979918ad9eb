"""The grammar of the shapes world: worlds, scenes, the words that are scored, and the split.

A prompt is made as text and then read back by `parse`, so that every sentence that is sampled is one that can be
parsed, and the spans of the scored words have one source. The split is by composition: which (colour, shape) stand
together decides it, whatever the phrasing, order, relation, size or count; three things are held out as soon as two
of them are, so a held-out pair never stands together in training.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from itertools import combinations
from typing import TypeVar

import numpy as np

T = TypeVar("T")

SPLITS = ("train", "validation", "heldout")
KINDS = ("colour", "object", "relation", "size", "count")
COUNTS = {"two": 2, "three": 3}
OPPOSITE = {"above": "below", "below": "above", "left": "right", "right": "left"}
PLURALS = {"cross": "crosses"}
PREFIXES = ("a picture of", "an image of", "there is", "there are")
NEAR = "next to"
JOINS = ("and", "with", NEAR)
PLACES = {
    "above": ("above",),
    "below": ("below",),
    "left": ("to the left of", "left of", "on the left of"),
    "right": ("to the right of", "right of", "on the right of"),
}


@dataclass(frozen=True)
class World:
    """What prompts may speak of. `max_objects` bounds the objects of a scene, counts included."""

    name: str
    colours: tuple[str, ...]
    shapes: tuple[str, ...]
    sizes: tuple[str, ...]
    relations: tuple[str, ...]
    counts: tuple[str, ...]
    max_objects: int


_COLOURS = ("red", "orange", "yellow", "green", "blue", "purple")
_SHAPES = ("circle", "square", "triangle", "star")
WORLDS: dict[str, World] = {
    "small": World("small", _COLOURS, _SHAPES, (), tuple(PLACES), (), 2),
    "large": World("large", (*_COLOURS, "pink", "black"), (*_SHAPES, "heart", "cross"), ("small", "large"), tuple(PLACES),
                   ("two", "three"), 3),
}  # fmt: skip


@dataclass(frozen=True)
class Thing:
    """A kind of object that a scene asks for, `count` times."""

    colour: str
    shape: str
    size: str | None = None
    count: int = 1

    @property
    def key(self) -> str:
        """Colour and shape: what the split looks at."""
        return f"{self.colour} {self.shape}"


@dataclass(frozen=True)
class SceneWord:
    """A scored word: prompt[start:end] == text; `things` are the indices it is bound to, (i, j) for a relation."""

    text: str
    start: int
    end: int
    kind: str
    things: tuple[int, ...]


@dataclass(frozen=True)
class Scene:
    """A prompt and what it means. The relation, if any, is between things 0 and 1: 0 is `relation` (of) 1. A prompt with
    "next to" has no such relation, it has `near`."""

    prompt: str
    things: tuple[Thing, ...]
    relation: str | None
    words: tuple[SceneWord, ...]

    @property
    def near(self) -> bool:
        """Whether things 0 and 1 stand next to each other."""
        return self.relation is None and any(word.kind == "relation" for word in self.words)

    @property
    def slots(self) -> list[int]:
        """The thing of each object that the scene asks for."""
        return [i for i, thing in enumerate(self.things) for _ in range(thing.count)]

    @cached_property
    def composition(self) -> str:
        """A canonical key of the meaning: the same for every phrasing and order ("A above B" is "B below A")."""
        names = [f"{t.count} {t.size or 'any'} {t.key}" for t in self.things]
        if self.relation is None:
            return " + ".join(sorted(names))
        if self.relation in ("below", "right"):
            return f"{names[1]} {OPPOSITE[self.relation]} {names[0]}"
        return f"{names[0]} {self.relation} {names[1]}"

    @cached_property
    def split(self) -> str:
        """train, validation or heldout: a stable function of which (colour, shape) stand together."""
        keys = sorted(thing.key for thing in self.things)
        groups = combinations(keys, 2) if len(keys) > 2 else [keys]
        return SPLITS[max(_split_of(" + ".join(group)) for group in groups)]


@lru_cache(maxsize=65536)
def _split_of(key: str) -> int:
    tenth = int.from_bytes(hashlib.sha256(f"shapes:{key}".encode()).digest()[:4], "big") % 10
    return max(tenth - 7, 0)


def world_of(world: str | World) -> World:
    """A world by its name."""
    if isinstance(world, World):
        return world
    if world not in WORLDS:
        raise ValueError(f"world {world!r} is not known: choose one of {', '.join(WORLDS)}.")
    return WORLDS[world]


def _plural(shape: str) -> str:
    return PLURALS.get(shape, shape + "s")


def _phrase(thing: Thing) -> str:
    count = next((word for word, n in COUNTS.items() if n == thing.count), None)
    words = [thing.size] if thing.size else []
    words += [thing.colour, _plural(thing.shape) if count else thing.shape]
    return " ".join([count or ("an" if words[0][0] in "aeiou" else "a"), *words])


def _pick(rng: np.random.Generator, options: Sequence[T]) -> T:
    return options[int(rng.integers(len(options)))]


def _draw_things(rng: np.random.Generator, world: World, n: int) -> list[Thing]:
    keys = rng.choice(len(world.colours) * len(world.shapes), n, replace=False)
    spare, things = world.max_objects - n, []
    for key in keys:
        colour, shape = divmod(int(key), len(world.shapes))
        size = _pick(rng, world.sizes) if world.sizes and rng.random() < 0.3 else None
        counts = [COUNTS[word] for word in world.counts if COUNTS[word] - 1 <= spare]
        count = _pick(rng, counts) if counts and rng.random() < 0.3 else 1
        spare -= count - 1
        things.append(Thing(world.colours[colour], world.shapes[shape], size, count))
    return things


def sentence(rng: np.random.Generator, things: list[Thing], relation: str | None) -> str:
    """One of the phrasings of things, the first two of them in a relation if there is one: of PLACES, or NEAR."""
    names, many = [_phrase(thing) for thing in things], things[0].count > 1
    prefix = _pick(rng, ("", "", "", "a picture of ", "an image of ", "there are " if many else "there is "))
    if relation:
        verb = _pick(rng, ("", ("are " if many else "is "))) if not prefix else ""
        return f"{prefix}{names[0]} {verb}{_pick(rng, PLACES.get(relation, (NEAR,)))} {names[1]}"
    if len(names) == 2:
        return f"{prefix}{names[0]} {_pick(rng, JOINS)} {names[1]}"
    return prefix + ", ".join(names[:-2] + [" and ".join(names[-2:])])


def sample_scene(rng: np.random.Generator, world: str | World = "small", split: str = "train") -> Scene:
    """Draw a scene of a world and split: 15 % singles, 50 % relations, the rest pairs or (if allowed) triples."""
    world = world_of(world)
    if split not in SPLITS:
        raise ValueError(f"split {split!r} is not known: choose one of {', '.join(SPLITS)}.")
    for _ in range(50):
        draw = float(rng.random())
        n = 2 if draw < (0.85 if world.max_objects < 3 else 0.7) else 1 if draw >= 0.85 else 3
        n = min(n, world.max_objects)
        relation = _pick(rng, world.relations) if draw < 0.5 and n > 1 else None
        for _ in range(200):
            things = _draw_things(rng, world, n)
            scene = Scene("", tuple(things), relation, ())
            if scene.split == split:
                return parse(sentence(rng, things, relation), world)
    raise ValueError(f"no {split} scene was found in world {world.name!r}: give it more colours and shapes.")


@lru_cache(maxsize=8)
def _pattern(world: World) -> re.Pattern[str]:
    def either(options: Iterable[str]) -> str:
        return "|".join(re.escape(option).replace(r"\ ", r"\s+") for option in options)

    shapes = either([_plural(s) for s in world.shapes] + list(world.shapes) if world.counts else world.shapes)

    def thing(i: int) -> str:
        size = rf"(?:(?P<size{i}>{either(world.sizes)})\s+)?" if world.sizes else ""
        count = either(["an", "a", *world.counts])
        return (
            rf"(?P<count{i}>{count})\s+{size}(?P<colour{i}>{either(world.colours)})\s+(?P<shape{i}>{shapes})"
        )

    relation = r"(?:(?:is|are)\s+)?(?P<place>(?:to\s+the\s+|on\s+the\s+)?(?P<side>left|right)\s+of|(?P<level>above|below))"
    third = rf"|\s*,\s*{thing(2)}\s*,?\s+and\s+{thing(3)}" if world.max_objects > 2 else ""
    near = r"(?:(?:is|are)\s+)?(?P<near>next\s+to)"
    pair = rf"\s+(?:{relation}|{near}|{either(JOINS)})\s+{thing(1)}"
    sentence = rf"\s*(?:(?:{either(PREFIXES)})\s+)?{thing(0)}(?:{pair}{third})?\s*\.?\s*"
    return re.compile(sentence, re.IGNORECASE | re.ASCII)


def parse(prompt: str, world: str | World = "large") -> Scene:
    """Read a prompt of the grammar; ValueError that tells the grammar if it is not one of its sentences."""
    world = world_of(world)
    match = _pattern(world).fullmatch(prompt) if len(prompt) <= 400 else None
    if match is None:
        extras = (
            f" Sizes: {', '.join(world.sizes)}; counts: {', '.join(world.counts)}." if world.counts else ""
        )
        raise ValueError(
            f'{prompt[:80]!r} is not a sentence of the {world.name} shapes world. Write, for example, "a red circle", "a red '
            'circle and a blue square" or "a red circle is to the left of a blue square" (also above, below, right of). '
            f"Colours: {', '.join(world.colours)}; shapes: {', '.join(world.shapes)}; at most {world.max_objects} objects."
            f"{extras}"
        )
    things: list[Thing] = []
    words: list[SceneWord] = []

    def score(group: str, kind: str, *bound: int) -> None:
        words.append(SceneWord(match[group], *match.span(group), kind, bound))

    singular = {_plural(shape): shape for shape in world.shapes}
    groups = match.groupdict()
    for slot in range(4):
        if not groups.get(f"colour{slot}"):
            continue
        i = len(things)
        count, shape = match[f"count{slot}"].lower(), match[f"shape{slot}"].lower()
        if (shape in singular) != (count in COUNTS):
            raise ValueError(
                f'"{count} ... {shape}" mixes one and many: write "a ... circle" or "two ... circles".'
            )
        size = groups.get(f"size{slot}")
        if count in COUNTS:
            score(f"count{slot}", "count", i)
        if size:
            score(f"size{slot}", "size", i)
        score(f"colour{slot}", "colour", i)
        score(f"shape{slot}", "object", i)
        colour, size = match[f"colour{slot}"].lower(), size.lower() if size else None
        things.append(Thing(colour, singular.get(shape, shape), size, COUNTS.get(count, 1)))
    relation = groups["side"] or groups["level"]
    if relation or groups["near"]:
        score("place" if relation else "near", "relation", 0, 1)
    if len({thing.key for thing in things}) < len(things):
        raise ValueError(f"{prompt!r} names the same thing twice: let the colour or the shape differ.")
    if (total := sum(thing.count for thing in things)) > world.max_objects:
        raise ValueError(f"{prompt!r} asks for {total} objects: at most {world.max_objects} are allowed.")
    words.sort(key=lambda word: word.start)
    return Scene(prompt, tuple(things), relation.lower() if relation else None, tuple(words))


def vocabulary(world: str | World = "small") -> list[str]:
    """Every word, in lower case, that the prompts of a world may use, sorted."""
    world = world_of(world)
    phrases = [*PREFIXES, *JOINS, "a", "an", "is", *world.colours, *world.shapes, *world.sizes, *world.counts]
    phrases += [place for relation in world.relations for place in PLACES[relation]]
    if world.counts:
        phrases += ["are", *map(_plural, world.shapes)]
    words = {word for phrase in phrases for word in phrase.split()}
    return sorted(words if world.counts else words - {"are"})


def heldout_prompts(
    n: int, world: str | World = "small", split: str = "heldout", seed: int = 0
) -> list[Scene]:
    """The first n distinct prompts that `seed` draws from a split; ValueError if the split has too few."""
    rng = np.random.default_rng([seed, 20251014])
    scenes: dict[str, Scene] = {}
    stale = 0
    while len(scenes) < n and stale < 3000:
        scene = sample_scene(rng, world, split)
        stale = stale + 1 if scene.prompt in scenes else 0
        scenes.setdefault(scene.prompt, scene)
    if len(scenes) < n:
        raise ValueError(
            f"only {len(scenes)} distinct {split} prompts were found, {n} were asked for: ask for fewer."
        )
    return list(scenes.values())
