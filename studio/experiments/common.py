"""What the experiments share: their prompts, images judged and kept, figures and tables, sentences, pictures."""

from __future__ import annotations

import base64
import dataclasses
import io
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from core.evaluation.base import Settings as Sampling
from core.evaluation.distribution import invalid
from core.evaluation.experiments import alignment
from core.evaluation.journal import FILE
from core.evaluation.methods import Method
from core.evaluation.metrics import wilson
from core.evaluation.report import features
from core.jsonfile import read_lines
from core.training.loop import Progress
from studio.experiments.evaluation import unseen
from studio.images.prompts import seeds_for
from studio.training.heldout import judge_of
from studio.training.runs import Job

if TYPE_CHECKING:
    from studio.studio import Studio

SIDE = 128  # pixels of a picture in a report, at most
DRAWS = 2000
WHOLE = "image is whole (every word holds and nothing else is there)"
FEW = 10  # prompts below which a bootstrap over them is not to be trusted
Figure = dict[str, Any]
Table = dict[str, Any]


# ---- what is asked of the models ----------------------------------------------------------------------------------


def heldout_prompts(job: Job) -> list[str]:
    """The prompts to judge by: those given, evenly picked, or our own; none that was trained on. Kept with the run."""

    def find() -> dict[str, Any]:
        most, given = job.config["prompts"], job.config["given"]
        wanted = given or job.studio.prompts.of("heldout", most)
        return {"prompts": evenly(unseen(job.studio, wanted), most)}

    return job.stage("prompts", find)["prompts"]


def evenly(items: Sequence[str], most: int) -> list[str]:
    """At most so many items, evenly spread, as public sets are sorted by what they test."""
    places = np.linspace(0, len(items) - 1, min(most, len(items))).round().astype(int)
    return [items[place] for place in places]


def sampling_of(job: Job) -> Sampling:
    """How the run's images are made."""
    return Sampling(job.config["steps"], job.config["guidance"], batch=job.studio.settings.batch)


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

    def features(self, method: str) -> np.ndarray | None:
        """The scorer's features (N, F) of all images of a method, where the scorer has them."""
        return features(self.records[method])

    def answers(self, method: str) -> np.ndarray:
        """The scorer's distributions (N, 10) of all words of all images of a method."""
        rows = [p for r in self.records[method] for words in r["answers"] for p in words]
        return np.array(rows, float).reshape(-1, 10)

    def groups(self, method: str) -> list[str]:
        """The prompt of every image of a method."""
        return [r["prompt"] for r in self.records[method] for _ in r["items"]]

    def failures(self, method: str) -> dict[str, Any]:
        """The share of invalid images {estimate, low, high}: Wilson's interval."""
        usual = [look for r in self.records["none"] for look in r["looks"]]
        wrong = invalid([look for r in self.records[method] for look in r["looks"]], usual)
        return interval(wilson(int(wrong.sum()), len(wrong)))


def judged(
    job: Job,
    name: str,
    methods: Sequence[Method],
    prompts: Sequence[str],
    seeds: Sequence[Sequence[int]],
) -> Judged:
    """Make, score and judge what is not in the run's journal `name` yet. Raises Stopped."""
    studio, folder = job.studio, job.folder / name
    judge, who = judge_of(studio, prompts)
    scorer, diffuser = studio.models.scorer(), studio.models.diffuser()
    with studio.models.lock:
        report = alignment(
            diffuser, methods, prompts, seeds, judge, scorer=scorer, settings=sampling_of(job), folder=folder,
            draws=DRAWS, on_progress=job.watch(f"{name}: images"), stop=job.stopped,
        )  # fmt: skip
    table = dict(zip(prompts, seeds, strict=True))
    lines = read_lines(folder / FILE)
    found = {
        (r["method"], r["prompt"]): r for r in lines if "items" in r and r["seeds"] == table.get(r["prompt"])
    }
    made = list(dict.fromkeys(method for method, _ in found))
    records = {
        method: [found[method, p] for p in prompts]
        for method in made
        if all((method, p) in found for p in prompts)
    }
    return Judged(report, who, records, list(prompts))


def evaluation_seeds(job: Job, prompts: Sequence[str]) -> list[list[int]]:
    """The seeds of each prompt that no training meets."""
    return [seeds_for(prompt, job.config["seeds"], evaluation=True) for prompt in prompts]


def studio_at(job: Job, home: Path) -> Any:
    """A studio with a home of its own that starts from the models in use when the run was made."""
    folders, models = {}, job.studio.models
    for kind in ("reward", "projector"):
        used = job.config["used"][kind]
        folders[kind] = (
            models.folder_of(job.studio.runs.get(used)) if used else getattr(job.studio.settings, kind)
        )
    studio = type(job.studio)(dataclasses.replace(job.studio.settings, home=home, **folders))
    studio.models.share(models)
    return studio


def scored_images(job: Job, studio: Studio, prompts: Sequence[str], seeds: int, what: str) -> list[str]:
    """Images of `prompts` with so many seeds each in a studio of the run's own, scored; what is there already is not made
    again. Their samples' ids. Raises Stopped."""
    ids = studio.collecting.collect(
        prompts, seeds, steps=job.config["steps"], guidance=job.config["guidance"], prompt_set=what,
        on_progress=job.counter(f"{what}: images"), stop=job.stopped,
    )  # fmt: skip
    job.check()
    studio.scoring.score(ids, job.counter(f"{what}: scores"), job.stopped)
    job.check()
    return ids


