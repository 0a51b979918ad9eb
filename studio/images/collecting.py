"""Collecting images: the part of `Studio` that makes many, in batches, and none twice."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from core import ranks
from core.training.loop import Stopped
from studio.images import shards
from studio.images.making import Making, Plan, sampler_of
from studio.images.models import Using
from studio.images.prompts import scorable, seeds_for
from studio.images.scoring import Stop, asked
from studio.images.views import GUIDANCE, STEPS, check_side
from studio.numbers import real, whole
from studio.settings import Settings

METHODS = ("none", "projected")


class Collecting:
    """Makes many images, in batches, and none twice."""

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

        steps, guidance, width, height: the settings' or the backbone's own where they are None. split None: that of
        the prompt. evaluation: seeds that no training ever meets.

        What is stored already is not made again, so a collection that was stopped goes on where it was. Several ranks
        share the work in batches.
        """
        count = whole("number of seeds", seeds_per_prompt, 1, 1000)
        own = self.models.sampling()
        steps = whole("number of steps", own["steps"] if steps is None else steps, *STEPS)
        guidance = real("guidance", own["guidance"] if guidance is None else guidance, *GUIDANCE)
        width, height = check_side("width", width), check_side("height", height)
        strength, batch = (
            real("strength", strength, 0, 1),
            whole("batch", batch or self.settings.batch, 1, 1024),
        )
        first = whole("first seed", first_seed, 0, 2**29)
        if method not in METHODS:
            raise ValueError(f"The method {method!r} is not known: choose one of {', '.join(METHODS)}.")
        prompts = list(dict.fromkeys(scorable(prompt) for prompt in prompts))
        if not prompts:
            raise ValueError("There is no prompt: give at least one.")
        diffuser = self.models.diffuser()
        projector = self.models.using("projector") if method == "projected" else Using()
        if method == "projected" and projector.model is None:
            raise ValueError(projector.problem)
        height, width = height or diffuser.size[0], width or diffuser.size[1]
        wanted = [(p, s) for p in prompts for s in seeds_for(p, count, evaluation, first)]
        known = {
            "method": method, "strength": strength if method == "projected" else 0.0, "steps": steps,
            "guidance": guidance, "height": height, "width": width, "backbone": diffuser.name[-200:],
            "backbone_revision": diffuser.revision, "sampler": sampler_of(diffuser),
            "projector_run": projector.run,
        }  # fmt: skip
        shards.merge(self.making)
        there, halt = self._there(prompts, known), asked(stop)
        todo = [pair for pair in wanted if pair not in there]
        done = len(wanted) - len(todo)
        if on_progress:
            on_progress(done, len(wanted))
        how = {
            "method": method, "strength": strength, "steps": steps, "guidance": guidance, "height": height,
            "width": width, "prompt_set": prompt_set, "split": split,
        }  # fmt: skip
        sharing = shards.Sharing(self.making, make_share, todo, batch, halt, **how)

        def on_part(made: int) -> None:
            if on_progress:
                on_progress(done + made + sharing.others(), len(wanted))

        there |= self.collect_here(sharing.mine, batch, **how, halt=halt, on_part=on_part)
        if sharing.end():
            there = self._there(prompts, known)
        return [there[pair] for pair in wanted if pair in there]

    def _there(self, prompts: Sequence[str], known: Mapping[str, Any]) -> dict[tuple[str, int], str]:
        """The stored samples of prompts that are as `known` has them: their ids by prompt and seed."""
        there = {}
        for at in range(0, len(prompts), 200):
            found = self.store.samples.find(
                prompt=prompts[at : at + 200], method=known["method"], limit=1_000_000
            )
            for old in found:
                if old["image_path"] and all(old[name] == value for name, value in known.items()):
                    there[old["prompt"], old["seed"]] = old["id"]
        return there

    def collect_here(
        self,
        todo: Sequence[tuple[str, int]],
        batch: int,
        method: str,
        strength: float,
        steps: int,
        guidance: float,
        height: int,
        width: int,
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
                [p for p, _ in part], [s for _, s in part], [method] * len(part), strength, steps, guidance,
                height, width,
            )  # fmt: skip
            try:
                with self.models.lock:
                    noise, images = self.making.make(plan, projector, None, halt)
            except Stopped:
                break
            ids = self.making.keep(plan, projector, noise, images, prompt_set, split)
            made.update(zip(part, ids, strict=True))
            on_part(len(made))
        return made


def make_share(
    settings: Settings, used: Mapping[str, Any], todo: list, size: int, *, stop: Any, **how: Any
) -> None:
    """Make this rank's share of the images (prompt and seed each) of `Collecting.collect`."""
    making = shards.follower(settings)
    making.store.runs.used, making.store.samples.rows = used, ()
    Collecting(making).collect_here(ranks.deal(todo, size), size, halt=shards.halting(settings, stop), **how)
