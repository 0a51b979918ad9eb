"""The commands that run an experiment, or resume it, and keep its report; and the one that measures what all of it costs."""

import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from studio.cli.commands import Background, Pairs, Prompts, choices, in_background
from studio.cli.console import Console
from studio.doors import PROGRAM, Result, command, group
from studio.experiments import EXPERIMENTS
from studio.training.configs import BENCHMARK

if TYPE_CHECKING:
    from studio.studio import Studio


@group(
    "name",
    {name: one.fields for name, one in EXPERIMENTS.items()},
    "Run one of the paper's experiments, with a report to keep.",
    {name: one.question for name, one in EXPERIMENTS.items()},
)
def experiment(
    studio: "Studio",
    console: Console,
    name: str,
    *,
    prompts: Prompts = None,
    run: Annotated[str | None, "resume the run of this id"] = None,
    out: Annotated[str | None, "a folder for copies of report.json and report.html"] = None,
    background: Background = False,
    set: Pairs = None,
) -> Result:
    """Run one of the paper's experiments, or resume it; a report in JSON and HTML."""
    from data.prompts.public import read_set, set_name
    from studio.experiments import report_of, unfinished

    if run and (set or prompts):
        raise ValueError(
            "An experiment that is gone on with keeps its settings and prompts: leave --set and --prompts out."
        )
    config: dict[str, Any] = {"name": name, **choices(set)}
    if prompts:
        config |= {"given": read_set(prompts), "prompt_source": set_name(prompts)}
    if run is None:
        run = unfinished(studio, config)
        if run:
            console.say(f"Going on with the run {run}.")
    elif studio.runs.get(run)["config"].get("name") != name:
        raise ValueError(f"The run {run} is not the experiment {name}: name its own.")
    if background:
        return in_background(studio.runs.resume(run) if run else studio.runs.start("experiment", config))
    done = studio.training.train("experiment", config, run, console.report, console.stop)
    if done["state"] != "done":
        again = f"{PROGRAM} experiment {name} --run {done['id']}"
        return Result(done, f"Not finished: the run {done['id']}.", again)
    report, folder = report_of(studio, done), studio.runs.folder(done["id"])
    if out:
        folder = keep(folder, Path(out).expanduser())
    return Result(report, "\n".join([report["question"], *report["answer"], f"The report is in {folder}."]))


def keep(folder: Path, out: Path) -> Path:
    """Copy a run's report to a folder of the user's; that folder."""
    out.mkdir(parents=True, exist_ok=True)
    for path in sorted(folder.glob("report.*")):
        shutil.copyfile(path, out / path.name)
    return out


@command(settings=BENCHMARK)
def benchmark(
    studio: "Studio",
    console: Console,
    *,
    set: Pairs = None,
    family: Annotated[str, "sdxl, flux or sd3"] = "sdxl",
) -> Result:
    """Measure what projection, scoring and training cost here, for the models in use and for SDXL's shapes; for flux or sd3, an
    image in that family's shapes alone."""
    from core.training.loop import Stopped
    from studio.experiments.benchmark import measure, table

    try:
        report = measure(studio, choices(set), console.report, console.stop.is_set, family)
    except Stopped:
        return Result({"stopped": True}, "Not finished.", "the same command, from the beginning")
    return Result(report, table(report))
