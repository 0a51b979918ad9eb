"""The independent judge of the shapes world, in terms of the words of a prompt (DESIGN section 3).

The detector looks at pixels and has no learned part. It judges evaluations and plays the simulated annotator; no
model is trained on what it says except through corrections that are stored as simulated.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from core.words import split
from data.shapes.detect import judge
from data.shapes.scenes import Scene
from studio.prompts import scene_of


@dataclass(frozen=True)
class Truth:
    """words: truth in [0, 1] by word index, of every scored word; strict: all hold; extra: objects not asked for."""

    words: dict[int, float]
    strict: bool
    extra: int

    @property
    def mean(self) -> float:
        return sum(self.words.values()) / len(self.words)


def truth_of(prompt: str, image: np.ndarray) -> Truth | None:
    """What the detector says of an image uint8 (S, S, 3), or None where the prompt is not of the shapes world."""
    scene = scene_of(prompt)
    if scene is None:
        return None
    verdict = judge(scene, image)
    return Truth(by_index(prompt, scene, verdict.words), bool(verdict.strict), int(verdict.extra))


def by_index(prompt: str, scene: Scene, truths: Sequence[float]) -> dict[int, float]:
    """The truths of scene.words by the index that the prompt's scored words have."""
    index = {(word.start, word.end): word.index for word in split(prompt) if word.scored}
    pairs = zip(scene.words, truths, strict=True)
    return {index[w.start, w.end]: float(truth) for w, truth in pairs if (w.start, w.end) in index}
