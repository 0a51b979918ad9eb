"""Initial noise of a published pipeline: drawn from its generator as the studio draws it from a seed, and projected."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from diffusers.utils.torch_utils import randn_tensor
from torch import Tensor

from core.noise import check_strength


def projected_noise(
    projector: Any,
    shape: tuple[int, ...],
    generator: Any,
    text: Callable[[], tuple[Tensor, Tensor]],
    strength: float,
    device: torch.device,
) -> Tensor:
    """Projected noise (B, C, H, W), float32. shape: (B, C, H, W). generator: one, a list of B, or None. text: gives hidden
    states and mask of n prompts, (n, L, D) and (n, L), each for B / n noises.

    Noise and xi are drawn one after the other, also at strength 0, so that a generator goes on with the seed's third
    stream: a sampler that draws noise at every step then draws what it draws in the studio.
    """
    noise, xi = (
        randn_tensor(shape, generator=generator, device=device, dtype=torch.float32) for _ in range(2)
    )
    if check_strength(strength) == 0.0:
        return noise
    if projector is None:
        raise ValueError("No projector is loaded: load it first, or set projection_strength to 0.")
    hidden, mask = (states.repeat_interleave(shape[0] // len(states), 0).to(device) for states in text())
    return projector.to(device).project(noise, hidden, mask, xi, strength)


def prompts_of(prompt: str | list[str] | None, *others: str | list[str] | None) -> list[str]:
    """The prompts of a pipeline's call; ValueError where there is none, or where other text encoders read another one."""
    if prompt is None:
        raise ValueError(
            "The projection reads the text of the prompt, which prompt_embeds do not have: give the prompt, or latents, "
            "or set projection_strength to 0."
        )
    if any(other not in (None, "", prompt) for other in others):
        raise ValueError(
            "The projection reads one prompt, as all text encoders do in its training: leave out prompt_2 and prompt_3, or "
            "set projection_strength to 0."
        )
    return [prompt] if isinstance(prompt, str) else list(prompt)
