"""Grids of images, seeds x variants, made in the background: started, watched, stopped, resumed and saved as files.

A cell is an ordinary sample of the store: what exists already is not made again, and what a grid makes can be annotated
and trained on. All variants of a seed start from the same noise, but those that choose one: first they choose, and what
is made then is a plain image of the seed that they chose, stored as such; the cell alone says that it was chosen.

A process that works on a grid, or has it queued, holds the grid's lock file, which the system frees when the process
dies; so whoever looks next knows that the grid was interrupted. Pages and command lines read the store.
"""

from __future__ import annotations

import contextlib
import contextvars
import dataclasses
import io
import itertools
import json
import logging
import math
import re
import threading
import time
import uuid
import zipfile
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from core import checkpoint
from core.checkpoint import CheckpointError
from core.diffusion import Diffuser
from core.evaluation.base import Method, Start
from core.evaluation.base import Settings as Sampling
from core.evaluation.methods import guidance_of
from core.guiders import GUIDERS
from core.loading import out_of_memory
from core.progress import Stopped
from core.scoring.endpoint import Unanswered
from data.store import Store, StoreError
from studio.access.identity import check_name
from studio.annotation.labelling import Annotation
from studio.background import Queue
from studio.errors import sentence
from studio.grids.axes import MAX_CELLS, GridRequest, Variant, check_grid, kind_of, without_projection
from studio.grids.statistics import grid_change
from studio.images import gpu, pictures, png_text
from studio.images.making import Plan, encode, made_with
from studio.images.methods import BY_REWARD, CHOOSING, REWARD, TEACHER, Makers, chooses, parse, without_choice
from studio.images.models import NETWORKS, SHIPPED, Models, Using
from studio.images.options import NONE, SamplingOptions, default_options
from studio.images.scoring import Scoring
from studio.images.views import SampleView
from studio.numbers import shown
from studio.processes import lock, unlock

if TYPE_CHECKING:
    from core.foresight import Teacher

__all__ = ["MAX_CELLS", "Cell", "GridRequest", "GridView", "Grids", "Variant", "check_grid", "grid_change"]

log = logging.getLogger("studio")
Place = tuple[int, Variant]  # a cell's seed and variant
PROMPT_SET = "seeds"  # of the samples that grids make
UNFINISHED = ("queued", "running")
STOPPED = "Stopped; the finished images are kept. Resume it at any time."
INTERRUPTED = "The studio ended before the grid was done. Resume it: no finished image is lost."
RECENT = 3  # batches by which the remaining time is estimated
SHORT_BATCH = 5.0  # seconds; batches grow while they take less
MANIFEST = "manifest.json"
EPOCH = (1980, 1, 1, 0, 0, 0)  # the same grid gives the same bytes, whenever it is packed


@dataclass(frozen=True)
class Cell:
    """A place of a grid, row by row: seed index * variants + variant index. sample: None until it is made."""

    place: int
    seed: int
    variant: int
    sample: SampleView | None


@dataclass(frozen=True)
class GridView:
    """A grid as it is now. state: queued, running, stopped, interrupted, done or failed; done of total: images that
    exist; left: seconds, None if unknown; made_by: who asked for it."""

    id: str
    prompt: str
    seeds: list[int]
    variants: list[Variant]
    state: str
    message: str
    done: int
    total: int
    left: float | None
    cells: list[Cell]
    created: str = ""
    made_by: str = ""
    options: SamplingOptions = NONE


# ---- work in the background ---------------------------------------------------------------------------------------


@dataclass
class Job:
    """A grid that this process works on or has queued."""

    id: str
    lock: IO[str]
    stop_file: Path  # by which another process asks it to stop
    context: contextvars.Context
    stop: threading.Event = field(default_factory=threading.Event)
    pace: deque[tuple[float, int]] = field(default_factory=lambda: deque(maxlen=RECENT))  # seconds, images
    missing: int = 0  # images that are still to be made
    note: str = ""  # what was left undone
    warning: str = ""  # of models that were trained for another backbone
    mute: bool = False  # the scorer's server is down, and not asked again

    def halt(self) -> bool:
        """Whether it was asked to stop."""
        return self.stop.is_set() or self.stop_file.exists()

    @property
    def left(self) -> float | None:
        """Seconds until it is done, estimated from the latest batches; None before the first."""
        images = sum(count for _, count in self.pace)
        return sum(seconds for seconds, _ in self.pace) / images * self.missing if images else None


