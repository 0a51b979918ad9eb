"""Experiments: methods compared on the same prompts and seeds, by a judge that nothing was trained on. A projector learns
the mistakes of its reward model, so a claim that it is better rests on such a judge and on held-out prompts.

Images are made once. Best-of-N by the scorer is taken from the images of its base method, exactly over all subsets of N
of a prompt's seeds, and is charged what N images and N scorings cost. Finished records are kept in a journal, from which
an experiment that was stopped or killed resumes.
"""

from __future__ import annotations

import base64
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch

from core.diffusion import Diffuser
from core.evaluation.base import DEFAULT, Method, MethodResult, Settings
from core.evaluation.choosing import Scorer
from core.evaluation.distribution import looks
from core.evaluation.journal import Journal
from core.evaluation.methods import BestOf
from core.evaluation.report import compare
from core.noise import check_seeds, draw
from core.noise import drift as noise_drift
from core.progress import OnProgress, Progress, Stop, Stopped

Judge = Callable[[str, np.ndarray], dict[str, Any] | None]
"""judge(prompt, image) -> {"strict": bool, "words": {word index: truth in [0, 1]}, "extra": int}, or None for a prompt
that it cannot judge."""

THUMBNAIL = 64  # side, in pixels, at which images are compared for diversity
DRIFT_ITEMS = 256  # pairs of prompt and seed over which drift is measured


