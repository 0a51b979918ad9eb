"""Choosing one of several noises, by the reward model or its teacher, and one of several images, by a scorer of words.

Dimension key: B batch, C latent channels, H W latent height and width, S image side, J words.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np
import torch
from torch import Tensor

from core.diffusion import Text
from core.networks.blocks import evaluating
from core.progress import Stop
from core.scoring.scores import WordScore
from core.words import EXTRA, Word, scored, units

if TYPE_CHECKING:
    from core.foresight import Teacher
    from core.networks.reward import PictureReader, RewardModel

EXTRA_WEIGHT = 2  # of *nothing else* relative to a word, where noise is chosen


@dataclass(frozen=True)
class NoiseChooser:
    """Scores noises (B, C, H, W) under text: (B,), larger is better. calls: the name under which its forwards are counted."""

    score: Callable[[Tensor, Text], np.ndarray]
    fingerprint: str
    calls: str

    def __call__(self, noise: Tensor, text: Text) -> np.ndarray:
        return self.score(noise, text)


class Scorer(Protocol):
    """Scores the words of images: VLMScorer, or anything with its `score`."""

    def score(
        self, images: np.ndarray, prompts: Sequence[str], batch: int = ..., stop: Stop = ...
    ) -> list[list[WordScore]]:
        """Images uint8 (B, S, S, 3) and their prompts -> the scored words of each."""


def candidate(seed: int, k: int) -> int:
    """Seed of candidate k of a base seed: itself for k = 0, else the first 32 bits of SHA-256 of "seed:k"."""
    if k == 0:
        return seed
    return int.from_bytes(hashlib.sha256(f"{seed}:{k}".encode()).digest()[:4], "big")


def whole(words: Sequence[float], prompt: str = "") -> float:
    """Score of an image from the expected scores in [0, 1] of its words, *nothing else* among them: the mean logarithm, so
    that one missing word counts against the whole image. 0 where there is no word; -inf, so that it is chosen last, where
    a word of `prompt` that should have a score has none."""
    if len(words) < len(scored(units(prompt))):
        return -math.inf
    return float(np.log(np.clip(words, 1e-3, 1)).mean()) if len(words) else 0.0


def by_reward(reward: RewardModel) -> NoiseChooser:
    """Chooses noise by a reward model: one forward of a small network a noise."""

    def score(noise: Tensor, text: Text) -> np.ndarray:
        return _scores(reward, _logits(reward, noise, text), text)

    return NoiseChooser(score, f"all:{weights_digest(reward)}", "reward")


def by_teacher(teacher: Teacher) -> NoiseChooser:
    """Chooses noise by the backbone's own prediction and a reader: one forward of the denoiser a noise."""

    def score(noise: Tensor, text: Text) -> np.ndarray:
        return _scores(teacher.reader, teacher.logits(noise, text), text)

    adapter = teacher.adapter.sha256[:16] if teacher.adapter else "plain"
    return NoiseChooser(score, f"all:{adapter}:{weights_digest(teacher.reader)}", "foresight")


def _scores(reader: PictureReader, logits: Tensor, text: Text) -> np.ndarray:
    """Scores (B,) as by `whole` of logits (B, J, 10), with *nothing else* EXTRA_WEIGHT times."""
    rows = read_words(reader.expected(logits).cpu().numpy(), text, reader.config.extra)
    times = {EXTRA: EXTRA_WEIGHT}
    return np.array([whole([v for w, v in row.items() for _ in range(times.get(w.kind, 1))]) for row in rows])


def predict(reward: RewardModel, noise: Tensor, text: Text) -> tuple[np.ndarray, list[dict[int, float]]]:
    """The reward model's p(score) (B, J, 10), and for each item the expected score in [0, 1] of every word that is scored,
    that the text encoder reads, and that the model was taught."""
    logits = _logits(reward, noise, text)
    words = read_words(reward.expected(logits).cpu().numpy(), text, reward.config.extra)
    return logits.softmax(-1).cpu().numpy(), [{w.index: v for w, v in row.items()} for row in words]


@torch.no_grad()
def _logits(reward: RewardModel, noise: Tensor, text: Text) -> Tensor:
    device = next(reward.parameters()).device
    with evaluating(reward):
        return reward(*(tensor.to(device) for tensor in (noise, text.hidden, text.mask, text.words))).logits


def read_words(expected: np.ndarray, text: Text, extra: bool) -> list[dict[Word, float]]:
    """Expected scores (B, J) by word, for scored words inside the text encoder's window, with *nothing else* if `extra`."""
    return [
        {
            word: float(row[word.index])
            for word, place in zip(words, places, strict=True)
            if word.scored and place.seen and (extra or word.kind != EXTRA)
        }
        for row, words, places in zip(expected, text.word_lists, text.located, strict=True)
    ]


def weights_digest(module: torch.nn.Module) -> str:
    """A short digest of a module's weights."""
    digest = hashlib.sha256()
    for name, value in sorted(module.state_dict().items()):
        digest.update(name.encode() + value.detach().float().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()[:16]


def check_count(n: int) -> int:
    """n itself; ValueError unless it is a whole number of 1 or more."""
    if isinstance(n, bool) or not isinstance(n, int) or n < 1:
        raise ValueError(f"The best of {n!r} cannot be taken: give a whole number of 1 or more.")
    return n
