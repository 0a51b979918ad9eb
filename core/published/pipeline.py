"""The projection in a diffusers pipeline of any class: its own noise, drawn as always, is projected before denoising."""

from __future__ import annotations

import inspect
from typing import Any

from torch import Tensor

from core.families import Family, latent_shape, text_of
from core.networks.projector import NoiseProjector
from core.noise import check_strength, generators
from core.published.drawing import projected_noise, prompts_of


class Projecting:
    """A base of pipelines, before a diffusers class: class Projected(Projecting, StableDiffusionXLPipeline). family: its
    description."""

    family: Family
    projector: NoiseProjector | None = None
    _prompts: tuple[Any, ...] = (None,)
    _strength = 1.0
    _states: Any = ()

    def load_projector(self, source: str, **options: Any) -> None:
        """Load the projector of a published folder or of a repository of the Hub."""
        self.projector = NoiseProjector.from_pretrained(source, subfolder="projector", **options)

    def __call__(
        self, prompt: Any = None, *, seed: Any = None, projection_strength: float = 1.0, **options: Any
    ) -> Any:
        """The pipeline's call. seed: a whole number, or one for each image, in place of a generator. projection_strength:
        from 0 (off) to 1. Latents that are given are not projected."""
        if seed is not None:
            options["generator"] = generators(seed)
        self._prompts = (prompt, options.get("prompt_2"), options.get("prompt_3"))
        self._strength = check_strength(projection_strength)
        try:
            return super().__call__(prompt=prompt, **options)  # type: ignore[misc]
        finally:
            self._prompts, self._states = (None,), ()

    def encode_prompt(self, *args: Any, **options: Any) -> Any:
        """The pipeline's own, whose first hidden states are kept for the projection: some encode a negative prompt after."""
        states = super().encode_prompt(*args, **options)  # type: ignore[misc]
        self._states = self._states or states
        return states

    def prepare_latents(self, *args: Any, **options: Any) -> Any:
        """The pipeline's own, from projected noise."""
        prepare = super().prepare_latents  # type: ignore[misc]
        call = inspect.signature(prepare).bind(*args, **options)
        call.apply_defaults()
        given = call.arguments
        if given["latents"] is None:
            size = latent_shape(self.family, self, given["height"], given["width"])
            noise = projected_noise(
                self.projector, (given["batch_size"], *size), given["generator"], self._text, self._strength,
                given["device"],
            )  # fmt: skip
            given["latents"] = self.family.pack(noise.to(given["dtype"]))
        return prepare(*call.args, **call.kwargs)

    def _text(self) -> tuple[Tensor, Tensor]:
        states = dict(zip(self.family.encoded, self._states, strict=False))
        return text_of(self.family, self, prompts_of(*self._prompts), states)
