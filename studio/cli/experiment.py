"""The command that runs an experiment: begin it, or go on with it where it was, and keep its report."""

from __future__ import annotations

import argparse
import shutil
from pathlib import Path
from typing import Any

from studio.cli import commands
from studio.cli.commands import PROGRAM, Result, choices


def experiment(given: argparse.Namespace, console: Any) -> Result:
    """Run one of the paper's experiments, or go on with it; a report in JSON and HTML."""
    from data.prompts.public import read_set, set_name
    from studio.experiments import report_of, unfinished

    studio = commands.studio_of(given)
    run_id = given.run_id
    if run_id and (given.set or given.prompts):
        raise ValueError(
            "An experiment that is gone on with keeps its settings and prompts: leave --set and --prompts out."
        )
    config: dict[str, Any] = {"name": given.name, **choices(given.set)}
    if given.prompts:
        config |= {"given": read_set(given.prompts), "prompt_source": set_name(given.prompts)}
    if run_id is None:
        run_id = unfinished(studio, config)
        if run_id:
            console.say(f"Going on with the run {run_id}.")
    elif studio.runs.get(run_id)["config"].get("name") != given.name:
        raise ValueError(f"The run {run_id} is not the experiment {given.name}: name its own.")
    if given.background:
        run_id = studio.runs.resume(run_id) if run_id else studio.runs.start("experiment", config)
        return Result(
            {"run": run_id}, f"The run {run_id} goes on by itself. Look at it with: {PROGRAM} runs {run_id}"
        )
    run = studio.training.train("experiment", config, run_id, console.report, console.stop)
    if run["state"] != "done":
        return Result(
            run, f"Not finished: the run {run['id']}.", f"{PROGRAM} experiment {given.name} --run {run['id']}"
        )
    report, folder = report_of(studio, run), studio.runs.folder(run["id"])
    if given.out:
        folder = keep(folder, Path(given.out).expanduser())
    return Result(report, "\n".join([report["question"], *report["answer"], f"The report is in {folder}."]))


def keep(folder: Path, out: Path) -> Path:
    """Copy a run's report to a folder of the user's; that folder."""
    out.mkdir(parents=True, exist_ok=True)
    for path in sorted(folder.glob("report.*")):
        shutil.copyfile(path, out / path.name)
    return out
