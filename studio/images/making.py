"""From a plan to stored samples: noise, projection, denoising, and the writing of files and rows.

A sample is written, file and row, before anyone is shown it. The same sample made again (same prompt, seed, settings
and models, and the same image but for rounding) is the row that is there already, so its scores and corrections stay
with it.
"""

from __future__ import annotations

import hashlib
import logging
import uuid
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from core.diffusion import Diffuser, Text
from core.noise import draw, second
from core.training.loop import Stopped
from core.words import CURRENT, units
from data.store import Store
from studio.images import gpu, pictures
from studio.images.models import Models, Using
from studio.images.prompts import Prompts
from studio.settings import Settings

log = logging.getLogger("studio")

SAME = (
    "prompt", "seed", "method", "strength", "steps", "guidance", "width", "height", "backbone", "backbone_revision",
    "sampler", "projector_run",
)  # fmt: skip


@dataclass(frozen=True)
class Plan:
    """What is made in one batch: B prompts with a seed, method and projector each."""

    prompts: list[str]
    seeds: list[int]
    methods: list[str]
    strength: float
    steps: int
    guidance: float
    height: int | None = None
    width: int | None = None


class Making:
    """Makes images from a plan, and keeps them as samples."""

    def __init__(self, settings: Settings, store: Store, models: Models, prompts: Prompts) -> None:
        self.settings, self.store, self.models, self.prompts = settings, store, models, prompts

    def make(
        self,
        plan: Plan,
        projector: Using,
        on_step: Callable[[int, int, Tensor], None] | None,
        stop: Callable[[], bool],
    ) -> tuple[Tensor, np.ndarray]:
        """noise (B, C, H, W) that the diffuser was given, and images uint8 (B, S, S, 3). Raises Stopped."""
        if not gpu.apart():
            return self._make_here(plan, projector, on_step, stop)
        if stop():
            raise Stopped
        noise, images = self._make_apart(plan, projector.run)
        return torch.from_numpy(noise), images

    @gpu.on_gpu(seconds=120)
    def _make_apart(self, plan: Plan, run: str | None) -> tuple[np.ndarray, np.ndarray]:
        """As `make`, with nothing that cannot be pickled."""
        projector = self.models.using("projector") if run else Using()
        if projector.run != run:
            raise ValueError("Another projector was put into use meanwhile: do this again.")
        noise, images = self._make_here(plan, projector, None, lambda: False)
        return noise.numpy(), images

    def _make_here(
        self,
        plan: Plan,
        projector: Using,
        on_step: Callable[[int, int, Tensor], None] | None,
        stop: Callable[[], bool],
    ) -> tuple[Tensor, np.ndarray]:
        diffuser = self.models.diffuser()
        shape = diffuser.latent_shape(plan.height, plan.width)
        text = encode(diffuser, plan.prompts)
        noise = draw(plan.seeds, shape)
        chosen = [i for i, method in enumerate(plan.methods) if method == "projected"]
        if chosen and plan.strength > 0:
            noise[chosen] = project(projector, noise[chosen], text.take(chosen), [plan.seeds[i] for i in chosen],
                                         plan.strength)  # fmt: skip
        # strength 0 is the very same latents as none: it is made once
        rows = list(range(len(plan.seeds)))
        source = rows
        if chosen and plan.strength == 0 and len(chosen) < len(rows):
            none = {(plan.prompts[i], plan.seeds[i]): i for i in rows if plan.methods[i] == "none"}
            source = [none.get((plan.prompts[i], plan.seeds[i]), i) for i in rows]
        unique = sorted(set(source))
        latents = diffuser.sample(
            text.take(unique),
            noise[unique],
            plan.steps,
            plan.guidance,
            on_step,
            stop,
            [plan.seeds[i] for i in unique],
        )
        images = diffuser.decode(latents)
        return noise, images[[unique.index(i) for i in source]]

    def keep(
        self,
        plan: Plan,
        projector: Using,
        noise: Tensor,
        images: np.ndarray,
        prompt_set: str,
        split: str | None = None,
    ) -> list[str]:
        """Write images and rows, all rows or none; the ids in order, old ones where the same sample was there."""
        group, ids, fresh, images = uuid.uuid4().hex, [], [], self._as_stored(plan, projector, images)
        for i, image in enumerate(images):
            row = self._row(plan, i, projector, image.shape)
            content = pictures.png(image, row)
            hashes = {
                "image_sha256": pictures.sha256(content),
                "noise_sha256": hashlib.sha256(noise[i].contiguous().numpy().tobytes()).hexdigest(),
            }
            old = self.same(row, hashes["image_sha256"], image)
            id = old or uuid.uuid4().hex
            ids.append(id)
            if old:
                continue
            relative = f"images/{id[:2]}/{id}.png"
            pictures.write(self.settings.home / relative, content)
            many = len(plan.seeds) > 1 and "projected" in plan.methods and "none" in plan.methods
            row |= {
                "id": id,
                "image_path": relative,
                "prompt_set": prompt_set,
                "group_id": group if many else None,
            }
            row |= {
                "split": split or self.prompts.split_of(row["prompt"]),
                "n_words": len(units(row["prompt"])),
                "word_rules": CURRENT,
                **hashes,
            }
            fresh.append(row)
        self.store.samples.add(fresh)
        return ids

    def _row(self, plan: Plan, i: int, projector: Using, shape: tuple[int, ...]) -> dict[str, Any]:
        """What it takes to make sample i of a plan again."""
        diffuser, parts = self.models.diffuser(), plan.methods[i].split("+")
        return {
            "prompt": plan.prompts[i],
            "seed": plan.seeds[i],
            "method": plan.methods[i],
            "strength": plan.strength if "projected" in parts else 0.0,
            "steps": plan.steps,
            "guidance": plan.guidance,
            "height": int(shape[0]),
            "width": int(shape[1]),
            "backbone": diffuser.name[-200:],
            "backbone_revision": diffuser.revision,
            "sampler": sampler_of(diffuser),
            "projector_run": projector.run if {"projected", "lora"} & set(parts) else None,
        }

    def same(self, row: Mapping[str, Any], image_sha256: str, image: np.ndarray | None = None) -> str | None:
        """The sample that this one is already: the same bytes, or, where the image is given, all the same but for a
        rounding here and there, as another size of the batch gives."""
        found = self.store.samples.find(
            prompt=row["prompt"], seed=row["seed"], method=row["method"], limit=100
        )
        found = [old for old in found if old["image_path"] and all(old[name] == row[name] for name in SAME)]
        for old in sorted(found, key=lambda old: old["image_sha256"] != image_sha256):
            path = self.settings.home / old["image_path"]
            same = old["image_sha256"] == image_sha256
            if path.is_file() and (same or (image is not None and _nearly(path, old, image))):
                return old["id"]
        return None

    def _as_stored(self, plan: Plan, projector: Using, images: np.ndarray) -> np.ndarray:
        """The images, those at strength 0 with the pixels that none of the same seed has in the store, if it is there: the
        very same image must not differ by what its batch rounded."""
        chosen = [i for i, method in enumerate(plan.methods) if method == "projected"]
        if plan.strength or not chosen:
            return images
        images = images.copy()
        for i, method in enumerate(plan.methods):
            row = self._row(plan, i, projector, images[i].shape)
            old = self.same(row, "", images[i]) if method == "none" else None
            if old:
                kept = self.store.samples.get(old)
                there = pictures.read(self.settings.home / kept["image_path"], kept["image_sha256"])
                twins = [
                    j for j in chosen if (plan.prompts[j], plan.seeds[j]) == (row["prompt"], row["seed"])
                ]
                images[[i, *twins]] = there
        return images


