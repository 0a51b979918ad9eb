"""The frozen diffuser G: a diffusers pipeline used in its parts (DESIGN section 2).

Encode the prompts, sample deterministically (eta = 0) from given latents, decode. The only randomness of an image is
its initial noise, so the same noise, text and settings give the same image. Any text-to-image pipeline that has
`encode_prompt` and takes `latents=` serves; nothing here knows which one it has.
"""

from __future__ import annotations

import hashlib
import inspect
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import DiffusionPipeline
from torch import Tensor

from core.training.loop import Stopped
from core.words import Located, Word, check_prompt, locate, split, weights

OnStep = Callable[[int, int, Tensor], None]


class ModelError(ValueError):
    """A model folder that cannot be used; its text says why and what to do."""


@dataclass
class Text:
    """c of a batch of prompts.

    hidden (B, L, D), mask (B, L) bool: True at real tokens; words (B, J, L): averaging weights of every word of the
    prompt over its sub-tokens, zero rows as padding; pooled (B, P) and the negatives where the pipeline has them.
    """

    prompts: list[str]
    hidden: Tensor
    mask: Tensor
    words: Tensor
    word_lists: list[list[Word]]
    located: list[list[Located]]
    pooled: Tensor | None = None
    negative: Tensor | None = None
    negative_pooled: Tensor | None = None
    _tensors: tuple[str, ...] = field(
        default=("hidden", "mask", "words", "pooled", "negative", "negative_pooled"), repr=False
    )

    def __len__(self) -> int:
        return len(self.prompts)

    def take(self, indices: Sequence[int]) -> Text:
        """The same text for the prompts at `indices`, repeats allowed."""
        rows = list(indices)
        picked = {
            name: None if getattr(self, name) is None else getattr(self, name)[rows] for name in self._tensors
        }
        return Text(
            [self.prompts[i] for i in rows],
            word_lists=[self.word_lists[i] for i in rows],
            located=[self.located[i] for i in rows],
            **picked,
        )


