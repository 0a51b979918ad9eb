"""Collecting: many images in batches, none made twice, shared out among ranks."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import groupby
from typing import Any

from core import ranks
from core.progress import Stopped
from studio.images import shards
from studio.images.making import Making, Plan, made_with
from studio.images.models import Using
from studio.images.options import SamplingOptions, default_options
from studio.images.prompts import scorable, seeds_for
from studio.images.scoring import Stop, asked
from studio.images.views import GUIDANCE, STEPS, check_side
from studio.numbers import real, whole
from studio.settings import Settings


class Collecting:
    """Sampling of many images in batches, none of them twice."""

    def __init__(self, making: Making) -> None:
        self.making = making
        self.settings, self.store, self.models = making.settings, making.store, making.models

    def collect(
        self,
        prompts: Sequence[str],
        seeds_per_prompt: int = 1,
        method: str = "none",
        *,
        steps: int | None = None,
        guidance: float | None = None,
        width: int | None = None,
        height: int | None = None,
        options: SamplingOptions | None = None,
        typed: Mapping[str, str] | None = None,
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

        steps, guidance, width, height, options: None for those of the settings or the backbone. typed: the prompts with weights
        as they were typed, by the plain ones; then a batch has images of one prompt. split: None for that of the
        prompt. evaluation: seeds that no training uses.

        Stored images are not made again, so a stopped collection resumes when it is asked for again. Several ranks share
        the work in batches.
        """
        count = whole("number of seeds", seeds_per_prompt, 1, 1000)
        sampling = self.models.sampling()
        steps = whole("number of steps", sampling["steps"] if steps is None else steps, *STEPS)
        guidance = real("guidance", sampling["guidance"] if guidance is None else guidance, *GUIDANCE)
        width, height = check_side("width", width), check_side("height", height)
        strength = real("strength", strength, 0, 1)
        batch = whole("batch", batch or self.settings.batch, 1, 1024)
        first = whole("first seed", first_seed, 0, 2**29)
        if method not in ("none", "projected"):
            raise ValueError(f"The method {method!r} is not known: choose one of none, projected.")
        prompts = list(dict.fromkeys(scorable(prompt) for prompt in prompts))
        if not prompts:
            raise ValueError("There is no prompt: give at least one.")
        diffuser, projector = self.models.diffuser(), self._projector(method)
        height, width = height or diffuser.size[0], width or diffuser.size[1]
        wanted = [(p, s) for p in prompts for s in seeds_for(p, count, evaluation, first)]
        how: dict[str, Any] = {
            "method": method, "strength": strength, "steps": steps, "guidance": guidance, "height": height, "width": width,
        }  # fmt: skip
        options, typed = default_options(self.settings) if options is None else options, typed or {}
        same = {
            **how, **made_with(diffuser, options), "strength": strength if method == "projected" else 0.0,
            "projector_run": projector.run,
        }  # fmt: skip
        shards.merge(self.making)
        ids, halt = self._stored(prompts, same, typed), asked(stop)
        todo = [pair for pair in wanted if pair not in ids]
        done = len(wanted) - len(todo)
        if on_progress:
            on_progress(done, len(wanted))
        how |= {"prompt_set": prompt_set, "split": split, "options": options, "typed": typed}
        sharing = shards.Sharing(self.making, make_share, todo, batch, halt, **how)

        def on_part(made: int) -> None:
            if on_progress:
                on_progress(done + made + sharing.others(), len(wanted))

        ids |= self.collect_here(sharing.mine, batch, **how, halt=halt, on_part=on_part)
        if sharing.end():
            ids = self._stored(prompts, same, typed)
        return [ids[pair] for pair in wanted if pair in ids]

    def _projector(self, method: str) -> Using:
        using = self.models.using("projector") if method == "projected" else Using()
        if method == "projected" and using.model is None:
            raise ValueError(using.problem)
        return using

    def _stored(
        self, prompts: Sequence[str], same: Mapping[str, Any], typed: Mapping[str, str]
    ) -> dict[tuple[str, int], str]:
        """The ids of stored images of prompts by prompt and seed. same: columns that they must have; typed: prompts with
        weights, by the plain ones."""
        ids = {}
        for at in range(0, len(prompts), 200):
            some = prompts[at : at + 200]
            for row in self.store.samples.find(prompt=some, method=same["method"], limit=1_000_000):
                wanted = {**same, "weighted": typed.get(row["prompt"], "")}
                if row["image_path"] and all(row[name] == value for name, value in wanted.items()):
                    ids[row["prompt"], row["seed"]] = row["id"]
        return ids

    def collect_here(
        self,
        todo: Sequence[tuple[str, int]],
        batch: int,
        method: str,
        *,
        prompt_set: str,
        split: str | None,
        options: SamplingOptions,
        typed: Mapping[str, str],
        halt: Callable[[], bool],
        on_part: Callable[[int], None] = lambda made: None,
        **sampling: Any,
    ) -> dict[tuple[str, int], str]:
        """Make and store images of prompts with a seed each, batch by batch; the samples' ids. sampling: the settings of a
        `Plan`. on_part gets how many are made."""
        projector = self._projector(method)
        made: dict[tuple[str, int], str] = {}
        for pairs in batches(todo, batch, typed):
            weighted = replace(options, weighted=typed.get(pairs[0][0], ""))
            plan = Plan(
                [p for p, _ in pairs],
                [s for _, s in pairs],
                [method] * len(pairs),
                options=weighted,
                **sampling,
            )
            try:
                with self.models.lock:
                    noise, images = self.making.make(plan, projector, None, halt)
            except Stopped:
                break
            ids = self.making.keep(plan, projector, noise, images, prompt_set, split)
            made.update(zip(pairs, ids, strict=True))
            on_part(len(made))
        return made


def batches(
    todo: Sequence[tuple[str, int]], size: int, typed: Mapping[str, str]
) -> Iterator[list[tuple[str, int]]]:
    """Prompts with a seed each in batches; those of a prompt with weights have no other prompt in them."""
    for _, alike in groupby(todo, lambda pair: typed.get(pair[0], "")):
        pairs = list(alike)
        yield from (pairs[at : at + size] for at in range(0, len(pairs), size))


def make_share(
    settings: Settings,
    used: Mapping[str, Any],
    todo: list[tuple[str, int]],
    size: int,
    *,
    stop: Callable[[], bool] | None,
    **how: Any,
) -> None:
    """Make this rank's share of the images (prompt and seed each) of `Collecting.collect`."""
    collecting = Collecting(shards.follower(settings, used))
    collecting.collect_here(ranks.deal(todo, size), size, halt=shards.halting(settings, stop), **how)
