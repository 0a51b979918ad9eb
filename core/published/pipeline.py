"""The projection in a diffusers pipeline of any class: its own noise, drawn as always, is projected before denoising."""

from __future__ import annotations

import inspect
from typing import Any

from torch import Tensor

from core.families import token_mask
from core.networks.projector import NoiseProjector
from core.noise import check_strength, generators
from core.published.drawing import projected_noise, prompts_of


class Projecting:
    """A base of pipelines, before a diffusers class: class Projected(Projecting, StableDiffusionXLPipeline).

    encoded: the values that the pipeline's `encode_prompt` returns, in order; tokenizers: their names, for the mask where
    it returns none.
    """

    encoded: tuple[str, ...] = ("hidden",)
    tokenizers: tuple[str, ...] = ("tokenizer",)
    projector: NoiseProjector | None = None
    _prompt: Any = None
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
        self._prompt, self._strength = prompt, check_strength(projection_strength)
        try:
            return super().__call__(prompt=prompt, **options)  # type: ignore[misc]
        finally:
            self._prompt, self._states = None, ()

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
            pipe: Any = self
            size = (int(given[side]) // pipe.vae_scale_factor for side in ("height", "width"))
            shape = (given["batch_size"], pipe.vae.config.latent_channels, *size)
            noise = projected_noise(
                self.projector, shape, given["generator"], self._text, self._strength, given["device"]
            )
            given["latents"] = noise.to(given["dtype"])
        return prepare(*call.args, **call.kwargs)

    def _text(self) -> tuple[Tensor, Tensor]:
        prompts, states = prompts_of(self._prompt), dict(zip(self.encoded, self._states, strict=False))
        hidden, mask = states["hidden"], states.get("mask")
        if mask is None:
            tokenizers = [getattr(self, name) for name in self.tokenizers]
            mask = token_mask(tokenizers, prompts, hidden.shape[1])
        return hidden, mask
