"""Seeded noise (eps, and xi of the projection) and the drift of a projected noise from it.

Dimension key: B batch, C latent channels, H W latent height and width. A seed's first stream is bit for bit what a
diffusers pipeline draws from `torch.Generator("cpu").manual_seed(seed)`; its second stream is what the same generator
draws next, and the rest is its third. Everything is drawn on the CPU, so a seed gives the same noise on every device.

torch's CPU generator reads only the low 32 bits of a seed: 2^32 + 7 would equal 7. From 2^32 on the same generator (the
Mersenne Twister) is therefore seeded by both halves, as its authors do for longer keys (`init_by_array`).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

Shape = tuple[int, ...]  # (C, H, W)
SEED_LIMIT = 2**63
_KEY = slice(3, 627)  # the twister's 624 words in the state of torch's generator, eight bytes each
LAGS = ((0, 1), (1, 0), (1, 1), (1, -1))  # (down, right) of the neighbours whose correlation is measured
_WHITE_Z = 2.7344  # |z| that the largest of four independent normal deviates exceeds with probability 2.5 %


def check_seed(seed: Any, limit: int = SEED_LIMIT) -> int:
    """Validate a seed: an int from 0 to `limit` - 1, of Python, NumPy or torch or in decimal digits; ValueError otherwise."""
    value = seed.tolist() if hasattr(seed, "tolist") else seed
    if isinstance(value, str):
        digits = value.strip()
        if not (digits.isascii() and digits.isdigit() and len(digits) <= 20):
            raise ValueError(f"The seed {value[:40]!r} is not a whole number: use digits, 0 to {limit - 1}.")
        value = int(digits)
    if isinstance(value, bool) or not hasattr(value, "__index__"):
        raise ValueError(f"The seed {str(seed)[:40]} is not a whole number: use one from 0 to {limit - 1}.")
    number = value.__index__()
    if not 0 <= number < limit:
        shown = number if abs(number) < 10**40 else "of more than 40 digits"
        raise ValueError(f"The seed {shown} is out of range: use one from 0 to {limit - 1}.")
    return number


def check_seeds(seeds: Any) -> list[int]:
    """Validate one seed or several (a sequence, an array, a tensor) by `check_seed`; ValueError for an empty one."""
    values = seeds.tolist() if hasattr(seeds, "tolist") else seeds
    one = isinstance(values, (str, bytes)) or not isinstance(values, Iterable)
    checked = [check_seed(seed) for seed in ([values] if one else values)]
    if not checked:
        raise ValueError("There is no seed: give at least one whole number.")
    return checked


def check_strength(strength: object) -> float:
    """Validate a strength: a float in [0, 1]; ValueError otherwise."""
    number = float(strength) if isinstance(strength, (int, float)) else math.nan
    if not 0.0 <= number <= 1.0:
        raise ValueError(f"The strength {strength!r} is out of range: use a number from 0 (off) to 1 (full).")
    return number


def generators(seeds: Any) -> list[torch.Generator]:
    """A CPU generator for each seed (one or several), at the beginning of its first stream."""
    return [_generator(seed) for seed in check_seeds(seeds)]


def draw(seeds: Sequence[int], shape: Shape) -> Tensor:
    """Draw eps (B, C, H, W), float32 on the CPU, each item from its own seed."""
    return torch.stack([_normal(generator, shape) for generator in _after(0, seeds, shape)])


def second(seeds: Sequence[int], shape: Shape) -> Tensor:
    """Draw xi (B, C, H, W), the second stream of the same seeds, independent of the first."""
    return torch.stack([_normal(generator, shape) for generator in _after(1, seeds, shape)])


def third(seeds: Sequence[int], shape: Shape) -> list[torch.Generator]:
    """A CPU generator for each seed, positioned after two streams of latents (C, H, W): for the noise of a sampler's steps."""
    return _after(2, seeds, shape)


