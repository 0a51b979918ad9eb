"""Cost of projection, scoring and training: times as medians over rounds, and ratios within rounds.

In a round every piece of work is timed once, in turn, so that a temporary slowdown of the machine affects them all; a
ratio is the median of the rounds' ratios. Times depend on the shapes of the models, not on their weights.

    image = text + steps * denoising step (with guidance) + decoding
    pair  = text + projector + steps * denoising step of both in one batch + decoding of both
    share = projector / image                        projector: the second noise, the network, transfers to it and back
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import cycle, pairwise
from typing import Any

import numpy as np
import torch
from torch import Tensor

from core.diffusion import Diffuser, Text
from core.evaluation.choosing import Scorer
from core.evaluation.memory import peak
from core.networks.projector import NoiseProjector
from core.networks.reward import RewardModel
from core.noise import Shape, draw, second
from core.progress import Progress, Stop, Stopped
from core.training.data import RewardData, Sample, Texts
from core.training.projector import ProjectorConfig, train_projector
from core.training.reward import RewardConfig, train_reward

Count = Callable[[int, int], None] | None

SHORT = 0.05  # seconds: shorter work is repeated within a round to take this long
LONG = 60.0  # seconds: a longer warm-up is the first round, since a first call's overhead is negligible in it
WARM_STEPS = 2  # steps of a training before timing starts


@dataclass(frozen=True)
class Spread:
    """Median and quartiles of the rounds; minimum and maximum mean little on a busy machine."""

    median: float
    low: float
    high: float
    rounds: int

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        """From one value a round."""
        low, median, high = np.quantile(values, (0.25, 0.5, 0.75)).tolist()
        return cls(median, low, high, len(values))


@dataclass
class Rounds:
    """By name of the work: seconds, one value a round; peak, its memory in bytes, None where the system does not report it."""

    seconds: dict[str, list[float]]
    peak: dict[str, int | None]


@dataclass(frozen=True)
class Sampling:
    """The image that is measured; timed_steps of its steps are timed and extrapolated to all."""

    steps: int = 30
    guidance: float = 5.0
    height: int | None = None
    width: int | None = None
    timed_steps: int = 30


@dataclass
class ImageCost:
    """seconds of the parts, of an image and of a pair; share: projector / image; pair_in_images: pair / image;
    pair_in_singles: pair / (one image + one projected image), below 1 where a batch pays; peak in bytes of the process
    (CPU) or of what torch holds on the device, weights included."""

    sampling: Sampling
    shape: Shape
    seconds: dict[str, Spread]
    share: Spread
    pair_in_images: Spread
    pair_in_singles: Spread
    peak: dict[str, int | None] = field(default_factory=dict)


def synchronise(device: torch.device) -> None:
    """Wait until the device has finished its queued work."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()


def clock(work: Callable[[], object], device: torch.device, times: int = 1) -> float:
    """Seconds of a call until the device has finished it, the mean of `times` calls."""
    synchronise(device)
    began = time.perf_counter()
    for _ in range(times):
        work()
    synchronise(device)
    return (time.perf_counter() - began) / times


def rounds(
    works: Mapping[str, Callable[[], object]],
    repeats: int,
    device: torch.device | str = "cpu",
    stop: Stop = None,
    on_progress: Count = None,
) -> Rounds:
    """Time every work once in each of `repeats` rounds, after a warm-up round that measures the peak memory.

    on_progress(done, total) counts works. Raises Stopped when `stop()` is true.
    """
    if repeats < 1:
        raise ValueError(f"repeats is {repeats}: time 1 or more rounds.")
    device, done, total = torch.device(device), 0, len(works) * (repeats + 1)
    result = Rounds({name: [] for name in works}, {})
    times = dict.fromkeys(works, 1)

    def timed(name: str) -> float:
        nonlocal done
        if stop and stop():
            raise Stopped
        seconds = clock(works[name], device, times[name])
        done += 1
        if on_progress:
            on_progress(done, total)
        return seconds

    warming = {}
    for name in works:
        with peak(device) as memory:
            warming[name] = timed(name)
        result.peak[name] = memory.bytes
        if warming[name] < 1:  # a first call may be many times slower
            warming[name] = clock(works[name], device)
            times[name] = max(1, math.ceil(SHORT / max(warming[name], 1e-6)))
    if sum(warming.values()) > LONG:
        repeats, total = repeats - 1, total - len(works)
        result.seconds = {name: [seconds] for name, seconds in warming.items()}
    for _ in range(repeats):
        for name in works:
            result.seconds[name].append(timed(name))
    return result


