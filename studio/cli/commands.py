"""The commands that make, score, train, judge and list. The work is the service's; a command says how it went.

No ``from __future__ import annotations`` in modules of doors: the types of parameters are read as they are.
"""

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from core.progress import Stopped
from studio.cli.console import Console
from studio.doors import (
    PROGRAM,
    Loras,
    Negative,
    Result,
    RunId,
    Scheduler,
    Weighted,
    command,
    endpoint,
    group,
)
from studio.numbers import whole
from studio.settings import Settings, settings_table
from studio.times import moment
from studio.training.configs import EVALUATIONS, FIELDS
from studio.training.results import interval, seeds_said

if TYPE_CHECKING:
    from studio.studio import Studio

SAME = "the same command"

Account = Annotated[str | None, "who does it; without it the account's name"]
Background = Annotated[bool, "in a process of its own"]
Prompts = Annotated[
    str | None,
    "a file with one prompt a line (one that begins with '# ' or '##' is a comment), or a public set and the folder that it "
    "lies in: geneval:FOLDER, or one part of it, geneval/counting:FOLDER; known are geneval, t2i-compbench, partiprompts, "
    "dsg, tifa, dpg",
]
Pairs = Annotated[list[str] | None, "a setting, name=value; may be given several times; below"]


def studio_of(home: str | None) -> "Studio":
    """The studio that the environment, and --home, describe."""
    from studio.studio import Studio

    settings = Settings.from_env()
    if home:
        settings = dataclasses.replace(settings, home=Path(home).expanduser().absolute())
    return Studio(settings)


def first(prompts: list[str], name: str, count: Any) -> list[str]:
    """The first `count` of the prompts; all of them where it is None."""
    return prompts if count is None else prompts[: whole(name, count, 1, 100_000)]


def choices(pairs: list[str] | None) -> dict[str, Any]:
    """name=value, several times -> a configuration; ValueError where one is something else."""
    config = {}
    for pair in pairs or []:
        name, equals, value = pair.partition("=")
        if not equals or not name.strip():
            raise ValueError(f"{pair[:60]!r} is no setting: write name=value, for example seed=1.")
        config[name.strip().replace("-", "_")] = value.strip()
    return config


def person(who: str | None) -> str:
    """Who it is: --who, else the account's name."""
    import getpass

    from studio.access.identity import check_name

    if who:
        return check_name(who)
    try:
        return check_name(getpass.getuser())
    except (OSError, KeyError, ImportError):
        return "command-line"


# ---- images and scores --------------------------------------------------------------------------------------------


@command()
def collect(
    studio: "Studio",
    console: Console,
    *,
    prompts: Prompts = None,
    set: Annotated[str, "our own prompts: shapes_train, shapes_validation, shapes_heldout"] = "shapes_train",
    count: Annotated[int | None, "how many of them: 100 of our own, all of --prompts"] = None,
    seeds: Annotated[int, "seeds of each prompt"] = 1,
    first_seed: Annotated[int, "skip so many of a prompt's seeds"] = 0,
    method: Annotated[str, "none or projected"] = "none",
    strength: Annotated[float, "of the projection"] = 1.0,
    steps: Annotated[int | None, "sampling steps; without it STUDIO_STEPS, else the backbone's own"] = None,
    guidance: Annotated[float | None, "likewise; 0 is none"] = None,
    negative: Negative = None,
    scheduler: Scheduler = None,
    loras: Loras = "",
    weighted: Weighted = False,
    batch: Annotated[int | None, "images at a time"] = None,
    no_score: Annotated[bool, "leave the scoring for later"] = False,
) -> Result:
    """Make and store images, and score them."""
    from data.prompts import load
    from data.prompts.public import read_set, set_name
    from studio.images.options import read_prompts

    if prompts:
        texts = first(read_set(prompts), "count", count)
    else:
        texts = load(set, 100 if count is None else count, studio.settings.world)
    texts, options, typed = read_prompts(studio.settings, texts, negative, scheduler, loras, weighted)
    ids = studio.collecting.collect(
        texts, seeds, method, steps=steps, guidance=guidance, strength=strength, batch=batch,
        options=options, typed=typed, prompt_set=set_name(prompts) if prompts else set, first_seed=first_seed,
        on_progress=console.count("images"), stop=console.stop,
    )  # fmt: skip
    later = no_score or console.stop.is_set()
    scored = 0 if later else studio.scoring.score(ids, console.count("scores"), console.stop)
    text = f"{len(ids)} samples of {len(texts)} prompts are stored; {scored} were scored."
    again = SAME if console.stop.is_set() else ""
    return Result({"samples": ids, "prompts": len(texts), "scored": scored}, text, again)


