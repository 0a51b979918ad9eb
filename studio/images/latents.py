"""Latents of the store's images, each encoded once and cached in the home folder."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from core.checkpoint import CheckpointError, load_state, save_state
from studio.images import pictures

if TYPE_CHECKING:
    from studio.studio import Studio

log = logging.getLogger("studio")
PIXELS = 64 * 128 * 128  # of a batch
KEEP_EVERY = 2000  # images between two writes of the cache


def latents_of(
    studio: Studio, rows: Sequence[Mapping[str, Any]], on_part: Callable[[int, int], None] | None = None
) -> dict[str, Tensor]:
    """Latents (C, H, W), float16, of the images of samples of one size, by the samples' ids.

    A sample whose image is gone, was changed, or cannot be encoded is left out, with a line in the log; so is one that
    was imported without its image.
    """
    path, unsaved = file_of(studio), 0
    try:
        cache = load_state(path) if path.exists() else {}
    except CheckpointError as error:
        log.warning("The images are encoded again: %s", error)
        cache = {}
    rows = [row for row in rows if row["image_path"] and row["image_sha256"]]
    missing = list({row["image_sha256"]: row for row in rows if row["image_sha256"] not in cache}.values())
    batch = max(1, PIXELS // (missing[0]["height"] * missing[0]["width"])) if missing else 1
    for at in range(0, len(missing), batch):
        images = {}
        for row in missing[at : at + batch]:
            try:
                path_of_image = studio.settings.home / row["image_path"]
                images[row["image_sha256"]] = pictures.read(path_of_image, row["image_sha256"])
            except ValueError as error:
                log.warning("A sample is trained on without its image: %s", error)
        if images:
            latents = studio.models.diffuser().to_latents(np.stack(list(images.values()))).half().cpu()
            finite = torch.isfinite(latents).flatten(1).all(1).tolist()
            cache |= {name: one.clone() for name, one, ok in zip(images, latents, finite, strict=True) if ok}
            unsaved += sum(finite)
            if not all(finite):
                log.warning("%d images have no finite latents and are left out.", finite.count(False))
        done = min(at + batch, len(missing))
        if unsaved >= KEEP_EVERY or (unsaved and done == len(missing)):
            save_state(cache, path)
            unsaved = 0
        if on_part:
            on_part(done, len(missing))
    return {row["id"]: cache[row["image_sha256"]] for row in rows if row["image_sha256"] in cache}


def file_of(studio: Studio) -> Path:
    """The cache of the backbone in use."""
    name = f"{studio.settings.backbone} {studio.models.diffuser().revision}"
    return studio.settings.home / "latents" / f"{hashlib.sha256(name.encode()).hexdigest()[:16]}.pt"
