"""What the experiments share: prompts, judged images, trainings, a studio of the run's own, pictures."""

from __future__ import annotations

import base64
import dataclasses
import io
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from core import checkpoint
from core.evaluation.base import Method
from core.evaluation.base import Settings as Sampling
from core.evaluation.distribution import half_frechet, invalid
from core.evaluation.experiments import alignment
from core.evaluation.journal import FILE
from core.evaluation.report import features
from core.jsonfile import read_lines
from core.metrics import wilson
from core.progress import Progress, Stopped
from core.training.projector import ProjectorConfig, train_projector
from studio.experiments.evaluation import scored_images, unseen
from studio.experiments.parts import Cell, Part
from studio.images.prompts import seeds_for
from studio.training.heldout import judge_of
from studio.training.runs import Job
from studio.training.stages import about, used_model

if TYPE_CHECKING:
    from core.networks.projector import NoiseProjector
    from core.training.data import Texts
    from studio.studio import Studio

SIDE = 128  # pixels of a picture in a report, at most
DRAWS = 2000
PICTURED = 3  # prompts of which a report shows pictures


def heldout_prompts(job: Job) -> list[str]:
    """The prompts to judge by: those of the run's configuration or of the studio, evenly picked; none that was trained on."""

    def choose() -> dict[str, Any]:
        count = job.config["prompts"]
        candidates = job.config["given"] or job.studio.prompts.of("heldout", count)
        return {"prompts": evenly(unseen(job.studio, candidates), count)}

    return job.stage("prompts", choose)["prompts"]


def evenly(items: Sequence[Any], most: int) -> list[Any]:
    """Select at most `most` items, evenly spread, as public sets are sorted by what they test."""
    places = np.linspace(0, len(items) - 1, min(most, len(items))).round().astype(int)
    return [items[place] for place in places]


def sampling_of(job: Job) -> Sampling:
    """Sampling settings of the run."""
    return Sampling(job.config["steps"], job.config["guidance"], batch=job.studio.settings.batch)


def evaluation_seeds(job: Job, prompts: Sequence[str]) -> list[list[int]]:
    """The seeds of each prompt that no training meets."""
    return [seeds_for(prompt, job.config["seeds"], evaluation=True) for prompt in prompts]


@dataclass
class Judged:
    """Images of methods on prompts and seeds, judged and scored: the `report` of core.evaluation.alignment, the judge's
    name, and the journal's records by method, in the order of the prompts."""

    report: dict[str, Any]
    judge: str
    records: dict[str, list[dict[str, Any]]]
    prompts: list[str]

    @property
    def methods(self) -> dict[str, dict[str, Any]]:
        return self.report["methods"]

    def gain(self, method: str, figure: str = "strict") -> Cell | None:
        """The difference of a figure of a method from that of none, image by image; None of none itself."""
        return self.methods[method].get("difference", {}).get(figure)

    def features(self, method: str) -> np.ndarray | None:
        """The scorer's features (N, F) of all images of a method, where the scorer has them."""
        return features(self.records[method])

    def frechet(self, method: str, other: str) -> list[float]:
        """Frechet distances of halves of a method's images from other halves of another's; empty without features."""
        first, second = self.features(method), self.features(other)
        if first is None or second is None:
            return []
        groups = [record["prompt"] for record in self.records[method] for _ in record["items"]]
        return half_frechet(first, second, groups)

    def answers(self, method: str) -> np.ndarray:
        """The scorer's distributions (N, 10) of all words of all images of a method."""
        rows = [p for record in self.records[method] for words in record["answers"] for p in words]
        return np.array(rows, float).reshape(-1, 10)

    def failures(self, method: str) -> Cell:
        """The share of invalid images: Wilson's interval."""
        looks, usual = (
            [look for record in self.records[name] for look in record["looks"]] for name in (method, "none")
        )
        wrong = invalid(looks, usual)
        return wilson(int(wrong.sum()), len(wrong)).cell


def judged(
    job: Job,
    name: str,
    methods: Sequence[Method],
    prompts: Sequence[str],
    seeds: Sequence[Sequence[int]] | None = None,
) -> Judged:
    """Make, score and judge what the run's journal `name` lacks; seeds: by default the evaluation's. Raises Stopped."""
    studio, folder = job.studio, job.folder / name
    seeds = evaluation_seeds(job, prompts) if seeds is None else seeds
    judge, judge_name = judge_of(studio, prompts)
    scorer, diffuser = studio.models.scorer(), studio.models.configured()
    with studio.models.lock:
        report = alignment(
            diffuser, methods, prompts, seeds, judge, scorer=scorer, settings=sampling_of(job), folder=folder,
            draws=DRAWS, on_progress=job.watch(f"{name}: images"), stop=job.stopped,
        )  # fmt: skip
    seeds_of = dict(zip(prompts, seeds, strict=True))
    records: dict[str, dict[str, dict[str, Any]]] = {}
    for line in read_lines(folder / FILE):
        if "items" in line and line["seeds"] == seeds_of.get(line["prompt"]):
            records.setdefault(line["method"], {})[line["prompt"]] = line
    whole = {m: [rows[p] for p in prompts] for m, rows in records.items() if len(rows) == len(seeds_of)}
    return Judged(report, judge_name, whole, list(prompts))


