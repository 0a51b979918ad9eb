"""The paper's experiments: one file each, all of them runs of kind 'experiment'.

An experiment is a function of a job (studio.training.runs.Job) that gives the parts of a report: answer (sentences with the
measured figures), judge, figures, tables, pictures and data. `conduct` writes them as report.json and report.html in
the run's folder. Its stages are kept, its images are in journals or in the store: a run that was stopped goes on where
it was and makes nothing twice.
"""

from __future__ import annotations

import importlib
import json
import time
from collections.abc import Mapping
from datetime import UTC, datetime
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
    """name of its module here, title, and the question that it asks."""

    name: str
    title: str
    question: str

    @property
    def fields(self) -> dict[str, Field]:
        """Its settings."""
        return FIELDS[self.name]

    def run(self, job: Job) -> dict[str, Any]:
        """The parts of its report."""
        module = importlib.import_module(f"studio.experiments.{self.name}")  # heavy: only when it is run
        return module.run(job)


EXPERIMENTS = {
    experiment.name: experiment
    for experiment in (
        Experiment(
            "fidelity",
            "Fidelity of the reward model",
            "How well does the reward model, which sees only the noise, foretell what the scorer and people say of the image?",
        ),
        Experiment(
            "single",
            "A projector for one prompt",
            "Does a projector that is trained on one hard prompt and a few seeds help on these seeds, and on others?",
        ),
        Experiment(
            "shift",
            "Distribution shift",
            "How far do the projected noises, and their images, move from what they were, and where to?",
        ),
        Experiment(
            "tau",
            "Weight of the constraint",
            "How do the constraint's weight tau and the strength trade alignment for staying near N(0, I)?",
        ),
        Experiment(
            "alignment",
            "Methods and their cost",
            "Which method makes images show what the prompt says, by how much, and at what cost?",
        ),
        Experiment(
            "corrections",
            "What corrections buy",
            "Do more corrected words make a better reward model and better aligned images?",
        ),
    )
}


def conduct(job: Job) -> dict[str, Any]:
    """Run the experiment of a job and write its report; what its run is done with."""
    from studio.components.report import html  # heavy, which the command line does not wait for
    from studio.images import pictures

    experiment, models, config = EXPERIMENTS[job.config["name"]], job.studio.models, job.config
    began, before = time.monotonic(), read_or(0.0, job.folder / SECONDS)
    check_same(job)
    try:
        parts = experiment.run(job)
    finally:
        seconds = round(before + time.monotonic() - began, 1)
        pictures.write(job.folder / SECONDS, json.dumps(seconds).encode())
    given = config["given"]
    report = plain(
        {
            "experiment": experiment.name,
            "title": experiment.title,
            "question": experiment.question,
            "config": {**config, "given": given if given is None else len(given)},
            "backbone": models.diffuser().name,
            "backbone_revision": models.diffuser().revision,
            "scorer": models.scorer().version,
            "seconds": seconds,
            "created": datetime.now(UTC).isoformat(timespec="seconds"),
            **parts,
            "tables": [*parts["tables"], settings_table(experiment, config)],
        }
    )
    text = json.dumps(report, indent=1, ensure_ascii=False, allow_nan=False)
    pictures.write(job.folder / REPORT, text.encode())
    pictures.write(job.folder / PAGE, html(report).encode())
    metrics = {name: report[name] for name in ("experiment", "answer", "judge", "seconds")}
    return {"metrics": {**metrics, "report": f"runs/{job.run['id']}/{REPORT}"}}


def made_with(studio: Studio) -> dict[str, str]:
    """The models that a run's images and scores depend on."""
    diffuser, scorer = studio.models.configured(), studio.models.scorer()
    return {"backbone": diffuser.name, "images": diffuser.fingerprint, "scorer": scorer.version}


def check_same(job: Job) -> None:
    """ValueError where a run that is resumed was begun with another backbone, size, dtype or scorer."""
    now = made_with(job.studio)
    then = job.stage(MADE_WITH, lambda: now)
    changed = [f"{name} {then[name]}" for name in now if then[name] != now[name]]
    if changed:
        raise ValueError(
            f"The run {job.run['id']} was begun with other {' and '.join(changed)}: set the settings as they were then "
            "(STUDIO_BACKBONE, STUDIO_SIZE, STUDIO_DTYPE, STUDIO_SCORER), or start it anew."
        )


def settings_table(experiment: Experiment, config: Mapping[str, Any]) -> dict[str, Any]:
    """A table of the run's settings, beside those of the full size."""
    from studio.experiments.parts import table

    rows = [
        {"setting": name, "this run": config[name], "full size": default_of(field, True)}
        for name, field in experiment.fields.items()
        if name != "size"
    ]
    return table("Settings", rows, f"This run: {config['size']} size, but for what was set by itself.")


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

    chosen = {**studio.runs.checked("experiment", config), "used": studio.runs.in_use()}
    wanted = json.loads(json.dumps(chosen))
    for state in ("stopped", "interrupted", "failed"):
        for run in studio.runs.find(kind="experiment", state=state):
            if run["config"] == wanted:
                then = RunLog(studio.runs.folder(run["id"])).done().get(MADE_WITH)
                if then is None or then == made_with(studio):
                    return run["id"]
    return None
