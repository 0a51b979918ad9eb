"""Experiment *corrections*: the whole loop with ever more corrected words, each count with several seeds.

A pool of training images is made and scored once, in a store of the run's own. For each count and seed a copy of it gets
that many corrections by the simulated annotator, in the order in which a person would be asked (uncertainty), and goes
through one `cycle` from the models that were in use when the run was made. All projectors are judged on the same
held-out prompts and seeds; fidelity is the reward model's agreement with the judge's truths on these prompts' own noises.

Two controls stand beside the largest count: *placebo*, the same corrections with their digits permuted among the words of
one kind, so that they say how often each digit is right and no more; and *another prompt's text* given to the projector.
Intervals are of paired differences, clustered by prompt; trainings with the same seed are paired.
"""

from __future__ import annotations

import shutil
from collections import defaultdict
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pandas as pd

from core.evaluation.base import Method
from core.evaluation.choosing import predict
from core.evaluation.controls import OtherText
from core.evaluation.fidelity import block
from core.evaluation.methods import Projected
from core.metrics import mean_interval
from core.noise import draw
from studio.access.identity import SIMULATED
from studio.experiments.common import (
    PICTURED,
    Judged,
    before_after,
    collected,
    finished_run,
    heldout_prompts,
    judged,
    need,
    studio_at,
)
from studio.experiments.fields import numbers
from studio.experiments.parts import WHOLE, Cell, Part, compared, few, figure, report, series, span, table
from studio.images import latents
from studio.images.prompts import scene_of
from studio.training.calibration import kind_of, kinds_of
from studio.training.runs import Job

if TYPE_CHECKING:
    from studio.studio import Studio

OUTCOMES = {"strict": "every word holds", "clean": f"the {WHOLE}"}
CYCLE = ("replay", "foresight_steps", "reader_steps", "reward_steps", "projector_steps")  # its settings
Row = dict[str, Any]


class Training(NamedTuple):
    """One training: the number of corrections, its seed, and whether their digits are permuted."""

    corrections: int
    seed: int
    placebo: bool = False

    @property
    def name(self) -> str:
        return f"{'placebo of ' if self.placebo else ''}{self.corrections} corrections, seed {self.seed}"

    def folder(self, job: Job) -> Path:
        return job.folder / f"{'placebo' if self.placebo else 'cell'}-{self.corrections}-{self.seed}"


def run(job: Job) -> dict[str, Any]:
    config, models, diffuser = job.config, job.studio.models, job.studio.models.diffuser()
    prompts = heldout_prompts(job)
    before = Projected(need(job, "projector"), name="in use")
    counts = [int(count) for count in numbers(config["counts"])]
    seeds = [config["seed"] + k for k in range(config["repeats"])]
    most = max(counts)
    controlled = config.get("controls", False)  # a run of an earlier version has no such field
    trainings = [Training(count, seed) for count in counts for seed in seeds]
    trainings += [Training(most, seed, True) for seed in seeds if controlled and most]
    words = job.stage("pool", lambda: pool(job, prompts))["words"]
    if words < most:
        raise ValueError(f"The pool holds {words} words to correct: raise pool_prompts, or lower counts.")
    trained = {training: job.stage(training.name, partial(train, job, training)) for training in trainings}
    projectors = {t: models.open("projector", t.folder(job) / "projector") for t in trainings}
    methods = {t: Projected(projector, name=t.name) for t, projector in projectors.items()}
    others = [
        OtherText(projector, diffuser, prompts, name=f"{t.name}, another prompt's text")
        for t, projector in projectors.items()
        if controlled and t.corrections == most and not t.placebo and len(prompts) > 1
    ]
    result = judged(job, "corrections", [before, *methods.values(), *others], prompts)
    rows: list[Row] = []
    for training, outcome in trained.items():
        reward = models.open("reward", training.folder(job) / "reward")
        row = {**training._asdict(), **outcome, **measured(result, training.name)}
        rows.append(row | {"agreement": agreement(result, reward, diffuser)})
    cells, placebos = ([row for row in rows if row["placebo"] == placebo] for placebo in (False, True))
    other_text = [measured(result, method.name) for method in others]
    start = agreement(result, need(job, "reward"), diffuser)
    differences = _differences(result, cells, placebos, other_text)
    shown = [Method(), before, methods[Training(most, seeds[-1])]]
    data = {
        "cells": cells, "placebo": placebos, "other_text": other_text, "differences": differences, "before": start,
        "alignment": result.report,
    }  # fmt: skip
    answer = _answer(result, cells, placebos, differences, start)
    figures = _figures(result, pd.DataFrame(cells), differences, start)
    tables = [_difference_table(differences), _table(result, rows, other_text, start)]
    return report(result.judge, answer, figures, tables, [before_after(job, shown, prompts[:PICTURED])], data)


