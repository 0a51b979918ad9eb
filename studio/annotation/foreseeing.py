"""Foreseeing: the reward model's prediction of scores against the scorer's own, for the queue's orders that use it.

The reward model predicts from the noise alone what the scorer will say; where they are far apart, one of the two is
wrong, and a person's score teaches most. A sample's *gap* is the mean over its scored words of |expected score of the one
- expected score of the other|, in points of 0-9. Its *promise* is the mean of (what the reward model expects of a word x
how unsure the scorer is of it), in 0-1: there a projector, which follows the reward model, may be misled. The noise is
drawn again from the seed, and projected again where it was; samples whose noise cannot be made again are left out.
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
from core.scoring.scores import entropy
from data.store import Store
from data.store.labels import expected
from studio.errors import sentence
from studio.images import gpu
from studio.images.making import encode, noises_of
from studio.images.models import Models
from studio.images.scoring import Stop, asked
from studio.numbers import whole
from studio.settings import Settings

log = logging.getLogger("studio")
FIRST = 2.0  # seconds that the first request waits for the first figures
REST = 60.0  # seconds between two searches for samples that lack a figure
FORESEEN = 0.2  # seconds that a GPU is asked for an image's figures
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

        {compared, left_out: whose noise or words are not known, missing: not looked at yet}. Figures are stored batch by
        batch, so stopped work resumes when it is asked for again.
        """
        most = MOST if count is None else whole("number of samples", count, 1, MOST)
        using = self.models.using("reward")
        if using.model is None or using.run is None:
            raise ValueError(using.problem)
        lacking = self.store.foreseen.missing(using.run, self.models.diffuser().revision)
        ids, halt = lacking[:most], asked(stop)
        compared = looked = 0
        if on_progress:
            on_progress(0, len(ids))
        for at in range(0, len(ids), self.settings.batch):
            if halt():
                break
            batch = ids[at : at + self.settings.batch]
            apart = gpu.apart()
            with contextlib.nullcontext() if apart else self.models.lock:
                figures = self._foresee_apart(batch) if apart else self._figures(batch)
            self.store.foreseen.keep(figures, using.run)
            compared, looked = compared + len(figures), looked + len(batch)
            if on_progress:
                on_progress(looked, len(ids))
        return {"compared": compared, "left_out": looked - compared, "missing": len(lacking) - looked}

    def _seconds(self, ids: list[str]) -> float:
        """How long a GPU is asked for to foresee samples."""
        return gpu.START + FORESEEN * len(ids)

    @gpu.on_gpu(_seconds)
    def _foresee_apart(
        self, ids: list[str], *, say: gpu.Say = gpu.unheard, stop: gpu.Asked = gpu.never
    ) -> dict[str, tuple[float, float, str]]:
        """`_figures` in the process that has the GPU."""
        return self._figures(ids)

    def _figures(self, ids: Sequence[str]) -> dict[str, tuple[float, float, str]]:
        """Gap, promise and the scorer's version, by sample."""
        scored = self.store.foreseen.seen_by_vlm(ids)
        rows = self.store.samples.find(ids=list(ids), limit=len(ids))
        noises, model = self._noises(rows), self.models.using("reward").model
        by_size: dict[tuple[int, int], list[dict[str, Any]]] = defaultdict(list)
        for row in rows:
            if row["id"] in noises and row["id"] in scored:
                by_size[row["height"], row["width"]].append(row)
        figures: dict[str, tuple[float, float, str]] = {}
        for same in by_size.values():
            text = encode(self.models.diffuser(), [row["prompt"] for row in same])
            _, words = predict(model, torch.stack([noises[row["id"]] for row in same]), text)
            for row, foreseen in zip(same, words, strict=True):
                scores = scored[row["id"]]["words"]
                both = [(value, scores[i]) for i, value in foreseen.items() if i in scores]
                gaps = [abs(9 * value - expected(score)) for value, score in both]
                if gaps and np.isfinite(gaps).all():
                    gap = min(9.0, float(np.mean(gaps)))
                    promise = float(np.mean([value * _unsure(score) for value, score in both]))
                    figures[row["id"]] = (gap, min(1.0, max(0.0, promise)), scored[row["id"]]["version"])
        return figures

    def _noises(self, rows: Sequence[Mapping[str, Any]]) -> dict[str, Tensor]:
        """The noise (C, H, W) that each image was made from, by sample; left out are samples whose noise was chosen among
        several, or whose projector is gone."""
        projected = [row for row in rows if row["projector_run"] and row["strength"] > 0]
        noises, diffuser = noises_of(self.models, self.store, projected), self.models.diffuser()
        for row in rows:
            if row["projector_run"] and row["strength"] > 0:
                continue
            (noise,) = draw([row["seed"]], diffuser.latent_shape(row["height"], row["width"]))
            if row["noise_sha256"] in (None, hashlib.sha256(noise.numpy().tobytes()).hexdigest()):
                noises[row["id"]] = noise
        return noises


def _unsure(score: Mapping[str, Any]) -> float:
    """The entropy of the scorer's distribution for a word, in [0, 1]; 0 for a mere digit."""
    return 0.0 if score["distribution"] is None else float(entropy(np.array(score["distribution"])))


class Foreseer:
    """Runs `foresee` in the background when an order needs it, and tells its progress."""

    def __init__(self, foreseeing: Foreseeing) -> None:
        self.foreseeing = foreseeing
        self.done = self.total = 0
        self.problem = ""
        self._lock, self._thread, self._first = threading.Lock(), threading.Thread(), threading.Event()
        self._looked: tuple[Any, float] | None = None  # the reward model in use then, and when

    def keep_up(self) -> None:
        """Start if there may be something to do. Returns at once; the first time, when there are some figures or after
        `FIRST` seconds."""
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
        """The progress as a sentence; '' where there is nothing to say."""
        if self.problem:
            return f"The reward model could not be asked. {self.problem}"
        if not self.busy:
            return ""
        if not self.total:
            return "The reward model is being asked about the images in the background."
        return (
            f"The reward model has been asked about {self.done:,} of {self.total:,} images; the others follow in the "
            "background."
        )

    def _work(self) -> None:
        self.done = self.total = 0
        self.problem = ""

        def on_progress(done: int, total: int) -> None:
            self.done, self.total = done, total
            if done:
                self._first.set()

        try:
            self.foreseeing.foresee(on_progress=on_progress)
        except Exception as error:  # noqa: BLE001 - the page shows it
            self.problem = sentence(error)
        finally:
            self._looked = (self._looked[0] if self._looked else None, time.monotonic())
            self._first.set()
