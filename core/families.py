"""Descriptions of backbone families; nothing else in `core` depends on which backbone it has.

A description names the denoising network, the configuration keys of its training size and text width, what
`encode_prompt` returns, where the words of a prompt stand in it, the arguments of the pipeline's call that take the text,
and the form in which the pipeline takes and returns latents. The rest is read from the loaded model: channels, scale and
scaling of latents from the autoencoder, scheduler and prediction type from its folder.

Noise and latents are (B, C, H, W) everywhere in this project. What a pipeline takes differs (FLUX and Qwen-Image: patches
of 2x2 as a sequence) and is made by `pack` and undone by `unpack` where the pipeline is called. FLUX.2 draws its noise with
patches folded into channels, so C, H and W are those of the folded latents (`fold`).

To add a family: describe it here, and its tiny pipeline in tests/backbones.py, which every test of the families then runs.

Dimension key: B batch, C H W latents, L tokens, D text width.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence


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


# ---- the text that a family's tokenizer reads ----------------------------------------------------------------------


@dataclass(frozen=True)
class Reading:
    """The text that a tokenizer reads for a prompt: the prompt's first character in it, and how many tokens at its beginning
    the hidden states lack."""

    text: str
    start: int = 0
    dropped: int = 0


def as_it_is(pipe: Any, prompt: str) -> Reading:
    """The prompt itself."""
    return Reading(prompt)


def lowered(pipe: Any, prompt: str) -> Reading:
    """PixArt: the prompt in lower case, without space around it."""
    text = prompt.lower().strip()
    return Reading(text, -_leading(prompt))


def instructed(pipe: Any, prompt: str) -> Reading:
    """SANA: the instruction that is the default of the pipeline's call, then the prompt as PixArt's.

    Of the tokens the first and the last are kept, so that as many are dropped as the instruction has, less the two at its
    ends.
    """
    instruction = "\n".join(instruction_of(pipe)["complex_human_instruction"])
    dropped = len(pipe.tokenizer.encode(instruction)) - 2
    return Reading(instruction + prompt.lower().strip(), len(instruction) - _leading(prompt), dropped)


def formatted(pipe: Any, prompt: str) -> Reading:
    """Qwen-Image: the pipeline's template, of which the hidden states lack the beginning."""
    template, dropped = pipe.prompt_template_encode, pipe.prompt_template_encode_start_idx
    return Reading(template.format(prompt), template.index("{}"), dropped)


def chat(thinking: bool) -> Callable[[Any, str], Reading]:
    """The prompt as the message of a chat, by the tokenizer's template."""

    def read(pipe: Any, prompt: str) -> Reading:
        def render(content: str) -> str:
            return pipe.tokenizer.apply_chat_template(
                [{"role": "user", "content": content}], tokenize=False, add_generation_prompt=True,
                enable_thinking=thinking,
            )  # fmt: skip

        return _inside(render, prompt)

    return read


def system_chat(pipe: Any, prompt: str) -> Reading:
    """FLUX.2: as the message of a chat, after the system message."""
    from diffusers.pipelines.flux2.system_messages import SYSTEM_MESSAGE

    def render(content: str) -> str:
        messages = [("system", SYSTEM_MESSAGE), ("user", content.replace("[IMG]", ""))]
        turns = [{"role": role, "content": [{"type": "text", "text": text}]} for role, text in messages]
        return pipe.tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=False)

    return _inside(render, prompt)


def instruction_of(pipe: Any) -> dict[str, Any]:
    """SANA: the argument of `encode_prompt` that is a default of the pipeline's call alone."""
    name = "complex_human_instruction"
    calls = [
        vars(cls)["__call__"] for cls in type(pipe).__mro__ if "__call__" in vars(cls)
    ]  # of a subclass it may differ
    parameters = [inspect.signature(call).parameters for call in calls]
    return {name: next(known[name].default for known in parameters if name in known)}


def _inside(render: Callable[[str], str], prompt: str) -> Reading:
    """The rendered prompt, and where it begins, found by rendering a character that no template has."""
    mark, text = "\ue000", render(prompt)
    start = render(mark).index(mark)
    return Reading(text, start if text.startswith(prompt, start) else max(0, text.find(prompt)))


