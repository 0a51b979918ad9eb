"""What each command of `python -m studio` takes. Imports nothing heavy, so that --help answers at once."""

from __future__ import annotations

import argparse
from typing import Any

from studio.cli import agreement, commands, exchange, experiment, grid, shipping
from studio.experiments import EXPERIMENTS
from studio.experiments.benchmark import benchmark
from studio.training.configs import BENCHMARK, EVALUATIONS, FIELDS

PROMPTS = (
    "a file with one prompt a line (one that begins with '# ' or '##' is a comment), or a public set and the folder that it lies in: geneval:FOLDER, or one part of it, "
    "geneval/counting:FOLDER; known are geneval, t2i-compbench, partiprompts, dsg, tifa, dpg"
)


def parser(cls: type[argparse.ArgumentParser], program: str) -> argparse.ArgumentParser:
    """All commands and what each takes."""
    top = cls(prog=program, description="Noise Projection Studio without a browser.")
    below = top.add_subparsers(dest="command", required=True, metavar="COMMAND")

    def add(name: str, run: Any, into: Any = below, text: str = "") -> argparse.ArgumentParser:
        text = text or (run.__doc__ or "").splitlines()[0]
        command = into.add_parser(name, help=text, description=text)
        command.add_argument("--json", metavar="FILE", help="write the whole result here; - is stdout")
        command.add_argument("--home", metavar="FOLDER", help="instead of STUDIO_HOME")
        command.set_defaults(run=run)
        return command

    def named(command: argparse.ArgumentParser, fields: dict[str, Any]) -> None:
        command.add_argument("--set", action="append", metavar="NAME=VALUE", help="a setting; below")
        lines = [f"  {name}={field.default}{full(field)}  {field.meaning}" for name, field in fields.items()]
        command.formatter_class = argparse.RawDescriptionHelpFormatter
        command.epilog = "settings and defaults:\n" + "\n".join(lines)

    def full(field: Any) -> str:
        larger = getattr(field, "full", None)
        return "" if larger in (None, field.default) else f" (full: {larger})"

    c = add("collect", commands.collect)
    c.add_argument("--prompts", metavar="WHICH", help=PROMPTS)
    c.add_argument(
        "--set",
        default="shapes_train",
        help="our own prompts: shapes_train, shapes_validation, shapes_heldout",
    )
    c.add_argument("--count", type=int, help="how many of them: 100 of our own, all of --prompts")
    c.add_argument("--seeds", type=int, default=1, help="seeds of each prompt")
    c.add_argument("--first-seed", type=int, default=0, help="skip so many of a prompt's seeds")
    c.add_argument("--method", default="none", help="none or projected")
    c.add_argument("--strength", type=float, default=1.0)
    c.add_argument(
        "--steps", type=int, help="sampling steps; without it STUDIO_STEPS, else the backbone's own"
    )
    c.add_argument("--guidance", type=float, help="likewise; 0 is none")
    c.add_argument("--batch", type=int, default=None)
    c.add_argument("--no-score", action="store_true", help="leave the scoring for later")

    c = add("grid", grid.grid)
    c.add_argument("prompt", nargs="?", help="what the images should show")
    c.add_argument("--seeds", default="1-8", help="seeds and ranges: 1-16, 40, 50-60 (+5)")
    c.add_argument(
        "--methods", default="none,projected", help="none, projected, projected:RUN, pag, pag+projected, ..."
    )
    c.add_argument("--strengths", default="1", help="of what is projected: 0,0.5,1 or 0-1 (+0.25)")
    c.add_argument(
        "--guidance", default="", help="likewise; without it STUDIO_GUIDANCE, else the backbone's own"
    )
    c.add_argument("--steps", default="", help="likewise; without it STUDIO_STEPS, else the backbone's own")
    c.add_argument(
        "--zip", metavar="FILE", help="pack the images, with their text, and a manifest into this file"
    )
    c.add_argument(
        "--resume", metavar="ID", help="go on with a grid that was stopped, interrupted or has failed"
    )
    c.add_argument("--who", help="who asks; without it the account's name")

    c = add("score", commands.score)
    c.add_argument("samples", nargs="*", help="sample ids; none: all that are not scored")

    kinds = below.add_parser(
        "train", help="Train a model, go through the whole loop, or make the images of its next round."
    )
    kinds = kinds.add_subparsers(dest="kind", required=True, metavar="KIND")
    for kind, fields in FIELDS.items():
        c = add(kind, commands.train, kinds)
        c.add_argument("--run", dest="run_id", metavar="ID", help="begin or go on with this run")
        c.add_argument("--background", action="store_true", help="in a process of its own")
        named(c, fields)

    kinds = below.add_parser("evaluate", help="Judge on held-out prompts.")
    kinds = kinds.add_subparsers(dest="kind", required=True, metavar="KIND")
    for kind, fields in EVALUATIONS.items():
        c = add(kind, commands.evaluate, kinds)
        c.add_argument("--prompts", metavar="WHICH", help=PROMPTS)
        named(c, fields)

    named(add("benchmark", benchmark), BENCHMARK)
    kinds = below.add_parser("experiment", help="Run one of the paper's experiments, with a report to keep.")
    kinds = kinds.add_subparsers(dest="name", required=True, metavar="NAME")
    for name, one in EXPERIMENTS.items():
        c = add(name, experiment.experiment, kinds, one.question)
        c.add_argument("--prompts", metavar="WHICH", help=PROMPTS)
        c.add_argument("--run", dest="run_id", metavar="ID", help="go on with this run")
        c.add_argument("--out", metavar="FOLDER", help="copy report.json and report.html there")
        c.add_argument("--background", action="store_true", help="in a process of its own")
        named(c, one.fields)

    c = add("correct", commands.correct)
    c.add_argument("samples", nargs="*", help="sample ids; none: the annotator's queue")
    c.add_argument("--count", type=int, default=300, help="words; the last image is judged to its end")
    c.add_argument("--seed", type=int, default=0)
    c.add_argument(
        "--order",
        default="uncertainty",
        help="uncertainty, random, newest, disagreement, reward or projected",
    )
    c.add_argument(
        "--habit",
        default="every",
        help="what is typed of an image: every word; wrong ones alone, then Done; clean: the same, but n where none is wrong",
    )

    c = add("foresee", commands.foresee)
    c.add_argument("--count", type=int, help="at most so many samples, the newest first")

    c = add("agreement", agreement.agreement)
    c.add_argument("--who", metavar="NAME", help="the figures of this annotator alone")

    _carrying(add)
    c = add("merge", commands.merge)
    c.add_argument("folder", nargs="?", help="a copy of another machine's STUDIO_HOME; none: the own one")
    c = add("labels", commands.labels)
    c.add_argument("folder")
    c.add_argument("--count", help="at most so many samples of training prompts, drawn at random")
    c.add_argument("--no-features", action="store_true", help="leave out the scorer's hidden states")

    c = add("promote", commands.promote)
    c.add_argument("run_id", metavar="RUN")
    c.add_argument("--force", action="store_true", help="even where the held-out result is worse")
    c.add_argument("--who")
    c = add("rollback", commands.rollback)
    c.add_argument("kind", help="projector, reward, calibrator, lora or cycle")
    c.add_argument("--who")
    c = add("runs", commands.runs)
    c.add_argument("run_id", metavar="RUN", nargs="?")
    c.add_argument("--kind")
    c.add_argument("--limit", type=int, default=20)
    c = add("people", commands.people)
    c.add_argument("--release", metavar="NAME", help="free this name")
    c.add_argument("--who", help="who does it; without it the account's name")
    add("stop", commands.stop).add_argument("run_id", metavar="RUN")
    add("status", commands.status)
    add("settings", commands.settings)

    c = add("ship", shipping.ship)
    c.add_argument("folder", help="where the folders reward and projector are written")

    c = add("examples", shipping.examples)
    c.add_argument("--out", metavar="FOLDER", help="where they go; without it data/examples")
    c.add_argument("--force", action="store_true", help="write them though the detector finds too much wrong")

    stages = below.add_parser("pretrain", help="Make an embedded model from the shapes world.")
    stages = stages.add_subparsers(dest="stage", required=True, metavar="STAGE")
    for stage in shipping.PRETRAIN:
        c = add(stage, shipping.pretrain, stages)
        c.add_argument("--out", metavar="FOLDER", help="where the model goes")
        c.add_argument("--work", metavar="FOLDER", help="renders and training state")
        c.add_argument("--vae", metavar="FOLDER", help="the autoencoder that the diffuser works in")
        c.add_argument(
            "--set", action="append", metavar="NAME=VALUE", help="a setting, for example steps=100"
        )
    return top


