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
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from core.evaluation.controls import OtherText
from core.evaluation.fidelity import block
from core.evaluation.methods import Projected, none, predict
from core.metrics import mean_interval
from core.noise import draw
from core.training.loop import Stopped
from studio.access.identity import SIMULATED
from studio.experiments.common import (
    WHOLE,
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
from studio.images import latents
from studio.images.prompts import scene_of
from studio.training.calibration import kind_of, kinds_of
from studio.training.runs import Job

if TYPE_CHECKING:
    from studio.studio import Studio

OUTCOMES = {
    "strict": "every word holds",
    "clean": f"the {WHOLE}",
}


class Cell(NamedTuple):
    """One training: so many corrections, its seed, and whether their digits are permuted."""

    corrections: int
    seed: int
    placebo: bool = False


def run(job: Job) -> dict[str, Any]:
    config = job.config
    prompts = heldout_prompts(job)
    need(job, "projector")
    counts = [int(count) for count in numbers(config["counts"])]
    seeds = [config["seed"] + k for k in range(config["repeats"])]
    most = max(counts)
    cells = [Cell(count, seed) for count in counts for seed in seeds]
    controlled = config.get("controls", False)  # a run of an earlier version has no such field
    placebos = [Cell(most, seed, True) for seed in seeds if controlled and most]
    words = job.stage("pool", lambda: pool(job, prompts))["words"]
    if words < most:
        raise ValueError(f"The pool holds {words} words to correct: raise pool_prompts, or lower counts.")
    trained = {
        cell: job.stage(name_of(cell), lambda cell=cell: train(job, cell)) for cell in [*cells, *placebos]
    }
    models = {
        cell: job.studio.models.open("projector", folder_of(job, cell) / "projector") for cell in trained
    }
    methods = {cell: Projected(model, name=name_of(cell)) for cell, model in models.items()}
    others = [
        OtherText(models[cell], job.studio.models.diffuser(), prompts, name=other_name(cell))
        for cell in cells
        if controlled and cell.corrections == most and len(prompts) > 1
    ]
    before = Projected(need(job, "projector"), name="in use")
    table_of_seeds = evaluation_seeds(job, prompts)
    found = judged(job, "corrections", [before, *methods.values(), *others], prompts, table_of_seeds)
    rows = [measured(job, found, cell, trained[cell]) for cell in cells]
    controls = [measured(job, found, cell, trained[cell]) for cell in placebos]
    start = agreement(found, need(job, "reward"), job.studio.models.diffuser())
    differences = _differences(found, rows, controls, [method.name for method in others])
    last = methods[Cell(most, seeds[-1])]
    some = prompts[:3]
    shown = [none(), before, last]
    shot = before_after(
        job, shown, some, [row[0] for row in evaluation_seeds(job, some)], [m.name for m in shown]
    )
    others_said = [_judged(found, method.name) for method in others]
    return {
        "judge": found.judge,
        "answer": _answer(found, rows, controls, differences, start),
        "figures": _figures(found, rows, differences, start),
        "tables": [_less_table(differences), _table(found, rows, controls, others_said, start)],
        "pictures": [shot],
        "data": {
            "cells": rows,
            "placebo": controls,
            "other_text": others_said,
            "differences": differences,
            "before": start,
            "alignment": found.report,
        },
    }


def name_of(cell: Cell) -> str:
    return f"{'placebo of ' if cell.placebo else ''}{cell.corrections} corrections, seed {cell.seed}"


def other_name(cell: Cell) -> str:
    return f"{name_of(cell)}, another prompt's text"


def folder_of(job: Job, cell: Cell) -> Path:
    return job.folder / f"{'placebo' if cell.placebo else 'cell'}-{cell.corrections}-{cell.seed}"


def pool(job: Job, heldout: list[str]) -> dict[str, Any]:
    """Training images, scored, and their latents; what is there already is not made again. Raises Stopped."""
    config, studio = job.config, studio_at(job, job.folder / "pool")
    prompts = studio.prompts.of("train", config["pool_prompts"])
    prompts = [prompt for prompt in prompts if scene_of(prompt) and prompt not in set(heldout)]
    if not prompts:
        raise ValueError("The simulated annotator reads only the shapes world: set STUDIO_PROMPTS=shapes.")
    ids = scored_images(job, studio, prompts, config["pool_seeds"], "pool")
    latents.latents_of(studio, [row for row in studio.store.samples.find(split="train", limit=len(ids))])
    return {"samples": len(ids), "words": sum(1 for _ in studio.store.labels.vlm_scores("train"))}


def train(job: Job, cell: Cell) -> dict[str, Any]:
    """One loop with so many corrections; its reward model and projector stay in the cell's folder. Raises Stopped."""
    config, folder = job.config, folder_of(job, cell)
    if not folder.exists():
        partial = folder.with_name(f".{folder.name}")
        shutil.rmtree(partial, ignore_errors=True)
        shutil.copytree(job.folder / "pool", partial)
        if cell.corrections:
            corrected = studio_at(job, partial)
            corrected.simulate(count=cell.corrections, habit=config.get("habit", "every"))
            if cell.placebo:
                permute(corrected, cell.seed)
        partial.rename(folder)
    studio = studio_at(job, folder)
    runs = studio.runs.find(kind="cycle")
    chosen = {
        **{name: config[name] for name in ("replay", "foresight_steps", "reader_steps", "reward_steps", "projector_steps")},
        "seed": cell.seed, "prompts": config["train_prompts"], "heldout_prompts": 0,
    }  # fmt: skip
    done = studio.training.train(
        "cycle", None if runs else chosen, runs[0]["id"] if runs else None, forwarded(job, name_of(cell)), job.stopped
    ) if not runs or runs[0]["state"] != "done" else runs[0]  # fmt: skip
    if done["state"] != "done":
        raise Stopped
    made = studio.runs.folder(done["id"])
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


def permute(studio: Studio, seed: int) -> int:
    """Give the simulated annotator's digits of a store to other words of the same kind, as newer scores of theirs; how
    many words have another digit than before."""
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


def measured(job: Job, found: Judged, cell: Cell, trained: dict[str, Any]) -> dict[str, Any]:
    """A cell's figures."""
    reward = job.studio.models.open("reward", folder_of(job, cell) / "reward")
    return {
        "corrections": cell.corrections,
        "seed": cell.seed,
        **trained,
        **_judged(found, name_of(cell)),
        "agreement": agreement(found, reward, job.studio.models.diffuser()),
    }


def _judged(found: Judged, name: str) -> dict[str, Any]:
    """What the judge says of a method."""
    entry = found.methods[name]
    return {
        "method": name,
        "strict": entry["strict"],
        "clean": entry["clean"],
        "difference": entry["difference"]["strict"],
        "clean_difference": entry["difference"]["clean"],
        "words": entry["difference"]["words"],
        "extra": entry["extra"],
        "diversity": entry["diversity"],
        "failures": found.failures(name),
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


def paired(found: Judged, names: Sequence[str], bases: Sequence[str], outcome: str) -> dict[str, Any]:
    """The mean difference of methods less their bases, image by image, its interval clustered by prompt."""
    pairs: list[float] = []
    clusters: list[int] = []
    for name, base in zip(names, bases, strict=True):
        for place, (one, other) in enumerate(zip(found.records[name], found.records[base], strict=True)):
            for a, b in zip(one["items"], other["items"], strict=True):
                if a and b:
                    pairs.append(_value(a, outcome) - _value(b, outcome))
                    clusters.append(place)
    return interval(mean_interval(np.array(pairs), clusters))


def _value(item: dict[str, Any], outcome: str) -> float:
    if outcome == "words":
        return float(np.mean(list(item["words"].values())))
    return float(item["strict"] and (outcome == "strict" or not item["extra"]))


def by_count(rows: list[dict]) -> dict[int, list[str]]:
    """The methods of each count, in the order of their seeds."""
    counts = sorted({row["corrections"] for row in rows})
    return {count: [row["method"] for row in rows if row["corrections"] == count] for count in counts}


def _differences(
    found: Judged, rows: list[dict], placebos: list[dict], others: list[str]
) -> list[dict[str, Any]]:
    """Every comparison that the answer and the table say: {what, against, count, strict, clean, words}."""
    counts = by_count(rows)
    least, most = min(counts), max(counts)

    def row(what: str, names: list[str], against: str, bases: list[str], count: int) -> dict[str, Any]:
        figures = {name: paired(found, names, bases, name) for name in (*OUTCOMES, "words")}
        return {"what": what, "against": against, "count": count, **figures}

    def plain(names: list[str]) -> list[str]:
        return ["none"] * len(names)

    lines = [row(f"{n} corrections", names, "none", plain(names), n) for n, names in counts.items()]
    lines += [
        row(f"{n} corrections", names, f"{least} corrections", counts[least], n)
        for n, names in counts.items()
        if n > least
    ]
    if names := [one["method"] for one in placebos]:
        if least < most:
            lines.append(row("placebo", names, f"{least} corrections", counts[least], most))
        lines.append(row("placebo", names, "none", plain(names), most))
    if others:
        lines.append(row("another prompt's text", others, "none", plain(others), most))
    return lines


def _said(line: dict[str, Any], what: str, against: str) -> list[str]:
    """A comparison's two sentences."""
    return [compared(what, line[name], against, outcome) for name, outcome in OUTCOMES.items()]


def _answer(
    found: Judged, rows: list[dict], placebos: list[dict], differences: list[dict], start: dict
) -> list[str]:
    lines, counts = [], by_count(rows)
    least, most = min(counts), max(counts)
    of = {(line["what"], line["against"]): line for line in differences}
    if least < most:
        lines += _said(
            of[f"{most} corrections", f"{least} corrections"], f"After {most} corrections", f"after {least}"
        )
    for count, names in counts.items():
        line = of[f"{count} corrections", "none"]
        lines += _said(line, f"After {count} corrections (trained {len(names)} times)", "with none")
    if ("placebo", f"{least} corrections") in of:
        line = of["placebo", f"{least} corrections"]
        lines += _said(
            line, f"Placebo, {most} corrections permuted among words of one kind", f"after {least}"
        )
    if ("another prompt's text", "none") in of:
        line = of["another prompt's text", "none"]
        lines += _said(line, f"After {most} corrections, but given another prompt's text", "with none")
    for key, title in (
        ("diversity", "Diversity within a prompt (pairwise RMS)"),
        ("extra", "Things too many, an image"),
    ):
        usual = found.methods["none"][key]["estimate"]
        means = {count: _mean(rows, count, key) for count in counts}
        if usual is not None and None not in means.values():
            each = "; ".join(f"{value:.3f} after {count}" for count, value in means.items())
            lines.append(f"{title}: {usual:.3f} with none; {each} corrections.")
    for count in counts:
        inner = [row["agreement"]["within_prompt"]["estimate"] for row in rows if row["corrections"] == count]
        if None not in inner:
            lines.append(
                f"Reward model and judge within a prompt's word after {count} corrections: Pearson {np.mean(inner):.3f}."
            )
    lines.append(f"Before: {span(start['within_prompt'])}.")
    every = [*rows, *placebos]
    for part in ("reward", "projector"):
        kept = sum(row["best_step"][part] == 0 for row in every)
        if kept:
            lines.append(
                f"In {kept} of {len(every)} trainings the {part} kept the weights that it began with: no later ones did better "
                "on the validation prompts."
            )
    return lines + few(len(found.prompts)) + judge_sentence(found.judge)


def _mean(rows: list[dict], count: int, key: str) -> float | None:
    """The mean over a count's trainings of what their images show; None where one has none."""
    values = [row[key]["estimate"] for row in rows if row["corrections"] == count]
    return None if None in values else float(np.mean(values))


def _figures(found: Judged, rows: list[dict], differences: list[dict], start: dict) -> list[dict[str, Any]]:
    counts = by_count(rows)
    x, out = list(counts), []
    seeds = sorted({row["seed"] for row in rows})
    keys = {"strict": "difference", "clean": "clean_difference", "words": "words"}
    titles = {
        "strict": "Every word holds, against none",
        "clean": "Every word holds and nothing else is there, against none",
        "words": "Words that hold, against none",
    }
    against_none = [line for line in differences if line["against"] == "none"]
    for name, title in titles.items():
        mine = [line for line in against_none if line["what"].endswith("corrections")]
        lines = [series("mean of the seeds", x, [line[name] for line in mine])]
        lines += [
            series(line["what"], [line["count"]], [line[name]]) for line in against_none if line not in mine
        ]
        for seed in seeds:
            some = [row for row in rows if row["seed"] == seed]
            lines.append({
                "name": f"seed {seed}", "x": [r["corrections"] for r in some],
                "y": [r[keys[name]]["estimate"] for r in some],
            })  # fmt: skip
        used = found.methods["in use"]["difference"][name]["estimate"]
        out.append(
            figure("line", f"{title}, over corrections", "corrected words", "difference", lines,
                   reference=used, reference_name="the projector in use, before")
        )  # fmt: skip
    for key, title in (("extra", "Things too many, an image"), ("diversity", "Diversity within a prompt")):
        some = [
            series(f"seed {seed}", [r["corrections"] for r in rows if r["seed"] == seed],
                   [r[key] for r in rows if r["seed"] == seed])
            for seed in seeds
        ]  # fmt: skip
        unit = "things" if key == "extra" else "pairwise RMS"
        out.append(
            figure("line", f"{title}, over corrections", "corrected words", unit, some,
                   reference=found.methods["none"][key]["estimate"], reference_name="none")
        )  # fmt: skip
    for key, title in (("within_prompt", "within a prompt's word"), ("pearson", "over all words")):
        some = [series(f"seed {seed}", [r["corrections"] for r in rows if r["seed"] == seed],
                       [r["agreement"][key] for r in rows if r["seed"] == seed]) for seed in seeds]  # fmt: skip
        out.append(
            figure("line", f"Reward model and judge, {title}, over corrections", "corrected words", "Pearson", some,
                   reference=start[key]["estimate"], reference_name="the reward model in use, before")
        )  # fmt: skip
    return out


def _less_table(differences: list[dict]) -> dict[str, Any]:
    columns = ["what", "less", "every word holds", "and nothing else is there", "words"]
    lines = [[f"{line['what']}, {line['count']}" if not line["what"].endswith("corrections") else line["what"],
              line["against"], line["strict"], line["clean"], line["words"]] for line in differences]  # fmt: skip
    note = (
        "Means of the trainings. Differences are paired image by image, and training by training where both were "
        "trained; intervals are clustered by prompt."
    )
    return table("Differences", columns, lines, note, columns[2:])


def _table(
    found: Judged, rows: list[dict], placebos: list[dict], others: list[dict], start: dict
) -> dict[str, Any]:
    used = _judged(found, "in use")

    def line(row: dict, name: str, seed: Any, agreed: dict, *rest: Any) -> list[Any]:
        figures = ("strict", "difference", "clean", "clean_difference", "words", "extra", "diversity")
        return [name, seed, *(row[key] for key in figures), agreed.get("pearson"), agreed.get("within_prompt"), *rest,
                row["failures"]]  # fmt: skip

    def trained(row: dict, name: str) -> list[Any]:
        kept = row["best_step"]
        better = "yes" if row["calibrator"]["better"] else "no"
        return line(row, name, row["seed"], row["agreement"], better, kept["reward"], kept["projector"])

    usual = found.methods["none"]
    lines = [["none", None, usual["strict"], None, usual["clean"], None, None, usual["extra"], usual["diversity"],
              None, None, None, None, None, found.failures("none")]]  # fmt: skip
    lines.append(line(used, "before", None, start, None, None, None))
    lines += [trained(row, str(row["corrections"])) for row in rows]
    lines += [trained(row, f"{row['corrections']}, placebo") for row in placebos]
    lines += [line(row, row["method"], None, {}, None, None, None) for row in others]
    columns = ["corrections", "seed", "every word holds", "against none", "and nothing else", "the same against none",
               "words against none", "things too many", "diversity", "Pearson", "within a prompt's word", "calibrator used",
               "reward step kept", "projector step kept", "invalid"]  # fmt: skip
    note = "Pearson: the reward model against the judge's truths, on held-out prompts. Differences are paired with none."
    return table("Corrections", columns, lines, note, [*columns[2:7], "invalid"])
