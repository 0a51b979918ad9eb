"""Samples under another guidance than the pipeline's own, by diffusers' guiders and pipelines (core.guiders lists them).

A guider runs in the modular pipeline of the backbone's family. Where there is none, or no pass without the prompt, pag is
that of the classic PAG pipelines, and cfg the pipeline itself. All run on the diffuser's own components: no weights are
copied, and processors and hooks are restored when `sample` returns or raises.

Departures:
- autoguidance weakens the pass without the prompt by leaving out blocks. Karras et al. 2024 guide by a smaller, less
  trained model, which diffusers does not: it is labelled layer drop wherever it is named.
- pag is applied in all steps, as in diffusers' classic pipelines (the guider's default is the steps from 1 to 20 %).
- seg: diffusers' guider (0.42) does not count its passes, so it never smooths anything, and it does not see the query
  layer under a LoRA; `SmoothedEnergy` does both. It takes square images only, as the guider does.
- mag: the guider's norm fails on latents (B, C, H, W); `MagnitudeAware` flattens them.
- fdg has two scales: that of low frequencies is the guidance of the sampling, that of high ones by default twice as
  much, as the paper has it for Stable Diffusion XL.
"""

from __future__ import annotations

import inspect
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
from importlib.util import find_spec
from typing import Any

import diffusers
from diffusers import (
    FrequencyDecoupledGuidance,
    ModelMixin,
    SmoothedEnergyGuidance,
    modular_pipelines,
)
from diffusers.guiders import MagnitudeAwareGuidance
from diffusers.guiders.guider_utils import GuiderOutput
from diffusers.hooks import HookRegistry, LayerSkipConfig
from diffusers.hooks._helpers import AttentionProcessorRegistry, TransformerBlockRegistry
from diffusers.hooks.smoothed_energy_guidance_utils import (
    SmoothedEnergyGuidanceConfig,
    SmoothedEnergyGuidanceHook,
)
from diffusers.models.attention_processor import AttnProcessor2_0, SlicedAttnProcessor
from diffusers.modular_pipelines import LoopSequentialPipelineBlocks, ModularPipelineBlocks
from diffusers.utils import logging as diffusers_logging
from torch import Tensor, nn
from transformers.utils import logging as transformers_logging

from core.diffusion import Denoise, Diffuser, OnStep, Text
from core.families import Family, same
from core.guiders import GUIDERS, check_guidance, guidance_at

__all__ = ["Guided", "check_guidance", "guider", "hooks", "unlogged"]
MIDDLE = (7 / 24, 10 / 24)  # which of a transformer's blocks are weakened: Stability AI's 7 to 9 of 24


