"""The frozen diffuser G: a diffusers pipeline in its parts.

Encode the prompts, sample from given latents, decode. The only randomness of an image is its seed: samplers are
deterministic (eta = 0), and one that draws noise at every step (LCM, Euler ancestral) draws each item's from the third
stream of the item's seed. So the same noise, seed, text and settings give the same image, whatever else is in the
batch. Differences between backbones are described in `core.families` and nowhere else.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from core.families import Family, ModelError, family_of, relative_of, sampling
from core.loading import load_pipeline, upcast
from core.noise import Shape, check_seeds, third
from core.progress import Stop, Stopped
from core.words import EXTRA, Located, Word, check_prompt, locate, units, weights

if TYPE_CHECKING:
    from diffusers import ModelMixin

OnStep = Callable[[int, int, Tensor], None]
"""Called with the step, from 1, the total of steps, and the latents."""

Denoise = Callable[[dict[str, Any], float, OnStep], Tensor]
"""Arguments of a pipeline's call, the guidance and a callback after every call of the network -> latents (B, C, H, W)."""

DECODE = 2**20  # pixels decoded at once
__all__ = ["Diffuser", "ModelError", "OnStep", "Text", "to_uint8"]


@dataclass
class Text:
    """Encoded prompts, c of a batch: hidden (B, L, D), mask (B, L) bool, True at real tokens; words (B, J, L), averaging
    weights of every word over its sub-tokens, zero rows as padding; pooled (B, P) and the negatives where the pipeline has
    them; emphasis (B, L), the weights of the tokens in sampling, where prompts have some (`core.options`)."""

    prompts: list[str]
    hidden: Tensor
    mask: Tensor
    words: Tensor
    word_lists: list[list[Word]]
    located: list[list[Located]]
    pooled: Tensor | None = None
    negative: Tensor | None = None
    negative_pooled: Tensor | None = None
    emphasis: Tensor | None = None

    def __len__(self) -> int:
        return len(self.prompts)

    def take(self, indices: Sequence[int]) -> Text:
        """Select the text of the prompts at `indices`, repeats allowed."""
        rows = list(indices)

        def select(value: Any) -> Any:
            if isinstance(value, list):
                return [value[i] for i in rows]
            return None if value is None else value[rows]

        return Text(**{field.name: select(getattr(self, field.name)) for field in fields(self)})


