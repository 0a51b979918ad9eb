"""Which prompts and seeds are trained on and which are kept for judging.

A prompt of the shapes world belongs to the split of its composition; any other prompt is trained on. Seeds below
2^31 are for training and for people, seeds from 2^31 on are for evaluation, so that no evaluation ever meets a noise
that was trained on.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

from data.shapes.scenes import Scene, parse

EVALUATION_SEEDS = 2**31


def scene_of(prompt: str) -> Scene | None:
    """What a prompt means in the shapes world, or None where it is none of its sentences."""
    try:
        return parse(prompt)
    except ValueError:
        return None


def split_of(prompt: str) -> str:
    """train, validation or heldout."""
    scene = scene_of(prompt)
    return scene.split if scene else "train"


def seeds_for(prompt: str, count: int, evaluation: bool = False, first: int = 0) -> list[int]:
    """`count` seeds of a prompt's own, from the `first` on: the same ones each time, others than its neighbour's."""
    start = int.from_bytes(hashlib.sha256(prompt.encode()).digest()[:4], "big") % 2**30
    return [(EVALUATION_SEEDS if evaluation else 0) + start + first + i for i in range(count)]


def without(prompts: Iterable[str], trained: Iterable[str]) -> list[str]:
    """The prompts that were not trained on; for shapes, none whose composition was trained on in any phrasing."""
    trained = set(trained)
    met = {scene.composition for scene in map(scene_of, trained) if scene}
    kept = []
    for prompt in prompts:
        scene = scene_of(prompt)
        if prompt not in trained and not (scene and scene.composition in met):
            kept.append(prompt)
    return kept
