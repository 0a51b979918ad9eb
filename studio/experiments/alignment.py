"""Experiment *alignment*: all methods on the same held-out prompts and unseen seeds, judged alike, with what they cost.

Differences are paired with plain sampling, their intervals clustered by prompt. Best-of-N by the scorer is taken exactly
over all subsets of N of a prompt's images, so its curve over N costs no image more. Where fine-tuning is asked for and
no LoRA is in use, one is trained for the comparison, on images of training prompts in a store of the run's own.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from core.evaluation.base import Method
from core.evaluation.methods import BestOf, guidance_of
from core.options import Configured
from studio.experiments.common import (
    PICTURED,
    Judged,
    before_after,
    collected,
    finished_run,
    heldout_prompts,
    judged,
    sampling_of,
    studio_at,
)
from studio.experiments.parts import Part, clear, compared, few, figure, report, series, share, table
from studio.images.methods import build, parse
from studio.images.models import Using
from studio.training.runs import Job

if TYPE_CHECKING:
    from studio.studio import Studio


def run(job: Job) -> dict[str, Any]:
    prompts = heldout_prompts(job)
    methods, left_out = chosen(job)
    names = list(dict.fromkeys(method.name for method in methods))
    curve = [BestOf(n) for n in range(2, job.config["seeds"] + 1) if f"best-of-{n}" not in names]
    result = judged(job, "alignment", [*methods, *curve], prompts)
    made = [Method(), *[method for method in methods if not isinstance(method, BestOf)][:2]]
    rows = [{"method": name, "why": why} for name, why in left_out.items()]
    missing = [table("Left out", rows)] if rows else []
    pictures = before_after(job, made, prompts[:PICTURED])
    return report(
        result.judge,
        _answer(result, names, left_out),
        _figures(result, names),
        [*_tables(result, ["none", *names]), *missing],
        [pictures],
        {**result.report, "left_out": left_out},
    )


def chosen(job: Job) -> tuple[list[Method], dict[str, str]]:
    """The methods of the configuration, and why those that are missing cannot be used."""
    config, diffuser, sampling = job.config, job.studio.models.configured(), sampling_of(job)
    names = dict.fromkeys(name.strip() for name in config["methods"].split(",") if name.strip())
    tuned = {name for name in names if "lora" in dict(parse(name))}
    lora, problem = None, ""
    if tuned and not config["used"]["lora"]:
        try:
            lora = trained_lora(job)
        except ValueError as error:  # this backbone cannot be fine-tuned here
            problem = str(error)
    studio: Any = InUse(job, lora)
    methods: list[Method] = []
    left_out: dict[str, str] = {}
    for name in names:
        if name == "none":
            continue
        try:
            if name in tuned and problem:
                raise ValueError(problem)
            method = build(studio, [name], strength=config["strength"])[0]
            method.check(diffuser, sampling)
            if isinstance(diffuser, Configured):  # else it would fail after the methods before it
                diffuser.check(guidance_of(method, sampling.guidance))
            if isinstance(method, BestOf) and method.n > config["seeds"]:
                raise ValueError(
                    f"It needs {method.n} seeds of each prompt, and there are {config['seeds']}."
                )
            methods.append(method)
        except ValueError as error:
            left_out[name] = str(error)
    if not methods:
        reasons = "; ".join(left_out.values()) or "there is no name"
        raise ValueError(f"None of these methods can be had: {reasons}")
    return methods, left_out


class InUse:
    """The models that were in use when the run was made, in place of a studio's for `studio.images.methods`: what is promoted
    while a run is stopped does not change it. lora: the studio of one that was trained for the run."""

    def __init__(self, job: Job, lora: Studio | None = None) -> None:
        self.job, self.lora, self.models = job, lora, self

    def using(self, kind: str) -> Using:
        """The model, or the sentence that says why there is none."""
        if kind == "lora" and self.lora is not None:
            return self.lora.models.using(kind)
        return self.job.studio.models.of_run(kind, self.job.config["used"][kind])

    def teacher(self) -> Using:
        """The teacher of that reward model."""
        return self.job.studio.models.teacher(self.using("reward"))


def trained_lora(job: Job) -> Studio:
    """Train a LoRA for the run, from the models in use when it was made: the studio that has it. Raises Stopped."""
    config, studio = job.config, studio_at(job, job.folder / "lora")

    def train() -> dict[str, Any]:
        prompts = studio.prompts.of("train", config["lora_prompts"])
        ids = collected(job, studio, prompts, config["lora_seeds"], "LoRA")
        run = finished_run(
            job, studio, "lora", {"lora_steps": config["lora_steps"], "heldout_prompts": 0}, "LoRA"
        )
        studio.runs.promote(run["id"], "experiment", force=True)
        return {"images": len(ids), "run": run["id"]}

    job.stage("lora", train)
    return studio


def _answer(result: Judged, names: list[str], left_out: dict[str, str]) -> list[str]:
    gains = {name: result.gain(name) or {} for name in names}
    ranked = sorted(names, key=lambda name: -(gains[name]["estimate"] or 0))
    best, figures = ranked[0], result.report
    lines = [
        (
            f"Without any method every word holds in {share(result.methods['none']['strict'])} of {figures['judged']} images "
            f"({figures['prompts']} prompts)."
        ),
        f"The largest gain is that of {best}, at {result.methods[best]['network_calls']:.0f} network calls an image.",
        *(compared(name, gains[name], "with none") for name in ranked),
    ]
    if not any(clear(gain) for gain in gains.values()):
        lines.append("No method differs from none beyond what chance gives: more prompts are needed to tell.")
    if left_out:
        lines.append(f"Left out, as the table says why: {', '.join(left_out)}.")
    if result.judge == "scorer":
        lines.append("Best-of-N is chosen by the judge itself, so its figures are an upper bound.")
    return lines + few(len(result.prompts))


def _figures(result: Judged, names: list[str]) -> list[Part]:
    methods = result.methods
    gains = series("difference", names, [methods[name]["difference"]["strict"] for name in names])
    figures = [
        figure("dots", "Every word holds: difference from none", "", "share of images, against none", [gains],
               reference=0.0, reference_name="none", note="An interval that holds 0 does not tell a method from none.")
    ]  # fmt: skip
    curve = ["none", *(name for name in methods if re.fullmatch(r"best-of-\d+", name))]
    curve.sort(key=lambda name: methods[name]["network_calls"])
    groups = {"best-of-N by the scorer": curve, **{name: [name] for name in names if name not in curve}}
    for key, unit in (("network_calls", "network calls an image"), ("seconds", "seconds an image")):
        lines = [
            series(title, [methods[n][key] for n in group], [methods[n]["strict"] for n in group], group)
            for title, group in groups.items()
        ]
        figures.append(
            figure("line", f"Every word holds over {unit}", unit, "share of images", lines, log_x=True,
                   note="A method above the curve gives more than best-of-N does for the same cost.")
        )  # fmt: skip
    return figures


def _tables(result: Judged, names: list[str]) -> list[Part]:
    """The methods, and the words that hold by their kind, where a kind is known."""
    rows = []
    for name in names:
        entry = result.methods[name]
        peak = entry.get("peak_memory")
        rows.append(
            {
                "method": name,
                "every word holds": entry["strict"],
                "against none": result.gain(name),
                "and nothing else": entry["clean"],
                "words": entry["words"],
                "words against none": result.gain(name, "words"),
                "seconds": round(entry["seconds"], 3),
                "network calls": round(entry["network_calls"], 1),
                "peak memory, MiB": peak and round(peak / 2**20, 1),
                "diversity": entry["diversity"],
                "Frechet distance to none": entry.get("frechet"),
            }
        )
    note = "Costs are of one image; best-of-N is charged its N images and scorings. Intervals of 95 %, clustered by prompt."
    tables = [table("Methods", rows, note, list(rows[0])[1:6])]
    kinds = sorted(result.methods["none"]["kinds"])
    if kinds:
        rows = [
            {"method": name, **{kind: result.methods[name]["kinds"].get(kind) for kind in kinds}}
            for name in names
        ]
        tables.append(table("Words that hold, by their kind", rows, percent=kinds))
    return tables