def pool(job: Job, heldout: list[str]) -> dict[str, Any]:
    """Make what is missing of the training images, their scores and their latents. Raises Stopped."""
    config, studio = job.config, studio_at(job, job.folder / "pool")
    prompts = studio.prompts.of("train", config["pool_prompts"])
    prompts = [prompt for prompt in prompts if scene_of(prompt) and prompt not in set(heldout)]
    if not prompts:
        raise ValueError("The simulated annotator reads only the shapes world: set STUDIO_PROMPTS=shapes.")
    ids = collected(job, studio, prompts, config["pool_seeds"], "pool")
    latents.latents_of(studio, studio.store.samples.find(split="train", limit=len(ids)))
    return {"samples": len(ids), "words": sum(1 for _ in studio.store.labels.vlm_scores("train"))}


def train(job: Job, training: Training) -> dict[str, Any]:
    """Run one loop; its reward model and projector stay in its folder. Raises Stopped."""
    config, folder = job.config, training.folder(job)
    if not folder.exists():
        unfinished = folder.with_name(f".{folder.name}")
        shutil.rmtree(unfinished, ignore_errors=True)
        shutil.copytree(job.folder / "pool", unfinished)
        if training.corrections:
            corrected = studio_at(job, unfinished)
            corrected.annotation.simulate(count=training.corrections, habit=config.get("habit", "every"))
            if training.placebo:
                permute(corrected, training.seed)
        unfinished.rename(folder)
    studio = studio_at(job, folder)
    settings = {name: config[name] for name in CYCLE} | {
        "prompts": config["train_prompts"],
        "heldout_prompts": 0,
    }
    cycle = finished_run(job, studio, "cycle", settings | {"seed": training.seed}, training.name)
    for kind in ("reward", "projector"):
        model = studio.runs.folder(cycle["id"]) / kind
        if model.exists():  # a kill in or after the clearing away below leaves what is copied already
            shutil.copytree(model, folder / kind, dirs_exist_ok=True)
    for name in ("images", "latents", "runs"):  # what it was made from is in the pool
        shutil.rmtree(folder / name, ignore_errors=True)
    metrics = cycle["metrics"]
    return {
        "calibrator": {name: metrics["calibrator"][name] for name in ("fitted", "better", "note")},
        "labels": metrics["labels"],
        "best_step": {kind: metrics[kind]["best_step"] for kind in ("reward", "projector")},
    }


def permute(studio: Studio, seed: int) -> int:
    """Permute the simulated annotator's digits of a store among the words of a kind, as newer scores; how many changed."""
    by_kind: dict[str | None, list[dict[str, Any]]] = defaultdict(list)
    for row in studio.store.labels.current(split="train"):
        if row["source"] == "simulated":
            by_kind[kind_of(row)].append(row)
    rng, changed, events = np.random.default_rng(seed), 0, []
    for rows in by_kind.values():
        digits = rng.permutation([row["score"] for row in rows]).tolist()
        changed += sum(row["score"] != digit for row, digit in zip(rows, digits, strict=True))
        events += [
            {**{name: row[name] for name in ("sample", "word_index", "word", "scorer")}, "source": "simulated",
             "who": SIMULATED, "score": digit}
            for row, digit in zip(rows, digits, strict=True)
        ]  # fmt: skip
    studio.store.scores.add(events)
    return changed


def measured(result: Judged, name: str) -> Row:
    """The judge's figures of a method."""
    entry = result.methods[name]
    return {
        "method": name,
        **{key: entry[key] for key in ("strict", "clean", "extra", "diversity")},
        "difference": result.gain(name),
        "clean_difference": result.gain(name, "clean"),
        "words": result.gain(name, "words"),
        "failures": result.failures(name),
    }


def agreement(result: Judged, reward: Any, diffuser: Any) -> dict[str, Any]:
    """The reward model against the judge's truths on the unprojected images' own noises."""
    rows = []
    for record in result.records["none"]:
        prompt = record["prompt"]
        kinds, noise = kinds_of(prompt), draw(record["used"], diffuser.latent_shape())
        _, words = predict(reward, noise, diffuser.encode([prompt]).take([0] * len(noise)))
        rows += [
            {"prompt": prompt, "index": index, "kind": kinds[index], "reward": value,
             "truth": item["words"][str(index)]}
            for item, expected in zip(record["items"], words, strict=True)
            for index, value in expected.items()
            if item and str(index) in item["words"]
        ]  # fmt: skip
    return block(rows, "reward", "truth", 1000)


