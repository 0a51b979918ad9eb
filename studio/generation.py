"""Making images and scoring them: compare, collect, score."""

from __future__ import annotations

import contextlib
import logging
import queue
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from torch import Tensor

from core.scoring.scores import WordScore
from core.scoring.vlm import VLMScorer
from core.training.loop import Stopped
from core.words import check_prompt, split
from studio import calibration, pictures, shards
from studio.checks import real, whole
from studio.making import Making, Plan, sampler_of
from studio.models import Using
from studio.prompts import seeds_for
from studio.views import (
    CompareUpdate,
    Pair,
    Request,
    SampleView,
    WordView,
    unknown_words,
    word_views,
)

log = logging.getLogger("studio")
Stop = Callable[[], bool] | threading.Event | None
METHODS = ("none", "projected")


def asked(stop: Stop) -> Callable[[], bool]:
    """Whether to stop, as a function, from a function, an event or None."""
    if stop is None:
        return lambda: False
    return stop.is_set if isinstance(stop, threading.Event) else stop


class Generation(Making):
    """The part of `Studio` that makes and scores images."""

    def describe_words(self, prompt: str) -> list[WordView]:
        """The words of a prompt without scores, with their seen and known flags. Loads the diffuser."""
        return word_views(check_prompt(prompt), self.models.diffuser())

    def compare(self, request: Request, stop: threading.Event | None = None) -> Iterator[CompareUpdate]:
        """none and projected of all seeds in one batch; ends with stage 'done' or 'stopped'.

        The work goes on in a thread of its own; an iterator that is closed stops it after the step it is in.
        """
        updates: queue.SimpleQueue[CompareUpdate | BaseException | None] = queue.SimpleQueue()
        gone = threading.Event()

        def halt() -> bool:
            return gone.is_set() or asked(stop)()

        def work() -> None:
            try:
                with self.models.lock:
                    self._compare(request, halt, updates.put)
            except BaseException as error:  # noqa: BLE001 - it is raised again where the page waits
                updates.put(error)
            finally:
                updates.put(None)

        threading.Thread(target=work, name="compare", daemon=True).start()
        try:
            while (update := updates.get()) is not None:
                if isinstance(update, BaseException):
                    raise update
                yield update
        finally:
            gone.set()

    def _compare(self, request: Request, stop: Callable[[], bool], emit: Callable[[Any], None]) -> None:
        emit(CompareUpdate("encode", message="Reading the prompt."))
        diffuser, projector = self.models.diffuser(), self.models.using("projector")
        count = len(request.seeds)
        methods = list(METHODS) if projector.model is not None else ["none"]
        notes = [projector.problem] if projector.model is None else []
        notes += unknown_words(self.describe_words(request.prompt))
        message = " ".join(notes)
        plan = Plan(
            [request.prompt] * count * len(methods),
            request.seeds * len(methods),
            [method for method in methods for _ in range(count)],
            request.strength,
            request.steps,
            request.guidance,
            request.height,
            request.width,
        )

        def on_step(step: int, total: int, latents: Tensor) -> None:
            small = diffuser.preview(latents)
            pairs = [
                (small[i], small[(count + i) % len(small)] if len(methods) == 2 else None)
                for i in range(count)
            ]
            emit(CompareUpdate("denoise", step, total, pairs, message=message))

        emit(CompareUpdate("denoise", 0, request.steps, message=message))
        try:
            noise, images = self._make(plan, projector, on_step, stop)
        except Stopped:
            emit(CompareUpdate("stopped", message="Stopped; nothing of this comparison was kept."))
            return
        ids = self._keep(plan, projector, noise, images, prompt_set="compare")
        emit(CompareUpdate("decode", request.steps, request.steps, None, self._pairs(request, ids), message))
        emit(CompareUpdate("score", request.steps, request.steps, None, self._pairs(request, ids), message))
        self._score(ids, stop=stop)
        pairs = self._pairs(request, ids)
        if stop():
            emit(
                CompareUpdate(
                    "stopped", request.steps, request.steps, None, pairs, "Stopped; the images are kept."
                )
            )
            return
        emit(CompareUpdate("done", request.steps, request.steps, None, pairs, message))

    def _pairs(self, request: Request, ids: list[str]) -> list[Pair]:
        views: list[SampleView | None] = [self.sample(id) for id in ids]
        count = len(request.seeds)
        views += [None] * (2 * count - len(views))
        return [Pair(seed, views[i], views[count + i]) for i, seed in enumerate(request.seeds)]

    def collect(
        self,
        prompts: Sequence[str],
        seeds_per_prompt: int = 1,
        method: str = "none",
        *,
        steps: int = 20,
        guidance: float = 4.0,
        strength: float = 1.0,
        batch: int | None = None,
        prompt_set: str = "",
        split: str | None = None,
        first_seed: int = 0,
        evaluation: bool = False,
        on_progress: Callable[[int, int], None] | None = None,
        stop: Stop = None,
    ) -> list[str]:
        """Make `seeds_per_prompt` images of every prompt with each prompt's own seeds; the samples' ids in order.

        split None: that of the prompt. evaluation: seeds that no training ever meets.

        What is stored already is not made again, so a collection that was stopped goes on where it was. Several ranks
        share the work in batches.
        """
        count = whole("number of seeds", seeds_per_prompt, 1, 1000)
        steps, guidance = whole("number of steps", steps, 1, 100), real("guidance", guidance, 0, 20)
        strength, batch = (
            real("strength", strength, 0, 1),
            whole("batch", batch or self.settings.batch, 1, 1024),
        )
        first = whole("first seed", first_seed, 0, 2**29)
        if method not in METHODS:
            raise ValueError(f"The method {method!r} is not known: choose one of {', '.join(METHODS)}.")
        prompts = [check_prompt(prompt) for prompt in dict.fromkeys(prompts)]
        if not prompts:
            raise ValueError("There is no prompt: give at least one.")
        diffuser = self.models.diffuser()
        projector = self.models.using("projector") if method == "projected" else Using()
        if method == "projected" and projector.model is None:
            raise ValueError(projector.problem)
        size = diffuser.default_size
        wanted = [(p, s) for p in prompts for s in seeds_for(p, count, evaluation, first)]
        known = {
            "method": method, "strength": strength if method == "projected" else 0.0, "steps": steps,
            "guidance": guidance, "height": size, "width": size, "backbone": diffuser.name[-200:],
            "backbone_revision": diffuser.revision, "sampler": sampler_of(diffuser),
            "projector_run": projector.run,
        }  # fmt: skip
        shards.merge(self)
        there, halt = self._there(prompts, known), asked(stop)
        todo = [pair for pair in wanted if pair not in there]
        done = len(wanted) - len(todo)
        if on_progress:
            on_progress(done, len(wanted))
        how = {
            "method": method, "strength": strength, "steps": steps, "guidance": guidance,
            "prompt_set": prompt_set, "split": split,
        }  # fmt: skip
        sharing = shards.Sharing(self, shards.make, todo, batch, halt, **how)

        def on_part(made: int) -> None:
            if on_progress:
                on_progress(done + made + sharing.others(), len(wanted))

        there |= self._collect(sharing.mine, batch, **how, halt=halt, on_part=on_part)
        if sharing.end():
            there = self._there(prompts, known)
        return [there[pair] for pair in wanted if pair in there]

    def _there(self, prompts: Sequence[str], known: Mapping[str, Any]) -> dict[tuple[str, int], str]:
        """The stored samples of prompts that are as `known` has them: their ids by prompt and seed."""
        there = {}
        for at in range(0, len(prompts), 200):
            found = self.store.samples(prompt=prompts[at : at + 200], method=known["method"], limit=1_000_000)
            for old in found:
                if old["image_path"] and all(old[name] == value for name, value in known.items()):
                    there[old["prompt"], old["seed"]] = old["id"]
        return there

    def _collect(
        self,
        todo: Sequence[tuple[str, int]],
        batch: int,
        method: str,
        strength: float,
        steps: int,
        guidance: float,
        prompt_set: str,
        split: str | None,
        halt: Callable[[], bool],
        on_part: Callable[[int], None] = lambda made: None,
    ) -> dict[tuple[str, int], str]:
        """Make and keep images of prompts with a seed each, batch by batch; the samples' ids. on_part gets how many
        are made."""
        projector, made = self.models.using("projector") if method == "projected" else Using(), {}
        if method == "projected" and projector.model is None:
            raise ValueError(projector.problem)
        for at in range(0, len(todo), batch):
            part = todo[at : at + batch]
            plan = Plan(
                [p for p, _ in part], [s for _, s in part], [method] * len(part), strength, steps, guidance
            )
            try:
                with self.models.lock:
                    noise, images = self._make(plan, projector, None, halt)
            except Stopped:
                break
            ids = self._keep(plan, projector, noise, images, prompt_set, split)
            made.update(zip(part, ids, strict=True))
            on_part(len(made))
        return made

    def score(
        self,
        sample_ids: Sequence[str] | None = None,
        on_progress: Callable[[int, int], None] | None = None,
        stop: Stop = None,
    ) -> int:
        """Score samples (all that this scorer has not scored where none are named); how many were scored."""
        self.models.scorer()
        shards.merge(self)
        return self._score(sample_ids, on_progress, stop, lock=True)

    def _score(
        self,
        sample_ids: Sequence[str] | None,
        on_progress: Callable[[int, int], None] | None = None,
        stop: Stop = None,
        lock: bool = False,
    ) -> int:
        scorer, halt, scored = self.models.scorer(), asked(stop), 0
        wanted = None if sample_ids is None else list(dict.fromkeys(sample_ids))
        rows = self.store.samples(ids=wanted, scorer_version=scorer.version, limit=10_000_000, newest=False)
        if wanted is not None and len(rows) < len(wanted):
            for id in wanted:
                self.store.sample(id)  # says so where there is none
        rows = [row for row in rows if row["image_path"]]
        total, named = len(rows), sample_ids is not None
        sharing = shards.Sharing(self, shards.score, rows, self.settings.batch, halt, named=named)
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
                found = scorer.score(images, [row["prompt"] for row in part], batch=self.settings.batch)
            events = score_events(scorer, part, found)
            prompts = {row["id"]: row["prompt"] for row in part}
            self.store.add_scores(
                events + self._calibrated([{**e, "prompt": prompts[e["sample"]]} for e in events])
            )
            scored += len(part)
            if on_progress:
                on_progress(min(at + self.settings.batch, len(rows)) + sharing.others(), total)
        return scored + sharing.end()

    def _calibrated(self, events: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
        """What the calibrator in use says of the words that were just scored; nothing where none is in use."""
        used = self.models.using("calibrator")
        if used.model is None:
            return []
        kinds = (self.store.run(used.run)["metrics"] or {}).get("kinds", [])
        return calibration.events_for(used.model, kinds, used.run, events)


def score_events(
    scorer: VLMScorer, rows: Sequence[Mapping[str, Any]], found: Sequence[Sequence[WordScore]]
) -> list[dict[str, Any]]:
    """The store's events for what the scorer said of samples (rows)."""
    events = []
    for row, words in zip(rows, found, strict=True):
        texts = {word.index: word.text for word in split(row["prompt"])}
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
        ]
    return events
