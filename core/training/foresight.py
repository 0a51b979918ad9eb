"""Stage 1a: fine-tuning of the backbone's first prediction of the clean latents on stored pictures.

    L_foresight = mean (foresee(noise, text) - picture)^2

over samples whose noise and finished latents are known. LoRA layers (Hu et al. 2022) on every linear and convolutional
layer of the denoiser's blocks are trained; the backbone stays as it is. No label is needed. The paper has no such stage.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Unpack

import torch
import torch.nn.functional as F
from torch import Tensor

from core import checkpoint
from core.adapter import KIND, check_loaded, takes_adapters
from core.diffusion import Diffuser, Text
from core.foresight import Foresight
from core.training.data import RewardData
from core.training.loop import FitResult, Hooks, fit, seed_step, warmup_cosine
from core.training.lora import Layers, LoraConfig, block_layers, training_layers
from core.training.reward import rows_of


@dataclass(frozen=True)
class ForesightConfig:
    """Settings of fine-tuning the first prediction."""

    steps: int = 150
    batch: int = 32
    rate: float = 2e-3  # peak learning rate of AdamW
    rank: int = 16  # of the LoRA layers
    checkpointing: bool = False  # keep fewer activations: less memory, a third slower
    save_every: int = 50
    seed: int = 0


def train_foresight(
    diffuser: Diffuser,
    data: RewardData,
    out: Path | str,
    config: ForesightConfig = ForesightConfig(),
    *,
    validation: RewardData | None = None,
    **hooks: Unpack[Hooks],
) -> tuple[FitResult, dict[str, float]]:
    """Stage 1a, on the samples of `data` that have a picture; writes the adapter to `out`.

    Returns how the loop ended and {before, after}: the share of the variance of the pictures of `validation` (of `data`
    without it) that is foreseen. A run that was stopped returns no shares and writes no adapter.
    """
    data, held = with_pictures(data), with_pictures(data if validation is None else validation, 256)
    if not len(data):
        raise ValueError(
            "No sample has its picture at hand: collect samples first, or leave out foresight (foresight_steps=0)."
        )
    check_loaded(diffuser)
    if not takes_adapters(diffuser):
        raise ValueError(
            f"diffusers puts no LoRA on {type(diffuser.denoiser).__name__}, the network of {diffuser.name}: its foresight cannot "
            "be fine-tuned and is used as it is."
        )
    foresight = Foresight(diffuser)
    text, held_text = (diffuser.encode_many(samples.texts.prompts) for samples in (data, held))

    def loss_fn(step: int) -> tuple[Tensor, dict[str, float]]:
        seed_step(config.seed, step)
        rows = rows_of(step, config.batch, len(data), config.seed)
        picture = foresight(data.noises(rows), text, data.item[rows])
        loss = F.mse_loss(picture, data.pictures(rows)[0].to(picture.device))
        return loss, {"foresee": loss.item()}

    lora = LoraConfig(rank=config.rank, checkpointing=config.checkpointing, seed=config.seed)
    before = foreseen(foresight, held, held_text, config.batch)
    with training_layers(diffuser, lora, block_layers(diffuser.denoiser)) as layers:
        result = fit(
            {"lora": layers},
            torch.optim.AdamW(layers.parameters(), lr=config.rate, betas=(0.9, 0.99), weight_decay=0.0),
            loss_fn,
            steps=config.steps,
            save_every=config.save_every,
            schedule=warmup_cosine(config.steps, warmup=min(20, config.steps // 5 + 1), floor=0.02),
            seed=config.seed,
            **hooks,
        )
        if result.stopped:
            return result, {}
        after = foreseen(foresight, held, held_text, config.batch)
        about = {"backbone": diffuser.name, "backbone_revision": diffuser.revision, "rank": config.rank}
        checkpoint.save(Layers(diffuser), out, about, kind=KIND)
    return result, {"before": before, "after": after}


def with_pictures(data: RewardData, most: int | None = None) -> RewardData:
    """Select the samples that have a picture, at most the first `most`."""
    return data.subset((data.picture_row >= 0).nonzero().flatten()[:most])


@torch.no_grad()
def foreseen(foresight: Foresight, data: RewardData, text: Text, batch: int) -> float:
    """Share of the variance of the pictures' latents that is foreseen."""
    error = variance = 0.0
    mean = data.picture_mean()
    for rows in torch.arange(len(data)).split(batch):
        picture = data.pictures(rows)[0]
        error += (foresight(data.noises(rows), text, data.item[rows]).cpu() - picture).square().sum().item()
        variance += (picture - mean).square().sum().item()
    return 1 - error / max(variance, 1e-12)