def project(
    projector: Using, noise: Tensor, text: Text, seeds: Sequence[int], strength: float = 1.0
) -> Tensor:
    """Projected noise (B, C, H, W) on the CPU."""
    device = next(projector.model.parameters()).device
    xi = second(seeds, tuple(noise.shape[1:]))
    with torch.no_grad():
        out = projector.model.project(
            noise.to(device), text.hidden.to(device), text.mask.to(device), xi.to(device), strength
        )
    return out.float().cpu()


def noises_of(models: Models, store: Store, rows: Sequence[Mapping[str, Any]]) -> dict[str, Tensor]:
    """The projected noise (C, H, W) of samples, made again by the projector that made them; samples whose projector
    is gone are left out, with a line in the log."""
    groups: dict[tuple[str, float, int, int], list[Mapping[str, Any]]] = defaultdict(list)
    for row in rows:
        groups[row["projector_run"], row["strength"], row["height"], row["width"]].append(row)
    diffuser, found = models.diffuser(), {}
    for (run, strength, height, width), members in groups.items():
        shape = diffuser.latent_shape(height, width)
        try:
            model = None
            if strength > 0:
                model = models.open("projector", models.folder_of(store.runs.get(run)))
        except ValueError as error:
            log.warning("%d samples of projected noise are left out: %s", len(members), error)
            continue
        for at in range(0, len(members), 64):
            part = members[at : at + 64]
            seeds = [row["seed"] for row in part]
            noise = draw(seeds, shape)
            if model is not None:
                text = encode(diffuser, [row["prompt"] for row in part])
                noise = project(Using(model), noise, text, seeds, strength)
            found.update((row["id"], value) for row, value in zip(part, noise, strict=True))
    return found


def _nearly(path: Path, old: dict[str, Any], image: np.ndarray) -> bool:
    """Whether a stored image is this one but for one step of 255 in any value."""
    try:
        there = pictures.read(path, old["image_sha256"])
    except ValueError:
        return False
    return there.shape == image.shape and int(np.abs(there.astype(int) - image).max()) <= 1


def encode(diffuser: Diffuser, prompts: Sequence[str]) -> Text:
    """The text of a batch; a prompt that stands in it several times is read once."""
    distinct = list(dict.fromkeys(prompts))
    return diffuser.encode(distinct).take([distinct.index(prompt) for prompt in prompts])


def sampler_of(diffuser: Diffuser) -> str:
    return type(diffuser.pipe.scheduler).__name__