class GridWork:
    """The grids of this process, worked on one after another in a thread."""

    def __init__(self, cells: Cells) -> None:
        self.cells, self.store = cells, cells.store
        self.jobs: dict[str, Job] = {}
        # states and messages that the store could not take (a full disk)
        self.ends: dict[str, tuple[str, str]] = {}
        self._queue: Queue[Job] = Queue("grids", lambda job: job.context.run(self._work, job))

    def add(self, id: str, lock: IO[str]) -> None:
        """Queue a grid whose lock is held."""
        # in the context of who asks: a Space reads from it on whose account a GPU is lent
        job = Job(id, lock, stop_file(self.cells.settings.home, id), contextvars.copy_context())
        job.stop_file.unlink(missing_ok=True)
        self.jobs[id] = job
        self.ends.pop(id, None)
        self._queue.add([job])

    def wait(self, id: str, seconds: float) -> bool:
        """Whether a grid has ended, after waiting for that so long at most."""
        until = time.monotonic() + seconds
        while id in self.jobs and time.monotonic() < until:
            time.sleep(0.02)
        return id not in self.jobs

    def _work(self, job: Job) -> None:
        try:
            if job.halt():
                raise Stopped
            self.store.grids.update(job.id, "running")
            self.cells.work(job)
            end = ("failed", job.note) if job.note else ("done", job.warning)
        except Stopped:
            end = ("stopped", STOPPED)
        except BaseException as error:  # noqa: BLE001 - the page shows it
            end = ("failed", f"{sentence(error)} The finished images are kept; resume it at any time."[:2000])
        try:
            self.store.grids.update(job.id, *end)
        except Exception as error:  # noqa: BLE001 - for example the disk is full: kept in memory until it is not
            log.error("The end of the grid %s could not be stored: %s", job.id, error)
            self.ends[job.id] = end
        with contextlib.suppress(OSError):
            job.stop_file.unlink(missing_ok=True)
        del self.jobs[job.id]
        unlock(job.lock)

    def end_of(self, grid: dict[str, Any]) -> tuple[str, str]:
        """State and message of a grid's row, or those that the store could not take."""
        end = (grid["state"], grid["message"])
        return self.ends.get(grid["id"], end) if grid["state"] in UNFINISHED else end


def stop_file(home: Path, id: str) -> Path:
    return home / "grids" / f"{id}.stop"


# ---- making images ------------------------------------------------------------------------------------------------


class Ways(Makers):
    """The methods of variants, each with the model of its own run, which is opened once."""

    def __init__(self, models: Models, store: Store) -> None:
        super().__init__(models, 1.0)
        self.store, self._run = store, ""
        self._using: dict[str, Using] = {}
        self._methods: dict[tuple[str, str, float], Method] = {}

    def using(self, variant: Variant) -> Using:
        """The model that a variant uses; ValueError where it is gone or is another one now."""
        if not variant.run:
            return Using()
        if variant.run not in self._using:
            kind, run = kind_of(variant.method), self.store.runs.get(variant.run)
            using = self.models.using(kind)
            if using.run != variant.run:
                using = self.models.of_run(kind, variant.run)
            if using.model is None or using.folder is None:
                raise ValueError(using.problem)
            shipped = run["config"].get("source") == SHIPPED
            if shipped and checkpoint.digest(using.folder) != run["checkpoint_sha256"]:
                raise ValueError(
                    f"The shipped {kind} is another one than when this grid was begun: start a new grid."
                )
            self._using[variant.run] = using
        return self._using[variant.run]

    def model(self, kind: str) -> Any:
        return self._using[self._run].model

    def teacher(self) -> Teacher | None:
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
        if key not in self._methods:
            self.using(variant)
            self._run, self.strength, self._choosers = variant.run, variant.strength, {}
            self._methods[key] = self.assemble(parse(variant.method))
        return self._methods[key]


