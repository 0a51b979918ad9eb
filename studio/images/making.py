"""Making images: from a plan by noise, projection and denoising to stored samples.

A sample is written, file and row, before anyone is shown it. The same sample made again (same prompt, seed, settings
and models, and the same image but for rounding) is the row that exists already, so it keeps its scores and corrections.
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
from core.evaluation.base import Method
from core.evaluation.methods import Projected
from core.noise import draw
from core.words import CURRENT, units
from data.store import Store
from studio.images import gpu, pictures
from studio.images.models import Models, Using
from studio.images.options import NONE, SamplingOptions, loras_of
from studio.images.prompts import Prompts
from studio.settings import Settings

log = logging.getLogger("studio")
OnStep = Callable[[int, int, np.ndarray], None]
"""Called with the step, from 1, the total of steps, and small pictures (B, H, W, 3) of the latents."""

SAME = (  # columns that make two samples the same one
    "prompt", "seed", "method", "strength", "steps", "guidance", "width", "height", "backbone", "backbone_revision",
    "sampler", "negative", "weighted", "loras", "projector_run",
)  # fmt: skip


@dataclass(frozen=True)
class Plan:
    """A batch of B images to make: a prompt, seed and method each, with settings that they share. options: with weights in the
    prompt all have one prompt."""

    prompts: list[str]
    seeds: list[int]
    methods: list[str]
    strength: float
    steps: int
    guidance: float
    height: int | None = None
    width: int | None = None
    options: SamplingOptions = NONE


class Making:
    """Sampling from a plan, and storage of the images as samples."""

    def __init__(self, settings: Settings, store: Store, models: Models, prompts: Prompts) -> None:
        self.settings, self.store, self.models, self.prompts = settings, store, models, prompts

    def make(
        self,
        plan: Plan,
        projector: Using,
        on_step: OnStep | None,
        stop: Callable[[], bool],
    ) -> tuple[Tensor, np.ndarray]:
        """Sample a batch: the noise (B, C, H, W) that was denoised, and images uint8 (B, S, S, 3). Raises Stopped."""
        if not gpu.apart():
            return self._make_here(plan, projector, on_step, stop)

        def say(step: tuple[int, int, np.ndarray]) -> None:
            if on_step:
                on_step(*step)

        noise, images = self._make_apart(plan, projector.run, on_step is not None, say=say, stop=stop)
        return torch.from_numpy(noise), images

    def _seconds(self, plan: Plan, *_: Any) -> float:
        """How long a GPU is asked for."""
        diffuser = self.models.diffuser()
        size = (plan.height or diffuser.size[0], plan.width or diffuser.size[1])
        options = plan.options
        return gpu.made_in(diffuser, len(plan.seeds), plan.steps, size, options.scheduler, len(options.loras))

    @gpu.on_gpu(_seconds)
    def _make_apart(
        self, plan: Plan, run: str | None, watched: bool, *, say: gpu.Say, stop: gpu.Asked
    ) -> tuple[np.ndarray, np.ndarray]:
        """`make` in the process that has the GPU: nothing but what can be pickled. watched: whether steps are said."""
        projector = self.models.using("projector") if run else Using()
        if projector.run != run:
            raise ValueError("Another projector was put into use meanwhile: do this again.")
        on_step = (lambda *step: say(step)) if watched else None
        noise, images = self._make_here(plan, projector, on_step, stop)
        return noise.numpy(), images

    def _make_here(
        self,
        plan: Plan,
        projector: Using,
        on_step: OnStep | None,
        stop: Callable[[], bool],
    ) -> tuple[Tensor, np.ndarray]:
        diffuser = self.models.configured(plan.options)
        shape = diffuser.latent_shape(plan.height, plan.width)
        text = encode(diffuser, plan.options.typed(plan.prompts))
        noise = draw(plan.seeds, shape)
        projected = [i for i, method in enumerate(plan.methods) if method == "projected"]
        if projected and plan.strength > 0:
            method, seeds = Projected(projector.model, plan.strength), [plan.seeds[i] for i in projected]
            noise[projected] = method.start(text.take(projected), seeds, shape).noise
        # at strength 0 a projected image has the same latents as the plain one: it is made once
        source = list(range(len(plan.seeds)))
        if projected and plan.strength == 0:
            items = list(zip(plan.prompts, plan.seeds, strict=True))
            plain = {item: i for i, item in enumerate(items) if plan.methods[i] == "none"}
            source = [plain.get(item, i) for i, item in enumerate(items)]
        unique = sorted(set(source))
        seeds = [plan.seeds[i] for i in unique]

        def after(step: int, total: int, latents: Tensor) -> None:
            if on_step:
                on_step(step, total, diffuser.preview(latents))

        latents = diffuser.sample(
            text.take(unique), noise[unique], plan.steps, plan.guidance, after, stop, seeds
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
        """Store images and rows, all rows or none; the ids in order, those of existing samples where they are the same."""
        group = uuid.uuid4().hex if {"none", "projected"} <= set(plan.methods) else None
        ids: list[str] = []
        new: list[dict[str, Any]] = []
        for i, image in enumerate(self._as_stored(plan, projector, images)):
            row = self._row(plan, i, projector, image.shape)
            content = pictures.png(image, {name: row[name] for name in row if row[name] not in ("", "[]")})
            sha256 = pictures.sha256(content)
            if existing := self.same(row, sha256, image):
                ids.append(existing)
                continue
            id = uuid.uuid4().hex
            ids.append(id)
            path = f"images/{id[:2]}/{id}.png"
            pictures.write(self.settings.home / path, content)
            new.append({
                **row,
                "id": id,
                "image_path": path,
                "prompt_set": prompt_set,
                "group_id": group,
                "split": split or self.prompts.split_of(row["prompt"]),
                "n_words": len(units(row["prompt"])),
                "word_rules": CURRENT,
                "image_sha256": sha256,
                "noise_sha256": hashlib.sha256(noise[i].contiguous().numpy().tobytes()).hexdigest(),
            })  # fmt: skip
        self.store.samples.add(new)
        return ids

    def _row(self, plan: Plan, i: int, projector: Using, shape: tuple[int, ...]) -> dict[str, Any]:
        """The columns by which sample i of a plan can be made again."""
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
            **made_with(diffuser, plan.options),
            "projector_run": projector.run if {"projected", "lora"} & set(parts) else None,
        }

    def same(self, row: Mapping[str, Any], image_sha256: str, image: np.ndarray | None = None) -> str | None:
        """The id of the stored sample that equals this one: the same bytes or, where the image is given, the same pixels but
        for the rounding of another batch size."""
        rows = self.store.samples.find(
            prompt=row["prompt"], seed=row["seed"], method=row["method"], limit=1_000_000
        )
        rows = [old for old in rows if old["image_path"] and all(old[name] == row[name] for name in SAME)]
        for old in sorted(rows, key=lambda old: old["image_sha256"] != image_sha256):
            path, same = self.settings.home / old["image_path"], old["image_sha256"] == image_sha256
            if path.is_file() and (same or (image is not None and _nearly(path, old, image))):
                return old["id"]
        return None

    def _as_stored(self, plan: Plan, projector: Using, images: np.ndarray) -> np.ndarray:
        """The images; at strength 0 the pixels of the seed's stored plain image replace theirs, as the same image must not
        differ by the rounding of its batch."""
        if plan.strength or "projected" not in plan.methods:
            return images
        images = images.copy()
        items = list(zip(plan.prompts, plan.seeds, strict=True))
        for i, method in enumerate(plan.methods):
            row = self._row(plan, i, projector, images[i].shape)
            existing = self.same(row, "", images[i]) if method == "none" else None
            if existing:
                stored = self.store.samples.get(existing)
                path = self.settings.home / stored["image_path"]
                twins = [j for j, item in enumerate(items) if item == items[i]]
                images[twins] = pictures.read(path, stored["image_sha256"])
        return images


def noises_of(models: Models, store: Store, rows: Sequence[Mapping[str, Any]]) -> dict[str, Tensor]:
    """The projected noise (C, H, W) of samples, made again by the projector that made them; samples whose projector
    is gone are left out, with a line in the log."""
    groups: dict[tuple[str, float, int, int, str], list[Mapping[str, Any]]] = defaultdict(list)
    for row in rows:
        groups[row["projector_run"], row["strength"], row["height"], row["width"], row["loras"]].append(row)
    noises: dict[str, Tensor] = {}
    for (run, strength, height, width, _), members in groups.items():
        method = Method()
        try:  # the projector read the text as the LoRA files' encoders encode it
            diffuser = models.configured(SamplingOptions(loras=loras_of(members[0])))
            if strength > 0:
                projector = models.open("projector", models.folder_of(store.runs.get(run)))
                method = Projected(projector, strength)
        except ValueError as error:
            log.warning("%d samples of projected noise are left out: %s", len(members), error)
            continue
        for at in range(0, len(members), 64):
            batch = members[at : at + 64]
            text = encode(diffuser, [row["prompt"] for row in batch])
            shape = diffuser.latent_shape(height, width)
            noise = method.start(text, [row["seed"] for row in batch], shape).noise
            noises.update((row["id"], one) for row, one in zip(batch, noise, strict=True))
    return noises


def _nearly(path: Path, row: Mapping[str, Any], image: np.ndarray) -> bool:
    """Whether a stored image differs from this one by 1 of 255 at most in every value."""
    try:
        stored = pictures.read(path, row["image_sha256"])
    except ValueError:
        return False
    return stored.shape == image.shape and int(np.abs(stored.astype(int) - image).max()) <= 1


def encode(diffuser: Any, prompts: Sequence[str]) -> Text:
    """Encoded text of a batch; each distinct prompt is encoded once."""
    distinct = list(dict.fromkeys(prompts))
    return diffuser.encode(distinct).take([distinct.index(prompt) for prompt in prompts])


def sampler_of(diffuser: Diffuser, options: SamplingOptions) -> str:
    """The class name of the scheduler that a backbone is sampled with."""
    return options.scheduler or type(diffuser.scheduler).__name__


def made_with(diffuser: Diffuser, options: SamplingOptions) -> dict[str, str]:
    """The columns of a sample that say which model and options made it."""
    return {
        "backbone": diffuser.name[-200:],
        "backbone_revision": diffuser.revision,
        "sampler": sampler_of(diffuser, options),
        **options.columns(),
    }
