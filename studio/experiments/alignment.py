"""Experiment *alignment*: all methods on the same held-out prompts and unseen seeds, judged alike, with what they cost.

Differences are paired with plain sampling, their intervals clustered by prompt. Best-of-N by the scorer is taken exactly
over all subsets of N of a prompt's images, so its curve over N costs no image more. Where fine-tuning is asked for and
no LoRA is in use, one is trained for the comparison, on images of training prompts in a store of the run's own.
"""

from __future__ import annotations

import logging
from typing import Any

from core.evaluation.methods import BestOf, Method, best_of
from core.training.loop import Stopped
from studio.experiments.common import (
    Judged,
    before_after,
    clear,
    compared,
    evaluation_seeds,
    few,
    figure,
    forwarded,
    heldout_prompts,
    judge_sentence,
    judged,
    sampling_of,
    scored_images,
    series,
    span,
    studio_at,
    table,
)
from studio.images.methods import build, parse
from studio.images.models import Using
from studio.training.runs import Job

log = logging.getLogger("studio")


def run(job: Job) -> dict[str, Any]:
    prompts = heldout_prompts(job)
    methods, left_out = chosen(job)
    sizes = range(2, job.config["seeds"] + 1)
    curve = [best_of(n) for n in sizes if f"best-of-{n}" not in {method.name for method in methods}]
    found = judged(job, "alignment", [*methods, *curve], prompts, evaluation_seeds(job, prompts))
    names = ["none", *dict.fromkeys(method.name for method in methods)]
    pictures = _pictures(job, [m for m in methods if not isinstance(m, BestOf)], prompts)
    return {
        "judge": found.judge,
        "answer": _answer(found, names, left_out),
        "figures": _figures(found, names),
        "tables": [_table(found, names), *_words(found, names), *([_left(left_out)] if left_out else [])],
        "pictures": pictures,
        "data": {**found.report, "left_out": left_out},
    }


def chosen(job: Job) -> tuple[list[Method], dict[str, str]]:
    """The methods that are asked for, and of those that cannot be had the sentence that says why."""
    made, left_out = [], {}
    names = [name.strip() for name in job.config["methods"].split(",") if name.strip()]
    parts = {name: [part for part, _ in parse(name)] for name in names}
    tuned, own, problem = [name for name in names if "lora" in parts[name]], None, ""
    if tuned and not job.config["used"]["lora"]:
        try:
            own = trained_lora(job)
        except ValueError as error:  # this backbone cannot be fine-tuned here
            problem = str(error)
    studio, diffuser = InUse(job, own), job.studio.models.diffuser()
    for name in dict.fromkeys(names):
        if name == "none":
            continue
        if name in tuned and problem:
            left_out[name] = problem
            continue
        try:
            method = build(studio, [name], strength=job.config["strength"])[0]
            method.check(diffuser, sampling_of(job))
        except ValueError as error:
            left_out[name] = str(error)
            continue
        if isinstance(method, BestOf) and method.n > job.config["seeds"]:
            left_out[name] = f"It needs {method.n} seeds of each prompt, and there are {job.config['seeds']}."
            continue
        made.append(method)
    if not made:
        raise ValueError(
            f"None of these methods can be had: {'; '.join(left_out.values()) or 'there is no name'}"
        )
    return made, left_out


class InUse:
    """The models that were in use when the run was made, as `studio.images.methods` asks a studio for those in use now: what is
    promoted while a run is stopped does not change it. lora: the studio of the one that was trained for the run."""

    def __init__(self, job: Job, lora: Any = None) -> None:
        self.job, self.lora, self.models = job, lora, self

    def using(self, kind: str) -> Using:
        """The model, or the sentence that says why there is none."""
        if kind == "lora" and self.lora is not None:
            return self.lora.models.using(kind)
        return self.job.studio.models.of_run(kind, self.job.config["used"][kind])

    def teacher(self) -> Using:
        """The teacher of that reward model."""
        return self.job.studio.models.teacher(self.using("reward"))


def trained_lora(job: Job) -> Any:
    """A studio with a LoRA that is trained for the run, from the models in use when it was made. Raises Stopped."""
    config, studio = job.config, studio_at(job, job.folder / "lora")

    def train() -> dict[str, Any]:
        prompts = studio.prompts.of("train", config["lora_prompts"])
        ids = scored_images(job, studio, prompts, config["lora_seeds"], "LoRA")
        runs, chosen = (
            studio.runs.find(kind="lora"),
            {"lora_steps": config["lora_steps"], "heldout_prompts": 0},
        )
        run = studio.training.train(
            "lora",
            None if runs else chosen,
            runs[0]["id"] if runs else None,
            forwarded(job, "LoRA"),
            job.stopped,
        )
        if run["state"] != "done":
            raise Stopped
        studio.runs.promote(run["id"], "experiment", force=True)
        return {"images": len(ids), "run": run["id"]}

    job.stage("lora", train)
    return studio


