"""A pipeline in the shapes of Stable Diffusion XL 1.0 with random weights, for what depends on shapes alone.

Times and memory do, so the benchmark needs no download. The configurations are those of the published model, where they
differ from the libraries' defaults; the tokenizer is a small one, as the number of tokens is what counts.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from diffusers import AutoencoderKL, EulerDiscreteScheduler, StableDiffusionXLPipeline, UNet2DConditionModel
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

from core.training.diffuser import build_tokenizer
from data.shapes.scenes import vocabulary

SHAPES: dict[str, dict[str, Any]] = {
    "unet": {
        "sample_size": 128,
        "block_out_channels": (320, 640, 1280),
        "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        "up_block_types": ("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
        "transformer_layers_per_block": (1, 2, 10),
        "attention_head_dim": (5, 10, 20),
        "cross_attention_dim": 2048,
        "use_linear_projection": True,
        "addition_embed_type": "text_time",
        "addition_time_embed_dim": 256,
        "projection_class_embeddings_input_dim": 2816,
    },
    "vae": {
        "block_out_channels": (128, 256, 512, 512),
        "down_block_types": ("DownEncoderBlock2D",) * 4,
        "up_block_types": ("UpDecoderBlock2D",) * 4,
        "layers_per_block": 2,
        "sample_size": 1024,
        "scaling_factor": 0.13025,
    },
    "text_encoder": {
        "hidden_size": 768,
        "intermediate_size": 3072,
        "num_attention_heads": 12,
        "projection_dim": 768,
    },
    "text_encoder_2": {
        "hidden_size": 1280,
        "intermediate_size": 5120,
        "num_hidden_layers": 32,
        "num_attention_heads": 20,
        "projection_dim": 1280,
        "hidden_act": "gelu",
    },
}


def networks(
    shapes: Mapping[str, Mapping[str, Any]], dtype: torch.dtype, device: torch.device | str
) -> dict[str, torch.nn.Module]:
    """Make unet, vae, text_encoder and text_encoder_2 with random weights, in `dtype` on `device`."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        with torch.device(device):
            return {
                "unet": UNet2DConditionModel(**shapes["unet"]),
                "vae": AutoencoderKL(**shapes["vae"]),
                "text_encoder": CLIPTextModel(CLIPTextConfig(**shapes["text_encoder"])),
                "text_encoder_2": CLIPTextModelWithProjection(CLIPTextConfig(**shapes["text_encoder_2"])),
            }
    finally:
        torch.set_default_dtype(before)


def pipeline(dtype: torch.dtype = torch.bfloat16, device: torch.device | str = "cpu") -> Any:
    """Make the whole pipeline: 3.5 billion parameters, 7 GB in bfloat16, in half a minute on one core."""
    tokenizer = build_tokenizer(vocabulary("small"))
    ids = {name: getattr(tokenizer, name) for name in ("bos_token_id", "eos_token_id", "pad_token_id")}
    shapes = {name: {**shape, **ids} if name.startswith("text") else shape for name, shape in SHAPES.items()}
    scheduler = EulerDiscreteScheduler(
        beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", steps_offset=1,
        timestep_spacing="leading",
    )  # fmt: skip
    return StableDiffusionXLPipeline(
        **networks(shapes, dtype, device), tokenizer=tokenizer, tokenizer_2=tokenizer, scheduler=scheduler,
        force_zeros_for_empty_prompt=True, add_watermarker=False,
    )  # fmt: skip
