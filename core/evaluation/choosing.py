"""What picks one of several: choosers of images (a scorer of words) and of noise (the reward model).

Dimension key: B batch, C latent channels, H W latent height and width, S image side, J words.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Protocol

import numpy as np
import torch
from torch import Tensor

from core.diffusion import Text
from core.networks.blocks import evaluating
from core.scoring.scores import WordScore
from core.words import EXTRA, Word, scored, units

if TYPE_CHECKING:
    from core.foresight import Teacher
    from core.networks.reward import RewardModel

EXTRA_WEIGHT = 2  # of *nothing else* beside a word, where noise is chosen

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
    return int.from_bytes(hashlib.sha256(f"{seed}:{k}".encode()).digest()[:4], "big")


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
    """A chooser of noise from a reward model: one forward of a small network a noise."""

    def choose(noise: Tensor, text: Text) -> np.ndarray:
        expected = reward.expected(_logits(reward, noise, text)).cpu().numpy()
        return np.array([expectation(row, pick) for row in read_words(expected, text, reward.config.extra)])

    choose.fingerprint = f"{pick}:{weights_digest(reward)}"
    choose.calls = "reward"
    return choose


def by_teacher(teacher: Teacher, pick: str = "all") -> NoiseChooser:
    """A chooser of noise by what the backbone itself foresees and a reader: one forward of the denoiser a noise."""

    def choose(noise: Tensor, text: Text) -> np.ndarray:
        expected = teacher.reader.expected(teacher.logits(noise, text)).cpu().numpy()
        rows = read_words(expected, text, teacher.reader.config.extra)
        return np.array([expectation(row, pick) for row in rows])

    adapter = teacher.adapter.sha256[:16] if teacher.adapter else "plain"
    choose.fingerprint = f"{pick}:{adapter}:{weights_digest(teacher.reader)}"
    choose.calls = "foresight"
    return choose


def expectation(row: Mapping[Word, float], pick: str = "all") -> float:
    """As `whole`, of expected scores by word, in which *nothing else* counts EXTRA_WEIGHT times."""
    values = [v for word, v in row.items() for _ in range(EXTRA_WEIGHT if word.kind == EXTRA else 1)]
    return whole(values, pick)


def predict(reward: RewardModel, noise: Tensor, text: Text) -> tuple[np.ndarray, list[dict[int, float]]]:
    """The reward model's p(score) (B, J, 10), and for each item the expected score in [0, 1] of every word that is scored,
    that the text encoder reads, and that the model was taught. The model is run in evaluation mode."""
    logits = _logits(reward, noise, text)
    words = read_words(reward.expected(logits).cpu().numpy(), text, reward.config.extra)
    return logits.softmax(-1).cpu().numpy(), [{w.index: v for w, v in row.items()} for row in words]


@torch.no_grad()
def _logits(reward: RewardModel, noise: Tensor, text: Text) -> Tensor:
    place = next(reward.parameters()).device
    with evaluating(reward):
        return reward(*(part.to(place) for part in (noise, text.hidden, text.mask, text.words))).logits


def read_words(expected: np.ndarray, text: Text, extra: bool) -> list[dict[Word, float]]:
    """Expected scores (B, J) by the words that are scored and that the text encoder reads; *nothing else* among them
    where `extra`."""
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
