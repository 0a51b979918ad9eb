"""Weights of a prompt's parts, in the syntax of AUTOMATIC1111's WebUI: "(a hat:1.3)", "(a hat)", "[a hat]", nested.

Round brackets multiply the weight of what is in them by 1.1, or by the number after the last colon; square ones divide it
by 1.1. A backslash takes a bracket's meaning away. A bracket that is never closed reaches to the end.

As in the WebUI, a token's weight multiplies its hidden states, and then all are scaled so that their mean is what it was.
Departure: the mean is that of all encoders of a text together. Where it is near zero, as in the states of language models,
nothing is scaled back.

Neither of the two libraries for this is used. Compel (2.5.1 works beside transformers 5) has a syntax and an arithmetic of
its own, by which the same numbers make other images than in the WebUI, and knows the pipelines of five families; sd_embed
is not in the package index. What is here works on the hidden states of any family.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from core.families import stretches
from core.words import Word

if TYPE_CHECKING:
    from core.diffusion import Diffuser

STEP = 1.1  # by which a pair of brackets multiplies or divides
MOST = 10.0  # a weight
NEAR_ZERO = 1e-3  # a mean, as a share of the root mean square
MOST_SCALED = 0.5, 2.0  # a mean that weights change by more than that says nothing of the states' size
_WEIGHT = r":\s*([+-]?(?:\d{1,4}(?:\.\d{0,6})?|\.\d{1,6}))\s*\)"
_PIECE = re.compile(rf"\\([()\[\]\\])|{_WEIGHT}|[(\[\])]|[^\\()\[\]:]+|[\\:]")


def parse(prompt: str) -> list[tuple[str, float]]:
    """The texts of a prompt in order, each with its weight; ValueError for a weight below 0 or above MOST."""
    pieces: list[tuple[str, float]] = []
    opened: dict[str, list[int]] = {"(": [], "[": []}  # the first piece in each bracket that is open

    def close(bracket: str, by: float) -> bool:
        if not opened[bracket]:
            return False
        first = opened[bracket].pop()
        pieces[first:] = [(text, weight * by) for text, weight in pieces[first:]]
        return True

    for match in _PIECE.finditer(prompt):
        text, escaped, number = match[0], match[1], match[2]
        if text in opened:
            opened[text].append(len(pieces))
        elif not (
            (number and close("(", float(number)))
            or (text == ")" and close("(", STEP))
            or (text == "]" and close("[", 1 / STEP))
        ):
            pieces.append((escaped or text, 1.0))
    while close("(", STEP) or close("[", 1 / STEP):
        pass
    merged: list[tuple[str, float]] = []
    for text, weight in pieces:
        if not 0 <= weight <= MOST:
            raise ValueError(
                f"The weight {weight:g} of {text.strip()[:40]!r} is not from 0 to {MOST:g}: change it."
            )
        if merged and merged[-1][1] == weight:
            merged[-1] = merged[-1][0] + text, weight
        else:
            merged.append((text, weight))
    return merged


def plain(prompt: str) -> str:
    """A prompt without the syntax of weights."""
    return "".join(text for text, _ in parse(prompt))


def is_weighted(prompt: str) -> bool:
    """Whether a part of a prompt has another weight than 1."""
    return any(weight != 1 for _, weight in parse(prompt))


def token_weights(diffuser: Diffuser, prompts: Sequence[str], mask: Tensor, negative: bool = False) -> Tensor:
    """Weights (B, L) of the tokens of prompts, or of negative prompts, in the syntax; mask (B, L) is that of the hidden states
    of their plain texts.

    A token that is in two parts has the weight of the later one that has another weight than 1."""
    table, family = torch.ones(mask.shape), diffuser.family
    read = (family.negative_reading if negative else None) or family.reading
    for row, prompt, real in zip(table, prompts, mask.cpu(), strict=True):
        parts: list[tuple[Word, float]] = []
        text = ""
        for piece, weight in parse(prompt):
            span = len(text), len(text) + len(piece)
            if weight != 1 and piece.strip():
                parts.append((Word(len(parts), piece, *span, "other", scored=True), weight))
            text += piece
        words, start = [word for word, _ in parts], 0
        names, reading = family.tokenizers, read(diffuser.pipe, text)
        tokenizers = [getattr(diffuser.pipe, name) for name in names]
        sizes = stretches(tokenizers, len(real))
        for name, tokenizer, size in zip(names, tokenizers, sizes, strict=True):
            stretch = real[start : start + size]
            places = diffuser.locate(name, reading, words, stretch) if tokenizer is not None else []
            for place, (_, weight) in zip(places, parts, strict=False):
                row[[start + token for token in place.tokens]] = weight
            start += size
    return table


def weighted(hidden: Tensor, weights: Tensor) -> Tensor:
    """Hidden states (B, L, D), each token's multiplied by its weight (B, L), with the mean of each item restored."""
    states = hidden.float()
    scaled = states * weights.to(states)[..., None]
    before, after = (x.mean((1, 2), keepdim=True) for x in (states, scaled))
    size = states.square().mean((1, 2), keepdim=True).sqrt() * NEAR_ZERO
    ratio = before / torch.where(after.abs() > size, after, 1.0)
    safe = (before.abs() > size) & (after.abs() > size) & (ratio > MOST_SCALED[0]) & (ratio < MOST_SCALED[1])
    return (scaled * torch.where(safe, ratio, 1.0)).to(hidden.dtype)
