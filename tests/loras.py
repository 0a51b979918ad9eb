"""LoRA files as others publish them: random layers on the attention of a denoiser and of its text encoder."""

import copy
from pathlib import Path
from typing import Any

import peft
import torch
from diffusers.utils import convert_state_dict_to_diffusers

TARGETS = {"denoiser": ["to_q", "to_v"], "text_encoder": ["q_proj", "v_proj"]}


def write(
    diffuser: Any, path: Path, seed: int = 0, parts: tuple[str, ...] = ("denoiser", "text_encoder")
) -> Path:
    """Write a LoRA for a diffuser's backbone; the diffuser is left as it was."""
    torch.manual_seed(seed)
    networks = {"denoiser": diffuser.denoiser, "text_encoder": diffuser.pipe.text_encoder}
    names = {
        "denoiser": f"{diffuser.family.denoiser}_lora_layers",
        "text_encoder": "text_encoder_lora_layers",
    }
    layers = {}
    for part in parts:
        config = peft.LoraConfig(r=2, lora_alpha=2, target_modules=TARGETS[part], init_lora_weights=False)
        network = peft.get_peft_model(copy.deepcopy(networks[part]), config)
        state = peft.get_peft_model_state_dict(network)
        state = {key.removeprefix("base_model.model."): value.contiguous() for key, value in state.items()}
        layers[names[part]] = convert_state_dict_to_diffusers(state) if part == "text_encoder" else state
    type(diffuser.pipe).save_lora_weights(str(path.parent), weight_name=path.name, **layers)
    return path
