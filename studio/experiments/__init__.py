"""The paper's experiments (issue "Real models", item 4): one file each, all of them runs of kind 'experiment'.

An experiment is a function of a job (studio.training.runs.Job) that gives the parts of a report: answer (sentences with the
measured figures), judge, figures, tables, pictures and data. `conduct` wraps them up as report.json and report.html in
the run's folder. Its stages are kept, its images are in journals or in the store: a run that was stopped goes on where
it was and makes nothing twice.
"""

from __future__ import annotations

import importlib
import json
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from core.jsonfile import read, read_or
from studio.experiments.fields import FIELDS, check_experiment, default_of
from studio.numbers import plain
from studio.training.configs import Field

if TYPE_CHECKING:
    from studio.studio import Studio
    from studio.training.runs import Job

__all__ = ["EXPERIMENTS", "Experiment", "check_experiment", "conduct", "report_of", "unfinished"]

REPORT, PAGE, SECONDS = "report.json", "report.html", "seconds.json"
MADE_WITH = "made with"  # the stage by which a run knows the models that it was begun with


class Experiment(NamedTuple):
    """title, the question that it asks, its fields, and what does it: run(job) -> the parts of a report."""

    title: str
    question: str
    fields: dict[str, Field]
    run: Callable[[Any], dict[str, Any]]


def _experiment(name: str, title: str, question: str) -> Experiment:
    def run(job: Job) -> dict[str, Any]:
        return importlib.import_module(f"studio.experiments.{name}").run(job)  # heavy: only when it is run

    return Experiment(title, question, FIELDS[name], run)


EXPERIMENTS: dict[str, Experiment] = {
    name: _experiment(name, title, question)
    for name, title, question in (
        (
            "fidelity",
            "Fidelity of the reward model",
            "How well does the reward model, which sees only the noise, foretell what the scorer and people say of the image?",
        ),
        (
            "single",
            "A projector for one prompt",
            "Does a projector that is trained on one hard prompt and a few seeds help on these seeds, and on others?",
        ),
        (
            "shift",
            "Distribution shift",
            "How far do the projected noises, and their images, move from what they were, and where to?",
        ),
        (
            "tau",
            "Weight of the constraint",
            "How do the constraint's weight tau and the strength trade alignment for staying near N(0, I)?",
        ),
        (
            "alignment",
            "Methods and their cost",
            "Which method makes images show what the prompt says, by how much, and at what cost?",
        ),
        (
            "corrections",
            "What corrections buy",
            "Do more corrected words make a better reward model and better aligned images?",
        ),
    )
}


def conduct(job: Job) -> dict[str, Any]:
    """Run the experiment of a job and write its report; what its run is done with."""
    from studio.components.report import html  # draws: heavy

    name, began = job.config["name"], time.monotonic()
    clock = job.folder / SECONDS
    before = read_or(0.0, clock)
    check_same(job)
    try:
        found = EXPERIMENTS[name].run(job)
    finally:
        spent = round(before + time.monotonic() - began, 1)
        _write(clock, json.dumps(spent))
    models = job.studio.models
    diffuser, config = models.diffuser(), dict(job.config)
    config["given"] = None if config["given"] is None else len(config["given"])
    report = plain(
        {
            "experiment": name,
            "title": EXPERIMENTS[name].title,
            "question": EXPERIMENTS[name].question,
            "config": config,
            "backbone": diffuser.name,
            "backbone_revision": diffuser.revision,
            "scorer": models.scorer().version,
            "seconds": spent,
            "created": datetime.now(UTC).isoformat(timespec="seconds"),
            **found,
            "tables": [*found["tables"], sizes(config)],
        }
    )
    _write(job.folder / REPORT, json.dumps(report, indent=1, ensure_ascii=False, allow_nan=False))
    _write(job.folder / PAGE, html(report))
    return {
        "metrics": {
            "experiment": name,
            "report": f"runs/{job.run['id']}/{REPORT}",
            "answer": report["answer"],
            "judge": report["judge"],
            "seconds": spent,
        }
    }


def made_with(studio: Studio) -> dict[str, str]:
    """What a run's images and scores come from, beside its settings."""
    diffuser = studio.models.diffuser()
    return {
        "backbone": diffuser.name,
        "images": diffuser.fingerprint,
        "scorer": studio.models.scorer().version,
    }


def check_same(job: Job) -> None:
    """ValueError where a run that is gone on with was begun with another backbone, size, dtype or scorer."""
    now = made_with(job.studio)
    then = job.stage(MADE_WITH, lambda: now)
    changed = [f"{name} {then[name]}" for name in now if then[name] != now[name]]
    if changed:
        raise ValueError(
            f"The run {job.run['id']} was begun with other {' and '.join(changed)}: set the settings as they were then "
            "(STUDIO_BACKBONE, STUDIO_SIZE, STUDIO_DTYPE, STUDIO_SCORER), or start it anew."
        )


def sizes(config: Mapping[str, Any]) -> dict[str, Any]:
    """A table of what the run's settings were, beside those of the full size."""
    fields = FIELDS[config["name"]]
    rows = [[name, config[name], default_of(field, True)] for name, field in fields.items() if name != "size"]
    note = f"This run: {config['size']} size, but for what was set by itself."
    return {
        "title": "Settings",
        "columns": ["setting", "this run", "full size"],
        "rows": rows,
        "note": note,
        "percent": [],
    }


def report_of(studio: Studio, run: Mapping[str, Any]) -> dict[str, Any]:
    """The report of a run that is done; ValueError where there is none."""
    path = studio.runs.folder(run["id"]) / REPORT
    if run["kind"] != "experiment" or run["state"] != "done" or not path.is_file():
        raise ValueError(f"The run {run['id']} has no report: let the experiment finish first.")
    try:
        return read(path)
    except ValueError as error:
        raise ValueError(f"{error} Run the experiment again.") from None


def unfinished(studio: Studio, config: Mapping[str, Any]) -> str | None:
    """The newest run of this very experiment that was begun and is not done, so that the same command goes on with it."""
    from studio.training.runs import RunLog  # it loads torch, and the command line reads this package

    wanted = json.loads(
        json.dumps({**studio.runs.checked("experiment", config), "used": studio.runs.in_use()})
    )
    for state in ("stopped", "interrupted", "failed"):
        for run in studio.runs.find(kind="experiment", state=state):
            if run["config"] == wanted:
                then = RunLog(studio.runs.folder(run["id"])).done().get(MADE_WITH)
                if then is None or then == made_with(studio):
                    return run["id"]
    return None


def _write(path: Path, text: str) -> None:
    from studio.images import pictures

    pictures.write(path, text.encode())
