"""Guidance other than classifier-free guidance, by diffusers' guiders and pipelines.

- pag: perturbed attention guidance (Ahn et al. 2024) on top of classifier-free guidance: a third pass in which the
  self-attention of the middle block is replaced by the identity. It is applied in all steps and all layers of the middle
  block, as in diffusers' classic pipelines (the guider's default is the steps from 1 to 20 %).
- autoguidance: the unconditional pass of classifier-free guidance skips the transformer blocks of the middle block.
  Departure from Karras et al. 2024, who guide by a smaller, less trained model: diffusers has only layer drop, and it is
  labelled so wherever it is named.

The guiders are used for a backbone with a modular pipeline, else the classic PAG pipeline. Both run on the diffuser's own
components: no weights are copied, and processors and hooks are restored when `sample` returns or raises.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import diffusers
from diffusers import (
    AutoGuidance,
    ClassifierFreeGuidance,
    ModelMixin,
    PerturbedAttentionGuidance,
    modular_pipelines,
)
from diffusers.hooks import LayerSkipConfig
from diffusers.models.attention_processor import AttnProcessor2_0
from diffusers.modular_pipelines import ModularPipelineBlocks
from diffusers.utils import logging as diffusers_logging
from torch import Tensor
from transformers.utils import logging as transformers_logging

from core.diffusion import Diffuser, OnStep

SCALES: dict[str, float | None] = {"pag": 3.0, "autoguidance": None, "cfg": None}
"""Default scale of a kind; None: the guidance of the sampling. cfg is plain classifier-free guidance by the same code."""


class Guided:
    """A diffuser that samples under another guidance; all other attributes are those of the diffuser."""

    def __init__(self, diffuser: Diffuser, kind: str, scale: float | None = None) -> None:
        self._diffuser, self.kind, self.guider_scale = diffuser, kind, check_guidance(kind, scale)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._diffuser, name)

    def sample(self, *args: Any, **options: Any) -> Tensor:
        """As `Diffuser.sample`; ValueError where diffusers has no such guidance for the backbone."""
        return self._diffuser.sample(*args, **{**options, "denoise": self._denoise})

    def _denoise(self, inputs: dict[str, Any], guidance: float, after: OnStep) -> Tensor:
        modular = self.check(guidance)
        with unlogged():
            return (self._modular if modular else self._classic)(inputs, guidance, after)

    def check(self, guidance: float) -> bool:
        """Whether diffusers' guider is used, else the classic pipeline; ValueError where neither has this guidance."""
        diffuser = self._diffuser
        embedded = diffuser.embedded  # then there is no unconditional pass
        # without an unconditional pass the guider leaves the perturbation out, too
        classic = not diffuser.family.modular or (self.kind == "pag" and (guidance <= 1 or embedded))
        if self.kind == "autoguidance" and (classic or embedded or (self.guider_scale or guidance) <= 1):
            raise ValueError(
                f"autoguidance weakens the pass without the prompt, and {diffuser.name} at guidance {guidance:g} has none "
                "that diffusers can weaken: it needs a modular pipeline (SDXL) and a guidance above 1. Leave it out, or take "
                "pag."
            )
        if not classic:
            guider(self.kind, self.guider_scale, guidance, diffuser.denoiser, diffuser.family.middle)
        return not classic

    def _modular(self, inputs: dict[str, Any], guidance: float, after: OnStep) -> Tensor:
        blocks = getattr(modular_pipelines, self.family.modular)()
        for name in [name for name in blocks.sub_blocks if name != "denoise"]:
            blocks.sub_blocks.pop(name)  # the text is encoded already, and latents are returned
        loop = blocks.sub_blocks["denoise"].sub_blocks["denoise"].sub_blocks["denoise"]
        loop.sub_blocks["after_step"] = AfterStep(after)
        loop.set_progress_bar_config(disable=True)
        with unhooked(self.denoiser), unsliced(self.denoiser, self.family.middle):
            pipe = blocks.init_pipeline()
            pipe.update_components(
                vae=self.pipe.vae,
                scheduler=self.pipe.scheduler,
                guider=guider(self.kind, self.guider_scale, guidance, self.denoiser, self.family.middle),
                **{self.family.denoiser: self.denoiser},
            )
            return pipe(**inputs, output="latents")

    def _classic(self, inputs: dict[str, Any], guidance: float, after: OnStep) -> Tensor:
        def on_step_end(pipe: Any, step: int, _time: Any, values: dict[str, Tensor]) -> dict[str, Tensor]:
            after(step + 1, pipe.num_timesteps, values["latents"])
            return {}

        try:
            auto = diffusers.AutoPipelineForText2Image
            pipe = auto.from_pipe(self.pipe, enable_pag=True, pag_applied_layers="mid")
        except ValueError as error:
            raise ValueError(f"diffusers has no PAG for {self.name}'s pipeline: leave pag out.") from error
        pipe.set_progress_bar_config(disable=True)
        processors = dict(self.denoiser.attn_processors)
        try:
            return pipe(
                **inputs, guidance_scale=guidance, pag_scale=self.guider_scale, output_type="latent",
                callback_on_step_end=on_step_end,
            ).images  # fmt: skip
        finally:
            self.denoiser.set_attn_processor(processors)


