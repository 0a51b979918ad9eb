"""Tiny random pipelines of the families that have a transformer as their denoiser, of the real classes.

Their tokenizers are of the real classes too, over single letters or bytes, so that every word is read in several pieces.
`build(name)` makes one of FAMILIES; images are 64 pixels a side unless a test asks for others.
"""

from collections.abc import Callable
from typing import Any

import torch
from diffusers import (
    AutoencoderDC,
    AutoencoderKL,
    AutoencoderKLFlux2,
    AutoencoderKLQwenImage,
    DPMSolverMultistepScheduler,
    FlowMatchEulerDiscreteScheduler,
    Flux2KleinPipeline,
    Flux2Pipeline,
    Flux2Transformer2DModel,
    FluxPipeline,
    FluxTransformer2DModel,
    PixArtSigmaPipeline,
    PixArtTransformer2DModel,
    QwenImagePipeline,
    QwenImageTransformer2DModel,
    SanaPipeline,
    SanaSprintPipeline,
    SanaTransformer2DModel,
    SCMScheduler,
    SD3Transformer2DModel,
    StableDiffusion3Pipeline,
    ZImagePipeline,
    ZImageTransformer2DModel,
)
from tokenizers import pre_tokenizers
from transformers import (
    CLIPTextConfig,
    CLIPTextModel,
    CLIPTextModelWithProjection,
    CLIPTokenizer,
    Gemma2Config,
    Gemma2Model,
    GemmaTokenizer,
    Mistral3Config,
    Mistral3ForConditionalGeneration,
    MistralConfig,
    PixtralVisionConfig,
    Qwen2_5_VLConfig,
    Qwen2_5_VLForConditionalGeneration,
    Qwen2Tokenizer,
    Qwen3Config,
    Qwen3ForCausalLM,
    T5Config,
    T5EncoderModel,
    T5Tokenizer,
)

CHARACTERS = "abcdefghijklmnopqrstuvwxyz0123456789,.!?'-"
CHAT = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n"
    "{% if message['content'] is string %}{{ message['content'] }}"
    "{% else %}{% for block in message['content'] %}{{ block['text'] }}{% endfor %}{% endif %}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def clip_tokenizer() -> CLIPTokenizer:
    pieces = [*CHARACTERS, *(f"{c}</w>" for c in CHARACTERS), "<|startoftext|>", "<|endoftext|>"]
    return CLIPTokenizer(vocab={piece: i for i, piece in enumerate(pieces)}, merges=[], model_max_length=77)


def t5_tokenizer(length: int) -> T5Tokenizer:
    vocabulary = [
        ("<pad>", 0.0),
        ("</s>", 0.0),
        ("<unk>", -9.0),
        ("▁", -2.0),
        *((c, -3.0) for c in CHARACTERS),
    ]
    return T5Tokenizer(vocab=vocabulary, extra_ids=0, model_max_length=length)


def byte_tokenizer() -> Qwen2Tokenizer:
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    marks = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    vocabulary = {piece: i for i, piece in enumerate([*letters, *marks])}
    tokenizer = Qwen2Tokenizer(vocab=vocabulary, merges=[], additional_special_tokens=marks[1:])
    tokenizer.chat_template = CHAT
    return tokenizer


def gemma_tokenizer() -> GemmaTokenizer:
    marks = ["<pad>", "<eos>", "<bos>", "<unk>", "<mask>"]
    letters = [chr(code) for code in range(33, 127)]
    vocabulary = {piece: i for i, piece in enumerate([*marks, "▁", "\n", *letters])}
    return GemmaTokenizer(vocab=vocabulary, merges=[])


def clip(projection: bool = False) -> Any:
    tokenizer, heads = clip_tokenizer(), {"num_attention_heads": 2, "num_hidden_layers": 2}
    ids = {name: getattr(tokenizer, name) for name in ("bos_token_id", "eos_token_id", "pad_token_id")}
    config = CLIPTextConfig(
        vocab_size=len(tokenizer), hidden_size=16, intermediate_size=16, projection_dim=16, **ids, **heads
    )
    return (CLIPTextModelWithProjection if projection else CLIPTextModel)(config)


def t5(width: int = 32) -> T5EncoderModel:
    size = len(t5_tokenizer(77))
    return T5EncoderModel(
        T5Config(vocab_size=size, d_model=width, d_kv=8, d_ff=32, num_layers=1, num_heads=2)
    )


def decoder(layers: int, width: int = 16) -> dict[str, Any]:
    """Sizes of a language model over bytes."""
    return {
        "vocab_size": len(byte_tokenizer()), "hidden_size": width, "intermediate_size": 16, "num_hidden_layers": layers,
        "num_attention_heads": 2, "num_key_value_heads": 1, "head_dim": 8,
    }  # fmt: skip