def composed(seconds: Mapping[str, Sequence[float]], steps: int, timed_steps: int) -> dict[str, list[float]]:
    """Seconds of whole images, a value a round, from those of their parts: text, projector, denoising and pair denoising
    (both of timed_steps), decoding, pair decoding."""
    scale = steps / timed_steps
    timed = {name: np.asarray(values) for name, values in seconds.items()}
    whole = {name: timed[name] for name in ("text", "projector", "denoising", "decoding")}
    whole["denoising"] = timed["denoising"] * scale
    whole["image"] = whole["text"] + whole["denoising"] + whole["decoding"]
    both = timed["pair denoising"] * scale
    whole["pair"] = whole["text"] + whole["projector"] + both + timed["pair decoding"]
    return {name: values.tolist() for name, values in whole.items()}


def ratio(above: Sequence[float], below: Sequence[float]) -> Spread:
    """Ratios of the rounds."""
    return Spread.of([a / b for a, b in zip(above, below, strict=True)])


def image_cost(
    diffuser: Diffuser,
    projector: NoiseProjector,
    prompt: str,
    sampling: Sampling,
    repeats: int = 5,
    stop: Stop = None,
    on_progress: Count = None,
) -> ImageCost:
    """Time the parts of an image of `prompt`, alone and in a batch with its projected image."""
    if not 1 <= sampling.timed_steps <= sampling.steps:
        raise ValueError(f"{sampling.timed_steps} of {sampling.steps} steps cannot be timed: take 1 or more.")
    shape = diffuser.latent_shape(sampling.height, sampling.width)
    device = next(projector.eval().parameters()).device
    text, noises = diffuser.encode([prompt]), draw([0, 1], shape)
    noise, latents = noises[:1], noises.to(diffuser.device)

    @torch.no_grad()
    def project() -> Tensor:
        xi = second([0], shape).to(device)
        return projector.project(noise.to(device), text.hidden.to(device), text.mask.to(device), xi).cpu()

    def denoise(rows: Text, start: Tensor) -> Callable[[], Tensor]:
        return lambda: diffuser.sample(rows, start, sampling.timed_steps, sampling.guidance, stop=stop)

    works = {
        "text": lambda: diffuser.encode([prompt]),
        "projector": project,
        "denoising": denoise(text, noise),
        "decoding": lambda: diffuser.decode(latents[:1]),
        "pair denoising": denoise(text.take([0, 0]), noises),
        "pair decoding": lambda: diffuser.decode(latents),
    }
    result = rounds(works, repeats, diffuser.device, stop, on_progress)
    whole = composed(result.seconds, sampling.steps, sampling.timed_steps)
    image, pair, projection = whole["image"], whole["pair"], whole["projector"]
    singles = [2 * alone + extra for alone, extra in zip(image, projection, strict=True)]
    seconds = {name: Spread.of(values) for name, values in whole.items()}
    shares = (ratio(projection, image), ratio(pair, image), ratio(pair, singles))
    return ImageCost(sampling, shape, seconds, *shares, result.peak)


def stacked_cost(
    diffuser: Diffuser,
    projector: NoiseProjector,
    prompt: str,
    stacks: Mapping[str, int],
    sampling: Sampling,
    repeats: int = 3,
    stop: Stop = None,
    on_progress: Count = None,
) -> dict[str, Spread]:
    """Time an image of a network of which this machine holds a few blocks of each stack: seconds of projector, denoising,
    decoding and image (without text), and share, the projector's of the image.

    stacks: lists of blocks of the denoiser, of which two or more are there, and how many the whole network has. A step of
    the whole is composed of a step with one block of each and, for each stack, of what a second block adds, as often as there
    are more.
    """
    shape = diffuser.latent_shape(sampling.height, sampling.width)
    device = next(projector.eval().parameters()).device
    text, noise = diffuser.encode([prompt]), draw([0], shape)

    @torch.no_grad()
    def project() -> Tensor:
        xi = second([0], shape).to(device)
        return projector.project(noise.to(device), text.hidden.to(device), text.mask.to(device), xi).cpu()

    def step(more: str) -> Callable[[], None]:
        def work() -> None:
            with shortened(diffuser.denoiser, {name: 2 if name == more else 1 for name in stacks}):
                diffuser.sample(text, noise, 1, sampling.guidance, stop=stop)

        return work

    works: dict[str, Callable[[], object]] = {
        "projector": project, "decoding": lambda: diffuser.decode(noise), "": step(""), **{n: step(n) for n in stacks}
    }  # fmt: skip
    timed = rounds(works, repeats, diffuser.device, stop, on_progress).seconds
    one = np.asarray(timed[""])
    whole = one + sum((count - 1) * (np.asarray(timed[name]) - one) for name, count in stacks.items())
    seconds = {name: np.asarray(timed[name]) for name in ("projector", "decoding")}
    seconds["denoising"] = whole * sampling.steps
    seconds["image"] = seconds["denoising"] + seconds["decoding"]
    spreads = {name: Spread.of(values.tolist()) for name, values in seconds.items()}
    return {**spreads, "share": ratio(seconds["projector"].tolist(), seconds["image"].tolist())}


