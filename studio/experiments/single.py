"""Experiment *single*: a projector for one hard prompt, trained on a few seeds of it, judged on these and on others (the
paper's single-prompt setting).

It is trained from the projector in use by the reward model in use, and put nowhere into use. The prompt is one of the
training prompts, or of those given: the one of which the reward model expects least.
"""

from __future__ import annotations

import copy
import time
from typing import Any

import numpy as np

from core import checkpoint
from core.evaluation.methods import Projected, none, predict
from core.noise import draw
from core.training.loop import Stopped
from core.training.projector import ProjectorConfig, train_projector
from studio.experiments.common import (
    Judged,
    before_after,
    clear,
    compared,
    evenly,
    figure,
    judge_sentence,
    judged,
    need,
    series,
    span,
    table,
)
from studio.images.prompts import seeds_for
from studio.training.datasets import texts_for
from studio.training.runs import Job

TRIED = 16  # noises by which the hardest prompt is found
PARTS = {"seen": "seeds trained on", "unseen": "other seeds"}


def run(job: Job) -> dict[str, Any]:
    studio, config = job.studio, job.config
    hard = job.stage("prompt", lambda: hardest(job))
    prompt = hard["prompt"]
    seeds = {
        "seen": seeds_for(prompt, config["seen"]),
        "unseen": seeds_for(prompt, config["unseen"], evaluation=True),
    }
    trained = job.stage("projector", lambda: train(job, prompt, seeds["seen"]))
    single = Projected(studio.models.open("projector", job.folder / "projector"), name="for this prompt")
    methods = [single, Projected(need(job, "projector"), name="in use")]
    found = {part: judged(job, part, methods, [prompt], [seeds[part]]) for part in PARTS}
    shown = [none(), *methods]
    pictures = before_after(
        job, shown, [prompt] * 4, [*seeds["seen"][:2], *seeds["unseen"][:2]], [m.name for m in shown]
    )
    return {
        "judge": found["seen"].judge,
        "answer": _answer(prompt, found),
        "figures": _figures(found),
        "tables": [_table(prompt, found)],
        "pictures": [pictures],
        "data": {
            "prompt": hard,
            "training": trained,
            **{part: value.report for part, value in found.items()},
        },
    }


def hardest(job: Job) -> dict[str, Any]:
    """The prompt that was asked for, or the one of which the reward model expects least over a few noises."""
    studio, config = job.studio, job.config
    if config["prompt"]:
        return {"prompt": config["prompt"], "expected": None, "of": 1}
    given = config["given"] or studio.prompts.of("train", config["prompts"])
    prompts, reward, diffuser = (
        evenly(list(dict.fromkeys(given)), config["prompts"]),
        need(job, "reward"),
        studio.models.diffuser(),
    )
    expected = []
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
    config, began = job.config, time.monotonic()
    model = copy.deepcopy(need(job, "projector")).requires_grad_(True).train()
    settings = ProjectorConfig(
        steps=config["train_steps"],
        batch=config["batch"],
        rate=config["rate"],
        tau=config["tau"],
        seed=config["seed"],
    )
    result = train_projector(
        model, need(job, "reward"), texts_for(job.studio, [prompt]), job.studio.models.diffuser().latent_shape(),
        settings, seeds=seeds, folder=job.folder / "projector-state", on_progress=job.watch("projector"), stop=job.stopped,
    )  # fmt: skip
    if result.fit.stopped:
        raise Stopped
    checkpoint.save(model, job.folder / "projector", {"run": job.run["id"], "prompt": prompt})
    return {"metrics": result.metrics, "seeds": len(seeds), "seconds": round(time.monotonic() - began, 1)}


def _answer(prompt: str, found: dict[str, Judged]) -> list[str]:
    lines = [f"The prompt is “{prompt}”."]
    for part, words in PARTS.items():
        methods = found[part].methods
        lines.append(
            f"On {words}, every word holds in {span(methods['none']['strict'], True)} of the images without projection."
        )
        lines += [
            compared(
                f"On {words}, with the projector {name}", methods[name]["difference"]["strict"], "without"
            )
            for name in ("for this prompt", "in use")
        ]
    seen, unseen = (found[part].methods["for this prompt"]["difference"]["strict"] for part in PARTS)
    if clear(seen) and not clear(unseen):
        lines.append("What it gained on the seeds that it was trained on is not shown on others.")
    if clear(seen) and clear(unseen) and min(seen["estimate"], unseen["estimate"]) > 0:
        lines.append("Its gain on the seeds that it was trained on carries over to others.")
    return lines + judge_sentence(found["seen"].judge)


def _figures(found: dict[str, Judged]) -> list[dict[str, Any]]:
    out = []
    for figure_name, title in (("strict", "Every word holds"), ("words", "Words that hold")):
        rows = [
            series(
                words,
                list(found[part].methods),
                [entry[figure_name] for entry in found[part].methods.values()],
            )
            for part, words in PARTS.items()
        ]
        out.append(figure("dots", title, "", "share", rows, note="One prompt: intervals are over its seeds."))
    return out


def _table(prompt: str, found: dict[str, Judged]) -> dict[str, Any]:
    rows = [
        [words, name, found[part].report["judged"], entry["strict"], entry.get("difference", {}).get("strict"),
         entry["words"], entry.get("difference", {}).get("words"), entry["diversity"]["estimate"], found[part].failures(name)]
        for part, words in PARTS.items()
        for name, entry in found[part].methods.items()
    ]  # fmt: skip
    columns = ["seeds", "projector", "images", "every word holds", "against none", "words", "words against none",
               "diversity", "invalid"]  # fmt: skip
    return table(f"“{prompt}”", columns, rows, "Intervals of 95 %, over seeds.", [*columns[3:7], "invalid"])
