"""Renders of `data.shapes` for the embedded models, with their prompts and latents, made once and reused."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
from diffusers import AutoencoderKL
from torch import Tensor

from core import checkpoint
from core.training.vae import encode_all
from data.shapes.render import render
from data.shapes.scenes import Scene, sample_scene

SIZE = 128
BLOCK = 500  # renders that one process makes at a time
_SCENE_STREAM = 7_001


def example_scene(index: int, world: str) -> Scene:
    """The scene of training example `index`: a function of (world, index) only."""
    return sample_scene(np.random.default_rng([_SCENE_STREAM, index]), world)


def _render_block(start: int, stop: int, world: str) -> tuple[np.ndarray, list[str]]:
    scenes = [example_scene(i, world) for i in range(start, stop)]
    images = [render(scene, start + k, SIZE).image for k, scene in enumerate(scenes)]
    return np.stack(images), [scene.prompt for scene in scenes]


def renders(work: Path, world: str, count: int) -> tuple[np.ndarray, list[str]]:
    """Make or read `count` renders uint8 (count, 128, 128, 3), memory-mapped, and their prompts."""
    work.mkdir(parents=True, exist_ok=True)
    base = work / f"renders-{world}-train-{count}"
    images_path, prompts_path = base.with_suffix(".npy"), base.with_suffix(".json")
    if not prompts_path.exists():
        partial = base.with_suffix(".tmp.npy")
        images = np.lib.format.open_memmap(partial, mode="w+", dtype=np.uint8, shape=(count, SIZE, SIZE, 3))
        prompts: list[str] = []
        starts = range(0, count, BLOCK)
        stops = [min(count, start + BLOCK) for start in starts]
        with ProcessPoolExecutor(os.cpu_count()) as pool:
            for block, texts in pool.map(_render_block, starts, stops, [world] * len(stops)):
                images[len(prompts) : len(prompts) + len(texts)] = block
                prompts += texts
        images.flush()
        os.replace(partial, images_path)
        prompts_path.write_text(json.dumps(prompts), encoding="utf-8")
    return np.load(images_path, mmap_mode="r"), json.loads(prompts_path.read_text(encoding="utf-8"))


def reading(images: np.ndarray) -> Callable[[np.ndarray], np.ndarray]:
    """A function from indices (B,) to these renders, read in the order of the file."""
    return lambda indices: np.ascontiguousarray(images[np.sort(indices)])


def latents_of(vae: AutoencoderKL, work: Path, world: str, count: int, device: str = "cpu") -> Tensor:
    """Make or read the scaled latents (count, 4, 16, 16) float16 of the training renders, for one state of the VAE."""
    path = work / f"latents-{world}-{count}-{vae.config.scaling_factor:.9f}.pt"
    if not path.exists():
        images, _ = renders(work, world, count)
        latents = encode_all(vae.to(device), reading(images), count, bf16=True)
        checkpoint.save_state({"latents": (latents.float() * vae.config.scaling_factor).half()}, path)
    return checkpoint.load_state(path)["latents"]
