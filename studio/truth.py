"""The independent judge of the shapes world, in terms of the words of a prompt (DESIGN section 3).

The detector looks at pixels and has no learned part. It judges evaluations and plays the simulated annotator; no
model is trained on what it says except through corrections that are stored as simulated.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from core.words import split
from data.shapes.detect import judge
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
    index = {(word.start, word.end): word.index for word in split(prompt) if word.scored}
    verdict = judge(scene, image)
    words = {
        index[word.start, word.end]: float(value)
        for word, value in zip(scene.words, verdict.words, strict=True)
        if (word.start, word.end) in index
    }
    return Truth(words, bool(verdict.strict), int(verdict.extra))
