"""The trunk: the architecture (not the weights) that reward model and projector share.

Cross-attention of noise positions over the text -> mixture of experts -> UNet encoder, as in the paper (arXiv 2510.14526).
A position is a patch of `patch` x `patch` latents. Departures: positions also attend to each other before each mixture,
since where a thing can be depends on the noise elsewhere; and the encoder's blocks are modulated by the sentence.

Dimension key: B batch, C latent channels, H W latent height and width, h w rows and columns of patches, N = h w,
L tokens, D text width, W width.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from core.networks.blocks import Attention, MixtureOfExperts, ResBlock, TextIn, positions


@dataclass
class TrunkOutput:
    """maps: feature maps [(B, F_i, h_i, w_i)], finest first, the first with one cell a patch. text: the projected hidden
    states (B, L, W). sentence: their masked mean (B, W). losses: router losses by name."""

    maps: list[Tensor]
    text: Tensor
    sentence: Tensor
    losses: dict[str, Tensor]


class TrunkBlock(nn.Module):
    """Self-attention of the positions, cross-attention over the text, mixture of experts; all with residuals."""

    def __init__(self, width: int, heads: int, experts: int, top_k: int, dropout: float) -> None:
        super().__init__()
        self.inner = Attention(width, heads, dropout)
        self.cross = Attention(width, heads, dropout)
        self.mixture = MixtureOfExperts(width, 2 * width, experts, top_k, dropout)

    def forward(self, x: Tensor, text: Tensor, mask: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """x (B, N, W), text (B, L, W), mask (B, L) -> (B, N, W) and router losses."""
        return self.mixture(self.cross(self.inner(x), text, mask))


class Trunk(nn.Module):
    """noise (B, C, H, W) and text (B, L, D) -> feature maps in which every cell has attended to the prompt."""

    def __init__(
        self,
        latent_channels: int,
        text_width: int,
        width: int,
        patch: int,
        heads: int,
        depth: int,
        experts: int,
        top_k: int,
        channels: Sequence[int],
        dropout: float,
    ) -> None:
        super().__init__()
        self.patch = patch
        self.text_in = nn.Sequential(TextIn(text_width, width), nn.LayerNorm(width))
        self.noise_in = nn.Linear(latent_channels * patch * patch, width)
        self.blocks = nn.ModuleList(TrunkBlock(width, heads, experts, top_k, dropout) for _ in range(depth))
        self.encoder = nn.ModuleList(
            ResBlock(source, target, width, stride=2 if level else 1, dropout=dropout)
            for level, (source, target) in enumerate(pairwise([width, *channels]))
        )

    def forward(self, noise: Tensor, text: Tensor, mask: Tensor) -> TrunkOutput:
        """noise (B, C, H, W), text (B, L, D), mask (B, L) True on tokens of the prompt."""
        text, keep = self.text_in(text), rearrange(mask, "b l -> b l 1").to(text.dtype)
        sentence = (text * keep).sum(1) / keep.sum(1).clamp_min(1)
        x = self.noise_in(patches(noise, self.patch))
        h, w = (-(-size // self.patch) for size in noise.shape[-2:])
        x = x + positions(h, w, x.shape[-1], x)
        losses: list[dict[str, Tensor]] = []
        for block in self.blocks:
            x, router = block(x, text, mask)
            losses.append(router)
        x, maps = rearrange(x, "b (h w) f -> b f h w", h=h), []
        for block in self.encoder:
            x = block(x, sentence)
            maps.append(x)
        means = {name: torch.stack([router[name] for router in losses]).mean() for name in losses[0]}
        return TrunkOutput(maps, text, sentence, means)


def patches(noise: Tensor, patch: int) -> Tensor:
    """noise (B, C, H, W) -> (B, h w, C patch patch), zeros added below and right where a patch is not full."""
    height, width = noise.shape[-2:]
    padded = F.pad(noise, (0, -width % patch, 0, -height % patch))
    return rearrange(padded, "b c (h p) (w q) -> b (h w) (c p q)", p=patch, q=patch)


def unpatch(x: Tensor, patch: int, height: int, width: int) -> Tensor:
    """(B, C patch patch, h, w) -> (B, C, H, W): the inverse of `patches`, cropped to height and width."""
    full = rearrange(x, "b (c p q) h w -> b c (h p) (w q)", p=patch, q=patch)
    return full[..., :height, :width]


def trim(text: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    """text (B, L, D) and mask (B, L) cut after the last token that any item uses: windows are mostly padding."""
    used = mask.bool().any(0).nonzero()
    length = int(used[-1]) + 1 if len(used) else 1
    mask = mask[:, :length].bool()
    first = mask[:, :1] | ~mask.any(1, keepdim=True)  # a position needs one token to attend to
    return text[:, :length], torch.cat([first, mask[:, 1:]], dim=1)


def check_inputs(noise: Tensor, text: Tensor, mask: Tensor, channels: int, width: int) -> None:
    """ValueError with the sizes where noise (B, C, H, W), text (B, L, D) or mask (B, L) does not fit the model."""
    if noise.dim() != 4 or noise.shape[1] != channels:
        raise ValueError(
            f"This model reads noise of {channels} channels as (B, {channels}, H, W), got {tuple(noise.shape)}: "
            "use the backbone it was trained for, or train one for this backbone."
        )
    if text.dim() != 3 or text.shape[2] != width:
        raise ValueError(
            f"This model reads text of width {width} as (B, L, {width}), got {tuple(text.shape)}: "
            "use the backbone it was trained for, or train one for this backbone."
        )
    if text.shape[0] != noise.shape[0] or mask.shape != text.shape[:2]:
        raise ValueError(
            f"Noise {tuple(noise.shape)}, text {tuple(text.shape)} and mask {tuple(mask.shape)} must agree: "
            "give each item of the batch its own prompt."
        )
