"""What the experiments share: their prompts, images judged and kept, trainings, figures and tables, sentences, pictures."""

from __future__ import annotations

import base64
import dataclasses
import io
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from core import checkpoint
from core.evaluation.base import Settings as Sampling
from core.evaluation.distribution import half_frechet, invalid
from core.evaluation.experiments import alignment
from core.evaluation.journal import FILE
from core.evaluation.methods import Method
from core.evaluation.report import features
from core.jsonfile import read_lines
from core.metrics import wilson
from core.training.loop import Progress, Stopped
from core.training.projector import ProjectorConfig, train_projector
from studio.experiments.evaluation import scored_images, unseen
from studio.images.prompts import seeds_for
from studio.training.heldout import judge_of
from studio.training.runs import Job
from studio.training.stages import used_model

if TYPE_CHECKING:
    from core.metrics import Interval
    from core.networks.projector import NoiseProjector
    from core.training.data import Texts
    from studio.studio import Studio

SIDE = 128  # pixels of a picture in a report, at most
DRAWS = 2000
WHOLE = "image is whole (every word holds and nothing else is there)"
FEW = 10  # prompts below which a bootstrap over them is not to be trusted
PICTURED = 3  # prompts of which a report shows pictures
Cell = dict[str, Any]  # {estimate, low, high}
Part = dict[str, Any]  # a figure, a table or the pictures of a report


# ---- what is asked of the models ----------------------------------------------------------------------------------


def heldout_prompts(job: Job) -> list[str]:
    """The prompts to judge by: those given, evenly picked, or those of the studio; none that was trained on. Kept with
    the run."""

    def choose() -> dict[str, Any]:
        most, given = job.config["prompts"], job.config["given"]
        wanted = given or job.studio.prompts.of("heldout", most)
        return {"prompts": evenly(unseen(job.studio, wanted), most)}

    return job.stage("prompts", choose)["prompts"]


def evenly(items: Sequence[Any], most: int) -> list[Any]:
    """At most so many items, evenly spread, as public sets are sorted by what they test."""
    places = np.linspace(0, len(items) - 1, min(most, len(items))).round().astype(int)
    return [items[place] for place in places]


def sampling_of(job: Job) -> Sampling:
    """How the run's images are made."""
    return Sampling(job.config["steps"], job.config["guidance"], batch=job.studio.settings.batch)


def evaluation_seeds(job: Job, prompts: Sequence[str]) -> list[list[int]]:
    """The seeds of each prompt that no training meets."""
    return [seeds_for(prompt, job.config["seeds"], evaluation=True) for prompt in prompts]


class Judged:
    """Images of methods on prompts and seeds, judged and scored: the `report` of core.evaluation.alignment, the judge's
    name, and the journal's records by method, in the order of the prompts."""

    def __init__(
        self, report: dict[str, Any], judge: str, records: dict[str, list[dict[str, Any]]], prompts: list[str]
    ) -> None:
        self.report, self.judge, self.records, self.prompts = report, judge, records, prompts

    @property
    def methods(self) -> dict[str, dict[str, Any]]:
        return self.report["methods"]

    def gain(self, method: str, figure: str = "strict") -> Cell | None:
        """A figure of a method less that of none, image by image; None of none itself."""
        return self.methods[method].get("difference", {}).get(figure)

    def features(self, method: str) -> np.ndarray | None:
        """The scorer's features (N, F) of all images of a method, where the scorer has them."""
        return features(self.records[method])

    def frechet(self, method: str, other: str) -> list[float]:
        """Frechet distances of random halves of a method's images and the other halves of another's, or of its own;
        none where the scorer has no features."""
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
        return interval(wilson(int(wrong.sum()), len(wrong)))