def paired(result: Judged, names: Sequence[str], bases: Sequence[str], outcome: str) -> Cell:
    """The mean difference of methods less their bases, image by image, its interval clustered by prompt."""
    pairs: list[float] = []
    clusters: list[int] = []
    for name, base in zip(names, bases, strict=True):
        records = zip(result.records[name], result.records[base], strict=True)
        for prompt, (treated, control) in enumerate(records):
            for a, b in zip(treated["items"], control["items"], strict=True):
                if a and b:
                    pairs.append(_value(a, outcome) - _value(b, outcome))
                    clusters.append(prompt)
    return mean_interval(np.array(pairs), clusters).cell


def _value(item: dict[str, Any], outcome: str) -> float:
    if outcome == "words":
        return float(np.mean(list(item["words"].values())))
    return float(item["strict"] and (outcome == "strict" or not item["extra"]))


def by_count(rows: Sequence[Row]) -> dict[int, list[str]]:
    """The methods of each count, the least first, in the order of their seeds."""
    counts = sorted({row["corrections"] for row in rows})
    return {count: [row["method"] for row in rows if row["corrections"] == count] for count in counts}


def _differences(
    result: Judged, cells: Sequence[Row], placebos: Sequence[Row], others: Sequence[Row]
) -> list[Row]:
    """Every comparison that the answer and the table say: {what, against, count, strict, clean, words}."""
    counts = by_count(cells)
    least, most = min(counts), max(counts)
    fewest = f"{least} corrections"

    def row(what: str, names: list[str], against: str, count: int) -> Row:
        bases = counts[least] if against == fewest else ["none"] * len(names)
        figures = {name: paired(result, names, bases, name) for name in (*OUTCOMES, "words")}
        return {"what": what, "against": against, "count": count, **figures}

    lines = [row(f"{n} corrections", names, "none", n) for n, names in counts.items()]
    lines += [row(f"{n} corrections", names, fewest, n) for n, names in counts.items() if n > least]
    if names := [one["method"] for one in placebos]:
        if least < most:
            lines.append(row("placebo", names, fewest, most))
        lines.append(row("placebo", names, "none", most))
    if names := [one["method"] for one in others]:
        lines.append(row("another prompt's text", names, "none", most))
    return lines


def _answer(
    result: Judged, cells: Sequence[Row], placebos: Sequence[Row], differences: Sequence[Row], start: Row
) -> list[str]:
    lines, counts = [], by_count(cells)
    least, most = min(counts), max(counts)
    of = {(line["what"], line["against"]): line for line in differences}
    fewest = f"{least} corrections"
    sentences = [(f"{most} corrections", fewest, f"After {most} corrections", f"after {least}")]
    sentences += [
        (f"{n} corrections", "none", f"After {n} corrections (trained {len(names)} times)", "with none")
        for n, names in counts.items()
    ]
    placebo = f"Placebo, {most} corrections permuted among words of one kind"
    other = f"After {most} corrections, but given another prompt's text"
    sentences += [
        ("placebo", fewest, placebo, f"after {least}"),
        ("another prompt's text", "none", other, "with none"),
    ]
    for what, against, opening, than in sentences:
        if line := of.get((what, against)):
            lines += [compared(opening, line[name], than, outcome) for name, outcome in OUTCOMES.items()]
    for key, title in (
        ("diversity", "Diversity within a prompt (pairwise RMS)"),
        ("extra", "Things too many, an image"),
    ):
        usual, means = result.methods["none"][key]["estimate"], _means(cells, key)
        if usual is not None and None not in means.values():
            each = "; ".join(f"{value:.3f} after {count}" for count, value in means.items())
            lines.append(f"{title}: {usual:.3f} with none; {each} corrections.")
    lines += [
        f"Reward model and judge within a prompt's word after {count} corrections: Pearson {mean:.3f}."
        for count, mean in _means([row["agreement"] | row for row in cells], "within_prompt").items()
        if mean is not None
    ]
    lines.append(f"Before: {span(start['within_prompt'])}.")
    every = [*cells, *placebos]
    for kind in ("reward", "projector"):
        if kept := sum(row["best_step"][kind] == 0 for row in every):
            lines.append(
                f"In {kept} of {len(every)} trainings the {kind} kept the weights that it began with: no later ones did better "
                "on the validation prompts."
            )
    return lines + few(len(result.prompts))


