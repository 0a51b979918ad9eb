"""The splits of prompts and seeds: which are trained on and which are held out.

A prompt of the shapes world belongs to the split of its composition. One of the user's own set (STUDIO_PROMPTS) belongs
to the split of its hash: 8 of 10 are trained on, 1 decides when to stop, 1 is held out. Any other prompt is trained on.
Seeds below 2^31 are for training and for people, seeds from 2^31 on for evaluation, so that no evaluation uses a noise
that was trained on.
"""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Iterable

from core.words import check_prompt, composed, scored, split
from data.prompts import load
from data.prompts.public import read_set
from data.shapes.scenes import Scene, parse

EVALUATION_SEEDS = 2**31
SHAPES = "shapes"


class Prompts:
    """The studio's prompts for training and evaluation: those of the shapes world, or a set."""

    def __init__(self, source: str = SHAPES, world: str = "small") -> None:
        self.source, self.world = source, world

    @functools.cached_property
    def own(self) -> dict[str, str]:
        """The user's prompts with their splits, none with the shapes world; ValueError for a bad set."""
        if self.source == SHAPES:
            return {}
        prompts = (check_prompt(prompt) for prompt in read_set(self.source))
        return {prompt: split_of(prompt) if scene_of(prompt) else hashed(prompt) for prompt in prompts}

    def split_of(self, prompt: str) -> str:
        """The split of a prompt: train, validation or heldout."""
        return self.own.get(composed(prompt)) or split_of(prompt)

    def trains(self, prompt: str) -> bool:
        """Whether training uses a prompt, to learn on or to stop by, labelled or not."""
        if (prompt := composed(prompt)) in self.own:
            return self.own[prompt] != "heldout"
        return scene_of(prompt) is not None and split_of(prompt) != "heldout"

    def of(self, split: str, count: int) -> list[str]:
        """The first `count` prompts of a split; fewer where the user's set has fewer."""
        if count < 1:
            return []
        if self.source == SHAPES:
            return load(f"{SHAPES}_{split}", count, self.world)
        return [prompt for prompt, its_split in self.own.items() if its_split == split][:count]


def scorable(prompt: object) -> str:
    """The prompt itself; ValueError for one that cannot be used, or has no word that is scored."""
    prompt = check_prompt(prompt)
    if not scored(split(prompt)):
        raise ValueError(
            f"The prompt {prompt[:60]!r} has no word that could be scored: name what the image should show."
        )
    return prompt


def scene_of(prompt: str) -> Scene | None:
    """The scene of a prompt of the shapes world, None for another prompt."""
    try:
        return parse(prompt)
    except ValueError:
        return None


def split_of(prompt: str) -> str:
    """The split of a prompt of the shapes world; train for any other."""
    scene = scene_of(prompt)
    return scene.split if scene else "train"


def hashed(prompt: str) -> str:
    """The split of a prompt that has no composition: the same on every machine and in every set."""
    digit = int.from_bytes(hashlib.sha256(f"split:{prompt}".encode()).digest()[:4], "big") % 10
    return {0: "heldout", 1: "validation"}.get(digit, "train")


def seeds_for(prompt: str, count: int, evaluation: bool = False, first: int = 0) -> list[int]:
    """`count` seeds of a prompt, from the `first` on: the same ones each time, and other ones for another prompt."""
    start = int.from_bytes(hashlib.sha256(prompt.encode()).digest()[:4], "big") % 2**30
    return [(EVALUATION_SEEDS if evaluation else 0) + start + first + i for i in range(count)]


def without(prompts: Iterable[str], trained: Iterable[str]) -> list[str]:
    """The prompts that were not trained on; for shapes, none whose composition was trained on in any phrasing."""
    trained = {composed(prompt) for prompt in trained}
    compositions = {scene.composition for scene in map(scene_of, trained) if scene}

    def used(prompt: str) -> bool:
        scene = scene_of(prompt)
        return composed(prompt) in trained or (scene is not None and scene.composition in compositions)

    return [prompt for prompt in prompts if not used(prompt)]
