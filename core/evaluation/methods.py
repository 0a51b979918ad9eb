"""Ways to spend a budget on one image of a prompt and a base seed (issue: none, projected, best-of-N), behind one call.

Dimension key: B batch, C latent channels, H W latent height and width, S image side, N candidates.

Costs are counted alike for all: `network_calls` is the number of items that went through the diffuser's network (an
image of 20 steps with classifier-free guidance is 40), counted at the network itself; forwards of the projector, the
reward model and the scorer are counted apart, an item each.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from core.diffusion import Diffuser, OnStep, Text
from core.networks.projector import NoiseProjector
from core.networks.reward import RewardModel
from core.noise import SEED_LIMIT, check_seeds, check_strength, draw, second
from core.scoring.scores import WordScore
from core.words import scored, split

ImageChooser = Callable[[np.ndarray, Sequence[str]], np.ndarray]  # images (B, S, S, 3), prompts -> (B,)
NoiseChooser = Callable[[Tensor, Text], np.ndarray]  # noise (B, C, H, W), text -> (B,)


class Scorer(Protocol):
    """What scores the words of images: VLMScorer, or anything with its `score`."""

    def score(self, images: np.ndarray, prompts: Sequence[str]) -> list[list[WordScore]]:
        """Images uint8 (B, S, S, 3) and their prompts -> the scored words of each."""


@dataclass
class MethodResult:
    """One image per prompt and base seed.

    images uint8 (B, S, S, 3); latents and noise (B, C, H, W), noise being what was denoised; seeds: the seeds that
    were used in the end; seconds and network_calls of the whole batch; other_calls by name, items forwarded.
    """

    images: np.ndarray
    latents: Tensor
    noise: Tensor
    seeds: list[int]
    seconds: float
    network_calls: int
    other_calls: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Settings:
    """What all methods of a comparison share."""

    steps: int = 20
    guidance: float = 4.0
    height: int | None = None
    width: int | None = None
    batch: int = 16  # images made at once


DEFAULT = Settings()


@dataclass
class Start:
    """Noise (B, C, H, W) to denoise, the seed each item's noise came from, and the forwards that it took, by name."""

    noise: Tensor
    seeds: list[int]
    calls: dict[str, int] = field(default_factory=dict)


