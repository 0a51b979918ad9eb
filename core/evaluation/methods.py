"""The methods that are compared: none, projected, best-of-N, best-noise-of-N, guidance and fine-tuning.

Dimension key: B batch, C latent channels, H W latent height and width, S image side, N candidates.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from core.diffusion import Diffuser, OnStep, Text
from core.evaluation.base import (
    DEFAULT,
    Method,
    MethodResult,
    Settings,
    Start,
    Wrapper,
    add,
    counted,
    joined,
)
from core.evaluation.choosing import (
    ImageChooser,
    NoiseChooser,
    Scorer,
    by_reward,
    by_scorer,
    by_teacher,
    candidate,
    check_count,
    predict,
    weights_digest,
    whole,
)
from core.evaluation.memory import peak
from core.noise import check_seeds, check_strength, second

if TYPE_CHECKING:  # who only names methods does not wait for diffusers
    from core.networks.projector import NoiseProjector
    from core.training.lora import Adapter

__all__ = [
    "DEFAULT", "BestOf", "BestOfNoise", "Guidance", "ImageChooser", "Method", "MethodResult", "NoiseChooser", "Projected",
    "Scorer", "Settings", "Start", "Tuned", "Wrapper", "best_noise_of", "best_of", "by_reward", "by_scorer", "by_teacher", "candidate",
    "counted", "guided", "none", "predict", "projected", "tuned", "weights_digest", "whole",
]  # fmt: skip


class Projected(Wrapper):
    """The base's noise, projected at a strength."""

    def __init__(
        self,
        projector: NoiseProjector,
        strength: float = 1.0,
        name: str | None = None,
        base: Method | None = None,
    ) -> None:
        super().__init__(name or ("projected" if strength == 1 else f"projected-{strength:g}"), base)
        self.projector, self.strength = projector.eval(), check_strength(strength)

    @property
    def own(self) -> str:
        return f"{self.strength:g}:{weights_digest(self.projector)}"

    @property
    def moves(self) -> bool:
        return True

    @torch.no_grad()
    def start(self, text: Text, seeds: list[int], shape: tuple[int, int, int]) -> Start:
        begin = self.base.start(text, seeds, shape)
        if self.strength == 0:
            return begin
        place, xi = next(self.projector.parameters()).device, second(begin.seeds, shape)
        hidden, mask = text.hidden.to(place), text.mask.to(place)
        noise = self.projector.project(begin.noise.to(place), hidden, mask, xi.to(place), self.strength)
        return Start(noise.cpu(), begin.seeds, add(begin.calls, {"projector": len(seeds)}))


class BestOfNoise(Wrapper):
    """The base's noise that a reward model, or its teacher, likes best among N seeds, before any denoising; one image is made."""

    def __init__(
        self, n: int, chooser: NoiseChooser, name: str | None = None, base: Method | None = None
    ) -> None:
        super().__init__(name or f"best-noise-of-{n}", base)
        self.n, self.chooser = check_count(n), chooser

    @property
    def own(self) -> str:
        return f"{self.n}:{getattr(self.chooser, 'fingerprint', self.name)}"

    @property
    def moves(self) -> bool:
        return True

    def start(self, text: Text, seeds: list[int], shape: tuple[int, int, int]) -> Start:
        tried = [self.base.start(text, [candidate(seed, k) for seed in seeds], shape) for k in range(self.n)]
        scores = np.stack([np.asarray(self.chooser(one.noise, text), np.float64) for one in tried])
        picks = [tried[k] for k in scores.argmax(0)]
        calls = {getattr(self.chooser, "calls", "reward"): scores.size}
        for one in tried:
            add(calls, one.calls)
        noise = torch.stack([one.noise[item] for item, one in enumerate(picks)])
        return Start(noise, [one.seeds[item] for item, one in enumerate(picks)], calls)