class Guided:
    """A diffuser that samples under another guidance; all other attributes are those of the diffuser."""

    def __init__(self, diffuser: Diffuser, kind: str, scale: float | None = None) -> None:
        self._diffuser, self.kind, self.guider_scale = diffuser, kind, check_guidance(kind, scale)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._diffuser, name)

    def sample(
        self,
        text: Text,
        noise: Tensor,
        steps: int | None = None,
        guidance: float | None = None,
        *args: Any,
        **options: Any,
    ) -> Tensor:
        """As `Diffuser.sample`; ValueError where diffusers has no such guidance for the backbone."""
        # what is checked of the guidance (core.options) is that which the images have
        guidance = guidance_at(
            self.kind, self.guider_scale, self.default_guidance if guidance is None else guidance
        )
        return self._diffuser.sample(
            text, noise, steps, guidance, *args, **{**options, "denoise": self._denoise}
        )

    def _denoise(self, inputs: dict[str, Any], guidance: float, after: OnStep) -> Tensor:
        if self.kind == "seg" and inputs["height"] != inputs["width"]:
            raise ValueError(
                f"seg smooths the attention of square images, and this one has {inputs['width']}x{inputs['height']} pixels: "
                "take a square, or leave seg out."
            )
        denoise = self.check(guidance)
        with unlogged():
            return denoise(inputs, guidance, after)

    def check(self, guidance: float) -> Denoise:
        """How latents are made at this guidance of the sampling; ValueError where diffusers cannot. Changes nothing."""
        diffuser, kind, name = self._diffuser, GUIDERS[self.kind], self.kind
        scale = guidance_at(name, self.guider_scale, guidance)
        # there is no unconditional pass where guidance is an input of the network, or was left out by distillation
        distilled = diffuser.embedded or not diffuser.guided
        modular = bool(diffuser.family.modular) and takes_guider(diffuser.family.modular)
        none = 0.0 if diffuser.family.original_guidance else 1.0
        one_pass = distilled or scale <= none
        if name == "cfg" and (one_pass or not modular):
            return self._plain
        # without an unconditional pass the guider leaves the perturbation out, too
        if name == "pag" and (one_pass or not modular or not self._weakens()):
            self._pag_pipeline()
            return self._classic
        if one_pass:
            why = "is distilled to do without it" if distilled else f"at guidance {scale:g} has none"
            raise ValueError(
                f"{name} works on the pass without the prompt, and {diffuser.name} {why}. Leave {name} out, or take "
                f"a guidance above {none:g} and a model that is not distilled."
            )
        if not modular:
            raise ValueError(
                f"{name} needs a modular pipeline with a guider, and diffusers has none for {diffuser.name}. "
                "Leave it out, or take pag or cfg."
            )
        if kind.package and not find_spec(kind.package):
            raise ValueError(
                f"{name} needs the package {kind.package}: `pip install {kind.package}`, or leave it out."
            )
        if kind.zeroes and diffuser.family.rescaled_guidance:
            raise ValueError(
                f"{name} begins with a prediction of zeros, and {diffuser.name} scales predictions to a given norm: leave "
                f"{name} out."
            )
        if kind.maps and diffuser.family.unpack is not same:
            raise ValueError(
                f"{name} works on predictions in rows and columns, and {diffuser.name} has a sequence: leave {name} out."
            )
        if not self._weakens():
            raise ValueError(
                f"{name} weakens blocks of the network, and diffusers cannot weaken those of {diffuser.name}: leave {name} out."
            )
        return self._modular

    def _weakens(self) -> bool:
        """Whether diffusers can weaken the blocks that this guidance weakens; ValueError where there are none."""
        if not GUIDERS[self.kind].layers:
            return True
        middle = self.family.middle
        return can_weaken(self.kind, stack(self.kind, self.denoiser, middle), middle)

    def _plain(self, inputs: dict[str, Any], guidance: float, after: OnStep) -> Tensor:
        return self._diffuser._denoise(inputs, self.guider_scale or guidance, after)

    def _modular(self, inputs: dict[str, Any], guidance: float, after: OnStep) -> Tensor:
        blocks, family = text_to_latents(self.family.modular), self.family
        size = inputs["height"] // self.scale, inputs["width"] // self.scale
        denoised: list[Tensor] = []

        def on_step(step: int, steps: int, latents: Tensor) -> None:
            denoised[:] = [family.unpack(latents, size)]
            after(step, steps, denoised[0])

        loop = denoise_loop(blocks)
        loop.sub_blocks["after_step"] = AfterStep(on_step)
        loop.set_progress_bar_config(disable=True)
        with unhooked(self.denoiser), unsliced(self.denoiser, family.middle):
            pipe = blocks.init_pipeline()
            pipe.update_components(
                vae=self.pipe.vae,
                scheduler=self.pipe.scheduler,
                guider=guider(self.kind, self.guider_scale, guidance, self.denoiser, family),
                **{family.denoiser: self.denoiser},
            )
            pipe(**inputs)
        return denoised[0]

    def _classic(self, inputs: dict[str, Any], guidance: float, after: OnStep) -> Tensor:
        classic = self.with_pipe(self._pag_pipeline())
        classic.pipe.set_progress_bar_config(disable=True)
        if (
            self.embedded
        ):  # the pipeline embeds the guidance once an item, and the perturbed pass makes two of each
            embed = classic.pipe.get_guidance_scale_embedding
            classic.pipe.get_guidance_scale_embedding = lambda w, *args, **options: embed(
                w[:1], *args, **options
            )
        processors = dict(self.denoiser.attn_processors)
        try:
            return classic._denoise(inputs | {"pag_scale": self.guider_scale}, guidance, after)
        finally:
            self.denoiser.set_attn_processor(processors)

    def _pag_pipeline(self) -> Any:
        """The classic PAG pipeline of the diffuser's components; ValueError where diffusers has none."""
        middle, layers = self.family.middle, ["mid"]
        if "." not in middle:
            layers = [f"{middle}.{i}" for i in weakened(stack("pag", self.denoiser, middle), middle)]
        auto = diffusers.AutoPipelineForText2Image
        try:
            return auto.from_pipe(self.pipe, enable_pag=True, pag_applied_layers=layers)
        except ValueError as error:
            raise ValueError(f"diffusers has no PAG for {self.name}'s pipeline: leave pag out.") from error


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


