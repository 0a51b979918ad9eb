"""Experiment *single*: a projector for one hard prompt, trained on a few seeds of it, judged on these and on others (the
paper's single-prompt setting).

It is trained from the projector in use by the reward model in use, and put nowhere into use. The prompt is one of the
training prompts, or of those given: the one of which the reward model expects least.
"""

from __future__ import annotations

import copy
from typing import Any

import numpy as np

from core.evaluation.base import Method
from core.evaluation.choosing import predict
from core.evaluation.methods import Projected
from core.noise import draw
from studio.experiments.common import Judged, before_after, evenly, judged, need, trained_projector
from studio.experiments.parts import Part, clear, compared, figure, report, series, share, table
from studio.images.prompts import seeds_for
from studio.training.datasets import texts_for
from studio.training.runs import Job

TRIED = 16  # noises by which the hardest prompt is found
SETS = {"seen": "seeds trained on", "unseen": "other seeds"}
Results = dict[str, Judged]  # by set of seeds


def run(job: Job) -> dict[str, Any]:
    config, hard = job.config, job.stage("prompt", lambda: hardest(job))
    prompt = hard["prompt"]
    seen, unseen = seeds_for(prompt, config["seen"]), seeds_for(prompt, config["unseen"], evaluation=True)
    trained = job.stage("projector", lambda: train(job, prompt, seen))
    single = Projected(job.studio.models.open("projector", job.folder / "projector"), name="for this prompt")
    methods = [single, Projected(need(job, "projector"), name="in use")]
    sets = {"seen": seen, "unseen": unseen}
    results = {name: judged(job, name, methods, [prompt], [seeds]) for name, seeds in sets.items()}
    pictures = before_after(job, [Method(), *methods], [prompt] * 4, [*seen[:2], *unseen[:2]])
    data = {"prompt": hard, "training": trained, **{name: result.report for name, result in results.items()}}
    answer, tables = _answer(prompt, results), [_table(prompt, results)]
    return report(results["seen"].judge, answer, _figures(results), tables, [pictures], data)


def hardest(job: Job) -> dict[str, Any]:
    """The prompt of the configuration, or the one of which the reward model expects least over a few noises."""
    studio, config = job.studio, job.config
    if config["prompt"]:
        return {"prompt": config["prompt"], "expected": None, "of": 1}
    candidates = config["given"] or studio.prompts.of("train", config["prompts"])
    prompts, diffuser = evenly(list(dict.fromkeys(candidates)), config["prompts"]), studio.models.diffuser()
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
    """Train the projector of one prompt, saved in the run's folder. Raises Stopped."""
    model = copy.deepcopy(need(job, "projector")).requires_grad_(True).train()
    texts = texts_for(job.studio, [prompt])
    trained = trained_projector(
        job, "projector", model, texts, "projector", {"prompt": prompt}, seeds=seeds, tau=job.config["tau"]
    )
    return {**trained, "seeds": len(seeds)}


def _answer(prompt: str, results: Results) -> list[str]:
    lines = [f"The prompt is “{prompt}”."]
    for name, words in SETS.items():
        result = results[name]
        usual = share(result.methods["none"]["strict"])
        lines.append(f"On {words}, every word holds in {usual} of the images without projection.")
        lines += [
            compared(f"On {words}, with the projector {method}", result.gain(method), "without")
            for method in ("for this prompt", "in use")
        ]
    seen, unseen = (results[name].gain("for this prompt") for name in SETS)
    if clear(seen) and not clear(unseen):
        lines.append("What it gained on the seeds that it was trained on is not shown on others.")
    if seen and unseen and clear(seen) and clear(unseen) and min(seen["estimate"], unseen["estimate"]) > 0:
        lines.append("Its gain on the seeds that it was trained on carries over to others.")
    return lines


def _figures(results: Results) -> list[Part]:
    return [
        figure(
            "dots", title, "", "share",
            [series(words, list(results[name].methods), [entry[key] for entry in results[name].methods.values()])
             for name, words in SETS.items()],
            note="One prompt: intervals are over its seeds.",
        )
        for key, title in (("strict", "Every word holds"), ("words", "Words that hold"))
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
        for words, result in zip(SETS.values(), results.values(), strict=True)
        for name, entry in result.methods.items()
    ]
    shares = ["every word holds", "against none", "words", "words against none", "invalid"]
    return table(f"“{prompt}”", rows, "Intervals of 95 %, over seeds.", shares)
