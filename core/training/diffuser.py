"""A small text-to-image pipeline of SDXL architecture, and its training (Podell et al. 2023; Ho et al. 2020).

Latent diffusion with v-prediction (Salimans & Ho 2022), min-SNR weighting (Hang et al. 2023, gamma = 5) and
classifier-free guidance (a tenth of the prompts become the zero embedding, as SDXL pipelines do for an empty one).
Departure from SDXL: the two text encoders are small, start at random and are trained together with the UNet; the
vocabulary is a list of whole words, so a word that is not in it becomes the unknown token.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import torch
import torch.nn.functional as F
from diffusers import (
    AutoencoderKL,
    DDIMScheduler,
    StableDiffusionXLPipeline,
    UNet2DConditionModel,
)
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
from torch import Tensor
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection, PreTrainedTokenizerFast

from core.training import vae as vae_training
from core.training.loop import Ema, FitResult, Progress, fit, seed_step, warmup_cosine

MIN_SNR = 5.0
DROP = 0.1
PUNCTUATION = (",", ".", "!", "?", ":", ";", "'", '"', "-", "(", ")")


def build_tokenizer(words: Sequence[str]) -> PreTrainedTokenizerFast:
    """A tokenizer of whole `words` (lower case) and some punctuation, framed and padded as CLIP's: 77-token window.

    Anything else becomes the unknown token, so a word that the model never saw is known to be one.
    """
    start, end, unknown = "<|startoftext|>", "<|endoftext|>", "<unk>"
    listed = dict.fromkeys((start, end, unknown, *PUNCTUATION, *sorted(words)))
    tokenizer = Tokenizer(models.WordLevel({word: i for i, word in enumerate(listed)}, unk_token=unknown))
    tokenizer.normalizer = normalizers.Sequence([normalizers.NFC(), normalizers.Lowercase()])
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Punctuation()]
    )
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{start} $A {end}", special_tokens=[(start, 0), (end, 1)]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token=start,
        eos_token=end,
        unk_token=unknown,
        pad_token=end,
        model_max_length=77,
    )


def build_pipeline(
    words: Sequence[str],
    *,
    vae: AutoencoderKL | None = None,
    channels: tuple[int, ...] = (64, 96, 128),
    text_width: int = 64,
    text_layers: int = 3,
    layers_per_block: int = 1,
    latent_size: int = 16,
) -> StableDiffusionXLPipeline:
    """A random pipeline of SDXL architecture that knows `words`; latents latent_size x latent_size x 4."""
    tokenizer = build_tokenizer(words)
    end = tokenizer.eos_token_id
    text = CLIPTextConfig(
        vocab_size=len(tokenizer),
        hidden_size=text_width,
        intermediate_size=4 * text_width,
        num_hidden_layers=text_layers,
        num_attention_heads=max(1, text_width // 32),
        max_position_embeddings=77,
        projection_dim=text_width,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=end,
        pad_token_id=end,
    )
    time_ids = 32
    last = len(channels) - 1
    unet = UNet2DConditionModel(
        sample_size=latent_size,
        in_channels=4,
        out_channels=4,
        block_out_channels=channels,
        layers_per_block=layers_per_block,
        down_block_types=("DownBlock2D",) + ("CrossAttnDownBlock2D",) * last,
        up_block_types=("CrossAttnUpBlock2D",) * last + ("UpBlock2D",),
        transformer_layers_per_block=1,
        attention_head_dim=tuple(max(1, c // 32) for c in channels),
        cross_attention_dim=2 * text_width,
        use_linear_projection=True,
        norm_num_groups=16,
        addition_embed_type="text_time",
        addition_time_embed_dim=time_ids,
        projection_class_embeddings_input_dim=text_width + 6 * time_ids,
    )
    scheduler = DDIMScheduler(
        num_train_timesteps=1000,
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        prediction_type="v_prediction",
        timestep_spacing="trailing",
        clip_sample=False,
        set_alpha_to_one=False,
    )
    return StableDiffusionXLPipeline(
        vae=vae or vae_training.build(size=latent_size * 8),
        text_encoder=CLIPTextModel(text),
        text_encoder_2=CLIPTextModelWithProjection(text),
        tokenizer=tokenizer,
        tokenizer_2=tokenizer,
        unet=unet,
        scheduler=scheduler,
        force_zeros_for_empty_prompt=True,
        add_watermarker=False,
    )


def min_snr_weight(alphas: Tensor) -> Tensor:
    """Weight of the v-prediction error at cumulative alphas (B,): min(SNR, gamma) / (SNR + 1)."""
    snr = alphas / (1 - alphas)
    return snr.clamp(max=MIN_SNR) / (snr + 1)


def train_diffuser(
    pipe: StableDiffusionXLPipeline,
    latents: Tensor,
    prompts: Sequence[str],
    *,
    steps: int = 3000,
    batch: int = 64,
    rate: float = 1e-3,
    bf16: bool = True,
    seed: int = 0,
    folder: Path | str | None = None,
    save_every: int = 100,
    on_progress: Callable[[Progress], None] | None = None,
    stop: Callable[[], bool] | None = None,
) -> FitResult:
    """Train UNet and text encoders in place on scaled latents (N, C, H, W) and their N prompts.

    At the end the pipeline holds the moving averages of the weights.
    """
    if len(latents) != len(prompts):
        raise ValueError(f"{len(latents)} latents for {len(prompts)} prompts: one prompt to each.")
    device = pipe.unet.device
    modules = {"unet": pipe.unet, "text": pipe.text_encoder, "text_2": pipe.text_encoder_2}
    for module in modules.values():
        module.requires_grad_(True).train()
    pipe.unet.to(memory_format=torch.channels_last)
    averages = {name: Ema(module, 0.999) for name, module in modules.items()}
    optimiser = torch.optim.AdamW(
        [p for module in modules.values() for p in module.parameters()],
        lr=rate,
        betas=(0.9, 0.99),
        weight_decay=0.01,
    )
    tokens = pipe.tokenizer(
        list(prompts), padding="max_length", max_length=77, truncation=True, return_tensors="pt"
    ).input_ids
    alphas = pipe.scheduler.alphas_cumprod.to(device)
    side = float(latents.shape[-1] * pipe.vae_scale_factor)
    sizes = torch.tensor([side, side, 0.0, 0.0, side, side], device=device)

    def loss_fn(step: int) -> tuple[Tensor, dict[str, float]]:
        draws = seed_step(seed, step)
        rows = torch.randint(len(latents), (batch,), generator=draws)
        clean = latents[rows].float().to(device)
        noise = torch.randn(clean.shape, generator=draws).to(device)
        times = torch.randint(len(alphas), (batch,), generator=draws)
        keep = (torch.rand(batch, generator=draws) >= DROP).float().to(device)[:, None]
        a = alphas[times.to(device)][:, None, None, None]
        noisy = a.sqrt() * clean + (1 - a).sqrt() * noise
        target = a.sqrt() * noise - (1 - a).sqrt() * clean
        with torch.autocast(device.type, torch.bfloat16, enabled=bf16):
            # One encoding for each prompt of the batch, not for each row.
            unique, inverse = torch.unique(tokens[rows], dim=0, return_inverse=True)
            hidden, pooled = encode_tokens(pipe, unique.to(device))
            hidden, pooled = hidden[inverse.to(device)], pooled[inverse.to(device)]
            predicted = pipe.unet(
                noisy.to(memory_format=torch.channels_last),
                times.to(device),
                encoder_hidden_states=hidden * keep[..., None],
                added_cond_kwargs={"text_embeds": pooled * keep, "time_ids": sizes.expand(batch, 6)},
            ).sample
        error = F.mse_loss(predicted.float(), target, reduction="none").mean(dim=(1, 2, 3))
        return (error * min_snr_weight(a.flatten())).mean(), {"mse": error.mean().item()}

    result = fit(
        modules,
        optimiser,
        loss_fn,
        steps=steps,
        folder=folder,
        save_every=save_every,
        on_progress=on_progress,
        stop=stop,
        ema=averages,
        schedule=warmup_cosine(steps, warmup=100),
        seed=seed,
    )
    for name, module in modules.items():
        if not result.stopped:
            averages[name].copy_to(module)
        module.eval()
    return result


def encode_tokens(pipe: StableDiffusionXLPipeline, tokens: Tensor) -> tuple[Tensor, Tensor]:
    """Token ids (B, L) to hidden (B, L, D) and pooled (B, P), as the SDXL pipeline's `encode_prompt` does."""
    first = pipe.text_encoder(tokens, output_hidden_states=True)
    second = pipe.text_encoder_2(tokens, output_hidden_states=True)
    return torch.cat([first.hidden_states[-2], second.hidden_states[-2]], dim=-1), second.text_embeds
