"""The methods that are compared: none, projected, best-of-N, best-noise-of-N, guidance and fine-tuning.

Dimension key: B batch, C latent channels, H W latent height and width, N candidates.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from core.diffusion import Diffuser, Text
from core.evaluation.base import DEFAULT, Method, Settings, Start, Wrapper, joined
from core.evaluation.choosing import NoiseChooser, candidate, check_count, weights_digest
from core.guiders import GUIDERS, check_guidance, guidance_at
from core.noise import Shape, check_strength, second

if TYPE_CHECKING:  # diffusers takes seconds to import, and is not needed to name methods
    from core.adapter import Adapter
    from core.networks.projector import NoiseProjector


class Projected(Wrapper):
    """The base's noise, projected at a strength in [0, 1]; 0 makes the images of its base, bit for bit."""

    moves = True

    def __init__(
        self, projector: NoiseProjector, strength: float = 1.0, name: str = "", base: Method | None = None
    ) -> None:
        super().__init__(name or ("projected" if strength == 1 else f"projected-{strength:g}"), base)
        self.projector, self.strength = projector.eval(), check_strength(strength)

    @property
    def change(self) -> str:
        return f"{self.strength:g}:{weights_digest(self.projector)}"

    @torch.no_grad()
    def start(self, text: Text, seeds: list[int], shape: Shape) -> Start:
        start = self.base.start(text, seeds, shape)
        if self.strength == 0:
            return start
        device, xi = next(self.projector.parameters()).device, second(start.seeds, shape)
        hidden, mask = text.hidden.to(device), text.mask.to(device)
        noise = self.projector.project(start.noise.to(device), hidden, mask, xi.to(device), self.strength)
        return Start(noise.cpu(), start.seeds, start.calls + Counter(projector=len(seeds)))


class BestOfNoise(Wrapper):
    """The base's noise that a chooser scores highest among N seeds, before any denoising; one image is made."""

    moves = True

    def __init__(self, n: int, chooser: NoiseChooser, base: Method | None = None, name: str = "") -> None:
        super().__init__(name or f"best-noise-of-{n}", base)
        self.n, self.chooser = check_count(n), chooser

    @property
    def change(self) -> str:
        return f"{self.n}:{self.chooser.fingerprint}"

    def start(self, text: Text, seeds: list[int], shape: Shape) -> Start:
        starts = [self.base.start(text, [candidate(seed, k) for seed in seeds], shape) for k in range(self.n)]
        scores = np.stack([np.asarray(self.chooser(start.noise, text), np.float64) for start in starts])
        best = [starts[k] for k in scores.argmax(0)]
        calls = sum((start.calls for start in starts), Counter({self.chooser.calls: scores.size}))
        noise = torch.stack([start.noise[item] for item, start in enumerate(best)])
        return Start(noise, [start.seeds[item] for item, start in enumerate(best)], calls)


class BestOf(Method):
    """The image that the scorer of an experiment scores highest among N seeds of a base method: taken from the images of
    the base (core.evaluation.report), and charged what N images and N scorings cost."""

    chooses = True

    def __init__(self, n: int, base: Method | None = None) -> None:
        self.base = base or Method()
        super().__init__(joined(f"best-of-{n}", self.base))
        self.n = check_count(n)

    @property
    def fingerprint(self) -> str:
        return f"{self.n}:{self.base.fingerprint}:"

    def check(self, diffuser: Diffuser, settings: Settings = DEFAULT) -> None:
        self.base.check(diffuser, settings)

    def start(self, text: Text, seeds: list[int], shape: Shape) -> Start:
        raise ValueError(f"{self.name} makes no images: it chooses among those of {self.base.name}.")


class Guidance(Wrapper):
    """The base, denoised under another guidance than that of the pipeline: a kind of core.guiders."""

    def __init__(self, kind: str, scale: float | None = None, base: Method | None = None) -> None:
        self.kind, self.scale = kind, check_guidance(kind, scale)
        if base and any(isinstance(inner, Guidance) for inner in around(base)):
            raise ValueError(f"{kind} and {base.name} are both guidance: take one of them.")
        name = kind if scale is None else f"{kind}-{scale:g}"
        note = GUIDERS[kind].note
        super().__init__(f"{name} ({note})" if note else name, base)

    @property
    def change(self) -> str:
        return f"{self.kind}:{self.scale}"

    def check(self, diffuser: Diffuser, settings: Settings = DEFAULT) -> None:
        with self.changed(diffuser) as changed:
            changed.check(float(settings.guidance))
        super().check(diffuser, settings)

    @contextmanager
    def changed(self, diffuser: Diffuser) -> Iterator[Any]:
        from core.guidance import Guided

        yield Guided(diffuser, self.kind, self.scale)


class Tuned(Wrapper):
    """The base, by a fine-tuned denoiser: a LoRA adapter is enabled while its images are made."""

    def __init__(self, adapter: Adapter, name: str = "lora", base: Method | None = None) -> None:
        super().__init__(name, base)
        self.adapter = adapter

    @property
    def change(self) -> str:
        return self.adapter.sha256[:16]

    def check(self, diffuser: Diffuser, settings: Settings = DEFAULT) -> None:
        self.adapter.check_fits(diffuser)
        super().check(diffuser, settings)

    @contextmanager
    def changed(self, diffuser: Diffuser) -> Iterator[Any]:
        with self.adapter.on(diffuser):
            yield diffuser


def guidance_of(method: Method, guidance: float) -> float:
    """The guidance that a method's images have, where that of the sampling is `guidance`."""
    for inner in around(method):
        if isinstance(inner, Guidance):
            return guidance_at(inner.kind, inner.scale, guidance)
    return guidance


def around(method: Method) -> list[Method]:
    """A method, its base, the base's base and so on."""
    base = getattr(method, "base", None)
    return [method, *around(base)] if base else [method]