def stretches(tokenizers: Sequence[Any], length: int) -> list[int]:
    """Sizes of the tokenizers' stretches of hidden states of a length: each its window, the last and an omitted one (None)
    what is left."""
    sizes: list[int] = []
    for tokenizer in tokenizers[:-1]:
        left = length - sum(sizes)
        sizes.append(left if tokenizer is None else min(left, tokenizer.model_max_length))
    return [*sizes, length - sum(sizes)]


def token_mask(tokenizers: Sequence[Any], texts: Sequence[str], length: int) -> Tensor:
    """(B, length) bool: True at the real tokens of each tokenizer's stretch of the hidden states."""
    masks = []
    for tokenizer, size in zip(tokenizers, stretches(tokenizers, length), strict=True):
        if tokenizer is None:  # an omitted text encoder fills its stretch with zeros
            masks.append(torch.zeros(len(texts), size, dtype=torch.bool))
            continue
        window = {"padding": "max_length", "max_length": size, "truncation": True}
        masks.append(tokenizer(list(texts), return_tensors="pt", **window)["attention_mask"].bool())
    return torch.cat(masks, 1)


def tokenizer_of(pipe: Any, name: str) -> Any:
    """A tokenizer of a pipeline by its name; of a processor, its tokenizer."""
    component = getattr(pipe, name)
    return component.tokenizer if hasattr(component, "image_processor") else component