def need(job: Job, kind: str) -> Any:
    """The model of a kind that was in use when the run was made; ValueError where there is none."""
    from studio.training.stages import used_model

    model = used_model(job, kind)
    if model is None:
        raise ValueError(f"There is no {kind} to measure: train one and promote it first.")
    return model


def counted(job: Job, stage: str, total: int) -> Callable[[int], None]:
    """done -> progress of a stage; raises Stopped where the run was asked to stop."""
    count = job.stoppable(stage)
    return lambda done: count(done, total)


def forwarded(job: Job, stage: str) -> Callable[[dict[str, Any]], None]:
    """A report line of other work -> progress of this run."""

    def on_line(line: dict[str, Any]) -> None:
        job.watch(f"{stage}: {line['stage']}")(
            Progress(line["step"], line["total"], line["metrics"], 0.0, line["left"] or 0.0)
        )

    return on_line


# ---- parts of a report --------------------------------------------------------------------------------------------


def interval(found: Any) -> dict[str, float | None]:
    """{estimate, low, high} of an Interval, None for what is not a number."""
    return {name: float(value) if np.isfinite(value) else None for name, value in found._asdict().items()}


def series(
    name: str, x: Sequence[Any], cells: Sequence[dict[str, Any]], text: Sequence[str] | None = None
) -> dict:
    """A series with intervals from {estimate, low, high} cells."""
    parts = {"y": "estimate", "low": "low", "high": "high"}
    found = {"name": name, "x": list(x), **{key: [c[part] for c in cells] for key, part in parts.items()}}
    return found | ({"text": list(text)} if text else {})


def figure(kind: str, title: str, x: str, y: str, series: Sequence[dict] = (), **more: Any) -> Figure:
    """A figure; `more`: log_x, reference, reference_name, note; z, rows and columns of a heatmap."""
    return {"kind": kind, "title": title, "x": x, "y": y, "series": list(series), **more}


def table(
    title: str,
    columns: Sequence[str],
    rows: Sequence[Sequence[Any]],
    note: str = "",
    percent: Sequence[str] = (),
) -> Table:
    """A table; `percent` names the columns that are shares."""
    return {
        "title": title,
        "columns": list(columns),
        "rows": [list(row) for row in rows],
        "note": note,
        "percent": list(percent),
    }


def span(cell: dict[str, Any], percent: bool = False, sign: bool = False) -> str:
    """0.412 [0.380, 0.440], or 41.2 % [38.0, 44.0]."""
    if cell["estimate"] is None:
        return "not measurable"
    scale, form = (100, "+.1f" if sign else ".1f") if percent else (1, "+.3f" if sign else ".3f")
    unit = (" points" if sign else " %") if percent else ""
    end = (
        ""
        if cell["low"] is None or cell["high"] is None
        else f" [{scale * cell['low']:{form}}, {scale * cell['high']:{form}}]"
    )
    return f"{scale * cell['estimate']:{form}}{unit}{end}"


def clear(cell: dict[str, Any]) -> bool:
    """Whether the interval excludes 0."""
    return cell["low"] is not None and (cell["low"] > 0 or cell["high"] < 0)


def compared(what: str, cell: dict[str, Any], against: str, outcome: str = "every word holds") -> str:
    """A sentence for a paired difference of the share of images with this outcome, which says also when nothing can be
    told. what opens the sentence."""
    if cell["estimate"] is None:
        return f"{what}: it could not be compared with {against}."
    figures = span(cell, True, True)
    if not clear(cell):
        return f"{what}: whether {outcome} more often than {against} cannot be told, {figures}."
    return f"{what}: {outcome} {'more' if cell['estimate'] > 0 else 'less'} often than {against}, {figures}."


def few(prompts: int) -> list[str]:
    """What has to be said of intervals over a handful of prompts."""
    if prompts >= FEW:
        return []
    return [
        f"There are {prompts} prompts: intervals over so few are too narrow, so take them as a rough guide."
    ]


def judge_sentence(judge: str | None) -> list[str]:
    """What has to be said of the judge."""
    if judge != "scorer":
        return []
    return [
        "The judge is the scorer itself, from which the labels came: this is not independent of what was trained on."
    ]


def before_after(
    job: Job, methods: Sequence[Method], prompts: Sequence[str], seeds: Sequence[int], titles: Sequence[str]
) -> dict[str, Any]:
    """PICTURES: a row a prompt with its seed, a column a method. Made once a run."""

    def make() -> dict[str, Any]:
        images = []
        with job.studio.models.lock:
            for method in methods:
                images.append(
                    method.run(
                        job.studio.models.diffuser(), prompts, seeds, sampling_of(job), stop=job.stopped
                    ).images
                )
        items = [
            {
                "png": thumbnail(images[column][row]),
                "caption": f"{titles[column]}: {prompts[row]} (seed {seeds[row]})",
            }
            for row in range(len(prompts))
            for column in range(len(methods))
        ]
        return {"title": " / ".join(titles), "columns": len(methods), "items": items}

    return job.stage("pictures", make)


def thumbnail(image: np.ndarray) -> str:
    """A PNG in base64 of an image uint8 (H, W, 3), made smaller where it is large."""
    picture, file = Image.fromarray(image), io.BytesIO()
    picture.thumbnail((SIDE, SIDE))
    picture.save(file, "PNG", optimize=True)
    return base64.b64encode(file.getvalue()).decode()
