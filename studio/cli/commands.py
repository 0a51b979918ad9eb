"""The commands of `python -m studio`: what each takes, does and says. The work is the service's.

A command is a function of (arguments, console) that returns a Result; `studio.cli.arguments` knows what each takes.
"""

from __future__ import annotations

import argparse
import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from studio.numbers import whole
from studio.settings import Settings, settings_table
from studio.times import moment
from studio.training.results import seeds_said

PROGRAM = "python -m studio"


@dataclass
class Result:
    """data for --json, text for people, and the command that goes on where work was stopped."""

    data: Any
    text: str
    again: str = ""


def studio_of(given: argparse.Namespace) -> Any:
    """The studio that the environment, and --home, describe."""
    from studio.studio import Studio

    settings = Settings.from_env()
    if given.home:
        settings = dataclasses.replace(settings, home=Path(given.home).expanduser().absolute())
    return Studio(settings)


def prompts_of(given: argparse.Namespace, studio: Any) -> list[str]:
    """--prompts, all of them or the first --count; else --count of a set of our own, 100 unless it is given."""
    from data.prompts import load
    from data.prompts.public import read_set

    if not given.prompts:
        return load(given.set, 100 if given.count is None else given.count, studio.settings.world)
    return first(read_set(given.prompts), "count", given.count)


def first(prompts: list[str], name: str, count: Any) -> list[str]:
    """The first `count` of the prompts; all of them where it is None."""
    return prompts if count is None else prompts[: whole(name, count, 1, 100_000)]


def choices(pairs: list[str] | None) -> dict[str, Any]:
    """name=value, several times -> a configuration; ValueError where one is something else."""
    found = {}
    for pair in pairs or []:
        name, equals, value = pair.partition("=")
        if not equals or not name.strip():
            raise ValueError(f"{pair[:60]!r} is no setting: write name=value, for example seed=1.")
        found[name.strip().replace("-", "_")] = value.strip()
    return found


def person(given: argparse.Namespace) -> str:
    """Who it is: --who, else the account's name."""
    import getpass

    from studio.access.identity import check_name

    if given.who:
        return check_name(given.who)
    try:
        return check_name(getpass.getuser())
    except (OSError, KeyError, ImportError):
        return "command-line"


# ---- commands -----------------------------------------------------------------------------------------------------


def collect(given: argparse.Namespace, console: Any) -> Result:
    """Make and store images, and score them."""
    from data.prompts.public import set_name

    studio = studio_of(given)
    prompts = prompts_of(given, studio)
    ids = studio.collecting.collect(
        prompts, given.seeds, given.method, steps=given.steps, guidance=given.guidance, strength=given.strength,
        batch=given.batch, prompt_set=set_name(given.prompts) if given.prompts else given.set,
        first_seed=given.first_seed, on_progress=console.count("images"), stop=console.stop,
    )  # fmt: skip
    scored = (
        0
        if given.no_score or console.stop.is_set()
        else studio.scoring.score(ids, console.count("scores"), console.stop)
    )
    text = f"{len(ids)} samples of {len(prompts)} prompts are stored; {scored} were scored."
    again = "the same command" if console.stop.is_set() else ""
    return Result({"samples": ids, "prompts": len(prompts), "scored": scored}, text, again)


def score(given: argparse.Namespace, console: Any) -> Result:
    """Score stored samples that the scorer has not scored."""
    studio = studio_of(given)
    count = studio.scoring.score(given.samples or None, console.count("scores"), console.stop)
    return Result(
        {"scored": count},
        f"{count} samples were scored.",
        "the same command" if console.stop.is_set() else "",
    )


