"""Training data of stages 1 to 3, in memory: the texts of unique prompts, and samples with word scores.

Dimension key: P prompts, S samples, B batch, C H W latents, L tokens, D text width, J words. A sample is a prompt and a
seed; its noise is drawn from the seed when it is needed, unless it was stored (projected noise).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from core.noise import Shape, check_seed, draw
from core.words import EXTRA, units

SCORES = 10


@dataclass
class Texts:
    """Encoded unique prompts: hidden (P, L, D), mask (P, L), words (P, J, L); scored (P, J) True at words with a score, extra
    (P, J) True at *nothing else*."""

    prompts: list[str]
    hidden: Tensor
    mask: Tensor
    words: Tensor
    scored: Tensor
    extra: Tensor

    @classmethod
    def encode(cls, encode: Callable[[list[str]], Any], prompts: Sequence[str], batch: int = 64) -> Texts:
        """Encode prompts, each once. A word is scored if it carries meaning and is inside the text encoder's window."""
        unique = list(dict.fromkeys(prompts))
        if not unique:
            raise ValueError("There is no prompt to train on: collect samples first.")
        batches = [encode(unique[i : i + batch]) for i in range(0, len(unique), batch)]
        length = max(int(text.mask.any(0).nonzero().max()) + 1 for text in batches)
        most = max(text.words.shape[1] for text in batches)
        padded = [F.pad(t.words[..., :length], (0, 0, 0, most - t.words.shape[1])).cpu() for t in batches]
        hidden, mask = ([getattr(t, name)[:, :length].cpu() for t in batches] for name in ("hidden", "mask"))
        words = torch.cat(padded)
        meaning, extra = (torch.zeros(len(unique), most, dtype=torch.bool) for _ in range(2))
        for row, prompt in enumerate(unique):
            for word in units(prompt)[:most]:
                meaning[row, word.index], extra[row, word.index] = word.scored, word.kind == EXTRA
        return cls(unique, torch.cat(hidden), torch.cat(mask), words, meaning & (words.sum(-1) > 0), extra)

    def take(self, rows: Tensor, device: torch.device | str = "cpu") -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """hidden (B, L, D), mask (B, L), words (B, J, L), scored (B, J) of the prompts at rows (B,), on device."""
        tensors = (self.hidden, self.mask, self.words, self.scored)
        hidden, mask, words, scored = (tensor[rows].to(device) for tensor in tensors)
        return hidden, mask, words, scored

    def only(self, prompts: Sequence[str]) -> Texts:
        """Select the texts of some of the prompts."""
        row_of = {prompt: row for row, prompt in enumerate(self.prompts)}
        rows = torch.tensor([row_of[prompt] for prompt in prompts], dtype=torch.long)
        return Texts(list(prompts), *self.take(rows), self.extra[rows])


@dataclass
class Sample:
    """One image's labels: word index -> (score 0..9 or a distribution over them, weight). noise (C, H, W): only where it was
    not drawn from the seed. picture (C, H, W): the image's latents, where it is available. judged: whether people scored
    the whole image."""

    prompt: str
    seed: int
    labels: Mapping[int, tuple[int | Sequence[float], float]]
    noise: Tensor | None = None
    picture: Tensor | None = None
    judged: bool = False


