"""Tiny random pipelines of the families' real classes, as folders that `save_pretrained` wrote.

`save(name, folder)` writes one of BACKBONES. Stable Diffusion 1.5 and 2.1 have the real CLIPTokenizer with a vocabulary
of single letters, so that every word is read in several pieces; 1.5 also names a safety checker that is not there.
"""

import json
from pathlib import Path
from typing import Any

import torch
from diffusers import (
    AutoencoderKL,
    DDIMScheduler,
    EulerAncestralDiscreteScheduler,
    EulerDiscreteScheduler,
    LCMScheduler,
    PNDMScheduler,
    StableDiffusionPipeline,
    StableDiffusionXLPipeline,
    UNet2DConditionModel,
)
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from core.training import vae as vae_training
from core.training.diffuser import build_pipeline
from data.shapes.scenes import vocabulary

BETAS = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}
# name: (scheduler of the published model, its own steps and guidance)
BACKBONES: dict[str, tuple[Any, int, float]] = {
    "sdxl": (EulerDiscreteScheduler(**BETAS, timestep_spacing="leading", steps_offset=1), 20, 4.0),
    "turbo": (EulerAncestralDiscreteScheduler(**BETAS, timestep_spacing="trailing"), 4, 0.0),
    "lightning": (EulerDiscreteScheduler(**BETAS, timestep_spacing="trailing"), 4, 0.0),
    "lcm": (LCMScheduler(**BETAS), 4, 8.0),
    "sd15": (PNDMScheduler(**BETAS, skip_prk_steps=True, steps_offset=1), 20, 4.0),
    "sd21": (DDIMScheduler(**BETAS, prediction_type="v_prediction", steps_offset=1), 20, 4.0),
}
FEW = ("turbo", "lightning", "lcm")


def save(name: str, folder: Path, variant: str | None = None) -> Path:
    """Write the tiny random backbone `name`; 64 pixels a side."""
    torch.manual_seed(0)
    pipe = sd(name) if name.startswith(("sd1", "sd2")) else sdxl(name)
    pipe.save_pretrained(folder, variant=variant)
    if name == "sd15":
        index = json.loads((folder / "model_index.json").read_text())
        index["safety_checker"] = ["stable_diffusion", "StableDiffusionSafetyChecker"]
        (folder / "model_index.json").write_text(json.dumps(index))
    return folder


def sdxl(name: str) -> StableDiffusionXLPipeline:
    vae = vae_training.build(channels=(16, 16, 16, 16), size=64)
    sizes = {"channels": (16, 32), "text_width": 32, "text_layers": 1, "latent_size": 8}
    pipe = build_pipeline(vocabulary("small"), vae=vae, **sizes)
    pipe.scheduler = BACKBONES[name][0]
    pipe.vae.register_to_config(force_upcast=True)
    if name == "lcm":  # guidance is an input of its network
        config = {k: v for k, v in pipe.unet.config.items() if k != "_use_default_values"}
        pipe.unet = UNet2DConditionModel.from_config({**config, "time_cond_proj_dim": 8})
    return pipe


def sd(name: str) -> StableDiffusionPipeline:
    tokenizer = letters()
    second = name == "sd21"
    width, marks = 48 if second else 32, ("bos_token_id", "eos_token_id", "pad_token_id")
    text = CLIPTextConfig(
        vocab_size=len(tokenizer), hidden_size=width, intermediate_size=64, num_hidden_layers=1, num_attention_heads=2,
        **{name: getattr(tokenizer, name) for name in marks},
    )  # fmt: skip
    unet = UNet2DConditionModel(
        sample_size=16,
        block_out_channels=(16, 32),
        layers_per_block=1,
        down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
        attention_head_dim=(2, 4) if second else 2,
        cross_attention_dim=width,
        use_linear_projection=second,
        norm_num_groups=8,
    )
    # three levels: four pixels a latent position, not eight
    vae = AutoencoderKL(
        block_out_channels=(16, 16, 16),
        down_block_types=("DownEncoderBlock2D",) * 3,
        up_block_types=("UpDecoderBlock2D",) * 3,
        latent_channels=4,
        norm_num_groups=8,
        sample_size=64,
    )
    none = dict.fromkeys(("safety_checker", "feature_extractor"))
    return StableDiffusionPipeline(
        vae=vae, text_encoder=CLIPTextModel(text), tokenizer=tokenizer, unet=unet, scheduler=BACKBONES[name][0],
        requires_safety_checker=False, **none,
    )  # fmt: skip


def letters() -> CLIPTokenizer:
    """CLIP's tokenizer over letters and digits: no merges, so every word falls into its letters."""
    characters = "abcdefghijklmnopqrstuvwxyz0123456789,.!?'-"
    pieces = [*characters, *(f"{c}</w>" for c in characters), "<|startoftext|>", "<|endoftext|>"]
    vocabulary = {piece: i for i, piece in enumerate(pieces)}
    return CLIPTokenizer(vocab=vocabulary, merges=[], model_max_length=77)
