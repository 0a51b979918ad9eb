"""The next round of the loop: images with the projector in use, scored, so that they stand in the queue.

What a projector has learned wrong shows only in the images that it makes. A round collects some on training prompts; once
people have corrected them, the next training learns from them as from all others.
"""

from __future__ import annotations

import time
from collections import Counter
from typing import TYPE_CHECKING, Any

from studio.training.runs import Job

if TYPE_CHECKING:
    from studio.studio import Studio

SET = "round"  # the prompt set of these images


def collect(job: Job) -> dict[str, Any]:
    """Make and score the images of a run of kind round; what its run is done with. Raises Stopped."""
    studio, config, began = job.studio, job.config, time.monotonic()
    if studio.runs.in_use()["projector"] != config["used"]["projector"]:
        raise ValueError(
            "Another projector has been put into use since this round was begun: start a new round with it."
        )
    chosen = job.stage("prompts", lambda: chosen_prompts(studio, config["prompts"]))
    ids = studio.collecting.collect(
        chosen["prompts"], config["seeds"], "projected", steps=config["steps"], guidance=config["guidance"],
        strength=config["strength"], prompt_set=SET, first_seed=chosen["first_seed"], on_progress=job.counter("images"),
        stop=job.stopped,
    )  # fmt: skip
    job.check()
    scored = studio.scoring.score(ids, job.counter("scores"), job.stopped)
    job.check()
    if studio.models.using("reward").model is not None:  # the order of the queue is there before anybody asks
        studio.foreseeing.foresee(on_progress=job.counter("reward model asked"), stop=job.stopped)
        job.check()
    return {
        "metrics": {
            "images": len(ids),
            "prompts": len(chosen["prompts"]),
            "scored": scored,
            "projector": config["used"]["projector"] or "shipped",
            "note": f"{len(ids)} images of projected noise stand in the queue. Correct some of them, in the order that "
            "offers projected noise first; then train the whole loop again.",
            "seconds": round(time.monotonic() - began, 1),
        }
    }


def chosen_prompts(studio: Studio, most: int) -> dict[str, Any]:
    """{prompts: at most so many training prompts of which the projector in use has made no image; first_seed: 0}. Where
    it has made one of each, the first of them all, from the first seed on that none of them has had."""
    using = studio.models.using("projector")
    if using.model is None:
        raise ValueError(using.problem)
    rows = studio.store.samples.find(
        method="projected", projector_run=using.run, split="train", limit=1_000_000
    )
    made = Counter(row["prompt"] for row in rows)
    every = studio.prompts.of("train", most + len(made))
    if not every:
        raise ValueError("There is no training prompt: give a larger set (STUDIO_PROMPTS).")
    fresh = [prompt for prompt in every if not made[prompt]][:most]
    if fresh:
        return {"prompts": fresh, "first_seed": 0}
    again = every[:most]
    return {"prompts": again, "first_seed": max(made[prompt] for prompt in again)}
