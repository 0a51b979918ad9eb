"""What picks one of several: choosers of images (a scorer of words) and of noise (the reward model).

Dimension key: B batch, C latent channels, H W latent height and width, S image side, J words.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Protocol

import numpy as np
import torch
from torch import Tensor

from core.diffusion import Text
from core.noise import SEED_LIMIT
from core.scoring.scores import WordScore
from core.words import scored, units

if TYPE_CHECKING:
    from core.networks.reward import RewardModel

ImageChooser = Callable[[np.ndarray, Sequence[str]], np.ndarray]  # images (B, S, S, 3), prompts -> (B,)
NoiseChooser = Callable[[Tensor, Text], np.ndarray]  # noise (B, C, H, W), text -> (B,)


class Scorer(Protocol):
    """What scores the words of images: VLMScorer, or anything with its `score`."""

    def score(self, images: np.ndarray, prompts: Sequence[str]) -> list[list[WordScore]]:
        """Images uint8 (B, S, S, 3) and their prompts -> the scored words of each."""


def candidate(seed: int, k: int) -> int:
    """Seed of candidate k of a base seed: the base seed itself for k = 0 (so best-of-1 is `none`), else the first 32
    bits of SHA-256 of "seed:k", the same on every machine."""
    if k == 0:
        return seed
    return int.from_bytes(hashlib.sha256(f"{seed}:{k}".encode()).digest()[:4], "big") % SEED_LIMIT


def whole(words: Sequence[float], pick: str = "all", prompt: str = "") -> float:
    """One figure for an image from its words' expected scores in [0, 1]. all: mean logarithm, so that one missing word
    counts against the image (every word holds); mean: plain mean. *Nothing else* is one of them. 0 where there is
    no word; -inf, so that it is chosen last, where a word of `prompt` that should have a score has none."""
    values = np.asarray(words, np.float64)
    if pick not in ("all", "mean"):
        raise ValueError(f"The way to pick is {pick!r}: use 'all' or 'mean'.")
    if len(values) < len(scored(units(prompt))):
        return -np.inf
    if values.size == 0:
        return 0.0
    return float(np.log(np.clip(values, 1e-3, 1)).mean() if pick == "all" else values.mean())


def by_scorer(scorer: Scorer, pick: str = "all") -> ImageChooser:
    """A chooser of images from a scorer of words."""

    def choose(images: np.ndarray, prompts: Sequence[str]) -> np.ndarray:
        rows = zip(prompts, scorer.score(images, prompts), strict=True)
        return np.array([whole([w.expected for w in row], pick, prompt) for prompt, row in rows])

    choose.fingerprint = f"{pick}:{getattr(scorer, 'version', '')}"
    return choose


def by_reward(reward: RewardModel, pick: str = "all") -> NoiseChooser:
    """A chooser of noise from a reward model."""
    reward.eval()

    def choose(noise: Tensor, text: Text) -> np.ndarray:
        return np.array([whole(list(row.values()), pick) for row in predict(reward, noise, text)[1]])

    choose.fingerprint = f"{pick}:{weights_digest(reward)}"
    return choose


@torch.no_grad()
def predict(reward: RewardModel, noise: Tensor, text: Text) -> tuple[np.ndarray, list[dict[int, float]]]:
    """The reward model's p(score) (B, J, 10), and for each item the expected score in [0, 1] of every word that is scored
    and that the text encoder reads. The model is run in evaluation mode."""
    place, training = next(reward.parameters()).device, reward.training
    reward.eval()
    logits = reward(*(part.to(place) for part in (noise, text.hidden, text.mask, text.words))).logits
    reward.train(training)
    expected = reward.expected(logits).cpu().numpy()
    words = [
        {
            word.index: float(row[word.index])
            for word, place in zip(words, places, strict=True)
            if word.scored and place.seen
        }
        for row, words, places in zip(expected, text.word_lists, text.located, strict=True)
    ]
    return logits.softmax(-1).cpu().numpy(), words


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
