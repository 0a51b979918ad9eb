"""The detector's opinion of images, beside the VLM's, where the prompt is of the shapes world.

It is shown and never stored: no label, no training and no queue knows it. It looks at the stored image, in its own time:
images are shown without waiting for it, and each one is looked at once.
"""

from __future__ import annotations

import functools
import logging
import threading
from collections import OrderedDict, deque
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from core.words import CURRENT, units
from studio.images import pictures
from studio.images.prompts import scene_of

log = logging.getLogger("studio")
HOLDS = 0.5  # the truth from which a word holds
SIDE = 512  # pixels; larger images are no flat drawings, and take too long
KEPT = 4096  # opinions in memory
NAMED = 3  # words that are named


@dataclass(frozen=True)
class Opinion:
    """units: whether each word holds, by its index, and *nothing else*; text: the same in a short line."""

    units: dict[int, bool]
    text: str

    @property
    def count(self) -> int:
        """How many of the units hold."""
        return sum(self.units.values())


def opinion_of(prompt: str, image: np.ndarray, rules: int = CURRENT) -> Opinion | None:
    """What the detector says of an image uint8 (S, S, 3), by the words that `rules` count; None where the prompt is not of
    the shapes world."""
    from studio.images.truth import truth_of  # with the detector's libraries, which a start does not wait for

    truth = truth_of(prompt, image, rules)
    if truth is None:
        return None
    held = {index: value >= HOLDS for index, value in truth.units.items()}
    names = {unit.index: unit.text for unit in units(prompt, rules)}
    missing = list(dict.fromkeys(names[index] for index in truth.words if not held[index]))
    if not missing:
        said = "every word holds"
    elif len(missing) > NAMED:
        said = f"{len(missing)} words do not hold"
    else:
        said = f"{' and '.join(missing)} {'does' if len(missing) == 1 else 'do'} not hold"
    if truth.extra:
        said += f"; {'one thing' if truth.extra == 1 else f'{truth.extra} things'} too many"
    elif not missing and not held[truth.place]:
        said += "; half-formed"
    return Opinion(held, f"Detector: {said}")


@functools.lru_cache(maxsize=512)
def speaks(prompt: str) -> bool:
    """Whether a prompt is of the shapes world."""
    return scene_of(prompt) is not None


class Detector:
    """The opinions of stored images, kept in memory. Safe to share between threads."""

    def __init__(self) -> None:
        self._kept: OrderedDict[str, Opinion | None] = OrderedDict()
        self._lock, self._waiting, self._thread = threading.Lock(), deque[Any](), None

    def of(self, sample: Any) -> Opinion | None:
        """That of a SampleView; None where the prompt is not of the shapes world, or the image is gone or too large."""
        if sample.image_path is None or not speaks(sample.prompt):
            return None
        with self._lock:
            if sample.id in self._kept:
                self._kept.move_to_end(sample.id)
                return self._kept[sample.id]
        found, path = None, Path(sample.image_path)
        try:
            with Image.open(path) as image:
                small = max(image.size) <= SIDE
            found = opinion_of(sample.prompt, pictures.read(path), sample.word_rules) if small else None
        except (OSError, ValueError) as error:
            log.warning("The detector cannot look at the image %s: %s", sample.id, error)
        with self._lock:
            self._kept[sample.id] = found
            while len(self._kept) > KEPT:
                self._kept.popitem(last=False)
        return found

    def known(self, samples: Sequence[Any]) -> tuple[dict[str, Opinion], bool]:
        """Those of samples that are known by now, by their ids, and whether more are on their way: the others are looked
        at in the background."""
        with self._lock:
            asked = [one for one in samples if one.image_path is not None and speaks(one.prompt)]
            found = {one.id: self._kept[one.id] for one in asked if one.id in self._kept}
            queued = {one.id for one in self._waiting}
            missing = [one for one in asked if one.id not in found]
            self._waiting += [one for one in missing if one.id not in queued]
            if self._waiting and self._thread is None:
                self._thread = threading.Thread(target=self._run, name="detector", daemon=True)
                self._thread.start()
        return {id: opinion for id, opinion in found.items() if opinion}, bool(missing)

    def _run(self) -> None:
        while True:
            with self._lock:
                if not self._waiting:
                    self._thread = None
                    return
                sample = self._waiting.popleft()
            self.of(sample)


def compared(pairs: Sequence[tuple[Opinion, Opinion]]) -> dict[str, int]:
    """On how many pairs (before, after) more, as many and fewer units hold after."""
    changes = [after.count - before.count for before, after in pairs]
    return {
        "better": sum(change > 0 for change in changes),
        "same": sum(change == 0 for change in changes),
        "worse": sum(change < 0 for change in changes),
    }
