"""The detector, which judges images of the shapes world by the words of their prompts, independently of any model.

It looks at pixels and has no learned part. It judges evaluations and plays the simulated annotator; no model is trained
on what it says except through corrections that are stored as simulated. A page shows its opinion beside the VLM's scores
and stores nothing of it: images are shown without waiting for it, and each is looked at once.
"""

from __future__ import annotations

import functools
import logging
import threading
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from core.words import CURRENT, moved, split, units
from data.shapes.scenes import Scene
from studio.background import Queue
from studio.images import pictures
from studio.images.prompts import scene_of
from studio.images.views import SampleView

if TYPE_CHECKING:
    from data.shapes.detect import Verdict

log = logging.getLogger("studio")
HOLDS = 0.5  # the truth from which a word holds
SIDE = 512  # pixels; larger images are no flat drawings, and take too long
KEPT = 4096  # opinions in memory
NAMED = 3  # words that an opinion names at most


# ---- truth --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Truth:
    """The detector's verdict on an image. words: truth in [0, 1] by word index, of every scored word; strict: all hold;
    extra: objects not asked for; nothing_else: truth in [0, 1] that nothing else is there, and its index, `place`."""

    words: dict[int, float]
    strict: bool
    extra: int
    nothing_else: float
    place: int

    @property
    def mean(self) -> float:
        """Mean truth of the words, without *nothing else*."""
        return sum(self.words.values()) / len(self.words)

    @property
    def clean(self) -> bool:
        """Every word holds, and there is no object that was not asked for."""
        return self.strict and not self.extra

    @property
    def units(self) -> dict[int, float]:
        """Truth of all units that an annotator scores: the words, and *nothing else*."""
        return {**self.words, self.place: self.nothing_else}


def truth_of(prompt: str, image: np.ndarray, rules: int = CURRENT) -> Truth | None:
    """The detector's verdict on an image uint8 (S, S, 3), None for a prompt outside the shapes world. `rules`: those by
    which the prompt's words are counted (`core.words`)."""
    from data.shapes.detect import judge  # its libraries are slow to import

    scene = scene_of(prompt)
    if scene is None:
        return None
    verdict = judge(scene, image)
    words = by_index(prompt, scene, verdict.words, rules)
    place = len(split(prompt, rules))
    return Truth(words, bool(verdict.strict), int(verdict.extra), nothing_else(scene, verdict), place)


def nothing_else(scene: Scene, verdict: Verdict) -> float:
    """Truth of *nothing else*: a third for every fault. A fault is an object that was not asked for, one that is missing,
    or, by as much as it is no shape, one that is half-formed. One object too many is 3 of 9, as in the guidelines."""
    wanted = sum(thing.count for thing in scene.things)
    missing = wanted - (len(verdict.objects) - verdict.extra)
    malformed = sum(1 - thing.shape_confidence for thing in verdict.objects)
    return float(3.0 ** -(verdict.extra + missing + malformed))


def by_index(prompt: str, scene: Scene, truths: Sequence[float], rules: int = CURRENT) -> dict[int, float]:
    """The truths of scene.words by the index that the prompt's scored words have."""
    index = {(word.start, word.end): word.index for word in split(prompt) if word.scored}
    pairs = zip(scene.words, truths, strict=True)
    by_new = {index[w.start, w.end]: float(truth) for w, truth in pairs if (w.start, w.end) in index}
    return {old: by_new[new] for old, new in moved(prompt, rules).items() if new in by_new}


# ---- opinions -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Opinion:
    """The verdict as a page shows it. units: whether each word holds, by its index, and *nothing else*; text: a short line."""

    units: dict[int, bool]
    text: str

    @property
    def count(self) -> int:
        """How many of the units hold."""
        return sum(self.units.values())


def opinion_of(prompt: str, image: np.ndarray, rules: int = CURRENT) -> Opinion | None:
    """The detector's opinion of an image uint8 (S, S, 3), by the words that `rules` count; None for a prompt outside the
    shapes world."""
    truth = truth_of(prompt, image, rules)
    if truth is None:
        return None
    held = {index: value >= HOLDS for index, value in truth.units.items()}
    names = {unit.index: unit.text for unit in units(prompt, rules)}
    missing = list(dict.fromkeys(names[index] for index in truth.words if not held[index]))
    if not missing:
        text = "every word holds"
    elif len(missing) > NAMED:
        text = f"{len(missing)} words do not hold"
    else:
        text = f"{' and '.join(missing)} {'does' if len(missing) == 1 else 'do'} not hold"
    if truth.extra:
        text += f"; {'one thing' if truth.extra == 1 else f'{truth.extra} things'} too many"
    elif not missing and not held[truth.place]:
        text += "; half-formed"
    return Opinion(held, f"Detector: {text}")


@functools.lru_cache(maxsize=512)
def speaks(prompt: str) -> bool:
    """Whether a prompt is of the shapes world."""
    return scene_of(prompt) is not None


class Detector:
    """The opinions of stored images, kept in memory. Safe to share between threads."""

    def __init__(self) -> None:
        self._kept: dict[str, Opinion | None] = {}  # the one that was looked at longest ago comes first
        self._lock = threading.Lock()
        self._queue: Queue[SampleView] = Queue("detector", self.of)

    def of(self, sample: SampleView) -> Opinion | None:
        """The opinion of a sample; None for a prompt outside the shapes world, and where the image is gone or too large."""
        if sample.image_path is None or not speaks(sample.prompt):
            return None
        with self._lock:
            if sample.id in self._kept:
                self._kept[sample.id] = self._kept.pop(sample.id)
                return self._kept[sample.id]
        opinion = None
        try:
            image = pictures.read(Path(sample.image_path))
            if max(image.shape) <= SIDE:
                opinion = opinion_of(sample.prompt, image, sample.word_rules)
        except ValueError as error:
            log.warning("The detector cannot look at the image %s: %s", sample.id, error)
        with self._lock:
            self._kept[sample.id] = opinion
            if len(self._kept) > KEPT:
                del self._kept[next(iter(self._kept))]
        return opinion

    def known(self, samples: Sequence[SampleView]) -> tuple[dict[str, Opinion], bool]:
        """The opinions of samples that are known, by their ids, and whether more are coming: the other samples are looked
        at in the background."""
        with self._lock:
            judged = [one for one in samples if one.image_path is not None and speaks(one.prompt)]
            kept = {one.id: self._kept[one.id] for one in judged if one.id in self._kept}
            missing = [one for one in judged if one.id not in kept]
            queued = {one.id for one in self._queue.waiting.copy()}
            self._queue.add(one for one in missing if one.id not in queued)
        return {id: opinion for id, opinion in kept.items() if opinion}, bool(missing)


def compared(pairs: Sequence[tuple[Opinion, Opinion]]) -> dict[str, int]:
    """The number of pairs (before, after) in which more, as many and fewer units hold after."""
    signs = Counter(np.sign(after.count - before.count) for before, after in pairs)
    return {"better": signs[1], "same": signs[0], "worse": signs[-1]}
