"""Whether a training helped: before and after on prompts and seeds that nothing was trained on, by a judge apart.

For prompts of the shapes world the judge is the detector, on which nothing is trained. For any other prompt it is the
scorer, from which the labels came: that is said in the report, as such a result is not independent. Images are kept
as figures in a journal that later runs share, so that none and the projector of last time are not made again; of a
few seeds that changed the images are made again, to be looked at.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import numpy as np

from core.evaluation.base import Method
from core.evaluation.base import Settings as Sampling
from core.evaluation.choosing import weights_digest
from core.evaluation.experiments import alignment
from core.evaluation.journal import FILE
from core.evaluation.methods import none, projected
from core.evaluation.report import columns, figures, over_prompts
from core.jsonfile import read_lines
from core.networks.projector import NoiseProjector
from core.training.loop import Progress
from core.words import EXTRA, scored, units
from studio.images import pictures
from studio.images.detecting import truth_of
from studio.images.prompts import scene_of, seeds_for, without
from studio.training.results import PICTURES

if TYPE_CHECKING:
    from studio.studio import Studio
    from studio.training.runs import Job

SHOWN = 5  # a word whose digit is at least this counts as shown, where the scorer must judge
FIGURES = ("words", "strict", "clean")  # clean: every word holds, and nothing else is there
SHOWN_SEEDS = 6  # that changed, at most, with their images before and after


def judge_of(studio: Studio, prompts: Sequence[str]) -> tuple[Callable[[str, np.ndarray], dict | None], str]:
    """A judge(prompt, image) for the evaluation, and its name: detector, or scorer where a prompt is none of shapes."""
    if all(scene_of(prompt) for prompt in prompts):

        def by_detector(prompt: str, image: np.ndarray) -> dict | None:
            truth = truth_of(prompt, image)
            return truth and {"strict": truth.strict, "words": truth.words, "extra": truth.extra}

        return by_detector, "detector"
    scorer = studio.models.scorer()

    def by_scorer(prompt: str, image: np.ndarray) -> dict | None:
        said, asked = scorer.score([image], [prompt])[0], scored(units(prompt))
        if not said or len(said) < len(asked):
            return None  # nothing is guessed of a word that the scorer gave no readable answer for
        extra = {unit.index for unit in asked if unit.kind == EXTRA}
        words = [word for word in said if word.word_index not in extra]
        return {
            "strict": all(word.score >= SHOWN for word in words),
            "words": {word.word_index: word.expected for word in words},
            "extra": sum(word.score < SHOWN for word in said if word.word_index in extra),
        }

    return by_scorer, "scorer"


def of_run(job: Job, trained: Sequence[str], models: Callable[[], tuple[Any, Any]]) -> dict[str, Any]:
    """The 'heldout' of a run that trained on `trained`: `before_after` of (before, after) = models(), with seconds; {}
    where its configuration asks for none or no prompt is left. job: studio.training.runs.Job. Raises Stopped."""
    studio, config, began = job.studio, job.config, time.monotonic()
    prompts = without(studio.prompts.of("heldout", config["heldout_prompts"]), trained)
    if not prompts:
        return {}
    before, after = models()
    found = before_after(
        studio, prompts, config["heldout_seeds"], before, after, steps=config["steps"], guidance=config["guidance"],
        on_progress=job.watch("held-out images"), stop=job.stopped,
    )  # fmt: skip
    judge, _ = judge_of(studio, prompts)
    found["seeds"]["shown"] = _shown(
        job, found["seeds"].pop("changed"), before, after, judge, found["sampling"]
    )
    return {**found, "seconds": round(time.monotonic() - began, 1)}


def _shown(
    job: Job,
    changed: list[dict[str, Any]],
    before: NoiseProjector | Method | None,
    after: NoiseProjector | Method,
    judge: Callable[[str, np.ndarray], dict | None],
    sampling: dict[str, Any],
) -> list[dict[str, Any]]:
    """Images of changed seeds, before and after, in the run's folder: {prompt, seed, whole, before, after}, the last two
    being the files' names. One that comes out otherwise when it is made again is left out."""
    prompts, seeds = [one["prompt"] for one in changed], [one["seed"] for one in changed]
    if not changed:
        return []
    methods = {"before": none() if before is None else _method(before), "after": _method(after)}
    with job.studio.models.lock:
        images = {
            part: method.run(
                job.studio.models.diffuser(), prompts, seeds, Sampling(**sampling), stop=job.stopped
            ).images
            for part, method in methods.items()
        }
    kept = []
    for at, one in enumerate(changed):
        verdicts = [judge(one["prompt"], images[part][at]) for part in ("before", "after")]
        if [bool(v and v["strict"] and not v["extra"]) for v in verdicts] != [not one["whole"], one["whole"]]:
            continue
        names = {part: f"{at}-{part}.png" for part in methods}
        for part, method in methods.items():
            made_by = {"prompt": one["prompt"], "seed": one["seed"], "method": method.name, **sampling}
            pictures.write(job.folder / PICTURES / names[part], pictures.png(images[part][at], made_by))
        kept.append({**one, **names})
    return kept


