"""Tiny random models in the shipped formats, made once a test session: the same code loads them as loads the real ones.

`models(folder)` makes them; `studio_at(home, models)` is a Studio on them with a home of its own.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import torch
from diffusers import DDIMScheduler, StableDiffusionPipeline, UNet2DConditionModel

from core import checkpoint
from core.networks.projector import NoiseProjector
from core.networks.reward import RewardModel
from core.training.diffuser import build_pipeline
from core.training.scorer import ScorerConfig, make_scorer, save_scorer
from core.training.vae import build
from data.shapes.scenes import vocabulary
from studio.settings import Settings

SIZE = 64  # pixels a side: latents 8 x 8
STEPS = 2  # sampling steps that tests take
SMALL: dict[str, Any] = {
    "width": 16, "heads": 2, "depth": 1, "experts": 2, "top_k": 1, "channels": (16, 32),
}  # fmt: skip


def models(folder: Path) -> Path:
    """Write diffuser, scorer, projector and reward below `folder`, each random from a fixed seed."""
    torch.manual_seed(0)
    pipe = build_pipeline(
        vocabulary("small"), channels=(16, 32), text_width=32, text_layers=1, latent_size=SIZE // 8
    )
    pipe.save_pretrained(folder / "diffuser")
    scorer = make_scorer(
        vocabulary("small"),
        ScorerConfig(
            image=SIZE, patch=8, vision_width=32, vision_depth=1, width=32, depth=1, heads=2, feed=64
        ),
    )
    save_scorer(scorer, folder / "scorer")
    shape = {"latent_channels": 4, "text_width": int(pipe.unet.config.cross_attention_dim)}
    torch.manual_seed(1)
    projector = NoiseProjector(**shape, **SMALL)
    with torch.no_grad():  # a fresh one changes almost nothing; this one does
        projector.out.weight.normal_(std=0.2)
    checkpoint.save(projector, folder / "projector")
    checkpoint.save(RewardModel(**shape, **SMALL, head_width=16, head_depth=1), folder / "reward")
    return folder


def stable_diffusion(words: list[str], latent_size: int = 4) -> Any:
    """A random pipeline of the first Stable Diffusion's classes: one text encoder, no added conditions."""
    parts = xl(words, latent_size)
    unet = UNet2DConditionModel(
        sample_size=latent_size, block_out_channels=(16, 32), layers_per_block=1, cross_attention_dim=32,
        down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"), attention_head_dim=1, norm_num_groups=16,
    )  # fmt: skip
    scheduler = DDIMScheduler(
        beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", clip_sample=False,
        set_alpha_to_one=False, steps_offset=1,
    )  # fmt: skip
    return StableDiffusionPipeline(
        parts.vae, parts.text_encoder, parts.tokenizer, unet, scheduler, safety_checker=None, feature_extractor=None,
        requires_safety_checker=False,
    )  # fmt: skip


def xl(words: list[str], latent_size: int = 4) -> Any:
    """A random pipeline of SDXL's classes, as small as can be."""
    return build_pipeline(
        words, channels=(16, 32), text_width=32, text_layers=1, latent_size=latent_size, vae=small_vae()
    )


def small_vae() -> Any:
    """An autoencoder of 8 pixels a latent position."""
    return build(channels=(16, 16, 16, 16), size=32)


def settings_at(home: Path, folder: Path) -> Settings:
    """Settings for a studio whose models lie in `folder`."""
    return dataclasses.replace(
        Settings(),
        home=home,
        backbone=str(folder / "diffuser"),
        scorer=str(folder / "scorer"),
        projector=folder / "projector",
        reward=folder / "reward",
        labels=folder / "labels",
        device="cpu",
        batch=4,
    )


def studio_at(home: Path, folder: Path) -> Any:
    """A Studio on these models with an empty home."""
    from studio.service import Studio

    return Studio(settings_at(home, folder))