class SmoothedEnergy(SmoothedEnergyGuidance):
    """diffusers' guider, with its passes counted and the query layers smoothed also where a LoRA is around them."""

    def prepare_models(self, denoiser: nn.Module) -> None:
        self._count_prepared += 1
        if not (self._is_seg_enabled() and self.is_conditional and self._count_prepared > 1):
            return
        for name, config in zip(self._seg_layer_hook_names, self.seg_guidance_config, strict=True):
            blocks = stack("seg", denoiser, config.fqn)
            for block in (blocks[i] for i in config.indices):
                for attention in self_attentions(block):
                    registry = HookRegistry.check_if_exists_or_initialize(attention.to_q)
                    registry.register_hook(SmoothedEnergyGuidanceHook(self.seg_blur_sigma), name)


class MagnitudeAware(MagnitudeAwareGuidance):
    """diffusers' guider, given flat predictions: torch has no norm over three dimensions."""

    def forward(self, pred_cond: Tensor, pred_uncond: Tensor | None = None) -> GuiderOutput:
        flat = super().forward(pred_cond.flatten(1), None if pred_uncond is None else pred_uncond.flatten(1))
        return GuiderOutput(pred=flat.pred.view_as(pred_cond), pred_cond=pred_cond, pred_uncond=pred_uncond)


def frequency_decoupled(
    guidance_scale: float, high_scale: float | None = None, **options: Any
) -> FrequencyDecoupledGuidance:
    """diffusers' guider with one scale for the high frequencies and one for the low."""
    return FrequencyDecoupledGuidance([high_scale or 2 * guidance_scale, guidance_scale], **options)


OWN = {
    "FrequencyDecoupledGuidance": frequency_decoupled,
    "MagnitudeAwareGuidance": MagnitudeAware,
    "SmoothedEnergyGuidance": SmoothedEnergy,
}


def guider(kind: str, scale: float | None, guidance: float, denoiser: ModelMixin, family: Family) -> Any:
    """diffusers' guider of a kind."""
    row, middle = GUIDERS[kind], family.middle
    arguments = {"guidance_scale": guidance, **row.options}
    if family.original_guidance:
        arguments["use_original_formulation"] = True
    if scale is not None:
        arguments[row.number] = scale
    if row.layers:
        blocks = weakened(stack(kind, denoiser, middle), middle)
        if row.weakens:
            arguments[row.layers] = LayerSkipConfig(indices=blocks, fqn=middle, **row.weakens)
        else:
            arguments[row.layers] = SmoothedEnergyGuidanceConfig(indices=blocks, fqn=middle)
    return OWN.get(row.cls, getattr(diffusers.guiders, row.cls))(**arguments)


def stack(kind: str, denoiser: nn.Module, middle: str) -> nn.ModuleList:
    """The blocks that `middle` names; ValueError where the network has none."""
    with suppress(AttributeError):
        if isinstance(blocks := denoiser.get_submodule(middle), nn.ModuleList):
            return blocks
    raise ValueError(
        f"{kind} works on the attention of the middle block, and this backbone has none there: leave {kind} out."
    )


