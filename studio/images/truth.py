"""The independent judge of the shapes world, in terms of the words of a prompt (DESIGN section 3).

The detector looks at pixels and has no learned part. It judges evaluations and plays the simulated annotator; no
model is trained on what it says except through corrections that are stored as simulated.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from core.words import CURRENT, moved, split
from data.shapes.detect import Verdict, judge
from data.shapes.scenes import Scene
from studio.images.prompts import scene_of


@dataclass(frozen=True)
class Truth:
    """words: truth in [0, 1] by word index, of every scored word; strict: all hold; extra: objects not asked for;
    nothing_else: truth in [0, 1] that the image shows what was asked for and nothing else, and its place."""

    words: dict[int, float]
    strict: bool
    extra: int
    nothing_else: float
    place: int

    @property
    def mean(self) -> float:
        """Of the words, as in every figure about words."""
        return sum(self.words.values()) / len(self.words)

    @property
    def clean(self) -> bool:
        """Every word holds, and no object is there that was not asked for."""
        return self.strict and not self.extra

    @property
    def units(self) -> dict[int, float]:
        """What an annotator is asked: the words, and *nothing else*."""
        return {**self.words, self.place: self.nothing_else}


def truth_of(prompt: str, image: np.ndarray, rules: int = CURRENT) -> Truth | None:
    """What the detector says of an image uint8 (S, S, 3), or None where the prompt is not of the shapes world. `rules`:
    those by which the prompt's words are counted (`core.words`)."""
    scene = scene_of(prompt)
    if scene is None:
        return None
    verdict = judge(scene, image)
    return Truth(
        by_index(prompt, scene, verdict.words, rules),
        bool(verdict.strict),
        int(verdict.extra),
        alone(scene, verdict),
        len(split(prompt, rules)),
    )


def alone(scene: Scene, verdict: Verdict) -> float:
    """Truth of *nothing else*: a third for every fault, which is an object that was not asked for, one that is missing, or
    as far as it is no shape, one that is half-formed. One object too many is 3 of 9, as in the guidelines."""
    asked = sum(thing.count for thing in scene.things)
    missing = asked - (len(verdict.objects) - verdict.extra)
    malformed = sum(1 - found.shape_confidence for found in verdict.objects)
    return float(3.0 ** -(verdict.extra + missing + malformed))


def by_index(prompt: str, scene: Scene, truths: Sequence[float], rules: int = CURRENT) -> dict[int, float]:
    """The truths of scene.words by the index that the prompt's scored words have."""
    index = {(word.start, word.end): word.index for word in split(prompt) if word.scored}
    pairs = zip(scene.words, truths, strict=True)
    found = {index[w.start, w.end]: float(truth) for w, truth in pairs if (w.start, w.end) in index}
    return {old: found[new] for old, new in moved(prompt, rules).items() if new in found}
