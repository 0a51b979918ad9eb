"""Training of a small AutoencoderKL, the first stage of a latent diffusion model (Rombach et al. 2022, section 3.1).

Loss: L1 and squared error on pixels (the square teaches colours early) + L1 on the differences of neighbouring pixels
(edges stay sharp without an adversarial or a perceptual network) + a small KL to N(0, I) that keeps the latents smooth.
The scaling factor to unit variance is measured after training, as there.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Unpack

import numpy as np
import torch
import torch.nn.functional as F
from diffusers import AutoencoderKL
from torch import Tensor

from core.loading import autocast
from core.training.loop import Ema, FitResult, Hooks, fit, seed_step, total, warmup_cosine

WEIGHTS = {"l1": 1.0, "l2": 3.0, "edges": 1.0, "kl": 2e-4}  # of the terms of the loss
Examples = Callable[[np.ndarray], np.ndarray]
"""Takes indices (B,) and returns images uint8 (B, S, S, 3)."""


def build(
    latent_channels: int = 4, channels: tuple[int, ...] = (16, 32, 64, 64), size: int = 128
) -> AutoencoderKL:
    """A small AutoencoderKL that shrinks by 2^(len(channels) - 1) on each side."""
    return AutoencoderKL(
        in_channels=3,
        out_channels=3,
        latent_channels=latent_channels,
        block_out_channels=channels,
        down_block_types=("DownEncoderBlock2D",) * len(channels),
        up_block_types=("UpDecoderBlock2D",) * len(channels),
        layers_per_block=1,
        norm_num_groups=8,
        sample_size=size,
        force_upcast=False,
    )


def to_pixels(images: np.ndarray, device: torch.device | str = "cpu") -> Tensor:
    """uint8 (B, S, S, 3) to float (B, 3, S, S) in [-1, 1]."""
    return torch.from_numpy(np.array(images)).to(device).permute(0, 3, 1, 2).float().div_(127.5).sub_(1.0)


def train_vae(
    vae: AutoencoderKL,
    examples: Examples,
    count: int,
    *,
    steps: int = 1500,
    batch: int = 16,
    rate: float = 2e-3,
    crop: int = 64,
    bf16: bool = True,
    **hooks: Unpack[Hooks],
) -> FitResult:
    """Train `vae` on `count` examples in place; it ends with the moving average of its weights.

    rate: peak learning rate of AdamW. crop: side of the random crops that the first 95 % of the steps see (cheaper by
    the ratio of areas); the last 5 % see whole images. bf16: autocast, about twice as fast on recent CPUs and on GPUs.
    """
    device = next(vae.parameters()).device
    vae.to(memory_format=torch.channels_last).train()
    optimiser = torch.optim.AdamW(vae.parameters(), lr=rate, betas=(0.9, 0.98), weight_decay=1e-4)
    average = Ema(vae, 0.995)

    def loss_fn(step: int) -> tuple[Tensor, dict[str, float]]:
        draws = seed_step(0, step)
        images = examples(torch.randint(count, (batch,), generator=draws).numpy())
        if step < 0.95 * steps and crop < images.shape[1]:
            top, left = torch.randint(images.shape[1] - crop + 1, (2,), generator=draws).tolist()
            images = np.ascontiguousarray(images[:, top : top + crop, left : left + crop])
        pixels = to_pixels(images, device).to(memory_format=torch.channels_last)
        with autocast(device, bf16):
            latent = vae.encode(pixels).latent_dist
            decoded = vae.decode(latent.sample()).sample
        # converted for each term: the gradients of the terms are added in the dtype of the computation
        l1, l2 = (decoded.float() - pixels).abs().mean(), F.mse_loss(decoded.float(), pixels)
        error = decoded.float() - pixels
        edges = error.diff(dim=-1).abs().mean() + error.diff(dim=-2).abs().mean()
        kl = 0.5 * (latent.mean.float() ** 2 + latent.var.float() - 1 - latent.logvar.float()).mean()
        terms = {"l1": l1, "l2": l2, "edges": edges, "kl": kl}
        loss = total(WEIGHTS[name] * term for name, term in terms.items())
        return loss, {name: term.item() for name, term in terms.items()}

    result = fit(
        {"vae": vae}, optimiser, loss_fn, steps=steps, save_every=100, ema={"vae": average},
        schedule=warmup_cosine(steps), **hooks,
    )  # fmt: skip
    if not result.stopped:
        average.copy_to(vae)
    vae.eval()
    return result


@torch.no_grad()
def encode_all(vae: AutoencoderKL, examples: Examples, count: int, bf16: bool = False) -> Tensor:
    """The latents (means, unscaled) of all examples: (count, C, H, W), float16 on the CPU."""
    device, latents = next(vae.parameters()).device, []
    for start in range(0, count, 64):
        pixels = to_pixels(examples(np.arange(start, min(count, start + 64))), device)
        with autocast(device, bf16):
            posterior = vae.encode(pixels.to(memory_format=torch.channels_last)).latent_dist
        latents.append(posterior.mean.half().cpu())
    return torch.cat(latents)


def set_scaling(vae: AutoencoderKL, latents: Tensor) -> float:
    """Register the factor that brings `latents` (N, C, H, W) to unit variance, and return it."""
    factor = float(1.0 / latents.float().std())
    vae.register_to_config(scaling_factor=factor)
    return factor