def kl(channels: int = 4, shift: float | None = 0.1) -> AutoencoderKL:
    """8 pixels a latent position."""
    return AutoencoderKL(
        block_out_channels=(8,) * 4,
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        latent_channels=channels,
        norm_num_groups=4,
        scaling_factor=0.5,
        shift_factor=shift,
        use_quant_conv=False,
        use_post_quant_conv=False,
    )


def sd3() -> StableDiffusion3Pipeline:
    transformer = SD3Transformer2DModel(
        sample_size=8, in_channels=4, out_channels=4, num_layers=2, attention_head_dim=8, num_attention_heads=2,
        joint_attention_dim=32, caption_projection_dim=16, pooled_projection_dim=32, pos_embed_max_size=16,
    )  # fmt: skip
    return StableDiffusion3Pipeline(
        transformer=transformer, scheduler=FlowMatchEulerDiscreteScheduler(shift=3.0), vae=kl(),
        text_encoder=clip(projection=True), tokenizer=clip_tokenizer(),
        text_encoder_2=clip(projection=True), tokenizer_2=clip_tokenizer(),
        text_encoder_3=t5(), tokenizer_3=t5_tokenizer(256),
    )  # fmt: skip


def flux(guided: bool) -> FluxPipeline:
    transformer = FluxTransformer2DModel(
        in_channels=16, num_layers=1, num_single_layers=1, attention_head_dim=16, num_attention_heads=2,
        joint_attention_dim=32, pooled_projection_dim=16, axes_dims_rope=(4, 4, 8), guidance_embeds=guided,
    )  # fmt: skip
    return FluxPipeline(
        transformer=transformer, scheduler=FlowMatchEulerDiscreteScheduler(use_dynamic_shifting=guided), vae=kl(),
        text_encoder=clip(), tokenizer=clip_tokenizer(), text_encoder_2=t5(), tokenizer_2=t5_tokenizer(512),
    )  # fmt: skip


def flux2_parts(width: int, guided: bool) -> dict[str, Any]:
    vae = AutoencoderKLFlux2(
        block_out_channels=(8,) * 4,
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        latent_channels=4,
        norm_num_groups=4,
    )
    vae.bn.running_mean.uniform_(-0.5, 0.5)
    vae.bn.running_var.uniform_(0.5, 2.0)
    transformer = Flux2Transformer2DModel(
        in_channels=16, num_layers=1, num_single_layers=1, attention_head_dim=16, num_attention_heads=2,
        joint_attention_dim=3 * width, axes_dims_rope=(4, 4, 4, 4), timestep_guidance_channels=16, guidance_embeds=guided,
    )  # fmt: skip
    return {
        "vae": vae,
        "transformer": transformer,
        "scheduler": FlowMatchEulerDiscreteScheduler(use_dynamic_shifting=True),
    }


def flux2() -> Flux2Pipeline:
    config = Mistral3Config(
        text_config=MistralConfig(**decoder(30)),
        vision_config=PixtralVisionConfig(
            hidden_size=16,
            intermediate_size=16,
            num_hidden_layers=1,
            num_attention_heads=2,
            image_size=28,
            patch_size=14,
        ),
    )
    tokenizer = byte_tokenizer()
    tokenizer.padding_side = "left"  # as Mistral's is
    return Flux2Pipeline(
        text_encoder=Mistral3ForConditionalGeneration(config),
        tokenizer=tokenizer,
        **flux2_parts(16, guided=True),
    )


def klein(distilled: bool) -> Flux2KleinPipeline:
    return Flux2KleinPipeline(
        text_encoder=Qwen3ForCausalLM(Qwen3Config(**decoder(28))),
        tokenizer=byte_tokenizer(),
        is_distilled=distilled,
        **flux2_parts(16, guided=False),
    )


def sana_parts(guided: bool) -> dict[str, Any]:
    tokenizer = gemma_tokenizer()
    vae = AutoencoderDC(
        latent_channels=4,
        attention_head_dim=2,
        encoder_block_types=("ResBlock",) * 4,
        decoder_block_types=("ResBlock",) * 4,
        encoder_block_out_channels=(8,) * 4,
        decoder_block_out_channels=(8,) * 4,
        encoder_layers_per_block=(1,) * 4,
        decoder_layers_per_block=(1,) * 4,
        encoder_qkv_multiscales=((),) * 4,
        decoder_qkv_multiscales=((),) * 4,
        decoder_norm_types="rms_norm",
        decoder_act_fns="silu",
        downsample_block_type="conv",
        upsample_block_type="interpolate",
        scaling_factor=0.4,
    )
    transformer = SanaTransformer2DModel(
        in_channels=4, out_channels=4, num_layers=1, num_attention_heads=2, attention_head_dim=8,
        num_cross_attention_heads=2, cross_attention_head_dim=8, cross_attention_dim=16, caption_channels=16,
        sample_size=8, patch_size=1, guidance_embeds=guided, qk_norm="rms_norm_across_heads" if guided else None,
        timestep_scale=1.0,
    )  # fmt: skip
    text = Gemma2Config(
        vocab_size=len(tokenizer), hidden_size=16, intermediate_size=16, num_hidden_layers=1, num_attention_heads=2,
        num_key_value_heads=1, head_dim=8,
    )  # fmt: skip
    return {"tokenizer": tokenizer, "text_encoder": Gemma2Model(text), "vae": vae, "transformer": transformer}