class Diffuser:
    """A frozen text-to-image pipeline in its parts."""

    def __init__(self, pipe: Any, name: str = "", revision: str = "") -> None:
        if not hasattr(pipe, "encode_prompt"):
            raise ModelError(f"{type(pipe).__name__} has no encode_prompt: give a text-to-image pipeline.")
        self.pipe = pipe
        self.name = name or type(pipe).__name__
        self.revision = revision
        pipe.set_progress_bar_config(disable=True)
        for part in pipe.components.values():
            if isinstance(part, torch.nn.Module):
                part.requires_grad_(False).eval()
        self._linear: Tensor | None = None

    @classmethod
    def load(
        cls, source: str | Path, device: str | torch.device = "cpu", dtype: torch.dtype = torch.float32
    ) -> Diffuser:
        """Load a pipeline folder (or hub id) with `DiffusionPipeline.from_pretrained`. Raises ModelError."""
        try:
            pipe = DiffusionPipeline.from_pretrained(str(source), dtype=dtype).to(device)
        except (OSError, ValueError, KeyError, json.JSONDecodeError, RuntimeError) as error:
            raise ModelError(
                f"The diffusion model at '{source}' cannot be loaded ({str(error).splitlines()[0][:200]}). Give a folder "
                "that `save_pretrained` wrote, or the id of a model on the hub."
            ) from error
        return cls(
            pipe,
            name=Path(source).name if Path(source).is_dir() else str(source),
            revision=revision_of(source),
        )

    @property
    def device(self) -> torch.device:
        """Where the pipeline works."""
        return torch.device(self.pipe.device)

    @property
    def tokenizers(self) -> list[Any]:
        """The tokenizers, in the order of their text encoders."""
        return [
            t for t in (getattr(self.pipe, n, None) for n in ("tokenizer", "tokenizer_2", "tokenizer_3")) if t
        ]

    @property
    def channels(self) -> int:
        """Latent channels C."""
        return int(self.pipe.unet.config.in_channels)

    @property
    def scale(self) -> int:
        """Pixels per latent position."""
        return int(self.pipe.vae_scale_factor)

    @property
    def default_size(self) -> int:
        """The side, in pixels, that the model was trained for."""
        side = self.pipe.unet.config.sample_size
        return int(side if isinstance(side, int) else side[0]) * self.scale

    @property
    def text_width(self) -> int:
        """D of the hidden states that `encode` returns."""
        return int(self.pipe.unet.config.cross_attention_dim)

    def latent_shape(self, height: int | None = None, width: int | None = None) -> tuple[int, int, int]:
        """(C, H, W) for an image size in pixels; ValueError unless both are positive multiples of 8."""
        height, width = height or self.default_size, width or self.default_size
        step = max(8, self.scale)
        if height < step or width < step or height % step or width % step:
            near = [max(step, round(v / step) * step) for v in (height, width)]
            raise ValueError(
                f"The image size {height}x{width} is not a multiple of {step}: take {near[0]}x{near[1]}, for example."
            )
        return self.channels, height // self.scale, width // self.scale

    @torch.no_grad()
    def encode(self, prompts: Sequence[str]) -> Text:
        """Hidden states, mask and word weights of `prompts`; each a checked, non-empty string."""
        prompts = [check_prompt(prompt) for prompt in prompts]
        if not prompts:
            raise ValueError("There is no prompt: give at least one.")
        encoded = self.pipe.encode_prompt(
            prompt=prompts, device=self.device, num_images_per_prompt=1, do_classifier_free_guidance=True
        )
        hidden, negative, pooled, negative_pooled = (*encoded, None, None)[:4]
        length = hidden.shape[1]
        tokenizer = self.tokenizers[0]
        tokens = tokenizer(
            prompts, padding="max_length", max_length=length, truncation=True, return_tensors="pt"
        )
        word_lists = [split(prompt) for prompt in prompts]
        located = [locate(tokenizer, p, w) for p, w in zip(prompts, word_lists, strict=True)]
        most = max(1, *(len(words) for words in word_lists))
        table = torch.zeros(len(prompts), most, length)
        for row, places in zip(table, located, strict=True):
            row[: len(places)] = weights(places, length)
        return Text(
            prompts,
            hidden,
            tokens["attention_mask"].bool().to(self.device),
            table.to(self.device),
            word_lists,
            located,
            pooled,
            negative,
            negative_pooled,
        )

    @torch.no_grad()
    def sample(
        self,
        text: Text,
        noise: Tensor,
        steps: int = 20,
        guidance: float = 4.0,
        on_step: OnStep | None = None,
        stop: Callable[[], bool] | None = None,
    ) -> Tensor:
        """Denoise `noise` (B, C, H, W) under `text` (B prompts): latents (B, C, H, W).

        on_step(step, total, latents) after every step, step from 1. Raises Stopped when `stop()` is true.
        """
        if len(text) != noise.shape[0]:
            raise ValueError(
                f"{len(text)} prompts for {noise.shape[0]} noises: give one prompt to each noise."
            )
        if steps < 1:
            raise ValueError(f"steps must be at least 1, got {steps}.")

        def after(_pipe: Any, step: int, _time: Any, values: dict) -> dict:
            if on_step:
                on_step(step + 1, total, values["latents"])
            if stop and stop():
                raise Stopped
            return {}

        if stop and stop():
            raise Stopped
        total = steps
        named = {
            "prompt_embeds": text.hidden,
            "negative_prompt_embeds": text.negative,
            "pooled_prompt_embeds": text.pooled,
            "negative_pooled_prompt_embeds": text.negative_pooled,
        }
        accepted = inspect.signature(self.pipe.__call__).parameters
        dtype = next(self.pipe.unet.parameters()).dtype
        return self.pipe(
            **{k: v for k, v in named.items() if v is not None and k in accepted},
            latents=noise.to(self.device, dtype),
            height=noise.shape[2] * self.scale,
            width=noise.shape[3] * self.scale,
            num_inference_steps=steps,
            guidance_scale=float(guidance),
            output_type="latent",
            callback_on_step_end=after,
        ).images

    @torch.no_grad()
    def decode(self, latents: Tensor, batch: int = 16) -> np.ndarray:
        """Latents (B, C, H, W) to images uint8 (B, S, S, 3)."""
        vae, parts = self.pipe.vae, []
        scaling, shift = vae.config.scaling_factor, getattr(vae.config, "shift_factor", None) or 0.0
        for part in latents.to(next(vae.parameters()).dtype).split(batch):
            parts.append(vae.decode(part / scaling + shift).sample.float().cpu())
        return to_uint8(torch.cat(parts))

    @torch.no_grad()
    def to_latents(self, images: np.ndarray) -> Tensor:
        """Images uint8 (B, S, S, 3) to latents (B, C, H, W): the mean that the autoencoder gives, scaled."""
        vae = self.pipe.vae
        weight = next(vae.parameters())
        pixels = torch.from_numpy(np.array(images)).permute(0, 3, 1, 2).to(weight) / 127.5 - 1
        shift = getattr(vae.config, "shift_factor", None) or 0.0
        return (vae.encode(pixels).latent_dist.mean - shift) * vae.config.scaling_factor

    @torch.no_grad()
    def preview(self, latents: Tensor) -> np.ndarray:
        """A rough picture of latents (B, C, H, W) at latent resolution, uint8 (B, H, W, 3), for live progress.

        A linear map from latent channels to colours, fitted once to what the decoder makes of smooth latents.
        """
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


def to_uint8(pixels: Tensor) -> np.ndarray:
    """Pixels (B, 3, S, S) in [-1, 1] to images uint8 (B, S, S, 3)."""
    return pixels.clamp(-1, 1).add(1).mul(127.5).round().byte().permute(0, 2, 3, 1).contiguous().numpy()


def revision_of(source: str | Path) -> str:
    """A short digest of what makes a folder's model: its index, configurations and the sizes and heads of its weights."""
    folder = Path(source)
    if not folder.is_dir():
        return ""
    digest = hashlib.sha256()
    for path in sorted(p for p in folder.rglob("*") if p.is_file()):
        digest.update(path.relative_to(folder).as_posix().encode())
        digest.update(str(path.stat().st_size).encode())
        with path.open("rb") as file:
            digest.update(file.read(65_536))
            if path.stat().st_size > 131_072:
                file.seek(-65_536, 2)
                digest.update(file.read())
    return digest.hexdigest()[:12]
