"""Scoring stored images: the part of `Studio` that asks the scorer and keeps what it says, and what it could not say."""

from __future__ import annotations

import contextlib
import logging
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from core import ranks
from core.scoring.endpoint import Unanswered
from core.scoring.scores import WordScore
from core.words import scored, units_of
from studio.images import gpu, pictures, shards
from studio.images.calibrated import events_for
from studio.images.making import Making
from studio.settings import Settings, is_address

log = logging.getLogger("studio")
Stop = Callable[[], bool] | threading.Event | None


def asked(stop: Stop) -> Callable[[], bool]:
    """Whether to stop, as a function, from a function, an event or None."""
    if stop is None:
        return lambda: False
    return stop.is_set if isinstance(stop, threading.Event) else stop


class Scoring:
    """Asks the scorer about stored images."""

    def __init__(self, making: Making) -> None:
        """making: takes over what other ranks have made and scored."""
        self.making = making
        self.settings, self.store, self.models = making.settings, making.store, making.models

    def score(
        self,
        sample_ids: Sequence[str] | None = None,
        on_progress: Callable[[int, int], None] | None = None,
        stop: Stop = None,
    ) -> int:
        """Score samples (all that this scorer has not scored where none are named) that have a word to score; how many
        were scored.

        Words without a readable answer are stored as missing. Where a scorer's server gave some images no answer, what
        it did answer is stored and Unanswered is raised: at once where the server is down, else at the end.
        """
        self.models.scorer()
        shards.merge(self.making)
        return self.score_here(sample_ids, on_progress, stop, lock=True)

    def score_here(
        self,
        sample_ids: Sequence[str] | None,
        on_progress: Callable[[int, int], None] | None = None,
        stop: Stop = None,
        lock: bool = False,
    ) -> int:
        """This process's share of `score`. lock: hold the models' lock while the scorer works."""
        scorer, halt, count, lost = self.models.scorer(), asked(stop), 0, None
        wanted = None if sample_ids is None else list(dict.fromkeys(sample_ids))
        rows = self.store.samples.find(
            ids=wanted, scorer_version=scorer.version, limit=10_000_000, newest=False
        )
        if wanted is not None and len(rows) < len(wanted):
            for id in wanted:
                self.store.samples.get(id)  # says so where there is none
        rows = [row for row in rows if row["image_path"] and scored(units_of(row))]
        total, named = len(rows), sample_ids is not None
        sharing = shards.Sharing(self.making, score_share, rows, self.settings.batch, halt, named=named)
        rows = sharing.mine
        for at in range(0, len(rows), self.settings.batch):
            if halt():
                break
            part, images = [], []
            for row in rows[at : at + self.settings.batch]:
                try:
                    images.append(pictures.read(self.settings.home / row["image_path"], row["image_sha256"]))
                    part.append(row)
                except ValueError as error:
                    if sample_ids is not None:
                        raise
                    log.warning("Not scored: %s", error)
            if not part:
                continue
            with self.models.lock if lock else contextlib.nullcontext():
                try:
                    found = self._read(images, part, halt)
                except Unanswered as error:
                    found, lost = error.found, error
                missing = list(getattr(scorer, "missing", None) or [{} for _ in part])
            events = score_events(scorer, part, found)
            made = {row["id"]: {name: row[name] for name in ("prompt", "word_rules")} for row in part}
            self.store.scores.add(events + self._calibrated([{**e, **made[e["sample"]]} for e in events]))
            self.store.missing.add(missing_notes(scorer, part, missing))
            count += sum(bool(words or gone) for words, gone in zip(found, missing, strict=True))
            if lost is not None and lost.down:
                break
            if on_progress:
                on_progress(min(at + self.settings.batch, len(rows)) + sharing.others(), total)
        count += sharing.end()
        if lost is not None:
            raise lost
        return count

    def _read(
        self, images: list[np.ndarray], rows: Sequence[Mapping[str, Any]], stop: Callable[[], bool]
    ) -> list[list[WordScore]]:
        """What the scorer says of images of samples; Unanswered, with what was answered, where its server does not answer."""
        prompts, rules = [row["prompt"] for row in rows], [row["word_rules"] for row in rows]
        if gpu.apart() and not is_address(self.settings.scorer):
            found, self.models.scorer().missing = self._read_apart(images, prompts, rules)
            return found
        return self.models.scorer().score(images, prompts, batch=self.settings.batch, stop=stop, rules=rules)

    @gpu.on_gpu(seconds=60)
    def _read_apart(
        self, images: list[np.ndarray], prompts: list[str], rules: list[int]
    ) -> tuple[list[list[WordScore]], Any]:
        """The same, and what could not be read, as the scorer that knows it stays where the GPU is."""
        scorer = self.models.scorer()
        found = scorer.score(images, prompts, batch=self.settings.batch, rules=rules)
        return found, getattr(scorer, "missing", None)

    def _calibrated(self, events: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
        """What the calibrator in use says of the words that were just scored; nothing where none is in use."""
        used = self.models.using("calibrator")
        if used.model is None:
            return []
        kinds = (self.store.runs.get(used.run)["metrics"] or {}).get("kinds", [])
        return events_for(used.model, kinds, used.run, events)


def score_share(
    settings: Settings, used: Mapping[str, Any], rows: list, size: int, *, stop: Any, named: bool
) -> None:
    """Score this rank's share of the samples; one that cannot be read is an error where the samples were named."""
    making = shards.follower(settings)
    making.store.runs.used, making.store.samples.rows = used, ranks.deal(rows, size)
    ids = [row["id"] for row in making.store.samples.rows] if named else None
    Scoring(making).score_here(ids, stop=shards.halting(settings, stop), lock=True)


def missing_notes(
    scorer: Any, rows: Sequence[Mapping[str, Any]], missing: Sequence[Mapping[int, str]]
) -> list[dict[str, Any]]:
    """The store's notes of the words of samples (rows) that the scorer gave no readable answer for; of *nothing else*
    only where the sample has it."""
    return [
        {
            "sample": row["id"],
            "word_index": index,
            "scorer": scorer.name[-200:],
            "scorer_version": scorer.version,
            "reason": reason,
        }
        for row, words in zip(rows, missing, strict=True)
        for index, reason in words.items()
        if index < row["n_words"]
    ]


def score_events(
    scorer: Any, rows: Sequence[Mapping[str, Any]], found: Sequence[Sequence[WordScore]]
) -> list[dict[str, Any]]:
    """The store's events for what the scorer said of samples (rows); of *nothing else* only where the sample has it."""
    events = []
    for row, words in zip(rows, found, strict=True):
        texts = {word.index: word.text for word in units_of(row)}
        events += [
            {
                "sample": row["id"],
                "word_index": word.word_index,
                "word": texts[word.word_index],
                "source": "vlm",
                "score": word.score,
                "distribution": word.distribution.tolist(),
                "features": None if word.hidden is None else word.hidden.tobytes(),
                "scorer": scorer.name[-200:],
                "scorer_version": scorer.version,
            }
            for word in words
            if word.word_index in texts
        ]
    return events