def _carrying(add: Any) -> None:
    """What goes out of the store as a whole, comes into it, and is looked for in it."""
    licence = "for the dataset card, for example cc-by-4.0; without it the card says that none was chosen"
    who = "who does it; without it the account's name"
    c = add("export", exchange.export)
    c.add_argument("file", help="a file; with --format dataset a new folder")
    c.add_argument(
        "--format", choices=exchange.OUT, help="without it: by FILE's ending csv or parquet, else jsonl"
    )
    c.add_argument("--no-features", action="store_true", help="leave out the scorer's hidden states")
    c.add_argument("--licence", metavar="ID", help=licence)
    c.add_argument("--who", help=who)
    c = add("import", exchange.import_)
    c.add_argument("file")
    c.add_argument("--format", choices=exchange.IN, default="jsonl")
    c.add_argument(
        "--who", help="whose scores or votes those of the other formats are; without it the account's name"
    )
    c.add_argument("--images", metavar="FOLDER", help="where the samples' images lie, to check them")
    c.add_argument("--dry-run", action="store_true", help="check, count, and say what would change")
    c = add("samples", exchange.samples)
    c.add_argument("text", nargs="?", default="", help="words of the prompt; none: all")
    c.add_argument(
        "--sort",
        default="newest",
        help="newest, oldest, uncertain, disagreement, lowest or highest (mean score), prompt or seed",
    )
    c.add_argument("--set", dest="prompt_set", metavar="NAME", help="of this prompt set")
    c.add_argument("--split", help="train, validation or heldout")
    c.add_argument("--method", help="none, projected, ...")
    c.add_argument("--run", dest="run_id", metavar="ID", help="made by this projector run")
    c.add_argument("--seed", type=int)
    c.add_argument("--by", metavar="NAME", help="scored by this person; * is anyone")
    c.add_argument("--remark", help="flag or note: with one that stands")
    c.add_argument("--disagreement", type=float, metavar="POINTS", help="people differ by so much or more")
    c.add_argument("--mean-from", type=float, metavar="SCORE", help="a mean score of so much or more")
    c.add_argument("--mean-to", type=float, metavar="SCORE", help="a mean score of so much or less")
    c.add_argument("--limit", type=int, default=20)
    c = add("backup", exchange.backup)
    c.add_argument("file")
    c.add_argument("--who", help=who)
    c = add("restore", exchange.restore)
    c.add_argument("file")
    c.add_argument("--check", action="store_true", help="only say whether it could be restored")
    c.add_argument("--who", help=who)
    c = add("push", exchange.push)
    c.add_argument("repository", metavar="OWNER/NAME")
    c.add_argument("--public", action="store_true", help="everybody can read it; without it, it is private")
    c.add_argument("--licence", metavar="ID", help=licence)
    c.add_argument("--who", help=who)
    c = add("webhook", exchange.webhook)
    c.add_argument("--once", action="store_true", help="send what waits, then end")
    c = add("audit", exchange.audit)
    c.add_argument("--limit", type=int, default=50)