def weakened(blocks: nn.ModuleList, middle: str) -> list[int]:
    """Which blocks of a stack are weakened: all of a UNet's middle, a stretch of a stack that is the whole network."""
    if "." in middle:
        return list(range(len(blocks)))
    first = int(MIDDLE[0] * len(blocks))
    return list(range(first, max(first + 1, int(MIDDLE[1] * len(blocks)))))


def self_attentions(block: nn.Module) -> Iterator[nn.Module]:
    """The attentions of a block that are not to the text alone."""
    for module in block.modules():
        if hasattr(module, "to_q") and not getattr(module, "is_cross_attention", False):
            yield module


def can_weaken(kind: str, blocks: nn.ModuleList, middle: str) -> bool:
    """Whether diffusers (0.42) can weaken these blocks for a kind of guidance."""
    weakens = GUIDERS[kind].weakens
    try:
        if weakens.get("skip_attention"):
            return all(can_skip(type(block)) for block in blocks)
        for attention in (attention for block in blocks for attention in self_attentions(block)):
            if not weakens:  # in a transformer, queries of the text must have a layer of their own
                if "." not in middle and getattr(attention, "add_q_proj", None) is None:
                    return False
            elif not isinstance(attention.processor, SlicedAttnProcessor):  # `unsliced` replaces it
                AttentionProcessorRegistry.get(type(attention.processor))
    except ValueError:
        return False
    return True


def can_skip(block: type[nn.Module]) -> bool:
    """Whether a skipped block returns what it would: the states of the image, before those of the text if it has any."""
    returned = TransformerBlockRegistry.get(block)
    named = "hidden_states" in inspect.signature(block.forward).parameters
    return named and returned.return_encoder_hidden_states_index != 0


def text_to_latents(modular: str) -> Any:
    """The blocks of a modular pipeline that make latents of encoded text, the loop over the steps being the last."""
    blocks = getattr(modular_pipelines, modular)().get_workflow("text2image")
    names, loop = list(blocks.sub_blocks), denoise_loop(blocks)
    last = next(at for at, name in enumerate(names) if blocks.sub_blocks[name] is loop)
    for at, name in enumerate(names):
        if at > last or not name.startswith("denoise"):
            blocks.sub_blocks.pop(name)
    return blocks


@cache
def takes_guider(modular: str) -> bool:
    """Whether a modular pipeline has a guider; one whose guidance is an input of the network has none."""
    return any(part.name == "guider" for part in denoise_loop(text_to_latents(modular)).expected_components)


def denoise_loop(blocks: Any) -> LoopSequentialPipelineBlocks:
    """The loop over the steps among these blocks."""
    return next(
        block for block in blocks.sub_blocks.values() if isinstance(block, LoopSequentialPipelineBlocks)
    )


_silencing, _silent, _levels = threading.Lock(), list[None](), list[int]()


@contextmanager
def unlogged() -> Iterator[None]:
    """Silence diffusers and transformers, which log any exception, also a stop, and that guiders are experimental."""
    loggers = diffusers_logging, transformers_logging
    with _silencing:
        if not _levels:
            _levels[:] = [logger.get_verbosity() for logger in loggers]
        _silent.append(None)
        for logger in loggers:
            logger.set_verbosity(logger.CRITICAL)
    try:
        yield
    finally:
        with _silencing:
            _silent.pop()
            if not _silent:  # the last of the threads that asked for it
                for logger, level in zip(loggers, _levels, strict=True):
                    logger.set_verbosity(level)
                _levels.clear()


@contextmanager
def unsliced(denoiser: ModelMixin, middle: str) -> Iterator[None]:
    """Set sliced attention processors of the middle blocks to torch's own, as guiders know no others of that kind."""
    before = dict(getattr(denoiser, "attn_processors", {}))
    sliced = [n for n, p in before.items() if n.startswith(middle) and isinstance(p, SlicedAttnProcessor)]
    if sliced:
        denoiser.set_attn_processor(before | {name: AttnProcessor2_0() for name in sliced})
    try:
        yield
    finally:
        if sliced:
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
