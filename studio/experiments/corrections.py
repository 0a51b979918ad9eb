"""Experiment *corrections*: the whole loop with ever more corrected words, each count with several seeds.

A pool of training images is made and scored once, in a store of the run's own. For each count and seed a copy of it gets
that many corrections by the simulated annotator, in the order in which a person would be asked (uncertainty), and goes
through one `cycle` from the models that were in use when the run was made. All projectors are judged on the same
held-out prompts and seeds; fidelity is the reward model's agreement with the judge's truths on these prompts' own noises.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np

from core.evaluation.fidelity import block
from core.evaluation.methods import Projected, none, predict
from core.evaluation.metrics import mean_interval
from core.noise import draw
from core.training.loop import Stopped
from studio import latents
from studio.calibration import kinds_of
from studio.experiments.common import (
    Judged,
    before_after,
    compared,
    evaluation_seeds,
    few,
    figure,
    forwarded,
    heldout_prompts,
    interval,
    judge_sentence,
    judged,
    need,
    scored_images,
    series,
    span,
    studio_at,
    table,
)
from studio.experiments.fields import numbers
from studio.learning import Job
from studio.prompts import scene_of

Cell = tuple[int, int]  # corrections, seed


def run(job: Job) -> dict[str, Any]:
    config = job.config
    prompts = heldout_prompts(job)
    need(job, "projector")
    cells = [
        (int(count), config["seed"] + k)
        for count in numbers(config["counts"])
        for k in range(config["repeats"])
    ]
    words = job.stage("pool", lambda: pool(job, prompts))["words"]
    if words < max(count for count, _ in cells):
        raise ValueError(f"The pool holds {words} words to correct: raise pool_prompts, or lower counts.")
    trained = {cell: job.stage(name_of(cell), lambda cell=cell: train(job, cell)) for cell in cells}
    seeds = evaluation_seeds(job, prompts)
    models = {cell: job.studio.models.open("projector", folder_of(job, cell) / "projector") for cell in cells}
    methods = {cell: Projected(model, name=name_of(cell)) for cell, model in models.items()}
    before = Projected(need(job, "projector"), name="in use")
    found = judged(job, "corrections", [before, *methods.values()], prompts, seeds)
    rows = [measured(job, found, cell, trained[cell]) for cell in cells]
    start = agreement(found, need(job, "reward"), job.studio.models.diffuser())
    last = methods[cells[-1]]
    some = prompts[:3]
    shown = [none(), before, last]
    shot = before_after(
        job, shown, some, [row[0] for row in evaluation_seeds(job, some)], [m.name for m in shown]
    )
    return {
        "judge": found.judge,
        "answer": _answer(found, rows, start),
        "figures": _figures(found, rows, start),
        "tables": [_table(found, rows, start)],
        "pictures": [shot],
        "data": {"cells": rows, "before": start, "alignment": found.report},
    }


def name_of(cell: Cell) -> str:
    return f"{cell[0]} corrections, seed {cell[1]}"


def folder_of(job: Job, cell: Cell) -> Path:
    return job.folder / f"cell-{cell[0]}-{cell[1]}"


def pool(job: Job, heldout: list[str]) -> dict[str, Any]:
    """Training images, scored, and their latents; what is there already is not made again. Raises Stopped."""
    config, studio = job.config, studio_at(job, job.folder / "pool")
    prompts = studio.prompts.of("train", config["pool_prompts"])
    prompts = [prompt for prompt in prompts if scene_of(prompt) and prompt not in set(heldout)]
    if not prompts:
        raise ValueError("The simulated annotator reads only the shapes world: set STUDIO_PROMPTS=shapes.")
    ids = scored_images(job, studio, prompts, config["pool_seeds"], "pool")
    latents.latents_of(studio, [row for row in studio.store.samples(split="train", limit=len(ids))])
    return {"samples": len(ids), "words": sum(1 for _ in studio.store.vlm_scores("train"))}


def train(job: Job, cell: Cell) -> dict[str, Any]:
    """One loop with so many corrections; its reward model and projector stay in the cell's folder. Raises Stopped."""
    config, (count, seed), folder = job.config, cell, folder_of(job, cell)
    if not folder.exists():
        partial = folder.with_name(f".{folder.name}")
        shutil.rmtree(partial, ignore_errors=True)
        shutil.copytree(job.folder / "pool", partial)
        partial.rename(folder)
    studio = studio_at(job, folder)
    there = studio.corrections()
    if there < count:
        studio.simulate(count=count - there)
    runs = studio.runs(kind="cycle")
    chosen = {
        **{name: config[name] for name in ("replay", "foresight_steps", "reader_steps", "reward_steps", "projector_steps")},
        "seed": seed, "prompts": config["train_prompts"], "heldout_prompts": 0,
    }  # fmt: skip
    done = studio.train(
        "cycle", None if runs else chosen, runs[0]["id"] if runs else None, forwarded(job, name_of(cell)), job.stopped
    ) if not runs or runs[0]["state"] != "done" else runs[0]  # fmt: skip
    if done["state"] != "done":
        raise Stopped
    made = studio.run_folder(done["id"])
    for kind in ("reward", "projector"):
        if (made / kind).exists():  # a kill in or after the clearing away below leaves what is copied already
            shutil.copytree(made / kind, folder / kind, dirs_exist_ok=True)
    found = {
        "calibrator": {k: done["metrics"]["calibrator"][k] for k in ("fitted", "better", "note")},
        "labels": done["metrics"]["labels"],
        "best_step": {part: done["metrics"][part]["best_step"] for part in ("reward", "projector")},
    }
    for name in ("images", "latents", "runs"):  # what it was made from is in the pool
        shutil.rmtree(folder / name, ignore_errors=True)
    return found


