"""The reward model R_phi (DESIGN section 2): how well each word of a prompt will show, from the noise alone.

Word queries, made of u_j and the sentence, attend over each other, over the trunk's feature maps and over the text;
a perceptron and a 10-way classifier give logits over the scores 0..9. No image is made.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from diffusers import ConfigMixin, ModelMixin
from diffusers.configuration_utils import register_to_config
from einops import einsum, rearrange
from torch import Tensor, nn

from core.networks.blocks import Attention, FeedForward, positions
from core.networks.trunk import Trunk, check_inputs, trim

SCORES = 10


@dataclass
class RewardOutput:
    """logits (B, J, 10) over the scores 0..9 of every word; losses by name: load_balance, router_z."""

    logits: Tensor
    losses: dict[str, Tensor]


class RewardModel(ModelMixin, ConfigMixin):
    """noise (B, C, H, W) and text (B, L, D) -> logits (B, J, 10)."""

    @register_to_config
    def __init__(
        self,
        latent_channels: int = 4,  # C of the backbone
        text_width: int = 128,  # D of the backbone's text encoder(s), concatenated
        width: int = 64,  # W: positions and text inside the trunk
        patch: int = 2,  # latents a side of one noise position
        heads: int = 4,
        depth: int = 2,  # trunk blocks: self-attention, cross-attention, mixture of experts
        experts: int = 4,
        top_k: int = 2,  # experts picked for a position
        channels: Sequence[int] = (
            64,
            128,
            192,
        ),  # of the encoder's levels; each after the first halves the map
        head_width: int = 96,
        head_depth: int = 2,
        dropout: float = 0.1,
    ) -> None:
        super().__init__()
        self.trunk = Trunk(
            latent_channels, text_width, width, patch, heads, depth, experts, top_k, tuple(channels), dropout
        )
        self.from_maps = nn.ModuleList(nn.Linear(size, head_width) for size in channels)
        self.levels = nn.Parameter(torch.randn(len(channels) + 1, head_width) * 0.02)
        self.memory_norm = nn.LayerNorm(head_width)
        self.from_text = nn.Linear(width, head_width)
        self.word_in = nn.Sequential(nn.LayerNorm(text_width), nn.Linear(text_width, head_width))
        self.sentence_in = nn.Linear(width, head_width)
        self.head = nn.ModuleList(
            nn.ModuleList(
                [
                    Attention(head_width, heads, dropout),
                    Attention(head_width, heads, dropout),
                    FeedForward(head_width, 2 * head_width, dropout),
                ]
            )
            for _ in range(head_depth)
        )
        self.classify = nn.Sequential(
            nn.LayerNorm(head_width), nn.Linear(head_width, head_width), nn.GELU(), nn.Dropout(dropout),
            nn.Linear(head_width, SCORES),
        )  # fmt: skip

    def forward(self, noise: Tensor, text: Tensor, mask: Tensor, words: Tensor) -> RewardOutput:
        """noise (B, C, H, W), text (B, L, D), mask (B, L), words (B, J, L) averaging weights -> logits (B, J, 10).

        A word whose weights are zero (padding, or past the window) gets logits too; they mean nothing.
        """
        check_inputs(noise, text, mask, self.config.latent_channels, self.config.text_width)
        if words.dim() != 3 or words.shape[0] != noise.shape[0] or words.shape[2] != text.shape[1]:
            raise ValueError(
                f"Word weights {tuple(words.shape)} must be (B, J, L) for noise {tuple(noise.shape)} and "
                f"text {tuple(text.shape)}."
            )
        text, mask = trim(text.to(self.dtype), mask)
        noise, words = noise.to(self.dtype), words[..., : text.shape[1]].to(self.dtype)
        trunk = self.trunk(noise, text, mask)
        memory, open_keys = self._memory(trunk.maps, trunk.text, mask)
        query = self.word_in(einsum(words, text, "b j l, b l d -> b j d"))
        query = query + rearrange(self.sentence_in(trunk.sentence), "b f -> b 1 f")
        peers = self._peers(words)
        for among, over, perceptron in self.head:
            query = perceptron(over(among(query, mask=peers), memory, open_keys))
        return RewardOutput(self.classify(query).float(), trunk.losses)

    @staticmethod
    def expected(logits: Tensor) -> Tensor:
        """r_j = sum_k k p_k / 9: logits (..., 10) -> expected score (...) in [0, 1]."""
        scores = torch.arange(SCORES, device=logits.device, dtype=logits.dtype)
        return (logits.softmax(-1) * scores).sum(-1) / (SCORES - 1)

    def _memory(self, maps: list[Tensor], text: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """What the words may read (B, M, head width): every cell of every map, and the text; and which is open."""
        parts = [self.from_text(text) + self.levels[-1]]
        for linear, level, cells in zip(self.from_maps, self.levels, maps, strict=False):
            here = linear(rearrange(cells, "b f h w -> b (h w) f")) + level
            parts.append(here + positions(cells.shape[-2], cells.shape[-1], here.shape[-1], here))
        memory = self.memory_norm(torch.cat(parts, dim=1))
        cells = memory.shape[1] - mask.shape[1]
        return memory, torch.cat([mask, mask.new_ones(mask.shape[0], cells)], dim=1)

    @staticmethod
    def _peers(words: Tensor) -> Tensor:
        """(B, J, J): a word reads the words that have tokens, and always itself."""
        present = words.abs().sum(-1) > 0
        own = torch.eye(words.shape[1], dtype=torch.bool, device=words.device)
        return rearrange(present, "b j -> b 1 j") | own
