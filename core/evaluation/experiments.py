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
from core.evaluation.methods import BestOf, none
from core.evaluation.report import compare
from core.noise import check_seeds, draw
from core.noise import drift as noise_drift
from core.progress import Progress, Stopped

Judge = Callable[[str, np.ndarray], dict | None]
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
    on_progress: Callable[[Progress], None] | None = None,
    stop: Callable[[], bool] | None = None,
) -> dict:
    """Compare `methods` with `none` on every prompt and seed: a report ready for JSON (see report.compare).

    seeds: the same for every prompt, or a list for each (`seeds_for`). folder: of the journal. Raises Stopped when
    `stop()` is true.
    """
    prompts = list(dict.fromkeys(prompts))
    table = check_table(prompts, seeds)
    made, pooled = plan(methods, scorer, min(map(len, table)))
    for method in made:
        method.check(diffuser, settings)
    journal = Journal(
        Path(folder) if folder else None,
        {"backbone": diffuser.name, "images": diffuser.fingerprint, **asdict(settings), "batch": None}
        | {"scorer": getattr(scorer, "version", "unnamed") if scorer else None},
        {method.name: method.fingerprint for method in made},
    )
    pending = [
        (
            method,
            [row for row in range(len(prompts)) if not journal.has(method.name, prompts[row], table[row])],
        )
        for method in made
    ]
    total = sum(len(rows) for rows in table) * len(made)
    first = done = total - sum(len(table[row]) for _, rows in pending for row in rows)
    began = time.monotonic()
    for method, rows in pending:
        while rows:
            if stop and stop():
                raise Stopped
            each = max(1, settings.batch // len(table[rows[0]]))
            now, rows = rows[:each], rows[each:]
            wide = [prompts[row] for row in now for _ in table[row]]
            result = method.run(diffuser, wide, [s for row in now for s in table[row]], settings, stop=stop)
            for record in records(method.name, wide, result, judge, scorer):
                journal.add(record | {"seeds": table[prompts.index(record["prompt"])]})
                done += len(record["items"])
            if on_progress:
                spent = time.monotonic() - began
                on_progress(Progress(done, total, {}, spent, spent / (done - first) * (total - done)))
    finished = {
        method.name: [
            journal.get(method.name, prompt, row) for prompt, row in zip(prompts, table, strict=True)
        ]
        for method in made
    }
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
    """Drift of a method's noise from white noise and from the seeds' own (core.noise.drift)."""
    shape = diffuser.latent_shape(settings.height, settings.width)
    pairs = [
        (row, seed)
        for column in range(max(map(len, seeds)))
        for row, column_seeds in enumerate(seeds)
        for seed in column_seeds[column : column + 1]
    ][:DRIFT_ITEMS]
    moved = []
    for at in range(0, len(pairs), settings.batch):
        batch = pairs[at : at + settings.batch]
        text = diffuser.encode([prompts[row] for row, _ in batch])
        moved.append(method.start(text, [seed for _, seed in batch], shape).noise.cpu())
    return noise_drift(torch.cat(moved), draw([seed for _, seed in pairs], shape)) | {"items": len(pairs)}


def seeds_for(prompts: Sequence[str], each: int, first: int = 0) -> list[list[int]]:
    """`each` seeds for every prompt, different ones, counted up from `first`: seeds shared by all prompts would correlate
    the prompts, which an interval clustered by prompt does not account for."""
    return [check_seeds(range(first + row * each, first + (row + 1) * each)) for row in range(len(prompts))]


def check_table(prompts: Sequence[str], seeds: Sequence[int] | Sequence[Sequence[int]]) -> list[list[int]]:
    """The seeds of each prompt; ValueError where there are none or one occurs twice for a prompt."""
    if not prompts:
        raise ValueError("There is no prompt to evaluate: give at least one.")
    nested = len(seeds) > 0 and not isinstance(seeds[0], (int, str, np.integer))
    if nested and len(seeds) != len(prompts):
        raise ValueError(
            f"There are {len(seeds)} lists of seeds for {len(prompts)} different prompts: give one each."
        )
    table = [check_seeds(row) for row in (seeds if nested else [seeds] * len(prompts))]
    for row in table:
        if len(set(row)) != len(row):
            raise ValueError(f"A seed occurs twice among {row[:8]}: its image would be counted twice.")
    return table


def plan(methods: Sequence[Method], scorer: Scorer | None, fewest: int) -> tuple[list[Method], list[BestOf]]:
    """The methods that make images, `none` first, and those taken from the images of another."""
    made: dict[str, Method] = {"none": none()}
    pooled: list[BestOf] = []

    def include(method: Method) -> None:
        if made.setdefault(method.name, method).fingerprint != method.fingerprint:
            raise ValueError(f"Two methods are called {method.name!r}: give one of them another name.")

    for method in methods:
        if not isinstance(method, BestOf):
            include(method)
            continue
        if scorer is None:
            raise ValueError(f"{method.name} needs a scorer to choose by: give one.")
        if method.n > fewest:
            raise ValueError(f"{method.name} needs {method.n} seeds a prompt, but there are {fewest}.")
        include(method.base)
        pooled.append(method)
    return list(made.values()), pooled


def records(
    name: str, prompts: Sequence[str], result: MethodResult, judge: Judge, scorer: Scorer | None
) -> list[dict]:
    """The journal's records of a batch, one a prompt; the batch's costs are divided by images."""
    began = time.perf_counter()
    scored = scorer.score(result.images, prompts) if scorer else None
    scoring = time.perf_counter() - began
    verdicts = [judge(prompt, image) for prompt, image in zip(prompts, result.images, strict=True)]
    out = []
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
            "items": [verdicts[i] and verdict(verdicts[i]) for i in at],
            "distances": distances(result.images[at]),
            "looks": looks(result.images[at], result.latents[at].float().numpy()),
        }
        if scored:
            record["scoring_seconds"] = scoring * share
            record["scores"] = [
                [[w.word_index, round(w.expected, 5), w.score] for w in scored[i]] for i in at
            ]
            record["answers"] = [
                [[round(float(p), 4) for p in w.distribution] for w in scored[i]] for i in at
            ]
            hidden = [[w.hidden for w in scored[i] if w.hidden is not None] for i in at]
            if all(hidden):
                features = np.stack([np.mean(np.asarray(rows, np.float32), 0) for rows in hidden])
                record["features"] = base64.b64encode(features.astype(np.float16).tobytes()).decode()
        out.append(record)
    return out


def verdict(raw: dict) -> dict:
    """A judge's verdict, checked, as JSON values."""
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