def judged(
    job: Job,
    name: str,
    methods: Sequence[Method],
    prompts: Sequence[str],
    seeds: Sequence[Sequence[int]] | None = None,
) -> Judged:
    """Make, score and judge what is not in the run's journal `name` yet; `seeds`: the evaluation's where None. Raises
    Stopped."""
    studio, folder = job.studio, job.folder / name
    seeds = evaluation_seeds(job, prompts) if seeds is None else seeds
    judge, who = judge_of(studio, prompts)
    scorer, diffuser = studio.models.scorer(), studio.models.diffuser()
    with studio.models.lock:
        report = alignment(
            diffuser, methods, prompts, seeds, judge, scorer=scorer, settings=sampling_of(job), folder=folder,
            draws=DRAWS, on_progress=job.watch(f"{name}: images"), stop=job.stopped,
        )  # fmt: skip
    table = dict(zip(prompts, seeds, strict=True))
    records: dict[str, dict[str, dict[str, Any]]] = {}
    for line in read_lines(folder / FILE):
        if "items" in line and line["seeds"] == table.get(line["prompt"]):
            records.setdefault(line["method"], {})[line["prompt"]] = line
    whole = {
        method: [lines[p] for p in prompts] for method, lines in records.items() if len(lines) == len(table)
    }
    return Judged(report, who, whole, list(prompts))


def noises_of(job: Job, method: Method, prompt: str, seeds: Sequence[int], batch: int = 64) -> Tensor:
    """The noises (N, C, H, W) that a method starts a prompt's seeds from. Raises Stopped."""
    diffuser, noises = job.studio.models.diffuser(), []
    for at in range(0, len(seeds), batch):
        job.check()
        some = list(seeds[at : at + batch])
        with job.studio.models.lock:
            text = diffuser.encode([prompt]).take([0] * len(some))
            noises.append(method.start(text, some, diffuser.latent_shape()).noise)
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
    **options: Any,
) -> dict[str, Any]:
    """Train a projector by the reward model in use and save it in the run's folder `name`: {metrics, seconds}.

    options: seeds to train on; tau and shared of `ProjectorConfig`. Raises Stopped.
    """
    config, began = job.config, time.monotonic()
    seeds = options.pop("seeds", None)
    settings = ProjectorConfig(
        steps=config["train_steps"],
        batch=config["batch"],
        rate=config["rate"],
        seed=config["seed"],
        **options,
    )
    result = train_projector(
        model, need(job, "reward"), texts, job.studio.models.diffuser().latent_shape(), settings, seeds=seeds,
        folder=job.folder / f"{name}-state", on_progress=job.watch(stage), stop=job.stopped,
    )  # fmt: skip
    if result.fit.stopped:
        raise Stopped
    checkpoint.save(model, job.folder / name, {"run": job.run["id"], **meta})
    return {"metrics": result.metrics, "seconds": round(time.monotonic() - began, 1)}


# ---- a studio of the run's own ------------------------------------------------------------------------------------


def studio_at(job: Job, home: Path) -> Studio:
    """A studio with another home that starts from the models in use when the run was made."""
    folders, models = {}, job.studio.models
    for kind in ("reward", "projector"):
        used = job.config["used"][kind]
        folders[kind] = (
            models.folder_of(job.studio.runs.get(used)) if used else getattr(job.studio.settings, kind)
        )
    studio = type(job.studio)(dataclasses.replace(job.studio.settings, home=home, **folders))
    studio.models.share(models)
    return studio


def collected(job: Job, studio: Studio, prompts: Sequence[str], seeds: int, what: str) -> list[str]:
    """Scored images of training prompts in a studio of the run's own; their samples' ids. Raises Stopped."""

    def counter(stage: str) -> Callable[[int, int], None]:
        return job.counter(f"{what}: {stage}")

    return scored_images(studio, prompts, seeds, job.config, counter, job.stopped, prompt_set=what)


def gone_on(job: Job, studio: Studio, kind: str, config: Mapping[str, Any], what: str) -> dict[str, Any]:
    """The run of a kind in a studio of the run's own, begun or gone on with until it is done. Raises Stopped."""

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


# ---- parts of a report --------------------------------------------------------------------------------------------


def report(
    judge: str | None,
    answer: Sequence[str],
    figures: Sequence[Part],
    tables: Sequence[Part],
    pictures: Sequence[Part],
    data: Mapping[str, Any],
) -> dict[str, Any]:
    """The parts of a report; a judge that is not independent is named at the end of the answer."""
    lines = list(answer)
    if judge == "scorer":
        lines.append(
            "The judge is the scorer itself, from which the labels came: this is not independent of what was trained on."
        )
    return {
        "judge": judge, "answer": lines, "figures": list(figures), "tables": list(tables),
        "pictures": list(pictures), "data": dict(data),
    }  # fmt: skip