def _means(rows: Sequence[Row], key: str) -> dict[int, float | None]:
    """The mean over each count's trainings of an estimate; None where one has none."""
    values = {n: [row[key]["estimate"] for row in rows if row["corrections"] == n] for n in by_count(rows)}
    return {n: None if None in column else float(np.mean(column)) for n, column in values.items()}


def _figures(result: Judged, cells: pd.DataFrame, differences: Sequence[Row], start: Row) -> list[Part]:
    def over(title: str, unit: str, lines: Sequence[Part], reference: Any, name: str) -> Part:
        return figure("line", f"{title}, over corrections", "corrected words", unit, lines,
                      reference=reference, reference_name=name)  # fmt: skip

    def by_seed(column: str, key: str | None = None) -> list[Part]:
        return [
            series(f"seed {seed}", rows["corrections"], [cell[key] if key else cell for cell in rows[column]])
            for seed, rows in cells.groupby("seed")
        ]

    figures, against_none = [], [line for line in differences if line["against"] == "none"]
    counted = [line for line in against_none if line["what"].endswith("corrections")]
    for name, cell, title in (
        ("strict", "difference", "Every word holds"),
        ("clean", "clean_difference", "Every word holds and nothing else is there"),
        ("words", "words", "Words that hold"),
    ):
        means = [line["count"] for line in counted], [line[name] for line in counted]
        controls = [line for line in against_none if line not in counted]
        lines = [series("mean of the seeds", *means)]
        lines += [series(line["what"], [line["count"]], [line[name]]) for line in controls]
        lines += [{key: line[key] for key in ("name", "x", "y")} for line in by_seed(cell)]
        used = (result.gain("in use", name) or {}).get("estimate")
        before = "the projector in use, before"
        figures.append(over(f"{title}, against none", "difference", lines, used, before))
    for key, title, unit in (
        ("extra", "Things too many, an image", "things"),
        ("diversity", "Diversity within a prompt", "pairwise RMS"),
    ):
        figures.append(over(title, unit, by_seed(key), result.methods["none"][key]["estimate"], "none"))
    for key, title in (("within_prompt", "within a prompt's word"), ("pearson", "over all words")):
        figures.append(
            over(f"Reward model and judge, {title}", "Pearson", by_seed("agreement", key), start[key]["estimate"],
                 "the reward model in use, before")
        )  # fmt: skip
    return figures


def _difference_table(differences: Sequence[Row]) -> Part:
    rows = []
    for line in differences:
        what = line["what"] if line["what"].endswith("corrections") else f"{line['what']}, {line['count']}"
        rows.append(
            {"what": what, "less": line["against"], "every word holds": line["strict"],
             "and nothing else is there": line["clean"], "words": line["words"]}
        )  # fmt: skip
    note = (
        "Means of the trainings. Differences are paired image by image, and training by training where both were "
        "trained; intervals are clustered by prompt."
    )
    return table("Differences", rows, note, list(rows[0])[2:])


def _table(result: Judged, rows: Sequence[Row], others: Sequence[Row], start: Row) -> Part:
    """none, what was in use, every training with its placebos last, and the other prompts' texts."""

    def line(name: str, row: Row, agreed: Row) -> Row:
        kept, calibrator = row.get("best_step", {}), row.get("calibrator")
        return {
            "corrections": name,
            "seed": row.get("seed"),
            "every word holds": row["strict"],
            "against none": row["difference"],
            "and nothing else": row["clean"],
            "the same against none": row["clean_difference"],
            "words against none": row["words"],
            "things too many": row["extra"],
            "diversity": row["diversity"],
            "Pearson": agreed.get("pearson"),
            "within a prompt's word": agreed.get("within_prompt"),
            "calibrator used": calibrator and ("yes" if calibrator["better"] else "no"),
            "reward step kept": kept.get("reward"),
            "projector step kept": kept.get("projector"),
            "invalid": row["failures"],
        }

    lines = [line("none", measured(result, "none"), {}), line("before", measured(result, "in use"), start)]
    for row in rows:
        name = f"{row['corrections']}, placebo" if row["placebo"] else str(row["corrections"])
        lines.append(line(name, row, row["agreement"]))
    lines += [line(row["method"], row, {}) for row in others]
    note = "Pearson: the reward model against the judge's truths, on held-out prompts. Differences are paired with none."
    return table("Corrections", lines, note, [*list(lines[0])[2:7], "invalid"])
