"""The frozen diffuser G: a diffusers pipeline in its parts.

Encode the prompts, sample from given latents, decode. The only randomness of an image is its seed: samplers are
deterministic (eta = 0), and one that draws noise at every step (LCM, Euler ancestral) draws each item's from the third
stream of the item's seed. So the same noise, seed, text and settings give the same image, whatever else is in the
batch. Differences between backbones are described in `core.families` and nowhere else.
"""

from __future__ import annotations

import copy
import inspect
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from core.families import (
    Family,
    ModelError,
    Reading,
    Sampling,
    family_of,
    filled,
    latent_shape,
    relative_of,
    same,
    text_of,
    tokenizer_of,
)
from core.loading import load_pipeline, upcast
from core.noise import Shape, check_seeds, third
from core.progress import Stop, Stopped
from core.quantize import NONE, QUANTIZED, label_of
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
    weights of every word over its sub-tokens, zero rows as padding; pooled (B, P) and the negatives, with a mask of their own
    length, where the pipeline has them; emphasis (B, L) and negative_emphasis, the weights of the tokens in sampling, where
    there are some (`core.options`)."""

    prompts: list[str]
    hidden: Tensor
    mask: Tensor
    words: Tensor
    word_lists: list[list[Word]]
    located: list[list[Located]]
    pooled: Tensor | None = None
    negative: Tensor | None = None
    negative_pooled: Tensor | None = None
    negative_mask: Tensor | None = None
    emphasis: Tensor | None = None
    negative_emphasis: Tensor | None = None

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

    def cpu(self) -> Text:
        """The text with its tensors on the CPU."""
        tensors: dict[str, Any] = {k: v.cpu() for k, v in vars(self).items() if isinstance(v, Tensor)}
        return replace(self, **tensors)

    @classmethod
    def join(cls, texts: Sequence[Text]) -> Text:
        """Texts as one; where their lengths differ, the shorter are padded with zeros."""
        joined: dict[str, Any] = {}
        for field in fields(cls):
            values = [getattr(text, field.name) for text in texts]
            if isinstance(values[0], Tensor):
                sizes = [max(sizes) for sizes in zip(*(value.shape[1:] for value in values), strict=True)]
                joined[field.name] = torch.cat([_enlarged(value, sizes) for value in values])
            else:
                joined[field.name] = values[0] and [item for value in values for item in value]
        return cls(**joined)


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
        self.pack = same if set(names) & set(self.family.unpacked) else self.family.pack
        self.pipe, self.name, self.revision = pipe, name or type(pipe).__name__, revision
        if not borrowed:
            pipe.set_progress_bar_config(disable=True)
            for component in pipe.components.values():
                if isinstance(component, torch.nn.Module):
                    component.requires_grad_(False).eval()
        self._linear: Tensor | None = None
        config = self.denoiser.config
        scale = int(pipe.vae_scale_factor)
        self.channels = latent_shape(self.family, pipe, 0, 0)[0]  # C
        self.scale = scale * self.family.fold  # pixels a latent position
        self.text_width = int(config[self.family.text_width])  # D of the hidden states that `encode` returns
        side = config.get(self.family.side) or getattr(
            pipe, "default_sample_size", self.family.pixels // scale
        )
        # side, in pixels, of the images that the model was trained on
        self.default_size = int(side if isinstance(side, int) else side[0]) * scale
        self.size = size or (self.default_size, self.default_size)
        self.weights = NONE  # how the denoiser's weights are kept (core.quantize)
        self.replaced: Any = None  # the model's own scheduler, while another one is in its place
        self.latent_shape()  # raises where the size is not possible

    @classmethod
    def load(
        cls,
        source: str | Path,
        device: str | torch.device = "cpu",
        dtype: torch.dtype = torch.float32,
        *,
        size: tuple[int, int] | None = None,
        **options: Any,
    ) -> Diffuser:
        """Load a pipeline from a folder or by its hub id. options: as of `core.loading.load_pipeline`. Raises ModelError
        with a sentence."""
        pipe, commit = load_pipeline(source, device, dtype, **options)
        diffuser = cls(pipe, Path(source).name if Path(source).is_dir() else str(source), commit, size)
        weights = str(options.get("quantize", NONE))
        diffuser.weights = Path(weights).name
        if weights != NONE:  # other images from the same seeds
            diffuser.revision += QUANTIZED + label_of(weights)
        return diffuser

    @property
    def denoiser(self) -> ModelMixin:
        """The denoising network."""
        return getattr(self.pipe, self.family.denoiser)

    @cached_property
    def device(self) -> torch.device:
        """The device of the computation; with offload, weights may be elsewhere. diffusers looks for it in all components."""
        return torch.device(self.pipe._execution_device)

    @property
    def dtype(self) -> torch.dtype:
        """The dtype that the denoiser computes in."""
        return self.denoiser.dtype

    @property
    def scheduler(self) -> Any:
        """The model's own scheduler, also while it is sampled with another one (`core.options`)."""
        return self.replaced or self.pipe.scheduler

    @property
    def embedded(self) -> bool:
        """Whether guidance is an input of the denoiser, so that it costs no second pass and takes no negative prompt."""
        config = self.denoiser.config
        return bool(config.get("time_cond_proj_dim") or config.get("guidance_embeds"))

    @property
    def guided(self) -> bool:
        """Whether guidance changes an image: as an input, or by a second pass; not where a distilled model has neither."""
        negatives = any(field == "negative" for field, _ in self.family.arguments)
        return self.embedded or (negatives and not self.pipe.config.get("is_distilled"))

    @property
    def sampling(self) -> Sampling:
        """The model's default steps and guidance."""
        pipe = self.pipe
        return self.family.sampling(self.scheduler.config, self.denoiser.config, pipe.config)

    @property
    def text_encoders(self) -> list[torch.nn.Module]:
        """The pipeline's text encoders."""
        return [c for name, c in self.pipe.components.items() if name.startswith("text_encoder") and c]

    @property
    def tokenizers(self) -> list[Any]:
        """The tokenizers, in the order of their text encoders; of a processor, its tokenizer."""
        names = [name for name in self.pipe.components if name.startswith("tokenizer")]
        return [tokenizer for name in names if (tokenizer := tokenizer_of(self.pipe, name))]

    @property
    def default_steps(self) -> int:
        """Default number of sampling steps of the model."""
        return self.sampling.steps

    @property
    def default_guidance(self) -> float:
        """Default guidance of the model; 0 is none."""
        return self.sampling.guidance

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
        return latent_shape(self.family, self.pipe, height, width)

    @torch.no_grad()
    def encode(self, prompts: Sequence[str], negative: str = "") -> Text:
        """Encode prompts, and the negative prompt that they share; ValueError for one that cannot be used."""
        prompts = [check_prompt(prompt) for prompt in prompts]
        if not prompts:
            raise ValueError("There is no prompt: give at least one.")
        states = self._states(prompts, negative)
        length, mask = states["hidden"].shape[1], states["mask"].cpu()
        readings = [self.family.reading(self.pipe, prompt) for prompt in prompts]
        word_lists = [units(prompt) for prompt in prompts]
        table = torch.zeros(len(prompts), max(1, *map(len, word_lists)), length)
        located = []
        for row, words, reading, real in zip(table, word_lists, readings, mask, strict=True):
            places = self.locate(self.family.tokenizers[0], reading, words, real)
            located.append(places)
            row[: len(places)] = weights(places, length)
            if words and words[-1].kind == EXTRA:  # it is about the whole prompt
                row[len(words) - 1] = real / real.sum()
        states |= {"mask": mask.to(self.device), "words": table.to(self.device)}
        return Text(prompts, word_lists=word_lists, located=located, **states)

    def encode_many(self, prompts: Sequence[str], batch: int = 64) -> Text:
        """Encode any number of prompts, `batch` at a time; the text stays on the CPU, without negatives."""
        batches = [self.encode(prompts[at : at + batch]).cpu() for at in range(0, len(prompts), batch)]
        return Text.join(
            [replace(text, negative=None, negative_pooled=None, negative_mask=None) for text in batches]
        )

    def with_denoiser(self, denoiser: ModelMixin) -> Diffuser:
        """The same diffuser with another denoiser."""
        pipe = copy.copy(self.pipe)
        setattr(pipe, self.family.denoiser, denoiser)
        return self.with_pipe(pipe)

    def with_pipe(self, pipe: Any) -> Diffuser:
        """The same diffuser with another pipeline of its components."""
        other = copy.copy(self)
        other.pipe = pipe
        return other

    def _states(self, prompts: list[str], negative: str) -> dict[str, Tensor]:
        """What `encode_prompt` returns, by the fields of Text; the negatives by a second call where one returns none."""
        family, accepted = self.family, inspect.signature(self.pipe.encode_prompt).parameters
        options: dict[str, Any] = {
            "device": self.device,
            "num_images_per_prompt": 1,
            "do_classifier_free_guidance": True,
        }
        options |= dict.fromkeys(family.blank) | family.options(self.pipe)
        if negative:
            options["negative_prompt"] = [negative] * len(prompts)
        options = {name: value for name, value in options.items() if name in accepted}

        def call(texts: list[str]) -> dict[str, Any]:
            values = self.pipe.encode_prompt(prompt=list(texts), **options)
            states = dict(zip(family.encoded, values, strict=False))
            states.pop("", None)
            if family.ragged:
                states["negative"], states["negative_mask"] = filled(states["negative"])
            states["hidden"], states["mask"] = text_of(family, self.pipe, texts, states)
            return states

        states = call(prompts)
        missing = [
            field for field, _ in family.arguments if field.startswith("negative") and field not in states
        ]
        if missing and "do_classifier_free_guidance" not in accepted:
            second = {"negative": "hidden", "negative_mask": "mask", "negative_pooled": "pooled"}
            other = call([negative] * len(prompts))
            states |= {field: other[second[field]] for field in missing}
        return states

    def locate(self, name: str, reading: Reading, words: Sequence[Word], real: Tensor) -> list[Located]:
        """Positions of words of a prompt in a tokenizer's stretch of the hidden states, of which `real` (L,) is the mask: the
        tokenizer counts real tokens."""
        shifted = [
            replace(word, start=word.start + reading.start, end=word.end + reading.start) for word in words
        ]
        window = len(real) + reading.dropped
        places = locate(tokenizer_of(self.pipe, name), reading.text, shifted, window)
        positions = real.nonzero().flatten().tolist()

        def moved(tokens: tuple[int, ...]) -> tuple[int, ...]:
            kept = [token - reading.dropped for token in tokens]
            return tuple(positions[token] for token in kept if 0 <= token < len(positions))

        return [replace(place, tokens=moved(place.tokens)) for place in places]

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
        scale = float(self.default_guidance if guidance is None else guidance)
        if scale > 1 and not self.guided:
            raise ValueError(
                f"{self.name} is distilled and takes no guidance, got {scale:g}: set guidance to 0."
            )
        inputs = self._inputs(text, noise, total, seeds)
        try:
            return (denoise or self._denoise)(inputs, scale, after)
        finally:  # a pipeline that was interrupted has not moved its parts back from the device
            self.pipe.maybe_free_model_hooks()

    def _inputs(self, text: Text, noise: Tensor, steps: int, seeds: Sequence[int]) -> dict[str, Any]:
        """Arguments of the pipeline's call but for guidance."""
        family = self.family
        states = {field: getattr(text, field) for field, _ in family.arguments}
        if family.ragged:
            states = _unfilled(states | {"mask": text.mask, "negative_mask": text.negative_mask})
        given = {argument: states[field] for field, argument in family.arguments if states[field] is not None}
        given = {
            name: [row.to(self.device) for row in value] if family.ragged else value.to(self.device)
            for name, value in given.items()
        }
        return given | {
            "latents": self.to_pipeline(noise),
            "height": noise.shape[2] * self.scale,
            "width": noise.shape[3] * self.scale,
            "num_inference_steps": steps,
            "generator": third(seeds, tuple(noise.shape[1:])),
        }

    def to_pipeline(self, noise: Tensor) -> Tensor:
        """Noise (B, C, H, W) in the form, on the device and in the dtype in which the pipeline takes it as `latents`."""
        dtype = torch.float32 if self.family.draw_float32 else self.dtype
        return self.pack(noise.to(self.device, dtype))

    def _denoise(self, inputs: dict[str, Any], guidance: float, after: OnStep) -> Tensor:
        """Latents by the pipeline's own call, with those of the inputs that it takes."""
        size = inputs["height"] // self.scale, inputs["width"] // self.scale
        accepted, family = inspect.signature(self.pipe.__call__).parameters, self.family
        denoised: list[Tensor] = []

        def on_step(step: int, latents: Tensor) -> None:
            calls = getattr(self.pipe, "num_timesteps", None) or len(self.pipe.scheduler.timesteps)
            denoised[:] = [family.unpack(latents, size)]
            after(step + 1, calls, denoised[0])

        def on_step_end(pipe: Any, step: int, _time: Any, values: dict[str, Tensor]) -> dict[str, Tensor]:
            on_step(step, values["latents"])
            return {}

        if "callback_on_step_end" in accepted:
            watch: dict[str, Any] = {"callback_on_step_end": on_step_end}
        else:
            watch = {"callback": lambda step, _time, latents: on_step(step, latents), "callback_steps": 1}
        # where guidance has another name, the pipeline warns of negatives that it does not need
        if guidance <= 1 and family.guidance != "guidance_scale":
            inputs = {name: value for name, value in inputs.items() if not name.startswith("negative")}
        images = self.pipe(**self._call(inputs, guidance), **watch).images
        return denoised[0] if family.returns == "converted" else family.unpack(images, size)

    def _call(self, inputs: dict[str, Any], guidance: float) -> dict[str, Any]:
        """All arguments of the pipeline's own call."""
        accepted, family = inspect.signature(self.pipe.__call__).parameters, self.family
        # defaults of some: PAG in every method, and a negative prompt beside its embeddings
        options: dict[str, Any] = {"pag_scale": 0.0, "negative_prompt": None, "output_type": "latent"}
        options |= inputs | {family.guidance: guidance} | family.extra(inputs["num_inference_steps"])
        return {name: value for name, value in options.items() if name in accepted}

    def first(self, text: Text, noise: Tensor, steps: int | None = None) -> tuple[Tensor, Tensor]:
        """The first prediction of the denoiser, without classifier-free guidance, as the scheduler gets it: what the scheduler
        got it for and the prediction, both (B, C, H, W). Gradients flow through the network where they are enabled."""
        size = (noise.shape[2], noise.shape[3])
        inputs = self._inputs(text, noise, steps or self.default_steps, [0] * len(text))
        inputs = {name: value for name, value in inputs.items() if not name.startswith("negative")}
        inputs = self._call(inputs, self.default_guidance if self.embedded else 0.0)
        scheduler = self.pipe.scheduler
        call = inspect.unwrap(type(self.pipe).__call__)  # which disables gradients

        def caught(predicted: Tensor, _time: Any, sample: Tensor, *rest: Any, **options: Any) -> None:
            raise _First(sample, predicted)

        scheduler.step = caught
        try:
            call(self.pipe, **inputs)
            raise AssertionError("the pipeline took no step")
        except _First as first:
            sample, predicted = (self.family.unpack(tensor, size) for tensor in first.args)
            return sample, predicted
        finally:
            del scheduler.step
            self.pipe.maybe_free_model_hooks()

    @torch.no_grad()
    def decode(self, latents: Tensor, batch: int = 16) -> np.ndarray:
        """Decode latents (B, C, H, W) to images uint8 (B, S, S, 3), at most `batch` and about a million pixels at a time."""
        vae, scale, mean, std = self._autoencoder()
        pixels, decoded = latents.shape[2] * latents.shape[3] * self.scale**2, []
        for chunk in latents.split(max(1, min(batch, DECODE // pixels))):
            raw = F.pixel_shuffle(chunk.to(self.device, vae.dtype) / scale * std + mean, self.family.fold)
            images = vae.decode(raw.unsqueeze(2) if self.family.frames else raw).sample
            decoded.append((images[:, :, 0] if self.family.frames else images).float().cpu())
        return to_uint8(torch.cat(decoded))

    @torch.no_grad()
    def to_latents(self, images: np.ndarray) -> Tensor:
        """Encode images uint8 (B, S, S, 3) to latents (B, C, H, W): the autoencoder's mean, scaled."""
        vae, scale, mean, std = self._autoencoder()
        pixels = torch.from_numpy(np.array(images)).permute(0, 3, 1, 2).to(self.device, vae.dtype) / 127.5 - 1
        encoded = vae.encode(pixels.unsqueeze(2) if self.family.frames else pixels)
        raw = encoded.latent if hasattr(encoded, "latent") else encoded.latent_dist.mean
        raw = raw[:, :, 0] if self.family.frames else raw
        return (F.pixel_unshuffle(raw, self.family.fold) - mean) / std * scale

    def _autoencoder(self) -> tuple[Any, float, Tensor, Tensor]:
        """The autoencoder, in float32 if it needs that, and the scale, mean and std (1, C, 1, 1) of its latents."""
        vae, config = self.pipe.vae, self.pipe.vae.config
        if upcast(vae) and vae.dtype != torch.float32:
            vae.float()
        kind = {"device": self.device, "dtype": vae.dtype}
        if norm := getattr(vae, "bn", None):  # FLUX.2's normalises its latents by the statistics of a layer
            means, stds = norm.running_mean, (norm.running_var + config.batch_norm_eps).sqrt()
        else:
            means = torch.tensor(config.get("latents_mean") or [config.get("shift_factor") or 0.0])
            stds = torch.tensor(config.get("latents_std") or [1.0])
        mean, std = (values.to(**kind).view(1, -1, 1, 1) for values in (means, stds))
        return vae, config.get("scaling_factor") or 1.0, mean, std

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


class _First(Exception):
    """Ends a pipeline's call at its first step: what the scheduler got, and the prediction."""


def _enlarged(tensor: Tensor, sizes: Sequence[int]) -> Tensor:
    """A tensor (B, ...) padded with zeros to the sizes (...)."""
    padding = [
        amount for size, has in zip(sizes, tensor.shape[1:], strict=True) for amount in (size - has, 0)
    ]
    return F.pad(tensor, padding[::-1]) if any(padding) else tensor


def _unfilled(states: dict[str, Any]) -> dict[str, Any]:
    """The inverse of `core.families.filled`, by the fields of Text; None for negatives that are not kept."""

    def rows(tensor: Tensor | None, mask: Tensor | None) -> list[Tensor] | None:
        if tensor is None or mask is None:
            return None
        return [row[real] for row, real in zip(tensor, mask.to(tensor.device), strict=True)]

    masks = {"hidden": "mask", "negative": "negative_mask"}
    return {name: rows(states[name], states[mask]) for name, mask in masks.items()}


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
