"""A world in which it is known how noise suits a word: each word likes the first channel to be high in its half."""

import torch

from core.noise import draw
from core.training.data import RewardData, Sample, Texts

SHAPE = (2, 8, 8)
HALVES = {
    "red": (slice(0, 4), slice(None)),
    "blue": (slice(4, 8), slice(None)),
    "circle": (slice(None), slice(0, 4)),
    "star": (slice(None), slice(4, 8)),
}
PAIRS = [(a, b) for a in HALVES for b in HALVES if a != b]
TINY = {
    "latent_channels": 2, "text_width": 8, "width": 32, "depth": 1, "channels": (32,), "heads": 2, "experts": 2,
    "top_k": 1,
}  # fmt: skip
HEAD = {"head_width": 32, "head_depth": 1, "dropout": 0.0}


class Encoded:
    """What `Diffuser.encode` gives, made of one fixed vector a word: "a", word, "and", word, padding. Nothing can be too
    much in this world: the row of *nothing else* is empty, unless `extra` is set."""

    extra = False

    def __init__(self, prompts):
        table = torch.randn(6, 8, generator=torch.Generator().manual_seed(3))
        order = {"a": 4, "and": 5, **{word: i for i, word in enumerate(HALVES)}}
        self.hidden, self.mask = (
            torch.zeros(len(prompts), 7, 8),
            torch.zeros(len(prompts), 7, dtype=torch.bool),
        )
        self.words = torch.zeros(len(prompts), 5, 7)
        for i, prompt in enumerate(prompts):
            for j, word in enumerate(prompt.split()):
                self.hidden[i, j + 1], self.words[i, j, j + 1] = table[order[word]], 1
            self.mask[i, : len(prompt.split()) + 2] = True
            if self.extra:
                self.words[i, len(prompt.split())] = self.mask[i] / self.mask[i].sum()


class Whole(Encoded):
    """The same with *nothing else*."""

    extra = True


def prompt_of(pair):
    return f"a {pair[0]} and {pair[1]}"


def truth(noise, word):
    """How well noise (B, 2, 8, 8) suits a word: (B,) in [0, 1]."""
    rows, columns = HALVES[word]
    return torch.special.ndtr(noise[:, 0, rows, columns].mean((1, 2)) * 32**0.5)


def texts(pairs):
    return Texts.encode(Encoded, [prompt_of(pair) for pair in pairs], batch=5)


def labelled(pairs, seeds, every=1):
    """Samples of each pair with each seed, labels 0..9 by the truth; every n-th of them, so n should not divide the
    number of seeds, or all pairs share the same few noises."""
    noise, samples = draw(seeds, SHAPE), []
    for pair in pairs:
        scores = [(truth(noise, word) * 9.999).int().tolist() for word in pair]
        samples += [
            Sample(prompt_of(pair), seed, {1: (scores[0][i], 1.0), 3: (scores[1][i], 1.0)})
            for i, seed in enumerate(seeds)
        ]
    return RewardData.build(samples[::every], texts(pairs), SHAPE)
