"""Whether a training helped: before and after on prompts and seeds that nothing was trained on, by a judge apart.

For prompts of the shapes world the judge is the detector, on which nothing is trained. For any other prompt it is the
scorer, from which the labels came: that is said in the report, as such a result is not independent. Images are kept
as figures in a journal that later runs share, so that none and the projector of last time are not made again.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from core.evaluation.base import Method
from core.evaluation.base import Settings as Sampling
from core.evaluation.choosing import weights_digest
from core.evaluation.experiments import alignment
from core.evaluation.journal import FILE
from core.evaluation.methods import projected
from core.evaluation.report import columns, figures, over_prompts
from core.networks.projector import NoiseProjector
from core.training.loop import Progress
from core.words import EXTRA, scored, units
from studio.prompts import scene_of, seeds_for, without
from studio.truth import truth_of

SHOWN = 5  # a word whose digit is at least this counts as shown, where the scorer must judge
FIGURES = ("words", "strict", "clean")  # clean: every word holds, and nothing else is there


def judge_of(studio: Any, prompts: Sequence[str]) -> tuple[Callable[[str, np.ndarray], dict | None], str]:
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


def of_run(job: Any, trained: Sequence[str], models: Callable[[], tuple[Any, Any]]) -> dict[str, Any]:
    """The 'heldout' of a run that trained on `trained`: `before_after` of (before, after) = models(), with seconds; {}
    where its configuration asks for none or no prompt is left. job: studio.learning.Job. Raises Stopped."""
    studio, config, began = job.studio, job.config, time.monotonic()
    prompts = without(studio.prompts.of("heldout", config["heldout_prompts"]), trained)
    if not prompts:
        return {}
    found = before_after(
        studio, prompts, config["heldout_seeds"], *models(), steps=config["steps"], guidance=config["guidance"],
        on_progress=job.watch("held-out images"), stop=job.stopped,
    )  # fmt: skip
    return {**found, "seconds": round(time.monotonic() - began, 1)}


def before_after(
    studio: Any,
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
    before, or less none where there was nothing before) and against_none are paired. Raises Stopped.
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
    return report


def _method(model: NoiseProjector | Method) -> Method:
    if isinstance(model, Method):
        return model
    return projected(model, name=f"projector {weights_digest(model)}")


def _values(
    path: Any, prompts: Sequence[str], methods: Sequence[str]
) -> dict[str, dict[str, list[np.ndarray]]]:
    """By method and figure: for each prompt an array over its seeds."""
    records = {}
    for line in path.read_text(encoding="utf-8").splitlines():
        record = json.loads(line)
        if "items" in record:
            records[record["method"], record["prompt"]] = record
    kinds = {prompt: {str(word.index): word.kind for word in units(prompt)} for prompt in prompts}
    return {
        method: columns([figures(records[method, prompt], kinds[prompt]) for prompt in prompts])
        for method in methods
    }
