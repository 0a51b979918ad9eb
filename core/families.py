"""What a family of backbones needs, one description each: nothing else in `core` asks which backbone it has.

A description says which component denoises, where its configuration keeps the size it was trained for and the width of
its text, what `encode_prompt` returns and takes, which tokenizer each stretch of the text comes from, and which arguments
of the pipeline's call the text feeds. The rest is asked of the loaded model: the channels, the scale and the scaling of
latents are the autoencoder's, the scheduler and its prediction type are the folder's own, and sizes as a
condition (SDXL) are made by the pipeline from height and width.

Described here: Stable Diffusion 1.x and 2.x, latent consistency models of them, SDXL and its few-step relatives (Turbo,
Lightning, LCM, TCD), which differ from SDXL in their scheduler and in how they are sampled (`sampling`).

What is missing for others:
- Stable Diffusion 3 / 3.5: its description alone, which is in tests/core/test_families.py and runs there on a tiny one;
  nobody has tried it on the published weights. Its text is long (333 positions of width 4096), and words are found in
  the first 77 of them, which come from the CLIP encoders.
- FLUX: a description and two functions. Its call takes and gives packed latents (B, H W / 4, 4 C), so a description
  needs `pack` and `unpack`; its in_channels counts packed ones (64 for 16); it has no negative text (guidance is always
  an embedding), and `encode_prompt` also returns position ids, which the call makes by itself.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any


class ModelError(ValueError):
    """A model that cannot be used; its text says why and what to do."""


@dataclass(frozen=True)
class Sampling:
    """How a backbone is sampled where nobody says otherwise; guidance 0 is none at all."""

    steps: int
    guidance: float


ORDINARY = Sampling(20, 4.0)
FEW = Sampling(4, 0.0)
EMBEDDED = Sampling(4, 8.0)  # guidance is an input of the network: one pass, and 8 is what LCM's authors take
# schedulers of distilled models, and the spacing of steps by which one of them is known from its ordinary use
FEW_STEP: dict[str, str | None] = {
    "LCMScheduler": None,
    "TCDScheduler": None,
    "EulerAncestralDiscreteScheduler": "trailing",  # Turbo
    "EulerDiscreteScheduler": "trailing",  # Lightning, SD Turbo
}


@dataclass(frozen=True)
class Family:
    """See the module. Names of fields are those of the components' configurations.

    pipelines     the diffusers classes (or bases) that it is loaded as
    encoded       what `encode_prompt` returns, in order, by the fields of core.diffusion.Text
    arguments     (field of Text, argument of the pipeline's call) of the text
    tokenizers    of each stretch of the hidden states' length, in order; words are found in the first
    blank         arguments of `encode_prompt` that must be given and stay None
    patch         latent positions a side that the denoiser takes as one
    left_out      components that are not loaded: images are decoded and judged by us
    predictions   prediction types of schedulers that go with it
    modular       diffusers' modular blocks of it, by which guidance goes (core.guidance); none: its classic PAG pipeline
    middle        the stack of transformer blocks in the denoiser's middle, which that guidance weakens
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
# as diffusers names what a pipeline does beside text to image, with the same text encoders and the same noise
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
    """As `family_of`, for pipelines of the family that need more than a prompt, too: ControlNet, img2img, inpaint."""
    names = list(names)
    return family_of([*names, *(WORK.sub("", name) for name in names)])


def sampling(scheduler: Mapping[str, Any], denoiser: Mapping[str, Any]) -> Sampling:
    """How a model is sampled by default, from the configurations of its scheduler and its denoiser."""
    if denoiser.get("time_cond_proj_dim"):
        return EMBEDDED
    name, spacing = str(scheduler.get("_class_name", "")), scheduler.get("timestep_spacing")
    distilled = name in FEW_STEP and FEW_STEP[name] in (None, spacing)
    # models trained to a terminal signal-to-noise ratio of zero take trailing steps, too, and many of them
    return FEW if distilled and not scheduler.get("rescale_betas_zero_snr") else ORDINARY


def check_prediction(family: Family, scheduler: Mapping[str, Any]) -> None:
    """ModelError where the scheduler takes the denoiser's output for something that the family does not predict."""
    found = scheduler.get("prediction_type", family.predictions[0])
    if found not in family.predictions:
        raise ModelError(
            f"The scheduler's prediction type is {str(found)[:40]!r}, and {family.name} has "
            f"{', '.join(family.predictions)}: correct scheduler/scheduler_config.json, or give another model."
        )
