"""What a method is: a way to spend a budget on one image of a prompt and a base seed, behind one call.

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
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from core.diffusion import Diffuser, Text
from core.evaluation.memory import peak
from core.noise import check_seeds, draw


@dataclass
class MethodResult:
    """One image per prompt and base seed.

    images uint8 (B, S, S, 3); latents and noise (B, C, H, W), noise being what was denoised; seeds: those that the noise
    was drawn from; seconds and network_calls of the whole batch; other_calls: items forwarded, by name; peak_memory in
    bytes, None where the system does not report it (see core.evaluation.memory).
    """

    images: np.ndarray
    latents: Tensor
    noise: Tensor
    seeds: list[int]
    seconds: float
    network_calls: int
    other_calls: dict[str, int] = field(default_factory=dict)
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
    calls: dict[str, int] = field(default_factory=dict)


class Method:
    """Plain sampling from the seed's own noise: the baseline "none", and the base of the other methods."""

    chooses = False  # whether it chooses among finished images, so that no other method can wrap it

    def __init__(self, name: str = "none") -> None:
        self.name = name

    @property
    def fingerprint(self) -> str:
        """Changes when the method would make other images; resuming an experiment relies on it."""
        return self.name

    @property
    def moves(self) -> bool:
        """Whether it starts from other noise than the seed's own."""
        return False

    def check(self, diffuser: Diffuser, settings: Settings = DEFAULT) -> None:
        """ValueError with a sentence where the method does not work on this backbone."""

    def start(self, text: Text, seeds: list[int], shape: tuple[int, int, int]) -> Start:
        """The noise of each item."""
        return Start(draw(seeds, shape), seeds)

    def denoise(
        self,
        diffuser: Diffuser,
        text: Text,
        start: Start,
        settings: Settings = DEFAULT,
        stop: Callable[[], bool] | None = None,
    ) -> Tensor:
        """Latents (B, C, H, W) from the noise of `start`, under text (B prompts). Raises Stopped when `stop()` is true."""
        return diffuser.sample(
            text, start.noise, settings.steps, settings.guidance, stop=stop, seeds=start.seeds
        )

    def run(
        self,
        diffuser: Diffuser,
        prompts: Sequence[str],
        seeds: Sequence[int],
        settings: Settings = DEFAULT,
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
        began, tally = time.perf_counter(), [0]
        other: dict[str, int] = {}
        unique = list(dict.fromkeys(prompts))
        shape = diffuser.latent_shape(settings.height, settings.width)
        used: list[int] = []
        made: list[tuple[np.ndarray, Tensor, Tensor]] = []
        with peak(diffuser.device) as memory:
            text = diffuser.encode(unique)
            for at in range(0, len(seeds), settings.batch):
                rows = text.take([unique.index(p) for p in prompts[at : at + settings.batch]])
                start = self.start(rows, seeds[at : at + settings.batch], shape)
                used += start.seeds
                add(other, start.calls)
                with counted(diffuser.denoiser, tally):  # a teacher's calls are counted in `start`
                    latents = self.denoise(diffuser, rows, start, settings, stop)
                made.append((diffuser.decode(latents), latents.cpu(), start.noise.cpu()))
        images, latents, noise = zip(*made, strict=True)
        return MethodResult(
            np.concatenate(images),
            torch.cat(latents),
            torch.cat(noise),
            used,
            time.perf_counter() - began,
            tally[0],
            other,
            memory.bytes,
        )


class Wrapper(Method):
    """A base that is changed in one respect: what a subclass does not override is the base's."""

    def __init__(self, name: str, base: Method | None = None) -> None:
        self.base = base or Method()
        if self.base.chooses:
            raise ValueError(
                f"{self.base.name} chooses among finished images, so {name} cannot go around it: put the best-of-N first."
            )
        super().__init__(joined(name, self.base))

    @property
    def change(self) -> str:
        """The fingerprint of what it changes."""
        raise NotImplementedError

    @property
    def fingerprint(self) -> str:
        return self.change if plain(self.base) else f"{self.change}:{self.base.fingerprint}"

    @property
    def moves(self) -> bool:
        return self.base.moves

    def check(self, diffuser: Diffuser, settings: Settings = DEFAULT) -> None:
        self.base.check(diffuser, settings)

    def start(self, text: Text, seeds: list[int], shape: tuple[int, int, int]) -> Start:
        return self.base.start(text, seeds, shape)

    @contextmanager
    def changed(self, diffuser: Diffuser) -> Iterator[Any]:
        """The diffuser that the base denoises with."""
        yield diffuser

    def denoise(
        self,
        diffuser: Diffuser,
        text: Text,
        start: Start,
        settings: Settings = DEFAULT,
        stop: Callable[[], bool] | None = None,
    ) -> Tensor:
        with self.changed(diffuser) as changed:
            return self.base.denoise(changed, text, start, settings, stop)


def plain(method: Method) -> bool:
    """Whether a method is plain sampling."""
    return type(method) is Method


def joined(name: str, base: Method) -> str:
    """The name of a method around a base."""
    return name if plain(base) else f"{name} + {base.name}"


@contextmanager
def counted(denoiser: torch.nn.Module, tally: list[int]) -> Iterator[None]:
    """Adds to tally[0] the items that pass the denoising network while the block runs."""

    def hook(_module: Any, args: tuple, kwargs: dict[str, Any]) -> None:
        items = args[0] if args else kwargs.get("sample", kwargs.get("hidden_states"))
        tally[0] += items.shape[0]

    handle = denoiser.register_forward_pre_hook(hook, with_kwargs=True)
    try:
        yield
    finally:
        handle.remove()


def add(sums: dict[str, int], more: dict[str, int]) -> dict[str, int]:
    """Add counts by name to `sums`, and return it."""
    for name, count in more.items():
        sums[name] = sums.get(name, 0) + count
    return sums