def _answer(found: Judged, names: list[str], left_out: dict[str, str]) -> list[str]:
    base, report = found.methods["none"], found.report
    lines = [
        f"Without any method every word holds in {span(base['strict'], True)} of {report['judged']} images ({report['prompts']} prompts)."
    ]
    others = [name for name in names if name != "none"]
    ranked = sorted(others, key=lambda n: -(found.methods[n]["difference"]["strict"]["estimate"] or 0))
    for name in ranked[:1]:
        lines.append(
            f"The largest gain is that of {name}, at {found.methods[name]['network_calls']:.0f} network calls an image."
        )
    lines += [compared(name, found.methods[name]["difference"]["strict"], "with none") for name in ranked]
    if not any(clear(found.methods[name]["difference"]["strict"]) for name in others):
        lines.append("No method differs from none beyond what chance gives: more prompts are needed to tell.")
    if left_out:
        lines.append(f"Left out, as the table says why: {', '.join(left_out)}.")
    if found.judge == "scorer":
        lines.append("Best-of-N is chosen by the judge itself, so its figures are an upper bound.")
    return lines + few(len(found.prompts)) + judge_sentence(found.judge)


def _figures(found: Judged, names: list[str]) -> list[dict[str, Any]]:
    methods, out = found.methods, []
    others = [name for name in names if name != "none"]
    out.append(
        figure(
            "dots", "Every word holds: difference from none", "", "share of images, against none",
            [series("difference", others, [methods[n]["difference"]["strict"] for n in others])],
            reference=0.0, reference_name="none", note="An interval that holds 0 does not tell a method from none.",
        )
    )  # fmt: skip
    best = [
        "none",
        *(n for n in methods if n.startswith("best-of-") and n.removeprefix("best-of-").isdigit()),
    ]
    best.sort(key=lambda n: methods[n]["network_calls"])
    for key, unit in (("network_calls", "network calls an image"), ("seconds", "seconds an image")):
        curve = series(
            "best-of-N by the scorer",
            [methods[n][key] for n in best],
            [methods[n]["strict"] for n in best],
            best,
        )
        dots = [series(n, [methods[n][key]], [methods[n]["strict"]], [n]) for n in others if n not in best]
        out.append(
            figure(
                "line", f"Every word holds over {unit}", unit, "share of images", [curve, *dots], log_x=True,
                note="A method above the curve gives more than best-of-N does for the same cost.",
            )
        )  # fmt: skip
    return out


def _table(found: Judged, names: list[str]) -> dict[str, Any]:
    rows = []
    for name in names:
        entry = found.methods[name]
        difference = entry.get("difference", {})
        peak = entry.get("peak_memory")
        rows.append(
            [
                name, entry["strict"], difference.get("strict"), entry["clean"], entry["words"], difference.get("words"),
                round(entry["seconds"], 3), round(entry["network_calls"], 1), peak and round(peak / 2**20, 1),
                entry["diversity"], entry.get("frechet"),
            ]
        )  # fmt: skip
    columns = [
        "method", "every word holds", "against none", "and nothing else", "words", "words against none", "seconds",
        "network calls", "peak memory, MiB", "diversity", "Frechet distance to none",
    ]  # fmt: skip
    note = "Costs are of one image; best-of-N is charged its N images and scorings. Intervals of 95 %, clustered by prompt."
    return table("Methods", columns, rows, note, columns[1:6])


def _words(found: Judged, names: list[str]) -> list[dict[str, Any]]:
    kinds = sorted(found.methods["none"]["kinds"])
    rows = [[name, *(found.methods[name]["kinds"].get(kind) for kind in kinds)] for name in names]
    return [table("Words that hold, by their kind", ["method", *kinds], rows, percent=kinds)] if kinds else []


def _left(left_out: dict[str, str]) -> dict[str, Any]:
    return table("Left out", ["method", "why"], list(left_out.items()))


def _pictures(job: Job, methods: list[Method], prompts: list[str]) -> list[dict[str, Any]]:
    """Three prompts, none beside the projector and one more method."""
    shown = [Method(), *methods[:2]]
    some = prompts[:3]
    seeds = [row[0] for row in evaluation_seeds(job, some)]
    return [before_after(job, shown, some, seeds, [method.name for method in shown])]