class Cells:
    """Sampling of the cells of grids, in batches that begin small; each image is stored, scored and in its cell at once."""

    def __init__(self, scoring: Scoring) -> None:
        self.scoring, self.making = scoring, scoring.making
        self.settings, self.store, self.models = scoring.settings, scoring.store, scoring.models

    def work(self, job: Job) -> None:
        """Make, store and score what a grid lacks. Raises Stopped."""
        grid = request_of(self.store.grids.get(job.id))
        places = [(seed, variant) for seed in grid.seeds for variant in grid.variants]
        options = grid.options or NONE
        diffuser, ways = self.models.configured(options), Ways(self.models, self.store)
        size = (grid.height or diffuser.size[0], grid.width or diffuser.size[1])
        for variant in grid.variants:
            sampling = sampling_of(variant, size)
            method = ways.of(variant)
            method.check(diffuser, sampling)
            if options != NONE:
                diffuser.check(guidance_of(method, sampling.guidance))
        warnings = (ways.using(variant).warning for variant in grid.variants)
        job.warning = " ".join(dict.fromkeys(filter(None, warnings)))[:2000]
        if job.warning:
            self.store.grids.update(job.id, "running", job.warning)
        existing = self.stored(grid.prompt, places, size, self.store.grids.cells(job.id), options)
        self.store.grids.set_cells(job.id, existing)
        todo = [place for place in range(len(places)) if place not in existing]
        job.missing = len(todo)
        self._score(job, list(existing.values()))
        count, most = 1, self.settings.batch
        while todo:
            if job.halt():
                raise Stopped
            alike = [place for place in todo if together(places[place][1]) == together(places[todo[0]][1])]
            lent = self._lent(grid.prompt, places[todo[0]], size, options) if gpu.apart() else most
            batch, began = alike[: min(count, most, lent)], time.monotonic()
            try:
                ids = self.make(grid.prompt, [places[i] for i in batch], size, ways, job.halt, options)
            except Exception as error:
                if not out_of_memory(error) or len(batch) == 1:
                    raise
                count = most = len(batch) // 2
                log.warning("Too little memory for %d images at a time: making %d.", len(batch), count)
                torch.cuda.empty_cache()
                continue
            self.store.grids.set_cells(job.id, dict(zip(batch, ids, strict=True)))
            self._score(job, ids)
            todo = [place for place in todo if place not in batch]
            seconds, job.missing = time.monotonic() - began, len(todo)
            job.pace.append((seconds, len(batch)))
            if seconds < SHORT_BATCH:
                count = min(2 * count, most)

    def stored(
        self,
        prompt: str,
        places: Sequence[Place],
        size: tuple[int, int],
        known: Mapping[int, str],
        options: SamplingOptions,
    ) -> dict[int, str]:
        """The samples that exist already, by their places: of equal ones that of the cell (known), else the oldest. Which
        seed a variant has chosen only its cell knows."""
        made = {**made_with(self.models.diffuser(), options), "height": size[0], "width": size[1]}

        def usable(row: Mapping[str, Any]) -> bool:
            same = all(row[name] == value for name, value in made.items())
            return same and bool(row["image_path"]) and (self.settings.home / row["image_path"]).is_file()

        seeds = list({seed for seed, _ in places})
        rows = self.store.samples.find(prompt=prompt, seed=seeds, limit=1_000_000, newest=False)
        by_key: dict[tuple, list[str]] = {}
        for row in filter(usable, rows):
            key = (row["projector_run"] or "", row["strength"], row["guidance"], row["steps"])
            by_key.setdefault((row["seed"], row["method"], *key), []).append(row["id"])
        choosing = [
            known[i] for i, (_, variant) in enumerate(places) if chooses(variant.method) and i in known
        ]
        chosen = {
            row["id"] for row in self.store.samples.find(ids=choosing, limit=len(choosing)) if usable(row)
        }
        ids = {}
        for place, (seed, variant) in enumerate(places):
            if chooses(variant.method):
                if known.get(place) in chosen:
                    ids[place] = known[place]
                continue
            key = (variant.run, variant.strength, variant.guidance, variant.steps)
            if equal := by_key.get((seed, variant.method, *key), []):
                ids[place] = known[place] if known.get(place) in equal else equal[0]
        return ids

    def make(
        self,
        prompt: str,
        places: Sequence[Place],
        size: tuple[int, int],
        ways: Ways,
        halt: Callable[[], bool],
        options: SamplingOptions,
    ) -> list[str]:
        """Images of places that go `together`, stored; the samples' ids. Raises Stopped."""
        with self.models.lock:
            plain = [(seed, dataclasses.replace(variant, name="")) for seed, variant in places]
            choosing = dict.fromkeys(variant for _, variant in places if chooses(variant.method))
            for variant in choosing:
                rows = [i for i, (_, other) in enumerate(places) if other == variant]
                seeds = self.chosen(prompt, [places[i][0] for i in rows], variant, size, ways, options)
                made_as = dataclasses.replace(variant, name="", method=without_choice(variant.method), run="")
                for i, seed in zip(rows, seeds, strict=True):
                    plain[i] = (seed, made_as)
            existing = self.stored(prompt, plain, size, {}, options) if choosing else {}
            missing = list(dict.fromkeys(place for i, place in enumerate(plain) if i not in existing))
            if halt():
                raise Stopped
            if not missing:
                return [existing[i] for i in range(len(plain))]
            if gpu.apart():
                array, images = self.denoised_apart(prompt, missing, size, options, stop=halt)
                noise = torch.from_numpy(array)
            else:
                noise, images = self.denoised(prompt, missing, size, ways, options, halt)
        ids = {}
        for i, (seed, variant) in enumerate(missing):
            how, item = sampling_of(variant, size), slice(i, i + 1)
            plan = Plan(
                [prompt], [seed], [variant.method], variant.strength, how.steps, how.guidance, *size, options
            )  # fmt: skip
            (id,) = self.making.keep(plan, ways.using(variant), noise[item], images[item], PROMPT_SET)
            ids[seed, variant] = id
        return [existing.get(i) or ids[place] for i, place in enumerate(plain)]

    def chosen(
        self,
        prompt: str,
        seeds: Sequence[int],
        variant: Variant,
        size: tuple[int, int],
        ways: Ways,
        options: SamplingOptions,
    ) -> list[int]:
        """The seeds whose noise a variant chooses, one for each row's seed. Expects the models' lock."""
        if gpu.apart():
            return self.chosen_apart(prompt, list(seeds), variant, size, options)
        return self.chosen_here(prompt, seeds, variant, size, ways, options)

    def chosen_here(
        self,
        prompt: str,
        seeds: Sequence[int],
        variant: Variant,
        size: tuple[int, int],
        ways: Ways,
        options: SamplingOptions,
    ) -> list[int]:
        diffuser = self.models.configured(options)
        text, shape = encode(diffuser, options.typed([prompt] * len(seeds))), diffuser.latent_shape(*size)
        return ways.of(variant).start(text, list(seeds), shape).seeds

    def denoised(
        self,
        prompt: str,
        places: Sequence[Place],
        size: tuple[int, int],
        ways: Ways,
        options: SamplingOptions,
        halt: Callable[[], bool] | None = None,
    ) -> tuple[Tensor, np.ndarray]:
        """The noise (B, C, H, W) that was denoised, and images uint8 (B, S, S, 3). Raises Stopped."""
        diffuser, seeds = self.models.configured(options), [seed for seed, _ in places]
        text, shape = encode(diffuser, options.typed([prompt] * len(places))), diffuser.latent_shape(*size)
        noise: list[Tensor] = [torch.empty(0)] * len(places)
        for variant in dict.fromkeys(variant for _, variant in places):
            rows = [i for i, (_, other) in enumerate(places) if other == variant]
            start = ways.of(variant).start(text.take(rows), [seeds[i] for i in rows], shape)
            for i, row_noise in zip(rows, start.noise, strict=True):
                noise[i] = row_noise
        first, begin = places[0][1], Start(torch.stack(noise), seeds)
        latents = ways.of(first).denoise(diffuser, text, begin, sampling_of(first, size), halt)
        return begin.noise, diffuser.decode(latents)

    def _seconds(
        self, prompt: str, places: list[Place], size: tuple[int, int], options: SamplingOptions
    ) -> gpu.Duration:
        """How long a GPU is asked for to denoise places that go together."""
        variant = places[0][1]
        parts = [part for part, _ in parse(variant.method)]
        assert variant.steps is not None
        return gpu.made_in(
            self.models.diffuser(), len(places), variant.steps, size, options.scheduler,
            loras=len(options.loras) + ("lora" in parts), third=any(GUIDERS[p].third for p in parts if p in GUIDERS),
        )  # fmt: skip

    def _lent(self, prompt: str, place: Place, size: tuple[int, int], options: SamplingOptions) -> int:
        """How many images like that of a place are made while a GPU is lent, at least one: a longer batch would be refused."""
        chosen = self._seconds_to_choose(prompt, [place[0]], place[1], size, options)
        denoised = self._seconds(prompt, [place], size, options)
        return max(1, min(denoised.images, chosen.images // _noises(place[1])))

    @gpu.on_gpu(_seconds)
    def denoised_apart(
        self,
        prompt: str,
        places: list[Place],
        size: tuple[int, int],
        options: SamplingOptions,
        *,
        say: gpu.Say = gpu.unheard,
        stop: gpu.Asked = gpu.never,
    ) -> tuple[np.ndarray, np.ndarray]:
        """`denoised` in the process that has the GPU (`studio.images.gpu`): nothing but what can be pickled."""
        noise, images = self.denoised(prompt, places, size, Ways(self.models, self.store), options, stop)
        return noise.numpy(), images

    def _seconds_to_choose(
        self, prompt: str, seeds: list[int], variant: Variant, size: tuple[int, int], options: SamplingOptions
    ) -> gpu.Duration:
        """How long a GPU is asked for to foresee every noise that is chosen among."""
        count = len(seeds) * _noises(variant)
        return gpu.made_in(self.models.diffuser(), count, 1, size, loras=len(options.loras))

    @gpu.on_gpu(_seconds_to_choose)
    def chosen_apart(
        self,
        prompt: str,
        seeds: list[int],
        variant: Variant,
        size: tuple[int, int],
        options: SamplingOptions,
        *,
        say: gpu.Say = gpu.unheard,
        stop: gpu.Asked = gpu.never,
    ) -> list[int]:
        """`chosen` in the process that has the GPU: nothing but what can be pickled."""
        return self.chosen_here(prompt, seeds, variant, size, Ways(self.models, self.store), options)

    def _score(self, job: Job, ids: list[str]) -> None:
        """Score the samples that have no score; where the scorer's server does not answer, images are made all the same."""
        if job.mute or not ids:
            return
        try:
            self.scoring.score_here(ids, stop=job.halt, lock=True)
        except Unanswered as error:
            job.note = f"Not all images are scored. {error} Resume the grid to score them."[:2000]
            job.mute = error.down
        if job.halt():
            raise Stopped


def request_of(grid: Mapping[str, Any]) -> GridRequest:
    """The request that a grid (a row of the store) was started with."""
    config = grid["config"]
    variants = [Variant(**each) for each in config["variants"]]
    width, height = config.get("width"), config.get("height")  # None or missing: the backbone's own
    options = SamplingOptions.of_config(config["options"]) if "options" in config else NONE
    return GridRequest(config["prompt"], config["seeds"], variants, width, height, options)


def _noises(variant: Variant) -> int:
    """How many noises each of a variant's images is chosen among, 1 where none is chosen."""
    return math.prod(int(number) for part, number in parse(variant.method) if part in CHOOSING and number)


def sampling_of(variant: Variant, size: tuple[int, int]) -> Sampling:
    """The sampling of a started grid's variant, whose steps and guidance are set."""
    assert variant.steps is not None and variant.guidance is not None
    return Sampling(variant.steps, variant.guidance, *size)


def together(variant: Variant) -> tuple:
    """The key by which variants are batched: those of one key are denoised together."""
    lora, method = "lora" in variant.method.split("+"), without_choice(variant.method)
    return variant.steps, variant.guidance, without_projection(method), variant.run if lora else ""


# ---- the grids ----------------------------------------------------------------------------------------------------


class Grids:
    """The grids of the store: start, watch, stop, resume."""

    def __init__(self, annotation: Annotation, cells: Cells) -> None:
        self.annotation, self.cells, self.work = annotation, cells, GridWork(cells)
        self.settings, self.store, self.models = cells.settings, cells.store, cells.models

    def methods(self) -> list[tuple[str, str]]:
        """The choices of methods for `check_grid`: [(label, value)]. Loads nothing."""
        methods = [("none", "none"), *self._learned("projector", "projected"), *self._choices()]
        diffuser = self.models.loaded_diffuser
        for name in GUIDERS:
            if diffuser is None or self._can_be_guided(diffuser, name):
                methods += [(name, name), (f"{name} + projected", f"{name}+projected")]
        return methods + self._learned("lora", "lora")

    def _choices(self) -> list[tuple[str, str]]:
        """The best of 8 noises, and by what; by the reward model alone as well where that is something else."""
        used = self.store.runs.promoted("reward")
        if not used and not self._is_shipped("reward"):
            return []
        taught, name = self.models.taught(), f"in use: {used['id'] if used else SHIPPED}"
        choices = [(f"best-noise-of-8, by {TEACHER if taught else REWARD} ({name})", "best-noise-of-8")]
        if taught:
            choices.append((f"best-noise-of-8, by {REWARD} ({name})", "best-noise-of-8-by-reward"))
        return choices

    def _can_be_guided(self, diffuser: Diffuser, name: str) -> bool:
        from core.guidance import Guided, unlogged  # with diffusers, which a start does not wait for

        try:
            with unlogged():
                Guided(diffuser, name).check(self.models.sampling()["guidance"])
        except ValueError:
            return False
        return True

    def _learned(self, kind: str, method: str) -> list[tuple[str, str]]:
        """A trained model in use, the shipped one, and those of finished runs whose checkpoint exists."""
        used, methods = self.store.runs.promoted(kind), []
        shipped = kind == "projector" and self._is_shipped(kind)
        if used or shipped:
            methods.append((f"{method} (in use: {used['id'] if used else SHIPPED})", method))
        if used and shipped:
            methods.append((f"{method}, {SHIPPED}", f"{method}:{SHIPPED}"))
        for run in self.store.runs.find(kind=kind, state="done", limit=100):
            in_use = used and used["id"] == run["id"]
            if (
                in_use
                or run["config"].get("source") == SHIPPED
                or not run["checkpoint"]
                or run.get("archived")
            ):
                continue
            if _has_checkpoint(self.models.folder_of(run)):
                name = f"{method}, run {run['id']} of {run['created'][:10]}"
                methods.append((name, f"{method}:{run['id']}"))
        return methods

    def _is_shipped(self, kind: str) -> bool:
        return _has_checkpoint(self.models.folder_in_use(kind, None))

    # -- work

    def start(self, request: GridRequest, who: str) -> str:
        """Make a grid in the background; its id. What is in use now is used to its end."""
        who = check_name(who)
        if not 1 <= request.total <= MAX_CELLS:
            raise ValueError(
                f"A grid has 1 to {MAX_CELLS} images, not {request.total}: give fewer seeds or values."
            )
        options = request.options or default_options(self.settings)
        if options.loras and any("lora" in variant.method.split("+") for variant in request.variants):
            raise ValueError(
                "The method lora and LoRA files are both LoRAs of the backbone: leave one of them out."
            )
        sampling = self.models.sampling()
        variants: dict[tuple, Variant] = {}
        for variant in request.variants:
            variant = dataclasses.replace(
                variant,
                run=self._run_of(variant),
                guidance=sampling["guidance"] if variant.guidance is None else variant.guidance,
                steps=sampling["steps"] if variant.steps is None else variant.steps,
            )
            variants.setdefault(dataclasses.astuple(variant)[1:], variant)
        height, width = self.settings.sides or (None, None)
        config = {
            "prompt": request.prompt,
            "seeds": request.seeds,
            "variants": [dataclasses.asdict(variant) for variant in variants.values()],
            "height": request.height or height,
            "width": request.width or width,
            "backbone": self.settings.backbone,
            "options": options.config(),
        }
        id = uuid.uuid4().hex[:12]
        held = self._lock(id)  # before anyone can see the row, and sweep it
        assert held is not None, "the id is new"
        self._queue(id, held, lambda: self.store.grids.add(config, who, id))
        return id

    def _lock(self, id: str) -> IO[str] | None:
        return lock(self.settings.home / "grids" / f"{id}.lock")

    def _queue(self, id: str, held: IO[str], write: Callable[[], object]) -> None:
        """Write a grid's row, and have it worked on; its lock is released where the row cannot be written."""
        try:
            write()
        except BaseException:
            unlock(held)
            raise
        self.work.add(id, held)

    def _run_of(self, variant: Variant) -> str:
        """The run, as the store knows it, of the model that a variant uses; "" where it uses none."""
        kind = kind_of(variant.method)
        if not kind:
            return ""
        run = self.store.runs.promoted(kind) if not variant.run else None
        if not variant.run and run is None and kind == "lora":
            raise ValueError("There is no lora in use: train one and promote it, or leave lora out.")
        if variant.run.startswith(f"{SHIPPED}-") and kind in NETWORKS and self._is_shipped(kind):
            # a picture from elsewhere may name it
            self.models.recorded(kind, self.models.folder_in_use(kind, None), None)
        if variant.run not in ("", SHIPPED):
            run = self.store.runs.get(variant.run)
            if run["kind"] != kind:
                raise ValueError(
                    f"The run {run['id']} is a {run['kind']}, and {variant.method} needs a {kind}."
                )
            if run["state"] != "done" or run.get("archived"):
                raise ValueError(f"The run {run['id']} has no finished {kind}: choose one that is listed.")
        folder = self.models.folder_in_use(kind, run)
        if not _has_checkpoint(folder):
            if run:
                raise ValueError(f"The checkpoint of the run {run['id']} is gone: choose another run.")
            names = {"projector": ("projector", "projected"), "reward": ("reward model", "best-noise-of-N")}
            what, method = names[kind]
            raise ValueError(f"There is no {what} yet: train one, or make a grid without {method}.")
        try:
            return self.models.recorded(kind, folder, run)
        except CheckpointError as error:
            raise ValueError(str(error)) from None

    def stop(self, id: str, who: str) -> None:
        """Ask a grid to stop after the step it is in; finished images are kept."""
        check_name(who)
        self.sweep()
        grid = self.store.grids.get(id)
        if grid["state"] not in UNFINISHED:
            raise ValueError(f"The grid {id} is {grid['state']}: there is nothing to stop.")
        if job := self.work.jobs.get(id):
            job.stop.set()
        else:
            stop_file(self.settings.home, id).touch()  # another process works on it

    def resume(self, id: str, who: str) -> None:
        """Resume a grid that was stopped, was interrupted or has failed, or make lost images of one again."""
        check_name(who)
        self.sweep()
        grid = self.store.grids.get(id)
        if grid["config"].get("backbone") != self.settings.backbone:
            raise ValueError(
                f"The grid {id} was begun on another backbone: start the studio with that one, or start a new grid."
            )
        held = self._lock(id) if id not in self.work.jobs else None
        if held is None:
            raise ValueError(f"The grid {id} is {grid['state']}: wait for it, or stop it first.")
        self._queue(id, held, lambda: self.store.grids.update(id, "queued"))

    def sweep(self) -> list[str]:
        """Mark the grids whose process is gone as interrupted; their ids. A damaged store is not marked."""
        dead = []
        with contextlib.suppress(StoreError, OSError):  # a store that cannot be written can still be read
            for state in reversed(UNFINISHED):
                for grid in self.store.grids.find(state=state, limit=1000):
                    id = grid["id"]
                    held = self._lock(id) if id not in self.work.jobs else None
                    if held is None:
                        continue
                    try:
                        with self.store.database.unless_damaged():
                            if self.store.grids.get(id)["state"] == state:
                                dead.append(id)
                                end = self.work.ends.get(id, ("interrupted", INTERRUPTED))
                                self.store.grids.update(id, *end)
                                self.work.ends.pop(id, None)
                    finally:
                        unlock(held)
        return dead

    # -- looking

    def request(self, id: str) -> GridRequest:
        """The request that a grid was started with."""
        return request_of(self.store.grids.get(id))

    def get(self, id: str, who: str | None = None) -> GridView:
        """A grid with its cells as they are now; with `who`, the corrections are that person's."""
        self.sweep()
        row = self.store.grids.get(id)
        grid, made = request_of(row), self.store.grids.cells(id)
        ids = list(dict.fromkeys(made.values()))
        samples = {sample["id"]: sample for sample in self.store.samples.find(ids=ids, limit=len(ids))}
        scores = self.store.scores.currents(ids, who)
        views = {id: self.annotation.view_of(sample, scores[id]) for id, sample in samples.items()}
        cells = [
            Cell(place, seed, i, views.get(made.get(place, "")))
            for place, (seed, i) in enumerate(itertools.product(grid.seeds, range(len(grid.variants))))
        ]
        job = self.work.jobs.get(id)
        state, message = self.work.end_of(row)
        return GridView(
            id, grid.prompt, grid.seeds, grid.variants, state, message, len(made), grid.total,
            job.left if job else None, cells, row["created"], row["who"], grid.options or NONE,
        )  # fmt: skip

    def find(self, limit: int = 20) -> list[dict[str, Any]]:
        """The latest grids, the newest first: {id, prompt, state, message, done, total, created, who}."""
        self.sweep()
        grids = []
        for row in self.store.grids.find(limit=limit):
            grid, (state, message) = request_of(row), self.work.end_of(row)
            grids.append({
                "id": row["id"], "prompt": grid.prompt, "state": state, "message": message, "done": row["made"],
                "total": grid.total, "created": row["created"], "who": row["who"],
            })  # fmt: skip
        return grids


def _has_checkpoint(folder: Path) -> bool:
    return (folder / checkpoint.MANIFEST).is_file()


# ---- files --------------------------------------------------------------------------------------------------------


class GridFiles:
    """A picture with its generation parameters, and a grid as a zip of pictures with a manifest."""

    def __init__(self, grids: Grids) -> None:
        self.grids, self.settings, self.store = grids, grids.settings, grids.store

    def png(self, sample_id: str) -> bytes:
        """A sample's image with its text: "parameters" as the WebUI of AUTOMATIC1111 has it, and JSON of our own."""
        row = self.store.samples.get(sample_id)
        if not row["image_path"]:
            raise ValueError(
                "This sample was imported without its image: make it again, or choose another one."
            )
        content = pictures.verified(self.settings.home / row["image_path"], row["image_sha256"])
        return png_text.with_text(content, row)

    def zip(self, id: str, path: str | Path) -> Path:
        """Write the images of a grid, with their text, and manifest.json into a zip; its path. A cell without an image is
        left out; an image that is gone is named in the manifest."""
        view, files, cells = self.grids.get(id), {}, []
        for cell in view.cells:
            if cell.sample is None:
                continue
            name = f"{cell.place:03d}_seed-{cell.seed}_{safe(view.variants[cell.variant].name)}.png"
            entry: dict[str, Any] = {
                "place": cell.place, "seed": cell.seed, "variant": cell.variant, "noise_seed": cell.sample.seed,
                "sample": cell.sample.id, "file": None, "sha256": None, "total": cell.sample.total,
            }  # fmt: skip
            try:
                files[name] = self.png(cell.sample.id)
                entry |= {"file": name, "sha256": pictures.sha256(files[name])}
            except ValueError as error:
                entry["problem"] = str(error)
            entry["scores"] = [
                {"index": word.index, "word": word.text, "score": word.score, "vlm": word.vlm,
                 "expected": word.expected, "correction": word.human}
                for word in cell.sample.words if word.scored
            ]  # fmt: skip
            cells.append(entry)
        if not cells:
            raise ValueError(f"The grid {shown(id)} has no image yet: wait for the first one.")
        manifest = {
            "version": 1, "grid": view.id, "prompt": view.prompt, "seeds": view.seeds,
            "variants": [vars(variant) for variant in view.variants], "made": view.done, "total": view.total,
            "options": view.options.config(), "cells": cells,
        }  # fmt: skip
        content = json.dumps(manifest, indent=1, sort_keys=True, ensure_ascii=False).encode()
        path, packed = Path(path), io.BytesIO()
        with zipfile.ZipFile(packed, "w", zipfile.ZIP_STORED) as archive:  # a PNG cannot be packed further
            for name, body in {MANIFEST: content, **files}.items():
                info = zipfile.ZipInfo(name, EPOCH)
                info.create_system, info.external_attr = 3, 0o644 << 16
                archive.writestr(info, body)
        pictures.write(path, packed.getvalue())
        return path


def safe(name: str) -> str:
    """A variant's name as a part of a file's name on any system."""
    return re.sub(r"[^a-z0-9.]+", "-", name.lower()).strip("-.")[:60] or "variant"
