"""Held-out results: the models before and after a training, on prompts and seeds that nothing was trained on.

For prompts of the shapes world the judge is the detector, on which nothing is trained. For any other prompt it is the
scorer, from which the labels came; the report says that such a result is not independent. The figures of images are kept
in a journal that later runs share, so that the images of no projector and of the last one are not made again. The images
of a few seeds that changed are made again, to be looked at.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from core.evaluation.base import Method
from core.evaluation.base import Settings as Sampling
from core.evaluation.choosing import weights_digest
from core.evaluation.experiments import alignment
from core.evaluation.journal import FILE
from core.evaluation.methods import Projected
from core.evaluation.report import columns, figures, over_prompts
from core.jsonfile import read_lines
from core.networks.projector import NoiseProjector
from core.progress import Progress
from core.words import EXTRA, scored, units
from studio.images import pictures
from studio.images.detecting import truth_of
from studio.images.prompts import scene_of, seeds_for, without
from studio.training.results import PICTURES

if TYPE_CHECKING:
    from studio.studio import Studio
    from studio.training.runs import Job

HOLDS = 5  # a word whose digit is at least this holds, where the scorer is the judge
FIGURES = ("words", "strict", "clean")  # clean: every word holds, and nothing else is there
SHOWN_SEEDS = 6  # that changed, at most, with their images before and after

Judge = Callable[[str, np.ndarray], dict[str, Any] | None]  # (prompt, image) -> {strict, words, extra}
Model = NoiseProjector | Method


def judge_of(studio: Studio, prompts: Sequence[str]) -> tuple[Judge, str]:
    """The judge of an evaluation, and its name: detector, or scorer where a prompt is not of the shapes world."""
    if all(scene_of(prompt) for prompt in prompts):

        def by_detector(prompt: str, image: np.ndarray) -> dict[str, Any] | None:
            truth = truth_of(prompt, image)
            assert truth is not None, "the prompt is of the shapes world"
            return {"strict": truth.strict, "words": truth.words, "extra": truth.extra}

        return by_detector, "detector"
    scorer = studio.models.scorer()

    def by_scorer(prompt: str, image: np.ndarray) -> dict[str, Any] | None:
        scores, asked = scorer.score([image], [prompt])[0], scored(units(prompt))
        if not scores or len(scores) < len(asked):
            return None  # no verdict is guessed for a word without a readable answer
        extra = {unit.index for unit in asked if unit.kind == EXTRA}
        words = [word for word in scores if word.word_index not in extra]
        return {
            "strict": all(word.score >= HOLDS for word in words),
            "words": {word.word_index: word.expected for word in words},
            "extra": sum(word.score < HOLDS for word in scores if word.word_index in extra),
        }

    return by_scorer, "scorer"


def of_run(
    job: Job, trained: Sequence[str], models: Callable[[], tuple[Model | None, Model]]
) -> dict[str, Any]:
    """The 'heldout' of a run that was trained on these prompts: `before_after` of (before, after) = models(), with
    seconds; {} where its configuration asks for none or no prompt is left. Raises Stopped."""
    studio, config, began = job.studio, job.config, time.monotonic()
    prompts = without(studio.prompts.of("heldout", config["heldout_prompts"]), trained)
    if not prompts:
        return {}
    before, after = models()
    result = before_after(
        studio, prompts, config["heldout_seeds"], before, after, steps=config["steps"], guidance=config["guidance"],
        on_progress=job.watch("held-out images"), stop=job.stopped,
    )  # fmt: skip
    judge, _ = judge_of(studio, prompts)
    changed = result["seeds"].pop("changed")
    result["seeds"]["shown"] = _shown(job, changed, before, after, judge, result["sampling"])
    return {**result, "seconds": round(time.monotonic() - began, 1)}


def _shown(
    job: Job,
    changed: list[dict[str, Any]],
    before: Model | None,
    after: Model,
    judge: Judge,
    sampling: dict[str, Any],
) -> list[dict[str, Any]]:
    """Images of changed seeds, before and after, in the run's folder: {prompt, seed, whole, before, after}, the last two
    being the files' names. A seed that is judged differently when its images are made again is left out."""
    if not changed:
        return []
    prompts, seeds = [one["prompt"] for one in changed], [one["seed"] for one in changed]
    methods = {"before": _method(before), "after": _method(after)}
    diffuser, settings = job.studio.models.configured(), Sampling(**sampling)
    with job.studio.models.lock:
        images = {
            side: method.run(diffuser, prompts, seeds, settings, stop=job.stopped).images
            for side, method in methods.items()
        }
    kept = []
    for i, one in enumerate(changed):
        verdicts = [judge(one["prompt"], images[side][i]) for side in methods]
        if [bool(v and v["strict"] and not v["extra"]) for v in verdicts] != [not one["whole"], one["whole"]]:
            continue
        names = {side: f"{i}-{side}.png" for side in methods}
        for side, method in methods.items():
            made_by = {"prompt": one["prompt"], "seed": one["seed"], "method": method.name, **sampling}
            made_by |= options_of(job.studio)
            pictures.write(job.folder / PICTURES / names[side], pictures.png(images[side][i], made_by))
        kept.append({**one, **names})
    return kept


