"""Making the images of a grid: small batches first, each image stored, scored and in its cell as it is made.

All variants of a seed start from the same noise, but those that choose one: first they choose, and what is made then is
a plain image of the seed that they chose, stored as such; the cell alone says that it was chosen. What the store has
already (the same prompt, seed, backbone, size, steps, guidance, method, strength and run) is not made again.
"""

from __future__ import annotations

import dataclasses
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from core import checkpoint
from core.evaluation.base import Method, Settings, Start
from core.loading import out_of_memory
from core.scoring.endpoint import Unanswered
from core.training.loop import Stopped
from data.store import Store
from studio.grids.axes import Variant, kind_of, without_projection
from studio.grids.worker import Job
from studio.images import gpu
from studio.images.making import Plan, encode, sampler_of
from studio.images.methods import BY_REWARD, REWARD, TEACHER, Makers, chooses, parse, without_choice
from studio.images.models import SHIPPED, Models, Using
from studio.images.scoring import Scoring

log = logging.getLogger("studio")
PROMPT_SET = "seeds"
PATIENCE = 5.0  # batches grow while one takes less than so many seconds
Halt = Callable[[], bool]


class Ways(Makers):
    """The methods of variants, each with the model of its own run, which is opened once."""

    def __init__(self, models: Models, store: Store) -> None:
        super().__init__(models, 1.0)
        self.store, self._using, self._made = store, {}, {}
        self._run = ""

    def using(self, variant: Variant) -> Using:
        """The model that a variant uses; ValueError where it is gone or is another one now."""
        if not variant.run:
            return Using()
        if variant.run not in self._using:
            kind = kind_of(variant.method)
            found, run = self.models.using(kind), self.store.runs.get(variant.run)
            if found.run != variant.run:
                found = self.models.of_run(kind, variant.run)
            if found.model is None:
                raise ValueError(found.problem)
            if (
                run["config"].get("source") == SHIPPED
                and checkpoint.digest(found.folder) != run["checkpoint_sha256"]
            ):
                raise ValueError(
                    f"The shipped {kind} is another one than when this grid was begun: start a new grid."
                )
            self._using[variant.run] = found
        return self._using[variant.run]

    def model(self, kind: str) -> Any:
        return self._using[self._run].model

    def teacher(self) -> Any:
        return self.models.teacher(self._using[self._run]).model

    def chosen_by(self, variant: Variant) -> str:
        """What chooses the noise of a variant."""
        self.using(variant)
        self._run = variant.run
        alone = BY_REWARD in dict(parse(variant.method))
        return REWARD if alone or self.teacher() is None else TEACHER

    def of(self, variant: Variant) -> Method:
        """The method of a variant."""
        key = (variant.method, variant.run, variant.strength)
        if key not in self._made:
            self.using(variant)
            self._run, self.strength = variant.run, variant.strength
            self._choosers = {}
            method: Method | None = None
            for part, number in reversed(parse(variant.method)):
                method = self.make(part, number, method)
            self._made[key] = method
        return self._made[key]


def work(cells: Cells, job: Job) -> None:
    """Make, store and score what a grid lacks. Raises Stopped."""
    config = cells.store.grids.get(job.id)["config"]
    variants = [Variant(**each) for each in config["variants"]]
    places = [(seed, variant) for seed in config["seeds"] for variant in variants]
    diffuser, ways = cells.models.diffuser(), Ways(cells.models, cells.store)
    height, width = config["height"] or diffuser.size[0], config["width"] or diffuser.size[1]
    for variant in variants:
        ways.of(variant).check(diffuser, Settings(variant.steps, variant.guidance, height, width))
    there = stored(cells, config["prompt"], places, height, width, cells.store.grids.cells(job.id))
    cells.store.grids.set_cells(job.id, there)
    todo = [place for place in range(len(places)) if place not in there]
    job.missing = len(todo)
    _score(cells, job, list(there.values()))
    size, most = 1, cells.settings.batch
    while todo:
        if job.halt():
            raise Stopped
        alike = [place for place in todo if together(places[place][1]) == together(places[todo[0]][1])]
        part, began = alike[:size], time.monotonic()
        try:
            ids = make(
                cells, config["prompt"], [places[place] for place in part], height, width, ways, job.halt
            )
        except Exception as error:
            if not out_of_memory(error) or len(part) == 1:
                raise
            size = most = len(part) // 2
            log.warning(
                "There is too little memory for %d images at a time: going on with %d.", len(part), size
            )
            torch.cuda.empty_cache()
            continue
        cells.store.grids.set_cells(job.id, dict(zip(part, ids, strict=True)))
        _score(cells, job, ids)
        todo = [place for place in todo if place not in part]
        seconds, job.missing = time.monotonic() - began, len(todo)
        job.paced(seconds, len(part))
        if seconds < PATIENCE:
            size = min(2 * size, most)