def filled(rows: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    """Ragged hidden states, each (L, D), as padded ones (B, L, D), and their mask (B, L)."""
    padded = pad_sequence(list(rows), batch_first=True)
    lengths = torch.tensor([len(row) for row in rows])
    return padded, torch.arange(padded.shape[1]) < lengths[:, None]


def text_of(
    family: Family, pipe: Any, prompts: Sequence[str], states: Mapping[str, Any]
) -> tuple[Tensor, Tensor]:
    """Hidden states (B, L, D) and the mask (B, L) of their real tokens, of what `encode_prompt` returned for prompts (by the
    fields of core.diffusion.Text). The mask is the tokenizers' where it returns none; one that is None: all are real."""
    if family.ragged:
        return filled(states["hidden"])
    hidden = states["hidden"]
    if "mask" not in states:
        tokenizers = [tokenizer_of(pipe, name) for name in family.tokenizers]
        texts = [family.reading(pipe, prompt).text for prompt in prompts]
        return hidden, token_mask(tokenizers, texts, hidden.shape[1])
    mask = states["mask"]
    return hidden, torch.ones(hidden.shape[:2], dtype=torch.bool) if mask is None else mask.bool()


def _leading(prompt: str) -> int:
    return len(prompt) - len(prompt.lstrip())


# ---- the form of latents at the pipeline's door --------------------------------------------------------------------


def same(latents: Tensor, size: tuple[int, int] = (0, 0)) -> Tensor:
    """Latents as they are."""
    return latents


def to_patches(latents: Tensor) -> Tensor:
    """(B, C, H, W) -> patches of 2x2 as a sequence (B, H W / 4, 4 C)."""
    batch, channels, height, width = latents.shape
    tiles = latents.view(batch, channels, height // 2, 2, width // 2, 2).permute(0, 2, 4, 1, 3, 5)
    return tiles.reshape(batch, height * width // 4, 4 * channels)


def from_patches(latents: Tensor, size: tuple[int, int]) -> Tensor:
    """The inverse of `to_patches` for latents of a height and width."""
    (height, width), (batch, _, values) = size, latents.shape
    tiles = latents.view(batch, height // 2, width // 2, values // 4, 2, 2).permute(0, 3, 1, 4, 2, 5)
    return tiles.reshape(batch, values // 4, height, width)


def from_sequence(latents: Tensor, size: tuple[int, int]) -> Tensor:
    """A sequence (B, H W, C) -> (B, C, H, W)."""
    return latents.transpose(1, 2).unflatten(2, size)


def latent_shape(family: Family, pipe: Any, height: int, width: int) -> tuple[int, int, int]:
    """(C, H, W) of the noise of an image of a size in pixels; what does not fill a patch of the denoiser is cut off."""
    vae, patch = pipe.vae.config, family.patch
    channels = int(vae.get("latent_channels") or vae["z_dim"]) * family.fold**2
    unit = int(pipe.vae_scale_factor) * family.fold * patch  # pixels
    return channels, int(height) // unit * patch, int(width) // unit * patch


# ---- more arguments of the call ------------------------------------------------------------------------------------


def of_any_size(steps: int) -> dict[str, Any]:
    """SANA and PixArt: images of the size that is asked for, not of the nearest that was trained on."""
    return {"use_resolution_binning": False}


def of_any_steps(steps: int) -> dict[str, Any]:
    """SANA-Sprint: its default of an intermediate time serves two steps alone."""
    return of_any_size(steps) | ({} if steps == 2 else {"intermediate_timesteps": None})


# ---- default sampling: from the configurations of scheduler, denoiser and pipeline ---------------------------------

Configuration = Mapping[str, Any]


def by_scheduler(scheduler: Configuration, denoiser: Configuration, pipeline: Configuration) -> Sampling:
    """Stable Diffusion and its relatives: their distilled models differ in the scheduler."""
    if denoiser.get("time_cond_proj_dim"):
        return EMBEDDED
    name, spacing = str(scheduler.get("_class_name", "")), scheduler.get("timestep_spacing")
    distilled = name in FEW_STEP and FEW_STEP[name] in (None, spacing)
    # models trained to a terminal signal-to-noise ratio of zero use trailing steps too, but many of them
    return FEW if distilled and not scheduler.get("rescale_betas_zero_snr") else ORDINARY


def by_embedding(scheduler: Configuration, denoiser: Configuration, pipeline: Configuration) -> Sampling:
    """FLUX.1: a model without an embedding of the guidance is distilled to few steps (schnell)."""
    return Sampling(28, 3.5) if denoiser.get("guidance_embeds") else FEW


def by_flag(scheduler: Configuration, denoiser: Configuration, pipeline: Configuration) -> Sampling:
    """FLUX.2 klein: the pipeline says whether it is distilled."""
    return FEW if pipeline.get("is_distilled") else Sampling(50, 4.0)


def always(steps: int, guidance: float) -> Callable[[Configuration, Configuration, Configuration], Sampling]:
    """The same for every model of the family."""
    return lambda scheduler, denoiser, pipeline: Sampling(steps, guidance)


# ---- the families --------------------------------------------------------------------------------------------------


_ORDINARY = always(28, 4.0)


@dataclass(frozen=True)
class Family:
    """Description of a family (see the module). Names are those of the components' configurations.

    pipelines     the diffusers classes (or bases) that it is loaded as
    encoded       the values that `encode_prompt` returns, in order, as fields of core.diffusion.Text ("": not used)
    arguments     pairs of a field of Text and an argument of the pipeline's call
    denoiser      name of the denoising component
    side          its entry of the training size in latent positions; where it has none, the pipeline's default
    text_width    its entry of the hidden states' width
    tokenizers    of each stretch of the hidden states' length, in order; words are located in the first
    reading       the text that the tokenizer reads for a prompt
    negative_reading  the same for a negative prompt; None: as for a prompt
    options       more arguments of `encode_prompt`, from the pipeline
    blank         required arguments of `encode_prompt` that stay None
    ragged        hidden states are lists of one tensor (L, D) a prompt
    guidance      the argument of the pipeline's call that is the guidance
    extra         more arguments of the pipeline's call, by the number of steps
    draw_float32  the pipeline draws and takes noise in float32, whatever the network computes in
    pack, unpack  to and from the form of latents that the pipeline denoises
    unpacked      pipelines that need more than a prompt and pack the latents that they are given themselves
    returns       "denoised": the pipeline returns the latents that it denoises; "converted": others, made of them
    fold          patches of fold x fold autoencoder latents are channels of the latents
    frames        the autoencoder's latents have an axis of frames
    patch         latent positions a side in one position of the denoiser
    pixels        side of the images it was trained on, where no configuration has it
    left_out      components that are not loaded
    processors    components that are processors, of which the tokenizers alone are loaded (no image is processed)
    predictions   valid prediction types of its schedulers, the first where a scheduler names none
    sampling      default sampling, from the configurations of scheduler, denoiser and pipeline
    modular       its class of diffusers' modular blocks, for guiders (core.guidance); "": its classic PAG pipeline is used
    middle        the stack of transformer blocks in the denoiser's middle, which guiders perturb
    original_guidance  guidance g adds g (with text - without) to the prediction with text, so that 0 is none
    rescaled_guidance  the pipeline scales a guided prediction to the norm of that with text
    own_sigmas    the pipeline sets the times of its steps itself
    """

    name: str
    pipelines: tuple[str, ...]
    encoded: tuple[str, ...]
    arguments: tuple[tuple[str, str], ...]
    denoiser: str = "transformer"
    side: str = "sample_size"
    text_width: str = "joint_attention_dim"
    tokenizers: tuple[str, ...] = ("tokenizer",)
    reading: Callable[[Any, str], Reading] = as_it_is
    negative_reading: Callable[[Any, str], Reading] | None = None
    options: Callable[[Any], dict[str, Any]] = lambda pipe: {}
    blank: tuple[str, ...] = ()
    ragged: bool = False
    guidance: str = "guidance_scale"
    extra: Callable[[int], dict[str, Any]] = lambda steps: {}
    draw_float32: bool = False
    pack: Callable[[Tensor], Tensor] = same
    unpack: Callable[[Tensor, tuple[int, int]], Tensor] = same
    unpacked: tuple[str, ...] = ()
    returns: str = "denoised"
    fold: int = 1
    frames: bool = False
    patch: int = 1
    pixels: int = 1024
    left_out: tuple[str, ...] = ()
    processors: tuple[str, ...] = ()
    predictions: tuple[str, ...] = ("flow_prediction",)
    sampling: Callable[[Configuration, Configuration, Configuration], Sampling] = _ORDINARY
    modular: str = ""
    middle: str = ""
    original_guidance: bool = False
    rescaled_guidance: bool = False
    own_sigmas: bool = False


_PLAIN = (("hidden", "prompt_embeds"), ("negative", "negative_prompt_embeds"))
_POOLED = (("pooled", "pooled_prompt_embeds"), ("negative_pooled", "negative_pooled_prompt_embeds"))
_MASKED = (("mask", "prompt_attention_mask"), ("negative_mask", "negative_prompt_attention_mask"))
_IMAGES = ("feature_extractor", "image_encoder")
_UNET: dict[str, Any] = {
    "denoiser": "unet",
    "text_width": "cross_attention_dim",
    "predictions": ("epsilon", "v_prediction", "sample"),
    "sampling": by_scheduler,
    "middle": "mid_block.attentions.0.transformer_blocks",
}

SD = Family(
    name="Stable Diffusion 1.x and 2.x",
    pipelines=("StableDiffusionPipeline", "StableDiffusionPAGPipeline", "LatentConsistencyModelPipeline"),
    encoded=("hidden", "negative"),
    arguments=_PLAIN,
    left_out=("safety_checker", *_IMAGES),
    **_UNET,
)
SDXL = Family(
    name="Stable Diffusion XL",
    pipelines=("StableDiffusionXLPipeline", "StableDiffusionXLPAGPipeline"),
    encoded=("hidden", "negative", "pooled", "negative_pooled"),
    arguments=(*_PLAIN, *_POOLED),
    left_out=_IMAGES,
    modular="StableDiffusionXLAutoBlocks",
    **_UNET,
)
KOLORS = Family(
    name="Kolors",
    pipelines=("KolorsPipeline", "KolorsPAGPipeline"),
    encoded=("hidden", "negative", "pooled", "negative_pooled"),
    arguments=(*_PLAIN, *_POOLED),
    left_out=_IMAGES,
    **{**_UNET, "text_width": "encoder_hid_dim", "sampling": always(25, 5.0)},
)
SD3 = Family(
    name="Stable Diffusion 3 and 3.5",
    pipelines=("StableDiffusion3Pipeline", "StableDiffusion3PAGPipeline"),
    encoded=("hidden", "negative", "pooled", "negative_pooled"),
    arguments=(*_PLAIN, *_POOLED),
    tokenizers=("tokenizer", "tokenizer_3"),
    blank=("prompt_2", "prompt_3"),
    patch=2,
    left_out=_IMAGES,
    sampling=always(28, 4.5),
    modular="StableDiffusion3AutoBlocks",
    middle="transformer_blocks",
)
FLUX = Family(
    name="FLUX.1",
    pipelines=("FluxPipeline",),
    encoded=("hidden", "pooled", ""),
    arguments=(("hidden", "prompt_embeds"), ("pooled", "pooled_prompt_embeds")),
    tokenizers=("tokenizer_2",),
    pack=to_patches,
    unpack=from_patches,
    unpacked=("FluxInpaintPipeline", "FluxControlNetInpaintPipeline"),
    patch=2,
    left_out=_IMAGES,
    sampling=by_embedding,
    modular="FluxAutoBlocks",
    own_sigmas=True,
)
FLUX2 = Family(
    name="FLUX.2",
    pipelines=("Flux2Pipeline",),
    processors=("tokenizer",),
    encoded=("hidden", ""),
    arguments=(("hidden", "prompt_embeds"),),
    reading=system_chat,
    unpack=from_sequence,
    returns="converted",
    fold=2,
    sampling=always(28, 4.0),
    modular="Flux2AutoBlocks",
    own_sigmas=True,
)
KLEIN = Family(
    name="FLUX.2 klein",
    pipelines=("Flux2KleinPipeline",),
    encoded=("hidden", ""),
    arguments=_PLAIN,
    reading=chat(thinking=False),
    unpack=from_sequence,
    returns="converted",
    fold=2,
    sampling=by_flag,
    modular="Flux2KleinBaseAutoBlocks",  # which has a guider
    middle="transformer_blocks",
    own_sigmas=True,
)
SANA = Family(
    name="SANA",
    pipelines=("SanaPipeline", "SanaPAGPipeline"),
    encoded=("hidden", "mask", "negative", "negative_mask"),
    arguments=(*_PLAIN, *_MASKED),
    text_width="caption_channels",
    reading=instructed,
    negative_reading=lowered,
    options=instruction_of,
    extra=of_any_size,
    draw_float32=True,
    sampling=always(20, 4.5),
    middle="transformer_blocks",
)
SPRINT = Family(
    name="SANA-Sprint",
    pipelines=("SanaSprintPipeline",),
    encoded=("hidden", "mask"),
    arguments=(("hidden", "prompt_embeds"), ("mask", "prompt_attention_mask")),
    text_width="caption_channels",
    reading=instructed,
    options=instruction_of,
    extra=of_any_steps,
    draw_float32=True,
    predictions=("trigflow",),
    sampling=always(2, 4.5),
)
QWEN = Family(
    name="Qwen-Image",
    pipelines=("QwenImagePipeline",),
    encoded=("hidden", "mask"),
    arguments=(
        *_PLAIN,
        ("mask", "prompt_embeds_mask"),
        ("negative_mask", "negative_prompt_embeds_mask"),
    ),
    reading=formatted,
    guidance="true_cfg_scale",
    pack=to_patches,
    unpack=from_patches,
    frames=True,
    patch=2,
    sampling=always(50, 4.0),
    modular="QwenImageAutoBlocks",
    middle="transformer_blocks",
    rescaled_guidance=True,
    own_sigmas=True,
)
PIXART = Family(
    name="PixArt-Sigma",
    pipelines=("PixArtSigmaPipeline", "PixArtSigmaPAGPipeline"),
    encoded=("hidden", "mask", "negative", "negative_mask"),
    arguments=(*_PLAIN, *_MASKED),
    text_width="caption_channels",
    reading=lowered,
    extra=of_any_size,
    patch=2,
    predictions=("epsilon",),
    sampling=always(20, 4.5),
    middle="transformer_blocks",
)
ZIMAGE = Family(
    name="Z-Image",
    pipelines=("ZImagePipeline",),
    encoded=("hidden", "negative"),
    arguments=_PLAIN,
    text_width="cap_feat_dim",
    reading=chat(thinking=True),
    ragged=True,
    draw_float32=True,
    patch=2,
    sampling=always(9, 0.0),
    modular="ZImageAutoBlocks",
    middle="layers",
    original_guidance=True,
    own_sigmas=True,
)
FAMILIES = (SD, SDXL, KOLORS, SD3, FLUX, FLUX2, KLEIN, SANA, SPRINT, QWEN, PIXART, ZIMAGE)
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


def check_prediction(family: Family, scheduler: Mapping[str, Any]) -> None:
    """ModelError where the scheduler's prediction type is not one of the family's."""
    prediction = scheduler.get("prediction_type", family.predictions[0])
    if prediction not in family.predictions:
        raise ModelError(
            f"The scheduler's prediction type is {str(prediction)[:40]!r}, and {family.name} has "
            f"{', '.join(family.predictions)}: correct scheduler/scheduler_config.json, or give another model."
        )