def measured(job: Job, found: Judged, cell: Cell, trained: dict[str, Any]) -> dict[str, Any]:
    """A cell's figures."""
    reward = job.studio.models.open("reward", folder_of(job, cell) / "reward")
    entry = found.methods[name_of(cell)]
    return {
        "corrections": cell[0],
        "seed": cell[1],
        **trained,
        "strict": entry["strict"],
        "difference": entry["difference"]["strict"],
        "words": entry["difference"]["words"],
        "agreement": agreement(found, reward, job.studio.models.diffuser()),
        "failures": found.failures(name_of(cell)),
    }


def agreement(found: Judged, reward: Any, diffuser: Any) -> dict[str, Any]:
    """The reward model against the judge's truths on the unprojected images' own noises."""
    rows = []
    for record in found.records["none"]:
        kinds, prompt = kinds_of(record["prompt"]), record["prompt"]
        noise = draw(record["used"], diffuser.latent_shape())
        _, words = predict(reward, noise, diffuser.encode([prompt]).take([0] * len(noise)))
        for item, expected in zip(record["items"], words, strict=True):
            for index, value in expected.items():
                if item and str(index) in item["words"]:
                    truth = item["words"][str(index)]
                    rows.append(
                        {
                            "prompt": prompt,
                            "index": index,
                            "kind": kinds[index],
                            "reward": value,
                            "truth": truth,
                        }
                    )
    return block(rows, "reward", "truth", 1000)


def _mean(found: Judged, rows: list[dict], figure_name: str) -> dict[str, Any]:
    """The mean over a count's seeds of the paired difference with none, its interval clustered by prompt."""
    pairs: list[float] = []
    clusters: list[int] = []
    for row in rows:
        name = name_of((row["corrections"], row["seed"]))
        for place, (one, base) in enumerate(zip(found.records[name], found.records["none"], strict=True)):
            for a, b in zip(one["items"], base["items"], strict=True):
                if a and b:
                    pairs.append(_value(a, figure_name) - _value(b, figure_name))
                    clusters.append(place)
    return interval(mean_interval(np.array(pairs), clusters))


def _value(item: dict[str, Any], name: str) -> float:
    return float(item["strict"]) if name == "strict" else float(np.mean(list(item["words"].values())))


def by_count(rows: list[dict]) -> dict[int, list[dict]]:
    """The cells of each count."""
    return {
        count: [r for r in rows if r["corrections"] == count]
        for count in sorted({r["corrections"] for r in rows})
    }