@contextmanager
def shortened(network: torch.nn.Module, counts: Mapping[str, int]) -> Iterator[None]:
    """A network with the first blocks of its lists alone, while the block runs."""
    lists = {name: getattr(network, name) for name in counts}
    try:
        for name, count in counts.items():
            setattr(network, name, lists[name][:count])
        yield
    finally:
        for name, blocks in lists.items():
            setattr(network, name, blocks)


def scoring_cost(
    scorer: Scorer,
    images: np.ndarray,
    prompts: Sequence[str],
    device: torch.device | str = "cpu",
    repeats: int = 5,
    stop: Stop = None,
    on_progress: Count = None,
) -> dict[str, Any]:
    """Time the scoring of images uint8 (B, H, W, 3) in one batch: {images, words, per_image, per_word, peak}."""
    words = 0

    def score() -> None:
        nonlocal words
        words = sum(map(len, scorer.score(images, prompts, batch=len(prompts), stop=stop)))

    result = rounds({"scoring": score}, repeats, device, stop, on_progress)
    seconds = result.seconds["scoring"]
    if not words:
        raise ValueError("No word of these prompts was scored: give prompts that name things.")
    return {
        "images": len(prompts),
        "words": words,
        "per_image": Spread.of([value / len(prompts) for value in seconds]),
        "per_word": Spread.of([value / words for value in seconds]),
        "peak": result.peak["scoring"],
    }


def training_cost(
    reward: RewardModel,
    projector: NoiseProjector,
    texts: Texts,
    shape: Shape,
    batches: tuple[int, int],
    steps: int = 5,
    stop: Stop = None,
    on_progress: Count = None,
) -> dict[str, dict[str, Any]]:
    """Time steps of the training loops of both models, whose weights change, at batches (reward, projector), on random scores
    and pictures: {reward, projector: {batch, steps_per_second: Spread, peak: bytes}}."""
    device, count, draws = (
        next(reward.parameters()).device,
        WARM_STEPS + steps,
        torch.Generator().manual_seed(0),
    )
    samples = []
    for seed, row in zip(range(batches[0]), cycle(range(len(texts.prompts))), strict=False):
        words = texts.scored[row].nonzero().flatten().tolist()
        labels = {j: (int(torch.randint(10, (1,), generator=draws)), 1.0) for j in words}
        picture = torch.randn(shape, generator=draws)
        samples.append(Sample(texts.prompts[row], seed, labels, picture=picture))
    data = RewardData.build(samples, texts, shape)
    trainings = {
        "reward": lambda watch: train_reward(
            reward, data, config=RewardConfig(steps=count, batch=batches[0]), on_progress=watch, stop=stop
        ),
        "projector": lambda watch: train_projector(
            projector, reward, texts, shape, ProjectorConfig(steps=count, batch=batches[1]),
            on_progress=watch, stop=stop,
        ),
    }  # fmt: skip
    result: dict[str, dict[str, Any]] = {}
    for (name, train), batch in zip(trainings.items(), batches, strict=True):
        ends: list[float] = []

        def watch(progress: Progress, ends: list[float] = ends, done: int = len(result) * count) -> None:
            synchronise(device)
            ends.append(time.perf_counter())
            if on_progress:
                on_progress(done + progress.step, 2 * count)

        with peak(device) as memory:
            if train(watch).fit.stopped:
                raise Stopped
        rates = [1 / (b - a) for a, b in pairwise(ends[WARM_STEPS - 1 :])]
        result[name] = {"batch": batch, "steps_per_second": Spread.of(rates), "peak": memory.bytes}
    return result