def blend(noise: Tensor, projected: Tensor, strength: float) -> Tensor:
    """Spherical interpolation of each item from noise (strength 0, bit for bit) to projected (strength 1), both (B, C, H, W).

    A straight line would pass through latents of less than unit variance, which the diffuser was never trained on.
    """
    strength = check_strength(strength)
    if noise.shape != projected.shape:
        raise ValueError(
            f"Noise {tuple(noise.shape)} and projected {tuple(projected.shape)} differ in shape."
        )
    if strength == 0.0:
        return noise
    if strength == 1.0:
        return projected
    a, b = (x.flatten(1).cpu().double() for x in (noise, projected))  # MPS has no float64
    norm_a, norm_b = a.norm(dim=1, keepdim=True), b.norm(dim=1, keepdim=True)
    a, b = a / norm_a.clamp_min(1e-12), b / norm_b.clamp_min(1e-12)
    angle = torch.acos((a * b).sum(1, keepdim=True).clamp(-1, 1))
    sine = torch.sin(angle)
    flat = sine < 1e-6  # the two are parallel (or opposite): the straight line is the arc
    left = torch.where(flat, 1 - strength, torch.sin((1 - strength) * angle) / sine.clamp_min(1e-12))
    right = torch.where(flat, strength, torch.sin(strength * angle) / sine.clamp_min(1e-12))
    mixed = (left * a + right * b) * torch.lerp(norm_a, norm_b, strength)
    return mixed.to(noise.dtype).to(noise.device).view_as(noise)


def drift(projected: Tensor, noise: Tensor) -> dict[str, float]:
    """Drift of projected noise from white noise and from its input, both (B, C, H, W).

    mean, std            of all values; 0 and 1 for standard normal noise
    spatial_correlation  the largest |correlation| with one of the four neighbours, over the whole batch
    white_bound          its 97.5 % quantile for white noise of that many values
    kl                   mean over items of KL(N(m, s^2) || N(0, 1)) in nats a value, m and s the item's moments
    cosine, distance     mean cosine with the input, and root-mean-square difference from it
    """
    if projected.shape != noise.shape or noise.dim() != 4:
        raise ValueError(
            f"Projected noise {tuple(projected.shape)} and noise {tuple(noise.shape)} must both be (B, C, H, W)."
        )
    x, y = projected.detach().cpu().double(), noise.detach().cpu().double()
    mean, std = x.mean().item(), x.std(correction=0).item()
    white = (x - mean) / max(std, 1e-12)
    products = [product for dy, dx in LAGS if (product := neighbour_product(white, dy, dx)).numel()]
    fewest = min((product.numel() for product in products), default=0)
    m, v = x.mean((1, 2, 3)), x.var((1, 2, 3), correction=0).clamp_min(1e-12)
    return {
        "mean": mean,
        "std": std,
        "spatial_correlation": max((abs(product.mean().item()) for product in products), default=0.0),
        "white_bound": _WHITE_Z / math.sqrt(fewest) if fewest else 0.0,
        "kl": (0.5 * (v + m**2 - 1 - v.log())).mean().item(),
        "cosine": torch.cosine_similarity(x.flatten(1), y.flatten(1), dim=1).mean().item(),
        "distance": (x - y).square().mean().sqrt().item(),
    }


def neighbour_product(x: Tensor, dy: int, dx: int) -> Tensor:
    """Products of the values of x (..., H, W) with their neighbours dy >= 0 below and dx to the right, where there are any."""
    height, width = x.shape[-2:]
    values = x[..., : max(0, height - dy), max(0, -dx) : max(0, width - max(0, dx))]
    return values * x[..., dy:, max(0, dx) : max(0, width - max(0, -dx))]


def _normal(generator: torch.Generator, shape: Shape) -> Tensor:
    return torch.randn(shape, generator=generator, dtype=torch.float32)


def _after(streams: int, seeds: Sequence[int], shape: Shape) -> list[torch.Generator]:
    """Generators of the seeds after a number of streams of latents."""
    started = generators(seeds)
    for generator in started:
        for _ in range(streams):
            _normal(generator, shape)
    return started


def _generator(seed: int) -> torch.Generator:
    """A CPU generator whose stream no two seeds share; see the module."""
    generator = torch.Generator("cpu").manual_seed(seed)
    if seed >= 2**32:
        state = generator.get_state()
        twister = np.random.RandomState([seed % 2**32, seed >> 32])  # `init_by_array`
        key = twister.get_state(legacy=False)["state"]["key"]
        state.view(torch.int64)[_KEY] = torch.from_numpy(key.astype(np.int64))
        generator.set_state(state)
    return generator