@command()
def score(
    studio: "Studio",
    console: Console,
    samples: Annotated[list[str] | None, "sample ids; none: all that are not scored"] = None,
) -> Result:
    """Score stored samples that the scorer has not scored."""
    count = studio.scoring.score(samples, console.count("scores"), console.stop)
    return Result({"scored": count}, f"{count} samples were scored.", SAME if console.stop.is_set() else "")


@command()
def merge(
    studio: "Studio",
    folder: Annotated[str | None, "a copy of another machine's STUDIO_HOME; none: the own one"] = None,
) -> Result:
    """Take over what other processes have collected or scored, here or in the STUDIO_HOME of another machine."""
    from studio.images import shards

    home = Path(folder).expanduser().absolute() if folder else None
    if home and not shards.folder_of(home).is_dir():
        raise ValueError(f"{folder} has no folder shards: give a copy of the other machine's STUDIO_HOME.")
    ids = sorted(shards.merge(studio.making, home))
    return Result({"samples": ids}, f"{len(ids)} samples were taken over.")


@command()
def foresee(
    studio: "Studio",
    console: Console,
    *,
    count: Annotated[int | None, "at most so many samples, the newest first"] = None,
) -> Result:
    """Compare the reward model with the scorer on stored samples, for the queue's orders "reward" and "projected"."""
    figures = studio.foreseeing.foresee(count, console.count("samples"), console.stop)
    text = "{compared} samples were compared"
    if figures["left_out"]:
        text += "; {left_out} were left out, as their noise or their words cannot be had again"
    if figures["missing"]:
        text += "; {missing} are left"
    return Result(figures, f"{text}.".format(**figures), SAME if console.stop.is_set() else "")


@command()
def correct(
    studio: "Studio",
    console: Console,
    samples: Annotated[list[str] | None, "sample ids; none: the annotator's queue"] = None,
    *,
    count: Annotated[int, "words; the last image is judged to its end"] = 300,
    seed: Annotated[int, "of the order"] = 0,
    order: Annotated[str, "uncertainty, random, newest, disagreement, reward or projected"] = "uncertainty",
    habit: Annotated[
        str,
        "what is typed of an image: every word; wrong ones alone, then Done; clean: the same, but n where none is wrong",
    ] = "every",
) -> Result:
    """Corrections by the simulated annotator (the detector of the shapes world), stored as simulated."""
    figures = studio.annotation.simulate(
        samples, count, seed=seed, order=order, habit=habit, on_progress=console.count("corrections")
    )
    text = (
        "{words} words of {samples} samples have a simulated correction, {typed} typed and {confirmed} confirmed; "
        "{changed} differ from the scorer."
    ).format(**figures)
    if figures["words"] < count:
        text += " There were no more: collect and score samples of training prompts first."
    return Result(figures, text)


@command()
def labels(
    studio: "Studio",
    folder: Annotated[str, "where they go"],
    *,
    count: Annotated[str | None, "at most so many samples of training prompts, drawn at random"] = None,
    no_features: Annotated[bool, "leave out the scorer's hidden states"] = False,
) -> Result:
    """Write the scorer's labels of the store as the folder that retraining replays (STUDIO_LABELS)."""
    from studio.training.replay import gather
    from studio.training.sampled import left_out_said

    most = None if count is None else whole("count", count, 1, 10**9)
    kept = gather(studio, features=not no_features, most=most)
    kept.save(folder)
    text = f"{len(kept)} samples are in {folder}. {left_out_said(kept.meta['left_out'])}".strip()
    return Result({"samples": len(kept), "words": len(kept.word)}, text)


# ---- training -----------------------------------------------------------------------------------------------------


@group("kind", FIELDS, "Train a model, go through the whole loop, or make the images of its next round.")
def train(
    studio: "Studio",
    console: Console,
    kind: str,
    *,
    run: Annotated[str | None, "begin or resume the run of this id"] = None,
    background: Background = False,
    set: Pairs = None,
) -> Result:
    """Train, in this process or (--background) in one of its own."""
    config = choices(set)
    if run and config:
        raise ValueError("A run that is gone on with keeps its settings: leave --set out.")
    if background:
        return in_background(studio.runs.resume(run) if run else studio.runs.start(kind, config))
    done = studio.training.train(kind, config, run, console.report, console.stop)
    again = f"{PROGRAM} train {kind} --run {done['id']}" if done["state"] == "stopped" else ""
    return Result(done, described(done), again)


def in_background(run: str) -> Result:
    """What is answered of a run in a process of its own."""
    return Result({"run": run}, f"The run {run} goes on by itself. Look at it with: {PROGRAM} runs {run}")


