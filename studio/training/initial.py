"""What a training run begins with: the model in use, or a new one of its shape."""

from __future__ import annotations

import copy
import logging
from pathlib import Path
from typing import Any

import torch

from core.foresight import Teacher
from studio.images.models import UnfitError, class_of
from studio.training.runs import Job

log = logging.getLogger("studio")


def used_model(job: Job, kind: str) -> Any:
    """The model that was in use when the run was made, or None where there is none that can be used: what the project
    ships is of no use to another backbone. One that cannot be read any more stops only a run that would go on from it."""
    run, folder = _used_folder(job, kind)
    models = job.studio.models
    if run is None and not folder.exists():
        return None
    try:
        model = models.open(kind, folder)
        models.check_fits(model)
    except UnfitError as error:
        if run is not None and job.config.get("start") != "fresh":
            raise
        log.warning("The %s in use is left out of account: %s", kind, error)
        return None
    except ValueError as error:
        if job.config.get("start") != "fresh":
            raise
        log.warning("The %s in use is left out of account: %s", kind, error)
        return None
    return model


def _used_folder(job: Job, kind: str) -> tuple[str | None, Path]:
    """The run of the model that was in use when this one was made (None: what the project ships), and its folder."""
    run = job.config["used"][kind]
    models = job.studio.models
    return run, models.folder_of(job.studio.runs.get(run)) if run else Path(
        getattr(job.studio.settings, kind)
    )


def used_teacher(job: Job) -> Teacher | None:
    """The teacher beside the reward model that was in use when the run was made; None where there is none that can be
    used on this backbone."""
    _, folder = _used_folder(job, "reward")
    try:
        return Teacher.of_reward(folder, job.studio.models.diffuser())
    except ValueError as error:
        log.info("No teacher goes with the reward model in use: %s", error)
        return None


def begin(job: Job, kind: str, used: Any, fresh: bool = False) -> Any:
    """A model to train: the one in use, or a new one of its shape."""
    models, diffuser = job.studio.models, job.studio.models.diffuser()
    if used is not None and not fresh and job.config.get("start") == "used":
        return copy.deepcopy(used).requires_grad_(True).train()
    torch.manual_seed(job.config["seed"])
    if used is not None:
        model = class_of(kind).from_config(used.config)
    else:
        model = class_of(kind)(latent_channels=diffuser.channels, text_width=diffuser.text_width)
    return model.to(models.device).train()