def sana() -> SanaPipeline:
    scheduler = DPMSolverMultistepScheduler(
        prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=3.0
    )
    return SanaPipeline(scheduler=scheduler, **sana_parts(guided=False))


def sprint() -> SanaSprintPipeline:
    scheduler = SCMScheduler(prediction_type="trigflow", sigma_data=0.5)
    return SanaSprintPipeline(scheduler=scheduler, **sana_parts(guided=True))


def qwen() -> QwenImagePipeline:
    text = {**decoder(1), "rope_parameters": {"rope_type": "default", "mrope_section": [1, 1, 2]}}
    vision = {
        "depth": 1, "hidden_size": 16, "intermediate_size": 16, "num_heads": 2, "out_hidden_size": 16, "patch_size": 14,
        "fullatt_block_indexes": [0],
    }  # fmt: skip
    vae = AutoencoderKLQwenImage(
        base_dim=8, z_dim=4, dim_mult=[1, 1, 1, 1], num_res_blocks=1, attn_scales=[],
        temperal_downsample=[False, True, True], latents_mean=[0.1, -0.2, 0.3, 0.0], latents_std=[1.5, 2.0, 0.5, 1.0],
    )  # fmt: skip
    transformer = QwenImageTransformer2DModel(
        in_channels=16, out_channels=4, num_layers=1, attention_head_dim=16, num_attention_heads=2,
        joint_attention_dim=16, axes_dims_rope=(4, 4, 8),
    )  # fmt: skip
    return QwenImagePipeline(
        scheduler=FlowMatchEulerDiscreteScheduler(use_dynamic_shifting=True),
        vae=vae,
        text_encoder=Qwen2_5_VLForConditionalGeneration(
            Qwen2_5_VLConfig(text_config=text, vision_config=vision)
        ),
        tokenizer=byte_tokenizer(),
        transformer=transformer,
    )


def pixart() -> PixArtSigmaPipeline:
    transformer = PixArtTransformer2DModel(
        num_attention_heads=2, attention_head_dim=8, in_channels=4, out_channels=8, num_layers=1,
        cross_attention_dim=16, sample_size=8, patch_size=2, caption_channels=32, norm_type="ada_norm_single",
    )  # fmt: skip
    return PixArtSigmaPipeline(
        tokenizer=t5_tokenizer(300), text_encoder=t5(), vae=kl(shift=None), transformer=transformer,
        scheduler=DPMSolverMultistepScheduler(beta_schedule="scaled_linear", beta_start=0.00085, beta_end=0.012),
    )  # fmt: skip


def z_image() -> ZImagePipeline:
    transformer = ZImageTransformer2DModel(
        in_channels=4, dim=32, n_layers=1, n_refiner_layers=1, n_heads=2, n_kv_heads=2, cap_feat_dim=16,
        axes_dims=[4, 4, 8], axes_lens=[1024, 32, 32],
    )  # fmt: skip
    with torch.no_grad():  # they are left empty, for weights to be loaded
        transformer.x_pad_token.normal_(std=0.02)
        transformer.cap_pad_token.normal_(std=0.02)
    return ZImagePipeline(
        scheduler=FlowMatchEulerDiscreteScheduler(shift=3.0), vae=kl(),
        text_encoder=Qwen3ForCausalLM(Qwen3Config(**decoder(2))).model, tokenizer=byte_tokenizer(), transformer=transformer,
    )  # fmt: skip


FAMILIES: dict[str, Callable[[], Any]] = {
    "sd3": sd3,
    "flux-dev": lambda: flux(guided=True),
    "flux-schnell": lambda: flux(guided=False),
    "flux2": flux2,
    "klein": lambda: klein(distilled=True),
    "klein-base": lambda: klein(distilled=False),
    "sana": sana,
    "sprint": sprint,
    "qwen": qwen,
    "pixart": pixart,
    "z-image": z_image,
}


def build(name: str) -> Any:
    """The tiny random pipeline of this name."""
    torch.manual_seed(0)
    return FAMILIES[name]()