class Method:
    """Plain sampling from the seed's own noise; other methods change where it starts or what is kept."""

    def __init__(self, name: str = "none") -> None:
        self.name = name

    @property
    def fingerprint(self) -> str:
        """Changes when the method would give other images: what resuming an experiment relies on."""
        return self.name

    def start(self, text: Text, seeds: list[int], shape: tuple[int, int, int]) -> Start:
        """What to denoise for each item."""
        return Start(draw(seeds, shape), seeds)

    def run(
        self,
        diffuser: Diffuser,
        prompts: Sequence[str],
        seeds: Sequence[int],
        settings: Settings = DEFAULT,
        on_step: OnStep | None = None,
        stop: Callable[[], bool] | None = None,
    ) -> MethodResult:
        """One image for each of B prompts and B base seeds. Raises Stopped when `stop()` is true."""
        seeds = check_seeds(seeds)
        if len(prompts) != len(seeds):
            raise ValueError(
                f"There are {len(prompts)} prompts but {len(seeds)} seeds: give one seed a prompt."
            )
        if settings.batch < 1:
            raise ValueError(f"batch is {settings.batch}: make 1 or more images at a time.")
        began, tally, other = time.perf_counter(), [0], {}
        unique = list(dict.fromkeys(prompts))
        shape = diffuser.latent_shape(settings.height, settings.width)
        used: list[int] = []
        made: list[tuple[np.ndarray, Tensor, Tensor]] = []
        total = -(-len(seeds) // settings.batch) * settings.steps
        with counted(diffuser.pipe, tally):
            text = diffuser.encode(unique)
            for at in range(0, len(seeds), settings.batch):
                rows = text.take([unique.index(p) for p in prompts[at : at + settings.batch]])
                begin = self.start(rows, seeds[at : at + settings.batch], shape)
                used += begin.seeds
                add(other, begin.calls)
                before = len(made) * settings.steps
                watch = on_step and (
                    lambda step, _total, latents, before=before: on_step(before + step, total, latents)
                )
                latents = diffuser.sample(rows, begin.noise, settings.steps, settings.guidance, watch, stop)
                made.append((diffuser.decode(latents), latents.cpu(), begin.noise.cpu()))
        images, latents, noise = (list(part) for part in zip(*made, strict=True))
        seconds = time.perf_counter() - began
        return MethodResult(
            np.concatenate(images), torch.cat(latents), torch.cat(noise), used, seconds, tally[0], other
        )


class Projected(Method):
    """The projector's noise, at a strength."""

    def __init__(self, projector: NoiseProjector, strength: float = 1.0, name: str | None = None) -> None:
        super().__init__(name or ("projected" if strength == 1 else f"projected-{strength:g}"))
        self.projector, self.strength = projector.eval(), check_strength(strength)

    @property
    def fingerprint(self) -> str:
        return f"{self.strength:g}:{weights_digest(self.projector)}"

    @torch.no_grad()
    def start(self, text: Text, seeds: list[int], shape: tuple[int, int, int]) -> Start:
        place = next(self.projector.parameters()).device
        noise, xi = draw(seeds, shape), second(seeds, shape)
        if self.strength == 0:
            return Start(noise, seeds)
        hidden, mask = text.hidden.to(place), text.mask.to(place)
        projected = self.projector.project(noise.to(place), hidden, mask, xi.to(place), self.strength)
        return Start(projected.cpu(), seeds, {"projector": len(seeds)})


class BestOfNoise(Method):
    """The noise that a reward model likes best among N seeds; one image is made."""

    def __init__(self, n: int, chooser: NoiseChooser, name: str | None = None) -> None:
        super().__init__(name or f"best-noise-of-{n}")
        self.n, self.chooser = check_count(n), chooser

    @property
    def fingerprint(self) -> str:
        return f"{self.n}:{getattr(self.chooser, 'fingerprint', self.name)}"

    def start(self, text: Text, seeds: list[int], shape: tuple[int, int, int]) -> Start:
        tried = [[candidate(seed, k) for seed in seeds] for k in range(self.n)]
        noises = [draw(row, shape) for row in tried]
        scores = np.stack([np.asarray(self.chooser(noise, text), np.float64) for noise in noises])
        picks = list(enumerate(scores.argmax(0)))
        noise = torch.stack([noises[k][item] for item, k in picks])
        return Start(noise, [tried[k][item] for item, k in picks], {"reward": scores.size})


class BestOf(Method):
    """The image that a chooser likes best among N seeds of a base method; N images are made.

    Without a chooser it stands for best-of-N by the scorer of an experiment, taken from the images of its base.
    """

    def __init__(
        self, n: int, chooser: ImageChooser | None = None, base: Method | None = None, name: str | None = None
    ) -> None:
        self.base = base or Method()
        super().__init__(name or f"best-of-{n}" + ("" if self.base.name == "none" else f" {self.base.name}"))
        self.n, self.chooser = check_count(n), chooser

    @property
    def fingerprint(self) -> str:
        return f"{self.n}:{self.base.fingerprint}:{getattr(self.chooser, 'fingerprint', '')}"

    def run(
        self,
        diffuser: Diffuser,
        prompts: Sequence[str],
        seeds: Sequence[int],
        settings: Settings = DEFAULT,
        on_step: OnStep | None = None,
        stop: Callable[[], bool] | None = None,
    ) -> MethodResult:
        if self.chooser is None:
            raise ValueError(f"{self.name} has no chooser: give the callable that scores images.")
        began, n = time.perf_counter(), self.n
        wide = [prompt for prompt in prompts for _ in range(n)]
        tried = [candidate(seed, k) for seed in check_seeds(seeds) for k in range(n)]
        found = self.base.run(diffuser, wide, tried, settings, on_step, stop)
        scores = np.asarray(self.chooser(found.images, wide), np.float64).reshape(len(seeds), n)
        keep = np.arange(len(seeds)) * n + scores.argmax(1)
        return MethodResult(
            found.images[keep],
            found.latents[keep],
            found.noise[keep],
            [found.seeds[i] for i in keep],
            time.perf_counter() - began,
            found.network_calls,
            add(found.other_calls, {"scorer": len(wide)}),
        )


def none() -> Method:
    """No projection: the honest baseline."""
    return Method()


def projected(projector: NoiseProjector, strength: float = 1.0, name: str | None = None) -> Method:
    """The projector's noise at a strength in [0, 1]; 0 gives the images of `none`, bit for bit."""
    return Projected(projector, strength, name)


def best_of(n: int, chooser: ImageChooser | None = None, base: Method | None = None) -> Method:
    """Best of n images, by a chooser of images or (without one) by the scorer of an experiment."""
    return BestOf(n, chooser, base)


def best_noise_of(n: int, chooser: NoiseChooser) -> Method:
    """Best of n noises by a chooser that sees no image (a reward model); one image is made."""
    return BestOfNoise(n, chooser)


def candidate(seed: int, k: int) -> int:
    """Seed of candidate k of a base seed: the base seed itself for k = 0 (so best-of-1 is `none`), else the first 32
    bits of SHA-256 of "seed:k", the same on every machine."""
    if k == 0:
        return seed
    return int.from_bytes(hashlib.sha256(f"{seed}:{k}".encode()).digest()[:4], "big") % SEED_LIMIT


def whole(words: Sequence[float], pick: str = "all", prompt: str = "") -> float:
    """One figure for an image from its words' expected scores in [0, 1]. all: mean logarithm, so that one missing word
    counts against the image (every word holds); mean: plain mean. 0 where there is no word; -inf, so that it is
    chosen last, where a word of `prompt` that should have a score has none."""
    values = np.asarray(words, np.float64)
    if pick not in ("all", "mean"):
        raise ValueError(f"The way to pick is {pick!r}: use 'all' or 'mean'.")
    if len(values) < len(scored(split(prompt))):
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
    expected = RewardModel.expected(logits).cpu().numpy()
    words = [
        {
            word.index: float(row[word.index])
            for word, place in zip(words, places, strict=True)
            if word.scored and place.seen
        }
        for row, words, places in zip(expected, text.word_lists, text.located, strict=True)
    ]
    return logits.softmax(-1).cpu().numpy(), words


@contextmanager
def counted(pipe: Any, tally: list[int]) -> Iterator[None]:
    """Adds to tally[0] the items that pass the pipeline's denoising network while the block runs."""
    network = getattr(pipe, "unet", None) or getattr(pipe, "transformer", None)
    if network is None:
        raise ValueError(
            f"{type(pipe).__name__} has neither a unet nor a transformer whose calls could be counted."
        )

    def hook(_module: Any, args: tuple, kwargs: dict) -> None:
        items = args[0] if args else kwargs.get("sample", kwargs.get("hidden_states"))
        tally[0] += items.shape[0]

    handle = network.register_forward_pre_hook(hook, with_kwargs=True)
    try:
        yield
    finally:
        handle.remove()


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


def add(sums: dict[str, int], more: dict[str, int]) -> dict[str, int]:
    """Adds counts by name into `sums` and returns it."""
    for name, count in more.items():
        sums[name] = sums.get(name, 0) + count
    return sums
