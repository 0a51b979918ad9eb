"""`python -m studio pretrain vae|diffuser`: makes the embedded models from the shapes world.

Hands renders of `data.shapes` to the trainers of `core.training`, which know no world. Every stage keeps its state in
`<work>/<stage>/` and goes on from there when it is started again; renders and latents are made once and reused.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderKL
from torch import Tensor

from core import checkpoint
from core.training.diffuser import build_pipeline, train_diffuser
from core.training.loop import FitResult, Progress
from core.training.vae import build, encode_all, set_scaling, train_vae
from data.shapes.render import render
from data.shapes.scenes import WORLDS, Scene, parse, sample_scene, sentence, vocabulary

SIZE = 128
_SCENE_STREAM = 7_001
_CARELESS_STREAM = 7_013


def example_scene(index: int, world: str, split: str = "train") -> Scene:
    """The scene of training example `index`: a function of (world, split, index) only."""
    return sample_scene(np.random.default_rng([_SCENE_STREAM, index]), world, split)


def _render_block(job: tuple[int, int, str, str]) -> tuple[np.ndarray, list[str]]:
    start, stop, world, split = job
    scenes = [example_scene(i, world, split) for i in range(start, stop)]
    images = np.stack([render(scene, start + k, SIZE).image for k, scene in enumerate(scenes)])
    return images, [scene.prompt for scene in scenes]


def renders(
    work: Path,
    world: str,
    count: int,
    split: str = "train",
    on_part: Callable[[int, int], None] | None = None,
) -> tuple[np.ndarray, list[str]]:
    """`count` renders uint8 (count, 128, 128, 3), memory-mapped, and their prompts; made once, then read."""
    work.mkdir(parents=True, exist_ok=True)
    base = work / f"renders-{world}-{split}-{count}"
    images_path, prompts_path = base.with_suffix(".npy"), base.with_suffix(".json")
    if not prompts_path.exists():
        partial = base.with_suffix(".tmp.npy")
        images = np.lib.format.open_memmap(partial, mode="w+", dtype=np.uint8, shape=(count, SIZE, SIZE, 3))
        prompts: list[str] = []
        block = 500
        jobs = [(s, min(count, s + block), world, split) for s in range(0, count, block)]
        with ProcessPoolExecutor(os.cpu_count()) as pool:
            for job, (part, texts) in zip(jobs, pool.map(_render_block, jobs), strict=True):
                images[job[0] : job[1]] = part
                prompts += texts
                if on_part:
                    on_part(job[1], count)
        images.flush()
        os.replace(partial, images_path)
        prompts_path.write_text(json.dumps(prompts), encoding="utf-8")
    return np.load(images_path, mmap_mode="r"), json.loads(prompts_path.read_text(encoding="utf-8"))


def pretrain_vae(
    out: Path,
    work: Path,
    *,
    world: str = "small",
    count: int = 40_000,
    steps: int = 1500,
    batch: int = 16,
    rate: float = 2e-3,
    device: str = "cpu",
    on_progress: Callable[[Progress], None] | None = None,
    stop: Callable[[], bool] | None = None,
) -> FitResult:
    """Train the autoencoder and save it to `out` (scaling factor measured on 2,000 renders)."""
    images, _ = renders(work, world, count)
    torch.manual_seed(0)
    vae = build(size=SIZE).to(device)
    result = train_vae(
        vae,
        lambda indices: np.ascontiguousarray(images[np.sort(indices)]),
        count,
        steps=steps,
        batch=batch,
        rate=rate,
        folder=work / "vae",
        on_progress=on_progress,
        stop=stop,
    )
    if not result.stopped:
        some = encode_all(vae, lambda indices: np.ascontiguousarray(images[indices]), min(count, 2000))
        factor = set_scaling(vae, some)
        checkpoint.save(
            vae.half(), out, {"world": world, "steps": steps, "renders": count, "scaling": factor}
        )
    return result


def latents_of(vae: AutoencoderKL, work: Path, world: str, count: int, device: str = "cpu") -> Tensor:
    """Scaled latents (count, 4, 16, 16) float16 of the training renders; made once for one state of the VAE."""
    path = work / f"latents-{world}-{count}-{vae.config.scaling_factor:.9f}.pt"
    if not path.exists():
        images, _ = renders(work, world, count)
        latents = encode_all(
            vae.to(device), lambda rows: np.ascontiguousarray(images[rows]), count, bf16=True
        )
        checkpoint.save_state({"latents": (latents.float() * vae.config.scaling_factor).half()}, path)
    return checkpoint.load_state(path)["latents"]


def carelessly(prompts: list[str], world: str, share: float) -> list[str]:
    """The prompts, some of them wrong. A `share` of the relations is another one; of the prompts with two things,
    `share` / 2 have their colours exchanged, and another `share` / 2 have one colour or shape replaced. What would leave
    the training split, or name one thing twice, is left as it was."""
    known, found = WORLDS[world], []
    for i, prompt in enumerate(prompts):
        rng, scene = np.random.default_rng([_CARELESS_STREAM, i]), parse(prompt, world)
        things, relation = list(scene.things), scene.relation
        if relation and rng.random() < share:
            relation = str(rng.choice([other for other in known.relations if other != relation]))
        kind = rng.random()
        if len(things) == 2 and kind < share / 2:
            a, b = things
            things = [replace(a, colour=b.colour), replace(b, colour=a.colour)]
        elif len(things) == 2 and kind < share:
            at, what = int(rng.integers(2)), str(rng.choice(["colour", "shape"]))
            others = known.colours if what == "colour" else known.shapes
            others = [other for other in others if other != getattr(things[at], what)]
            things[at] = replace(things[at], **{what: str(rng.choice(others))})
        fit = Scene("", tuple(things), relation, ()).split == "train"
        if not fit or len({thing.key for thing in things}) < len(things):
            things = list(scene.things)
        said = Scene("", tuple(things), relation, ())
        found.append(prompt if said.composition == scene.composition else sentence(rng, things, relation))
    return found


def pretrain_diffuser(
    out: Path,
    work: Path,
    vae_folder: Path,
    *,
    world: str = "small",
    count: int = 24_000,
    steps: int = 4200,
    text_steps: int = 600,
    batch: int = 32,
    rate: float = 8e-4,
    careless: float = 0.4,
    careless_steps: int = 1500,
    careless_rate: float = 3e-4,
    device: str = "cpu",
    on_progress: Callable[[Progress], None] | None = None,
    stop: Callable[[], bool] | None = None,
) -> FitResult:
    """Train UNet and text encoders on the latents of the renders; save the whole pipeline to `out`: UNet and autoencoder in
    float16, the text encoders in float32. Without a dtype diffusers loads those two in float32, whatever they are stored in,
    and transformers loads a text encoder as it is stored: they must come to the same.

    careless: the share of captions with a relation that name a wrong one in the last `careless_steps`, and of those with
    two things that bind a colour wrongly or name what is not there, as captions of the web do. Without them what the
    prompt asks for appears whatever the noise is, except for details; no model that people use is like that.
    """
    checkpoint.verify(vae_folder)
    vae = AutoencoderKL.from_pretrained(vae_folder)
    latents = latents_of(vae, work, world, count, device)
    _, prompts = renders(work, world, count)
    torch.manual_seed(0)
    pipe = build_pipeline(vocabulary(world), vae=vae).to(device)
    result = train_diffuser(
        pipe,
        latents,
        prompts,
        steps=steps,
        text_steps=text_steps,
        batch=batch,
        rate=rate,
        folder=work / "diffuser",
        on_progress=on_progress,
        stop=stop,
    )
    if not result.stopped and careless_steps:
        result = train_diffuser(
            pipe,
            latents,
            carelessly(prompts, world, careless),
            steps=careless_steps,
            text_steps=0,
            batch=batch,
            rate=careless_rate,
            folder=work / "diffuser-careless",
            on_progress=on_progress,
            stop=stop,
        )
    if not result.stopped:
        meta = {"world": world, "steps": steps, "batch": batch, "renders": count}
        # a Space takes no file of 10 MB or more
        pipe.unet.half(), pipe.vae.half()
        checkpoint.save(pipe, out, meta, kind="diffuser", max_shard_size="9MB")
    return result