class BestOf(Method):
    """The image that a chooser likes best among N seeds of a base method; N images are made.

    Without a chooser it stands for best-of-N by the scorer of an experiment, taken from the images of its base.
    """

    chooses = True

    def __init__(
        self, n: int, chooser: ImageChooser | None = None, base: Method | None = None, name: str | None = None
    ) -> None:
        self.base = base or Method()
        super().__init__(joined(name or f"best-of-{n}", self.base))
        self.n, self.chooser = check_count(n), chooser

    @property
    def fingerprint(self) -> str:
        return f"{self.n}:{self.base.fingerprint}:{getattr(self.chooser, 'fingerprint', '')}"

    @property
    def moves(self) -> bool:
        return True

    def check(self, diffuser: Diffuser, settings: Settings = DEFAULT) -> None:
        self.base.check(diffuser, settings)

    def start(self, text: Text, seeds: list[int], shape: tuple[int, int, int]) -> Start:
        raise ValueError(f"{self.name} has no noise of its own: it chooses among finished images, by `run`.")

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
        with peak(diffuser.device) as memory:
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
            memory.bytes,
        )


class Guidance(Wrapper):
    """The base, denoised under another guidance than classifier-free guidance alone (core.guidance)."""

    def __init__(self, kind: str, scale: float | None = None, base: Method | None = None) -> None:
        from core.guidance import check_guidance

        self.kind, self.scale = kind, check_guidance(kind, scale)
        if any(isinstance(inner, Guidance) for inner in around(base)):
            raise ValueError(f"{kind} and {base.name} are both guidance: take one of them.")
        name = kind if scale is None else f"{kind}-{scale:g}"
        super().__init__(f"{name} (layer drop)" if kind == "autoguidance" else name, base)

    @property
    def own(self) -> str:
        return f"{self.kind}:{self.scale}"

    def check(self, diffuser: Diffuser, settings: Settings = DEFAULT) -> None:
        self._guided(diffuser).check(float(settings.guidance))
        super().check(diffuser, settings)

    def denoise(
        self,
        diffuser: Diffuser,
        text: Text,
        start: Start,
        settings: Settings = DEFAULT,
        on_step: OnStep | None = None,
        stop: Callable[[], bool] | None = None,
    ) -> Tensor:
        return super().denoise(self._guided(diffuser), text, start, settings, on_step, stop)

    def _guided(self, diffuser: Diffuser) -> Diffuser:
        from core.guidance import Guided

        return Guided(diffuser, self.kind, self.scale)


class Tuned(Wrapper):
    """The base, by a fine-tuned denoiser: a LoRA adapter is on while its images are made."""

    def __init__(self, adapter: Adapter, name: str = "lora", base: Method | None = None) -> None:
        super().__init__(name, base)
        self.adapter = adapter

    @property
    def own(self) -> str:
        return self.adapter.sha256[:16]

    def check(self, diffuser: Diffuser, settings: Settings = DEFAULT) -> None:
        self.adapter.check_fits(diffuser)
        super().check(diffuser, settings)

    def denoise(
        self,
        diffuser: Diffuser,
        text: Text,
        start: Start,
        settings: Settings = DEFAULT,
        on_step: OnStep | None = None,
        stop: Callable[[], bool] | None = None,
    ) -> Tensor:
        with self.adapter.on(diffuser):
            return super().denoise(diffuser, text, start, settings, on_step, stop)


def none() -> Method:
    """No projection: the honest baseline."""
    return Method()


def projected(
    projector: NoiseProjector, strength: float = 1.0, name: str | None = None, base: Method | None = None
) -> Method:
    """The projector's noise at a strength in [0, 1]; 0 gives the images of its base, bit for bit."""
    return Projected(projector, strength, name, base)


def best_of(n: int, chooser: ImageChooser | None = None, base: Method | None = None) -> Method:
    """Best of n images, by a chooser of images or (without one) by the scorer of an experiment."""
    return BestOf(n, chooser, base)


def best_noise_of(
    n: int, chooser: NoiseChooser, base: Method | None = None, name: str | None = None
) -> Method:
    """Best of n noises by a chooser that sees no image (a reward model, or its teacher); one image is made."""
    return BestOfNoise(n, chooser, name, base)


def guided(kind: str, scale: float | None = None, base: Method | None = None) -> Method:
    """pag or autoguidance, at a scale of its own or the default (core.guidance.SCALES)."""
    return Guidance(kind, scale, base)


def tuned(adapter: Adapter, name: str = "lora", base: Method | None = None) -> Method:
    """A LoRA adapter's images."""
    return Tuned(adapter, name, base)


def around(method: Method | None) -> list[Method]:
    """A method, its base, the base's base and so on."""
    return [] if method is None else [method, *around(getattr(method, "base", None))]