def together(variant: Variant) -> tuple:
    """Variants of which this is equal are denoised in one batch."""
    lora, method = "lora" in variant.method.split("+"), without_choice(variant.method)
    return variant.steps, variant.guidance, without_projection(method), variant.run if lora else ""


def stored(
    cells: Cells,
    prompt: str,
    places: Sequence[tuple[int, Variant]],
    height: int,
    width: int,
    known_cells: Mapping[int, str],
) -> dict[int, str]:
    """The samples that are there already, by their places: of equal ones that of the cell, else the oldest. Which seed a
    variant has chosen only its cell knows."""
    diffuser = cells.models.diffuser()
    ours = (height, width, diffuser.name[-200:], diffuser.revision, sampler_of(diffuser))

    def usable(row: Mapping[str, Any]) -> bool:
        size = (row["height"], row["width"], row["backbone"], row["backbone_revision"], row["sampler"])
        return size == ours and row["image_path"] and (cells.settings.home / row["image_path"]).is_file()

    known: dict[tuple, list[str]] = {}
    rows = cells.store.samples.find(
        prompt=prompt, seed=list({seed for seed, _ in places}), limit=1_000_000, newest=False
    )
    for row in filter(usable, rows):
        run, how = row["projector_run"] or "", (row["strength"], row["guidance"], row["steps"])
        known.setdefault((row["seed"], row["method"], run, *how), []).append(row["id"])
    choosing = [
        known_cells[at]
        for at, (_, variant) in enumerate(places)
        if chooses(variant.method) and at in known_cells
    ]
    chosen = {row["id"] for row in cells.store.samples.find(ids=choosing, limit=len(choosing)) if usable(row)}
    found = {}
    for place, (seed, variant) in enumerate(places):
        if chooses(variant.method):
            if known_cells.get(place) in chosen:
                found[place] = known_cells[place]
            continue
        how = (variant.strength, variant.guidance, variant.steps)
        equal = known.get((seed, variant.method, variant.run, *how), [])
        if equal:
            found[place] = known_cells[place] if known_cells.get(place) in equal else equal[0]
    return found


def make(
    cells: Cells,
    prompt: str,
    part: Sequence[tuple[int, Variant]],
    height: int,
    width: int,
    ways: Ways,
    halt: Halt,
) -> list[str]:
    """Images of (seed, variant) pairs that go `together`, stored; the samples' ids. Raises Stopped."""
    with cells.models.lock:
        plain = _unnamed(part)
        for variant in dict.fromkeys(variant for _, variant in part if chooses(variant.method)):
            rows = [i for i, (_, other) in enumerate(part) if other == variant]
            seeds = chosen(cells, prompt, [part[i][0] for i in rows], variant, height, width, ways)
            made_as = dataclasses.replace(variant, name="", method=without_choice(variant.method), run="")
            for i, seed in zip(rows, seeds, strict=True):
                plain[i] = (seed, made_as)
        there = stored(cells, prompt, plain, height, width, {}) if plain != _unnamed(part) else {}
        left = list(dict.fromkeys(one for at, one in enumerate(plain) if at not in there))
        if halt():
            raise Stopped
        if not left:
            return [there[at] for at in range(len(plain))]
        if gpu.apart():
            given = [(seed, dataclasses.asdict(variant)) for seed, variant in left]
            noise, images = cells.denoised_apart(prompt, given, height, width)
            noise = torch.from_numpy(noise)
        else:
            noise, images = denoised(cells, prompt, left, height, width, ways, halt)
    ids = {}
    for i, (seed, variant) in enumerate(left):
        how = (variant.strength, variant.steps, variant.guidance, height, width)
        plan = Plan([prompt], [seed], [variant.method], *how)
        (ids[seed, variant],) = cells.making.keep(
            plan, ways.using(variant), noise[i : i + 1], images[i : i + 1], PROMPT_SET
        )
    return [there.get(at) or ids[one] for at, one in enumerate(plain)]