def alignment(
    diffuser: Diffuser,
    methods: Sequence[Method],
    prompts: Sequence[str],
    seeds: Sequence[int] | Sequence[Sequence[int]],
    judge: Judge,
    *,
    scorer: Scorer | None = None,
    settings: Settings = DEFAULT,
    folder: Path | str | None = None,
    draws: int = 2000,
    on_progress: OnProgress = None,
    stop: Stop = None,
) -> dict[str, Any]:
    """Compare `methods` with `none` on every prompt and seed: a report ready for JSON (report.compare).

    seeds: the same for every prompt, or a list for each (`seeds_for`). folder: of the journal. Raises Stopped when
    `stop()` is true.
    """
    prompts = list(dict.fromkeys(prompts))
    table = check_table(prompts, seeds)
    seeds_of = dict(zip(prompts, table, strict=True))
    made, pooled = plan(methods, scorer, min(map(len, table)))
    for method in made:
        method.check(diffuser, settings)
    journal = Journal(
        Path(folder) if folder else None,
        {"backbone": diffuser.name, "images": diffuser.fingerprint, **asdict(settings), "batch": None}
        | {"scorer": getattr(scorer, "version", "unnamed") if scorer else None},
        {method.name: method.fingerprint for method in made},
    )
    pending = {m: [p for p in prompts if not journal.has(m.name, p, seeds_of[p])] for m in made}
    total = sum(map(len, table)) * len(made)
    first = done = total - sum(len(seeds_of[p]) for missing in pending.values() for p in missing)
    began = time.monotonic()
    for method, missing in pending.items():
        while missing:
            if stop and stop():
                raise Stopped
            count = max(1, settings.batch // len(seeds_of[missing[0]]))
            batch, missing = missing[:count], missing[count:]
            pairs = [(prompt, seed) for prompt in batch for seed in seeds_of[prompt]]
            repeated = [prompt for prompt, _ in pairs]
            result = method.run(diffuser, repeated, [seed for _, seed in pairs], settings, stop=stop)
            for record in records(method.name, repeated, result, judge, scorer):
                journal.add(record | {"seeds": seeds_of[record["prompt"]]})
                done += len(record["items"])
            if on_progress:
                spent = time.monotonic() - began
                on_progress(Progress(done, total, {}, spent, spent / (done - first) * (total - done)))
    finished = {m.name: [journal.get(m.name, p, seeds) for p, seeds in seeds_of.items()] for m in made}
    report = compare(prompts, finished, pooled, draws=draws)
    report["settings"] = journal.settings | {"seeds": table, "pick": "all"}
    for method in made:
        if method.moves:
            report["methods"][method.name]["drift"] = drift(diffuser, method, prompts, table, settings)
    return report


def drift(
    diffuser: Diffuser,
    method: Method,
    prompts: Sequence[str],
    seeds: Sequence[Sequence[int]],
    settings: Settings = DEFAULT,
) -> dict[str, float]:
    """Drift of a method's noise from white noise and from the seeds' noise (core.noise.drift)."""
    shape = diffuser.latent_shape(settings.height, settings.width)
    pairs = [
        (prompt, column[at])
        for at in range(max(map(len, seeds)))
        for prompt, column in zip(prompts, seeds, strict=True)
        if at < len(column)
    ][:DRIFT_ITEMS]
    moved = []
    for at in range(0, len(pairs), settings.batch):
        batch = pairs[at : at + settings.batch]
        text = diffuser.encode([prompt for prompt, _ in batch])
        moved.append(method.start(text, [seed for _, seed in batch], shape).noise.cpu())
    return noise_drift(torch.cat(moved), draw([seed for _, seed in pairs], shape)) | {"items": len(pairs)}


def seeds_for(prompts: Sequence[str], each: int, first: int = 0) -> list[list[int]]:
    """`each` seeds for every prompt, counted up from `first`: seeds shared by all prompts would correlate the prompts, which
    an interval clustered by prompt does not account for."""
    return [check_seeds(range(first + row * each, first + (row + 1) * each)) for row in range(len(prompts))]


def check_table(prompts: Sequence[str], seeds: Sequence[int] | Sequence[Sequence[int]]) -> list[list[int]]:
    """Validate the seeds and return those of each prompt; ValueError where there are none or one occurs twice for a prompt."""
    if not prompts:
        raise ValueError("There is no prompt to evaluate: give at least one.")
    nested = len(seeds) > 0 and not isinstance(seeds[0], (int, str, np.integer))
    if nested and len(seeds) != len(prompts):
        raise ValueError(f"{len(seeds)} lists of seeds for {len(prompts)} different prompts: give one each.")
    table = [check_seeds(row) for row in (seeds if nested else [seeds] * len(prompts))]
    for row in table:
        if len(set(row)) != len(row):
            raise ValueError(f"A seed occurs twice among {row[:8]}: its image would be counted twice.")
    return table


def plan(methods: Sequence[Method], scorer: Scorer | None, fewest: int) -> tuple[list[Method], list[BestOf]]:
    """The methods that make images, `none` first, and those taken from the images of another."""
    made: dict[str, Method] = {"none": Method()}
    pooled = [method for method in methods if isinstance(method, BestOf)]
    for best in pooled:
        if scorer is None:
            raise ValueError(f"{best.name} needs a scorer to choose by: give one.")
        if best.n > fewest:
            raise ValueError(f"{best.name} needs {best.n} seeds a prompt, but there are {fewest}.")
    for method in methods:
        maker = method.base if isinstance(method, BestOf) else method
        if made.setdefault(maker.name, maker).fingerprint != maker.fingerprint:
            raise ValueError(f"Two methods are called {maker.name!r}: give one of them another name.")
    return list(made.values()), pooled


def records(
    name: str, prompts: Sequence[str], result: MethodResult, judge: Judge, scorer: Scorer | None
) -> list[dict[str, Any]]:
    """The journal's records of a batch, one a prompt; the batch's costs are divided by images."""
    began = time.perf_counter()
    scored = scorer.score(result.images, prompts) if scorer else None
    scoring = time.perf_counter() - began
    verdicts = [judge(prompt, image) for prompt, image in zip(prompts, result.images, strict=True)]
    rows = []
    for prompt in dict.fromkeys(prompts):
        at = [i for i, other in enumerate(prompts) if other == prompt]
        share = len(at) / len(prompts)
        record: dict[str, Any] = {
            "method": name,
            "prompt": prompt,
            "used": [result.seeds[i] for i in at],
            "seconds": result.seconds * share,
            "network_calls": result.network_calls * share,
            "peak_memory": result.peak_memory,
            "other_calls": {kind: count * share for kind, count in result.other_calls.items()},
            "items": [verdict(raw) if (raw := verdicts[i]) else raw for i in at],
            "distances": distances(result.images[at]),
            "looks": looks(result.images[at], result.latents[at].float().numpy()),
        }
        if scored:
            record["scoring_seconds"] = scoring * share
            words = [scored[i] for i in at]
            record["scores"] = [[[w.word_index, round(w.expected, 5), w.score] for w in row] for row in words]
            record["answers"] = [[[round(float(p), 4) for p in w.distribution] for w in row] for row in words]
            hidden = [[w.hidden for w in row if w.hidden is not None] for row in words]
            if all(hidden):
                features = np.stack([np.mean(np.asarray(rows, np.float32), 0) for rows in hidden])
                record["features"] = base64.b64encode(features.astype(np.float16).tobytes()).decode()
        rows.append(record)
    return rows


def verdict(raw: dict[str, Any]) -> dict[str, Any]:
    """Validate a judge's verdict and return it as JSON values."""
    words = {str(index): float(truth) for index, truth in raw["words"].items()}
    if not all(0 <= truth <= 1 for truth in words.values()):
        raise ValueError(f"The judge's truths {words} must lie in [0, 1].")
    return {"strict": int(bool(raw["strict"])), "words": words, "extra": int(raw.get("extra", 0))}


def distances(images: np.ndarray) -> list[float]:
    """Root-mean-square differences in [0, 1] between all pairs of images (N, S, S, 3), downscaled first."""
    step = max(1, images.shape[1] // THUMBNAIL)
    rows, columns = (size // step * step for size in images.shape[1:3])
    cut = images[:, :rows, :columns].reshape(len(images), rows // step, step, columns // step, step, 3)
    small = cut.mean((2, 4), dtype=np.float32).reshape(len(images), -1) / 255
    first, second = np.triu_indices(len(images), 1)
    return [round(float(d), 5) for d in np.sqrt(np.square(small[first] - small[second]).mean(1))]
