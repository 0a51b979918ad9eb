"""The constraint of L_final: it keeps projected noise near N(0, I) and near its input, and the noises of a prompt apart."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor

from core import ranks
from core.networks.projector import ProjectorOutput
from core.noise import LAGS, neighbour_product


def kl_normal(out: ProjectorOutput) -> Tensor:
    """Mean over latents of KL(N(mean, std^2) || N(0, 1))."""
    return 0.5 * (out.mean**2 + out.std**2 - 1 - out.log_variance).mean()


def constraint_terms(
    projected: Tensor, noise: Tensor, out: ProjectorOutput, fraction: float = 1.0
) -> dict[str, Tensor]:
    """Terms of the constraint on projected noise (B, C, H, W). fraction: the fraction of the batch that these B are.

    kl           KL(N(mean, std^2) || N(0, 1)) of each latent, as in the warm-up, so that std does not shrink to 0
    moments      KL(N(m, s^2) || N(0, 1)) of each item's mean m and variance s^2
    correlation  squared change of the correlation with four neighbours, in units of its standard deviation in white
                 noise of that size, for each channel; and the same for the batch's mean correlation
    distance     1 - cosine with the input
    """
    m, v = projected.mean((1, 2, 3)), projected.var((1, 2, 3), correction=0).clamp_min(1e-8)
    height, width = noise.shape[-2:]
    changes = [
        (_correlation(projected, dy, dx) - _correlation(noise, dy, dx)) * (height * width) ** 0.5
        for dy, dx in LAGS
        if height > dy and width > abs(dx)
    ]
    change = torch.stack(changes) if changes else projected.new_zeros(1, 1, 1)
    each, shared = change.square().mean(), ranks.mean(change.mean(1), fraction).square().mean()
    shared = shared * (change.shape[1] / fraction if fraction else 0.0)
    return {
        "kl": kl_normal(out),
        "moments": 0.5 * (v + m**2 - 1 - v.log()).mean(),
        "correlation": 0.5 * (each + shared),
        "distance": 1 - F.cosine_similarity(projected.flatten(1), noise.flatten(1)).mean(),
    }


def shared_pattern(projected: Tensor, noise: Tensor, repeats: int) -> Tensor:
    """The shift that the noises of a prompt share: the squared mean of projected - noise over `repeats` noises, (B, C, H, W)
    each, in which the noises of a prompt are consecutive. Independent shifts count 1 / repeats of their square."""
    moves = rearrange(projected - noise, "(b k) c h w -> b k c h w", k=repeats)
    return moves.mean(1).square().mean()


def _correlation(x: Tensor, dy: int, dx: int) -> Tensor:
    """(B, C): mean product of every latent with its neighbour dy below and dx to the right."""
    return rearrange(neighbour_product(x, dy, dx), "b c h w -> b c (h w)").mean(-1)
