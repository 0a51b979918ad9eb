"""A comparison: images of the same seeds, plain and by projected or chosen noise, scored, told step by step."""

from __future__ import annotations

import contextvars
import logging
import queue
import threading
from collections.abc import Callable, Iterator
from typing import Any

from torch import Tensor

from core.scoring.endpoint import Unanswered
from core.training.loop import Stopped
from core.words import advice, check_prompt
from studio.annotation.labelling import Annotation
from studio.grids.axes import Variant
from studio.grids.cells import Cells, Ways, chosen
from studio.images.making import Plan
from studio.images.models import Using
from studio.images.scoring import Scoring, asked
from studio.images.views import (
    CompareUpdate,
    Pair,
    Request,
    SampleView,
    WordView,
    unknown_words,
    word_views,
)

log = logging.getLogger("studio")


class Comparison:
    """Compares images of the same seeds, plain and by projected or chosen noise."""

    def __init__(self, annotation: Annotation, scoring: Scoring, cells: Cells) -> None:
        self.annotation, self.scoring, self.cells = annotation, scoring, cells
        self.making, self.models = scoring.making, scoring.models

    def describe_words(self, prompt: str) -> list[WordView]:
        """The words of a prompt without scores, with their seen and known flags. Loads the diffuser."""
        return word_views(check_prompt(prompt), self.models.diffuser())

    def compare(self, request: Request, stop: threading.Event | None = None) -> Iterator[CompareUpdate]:
        """none and projected (or the best of several noises) of all seeds in one batch; ends with stage 'done' or
        'stopped'.

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

        # in the context of who asks: a Space reads from it on whose account a GPU is lent
        context = contextvars.copy_context()
        threading.Thread(target=context.run, args=(work,), name="compare", daemon=True).start()
        try:
            while (update := updates.get()) is not None:
                if isinstance(update, BaseException):
                    raise update
                yield update
        finally:
            gone.set()

    def _compare(self, request: Request, stop: Callable[[], bool], emit: Callable[[Any], None]) -> None:
        emit(CompareUpdate("encode", message="Reading the prompt."))
        diffuser, projects = self.models.diffuser(), request.noise == "projected"
        projector = self.models.using("projector") if projects else Using()
        wanted, notes = self._second(request, projector)
        notes += [*advice(request.prompt), *unknown_words(self.describe_words(request.prompt))]
        message = " ".join(notes)
        # a seed whose own noise was chosen has one image
        asked = list(dict.fromkeys([*((seed, "none") for seed in request.seeds), *wanted]))
        plan = Plan(
            [request.prompt] * len(asked),
            [seed for seed, _ in asked],
            [method for _, method in asked],
            request.strength,
            request.steps,
            request.guidance,
            request.height,
            request.width,
        )
        others = [asked.index(one) for one in wanted]

        def on_step(step: int, total: int, latents: Tensor) -> None:
            small = diffuser.preview(latents)
            # at strength 0 both are one
            second = [small[i % len(small)] for i in others] or [None] * len(request.seeds)
            pairs = [(small[i], second[i]) for i in range(len(request.seeds))]
            emit(CompareUpdate("denoise", step, total, pairs, message=message))

        emit(CompareUpdate("denoise", 0, request.steps, message=message))
        try:
            noise, images = self.making.make(plan, projector, on_step, stop)
        except Stopped:
            emit(CompareUpdate("stopped", message="Stopped; nothing of this comparison was kept."))
            return
        kept = self.making.keep(plan, projector, noise, images, prompt_set="compare")
        ids = [*kept[: len(request.seeds)], *(kept[i] for i in others)]
        emit(CompareUpdate("decode", request.steps, request.steps, None, self._pairs(request, ids), message))
        emit(CompareUpdate("score", request.steps, request.steps, None, self._pairs(request, ids), message))
        try:
            self.scoring.score_here(kept, stop=stop)
        except Unanswered as error:  # the images are there, and can be scored later
            message = f"{message} {error}".strip()
        pairs = self._pairs(request, ids)
        if stop():
            emit(
                CompareUpdate(
                    "stopped", request.steps, request.steps, None, pairs, "Stopped; the images are kept."
                )
            )
            return
        emit(CompareUpdate("done", request.steps, request.steps, None, pairs, message))

    def _second(self, request: Request, projector: Using) -> tuple[list[tuple[int, str]], list[str]]:
        """Seed and method of each second image, and how the noise was chosen; none, and why, without the model."""
        if request.noise == "projected":
            if projector.model is None:
                return [], [projector.problem]
            return [(seed, "projected") for seed in request.seeds], []
        reward = self.models.using("reward")
        if reward.model is None:
            return [], [reward.problem]
        ways, variant = (
            Ways(self.models, self.making.store),
            Variant(request.noise, request.noise, reward.run or ""),
        )
        size = self.models.diffuser().size
        height, width = request.height or size[0], request.width or size[1]
        seeds = chosen(self.cells, request.prompt, request.seeds, variant, height, width, ways)
        return [(seed, "none") for seed in seeds], [f"The noise was chosen by {ways.chosen_by(variant)}."]

    def _pairs(self, request: Request, ids: list[str]) -> list[Pair]:
        views: list[SampleView | None] = [self.annotation.sample(id) for id in ids]
        count = len(request.seeds)
        views += [None] * (2 * count - len(views))
        return [Pair(seed, views[i], views[count + i]) for i, seed in enumerate(request.seeds)]
