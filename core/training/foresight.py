"""Stage 1a: the backbone's first prediction of the clean latents is tuned on stored pictures.

    L_foresight = mean (foresee(noise, text) - picture)^2

over samples whose noise and finished latents are known. What is trained are LoRA layers (Hu et al. 2022) on every
linear and convolutional layer of the denoiser's blocks; the backbone stays as it is. No label is needed.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from core import checkpoint
from core.diffusion import Diffuser
from core.foresight import Foresight
from core.training.data import RewardData
from core.training.loop import FitResult, Progress, fit, seed_step, warmup_cosine
from core.training.lora import (
    KIND,
    Conditions,
    Layers,
    LoraConfig,
    block_layers,
    check_there,
    training_layers,
)
from core.training.reward import rows_of


@dataclass(frozen=True)
class ForesightConfig:
    """Settings of tuning the first prediction."""

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
    config: ForesightConfig | None = None,
    *,
    validation: RewardData | None = None,
    folder: Path | str | None = None,
    on_progress: Callable[[Progress], None] | None = None,
    stop: Callable[[], bool] | None = None,
) -> tuple[FitResult, dict[str, float]]:
    """Tune on the samples of `data` whose picture is at hand; write the adapter to `out`.

    Gives how the loop ended and {before, after}: the share of the variance of the pictures of `validation` (of `data`
    without) that is foreseen. A run that was stopped has none and writes no adapter.
    """
    config = config or ForesightConfig()
    data, held = with_pictures(data), with_pictures(validation if validation is not None else data, 256)
    if not len(data):
        raise ValueError(
            "No sample has its picture at hand: collect samples first, or leave out foresight (foresight_steps=0)."
        )
    check_there(diffuser)
    foresight = Foresight(diffuser)
    texts = {id(one): Conditions.encode(diffuser, one.texts.prompts) for one in (data, held)}

    def loss_fn(step: int) -> tuple[Tensor, dict[str, float]]:
        seed_step(config.seed, step)
        rows = rows_of(step, config.batch, len(data), config.seed)
        found = foresight(data.noises(rows), texts[id(data)], data.item[rows])
        loss = F.mse_loss(found, data.pictures(rows)[0].to(found.device))
        return loss, {"foresee": loss.item()}

    lora = LoraConfig(rank=config.rank, checkpointing=config.checkpointing, seed=config.seed)
    before = foreseen(foresight, held, texts[id(held)], config.batch)
    with training_layers(diffuser, lora, block_layers(diffuser.denoiser)) as layers:
        result = fit(
            {"lora": layers},
            torch.optim.AdamW(layers.parameters(), lr=config.rate, betas=(0.9, 0.99), weight_decay=0.0),
            loss_fn,
            steps=config.steps,
            folder=folder,
            save_every=config.save_every,
            on_progress=on_progress,
            stop=stop,
            schedule=warmup_cosine(config.steps, warmup=min(20, config.steps // 5 + 1), floor=0.02),
            seed=config.seed,
        )
        if result.stopped:
            return result, {}
        after = foreseen(foresight, held, texts[id(held)], config.batch)
        about = {"backbone": diffuser.name, "backbone_revision": diffuser.revision, "rank": config.rank}
        checkpoint.save(Layers(diffuser), out, about, kind=KIND)
    return result, {"before": before, "after": after}


def with_pictures(data: RewardData, most: int | None = None) -> RewardData:
    """The samples whose picture is at hand, the first `most` of them."""
    return data.subset((data.picture_row >= 0).nonzero().flatten()[:most])


@torch.no_grad()
def foreseen(foresight: Foresight, data: RewardData, text: Conditions, batch: int = 32) -> float:
    """What share of the variance of the pictures' latents is foreseen."""
    missed = varied = 0.0
    usual = data.picture_mean()
    for rows in torch.arange(len(data)).split(batch):
        picture = data.pictures(rows)[0]
        missed += (foresight(data.noises(rows), text, data.item[rows]).cpu() - picture).square().sum().item()
        varied += (picture - usual).square().sum().item()
    return 1 - missed / max(varied, 1e-12)
