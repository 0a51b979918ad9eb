"""The scores of stored images: what the scorer (a VLM) says of their words, and what a calibrator makes of it."""

from __future__ import annotations

import contextlib
import logging
import threading
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import Any

import numpy as np

from core import ranks
from core.progress import Stopped
from core.scoring.calibrator import Calibrator
from core.scoring.endpoint import EndpointScorer, Unanswered
from core.scoring.scores import WordScore
from core.scoring.vlm import VLMScorer
from core.words import CURRENT, EXTRA, NOTHING_ELSE, scored, units, units_of
from studio.images import gpu, pictures, shards
from studio.images.making import Making
from studio.settings import Settings, is_address

log = logging.getLogger("studio")
READ = 1.0  # seconds that a GPU is asked for an image's words: a scorer of 7B parameters takes about .3
Row = Mapping[str, Any]  # of the store
Stop = Callable[[], bool] | threading.Event | None


def asked(stop: Stop) -> Callable[[], bool]:
    """A function that says whether to stop, from a function, an event or None."""
    if stop is None:
        return lambda: False
    return stop.is_set if isinstance(stop, threading.Event) else stop


# ---- the scorer ---------------------------------------------------------------------------------------------------


class Scoring:
    """Word scores of stored images by the scorer."""

    def __init__(self, making: Making) -> None:
        self.making = making  # takes over what other ranks have made and scored
        self.settings, self.store, self.models = making.settings, making.store, making.models

    def score(
        self,
        sample_ids: Sequence[str] | None = None,
        on_progress: Callable[[int, int], None] | None = None,
        stop: Stop = None,
    ) -> int:
        """Score samples that have a word to score (without names, all that this scorer has not scored); how many.

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
        scorer, halt, count = self.models.scorer(), asked(stop), 0
        unanswered: Unanswered | None = None
        wanted = None if sample_ids is None else list(dict.fromkeys(sample_ids))
        version = scorer.version
        rows = self.store.samples.find(ids=wanted, scorer_version=version, limit=10_000_000, newest=False)
        if wanted is not None and len(rows) < len(wanted):
            for id in wanted:
                self.store.samples.get(id)  # ValueError where there is none
        rows = [row for row in rows if row["image_path"] and scored(units_of(row))]
        total, named = len(rows), sample_ids is not None
        sharing = shards.Sharing(self.making, score_share, rows, self.settings.batch, halt, named=named)
        rows = sharing.mine
        for at in range(0, len(rows), self.settings.batch):
            if halt():
                break
            batch, images = [], []
            for row in rows[at : at + self.settings.batch]:
                try:
                    images.append(pictures.read(self.settings.home / row["image_path"], row["image_sha256"]))
                    batch.append(row)
                except ValueError as error:
                    if named:
                        raise
                    log.warning("Not scored: %s", error)
            if not batch:
                continue
            with self.models.lock if lock else contextlib.nullcontext():
                try:
                    scores = self._read(images, batch, halt)
                except Unanswered as error:
                    scores, unanswered = error.scores, error
                except Stopped:
                    break
                missing = list(getattr(scorer, "missing", None) or [{} for _ in batch])
            events = score_events(scorer, batch, scores)
            by_id = {row["id"]: {name: row[name] for name in ("prompt", "word_rules")} for row in batch}
            self.store.scores.add(events + self._calibrated([{**e, **by_id[e["sample"]]} for e in events]))
            self.store.missing.add(missing_notes(scorer, batch, missing))
            count += sum(bool(words or gone) for words, gone in zip(scores, missing, strict=True))
            if unanswered is not None and unanswered.down:
                break
            if on_progress:
                on_progress(min(at + self.settings.batch, len(rows)) + sharing.others(), total)
        count += sharing.end()
        if unanswered is not None:
            raise unanswered
        return count

    def _read(
        self, images: list[np.ndarray], rows: Sequence[Row], stop: Callable[[], bool]
    ) -> list[list[WordScore]]:
        """The scores of images of samples; Unanswered, with those of answered images, where the server does not answer."""
        prompts, rules = [row["prompt"] for row in rows], [row["word_rules"] for row in rows]
        if gpu.apart() and not is_address(self.settings.scorer):
            scorer = self.models.scorer()
            try:
                scores, scorer.missing = self._read_apart(images, prompts, rules, stop=stop)
            except ValueError as error:  # no GPU is lent: the images are there, and can be scored later
                scorer.missing = [{} for _ in images]
                raise Unanswered(str(error), [[] for _ in images], down=True) from error
            return scores
        return self.models.scorer().score(images, prompts, batch=self.settings.batch, stop=stop, rules=rules)

    def _seconds(self, images: list[np.ndarray], *_: Any) -> float:
        """How long a GPU is asked for to read images."""
        return gpu.START + READ * len(images)

    @gpu.on_gpu(_seconds)
    def _read_apart(
        self,
        images: list[np.ndarray],
        prompts: list[str],
        rules: list[int],
        *,
        say: gpu.Say = gpu.unheard,
        stop: gpu.Asked = gpu.never,
    ) -> tuple[list[list[WordScore]], Any]:
        """`_read` in the process that has the GPU; with what was missing, as this process's scorer does not know it."""
        scorer = self.models.scorer()
        scores = scorer.score(images, prompts, batch=self.settings.batch, stop=stop, rules=rules)
        return scores, getattr(scorer, "missing", None)

    def _calibrated(self, events: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
        """The calibrator's events for words that were just scored; none where no calibrator is in use."""
        using = self.models.using("calibrator")
        if using.model is None or using.run is None:
            return []
        kinds = (self.store.runs.get(using.run)["metrics"] or {}).get("kinds", [])
        return events_for(using.model, kinds, using.run, events)


def score_share(
    settings: Settings,
    used: Mapping[str, Any],
    rows: list,
    size: int,
    *,
    stop: Callable[[], bool] | None,
    named: bool,
) -> None:
    """Score this rank's share of the samples; one that cannot be read is an error where the samples were named."""
    rows = ranks.deal(rows, size)
    scoring = Scoring(shards.follower(settings, used, rows))
    ids = [row["id"] for row in rows] if named else None
    scoring.score_here(ids, stop=shards.halting(settings, stop), lock=True)


def missing_notes(
    scorer: VLMScorer | EndpointScorer, rows: Sequence[Row], missing: Sequence[Mapping[int, str]]
) -> list[dict[str, Any]]:
    """The store's notes of the words of samples (rows) that the scorer gave no readable answer for; of *nothing else*
    only where the sample has it."""
    source = {"scorer": scorer.name[-200:], "scorer_version": scorer.version}
    return [
        {"sample": row["id"], "word_index": index, "reason": reason, **source}
        for row, words in zip(rows, missing, strict=True)
        for index, reason in words.items()
        if index < row["n_words"]
    ]


def score_events(
    scorer: VLMScorer | EndpointScorer, rows: Sequence[Row], scores: Sequence[Sequence[WordScore]]
) -> list[dict[str, Any]]:
    """The store's events for the scores of samples (rows); of *nothing else* only where the sample has it."""
    source = {"source": "vlm", "scorer": scorer.name[-200:], "scorer_version": scorer.version}
    events = []
    for row, words in zip(rows, scores, strict=True):
        texts = {word.index: word.text for word in units_of(row)}
        events += [
            {
                "sample": row["id"],
                "word_index": word.word_index,
                "word": texts[word.word_index],
                "score": word.score,
                "distribution": word.distribution.tolist(),
                "features": None if word.hidden is None else word.hidden.tobytes(),
                **source,
            }
            for word in words
            if word.word_index in texts
        ]
    return events


# ---- the calibrator -----------------------------------------------------------------------------------------------


@lru_cache(maxsize=65536)
def kinds_of(prompt: str, rules: int = CURRENT) -> tuple[str, ...]:
    """The kind of every word of a prompt, by its index, and extra for *nothing else* after them."""
    return tuple(word.kind for word in units(prompt, rules))


def kind_of(row: Row) -> str | None:
    """The kind of a label's word; None past the prompt's end, as an imported store may count words in another way."""
    kinds = kinds_of(row["prompt"], row["word_rules"])
    kind = kinds[row["word_index"]] if row["word_index"] < len(kinds) else None
    return None if kind == EXTRA and row["word"] not in ("", NOTHING_ELSE) else kind


def hidden_of(event: Row) -> np.ndarray | None:
    """The scorer's hidden state (F,) of a word, where it was kept."""
    return np.frombuffer(event["features"], np.float16).astype(np.float64) if event["features"] else None


def events_for(
    model: Calibrator, kinds: Sequence[str], name: str, rows: Sequence[Row]
) -> list[dict[str, Any]]:
    """Score events of source 'calibrated' for the scorer's own (as `store.labels.vlm_scores` gives them). name: the
    calibrator's run; kinds: of the words that it is used for."""
    usable = [
        row
        for row in rows
        if row["scorer_version"] == model.scorer
        and row["distribution"] is not None
        and kind_of(row) in kinds
        and (row["features"] or not model.report["hidden"])
    ]
    if not usable:
        return []
    states = [state for state in map(hidden_of, usable) if state is not None]
    distributions = np.array([row["distribution"] for row in usable])
    hidden = np.stack(states) if model.report["hidden"] else None
    calibrated = model.apply(distributions, hidden, [kind for kind in map(kind_of, usable) if kind])
    return [
        {
            "sample": row["sample"],
            "word_index": row["word_index"],
            "word": row["word"],
            "source": "calibrated",
            "score": int(p.argmax()),
            "distribution": p.tolist(),
            "scorer": name,
            "scorer_version": f"{name}/{row['scorer_version']}"[:200],
        }
        for row, p in zip(usable, calibrated, strict=True)
    ]