def train(given: argparse.Namespace, console: Any) -> Result:
    """Train, in this process or (--background) in one of its own."""
    studio = studio_of(given)
    config = choices(given.set)
    if given.run_id and config:
        raise ValueError("A run that is gone on with keeps its settings: leave --set out.")
    if given.background:
        run = studio.runs.resume(given.run_id) if given.run_id else studio.runs.start(given.kind, config)
        return Result({"run": run}, f"The run {run} goes on by itself. Look at it with: {PROGRAM} runs {run}")
    run = studio.training.train(given.kind, config, given.run_id, console.report, console.stop)
    return Result(
        run,
        described(run),
        f"{PROGRAM} train {given.kind} --run {run['id']}" if run["state"] == "stopped" else "",
    )


def evaluate(given: argparse.Namespace, console: Any) -> Result:
    """Judge methods (alignment), scores (fidelity) or the judge itself (detector)."""
    from core.evaluation.report import markdown
    from core.training.loop import Stopped
    from data.prompts.public import read_set
    from studio.experiments import evaluation

    studio, config = studio_of(given), choices(given.set)
    prompts = first(read_set(given.prompts), "prompts", config.get("prompts")) if given.prompts else None
    try:
        report = evaluation.evaluate(studio, given.kind, config, prompts, console.report, console.stop)
    except Stopped:
        return Result({"stopped": True}, "Not finished.", "the same command")
    if given.kind == "alignment":
        text = markdown(report) + f"\nJudge: {report['judge']}."
    elif given.kind == "habits":
        from studio.experiments.habits import table

        text = table(report)
    elif given.kind == "detector":
        text = "\n".join(
            f"{name}: {part['words']} words of {part['images']} renders, {part['right']:.4f} right"
            for name, part in (
                ("as rendered", report["renders"]),
                ("after a VAE round trip", report["round_trip"]),
            )
        )
    else:
        text = "\n".join(
            f"reward model and {name}: Pearson {_span(report[name]['pearson'])}, within a prompt "
            f"{_span(report[name]['within_prompt'])}, {report[name]['words']} words"
            for name in ("vlm", "human")
            if name in report
        )
    return Result(report, text)


def correct(given: argparse.Namespace, console: Any) -> Result:
    """Corrections by the simulated annotator (the detector of the shapes world), stored as simulated."""
    studio = studio_of(given)
    found = studio.annotation.simulate(
        given.samples or None,
        given.count,
        seed=given.seed,
        order=given.order,
        habit=given.habit,
        on_progress=console.count("corrections"),
    )
    text = (
        "{words} words of {samples} samples have a simulated correction, {typed} typed and {confirmed} confirmed; "
        "{changed} differ from the scorer."
    ).format(**found)
    if found["words"] < given.count:
        text += " There were no more: collect and score samples of training prompts first."
    return Result(found, text)


def foresee(given: argparse.Namespace, console: Any) -> Result:
    """Compare the reward model with the scorer on stored samples, for the queue's orders "reward" and "projected"."""
    found = studio_of(given).foreseeing.foresee(given.count, console.count("samples"), console.stop)
    text = "{compared} samples were compared".format(**found)
    if found["left_out"]:
        text += "; {left_out} were left out, as their noise or their words cannot be had again".format(
            **found
        )
    if found["missing"]:
        text += "; {missing} are left".format(**found)
    return Result(found, f"{text}.", "the same command" if console.stop.is_set() else "")


def merge(given: argparse.Namespace, console: Any) -> Result:
    """Take over what other processes have collected or scored, here or in the STUDIO_HOME of another machine."""
    from studio.images import shards

    home = Path(given.folder).expanduser().absolute() if given.folder else None
    if home and not shards.folder_of(home).is_dir():
        raise ValueError(
            f"{given.folder} has no folder shards: give a copy of the other machine's STUDIO_HOME."
        )
    ids = sorted(shards.merge(studio_of(given), home))
    return Result({"samples": ids}, f"{len(ids)} samples were taken over.")


def labels(given: argparse.Namespace, console: Any) -> Result:
    """Write the scorer's labels of the store as the folder that retraining replays (STUDIO_LABELS)."""
    from studio.training.replay import gather

    most = None if given.count is None else whole("count", given.count, 1, 10**9)
    found = gather(studio_of(given), features=not given.no_features, most=most)
    found.save(given.folder)
    return Result(
        {"samples": len(found), "words": len(found.word)}, f"{len(found)} samples are in {given.folder}."
    )


