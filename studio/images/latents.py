"""The latents of the store's images, each encoded once and kept in the home folder."""

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
PIXELS = 64 * 128 * 128  # encoded at once
KEEP_EVERY = 2000  # images after which what was encoded is written, lest a stop lose it


def latents_of(
    studio: Studio, rows: Sequence[Mapping[str, Any]], on_part: Callable[[int, int], None] | None = None
) -> dict[str, Tensor]:
    """Latents (C, H, W), float16, of the images of samples of one size, by the samples' ids.

    A sample whose image is gone, was changed, or cannot be encoded is left out, with a line in the log; so is one that
    was imported without its image.
    """
    path, found = file_of(studio), {}
    try:
        known = load_state(path) if path.exists() else {}
    except CheckpointError as error:
        log.warning("The latents of the images are made anew: %s", error)
        known = {}
    rows = [row for row in rows if row["image_path"] and row["image_sha256"]]
    missing = list({row["image_sha256"]: row for row in rows if row["image_sha256"] not in known}.values())
    batch = max(1, PIXELS // (missing[0]["height"] * missing[0]["width"])) if missing else 1
    for at in range(0, len(missing), batch):
        images = {row["image_sha256"]: _image(studio, row) for row in missing[at : at + batch]}
        images = {name: image for name, image in images.items() if image is not None}
        if images:
            latents = studio.models.diffuser().to_latents(np.stack(list(images.values()))).half().cpu()
            good = [bool(torch.isfinite(one).all()) for one in latents]
            found |= {name: one.clone() for name, one, ok in zip(images, latents, good, strict=True) if ok}
            if not all(good):
                log.warning(
                    "%d images have no finite latents; their pictures are left out.", good.count(False)
                )
        if len(found) >= KEEP_EVERY:
            known, found = _keep(path, known, found)
        if on_part:
            on_part(min(at + batch, len(missing)), len(missing))
    if found:
        known, _ = _keep(path, known, found)
    return {row["id"]: known[row["image_sha256"]] for row in rows if row["image_sha256"] in known}


def file_of(studio: Studio) -> Path:
    """Where the latents of the backbone in use are kept."""
    name = f"{studio.settings.backbone} {studio.models.diffuser().revision}"
    return studio.settings.home / "latents" / f"{hashlib.sha256(name.encode()).hexdigest()[:16]}.pt"


def _image(studio: Studio, row: Mapping[str, Any]) -> np.ndarray | None:
    try:
        return pictures.read(studio.settings.home / row["image_path"], row["image_sha256"])
    except ValueError as error:
        log.warning("A sample is learned from without its image: %s", error)
        return None


def _keep(path: Path, known: dict, found: dict) -> tuple[dict, dict]:
    known = {**known, **found}
    save_state(known, path)
    return known, {}