class Diffuser:
    """A frozen text-to-image pipeline in its parts.

    size: the default (height, width) in pixels; None is the one the model was trained for. borrowed: the pipeline is not
    modified, and may be one that needs more than a prompt (ControlNet, img2img, inpaint); only its text encoders and its
    noise are used.
    """

    def __init__(
        self,
        pipe: Any,
        name: str = "",
        revision: str = "",
        size: tuple[int, int] | None = None,
        borrowed: bool = False,
    ) -> None:
        names = [cls.__name__ for cls in type(pipe).__mro__]
        self.family: Family = relative_of(names) if borrowed else family_of(names)
        self.pipe, self.name, self.revision = pipe, name or type(pipe).__name__, revision
        if not borrowed:
            pipe.set_progress_bar_config(disable=True)
            for component in pipe.components.values():
                if isinstance(component, torch.nn.Module):
                    component.requires_grad_(False).eval()
        self._linear: Tensor | None = None
        config = self.denoiser.config
        side = config[self.family.side]
        self.channels = int(pipe.vae.config.latent_channels)  # C
        self.scale = int(pipe.vae_scale_factor)  # pixels a latent position
        self.text_width = int(config[self.family.text_width])  # D of the hidden states that `encode` returns
        # side, in pixels, of the images that the model was trained on
        self.default_size = int(side if isinstance(side, int) else side[0]) * self.scale
        self.size = size or (self.default_size, self.default_size)
        self.latent_shape()  # raises where the size is not possible

    @classmethod
    def load(
        cls,
        source: str | Path,
        device: str | torch.device = "cpu",
        dtype: torch.dtype = torch.float32,
        *,
        revision: str | None = None,
        variant: str | None = None,
        offload: str = "none",
        slicing: bool = False,
        size: tuple[int, int] | None = None,
    ) -> Diffuser:
        """Load a pipeline from a folder or by its hub id (`core.loading`). Raises ModelError with a sentence."""
        pipe, commit = load_pipeline(source, device, dtype, revision, variant, offload, slicing)
        return cls(pipe, Path(source).name if Path(source).is_dir() else str(source), commit, size)

    @property
    def denoiser(self) -> ModelMixin:
        """The denoising network."""
        return getattr(self.pipe, self.family.denoiser)

    @property
    def device(self) -> torch.device:
        """The device of the computation; with offload, weights may be elsewhere."""
        return torch.device(self.pipe._execution_device)

    @property
    def dtype(self) -> torch.dtype:
        """The dtype of the denoiser's latents."""
        return self.denoiser.dtype

    @property
    def text_encoders(self) -> list[torch.nn.Module]:
        """The pipeline's text encoders."""
        return [c for name, c in self.pipe.components.items() if name.startswith("text_encoder") and c]

    @property
    def tokenizers(self) -> list[Any]:
        """The tokenizers, in the order of their text encoders."""
        return [c for name, c in self.pipe.components.items() if name.startswith("tokenizer") and c]

    @property
    def default_steps(self) -> int:
        """Default number of sampling steps of the model."""
        return sampling(self.pipe.scheduler.config, self.denoiser.config).steps

    @property
    def default_guidance(self) -> float:
        """Default guidance of the model; 0 is none."""
        return sampling(self.pipe.scheduler.config, self.denoiser.config).guidance

    @property
    def fingerprint(self) -> str:
        """Changes when the same seed and settings would make another image."""
        height, width = self.size
        return f"{self.revision} {width}x{height} {self.dtype}"

    def latent_shape(self, height: int | None = None, width: int | None = None) -> Shape:
        """(C, H, W) for an image size in pixels, by default `size`; ValueError for sides that are no multiples of 8."""
        height, width = height or self.size[0], width or self.size[1]
        step = math.lcm(8, self.scale * self.family.patch)
        if height < step or width < step or height % step or width % step:
            near = [max(step, round(v / step) * step) for v in (height, width)]
            raise ValueError(
                f"The image size {height}x{width} is not a multiple of {step}: take {near[0]}x{near[1]}, for example."
            )
        return self.channels, height // self.scale, width // self.scale

    @torch.no_grad()
    def encode(self, prompts: Sequence[str], negative: str = "") -> Text:
        """Encode prompts, with one negative prompt for all; ValueError for one that cannot be used."""
        prompts = [check_prompt(prompt) for prompt in prompts]
        if not prompts:
            raise ValueError("There is no prompt: give at least one.")
        against = {"negative_prompt": [negative] * len(prompts)} if negative else {}
        encoded = self.pipe.encode_prompt(
            prompt=prompts, device=self.device, num_images_per_prompt=1, do_classifier_free_guidance=True,
            **dict.fromkeys(self.family.blank), **against,
        )  # fmt: skip
        states = dict(zip(self.family.encoded, encoded, strict=False))
        length = states["hidden"].shape[1]
        mask = self._mask(prompts, length)
        word_lists = [units(prompt) for prompt in prompts]
        located = [locate(self.tokenizers[0], p, w) for p, w in zip(prompts, word_lists, strict=True)]
        table = torch.zeros(len(prompts), max(1, *map(len, word_lists)), length)
        for row, words, places, real in zip(table, word_lists, located, mask.float(), strict=True):
            row[: len(places)] = weights(places, length)
            if words and words[-1].kind == EXTRA:  # it is about the whole prompt
                row[len(words) - 1] = real / real.sum()
        states |= {"mask": mask.to(self.device), "words": table.to(self.device)}
        return Text(prompts, word_lists=word_lists, located=located, **states)

    def _mask(self, prompts: list[str], length: int) -> Tensor:
        """(B, length) bool: True at the real tokens of each tokenizer's stretch of the hidden states."""
        masks, remaining = [], length
        for at, name in enumerate(self.family.tokenizers, 1):
            tokenizer, last = getattr(self.pipe, name), at == len(self.family.tokenizers)
            stretch = remaining if last else min(remaining, tokenizer.model_max_length)
            remaining -= stretch
            if tokenizer is None:  # an omitted text encoder fills its stretch with zeros
                masks.append(torch.zeros(len(prompts), stretch, dtype=torch.bool))
                continue
            window = {"padding": "max_length", "max_length": stretch, "truncation": True}
            masks.append(tokenizer(prompts, return_tensors="pt", **window)["attention_mask"].bool())
        return torch.cat(masks, 1)

    @torch.no_grad()
    def sample(
        self,
        text: Text,
        noise: Tensor,
        steps: int | None = None,
        guidance: float | None = None,
        on_step: OnStep | None = None,
        stop: Stop = None,
        seeds: Sequence[int] | None = None,
        denoise: Denoise | None = None,
    ) -> Tensor:
        """Denoise `noise` (B, C, H, W) under `text` (B prompts): latents (B, C, H, W).

        steps, guidance: the model's defaults where they are None. seeds: of the B items, for samplers that draw noise at
        every step; without them every item draws the same. on_step is called after every step; a sampler that calls the
        network more than once a step reports a step more than once. denoise: another sampler (core.guidance). Raises
        Stopped when `stop()` is true.
        """
        total = self.default_steps if steps is None else steps
        seeds = check_batch(text, noise, total, seeds)

        def after(call: int, calls: int, latents: Tensor) -> None:
            if on_step:
                on_step(-(-call * total // max(calls, 1)), total, latents)
            if stop and stop():
                raise Stopped

        if stop and stop():
            raise Stopped
        inputs = {argument: getattr(text, field) for field, argument in self.family.arguments}
        inputs = {name: value for name, value in inputs.items() if value is not None} | {
            "latents": noise.to(self.device, self.dtype),
            "height": noise.shape[2] * self.scale,
            "width": noise.shape[3] * self.scale,
            "num_inference_steps": total,
            "generator": third(seeds, tuple(noise.shape[1:])),
        }
        try:
            scale = float(self.default_guidance if guidance is None else guidance)
            return (denoise or self._denoise)(inputs, scale, after)
        finally:  # a pipeline that was interrupted has not moved its parts back from the device
            self.pipe.maybe_free_model_hooks()

    def _denoise(self, inputs: dict[str, Any], guidance: float, after: OnStep) -> Tensor:
        """Latents by the pipeline's own call, with those of the inputs that it takes."""

        def on_step_end(pipe: Any, step: int, _time: Any, values: dict[str, Tensor]) -> dict[str, Tensor]:
            after(step + 1, pipe.num_timesteps, values["latents"])
            return {}

        accepted = inspect.signature(self.pipe.__call__).parameters
        inputs = inputs | {"pag_scale": 0.0}  # a PAG pipeline's default would add PAG to every method
        return self.pipe(
            **{name: value for name, value in inputs.items() if name in accepted},
            guidance_scale=guidance, output_type="latent", callback_on_step_end=on_step_end,
        ).images  # fmt: skip

    @torch.no_grad()
    def decode(self, latents: Tensor, batch: int = 16) -> np.ndarray:
        """Decode latents (B, C, H, W) to images uint8 (B, S, S, 3), at most `batch` and about a million pixels at a time."""
        vae, mean, std = self._autoencoder()
        pixels, decoded = latents.shape[2] * latents.shape[3] * self.scale**2, []
        for chunk in latents.split(max(1, min(batch, DECODE // pixels))):
            raw = chunk.to(self.device, vae.dtype) / vae.config.scaling_factor * std + mean
            decoded.append(vae.decode(raw).sample.float().cpu())
        return to_uint8(torch.cat(decoded))

    @torch.no_grad()
    def to_latents(self, images: np.ndarray) -> Tensor:
        """Encode images uint8 (B, S, S, 3) to latents (B, C, H, W): the autoencoder's mean, scaled."""
        vae, mean, std = self._autoencoder()
        pixels = torch.from_numpy(np.array(images)).permute(0, 3, 1, 2).to(self.device, vae.dtype) / 127.5 - 1
        return (vae.encode(pixels).latent_dist.mean - mean) / std * vae.config.scaling_factor

    def _autoencoder(self) -> tuple[Any, Tensor, Tensor]:
        """The autoencoder, in float32 if it needs that, and mean and std (1, C, 1, 1) of its unscaled latents."""
        vae, config = self.pipe.vae, self.pipe.vae.config
        if upcast(vae) and vae.dtype != torch.float32:
            vae.float()
        means = getattr(config, "latents_mean", None) or [getattr(config, "shift_factor", None) or 0.0]
        stds = getattr(config, "latents_std", None) or [1.0]
        kind = {"device": self.device, "dtype": vae.dtype}
        mean, std = (torch.tensor(values, **kind).view(1, -1, 1, 1) for values in (means, stds))
        return vae, mean, std

    @torch.no_grad()
    def preview(self, latents: Tensor) -> np.ndarray:
        """A rough picture of latents (B, C, H, W) at latent resolution, uint8 (B, H, W, 3), for live progress: a linear map
        from latent channels to colours, fitted once to decoded smooth latents."""
        if self._linear is None:
            draws = torch.randn(32, self.channels, 2, 2, generator=torch.Generator().manual_seed(0))
            smooth = torch.nn.functional.interpolate(draws, size=8, mode="bilinear").to(latents.device)
            images = torch.from_numpy(self.decode(smooth)).permute(0, 3, 1, 2).float()
            small = torch.nn.functional.interpolate(images, size=8, mode="area")
            rows = smooth.float().cpu().permute(0, 2, 3, 1).reshape(-1, self.channels)
            rows = torch.cat([rows, torch.ones(len(rows), 1)], 1)
            self._linear = torch.linalg.lstsq(rows, small.permute(0, 2, 3, 1).reshape(-1, 3)).solution
        rows = latents.float().cpu().permute(0, 2, 3, 1)
        rows = torch.cat([rows, torch.ones_like(rows[..., :1])], -1)
        return (rows @ self._linear).clamp(0, 255).byte().numpy()


def check_batch(text: Text, noise: Tensor, steps: int, seeds: Sequence[int] | None) -> list[int]:
    """Validate the sizes of a batch to denoise; returns its seeds, zeros where they are None."""
    if len(text) != noise.shape[0]:
        raise ValueError(f"{len(text)} prompts for {noise.shape[0]} noises: give one prompt to each noise.")
    if steps < 1:
        raise ValueError(f"steps must be at least 1, got {steps}.")
    checked = [0] * len(text) if seeds is None else check_seeds(seeds)
    if len(checked) != len(text):
        raise ValueError(f"{len(text)} prompts for {len(checked)} seeds: give one seed to each.")
    return checked


def to_uint8(pixels: Tensor) -> np.ndarray:
    """Convert pixels (B, 3, S, S) in [-1, 1] to images uint8 (B, S, S, 3)."""
    return pixels.clamp(-1, 1).add(1).mul(127.5).round().byte().permute(0, 2, 3, 1).contiguous().numpy()
