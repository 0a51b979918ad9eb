"""Experiment *single*: a projector for one hard prompt, trained on a few seeds of it, judged on these and on others (the
paper's single-prompt setting).

It is trained from the projector in use by the reward model in use, and put nowhere into use. The prompt is one of the
training prompts, or of those given: the one of which the reward model expects least.
"""

from __future__ import annotations

import copy
from typing import Any

import numpy as np

from core.evaluation.methods import Projected, none, predict
from core.noise import draw
from studio.experiments.common import (
    Judged,
    Part,
    before_after,
    clear,
    compared,
    evenly,
    figure,
    judged,
    need,
    report,
    series,
    share,
    table,
    trained_projector,
)
from studio.images.prompts import seeds_for
from studio.training.datasets import texts_for
from studio.training.runs import Job

TRIED = 16  # noises by which the hardest prompt is found
PARTS = {"seen": "seeds trained on", "unseen": "other seeds"}
Results = dict[str, Judged]  # by part


def run(job: Job) -> dict[str, Any]:
    config = job.config
    hard = job.stage("prompt", lambda: hardest(job))
    prompt = hard["prompt"]
    seen, unseen = seeds_for(prompt, config["seen"]), seeds_for(prompt, config["unseen"], evaluation=True)
    trained = job.stage("projector", lambda: train(job, prompt, seen))
    single = Projected(job.studio.models.open("projector", job.folder / "projector"), name="for this prompt")
    methods = [single, Projected(need(job, "projector"), name="in use")]
    results = {
        part: judged(job, part, methods, [prompt], [seeds])
        for part, seeds in (("seen", seen), ("unseen", unseen))
    }
    pictures = before_after(job, [none(), *methods], [prompt] * 4, [*seen[:2], *unseen[:2]])
    data = {"prompt": hard, "training": trained, **{part: result.report for part, result in results.items()}}
    return report(
        results["seen"].judge,
        _answer(prompt, results),
        _figures(results),
        [_table(prompt, results)],
        [pictures],
        data,
    )


def hardest(job: Job) -> dict[str, Any]:
    """The prompt that was asked for, or the one of which the reward model expects least over a few noises."""
    studio, config = job.studio, job.config
    if config["prompt"]:
        return {"prompt": config["prompt"], "expected": None, "of": 1}
    given = config["given"] or studio.prompts.of("train", config["prompts"])
    prompts, diffuser = evenly(list(dict.fromkeys(given)), config["prompts"]), studio.models.diffuser()
    reward, expected = need(job, "reward"), []
    for prompt in prompts:
        job.check()
        noise = draw(seeds_for(prompt, TRIED), diffuser.latent_shape())
        with studio.models.lock:
            _, words = predict(reward, noise, diffuser.encode([prompt]).take([0] * TRIED))
        values = [value for row in words for value in row.values()]
        expected.append(float(np.mean(values)) if values else np.inf)
    least = int(np.argmin(expected))
    if not np.isfinite(expected[least]):
        raise ValueError("No word of these prompts carries meaning: give prompts that name things.")
    return {"prompt": prompts[least], "expected": expected[least], "of": len(prompts)}


def train(job: Job, prompt: str, seeds: list[int]) -> dict[str, Any]:
    """The projector of one prompt, saved in the run's folder. Raises Stopped."""
    model = copy.deepcopy(need(job, "projector")).requires_grad_(True).train()
    texts = texts_for(job.studio, [prompt])
    trained = trained_projector(
        job, "projector", model, texts, "projector", {"prompt": prompt}, seeds=seeds, tau=job.config["tau"]
    )
    return {**trained, "seeds": len(seeds)}


def _answer(prompt: str, results: Results) -> list[str]:
    lines = [f"The prompt is “{prompt}”."]
    for part, words in PARTS.items():
        result = results[part]
        lines.append(
            f"On {words}, every word holds in {share(result.methods['none']['strict'])} of the images without projection."
        )
        lines += [
            compared(f"On {words}, with the projector {name}", result.gain(name), "without")
            for name in ("for this prompt", "in use")
        ]
    seen, unseen = (results[part].gain("for this prompt") for part in PARTS)
    if clear(seen) and not clear(unseen):
        lines.append("What it gained on the seeds that it was trained on is not shown on others.")
    if seen and unseen and clear(seen) and clear(unseen) and min(seen["estimate"], unseen["estimate"]) > 0:
        lines.append("Its gain on the seeds that it was trained on carries over to others.")
    return lines


def _figures(results: Results) -> list[Part]:
    return [
        figure(
            "dots", title, "", "share",
            [series(words, list(results[part].methods), [entry[name] for entry in results[part].methods.values()])
             for part, words in PARTS.items()],
            note="One prompt: intervals are over its seeds.",
        )
        for name, title in (("strict", "Every word holds"), ("words", "Words that hold"))
    ]  # fmt: skip


def _table(prompt: str, results: Results) -> Part:
    rows = [
        {
            "seeds": words,
            "projector": name,
            "images": result.report["judged"],
            "every word holds": entry["strict"],
            "against none": result.gain(name),
            "words": entry["words"],
            "words against none": result.gain(name, "words"),
            "diversity": entry["diversity"]["estimate"],
            "invalid": result.failures(name),
        }
        for words, result in ((words, results[part]) for part, words in PARTS.items())
        for name, entry in result.methods.items()
    ]
    shares = ["every word holds", "against none", "words", "words against none", "invalid"]
    return table(f"“{prompt}”", rows, "Intervals of 95 %, over seeds.", shares)