def interval(result: Interval) -> Cell:
    """{estimate, low, high} of an Interval, None for what is not a number."""
    return {name: float(value) if np.isfinite(value) else None for name, value in result._asdict().items()}


def series(name: str, x: Sequence[Any], cells: Sequence[Cell], text: Sequence[str] | None = None) -> Part:
    """A series with intervals."""
    values = {
        key: [cell[of] for cell in cells] for key, of in (("y", "estimate"), ("low", "low"), ("high", "high"))
    }
    return {"name": name, "x": list(x), **values} | ({"text": list(text)} if text else {})


def figure(kind: str, title: str, x: str, y: str, series: Sequence[Part] = (), **more: Any) -> Part:
    """A figure; `more`: log_x, reference, reference_name, note; z, rows and columns of a heatmap."""
    return {"kind": kind, "title": title, "x": x, "y": y, "series": list(series), **more}


def table(title: str, rows: Sequence[Mapping[str, Any]], note: str = "", percent: Sequence[str] = ()) -> Part:
    """A table of rows by column; `percent` names the columns that are shares."""
    columns = list(dict.fromkeys(name for row in rows for name in row))
    lines = [[row.get(name) for name in columns] for row in rows]
    return {"title": title, "columns": columns, "rows": lines, "note": note, "percent": list(percent)}


def span(cell: Cell, form: str = ".3f", scale: float = 1, unit: str = "") -> str:
    """0.412 [0.380, 0.440]; "not measurable" where there is no estimate."""
    if cell["estimate"] is None:
        return "not measurable"
    bounds = [cell["low"], cell["high"]]
    end = "" if None in bounds else " [" + ", ".join(f"{scale * bound:{form}}" for bound in bounds) + "]"
    return f"{scale * cell['estimate']:{form}}{unit}{end}"


def share(cell: Cell) -> str:
    """41.2 % [38.0, 44.0]."""
    return span(cell, ".1f", 100, " %")


def clear(cell: Cell | None) -> bool:
    """Whether the interval excludes 0."""
    return cell is not None and cell["low"] is not None and (cell["low"] > 0 or cell["high"] < 0)


def compared(what: str, cell: Cell | None, against: str, outcome: str = "every word holds") -> str:
    """A sentence for a paired difference of the share of images with this outcome, which says also when nothing can be
    told. what opens the sentence."""
    if cell is None or cell["estimate"] is None:
        return f"{what}: it could not be compared with {against}."
    points = span(cell, "+.1f", 100, " points")
    if not clear(cell):
        return f"{what}: whether {outcome} more often than {against} cannot be told, {points}."
    return f"{what}: {outcome} {'more' if cell['estimate'] > 0 else 'less'} often than {against}, {points}."


def few(prompts: int) -> list[str]:
    """What has to be said of intervals over a handful of prompts."""
    if prompts >= FEW:
        return []
    return [
        f"There are {prompts} prompts: intervals over so few are too narrow, so take them as a rough guide."
    ]


def before_after(
    job: Job, methods: Sequence[Method], prompts: Sequence[str], seeds: Sequence[int] | None = None
) -> Part:
    """Pictures: a row a prompt with its seed (its first evaluation seed where None), a column a method. Made once a run."""
    seeds = [row[0] for row in evaluation_seeds(job, prompts)] if seeds is None else seeds

    def make() -> dict[str, Any]:
        diffuser, sampling = job.studio.models.diffuser(), sampling_of(job)
        with job.studio.models.lock:
            images = [
                method.run(diffuser, prompts, seeds, sampling, stop=job.stopped).images for method in methods
            ]
        items = [
            {"png": thumbnail(column[row]), "caption": f"{method.name}: {prompt} (seed {seed})"}
            for row, (prompt, seed) in enumerate(zip(prompts, seeds, strict=True))
            for method, column in zip(methods, images, strict=True)
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
