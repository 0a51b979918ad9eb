"""A comparison: images of the same seeds, plain and by projected or chosen noise, scored, with updates step by step."""

from __future__ import annotations

import contextvars
import logging
import queue
import threading
from collections.abc import Callable, Iterator

import numpy as np

from core.progress import Stopped
from core.scoring.endpoint import Unanswered
from core.words import advice, check_prompt
from studio.annotation.labelling import Annotation
from studio.grids.axes import Variant
from studio.grids.grid import Cells, Ways
from studio.images.making import Plan
from studio.images.models import Using
from studio.images.options import SamplingOptions, default_options
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

        The work runs in a thread of its own; closing the iterator stops it after the step it is in.
        """
        updates: queue.SimpleQueue[CompareUpdate | BaseException | None] = queue.SimpleQueue()
        closed, stopped = threading.Event(), asked(stop)

        def halt() -> bool:
            return closed.is_set() or stopped()

        def work() -> None:
            try:
                with self.models.lock:
                    self._compare(request, halt, updates.put)
            except BaseException as error:  # noqa: BLE001 - raised again in the page's thread
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
            closed.set()

    def _compare(
        self, request: Request, stop: Callable[[], bool], emit: Callable[[CompareUpdate], None]
    ) -> None:
        emit(CompareUpdate("encode", message="Reading the prompt."))
        projects = request.noise == "projected"
        projector = self.models.using("projector") if projects else Using()
        options = default_options(self.models.settings) if request.options is None else request.options
        second, notes = self._second(request, projector, options)
        notes += [
            *options.notes(projected=bool(second) and projects),
            *advice(request.prompt),
            *unknown_words(self.describe_words(request.prompt)),
        ]
        message = " ".join(filter(None, notes))
        # a seed whose own noise was chosen has one image
        images_of = list(dict.fromkeys([*((seed, "none") for seed in request.seeds), *second]))
        plan = Plan(
            [request.prompt] * len(images_of), [seed for seed, _ in images_of], [method for _, method in images_of],
            request.strength, request.steps, request.guidance, request.height, request.width, options,
        )  # fmt: skip
        others = [images_of.index(one) for one in second]

        def on_step(step: int, total: int, small: np.ndarray) -> None:
            # at strength 0 both are one image
            beside = [small[i % len(small)] for i in others] or [None] * len(request.seeds)
            pairs = [(small[i], beside[i]) for i in range(len(request.seeds))]
            emit(CompareUpdate("denoise", step, total, pairs, message=message))

        def update(stage: str, message: str) -> None:
            emit(CompareUpdate(stage, request.steps, request.steps, None, self._pairs(request, ids), message))

        emit(CompareUpdate("denoise", 0, request.steps, message=message))
        try:
            noise, images = self.making.make(plan, projector, on_step, stop)
        except Stopped:
            emit(CompareUpdate("stopped", message="Stopped; nothing of this comparison was kept."))
            return
        kept = self.making.keep(plan, projector, noise, images, prompt_set="compare")
        ids = [*kept[: len(request.seeds)], *(kept[i] for i in others)]
        update("decode", message)
        update("score", message)
        try:
            self.scoring.score_here(kept, stop=stop)
        except Unanswered as error:  # the images are stored, and can be scored later
            message = f"{message} {error}".strip()
        if stop():
            update("stopped", "Stopped; the images are kept.")
        else:
            update("done", message)

    def _second(
        self, request: Request, projector: Using, options: SamplingOptions
    ) -> tuple[list[tuple[int, str]], list[str]]:
        """Seed and method of each second image, and how its noise was chosen; none, and why, without the model."""
        if request.noise == "projected":
            if projector.model is None:
                return [], [projector.problem]
            return [(seed, "projected") for seed in request.seeds], [projector.warning]
        reward = self.models.using("reward")
        if reward.model is None:
            return [], [reward.problem]
        ways = Ways(self.models, self.making.store)
        variant = Variant(request.noise, request.noise, reward.run or "")
        height, width = self.models.diffuser().size
        size = (request.height or height, request.width or width)
        seeds = self.cells.chosen(request.prompt, request.seeds, variant, size, ways, options)
        said = [f"The noise was chosen by {ways.chosen_by(variant)}.", reward.warning]
        return [(seed, "none") for seed in seeds], said

    def _pairs(self, request: Request, ids: list[str]) -> list[Pair]:
        views = [self.annotation.sample(id) for id in ids]
        count = len(request.seeds)
        second: list[SampleView | None] = [*views[count:]] or [None] * count
        return [Pair(*pair) for pair in zip(request.seeds, views[:count], second, strict=True)]
