"""What the reward model foresees beside what the scorer says, for the orders of the queue that ask about it: how far
the two are apart, in points of 0-9, and how much is expected where the scorer is unsure.

The reward model foresees from the noise alone what the scorer will say; where they are far apart, one of the two is
wrong, and a person's score teaches most. A sample's figure is the mean over its scored words of |expected score of the
one - expected score of the other|, on 0-9. Its promise is the mean of (what the reward model expects of a word x how
unsure the scorer is of it), in 0-1: there a projector, which follows the reward model, may be led astray. The noise is drawn again from the seed, and projected again where it was; a
sample whose noise cannot be had again is left out.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from core.evaluation.choosing import predict
from core.noise import draw
from core.scoring.scores import entropy, expected
from data.store import Store
from studio.images import gpu
from studio.images.making import encode, noises_of
from studio.images.models import Models
from studio.images.scoring import Stop, asked
from studio.numbers import whole
from studio.settings import Settings

log = logging.getLogger("studio")
FIRST = 2.0  # seconds that the first who asks waits for the first figures
REST = 60.0  # seconds after which it is looked again for samples that lack a figure
MOST = 10_000_000


class Foreseeing:
    """Compares the reward model with the scorer."""

    def __init__(self, settings: Settings, store: Store, models: Models) -> None:
        self.settings, self.store, self.models = settings, store, models

    def foresee(
        self,
        count: int | None = None,
        on_progress: Callable[[int, int], None] | None = None,
        stop: Stop = None,
    ) -> dict[str, int]:
        """Compare the samples that lack a figure of the models in use, the newest first, `count` of them at most.

        {compared, left_out: whose noise or words cannot be had, missing: not looked at yet}. What is kept is kept, so
        stopped work goes on when it is asked for again.
        """
        most = MOST if count is None else whole("number of samples", count, 1, MOST)
        using = self.models.using("reward")
        if using.model is None:
            raise ValueError(using.problem)
        lacking = self.store.foreseen.missing(using.run, self.models.diffuser().revision)
        ids, halt = lacking[:most], asked(stop)
        compared = looked = 0
        if on_progress:
            on_progress(0, len(ids))
        for at in range(0, len(ids), self.settings.batch):
            if halt():
                break
            part = ids[at : at + self.settings.batch]
            apart = gpu.apart()
            with contextlib.nullcontext() if apart else self.models.lock:
                found = self._foresee_apart(part) if apart else self._foreseen(part)
            self.store.foreseen.keep(found, using.run)
            compared, looked = compared + len(found), looked + len(part)
            if on_progress:
                on_progress(looked, len(ids))
        return {"compared": compared, "left_out": looked - compared, "missing": len(lacking) - looked}

    @gpu.on_gpu(seconds=60)
    def _foresee_apart(self, ids: list[str]) -> dict[str, tuple[float, float, str]]:
        """As `_foreseen`, where the GPU is."""
        return self._foreseen(ids)

    def _foreseen(self, ids: Sequence[str]) -> dict[str, tuple[float, float, str]]:
        """Points, promise and the scorer's version, by sample."""
        said, rows = (
            self.store.foreseen.seen_by_vlm(ids),
            self.store.samples.find(ids=list(ids), limit=len(ids)),
        )
        noises, model = self._noises(rows), self.models.using("reward").model
        sizes: dict[tuple[int, int], list[Mapping[str, Any]]] = defaultdict(list)
        for row in rows:
            if row["id"] in noises and row["id"] in said:
                sizes[row["height"], row["width"]].append(row)
        found: dict[str, tuple[float, float, str]] = {}
        for part in sizes.values():
            text = encode(self.models.diffuser(), [row["prompt"] for row in part])
            _, words = predict(model, torch.stack([noises[row["id"]] for row in part]), text)
            for row, foreseen in zip(part, words, strict=True):
                seen = said[row["id"]]
                both = [(value, seen["words"][i]) for i, value in foreseen.items() if i in seen["words"]]
                gaps = [abs(9 * value - _points(said)) for value, said in both]
                if gaps and np.isfinite(gaps).all():
                    promise = float(np.mean([value * _unsure(said) for value, said in both]))
                    found[row["id"]] = (
                        min(9.0, float(np.mean(gaps))),
                        min(1.0, max(0.0, promise)),
                        seen["version"],
                    )
        return found

    def _noises(self, rows: Sequence[Mapping[str, Any]]) -> dict[str, Tensor]:
        """The noise (C, H, W) that each image was made from, by sample; those that another noise was chosen for, or whose
        projector is gone, are left out."""
        projected = [row for row in rows if row["projector_run"] and row["strength"] > 0]
        found, diffuser = noises_of(self.models, self.store, projected), self.models.diffuser()
        for row in rows:
            if row["projector_run"] and row["strength"] > 0:
                continue
            (noise,) = draw([row["seed"]], diffuser.latent_shape(row["height"], row["width"]))
            same = row["noise_sha256"] in (None, hashlib.sha256(noise.numpy().tobytes()).hexdigest())
            if same:
                found[row["id"]] = noise
        return found


def _points(said: Any) -> float:
    """What the scorer expects of a word, 0-9, from its distribution or its digit."""
    return float(said) if isinstance(said, int) else 9 * float(expected(np.array(said)))


def _unsure(said: Any) -> float:
    """The entropy of what the scorer says of a word, in [0, 1]; 0 where it gives no more than a digit."""
    return 0.0 if isinstance(said, int) else float(entropy(np.array(said)))


class Foreseer:
    """Does `foresee` behind the page when the order is asked for, and says how far it is."""

    def __init__(self, foreseeing: Foreseeing) -> None:
        self.foreseeing = foreseeing
        self.done = self.total = 0
        self.problem = ""
        self._lock, self._thread, self._first = threading.Lock(), threading.Thread(), threading.Event()
        self._looked: tuple[Any, float] | None = None  # the reward model in use then, and when

    def keep_up(self) -> None:
        """Start where there may be something to do. Returns at once; the first time, when some figures are there or
        after `FIRST` seconds."""
        with self._lock:
            promoted = (self.foreseeing.store.runs.promoted("reward") or {}).get("id")
            fresh = self._looked and self._looked[0] == promoted and time.monotonic() - self._looked[1] < REST
            if not self.busy and not fresh:
                self._looked = (promoted, time.monotonic())
                self._first.clear()
                self._thread = threading.Thread(target=self._work, name="foreseeing", daemon=True)
                self._thread.start()
        if not self.foreseeing.store.foreseen.any():
            self._first.wait(FIRST)

    @property
    def busy(self) -> bool:
        return self._thread.is_alive()

    def notice(self) -> str:
        """How far it is, as a sentence; '' where there is nothing to say."""
        if self.problem:
            return f"The reward model could not be asked. {self.problem}"
        if not self.busy:
            return ""
        if not self.total:
            return "The reward model is being asked about the images behind the page."
        return (
            f"The reward model has been asked about {self.done:,} of {self.total:,} images; the others come in behind "
            "the page."
        )

    def _work(self) -> None:
        from studio.errors import sentence

        self.done = self.total = 0
        self.problem = ""

        def on_progress(done: int, total: int) -> None:
            self.done, self.total = done, total
            if done:
                self._first.set()

        try:
            self.foreseeing.foresee(on_progress=on_progress)
        except Exception as error:  # noqa: BLE001 - the page says what it was
            self.problem = sentence(error)
        finally:
            self._looked = (self._looked[0] if self._looked else None, time.monotonic())
            self._first.set()