def noises_of(job: Job, method: Method, prompt: str, seeds: Sequence[int], batch: int = 64) -> Tensor:
    """The noises (N, C, H, W) that a method starts a prompt's seeds from. Raises Stopped."""
    diffuser, noises = job.studio.models.diffuser(), []
    for at in range(0, len(seeds), batch):
        job.check()
        drawn = list(seeds[at : at + batch])
        with job.studio.models.lock:
            text = diffuser.encode([prompt]).take([0] * len(drawn))
            noises.append(method.start(text, drawn, diffuser.latent_shape()).noise)
    return torch.cat(noises)


def need(job: Job, kind: str) -> Any:
    """The model of a kind that was in use when the run was made; ValueError where there is none."""
    model = used_model(job, kind)
    if model is None:
        raise ValueError(f"There is no {kind} to measure: train one and promote it first.")
    return model


def trained_projector(
    job: Job,
    name: str,
    model: NoiseProjector,
    texts: Texts,
    stage: str,
    meta: Mapping[str, Any],
    *,
    tau: float,
    shared: float = 0.0,
    seeds: Sequence[int] | None = None,
) -> dict[str, Any]:
    """Train a projector by the reward model in use, on these seeds only where there are any, and save it in the run's folder
    `name`: {metrics, seconds}. Raises Stopped."""
    config, began = job.config, time.monotonic()
    settings = ProjectorConfig(
        config["train_steps"], config["batch"], config["rate"], tau=tau, shared=shared, seed=config["seed"]
    )
    result = train_projector(
        model, need(job, "reward"), texts, job.studio.models.diffuser().latent_shape(), settings, seeds=seeds,
        folder=job.folder / f"{name}-state", on_progress=job.watch(stage), stop=job.stopped,
    )  # fmt: skip
    if result.fit.stopped:
        raise Stopped
    checkpoint.save(model, job.folder / name, about(job) | dict(meta))
    return {"metrics": result.metrics, "seconds": round(time.monotonic() - began, 1)}


def studio_at(job: Job, home: Path) -> Studio:
    """Open a studio with another home that starts from the models in use when the run was made."""
    models = job.studio.models
    changes: dict[str, Any] = {"home": home}
    for kind in ("reward", "projector"):
        if used := job.config["used"][kind]:
            changes[kind] = models.folder_of(job.studio.runs.get(used))
    studio = type(job.studio)(dataclasses.replace(job.studio.settings, **changes))
    studio.models.share(models)
    return studio


def collected(job: Job, studio: Studio, prompts: Sequence[str], seeds: int, what: str) -> list[str]:
    """Make scored images of training prompts in a studio of the run's own; their samples' ids. Raises Stopped."""

    def counter(stage: str) -> Callable[[int, int], None]:
        return job.counter(f"{what}: {stage}")

    return scored_images(studio, prompts, seeds, job.config, counter, job.stopped, prompt_set=what)


def finished_run(job: Job, studio: Studio, kind: str, config: Mapping[str, Any], what: str) -> dict[str, Any]:
    """Begin the run of a kind in a studio of the run's own, or resume it, until it is done. Raises Stopped."""

    def on_line(line: dict[str, Any]) -> None:
        progress = Progress(line["step"], line["total"], line["metrics"], 0.0, line["left"] or 0.0)
        job.watch(f"{what}: {line['stage']}")(progress)

    runs = studio.runs.find(kind=kind)
    if runs and runs[0]["state"] == "done":
        return runs[0]
    id, chosen = (runs[0]["id"], None) if runs else (None, dict(config))
    run = studio.training.train(kind, chosen, id, on_line, job.stopped)
    if run["state"] != "done":
        raise Stopped
    return run


def before_after(
    job: Job, methods: Sequence[Method], prompts: Sequence[str], seeds: Sequence[int] | None = None
) -> Part:
    """Pictures, made once a run: a row a prompt with its seed (its first evaluation seed where None), a column a method."""
    seeds = [row[0] for row in evaluation_seeds(job, prompts)] if seeds is None else seeds

    def make() -> dict[str, Any]:
        diffuser, sampling = job.studio.models.configured(), sampling_of(job)
        with job.studio.models.lock:
            columns = [m.run(diffuser, prompts, seeds, sampling, stop=job.stopped).images for m in methods]
        items = [
            {"png": thumbnail(column[row]), "caption": f"{method.name}: {prompt} (seed {seed})"}
            for row, (prompt, seed) in enumerate(zip(prompts, seeds, strict=True))
            for method, column in zip(methods, columns, strict=True)
        ]
        title = " / ".join(method.name for method in methods)
        return {"title": title, "columns": len(methods), "items": items}

    return job.stage("pictures", make)


def thumbnail(image: np.ndarray) -> str:
    """A PNG in base64 of an image uint8 (H, W, 3), made smaller where it is large."""
    picture, file = Image.fromarray(image), io.BytesIO()
    picture.thumbnail((SIDE, SIDE))
    picture.save(file, "PNG", optimize=True)
    return base64.b64encode(file.getvalue()).decode()
