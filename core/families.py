"""Descriptions of backbone families; nothing else in `core` depends on which backbone it has.

A description names the denoising component, the configuration keys of its training size and text width, what
`encode_prompt` returns and takes, the tokenizer of each stretch of the text, and the arguments of the pipeline's call that
take the text. The rest is read from the loaded model: channels, scale and scaling of latents from the autoencoder,
scheduler and prediction type from its folder; size conditions (SDXL) are made by the pipeline from height and width.

Described here: Stable Diffusion 1.x and 2.x, latent consistency models of them, SDXL and its few-step relatives (Turbo,
Lightning, LCM, TCD), which differ from SDXL in their scheduler and default sampling (`sampling`).

What others need:
- Stable Diffusion 3 / 3.5: only its description, which is in tests/core/test_families.py and runs there on a tiny
  pipeline; it was not tried on the published weights. Its text is long (333 positions of width 4096), and words are
  located in the first 77 of them, which come from the CLIP encoders.
- FLUX: a description and two functions. Its call takes and returns packed latents (B, H W / 4, 4 C), so a description
  needs `pack` and `unpack`; its in_channels counts packed channels (64 for 16); it has no negative text (guidance is
  always an embedding), and `encode_prompt` also returns position ids, which the call makes by itself.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any


class ModelError(ValueError):
    """A model that cannot be used; the message says why and what to do."""


@dataclass(frozen=True)
class Sampling:
    """Default sampling of a backbone; guidance 0 is none."""

    steps: int
    guidance: float


ORDINARY = Sampling(20, 4.0)
FEW = Sampling(4, 0.0)
# guidance is an input of the network: one pass, and 8 is the default of LCM's authors
EMBEDDED = Sampling(4, 8.0)
# schedulers of distilled models, with the spacing of steps that tells a distilled model from an ordinary one
FEW_STEP: dict[str, str | None] = {
    "LCMScheduler": None,
    "TCDScheduler": None,
    "EulerAncestralDiscreteScheduler": "trailing",  # Turbo
    "EulerDiscreteScheduler": "trailing",  # Lightning, SD Turbo
}


@dataclass(frozen=True)
class Family:
    """Description of a family (see the module). Names are those of the components' configurations.

    pipelines     the diffusers classes (or bases) that it is loaded as
    encoded       the values that `encode_prompt` returns, in order, as fields of core.diffusion.Text
    arguments     pairs of a field of Text and an argument of the pipeline's call
    tokenizers    of each stretch of the hidden states' length, in order; words are located in the first
    blank         required arguments of `encode_prompt` that stay None
    patch         latent positions a side in one position of the denoiser
    left_out      components that are not loaded
    predictions   valid prediction types of its schedulers
    modular       its class of diffusers' modular blocks, for guiders (core.guidance); "": its classic PAG pipeline is used
    middle        the stack of transformer blocks in the denoiser's middle, which guiders perturb
    """

    name: str
    pipelines: tuple[str, ...]
    encoded: tuple[str, ...]
    arguments: tuple[tuple[str, str], ...]
    denoiser: str = "unet"
    side: str = "sample_size"
    text_width: str = "cross_attention_dim"
    tokenizers: tuple[str, ...] = ("tokenizer",)
    blank: tuple[str, ...] = ()
    patch: int = 1
    left_out: tuple[str, ...] = ()
    predictions: tuple[str, ...] = ("epsilon", "v_prediction", "sample")
    modular: str = ""
    middle: str = "mid_block.attentions.0.transformer_blocks"


_PLAIN = (("hidden", "prompt_embeds"), ("negative", "negative_prompt_embeds"))
_POOLED = (("pooled", "pooled_prompt_embeds"), ("negative_pooled", "negative_pooled_prompt_embeds"))

SD = Family(
    name="Stable Diffusion 1.x and 2.x",
    pipelines=("StableDiffusionPipeline", "StableDiffusionPAGPipeline", "LatentConsistencyModelPipeline"),
    encoded=("hidden", "negative"),
    arguments=_PLAIN,
    left_out=("safety_checker", "feature_extractor", "image_encoder"),
)
SDXL = Family(
    name="Stable Diffusion XL",
    pipelines=("StableDiffusionXLPipeline", "StableDiffusionXLPAGPipeline"),
    encoded=("hidden", "negative", "pooled", "negative_pooled"),
    arguments=(*_PLAIN, *_POOLED),
    left_out=("feature_extractor", "image_encoder"),
    modular="StableDiffusionXLAutoBlocks",
)
FAMILIES = (SD, SDXL)
# diffusers' names for pipelines of a family that do more than text to image, with the same text encoders and noise
WORK = re.compile(r"(?:ControlNet|Union|XS|PAG|Adapter|Img2Img|Inpaint(?:ing)?)+(?=Pipeline$)")


def family_of(names: Iterable[str]) -> Family:
    """The family of a pipeline by the names of its class and its bases; ModelError where none is described."""
    names = list(names)
    for name in names:
        for family in FAMILIES:
            if name in family.pipelines:
                return family
    listed = "; ".join(f"{family.name} ({family.pipelines[0]})" for family in FAMILIES)
    raise ModelError(
        f"{(names or ['This'])[0]} is no text-to-image pipeline that the studio knows. It takes {listed}: give one of "
        "these, or describe its family in core/families.py."
    )


def relative_of(names: Iterable[str]) -> Family:
    """As `family_of`, also for pipelines of a family that need more than a prompt: ControlNet, img2img, inpaint."""
    names = list(names)
    return family_of([*names, *(WORK.sub("", name) for name in names)])


def sampling(scheduler: Mapping[str, Any], denoiser: Mapping[str, Any]) -> Sampling:
    """Default sampling of a model, from the configurations of its scheduler and its denoiser."""
    if denoiser.get("time_cond_proj_dim"):
        return EMBEDDED
    name, spacing = str(scheduler.get("_class_name", "")), scheduler.get("timestep_spacing")
    distilled = name in FEW_STEP and FEW_STEP[name] in (None, spacing)
    # models trained to a terminal signal-to-noise ratio of zero use trailing steps too, but many of them
    return FEW if distilled and not scheduler.get("rescale_betas_zero_snr") else ORDINARY


def check_prediction(family: Family, scheduler: Mapping[str, Any]) -> None:
    """ModelError where the scheduler's prediction type is not one of the family's."""
    prediction = scheduler.get("prediction_type", family.predictions[0])
    if prediction not in family.predictions:
        raise ModelError(
            f"The scheduler's prediction type is {str(prediction)[:40]!r}, and {family.name} has "
            f"{', '.join(family.predictions)}: correct scheduler/scheduler_config.json, or give another model."
        )