def before_after(
    studio: Studio,
    prompts: Sequence[str],
    seeds_per_prompt: int,
    before: NoiseProjector | Method | None,
    after: NoiseProjector | Method,
    *,
    steps: int,
    guidance: float,
    on_progress: Callable[[Progress], None] | None = None,
    stop: Callable[[], bool] | None = None,
) -> dict[str, Any]:
    """none, before and after on the same prompts and seeds, as the 'heldout' of a run's metrics.

    none, before, after: each {words, strict, clean, extra}, a figure being {estimate, low, high}; difference (after less
    before, or less none where there was nothing before) and against_none are paired; seeds, as `change` gives them.
    Raises Stopped.
    """
    sampling = Sampling(steps=steps, guidance=guidance, batch=studio.settings.batch)
    judge, name = judge_of(studio, prompts)
    seeds = [seeds_for(prompt, seeds_per_prompt, evaluation=True) for prompt in prompts]
    diffuser = studio.models.diffuser()
    by = studio.models.scorer().version if name == "scorer" else name  # its verdicts are kept with the images
    key = hashlib.sha256(
        json.dumps([diffuser.fingerprint, by, steps, guidance, list(prompts), seeds]).encode()
    ).hexdigest()[:16]
    folder = studio.settings.home / "heldout" / key
    named: dict[str, Method] = {"after": _method(after)}
    if before is not None:
        named["before"] = _method(before)
    distinct = {method.name: method for method in named.values()}
    alignment(
        diffuser, list(distinct.values()), prompts, seeds, judge, settings=sampling, folder=folder,
        draws=50, on_progress=on_progress, stop=stop,
    )  # fmt: skip
    found = _values(folder / FILE, prompts, ["none", *distinct])
    parts = {"none": found["none"], **{part: found[method.name] for part, method in named.items()}}
    base = "before" if before is not None else "none"
    report: dict[str, Any] = {
        "of": "prompts and seeds",
        "judge": name,
        "independent": name == "detector",
        "key": key,
        "prompts": len(prompts),
        "images": int(sum(len(row) for row in found["none"]["words"])),
        "base": base,
        "sampling": asdict(sampling),
    }
    for part, values in parts.items():
        report[part] = {figure: over_prompts(values[figure], 2000) for figure in (*FIGURES, "extra")}
    for title, other in (("difference", base), ("against_none", "none")):
        report[title] = {
            figure: over_prompts(
                [a - b for a, b in zip(parts["after"][figure], parts[other][figure], strict=True)], 2000
            )
            for figure in FIGURES
        }
    report["seeds"] = change(prompts, seeds, parts[base]["clean"], parts["after"]["clean"])
    return report


def change(
    prompts: Sequence[str],
    seeds: Sequence[Sequence[int]],
    before: Sequence[np.ndarray],
    after: Sequence[np.ndarray],
) -> dict[str, Any]:
    """How many seeds were broken and whole before, how many of these are the other now (mended, spoiled), and some of
    them: changed, {prompt, seed, whole: whether it is now}, of many prompts, in the proportion of all. before, after:
    for each prompt whether the image of each seed is whole, nan where nobody could tell."""
    pairs = [
        (place, prompt, seed, was, now)
        for prompt, row, one, other in zip(prompts, seeds, before, after, strict=True)
        for place, (seed, was, now) in enumerate(zip(row, one, other, strict=True))
        if np.isfinite(was) and np.isfinite(now)
    ]
    moved = {whole: [p for p in pairs if p[3] != p[4] and bool(p[4]) == whole] for whole in (True, False)}
    mended, spoiled = len(moved[True]), len(moved[False])
    most = min(SHOWN_SEEDS, mended + spoiled)
    some = max(most - mended, round(most * spoiled / max(1, mended + spoiled)), int(spoiled > 0))
    some = min(spoiled, some, most - (mended > 0))
    shown = {True: most - some, False: some}
    whole = sum(bool(p[3]) for p in pairs)
    return {
        "broken": len(pairs) - whole,
        "whole": whole,
        "mended": mended,
        "spoiled": spoiled,
        "changed": [
            {"prompt": prompt, "seed": seed, "whole": now}
            for now, found in moved.items()
            # a seed of each prompt before the next one of any
            for _, prompt, seed, *_ in sorted(found, key=lambda p: p[0])[: shown[now]]
        ],
    }


def _method(model: NoiseProjector | Method) -> Method:
    if isinstance(model, Method):
        return model
    return projected(model, name=f"projector {weights_digest(model)}")


def _values(
    path: Any, prompts: Sequence[str], methods: Sequence[str]
) -> dict[str, dict[str, list[np.ndarray]]]:
    """By method and figure: for each prompt an array over its seeds."""
    records = {}
    for record in read_lines(path):
        if "items" in record:
            records[record["method"], record["prompt"]] = record
    kinds = {prompt: {str(word.index): word.kind for word in units(prompt)} for prompt in prompts}
    return {
        method: columns([figures(records[method, prompt], kinds[prompt]) for prompt in prompts])
        for method in methods
    }
