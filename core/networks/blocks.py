"""Building blocks of the networks: attention, mixture of experts, residual convolutions, positions; and `evaluating`.

Dimension key: B batch, N query positions, M keys, W width, h w rows and columns of a feature map, E experts.

The mixture of experts follows ST-MoE (arXiv 2202.08906, equations 1-5: softmax router, top-k, load-balance loss, router
z-loss) without its capacity limit. Departure: every expert is evaluated on every position, with gates of zero for those
that were not picked. With a few experts of this size, gathering and scattering positions costs a CPU more than the
products it saves, no position is ever dropped, and a position's output cannot depend on the rest of the batch.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager

import torch
import torch.nn.functional as F
from einops import einsum, rearrange, repeat
from torch import Tensor, nn


def positions(height: int, width: int, dim: int, like: Tensor) -> Tensor:
    """Fixed 2-D sine-cosine embedding (height * width, dim) of coordinates in [-1, 1], for maps of any size."""
    if dim % 4:
        raise ValueError(f"The embedding's width must be a multiple of 4, got {dim}.")
    rates = torch.pi * 2.0 ** (torch.arange(dim // 4, device=like.device) * 5.0 / max(1, dim // 4 - 1) - 1)
    centres = ((torch.arange(n, device=like.device) + 0.5) / n * 2 - 1 for n in (height, width))
    rows, columns = (_waves(x, rates) for x in centres)
    rows = repeat(rows, "h d -> (h w) d", w=width)
    columns = repeat(columns, "w d -> (h w) d", h=height)
    return torch.cat([rows, columns], dim=1).to(like.dtype)


def ordinals(count: int, dim: int, like: Tensor) -> Tensor:
    """Fixed sine-cosine embedding (count, dim) of the numbers 0, 1, ...: that of a word does not depend on how many follow."""
    rates = 100.0 ** (-torch.arange(dim // 2, device=like.device) / (dim // 2))
    return _waves(torch.arange(count, device=like.device), rates).to(like.dtype)


def _waves(x: Tensor, rates: Tensor) -> Tensor:
    """Sines and cosines (N, 2 R) of x (N,) at rates (R,)."""
    angles = x[:, None] * rates
    return torch.cat([angles.sin(), angles.cos()], dim=1)


class TextIn(nn.Module):
    """Hidden states of a text encoder (B, L, D) -> (B, L, W), from each state and its difference from the one before.

    The states of a causal encoder contain the words before, and a word that its diffuser does not use changes them
    little: in the embedded one the states of "above" and "below" have a cosine of .99 with each other and with the noun
    before them. The difference alone, normalised by itself, tells them apart.
    """

    def __init__(self, text_width: int, width: int) -> None:
        super().__init__()
        self.state_norm, self.change_norm = nn.LayerNorm(text_width), nn.LayerNorm(text_width)
        self.out = nn.Linear(2 * text_width, width)

    def forward(self, text: Tensor) -> Tensor:
        """text (B, L, D)."""
        change = text - F.pad(text, (0, 0, 1, 0))[:, :-1]
        return self.out(torch.cat([self.state_norm(text), self.change_norm(change)], dim=-1))


def relative(count: int, reach: int, device: torch.device) -> Tensor:
    """Relative positions (count, count): column minus row, clipped to [-reach, reach], as an index from 0 to 2 reach."""
    index = torch.arange(count, device=device)
    return (index[None, :] - index[:, None]).clamp(-reach, reach) + reach


class Attention(nn.Module):
    """Pre-norm multi-head attention with a residual: queries (B, N, W) over context (B, M, W), or self-attention.

    mask (B, M) or (B, N, M), True where a key may be attended to; every query needs one key.
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
        pairs = self.key_value(inner if context is None else context)
        k, v = rearrange(pairs, "b m (two k d) -> two b k m d", two=2, k=self.heads)
        if mask is not None:
            mask = rearrange(mask, "b m -> b 1 1 m" if mask.dim() == 2 else "b n m -> b 1 n m")
        out = F.scaled_dot_product_attention(q, k, v, attn_mask=mask)
        return x + self.dropout(self.out(rearrange(out, "b k n d -> b n (k d)")))


class Pointing(nn.Module):
    """Pre-norm pointing attention with a residual: queries (B, N, W) over the cells of a map (B, M, W).

    Queries and keys are compared by their cosine times a learned sharpness, so that a query can select a single cell from
    the first step on. Beside the values, the output has the log-mean-exp of the similarities (how well the query was
    matched) and the mean coordinates of the cells it points at, which are returned too, averaged over the heads.
    """

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        if width % heads:
            raise ValueError(f"The width {width} is not a multiple of the {heads} heads.")
        self.heads = heads
        self.query_norm, self.cell_norm = nn.LayerNorm(width), nn.LayerNorm(width)
        self.query, self.key, self.value = (nn.Linear(width, width) for _ in range(3))
        self.sharpness = nn.Parameter(torch.full((heads, 1, 1), 6.0))
        self.out = nn.Linear(width + 3 * heads, width)

    def forward(self, x: Tensor, cells: Tensor, places: Tensor) -> tuple[Tensor, Tensor]:
        """x (B, N, W), cells (B, M, W), places (M, 2) coordinates of the cells -> (B, N, W) and (B, N, 2)."""
        inner, cells = self.query_norm(x), self.cell_norm(cells)
        projections = (self.query(inner), self.key(cells), self.value(cells))
        q, k, v = (rearrange(projection, "b n (k d) -> b k n d", k=self.heads) for projection in projections)
        similarity = einsum(F.normalize(q, dim=-1), F.normalize(k, dim=-1), "b k n d, b k m d -> b k n m")
        similarity = (similarity * self.sharpness).float()
        share = similarity.softmax(-1).to(v.dtype)
        match = (similarity.logsumexp(-1, keepdim=True) - math.log(similarity.shape[-1])).to(v.dtype)
        where = share @ places.to(v.dtype)
        out = torch.cat([share @ v, where, match], dim=-1)
        return x + self.out(rearrange(out, "b k n d -> b n (k d)")), where.mean(1)


