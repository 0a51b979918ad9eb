"""Word scores s_j as distributions over the ten digits, and the expected score r_j = sum_k k p_k / 9.

Shapes: (..., 10) is a distribution over the digits 0..9 on the last axis, as NumPy or anything NumPy can convert.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from core.words import CURRENT, Word, check_prompt, scored, units

DIGITS = 10
TOP = DIGITS - 1
MASS = 0.5  # share of the next token's probability that the ten digits must have: below it, the answer is no digit
FLOOR = 1e-6  # least probability in logarithms


@dataclass(frozen=True)
class WordScore:
    """One word's score: its index among the prompt's words, p(digit) as float32 (10,), the likeliest digit, and the
    scorer's last hidden state at the answer position as float16 (D,) where it has one."""

    word_index: int
    distribution: np.ndarray
    score: int
    hidden: np.ndarray | None = None

    @property
    def expected(self) -> float:
        """Expected score r_j in [0, 1]."""
        return float(expected(self.distribution))

    @property
    def entropy(self) -> float:
        """Entropy of the distribution in [0, 1]: 0 for one digit, 1 for the uniform one."""
        return float(entropy(self.distribution))


def check(distributions: np.ndarray) -> np.ndarray:
    """Validate distributions and return them as float64 (..., 10); ValueError with the offending numbers otherwise."""
    p = np.asarray(distributions, np.float64)
    if p.ndim == 0 or p.shape[-1] != DIGITS:
        raise ValueError(f"A score distribution has {DIGITS} numbers, but the shape here is {p.shape}.")
    if not np.isfinite(p).all() or (p < 0).any():
        raise ValueError(
            f"A score distribution holds finite numbers from 0 on, but here is {p[~np.isfinite(p) | (p < 0)][:3]}."
        )
    total = p.sum(-1)
    if p.size and np.abs(total - 1).max() > 1e-3:
        worst = total.flat[np.abs(total - 1).argmax()]
        raise ValueError(f"A score distribution sums to 1, but here is one that sums to {worst:.4f}.")
    return p


def check_digit(score: object) -> int:
    """Validate a score: an int 0..9; ValueError otherwise."""
    if isinstance(score, bool) or not isinstance(score, (int, np.integer)) or not 0 <= score <= TOP:
        raise ValueError(f"A score is a whole number from 0 to {TOP}, but this is {score!r}.")
    return int(score)


def expected(distributions: np.ndarray) -> np.ndarray:
    """Expected score in [0, 1]: (..., 10) -> (...)."""
    return np.asarray(distributions, np.float64) @ (np.arange(DIGITS) / TOP)


def likeliest(distributions: np.ndarray) -> np.ndarray:
    """The likeliest digit: (..., 10) -> (...) of int."""
    return np.asarray(distributions).argmax(-1)


def entropy(distributions: np.ndarray) -> np.ndarray:
    """Entropy in units of log 10, so in [0, 1]: (..., 10) -> (...)."""
    p = np.clip(np.asarray(distributions, np.float64), FLOOR, 1)
    return -(p * np.log(p)).sum(-1) / np.log(DIGITS)


def from_truth(truth: np.ndarray) -> np.ndarray:
    """Soft targets over the two digits next to a graded truth in [0, 1], whose expected score is the truth: (...) ->
    (..., 10) float32. A truth of 0 or 1 is one digit."""
    t = np.asarray(truth, np.float64)
    if t.size and not (np.isfinite(t).all() and t.min() >= 0 and t.max() <= 1):
        raise ValueError(f"A truth lies in [0, 1], but here is {t[~((t >= 0) & (t <= 1))].flat[0]}.")
    return np.maximum(0.0, 1.0 - np.abs(t[..., None] * TOP - np.arange(DIGITS))).astype(np.float32)


def from_digit(score: int) -> np.ndarray:
    """A single digit as a distribution (10,) float32."""
    return np.eye(DIGITS, dtype=np.float32)[check_digit(score)]


def unsure(mass: float, least: float = MASS) -> str:
    """Why an answer in which the ten digits have a share `mass` of the probability is no digit; "" where it is one."""
    return f"digits have {mass:.0%} of the probability, less than {least:.0%}" if mass < least else ""


def words_to_score(
    images: int, prompts: Sequence[str], batch: int, rules: Sequence[int] | None = None
) -> list[list[Word]]:
    """The words of each prompt to score, with *nothing else*; ValueError where the arguments disagree. rules: by which each
    prompt's words are counted (`core.words`); None: the current ones."""
    if images != len(prompts):
        raise ValueError(f"There are {images} images but {len(prompts)} prompts: give one prompt an image.")
    if batch < 1:
        raise ValueError(f"batch is {batch}: give 1 or more images at a time.")
    for prompt in prompts:
        check_prompt(prompt)
    rules = rules or [CURRENT] * images
    return [scored(units(prompt, number)) for prompt, number in zip(prompts, rules, strict=True)]


def make(word_index: int, distribution: np.ndarray, hidden: np.ndarray | None = None) -> WordScore:
    """A WordScore from a distribution (10,), checked, with its likeliest digit."""
    p = check(distribution)
    if p.ndim != 1:
        raise ValueError(f"One word has one distribution (10,), but the shape here is {p.shape}.")
    return WordScore(word_index, p.astype(np.float32), int(p.argmax()), hidden)
