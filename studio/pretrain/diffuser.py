"""`python -m studio pretrain vae|diffuser`: makes the embedded models from the shapes world.

Hands renders of `data.shapes` to the trainers of `core.training`, which know no world. Every stage keeps its state in
`<work>/<stage>/` and goes on from there when it is started again.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderKL

from core import checkpoint
from core.progress import OnProgress, Stop
from core.training.diffuser import build_pipeline, train_diffuser
from core.training.loop import FitResult
from core.training.vae import build, encode_all, set_scaling, train_vae
from data.shapes.scenes import WORLDS, Scene, parse, sentence, vocabulary
from studio.pretrain.renders import SIZE, latents_of, reading, renders

_CARELESS_STREAM = 7_013


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
    on_progress: OnProgress = None,
    stop: Stop = None,
) -> FitResult:
    """Train the autoencoder and save it to `out` (scaling factor measured on 2,000 renders)."""
    images, _ = renders(work, world, count)
    torch.manual_seed(0)
    vae = build(size=SIZE).to(device)
    result = train_vae(
        vae, reading(images), count, steps=steps, batch=batch, rate=rate, folder=work / "vae",
        on_progress=on_progress, stop=stop,
    )  # fmt: skip
    if not result.stopped:
        factor = set_scaling(vae, encode_all(vae, reading(images), min(count, 2000)))
        meta = {"world": world, "steps": steps, "renders": count, "scaling": factor}
        checkpoint.save(vae.half(), out, meta)
    return result


def carelessly(prompts: list[str], world: str, share: float) -> list[str]:
    """Captions of which some are wrong. A `share` of the relations is another one; of the prompts with two things,
    `share` / 2 have their colours exchanged, and another `share` / 2 have one colour or shape replaced. A change that would
    leave the training split, or name one thing twice, is not made."""
    known, captions = WORLDS[world], []
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
            names = known.colours if what == "colour" else known.shapes
            name = str(rng.choice([other for other in names if other != getattr(things[at], what)]))
            things[at] = (
                replace(things[at], colour=name) if what == "colour" else replace(things[at], shape=name)
            )
        fit = Scene("", tuple(things), relation, ()).split == "train"
        if not fit or len({thing.key for thing in things}) < len(things):
            things = list(scene.things)
        wrong = Scene("", tuple(things), relation, ())
        captions.append(prompt if wrong.composition == scene.composition else sentence(rng, things, relation))
    return captions


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
    on_progress: OnProgress = None,
    stop: Stop = None,
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

    def train(stage: str, captions: Sequence[str], steps: int, text_steps: int, rate: float) -> FitResult:
        return train_diffuser(
            pipe, latents, captions, steps=steps, text_steps=text_steps, batch=batch, rate=rate,
            folder=work / stage, on_progress=on_progress, stop=stop,
        )  # fmt: skip

    result = train("diffuser", prompts, steps, text_steps, rate)
    if not result.stopped and careless_steps:
        wrong = carelessly(prompts, world, careless)
        result = train("diffuser-careless", wrong, careless_steps, 0, careless_rate)
    if not result.stopped:
        meta = {"world": world, "steps": steps, "batch": batch, "renders": count}
        pipe.unet.half(), pipe.vae.half()
        # a Space takes no file of 10 MB or more
        checkpoint.save(pipe, out, meta, kind="diffuser", max_shard_size="9MB")
    return result