def options_of(studio: Studio) -> dict[str, str]:
    """What the studio samples under beside steps and guidance, where there is something."""
    options = {"negative": studio.settings.negative, "scheduler": studio.settings.scheduler}
    return {name: value for name, value in options.items() if value}


def before_after(
    studio: Studio,
    prompts: Sequence[str],
    seeds_per_prompt: int,
    before: Model | None,
    after: Model,
    *,
    steps: int,
    guidance: float,
    on_progress: Callable[[Progress], None] | None = None,
    stop: Callable[[], bool] | None = None,
) -> dict[str, Any]:
    """none, before and after on the same prompts and seeds, as the 'heldout' of a run's metrics.

    none, before, after: each {words, strict, clean, extra}, a figure being {estimate, low, high}; difference (after minus
    before, or minus none without a model before) and against_none are paired; seeds: see `change`. Raises Stopped.
    """
    sampling = Sampling(steps=steps, guidance=guidance, batch=studio.settings.batch)
    judge, name = judge_of(studio, prompts)
    seeds = [seeds_for(prompt, seeds_per_prompt, evaluation=True) for prompt in prompts]
    diffuser = studio.models.configured()
    by = studio.models.scorer().version if name == "scorer" else name  # the journal has its verdicts
    identity = [diffuser.fingerprint, by, steps, guidance, list(prompts), seeds]
    key = hashlib.sha256(json.dumps(identity).encode()).hexdigest()[:16]
    folder = studio.settings.home / "heldout" / key
    methods = {"none": Method(), "after": _method(after)}
    if before is not None:
        methods["before"] = _method(before)
    distinct = {method.name: method for method in methods.values() if method.name != "none"}
    alignment(
        diffuser, list(distinct.values()), prompts, seeds, judge, settings=sampling, folder=folder,
        draws=50, on_progress=on_progress, stop=stop,
    )  # fmt: skip
    by_method = _values(folder / FILE, prompts, ["none", *distinct])
    values = {side: by_method[method.name] for side, method in methods.items()}
    base = "before" if before is not None else "none"
    report: dict[str, Any] = {
        "of": "prompts and seeds",
        "judge": name,
        "independent": name == "detector",
        "key": key,
        "prompts": len(prompts),
        "images": sum(len(row) for row in values["none"]["words"]),
        "base": base,
        "sampling": {**asdict(sampling), **options_of(studio)},
    }
    for side, figures_of in values.items():
        report[side] = {name: over_prompts(figures_of[name], 2000) for name in (*FIGURES, "extra")}
    for title, other in (("difference", base), ("against_none", "none")):
        report[title] = {}
        for name in FIGURES:
            rows = zip(values["after"][name], values[other][name], strict=True)
            report[title][name] = over_prompts([ours - theirs for ours, theirs in rows], 2000)
    report["seeds"] = change(prompts, seeds, values[base]["clean"], values["after"]["clean"])
    return report


def change(
    prompts: Sequence[str],
    seeds: Sequence[Sequence[int]],
    before: Sequence[np.ndarray],
    after: Sequence[np.ndarray],
) -> dict[str, Any]:
    """How many seeds were broken and whole before, how many of these changed (mended, spoiled), and some of these: changed,
    {prompt, seed, whole: whether it is now}, of many prompts, in the proportion of all. before, after: for each prompt
    whether the image of each seed is whole, nan where that is unknown."""
    images = pd.DataFrame(
        [
            (place, prompt, seed, was, now)
            for prompt, row, one, other in zip(prompts, seeds, before, after, strict=True)
            for place, (seed, was, now) in enumerate(zip(row, one, other, strict=True))
        ],
        columns=["place", "prompt", "seed", "was", "now"],
    ).dropna()
    # a seed of each prompt before the next one of any
    images = images.sort_values("place", kind="stable").astype({"was": bool, "now": bool})
    mended, spoiled = images[~images.was & images.now], images[images.was & ~images.now]
    most = min(SHOWN_SEEDS, len(mended) + len(spoiled))
    some = max(most - len(mended), round(most * len(spoiled) / max(1, len(mended) + len(spoiled))))
    some = min(len(spoiled), max(some, int(len(spoiled) > 0)), most - (len(mended) > 0))
    return {
        "broken": int((~images.was).sum()),
        "whole": int(images.was.sum()),
        "mended": len(mended),
        "spoiled": len(spoiled),
        "changed": [
            {"prompt": one.prompt, "seed": one.seed, "whole": bool(one.now)}
            for changed in (mended[: most - some], spoiled[:some])
            for one in changed.itertuples()
        ],
    }


def _method(model: Model | None) -> Method:
    if model is None or isinstance(model, Method):
        return model or Method()
    return Projected(model, name=f"projector {weights_digest(model)}")


def _values(
    journal: Path, prompts: Sequence[str], methods: Sequence[str]
) -> dict[str, dict[str, list[np.ndarray]]]:
    """By method and figure: for each prompt an array over its seeds."""
    records = {(line["method"], line["prompt"]): line for line in read_lines(journal) if "items" in line}
    kinds = {prompt: {str(word.index): word.kind for word in units(prompt)} for prompt in prompts}
    return {
        method: columns([figures(records[method, prompt], kinds[prompt]) for prompt in prompts])
        for method in methods
    }
