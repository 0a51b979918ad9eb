"""Reading of word scores off a picture's latents: those that the trunk foresees from the noise or, in training, those of
a real picture.

Departure from the paper (arXiv 2510.14526), whose word queries attend to the trunk's maps. The effect of a noise is a few
scores a picture, but shows in every cell of the picture itself: foresight learns from the cells, and reading is learned
where no noise is in the way. NOTES.md has what it brought.

Dimension key: B batch, J words, C H W latents, h w rows and columns of patches, W width.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from core.networks.blocks import Attention, Comparing, FeedForward, Pointing, ResBlock
from core.networks.trunk import unpatch


class Foresight(nn.Module):
    """The trunk's maps, finest first -> the expected latents (B, C, H, W) of the picture."""

    def __init__(self, channels: Sequence[int], latent_channels: int, patch: int) -> None:
        super().__init__()
        self.patch, width = patch, channels[0]
        self.sides = nn.ModuleList(nn.Conv2d(size, width, 1) for size in channels)
        self.block = ResBlock(width, width)
        self.out = nn.Conv2d(width, latent_channels * patch * patch, 1)

    def forward(self, maps: list[Tensor], height: int, width: int) -> Tensor:
        """maps [(B, F_i, h_i, w_i)] -> (B, C, height, width)."""
        x = self.sides[-1](maps[-1])
        for side, level in zip(reversed(self.sides[:-1]), reversed(maps[:-1]), strict=True):
            x = side(level) + F.interpolate(x, level.shape[-2:], mode="nearest")
        return unpatch(self.out(self.block(x)), self.patch, height, width)


class Sight(nn.Module):
    """Latents of a picture -> features of every patch, (B, W, h, w)."""

    def __init__(self, latent_channels: int, channels: int, width: int, patch: int) -> None:
        super().__init__()
        self.patch = patch
        self.first = nn.Conv2d(latent_channels, channels, 3, padding=1)
        self.fine = ResBlock(channels, channels)
        self.down = nn.Conv2d(channels, width, patch, stride=patch)
        self.coarse = nn.ModuleList([ResBlock(width, width), ResBlock(width, width)])

    def forward(self, picture: Tensor) -> Tensor:
        """picture (B, C, H, W), zero-padded below and right to full patches."""
        height, width = picture.shape[-2:]
        x = F.pad(picture, (0, -width % self.patch, 0, -height % self.patch))
        x = self.down(self.fine(self.first(x)))
        for block in self.coarse:
            x = block(x)
        return x


class Reader(nn.Module):
    """Words (B, J, W) point at the patches (B, W, h, w) that show them; relation words compare the places of others."""

    def __init__(self, width: int, heads: int, depth: int, dropout: float) -> None:
        super().__init__()
        self.layers = nn.ModuleList()
        for _ in range(depth):
            attention, pointing = Attention(width, heads, dropout), Pointing(width, heads)
            comparing, perceptron = Comparing(width), FeedForward(width, 3 * width, dropout)
            self.layers.append(nn.ModuleList([attention, pointing, comparing, perceptron]))

    def forward(self, words: Tensor, shown: Tensor, peers: Tensor) -> Tensor:
        """words (B, J, W), shown (B, W, h, w), peers (B, J, J) True where a word attends to another -> (B, J, W)."""
        places, cells = _coordinates(shown), rearrange(shown, "b f h w -> b (h w) f")
        for layer in self.layers:
            attention, pointing, comparing, perceptron = layer.children()
            words, where = pointing(attention(words, mask=peers), cells, places)
            words = perceptron(comparing(words, where, peers))
        return words


def _coordinates(shown: Tensor) -> Tensor:
    """Centres (h w, 2) of the cells of a map (B, W, h, w) over [-1, 1]: x to the right and y down."""
    sides = (torch.arange(n, device=shown.device, dtype=torch.float32) + 0.5 for n in shown.shape[-2:])
    y, x = (centres / len(centres) * 2 - 1 for centres in sides)
    return torch.stack(torch.meshgrid(y, x, indexing="ij"), -1).flip(-1).reshape(-1, 2)
