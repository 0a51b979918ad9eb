"""A method: a way to spend a budget on one image of a prompt and a base seed, behind one call.

A method has two steps: `start` returns the noise to denoise, and `denoise` makes latents of it. A method that changes
only one of them wraps a base and leaves the other to it, so any two combine: "pag + projected" is PAG on the projector's
noise. Names are read from the outside in.

Dimension key: B batch, C latent channels, H W latent height and width, S image side.

Costs are counted alike for all: `network_calls` is the number of items that went through the diffuser's network (40 for
an image of 20 steps with classifier-free guidance), counted at the network itself; forwards of the projector, the reward
model and the scorer are counted separately, an item each.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from core.diffusion import Diffuser, Text
from core.evaluation.memory import peak
from core.noise import Shape, check_seeds, draw
from core.progress import Stop


@dataclass
class MethodResult:
    """One image per prompt and base seed: images uint8 (B, S, S, 3); latents and noise (B, C, H, W), noise being what was
    denoised, and the seeds that it was drawn from; seconds and network_calls of the whole batch; other_calls, items
    forwarded by name; peak_memory in bytes, None where the system does not report it (core.evaluation.memory)."""

    images: np.ndarray
    latents: Tensor
    noise: Tensor
    seeds: list[int]
    seconds: float
    network_calls: int
    other_calls: Counter[str] = field(default_factory=Counter)
    peak_memory: int | None = None


@dataclass(frozen=True)
class Settings:
    """Sampling settings that all methods of a comparison share."""

    steps: int = 20
    guidance: float = 4.0
    height: int | None = None
    width: int | None = None
    batch: int = 16  # images made at once


DEFAULT = Settings()


@dataclass
class Start:
    """Noise (B, C, H, W) to denoise, the seed that each item was drawn from, and the forwards that it took, by name."""

    noise: Tensor
    seeds: list[int]
    calls: Counter[str] = field(default_factory=Counter)


class Method:
    """Plain sampling from the seed's own noise: the baseline "none", and the base of the other methods."""

    chooses = False  # whether it chooses among finished images, so that no other method can wrap it
    moves = False  # whether it starts from other noise than the seed's own

    def __init__(self, name: str = "none") -> None:
        self.name = name

    @property
    def fingerprint(self) -> str:
        """Changes when the method would make other images; resuming an experiment relies on it."""
        return self.name

    def check(self, diffuser: Diffuser, settings: Settings = DEFAULT) -> None:
        """ValueError with a sentence where the method does not work on this backbone."""

    def start(self, text: Text, seeds: list[int], shape: Shape) -> Start:
        """Draw the noise of each item."""
        return Start(draw(seeds, shape), seeds)

    def denoise(
        self, diffuser: Diffuser, text: Text, start: Start, settings: Settings = DEFAULT, stop: Stop = None
    ) -> Tensor:
        """Denoise `start` under text (B prompts): latents (B, C, H, W). Raises Stopped when `stop()` is true."""
        steps, guidance = settings.steps, settings.guidance
        return diffuser.sample(text, start.noise, steps, guidance, stop=stop, seeds=start.seeds)

    def run(
        self,
        diffuser: Diffuser,
        prompts: Sequence[str],
        seeds: Sequence[int],
        settings: Settings = DEFAULT,
        stop: Stop = None,
    ) -> MethodResult:
        """Make one image for each of B prompts and B base seeds. Raises Stopped when `stop()` is true."""
        seeds = check_seeds(seeds)
        if len(prompts) != len(seeds):
            raise ValueError(f"{len(prompts)} prompts but {len(seeds)} seeds: give one seed a prompt.")
        if settings.batch < 1:
            raise ValueError(f"batch is {settings.batch}: make 1 or more images at a time.")
        began, tally = time.perf_counter(), [0]
        unique, shape = list(dict.fromkeys(prompts)), diffuser.latent_shape(settings.height, settings.width)
        used: list[int] = []
        images: list[np.ndarray] = []
        made: list[tuple[Tensor, Tensor]] = []
        other_calls: Counter[str] = Counter()
        with peak(diffuser.device) as memory:
            text = diffuser.encode(unique)
            for at in range(0, len(seeds), settings.batch):
                rows = text.take([unique.index(p) for p in prompts[at : at + settings.batch]])
                start = self.start(rows, seeds[at : at + settings.batch], shape)
                used += start.seeds
                other_calls.update(start.calls)
                with counted(diffuser.denoiser, tally):  # a teacher's calls are counted in `start`
                    latents = self.denoise(diffuser, rows, start, settings, stop)
                images.append(diffuser.decode(latents))
                made.append((latents.cpu(), start.noise.cpu()))
        latents, noise = (torch.cat(tensors) for tensors in zip(*made, strict=True))
        pictures, seconds = np.concatenate(images), time.perf_counter() - began
        return MethodResult(pictures, latents, noise, used, seconds, tally[0], other_calls, memory.bytes)


class Wrapper(Method):
    """A method around a base: what a subclass does not override is the base's."""

    def __init__(self, name: str, base: Method | None = None) -> None:
        self.base = base or Method()
        if self.base.chooses:
            raise ValueError(
                f"{self.base.name} chooses among finished images, so {name} cannot go around it: put the best-of-N first."
            )
        super().__init__(joined(name, self.base))
        self.moves = self.moves or self.base.moves

    @property
    def change(self) -> str:
        """The fingerprint of what it changes."""
        raise NotImplementedError

    @property
    def fingerprint(self) -> str:
        return self.change if type(self.base) is Method else f"{self.change}:{self.base.fingerprint}"

    def check(self, diffuser: Diffuser, settings: Settings = DEFAULT) -> None:
        self.base.check(diffuser, settings)

    def start(self, text: Text, seeds: list[int], shape: Shape) -> Start:
        return self.base.start(text, seeds, shape)

    @contextmanager
    def changed(self, diffuser: Diffuser) -> Iterator[Any]:
        """The diffuser that the base denoises with."""
        yield diffuser

    def denoise(
        self, diffuser: Diffuser, text: Text, start: Start, settings: Settings = DEFAULT, stop: Stop = None
    ) -> Tensor:
        with self.changed(diffuser) as changed:
            return self.base.denoise(changed, text, start, settings, stop)


def joined(name: str, base: Method) -> str:
    """The name of a method around a base."""
    return name if type(base) is Method else f"{name} + {base.name}"


@contextmanager
def counted(denoiser: torch.nn.Module, tally: list[int]) -> Iterator[None]:
    """Add to tally[0] the items that pass the denoising network while the block runs."""

    def hook(_module: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        name = "sample" if "sample" in kwargs else "hidden_states"
        tally[0] += len(args[0] if args else kwargs[name])

    handle = denoiser.register_forward_pre_hook(hook, with_kwargs=True)
    try:
        yield
    finally:
        handle.remove()