@dataclass
class RewardData:
    """Samples as tensors: item (S,) rows of `texts`; seeds (S,); target (S, J, 10) distributions; weight (S, J), 0 without a
    label; noise (N, C, H, W) stored noises and noise_row (S,) their rows, -1 where it is drawn from the seed; picture
    (M, C, H, W) latents of images and picture_row (S,) their rows, -1 where there is none; judged (S,) True where people
    scored the whole image."""

    texts: Texts
    shape: Shape
    item: Tensor
    seeds: Tensor
    target: Tensor
    weight: Tensor
    noise: Tensor | None = None
    noise_row: Tensor = field(default_factory=lambda: torch.empty(0, dtype=torch.long))
    picture: Tensor | None = None
    picture_row: Tensor = field(default_factory=lambda: torch.empty(0, dtype=torch.long))
    judged: Tensor = field(default_factory=lambda: torch.empty(0, dtype=torch.bool))

    @classmethod
    def build(cls, samples: Sequence[Sample], texts: Texts, shape: Shape) -> RewardData:
        """Build the tensors of samples; ValueError for a label that is no score, or of a word that the prompt lacks."""
        if not samples:
            raise ValueError("There is no labelled sample to train on: collect and score some first.")
        row_of, words = {prompt: row for row, prompt in enumerate(texts.prompts)}, texts.words.shape[1]
        sizes = {prompt: len(units(prompt)) for prompt in {sample.prompt for sample in samples}}
        target, weight = torch.zeros(len(samples), words, SCORES), torch.zeros(len(samples), words)
        for s, sample in enumerate(samples):
            if sample.prompt not in row_of:
                raise ValueError(f"{sample.prompt[:80]!r} was not encoded: encode it with the others.")
            for j, (label, amount) in sample.labels.items():
                if not 0 <= j < sizes[sample.prompt]:
                    raise ValueError(f"{sample.prompt[:80]!r} has no word {j}: the label is not its.")
                if not 0 <= amount < float("inf"):
                    raise ValueError(f"The label weight {amount} is out of range: use 0 or more.")
                target[s, j], weight[s, j] = distribution(label), amount
        item = torch.tensor([row_of[sample.prompt] for sample in samples], dtype=torch.long)
        seeds = torch.tensor([check_seed(sample.seed) for sample in samples], dtype=torch.long)
        weight = weight * texts.scored[item]
        if not weight.sum() > 0:
            raise ValueError("No label is about a word that carries meaning: score some words first.")
        noise, noise_row = _stacked([sample.noise for sample in samples])
        picture, picture_row = _stacked([sample.picture for sample in samples])
        judged = torch.tensor([sample.judged for sample in samples], dtype=torch.bool)
        return cls(texts, shape, item, seeds, target, weight, noise, noise_row, picture, picture_row, judged)

    def __len__(self) -> int:
        return len(self.item)

    def noises(self, rows: Tensor) -> Tensor:
        """The initial noise (B, C, H, W) of the samples at rows (B,), float32 on the CPU."""
        noise, stored = torch.empty(len(rows), *self.shape), self.noise_row[rows]
        drawn = stored < 0
        if drawn.any():
            noise[drawn] = draw(self.seeds[rows[drawn]].tolist(), self.shape)
        if self.noise is not None:
            noise[~drawn] = self.noise[stored[~drawn]].float()
        return noise

    def pictures(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        """Latents (K, C, H, W), float32 on the CPU, of the samples at rows (B,) that have a picture, and their mask (B,)."""
        stored = self.picture_row[rows]
        if self.picture is None:
            return torch.empty(0, *self.shape), torch.zeros_like(stored, dtype=torch.bool)
        return self.picture[stored[stored >= 0]].float(), stored >= 0

    def picture_mean(self) -> Tensor:
        """Mean latents (1, C, 1, 1) of the first thousand pictures; 0 without pictures."""
        if self.picture is None:
            return torch.zeros(1, self.shape[0], 1, 1)
        return self.picture[:1000].float().mean((0, 2, 3), keepdim=True)

    def subset(self, rows: Tensor) -> RewardData:
        """The samples at rows, sharing texts, stored noises and pictures."""
        names = ("item", "seeds", "target", "weight", "noise_row", "picture_row", "judged")
        return replace(self, **{name: getattr(self, name)[rows] for name in names})

    def split(self, share: float, seed: int = 0) -> tuple[RewardData, RewardData]:
        """(training, validation) split by prompt, with a `share` of the prompts, at least one, in the second."""
        present = self.item.unique()
        if len(present) < 2 or not 0 < share < 1:
            raise ValueError(
                f"Cannot hold out {share:g} of {len(present)} prompts: give a share between 0 and 1 and two prompts."
            )
        order = present[torch.randperm(len(present), generator=torch.Generator().manual_seed(seed))]
        held = torch.isin(self.item, order[: min(len(present) - 1, max(1, round(share * len(present))))])
        return self.subset((~held).nonzero().flatten()), self.subset(held.nonzero().flatten())


def _stacked(items: Sequence[Tensor | None]) -> tuple[Tensor | None, Tensor]:
    """The items that are there in one tensor, and the row of each in it, -1 for None."""
    present = torch.tensor([item is not None for item in items])
    tensors = [item for item in items if item is not None]
    return torch.stack(tensors) if tensors else None, torch.where(present, present.cumsum(0) - 1, -1)


def distribution(label: int | Sequence[float]) -> Tensor:
    """A target over the scores 0..9 (10,): one-hot for a digit, normalised for a distribution."""
    if isinstance(label, int) and not isinstance(label, bool):
        if not 0 <= label < SCORES:
            raise ValueError(f"The score {label} is out of range: use a digit from 0 to 9.")
        return F.one_hot(torch.tensor(label), SCORES).float()
    values = torch.as_tensor(label, dtype=torch.float32)
    if values.shape != (SCORES,) or not torch.isfinite(values).all() or values.min() < 0 or values.sum() <= 0:
        raise ValueError(f"{str(label)[:120]} is no distribution over the scores 0..9: give ten numbers.")
    return values / values.sum()