def promote(given: argparse.Namespace, console: Any) -> Result:
    """Put a run's models into use; refused where its held-out result is worse."""
    run = studio_of(given).runs.promote(given.run_id, person(given), given.force)
    return Result(run, f"The {run['kind']} {run['id']} is in use.")


def rollback(given: argparse.Namespace, console: Any) -> Result:
    """Back to what was in use before."""
    run = studio_of(given).runs.rollback(given.kind, person(given))
    return Result(run, f"In use again: {run['id'] if run else 'what the project ships'}.")


def runs(given: argparse.Namespace, console: Any) -> Result:
    """List the runs, or show one."""
    studio = studio_of(given)
    if given.run_id:
        found = studio.runs.status(given.run_id)
        return Result(found, described(found["run"]))
    listed = studio.runs.find(kind=given.kind, limit=given.limit)
    return Result(listed, "\n".join(described(run) for run in listed) or "There is no run yet.")


def people(given: argparse.Namespace, console: Any) -> Result:
    """The names that belong to somebody, or --release one for the next who writes under it."""
    store = studio_of(given).store
    if given.release is not None:
        store.people.release(given.release, person(given))
        return Result(
            {"released": given.release}, "The name is free: it goes to the next one who writes under it."
        )
    found = store.people.find()
    lines = [f"{moment(one['created'])}  {one['name']}" for one in found]
    return Result(found, "\n".join(lines) or "No name belongs to anybody yet.")


def stop(given: argparse.Namespace, console: Any) -> Result:
    """Ask a run to stop after the step it is in."""
    studio_of(given).runs.stop(given.run_id)
    return Result({"run": given.run_id}, f"The run {given.run_id} will stop after the step it is in.")


def status(given: argparse.Namespace, console: Any) -> Result:
    """What is in use, and how much there is."""
    found = studio_of(given).status()
    return Result(
        found, "\n".join(f"{name}: {value}" for name, value in found.items() if value not in ("", None))
    )


def settings(given: argparse.Namespace, console: Any) -> Result:
    """The settings that the environment can change."""
    found = dataclasses.asdict(Settings.from_env())
    del found["token"]  # a secret
    return Result(found, settings_table())


# ---- words for people ---------------------------------------------------------------------------------------------


def described(run: dict[str, Any]) -> str:
    """A run in a line, and its held-out result in another."""
    used = ", in use" if run["promoted"] else ""
    lines = [
        f"{run['id']}  {run['kind']}  {run['state']}{used}  {moment(run['created'])}  {run['message']}".rstrip()
    ]
    heldout = (run["metrics"] or {}).get("heldout")
    if run["kind"] == "round" and (note := (run["metrics"] or {}).get("note")):
        lines.append(f"    {note}")
    if heldout:
        base = "none" if heldout["base"] == "none" else "before"
        lines.append(f"    held-out {heldout['of']}, judged by {heldout['judge']}: {_span(heldout['difference']['words'], '+')} "
                     f"against {base}")  # fmt: skip
        for figure, name in (("strict", "every word holds"), ("clean", "and nothing else is there")):
            if figure in heldout["difference"] and figure in heldout.get("against_none", {}):
                lines.append(f"    {name}: {_span(heldout['difference'][figure], '+')} against {base}, "
                             f"{_span(heldout['against_none'][figure], '+')} against none")  # fmt: skip
        lines += [f"    {line}" for line in seeds_said(heldout)]
    return "\n".join(lines)


def _span(found: dict[str, float | None], sign: str = "") -> str:
    if found["estimate"] is None:
        return "-"
    low, high = found["low"], found["high"]
    end = "" if low is None or high is None else f" [{low:{sign}.3f}, {high:{sign}.3f}]"
    return f"{found['estimate']:{sign}.3f}{end}"