def _answer(found: Judged, rows: list[dict], start: dict) -> list[str]:
    lines, counts = [], by_count(rows)
    for count, some in counts.items():
        cell = _mean(found, some, "strict")
        lines.append(compared(f"After {count} corrections (trained {len(some)} times)", cell, "with none"))
    if len(counts) > 1:
        most, least = max(counts), min(counts)
        pair = _between(found, counts[most], counts[least])
        lines.append(compared(f"After {most} corrections", pair, f"after {least}"))
    for count, some in counts.items():
        inner = [row["agreement"]["within_prompt"]["estimate"] for row in some]
        if None not in inner:
            lines.append(
                f"Reward model and judge within a prompt's word after {count} corrections: Pearson {np.mean(inner):.3f}."
            )
    lines.append(f"Before: {span(start['within_prompt'])}.")
    for part in ("reward", "projector"):
        kept = sum(row["best_step"][part] == 0 for row in rows)
        if kept:
            lines.append(
                f"In {kept} of {len(rows)} trainings the {part} kept the weights that it began with: no later ones did better "
                "on the validation prompts."
            )
    return lines + few(len(found.prompts)) + judge_sentence(found.judge)


def _between(found: Judged, more: list[dict], fewer: list[dict]) -> dict[str, Any]:
    """The paired difference between the means of two counts, clustered by prompt."""

    def per_prompt(rows: list[dict]) -> np.ndarray:
        names = [name_of((row["corrections"], row["seed"])) for row in rows]
        return np.array([
            np.mean([item["strict"] for name in names for item in found.records[name][place]["items"] if item] or [np.nan])
            for place in range(len(found.prompts))
        ])  # fmt: skip

    pairs = per_prompt(more) - per_prompt(fewer)
    pairs = pairs[np.isfinite(pairs)]
    return interval(mean_interval(pairs, range(len(pairs))))


def _figures(found: Judged, rows: list[dict], start: dict) -> list[dict[str, Any]]:
    counts = by_count(rows)
    x, out = list(counts), []
    for name, title in (
        ("strict", "Every word holds, against none"),
        ("words", "Words that hold, against none"),
    ):
        line = series("mean of the seeds", x, [_mean(found, some, name) for some in counts.values()])
        key = "difference" if name == "strict" else "words"
        each = [
            {
                "name": f"seed {seed}",
                "x": [r["corrections"] for r in rows if r["seed"] == seed],
                "y": [r[key]["estimate"] for r in rows if r["seed"] == seed],
            }
            for seed in sorted({r["seed"] for r in rows})
        ]
        used = found.methods["in use"]["difference"][name]["estimate"]
        out.append(
            figure("line", f"{title}, over corrections", "corrected words", "difference", [line, *each],
                   reference=used, reference_name="the projector in use, before")
        )  # fmt: skip
    for key, title in (("within_prompt", "within a prompt's word"), ("pearson", "over all words")):
        some = [series(f"seed {seed}", [r["corrections"] for r in rows if r["seed"] == seed],
                       [r["agreement"][key] for r in rows if r["seed"] == seed]) for seed in sorted({r["seed"] for r in rows})]  # fmt: skip
        out.append(
            figure("line", f"Reward model and judge, {title}, over corrections", "corrected words", "Pearson", some,
                   reference=start[key]["estimate"], reference_name="the reward model in use, before")
        )  # fmt: skip
    return out


def _table(found: Judged, rows: list[dict], start: dict) -> dict[str, Any]:
    used = found.methods["in use"]
    lines = [["before", None, used["strict"], used["difference"]["strict"], used["difference"]["words"], start["pearson"],
              start["within_prompt"], None, None, None, found.failures("in use")]]  # fmt: skip
    lines += [
        [row["corrections"], row["seed"], row["strict"], row["difference"], row["words"], row["agreement"]["pearson"],
         row["agreement"]["within_prompt"], "yes" if row["calibrator"]["better"] else "no",
         row["best_step"]["reward"], row["best_step"]["projector"], row["failures"]]
        for row in rows
    ]  # fmt: skip
    columns = ["corrections", "seed", "every word holds", "against none", "words against none", "Pearson",
               "within a prompt's word", "calibrator used", "reward step kept", "projector step kept", "invalid"]  # fmt: skip
    note = "Pearson: the reward model against the judge's truths, on held-out prompts. Differences are paired with none."
    return table("Corrections", columns, lines, note, [*columns[2:5], "invalid"])