@group("kind", EVALUATIONS, "Judge on held-out prompts.")
def evaluate(
    studio: "Studio", console: Console, kind: str, *, prompts: Prompts = None, set: Pairs = None
) -> Result:
    """Judge methods (alignment), scores (fidelity) or the judge itself (detector)."""
    from core.evaluation.report import markdown
    from data.prompts.public import read_set
    from studio.experiments import evaluation

    config = choices(set)
    texts = first(read_set(prompts), "prompts", config.get("prompts")) if prompts else None
    try:
        report = evaluation.evaluate(studio, kind, config, texts, console.report, console.stop)
    except Stopped:
        return Result({"stopped": True}, "Not finished.", SAME)
    if kind == "alignment":
        text = markdown(report) + f"\nJudge: {report['judge']}."
    elif kind == "habits":
        from studio.experiments.habits import table

        text = table(report)
    elif kind == "detector":
        renders = {"as rendered": report["renders"], "after a VAE round trip": report["round_trip"]}
        text = "\n".join(
            f"{name}: {part['words']} words of {part['images']} renders, {part['right']:.4f} right"
            for name, part in renders.items()
        )
    else:
        text = "\n".join(
            f"reward model and {name}: Pearson {interval(report[name]['pearson']) or '-'}, within a prompt "
            f"{interval(report[name]['within_prompt']) or '-'}, {report[name]['words']} words"
            for name in ("vlm", "human")
            if name in report
        )
    return Result(report, text)


@command()
def promote(
    studio: "Studio",
    run: RunId,
    *,
    force: Annotated[bool, "even where the held-out result is worse"] = False,
    who: Account = None,
) -> Result:
    """Put a run's models into use; refused where its held-out result is worse."""
    used = studio.runs.promote(run, person(who), force)
    return Result(used, f"The {used['kind']} {used['id']} is in use.")


@command()
def rollback(
    studio: "Studio",
    kind: Annotated[str, "projector, reward, calibrator, lora or cycle"],
    *,
    who: Account = None,
) -> Result:
    """Back to what was in use before."""
    used = studio.runs.rollback(kind, person(who))
    return Result(used, f"In use again: {used['id'] if used else 'what the project ships'}.")


@command()
def runs(
    studio: "Studio",
    run: Annotated[str | None, "the id of the one to show"] = None,
    *,
    kind: Annotated[str | None, "only this kind"] = None,
    limit: Annotated[int, "so many, the newest first"] = 20,
) -> Result:
    """List the runs, or show one."""
    if run:
        status = studio.runs.status(run)
        return Result(status, described(status["run"]))
    listed = studio.runs.find(kind=kind, limit=limit)
    return Result(listed, "\n".join(described(one) for one in listed) or "There is no run yet.")


@command(text="The run {run} will stop after the step it is in.".format_map)
def stop(studio: "Studio", run: RunId) -> dict[str, str]:
    """Ask a run to stop after the step it is in."""
    studio.runs.stop(run)
    return {"run": run}


# ---- the studio ---------------------------------------------------------------------------------------------------


@command()
def people(
    studio: "Studio", *, release: Annotated[str | None, "free this name"] = None, who: Account = None
) -> Result:
    """The names that belong to somebody, or --release one for the next who writes under it."""
    store = studio.store
    if release is not None:
        store.people.release(release, person(who))
        return Result({"released": release}, "The name is free: it goes to the next one who writes under it.")
    listed = store.people.find()
    lines = [f"{moment(one['created'])}  {one['name']}" for one in listed]
    return Result(listed, "\n".join(lines) or "No name belongs to anybody yet.")


@endpoint()
@command(
    text=lambda status: "\n".join(
        f"{name}: {value}" for name, value in status.items() if value not in ("", None)
    )
)
def status(studio: "Studio") -> dict[str, Any]:
    """How the studio stands: whether its models are loaded, which are in use, how much is labelled, what is training.

    Returns: ready, backbone, scorer, projector, reward, device, samples, scored, corrections, training: a run's id or null
    """
    return studio.status()


@command(text=lambda _: settings_table())
def settings() -> dict[str, Any]:
    """The settings that the environment can change."""
    values = dataclasses.asdict(Settings.from_env())
    del values["token"]  # a secret
    return values


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
        gain = interval(heldout["difference"]["words"], "+") or "-"
        lines.append(f"    held-out {heldout['of']}, judged by {heldout['judge']}: {gain} against {base}")
        for figure, name in (("strict", "every word holds"), ("clean", "and nothing else is there")):
            if figure in heldout["difference"] and figure in heldout.get("against_none", {}):
                gain, in_all = (
                    interval(heldout[of][figure], "+") or "-" for of in ("difference", "against_none")
                )
                lines.append(f"    {name}: {gain} against {base}, {in_all} against none")
        lines += [f"    {line}" for line in seeds_said(heldout)]
    return "\n".join(lines)
