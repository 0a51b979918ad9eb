"""Grids of images, seeds x variants, as the page Seeds and the command line know them: start, watch, stop, go on.

A cell is an ordinary sample of the store: what exists already is not made again, and what a grid makes can be annotated
and trained on. The images are made by `studio.grids.cells`, in the background (`studio.grids.worker`).
"""

from __future__ import annotations

import dataclasses
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from core import checkpoint
from core.checkpoint import CheckpointError
from studio.access.identity import check_name
from studio.annotation.labelling import Annotation
from studio.grids import cells, worker
from studio.grids.axes import MAX_CELLS, GridRequest, Variant, check_grid, kind_of
from studio.grids.cells import Cells
from studio.grids.statistics import grid_change
from studio.images.methods import REWARD, TEACHER
from studio.images.models import NETWORKS, SHIPPED
from studio.images.views import SampleView

__all__ = ["MAX_CELLS", "Cell", "GridRequest", "GridView", "Grids", "Variant", "check_grid", "grid_change"]

GUIDED = ("pag", "autoguidance")  # methods that not every backbone has


@dataclass(frozen=True)
class Cell:
    """A place of a grid, row by row: seed index * variants + variant index. sample: None until it is made."""

    place: int
    seed: int
    variant: int
    sample: SampleView | None


@dataclass(frozen=True)
class GridView:
    """A grid as it is now. state: queued, running, stopped, interrupted, done or failed; done of total: images that are
    there; left: seconds, None where nobody knows; made_by: who asked for it."""

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


