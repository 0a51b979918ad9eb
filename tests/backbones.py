"""Tiny random pipelines of the families' real classes, as folders that `save_pretrained` wrote.

`save(name, folder)` writes one of BACKBONES or OTHERS. Their tokenizers are of the real classes, with vocabularies of single
letters or bytes, so that every word is read in several pieces; SDXL's has whole words. Stable Diffusion 1.5 also names a
safety checker that is not there, and FLUX.2 a processor that needs torchvision, as the published ones do.
"""

import json
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from diffusers import (
    AutoencoderDC,
    AutoencoderKL,
    AutoencoderKLFlux2,
    AutoencoderKLQwenImage,
    DDIMScheduler,
    DPMSolverMultistepScheduler,
    EulerAncestralDiscreteScheduler,
    EulerDiscreteScheduler,
    FlowMatchEulerDiscreteScheduler,
    Flux2KleinPipeline,
    Flux2Pipeline,
    Flux2Transformer2DModel,
    FluxPipeline,
    FluxTransformer2DModel,
    LCMScheduler,
    PixArtSigmaPipeline,
    PixArtTransformer2DModel,
    PNDMScheduler,
    QwenImagePipeline,
    QwenImageTransformer2DModel,
    SanaPipeline,
    SanaSprintPipeline,
    SanaTransformer2DModel,
    SCMScheduler,
    SD3Transformer2DModel,
    StableDiffusion3Pipeline,
    StableDiffusionPipeline,
    StableDiffusionXLPipeline,
    UNet2DConditionModel,
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
CHARACTERS = "abcdefghijklmnopqrstuvwxyz0123456789,.!?'-"
CHAT = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n"
    "{% if message['content'] is string %}{{ message['content'] }}"
    "{% else %}{% for block in message['content'] %}{{ block['text'] }}{% endfor %}{% endif %}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def build(name: str) -> Any:
    """The tiny random pipeline `name`; 64 pixels a side, where a size is part of it."""
    torch.manual_seed(0)
    if name in OTHERS:
        return OTHERS[name][0]()
    return sd(name) if name.startswith(("sd1", "sd2")) else sdxl(name)


def save(name: str, folder: Path, variant: str | None = None) -> Path:
    """Write the tiny random backbone `name`."""
    build(name).save_pretrained(folder, variant=variant)
    published = {
        "sd15": ("safety_checker", ["stable_diffusion", "StableDiffusionSafetyChecker"]),
        "flux2": ("tokenizer", ["transformers", "PixtralProcessor"]),
    }
    if name in published:
        component, named = published[name]
        index = json.loads((folder / "model_index.json").read_text())
        index[component] = named
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
    pieces = [*CHARACTERS, *(f"{c}</w>" for c in CHARACTERS), "<|startoftext|>", "<|endoftext|>"]
    return CLIPTokenizer(vocab={piece: i for i, piece in enumerate(pieces)}, merges=[], model_max_length=77)


# ---- families whose denoiser is a transformer, and Kolors -----------------------------------------------------------


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
    tokenizer, heads = letters(), {"num_attention_heads": 2, "num_hidden_layers": 2}
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


def sd3(channels: int = 4) -> StableDiffusion3Pipeline:
    transformer = SD3Transformer2DModel(
        sample_size=8, in_channels=channels, out_channels=channels, num_layers=2, attention_head_dim=8, num_attention_heads=2,
        joint_attention_dim=32, caption_projection_dim=16, pooled_projection_dim=32, pos_embed_max_size=16,
    )  # fmt: skip
    return StableDiffusion3Pipeline(
        transformer=transformer, scheduler=FlowMatchEulerDiscreteScheduler(shift=3.0), vae=kl(channels),
        text_encoder=clip(projection=True), tokenizer=letters(),
        text_encoder_2=clip(projection=True), tokenizer_2=letters(),
        text_encoder_3=t5(), tokenizer_3=t5_tokenizer(256),
    )  # fmt: skip


def flux(guided: bool) -> FluxPipeline:
    transformer = FluxTransformer2DModel(
        in_channels=16, num_layers=1, num_single_layers=1, attention_head_dim=16, num_attention_heads=2,
        joint_attention_dim=32, pooled_projection_dim=16, axes_dims_rope=(4, 4, 8), guidance_embeds=guided,
    )  # fmt: skip
    return FluxPipeline(
        transformer=transformer, scheduler=FlowMatchEulerDiscreteScheduler(use_dynamic_shifting=guided), vae=kl(),
        text_encoder=clip(), tokenizer=letters(), text_encoder_2=t5(), tokenizer_2=t5_tokenizer(512),
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


def kolors() -> Any:
    """Imported here: without sentencepiece diffusers has no such pipeline."""
    from diffusers import KolorsPipeline
    from diffusers.pipelines.kolors.text_encoder import ChatGLMConfig, ChatGLMModel
    from diffusers.pipelines.kolors.tokenizer import ChatGLMTokenizer
    from sentencepiece import SentencePieceTrainer

    with tempfile.NamedTemporaryFile(suffix=".model") as file:
        lines = ["a red circle above a blue square and a star", CHARACTERS] * 20
        SentencePieceTrainer.train(
            sentence_iterator=iter(lines), model_writer=file, vocab_size=64, model_type="bpe", minloglevel=2
        )
        file.flush()
        tokenizer = ChatGLMTokenizer(file.name)
        copy = Path(tempfile.mkdtemp()) / "tokenizer.model"  # it is copied when the pipeline is saved
        copy.write_bytes(Path(file.name).read_bytes())
        tokenizer.vocab_file = str(copy)
    text = ChatGLMConfig(
        num_layers=2, padded_vocab_size=len(tokenizer), hidden_size=16, ffn_hidden_size=32, kv_channels=8,
        num_attention_heads=2, multi_query_attention=True, multi_query_group_num=1, seq_length=256,
        rmsnorm=True, add_qkv_bias=True, attention_softmax_in_fp32=True, original_rope=True,
    )  # fmt: skip
    encoder = ChatGLMModel(text)
    for parameter in encoder.parameters():  # which are left empty, for weights to be loaded
        torch.nn.init.normal_(parameter, std=0.1)
    unet = UNet2DConditionModel(
        sample_size=8, block_out_channels=(16, 32), layers_per_block=1,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"), up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        attention_head_dim=(2, 4), cross_attention_dim=24, encoder_hid_dim=16, encoder_hid_dim_type="text_proj",
        addition_embed_type="text_time", addition_time_embed_dim=8, projection_class_embeddings_input_dim=16 + 6 * 8,
        use_linear_projection=True, norm_num_groups=8,
    )  # fmt: skip
    scheduler = EulerDiscreteScheduler(
        beta_schedule="scaled_linear",
        beta_start=0.00085,
        beta_end=0.014,
        timestep_spacing="leading",
        steps_offset=1,
    )
    return KolorsPipeline(
        vae=kl(shift=None), text_encoder=encoder, tokenizer=tokenizer, unet=unet, scheduler=scheduler
    )


# name: (its pipeline, its own steps and guidance)
OTHERS: dict[str, tuple[Callable[[], Any], int, float]] = {
    "sd3": (sd3, 28, 4.5),
    "flux-dev": (lambda: flux(guided=True), 28, 3.5),
    "flux-schnell": (lambda: flux(guided=False), 4, 0.0),
    "flux2": (flux2, 28, 4.0),
    "klein": (lambda: klein(distilled=True), 4, 0.0),
    "klein-base": (lambda: klein(distilled=False), 50, 4.0),
    "sana": (sana, 20, 4.5),
    "sprint": (sprint, 2, 4.5),
    "qwen": (qwen, 50, 4.0),
    "pixart": (pixart, 20, 4.5),
    "z-image": (z_image, 9, 0.0),
    "kolors": (kolors, 25, 5.0),
}
SAMPLING = {name: given[1:] for name, given in (BACKBONES | OTHERS).items()}