class Comparing(nn.Module):
    """Comparison of the places of two other words' things by a relation word, with a residual.

    Each word attends to one word in each of two roles, initially those before it and those after it; the vector from the
    place of the second to that of the first is multiplied with directions that are a linear function of the word. A
    product is needed, since neither the word nor the vector alone decides whether "above" holds: from sums, as attention
    has them, that is not learned (NOTES.md).
    """

    def __init__(self, width: int, reach: int = 8) -> None:
        directions = 8
        super().__init__()
        self.reach = reach
        self.norm = nn.LayerNorm(width)
        self.query, self.key = nn.Linear(width, 2 * width), nn.Linear(width, 2 * width)
        side = torch.arange(-reach, reach + 1).sign().float()
        self.order = nn.Parameter(torch.stack([-side, side]) * 2)
        self.directions = nn.Linear(width, 2 * directions)
        self.out = nn.Linear(directions, width)

    def forward(self, x: Tensor, where: Tensor, peers: Tensor) -> Tensor:
        """x (B, J, W), where (B, J, 2) the places that the words point at, peers (B, J, J) -> (B, J, W)."""
        inner = self.norm(x)
        q, k = (rearrange(f(inner), "b j (two d) -> two b j d", two=2) for f in (self.query, self.key))
        steps = relative(x.shape[1], self.reach, x.device)
        logits = einsum(q, k, "two b j d, two b i d -> two b j i") * k.shape[-1] ** -0.5
        logits = logits + rearrange(self.order[:, steps], "two j i -> two 1 j i")
        share = logits.float().masked_fill(~peers, float("-inf")).softmax(-1).to(where.dtype)
        first, second = share @ where
        directions = rearrange(self.directions(inner), "b j (k two) -> b j k two", two=2)
        return x + self.out(einsum(directions, first - second, "b j k two, b j two -> b j k"))


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
    """Pre-norm mixture of two-layer experts with a residual: a router selects top_k experts for every position."""

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
        """x (B, N, W) -> (B, N, W) and the losses load_balance (1 for an even load) and router_z."""
        inner = self.norm(x)
        logits = self.router(inner).float()
        p = logits.softmax(-1)
        chosen = F.one_hot(p.topk(self.top_k, dim=-1).indices, self.experts).sum(-2).to(p.dtype)
        gates = p * chosen
        gates = (gates / gates.sum(-1, keepdim=True)).to(x.dtype)
        hidden = rearrange(self.dropout(F.gelu(self.up(inner))), "b n (e h) -> b n e h", e=self.experts)
        gated = rearrange(hidden * gates[..., None], "b n e h -> b n (e h)")
        bias = einsum(gates, self.bias, "b n e, e w -> b n w")
        out = gated @ rearrange(self.down, "e h w -> (e h) w") + bias
        load, share = chosen.mean((0, 1)) / self.top_k, p.mean((0, 1))
        losses = {
            "load_balance": self.experts * (load.detach() * share).sum(),
            "router_z": logits.logsumexp(-1).square().mean(),
        }
        return x + self.dropout(out), losses


class ResBlock(nn.Module):
    """GroupNorm, SiLU, 3x3 convolution, twice, with a residual: (B, from, h, w) -> (B, to, h', w').

    stride 2 halves the map (rounding up). The sentence scales and shifts the second norm (FiLM), unless context, its width,
    is 0.
    """

    def __init__(
        self, source: int, target: int, context: int = 0, stride: int = 1, dropout: float = 0.0
    ) -> None:
        super().__init__()
        self.first_norm = nn.GroupNorm(_groups(source), source)
        self.first = nn.Conv2d(source, target, 3, stride=stride, padding=1)
        self.film = nn.Linear(context, 2 * target) if context else None
        self.second_norm = nn.GroupNorm(_groups(target), target)
        self.second = nn.Conv2d(target, target, 3, padding=1)
        self.dropout = nn.Dropout(dropout)
        plain = source == target and stride == 1
        self.skip = nn.Identity() if plain else nn.Conv2d(source, target, 1, stride=stride)
        if self.film is not None:
            nn.init.zeros_(self.film.weight)
            nn.init.zeros_(self.film.bias)

    def forward(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        """x (B, from, h, w), context (B, W)."""
        inner = self.second_norm(self.first(F.silu(self.first_norm(x))))
        if self.film is not None:
            scale, shift = rearrange(self.film(context), "b (two c) -> two b c 1 1", two=2)
            inner = inner * (1 + scale) + shift
        return self.skip(x) + self.second(self.dropout(F.silu(inner)))


def _groups(channels: int) -> int:
    """Groups of a norm, of two channels or more: one cell of one channel would be normalised to zero."""
    return next((groups for groups in (16, 8, 4, 2) if channels % groups == 0 and channels > groups), 1)


@contextmanager
def evaluating(*models: nn.Module) -> Iterator[None]:
    """Evaluation mode while the block runs; afterwards each module's own mode."""
    training = [module for model in models for module in model.modules() if module.training]
    for module in training:
        module.training = False
    try:
        yield
    finally:
        for module in training:
            module.training = True