class Grids:
    """Grids: start, watch, stop, go on."""

    def __init__(self, annotation: Annotation, cells: Cells) -> None:
        self.annotation, self.cells, self.work = annotation, cells, worker.GridWork()
        self.settings, self.store, self.models = cells.settings, cells.store, cells.models

    def methods(self) -> list[tuple[str, str]]:
        """(label, value) of what can be chosen as a method of `check_grid`. Loads nothing."""
        found = [("none", "none"), *self._learned("projector", "projected"), *self._choices()]
        diffuser = self.models.loaded_diffuser
        for name in GUIDED:
            if diffuser is not None and not self._can_be_guided(diffuser, name):
                continue
            found += [(name, name), (f"{name} + projected", f"{name}+projected")]
        return found + self._learned("lora", "lora")

    def _choices(self) -> list[tuple[str, str]]:
        """The best of 8 noises, and by what; by the reward model alone as well where that is something else."""
        used = self.store.runs.promoted("reward")
        if not used and not self._shipped_there("reward"):
            return []
        taught, name = self.models.taught(), f"in use: {used['id'] if used else SHIPPED}"
        found = [(f"best-noise-of-8, by {TEACHER if taught else REWARD} ({name})", "best-noise-of-8")]
        if taught:
            found.append((f"best-noise-of-8, by {REWARD} ({name})", "best-noise-of-8-by-reward"))
        return found

    def _can_be_guided(self, diffuser: Any, name: str) -> bool:
        from core.guidance import Guided, unlogged  # with diffusers, which a start does not wait for

        try:
            with unlogged():
                Guided(diffuser, name).check(self.models.sampling()["guidance"])
        except ValueError:
            return False
        return True

    def _learned(self, kind: str, method: str) -> list[tuple[str, str]]:
        """A trained model in use, the shipped one, and those of finished runs whose checkpoint is there."""
        used, found = self.store.runs.promoted(kind), []
        if used or (kind == "projector" and self._shipped_there()):
            found.append((f"{method} (in use: {used['id'] if used else SHIPPED})", method))
        if used and kind == "projector" and self._shipped_there():
            found.append((f"{method}, {SHIPPED}", f"{method}:{SHIPPED}"))
        for run in self.store.runs.find(kind=kind, state="done", limit=100):
            mine = used and used["id"] == run["id"]
            if mine or run["config"].get("source") == SHIPPED or not run["checkpoint"] or run.get("archived"):
                continue
            if self._has_checkpoint(self.models.folder_of(run)):
                found.append((f"{method}, run {run['id']} of {run['created'][:10]}", f"{method}:{run['id']}"))
        return found

    def _shipped_there(self, kind: str = "projector") -> bool:
        return self._has_checkpoint(Path(getattr(self.settings, kind)))

    @staticmethod
    def _has_checkpoint(folder: Path) -> bool:
        return (folder / checkpoint.MANIFEST).is_file()

    # -- work

    def start(self, request: GridRequest, who: str) -> str:
        """Make a grid in the background; its id. What is in use now is used to its end."""
        who = check_name(who)
        if not 1 <= request.total <= MAX_CELLS:
            raise ValueError(
                f"A grid has 1 to {MAX_CELLS} images, not {request.total}: give fewer seeds or values."
            )
        own = self.models.sampling()
        variants: dict[tuple, Variant] = {}
        for variant in request.variants:
            variant = dataclasses.replace(
                variant,
                run=self._run_of(variant),
                guidance=own["guidance"] if variant.guidance is None else variant.guidance,
                steps=own["steps"] if variant.steps is None else variant.steps,
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
        }
        id = uuid.uuid4().hex[:12]
        lock = worker.claim(self.settings.home, id)  # before anyone can see the row, and sweep it
        if lock is None:
            raise ValueError("The grid could not be begun, as its lock is held: start it once more.")
        try:
            self.store.grids.add(config, who, id)
        except BaseException:
            lock.close()
            raise
        self.work.add(self.cells, id, lock, cells.work)
        return id

    def _run_of(self, variant: Variant) -> str:
        """The run, as the store knows it, of the model that a variant uses; "" where it uses none."""
        kind = kind_of(variant.method)
        if not kind:
            return ""
        run = self.store.runs.promoted(kind) if not variant.run else None
        if not variant.run and run is None and kind == "lora":
            raise ValueError("There is no lora in use: train one and promote it, or leave lora out.")
        if variant.run.startswith(f"{SHIPPED}-") and kind in NETWORKS and self._shipped_there(kind):
            # a picture from elsewhere may name it
            self.models.recorded(kind, Path(getattr(self.settings, kind)), None)
        if variant.run not in ("", SHIPPED):
            run = self.store.runs.get(variant.run)
            if run["kind"] != kind:
                raise ValueError(
                    f"The run {run['id']} is a {run['kind']}, and {variant.method} needs a {kind}."
                )
            if run["state"] != "done" or run.get("archived"):
                raise ValueError(f"The run {run['id']} has no finished {kind}: choose one that is listed.")
        folder = self.models.folder_of(run) if run else Path(getattr(self.settings, kind))
        if not self._has_checkpoint(folder):
            if run:
                raise ValueError(f"The checkpoint of the run {run['id']} is gone: choose another run.")
            named = {"projector": ("projector", "projected"), "reward": ("reward model", "best-noise-of-N")}
            what, method = named[kind]
            raise ValueError(f"There is no {what} yet: train one, or make a grid without {method}.")
        try:
            return self.models.recorded(kind, folder, run)
        except CheckpointError as error:
            raise ValueError(str(error)) from None

    def stop(self, id: str, who: str) -> None:
        """Ask a grid to stop after the step it is in; what is made is kept."""
        check_name(who)
        self.sweep()
        grid = self.store.grids.get(id)
        if grid["state"] not in ("queued", "running"):
            raise ValueError(f"The grid {id} is {grid['state']}: there is nothing to stop.")
        job = self.work.jobs.get(id)
        if job:
            job.stop.set()
        else:
            worker.stop_file(self.settings.home, id).touch()  # another process works on it

    def resume(self, id: str, who: str) -> None:
        """Go on with a grid that was stopped, interrupted or has failed, or make again what has gone from one."""
        check_name(who)
        self.sweep()
        grid = self.store.grids.get(id)
        if grid["config"].get("backbone") != self.settings.backbone:
            raise ValueError(
                f"The grid {id} was begun on another backbone: start the studio with that one, or start a new grid."
            )
        lock = worker.claim(self.settings.home, id) if id not in self.work.jobs else None
        if lock is None:
            raise ValueError(f"The grid {id} is {grid['state']}: wait for it, or stop it first.")
        try:
            self.store.grids.update(id, "queued")
        except BaseException:
            lock.close()
            raise
        self.work.add(self.cells, id, lock, cells.work)

    def sweep(self) -> None:
        """Mark the grids whose process is gone as interrupted."""
        worker.sweep(self.settings, self.store, self.work)

    # -- looking

    def request(self, id: str) -> GridRequest:
        """What a grid asks for."""
        config = self.store.grids.get(id)["config"]
        variants = [Variant(**each) for each in config["variants"]]
        return GridRequest(config["prompt"], config["seeds"], variants, config["width"], config["height"])

    def size(self, id: str) -> int:
        """How many images a grid has when it is done."""
        config = self.store.grids.get(id)["config"]
        return len(config["seeds"]) * len(config["variants"])

    def get(self, id: str, who: str | None = None) -> GridView:
        """A grid with its cells as they are now; with `who`, the corrections are that person's."""
        self.sweep()
        grid = self.store.grids.get(id)
        seeds, variants = grid["config"]["seeds"], [Variant(**each) for each in grid["config"]["variants"]]
        places = self.store.grids.cells(id)
        ids = list(dict.fromkeys(places.values()))
        rows = {row["id"]: row for row in self.store.samples.find(ids=ids, limit=len(ids))}
        said = self.store.scores.currents(ids, who)
        views = {id: self.annotation.view_of(row, said[id]) for id, row in rows.items()}
        cells = [
            Cell(place, seed, i, views.get(places.get(place, "")))
            for place, (seed, i) in enumerate((seed, i) for seed in seeds for i in range(len(variants)))
        ]
        job = self.work.jobs.get(id)
        state, message = self.work.end_of(grid)
        return GridView(
            id, grid["config"]["prompt"], seeds, variants, state, message, len(places), len(cells),
            job.left if job else None, cells, grid["created"], grid["who"],
        )  # fmt: skip

    def find(self, limit: int = 20) -> list[dict[str, Any]]:
        """{id, prompt, state, message, done, total, created, who} of the latest grids, the newest first."""
        self.sweep()
        found = []
        for grid in self.store.grids.find(limit=limit):
            config = grid["config"]
            state, message = self.work.end_of(grid)
            found.append({
                "id": grid["id"], "prompt": config["prompt"], "state": state, "message": message, "done": grid["made"],
                "total": len(config["seeds"]) * len(config["variants"]), "created": grid["created"], "who": grid["who"],
            })  # fmt: skip
        return found
