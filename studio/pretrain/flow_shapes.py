"""Pipelines in the shapes of FLUX.1 dev and Stable Diffusion 3.5 Large with random weights, for what depends on shapes alone.

Few machines hold the whole networks (12 and 8 billion parameters): they get `blocks` of each stack, and a step is
composed from them (core.evaluation.benchmark). The configurations are those of the published models; the text encoders are
stand-ins of the right widths, so that the time of encoding a text says nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from diffusers import (
    AutoencoderKL,
    FlowMatchEulerDiscreteScheduler,
    FluxPipeline,
    FluxTransformer2DModel,
    SD3Transformer2DModel,
    StableDiffusion3Pipeline,
)
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection, T5Config, T5EncoderModel

from core.training.diffuser import build_tokenizer
from data.shapes.scenes import vocabulary

# the denoiser's stacks of blocks: (entry of its configuration, name of the list, blocks of the published model)
STACKS: dict[str, tuple[tuple[str, str, int], ...]] = {
    "flux": (
        ("num_layers", "transformer_blocks", 19),
        ("num_single_layers", "single_transformer_blocks", 38),
    ),
    "sd3": (("num_layers", "transformer_blocks", 38),),
}
TRANSFORMERS: dict[str, dict[str, Any]] = {
    "flux": {
        "in_channels": 64,
        "attention_head_dim": 128,
        "num_attention_heads": 24,
        "joint_attention_dim": 4096,
        "pooled_projection_dim": 768,
        "guidance_embeds": True,
    },
    "sd3": {
        "sample_size": 128,
        "in_channels": 16,
        "out_channels": 16,
        "attention_head_dim": 64,
        "num_attention_heads": 38,
        "joint_attention_dim": 4096,
        "caption_projection_dim": 2432,
        "pooled_projection_dim": 2048,
        "pos_embed_max_size": 192,
        "qk_norm": "rms_norm",
    },
}
VAE: dict[str, Any] = {
    "block_out_channels": (128, 256, 512, 512),
    "down_block_types": ("DownEncoderBlock2D",) * 4,
    "up_block_types": ("UpDecoderBlock2D",) * 4,
    "layers_per_block": 2,
    "latent_channels": 16,
    "use_quant_conv": False,
    "use_post_quant_conv": False,
    "scaling_factor": 0.3611,
    "shift_factor": 0.1159,
}
T5_WIDTH, CLIP_WIDTHS = 4096, (768, 1280)


def transformer(name: str, blocks: int | None = None) -> Any:
    """The denoiser, with all blocks or `blocks` of each stack."""
    counts = {entry: blocks or whole for entry, _, whole in STACKS[name]}
    made = FluxTransformer2DModel if name == "flux" else SD3Transformer2DModel
    return made(**TRANSFORMERS[name], **counts)


def pipeline(
    name: str,
    dtype: torch.dtype = torch.bfloat16,
    device: torch.device | str = "cpu",
    blocks: int | None = None,
) -> Any:
    """Make the pipeline with random weights, in `dtype` on `device`."""
    tokenizer = build_tokenizer(vocabulary("small"))
    ids = {name: getattr(tokenizer, name) for name in ("bos_token_id", "eos_token_id", "pad_token_id")}
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        with torch.device(device):
            denoiser, vae = transformer(name, blocks), AutoencoderKL(**VAE)
            five = T5EncoderModel(
                T5Config(
                    vocab_size=len(tokenizer), d_model=T5_WIDTH, d_kv=64, d_ff=64, num_layers=1, num_heads=1
                )
            )
            clips = [_clip(width, ids, name == "sd3") for width in CLIP_WIDTHS]
    finally:
        torch.set_default_dtype(before)
    scheduler = FlowMatchEulerDiscreteScheduler(shift=3.0)
    texts = {"text_encoder": clips[0], "tokenizer": tokenizer, "tokenizer_2": tokenizer}
    parts = {"transformer": denoiser, "vae": vae, "scheduler": scheduler, **texts}
    if name == "flux":
        return FluxPipeline(**parts, text_encoder_2=five)
    return StableDiffusion3Pipeline(
        **parts, text_encoder_2=clips[1], text_encoder_3=five, tokenizer_3=tokenizer
    )


def _clip(width: int, ids: Mapping[str, Any], projected: bool) -> Any:
    """A stand-in of one layer for a CLIP text encoder."""
    config = CLIPTextConfig(
        hidden_size=width, intermediate_size=64, num_hidden_layers=2, num_attention_heads=1, projection_dim=width, **ids
    )  # fmt: skip
    return (CLIPTextModelWithProjection if projected else CLIPTextModel)(config)