class AfterStep(ModularPipelineBlocks):
    """The last block of a denoising step: calls a callback, which modular pipelines lack."""

    def __init__(self, callback: OnStep) -> None:
        super().__init__()
        self.callback = callback

    def __call__(self, components: Any, block_state: Any, i: int, t: Any) -> tuple[Any, Any]:
        # the guider's window ends at this number, and second-order samplers have more time steps than steps
        block_state.num_inference_steps = len(block_state.timesteps)
        self.callback(i + 1, len(block_state.timesteps), block_state.latents)
        return components, block_state


def check_guidance(kind: str, scale: float | None) -> float | None:
    """The scale of a kind, its default for None; ValueError for an unknown kind or a scale that is not above 0."""
    if kind not in SCALES:
        raise ValueError(f"There is no guidance {kind!r}: choose pag or autoguidance.")
    scale = SCALES[kind] if scale is None else float(scale)
    if scale is not None and not 0 < scale <= 100:
        raise ValueError(f"The scale {scale:g} of {kind} is out of range: use a number above 0, up to 100.")
    return scale


def guider(kind: str, scale: float | None, guidance: float, denoiser: ModelMixin, middle: str) -> Any:
    """diffusers' guider of a kind."""
    if kind == "cfg":
        return ClassifierFreeGuidance(guidance_scale=guidance)
    try:
        count = len(denoiser.get_submodule(middle))
    except AttributeError as error:
        raise ValueError(
            f"{kind} works on the attention of the middle block, and this backbone has none there: leave {kind} out."
        ) from error
    layers = LayerSkipConfig(indices=list(range(count)), fqn=middle)
    if kind == "autoguidance":
        return AutoGuidance(guidance_scale=guidance if scale is None else scale, auto_guidance_config=layers)
    layers.skip_attention, layers.skip_attention_scores, layers.skip_ff = False, True, False
    return PerturbedAttentionGuidance(
        guidance_scale=guidance,
        perturbed_guidance_scale=scale,
        perturbed_guidance_start=-1.0,  # the window begins after this share of the steps: 0 would skip the first
        perturbed_guidance_stop=1.0,
        perturbed_guidance_config=layers,
    )


@contextmanager
def unlogged() -> Iterator[None]:
    """Silence diffusers and transformers, which log any exception, also a stop, and that guiders are experimental."""
    loggers = diffusers_logging, transformers_logging
    levels = [logger.get_verbosity() for logger in loggers]
    for logger in loggers:
        logger.set_verbosity(logger.CRITICAL)
    try:
        yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.set_verbosity(level)


@contextmanager
def unsliced(denoiser: ModelMixin, middle: str) -> Iterator[None]:
    """Set the middle block's attention processors to torch's own, the only ones that the guider's PAG perturbs."""
    before = dict(denoiser.attn_processors)
    denoiser.set_attn_processor(
        {
            name: AttnProcessor2_0() if name.startswith(middle) else processor
            for name, processor in before.items()
        }
    )
    try:
        yield
    finally:
        denoiser.set_attn_processor(before)


@contextmanager
def unhooked(denoiser: ModelMixin) -> Iterator[None]:
    """Remove the hooks that a guider leaves on a network when it is interrupted in a pass."""
    before = hooks(denoiser)
    try:
        yield
    finally:
        for module, name in hooks(denoiser) - before:
            module._diffusers_hook.remove_hook(name, recurse=False)


def hooks(denoiser: ModelMixin) -> set[tuple[Any, str]]:
    """diffusers' hooks on a network's modules."""
    return {
        (module, name)
        for module in denoiser.modules()
        for name in getattr(getattr(module, "_diffusers_hook", None), "hooks", {})
    }
