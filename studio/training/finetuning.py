"""The LoRA that the projector is compared with: trained on the store's images, each as its word scores have it.

An image's score is the mean of its words' current labels (a correction where there is one, else the scorer's expected
score), in [0, 1]. Only images of training prompts, of the backbone in use and of its default size are trained on.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from core import checkpoint
from core.training.data import Sample
from core.training.loop import Stopped
from core.training.lora import Adapter, LoraConfig, train_lora
from studio.images.methods import tuned
from studio.training.datasets import store_samples, told
from studio.training.heldout import of_run
from studio.training.runs import Job


def lora(job: Job) -> dict[str, Any]:
    """A fresh adapter from the labels of the run, and its held-out result against the one in use, or none."""
    result = job.stage("lora", lambda: _train(job))
    prompts = result.pop("prompts")
    heldout = job.stage("heldout", lambda: _heldout(job, prompts))
    folder = job.folder / "lora"
    return {
        "metrics": {**result, **({"heldout": heldout} if heldout else {})},
        "checkpoint": folder.relative_to(job.studio.settings.home).as_posix(),
        "checkpoint_sha256": checkpoint.digest(folder),
    }


def image_score(sample: Sample) -> float:
    """Mean expected score in [0, 1] of an image's labelled words."""
    expected = [
        float(np.dot(said, np.arange(10))) if isinstance(said, Sequence) else float(said)
        for said, _ in sample.labels.values()
    ]
    return min(1.0, max(0.0, float(np.mean([value / 9 for value in expected])))) if expected else 0.0


def _train(job: Job) -> dict[str, Any]:
    studio, config, began = job.studio, job.config, time.monotonic()
    rows = studio.store.labels.current(snapshot=job.run["labels"])
    samples, counts, left_out, sampling = store_samples(
        studio, rows, 1.0, with_pictures=True, on_part=job.stoppable("images read")
    )
    samples = [sample for sample in samples if sample.picture is not None]
    if not samples:
        raise ValueError(
            "There is no scored image of a training prompt to fine-tune on: collect and score some first "
            f"(python -m studio collect). {told(left_out)}".strip()
        )
    scores = [image_score(sample) for sample in samples]
    settings = LoraConfig(
        rank=config["rank"],
        steps=config["lora_steps"],
        batch=config["lora_batch"],
        rate=config["lora_rate"],
        temperature=config["temperature"],
        checkpointing=config["checkpointing"],
        seed=config["seed"],
    )
    with studio.models.lock:
        result, loss = train_lora(
            studio.models.diffuser(),
            torch.stack([sample.picture for sample in samples]),
            [sample.prompt for sample in samples],
            scores,
            settings,
            job.folder / "lora",
            meta={"run": job.run["id"], "images": len(samples)},
            folder=job.folder / "lora-state",
            on_progress=job.watch("LoRA"),
            stop=job.stopped,
        )
    if result.stopped:
        raise Stopped
    return {
        "loss": loss,
        "images": len(samples),
        "mean_score": float(np.mean(scores)),
        "labels": counts,
        "left_out": left_out,
        "sampling": sampling,
        "prompts": list(dict.fromkeys(sample.prompt for sample in samples)),
        "seconds": round(time.monotonic() - began, 1),
    }


def _heldout(job: Job, trained: list[str]) -> dict[str, Any]:
    def adapters() -> tuple[Any, Any]:
        used = job.config["used"]["lora"]
        before = Adapter.load(job.studio.models.folder_of(job.studio.runs.get(used))) if used else None
        return before and _method(before), _method(Adapter.load(job.folder / "lora"))

    return of_run(job, trained, adapters)


def _method(adapter: Adapter) -> Any:
    return tuned(adapter, f"lora {adapter.sha256[:16]}")