def _unnamed(part: Sequence[tuple[int, Variant]]) -> list[tuple[int, Variant]]:
    return [(seed, dataclasses.replace(variant, name="")) for seed, variant in part]


def chosen(
    cells: Cells, prompt: str, seeds: Sequence[int], variant: Variant, height: int, width: int, ways: Ways
) -> list[int]:
    """The seeds whose noise a variant chooses, one for each row's seed. Expects the models' lock."""
    if gpu.apart():
        return cells.chosen_apart(prompt, list(seeds), dataclasses.asdict(variant), height, width)
    diffuser = cells.models.diffuser()
    text, shape = encode(diffuser, [prompt] * len(seeds)), diffuser.latent_shape(height, width)
    return ways.of(variant).start(text, list(seeds), shape).seeds


def denoised(
    cells: Cells,
    prompt: str,
    part: Sequence[tuple[int, Variant]],
    height: int,
    width: int,
    ways: Ways,
    halt: Halt | None = None,
) -> tuple[Tensor, np.ndarray]:
    """noise (B, C, H, W) that was denoised, and images uint8 (B, S, S, 3). Raises Stopped."""
    diffuser, seeds = cells.models.diffuser(), [seed for seed, _ in part]
    text, shape = encode(diffuser, [prompt] * len(part)), diffuser.latent_shape(height, width)
    noise: list[Tensor] = [torch.empty(0)] * len(part)
    for variant in dict.fromkeys(variant for _, variant in part):
        rows = [i for i, (_, other) in enumerate(part) if other == variant]
        start = ways.of(variant).start(text.take(rows), [seeds[i] for i in rows], shape)
        for i, one in zip(rows, start.noise, strict=True):
            noise[i] = one
    first, begin = part[0][1], Start(torch.stack(noise), seeds)
    sampling = Settings(first.steps, first.guidance, height, width)
    latents = ways.of(first).denoise(diffuser, text, begin, sampling, halt)
    return begin.noise, diffuser.decode(latents)


class Cells:
    """What makes cells; where a GPU is lent to a process of its own, there (`studio.images.gpu`)."""

    def __init__(self, scoring: Scoring) -> None:
        self.scoring, self.making = scoring, scoring.making
        self.settings, self.store, self.models = scoring.settings, scoring.store, scoring.models

    @gpu.on_gpu(seconds=120)
    def denoised_apart(
        self, prompt: str, part: list[tuple[int, dict[str, Any]]], height: int, width: int
    ) -> tuple[np.ndarray, np.ndarray]:
        """As `denoised`, with nothing that cannot be pickled."""
        ways, variants = Ways(self.models, self.store), [(seed, Variant(**variant)) for seed, variant in part]
        noise, images = denoised(self, prompt, variants, height, width, ways)
        return noise.numpy(), images

    @gpu.on_gpu(seconds=60)
    def chosen_apart(
        self, prompt: str, seeds: list[int], variant: dict[str, Any], height: int, width: int
    ) -> list[int]:
        """As `chosen`, with nothing that cannot be pickled."""
        text = encode(self.models.diffuser(), [prompt] * len(seeds))
        shape = self.models.diffuser().latent_shape(height, width)
        return Ways(self.models, self.store).of(Variant(**variant)).start(text, seeds, shape).seeds


def _score(cells: Cells, job: Job, ids: list[str]) -> None:
    """Score what is not scored yet; where the scorer's server gives no answer, the images are made all the same."""
    if job.mute or not ids:
        return
    try:
        cells.scoring.score_here(ids, stop=job.halt, lock=True)
    except Unanswered as error:
        job.note, job.mute = (
            f"Not all images are scored. {error} Go on with the grid to score them."[:2000],
            error.down,
        )
    if job.halt():
        raise Stopped
