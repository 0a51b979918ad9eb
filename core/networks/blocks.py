"""Parts of the trunk and the heads: attention, mixture of experts, residual convolutions, positions.

Dimension key: B batch, N query positions, M keys, W width, h w rows and columns of a feature map, E experts.
The mixture of experts follows ST-MoE (arXiv 2202.08906, equations 1-5: softmax router, top-k, load-balance loss,
router z-loss) without its capacity limit. Departure: every expert is evaluated on every position and the gates of
those that were not picked are zero. With a handful of experts of this size, gathering and scattering positions
costs a CPU more than the products it saves, no position is ever dropped, and a position's output cannot depend on
what else is in the batch.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from einops import einsum, rearrange, repeat
from torch import Tensor, nn


def positions(height: int, width: int, dim: int, like: Tensor) -> Tensor:
    """Fixed 2-D sine-cosine embedding (height * width, dim) on coordinates in [-1, 1], so for any size of map."""
    if dim % 4:
        raise ValueError(f"The embedding's width must be a multiple of 4, got {dim}.")
    rates = torch.pi * 2.0 ** (torch.arange(dim // 4, device=like.device) * 5.0 / max(1, dim // 4 - 1) - 1)
    parts = []
    for count in (height, width):
        centres = (torch.arange(count, device=like.device) + 0.5) / count * 2 - 1
        angles = centres[:, None] * rates
        parts.append(torch.cat([angles.sin(), angles.cos()], dim=1))
    rows = repeat(parts[0], "h d -> (h w) d", w=width)
    columns = repeat(parts[1], "w d -> (h w) d", h=height)
    return torch.cat([rows, columns], dim=1).to(like.dtype)


class Attention(nn.Module):
    """Pre-norm multi-head attention with a residual: queries (B, N, W) over context (B, M, W), or over themselves.

    mask (B, M) or (B, N, M), True where a key may be read; every query needs one key.
    """

    def __init__(self, width: int, heads: int, dropout: float = 0.0) -> None:
        super().__init__()
        if width % heads:
            raise ValueError(f"The width {width} is not a multiple of the {heads} heads.")
        self.heads = heads
        self.norm = nn.LayerNorm(width)
        self.query = nn.Linear(width, width)
        self.key_value = nn.Linear(width, 2 * width)
        self.out = nn.Linear(width, width)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor, context: Tensor | None = None, mask: Tensor | None = None) -> Tensor:
        """x (B, N, W) -> (B, N, W)."""
        inner = self.norm(x)
        q = rearrange(self.query(inner), "b n (k d) -> b k n d", k=self.heads)
        k, v = rearrange(
            self.key_value(inner if context is None else context),
            "b m (two k d) -> two b k m d",
            two=2,
            k=self.heads,
        )
        if mask is not None:
            mask = (
                rearrange(mask, "b m -> b 1 1 m") if mask.dim() == 2 else rearrange(mask, "b n m -> b 1 n m")
            )
        read = F.scaled_dot_product_attention(q, k, v, attn_mask=mask)
        return x + self.dropout(self.out(rearrange(read, "b k n d -> b n (k d)")))


class FeedForward(nn.Module):
    """Pre-norm two-layer perceptron with a residual on (B, N, W)."""

    def __init__(self, width: int, hidden: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.LayerNorm(width),
            nn.Linear(width, hidden),
            nn.GELU(),
            nn.Dropout(dropout),
            nn.Linear(hidden, width),
        )

    def forward(self, x: Tensor) -> Tensor:
        """x (B, N, W) -> (B, N, W)."""
        return x + self.layers(x)


class MixtureOfExperts(nn.Module):
    """Pre-norm mixture of two-layer experts with a residual: a router picks top_k experts for every position."""

    def __init__(self, width: int, hidden: int, experts: int, top_k: int, dropout: float = 0.0) -> None:
        super().__init__()
        if not 1 <= top_k <= experts:
            raise ValueError(f"top_k must be from 1 to the number of experts {experts}, got {top_k}.")
        self.experts, self.top_k = experts, top_k
        self.norm = nn.LayerNorm(width)
        self.router = nn.Linear(width, experts, bias=False)
        self.up = nn.Linear(width, experts * hidden)
        self.down = nn.Parameter(torch.empty(experts, hidden, width))
        self.bias = nn.Parameter(torch.zeros(experts, width))
        self.dropout = nn.Dropout(dropout)
        nn.init.normal_(self.router.weight, std=0.02)
        nn.init.normal_(self.down, std=hidden**-0.5)

    def forward(self, x: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """x (B, N, W) -> (B, N, W) and the losses load_balance (1 when the load is even) and router_z."""
        inner = self.norm(x)
        logits = self.router(inner).float()
        chances = logits.softmax(-1)
        picked = chances.topk(self.top_k, dim=-1).indices
        chosen = F.one_hot(picked, self.experts).sum(-2).to(chances.dtype)
        gates = chances * chosen
        gates = (gates / gates.sum(-1, keepdim=True)).to(x.dtype)
        hidden = rearrange(self.dropout(F.gelu(self.up(inner))), "b n (e h) -> b n e h", e=self.experts)
        gated = rearrange(hidden * gates[..., None], "b n e h -> b n (e h)")
        out = gated @ rearrange(self.down, "e h w -> (e h) w") + einsum(
            gates, self.bias, "b n e, e w -> b n w"
        )
        load, share = chosen.mean((0, 1)) / self.top_k, chances.mean((0, 1))
        losses = {
            "load_balance": self.experts * (load.detach() * share).sum(),
            "router_z": logits.logsumexp(-1).square().mean(),
        }
        return x + self.dropout(out), losses


class ResBlock(nn.Module):
    """GroupNorm, SiLU, 3x3 convolution, twice, with a residual: (B, from, h, w) -> (B, to, h', w').

    stride 2 halves the map (rounding up); what the sentence says scales and shifts the second norm (FiLM).
    """

    def __init__(self, source: int, target: int, context: int, stride: int = 1, dropout: float = 0.0) -> None:
        super().__init__()
        self.first_norm = nn.GroupNorm(_groups(source), source)
        self.first = nn.Conv2d(source, target, 3, stride=stride, padding=1)
        self.film = nn.Linear(context, 2 * target)
        self.second_norm = nn.GroupNorm(_groups(target), target)
        self.second = nn.Conv2d(target, target, 3, padding=1)
        self.dropout = nn.Dropout(dropout)
        plain = source == target and stride == 1
        self.skip = nn.Identity() if plain else nn.Conv2d(source, target, 1, stride=stride)
        nn.init.zeros_(self.film.weight)
        nn.init.zeros_(self.film.bias)

    def forward(self, x: Tensor, context: Tensor) -> Tensor:
        """x (B, from, h, w), context (B, W)."""
        inner = self.first(F.silu(self.first_norm(x)))
        scale, shift = rearrange(self.film(context), "b (two c) -> two b c 1 1", two=2)
        inner = F.silu(self.second_norm(inner) * (1 + scale) + shift)
        return self.skip(x) + self.second(self.dropout(inner))


def _groups(channels: int) -> int:
    return next(groups for groups in (16, 8, 4, 2, 1) if channels % groups == 0)
