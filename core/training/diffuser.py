"""A small text-to-image pipeline of SDXL architecture, and its training (Podell et al. 2023; Ho et al. 2020).

Latent diffusion with v-prediction (Salimans & Ho 2022) and classifier-free guidance (a tenth of the prompts become the
zero embedding, as SDXL pipelines do for an empty one). Departures from SDXL:

- The two text encoders are small and start at random. They first learn to predict the picture's layout from the text
  alone, and continue to beside the UNet. Trained through the UNet only, they encode "above" and "below" at a cosine of
  .99, and the UNet leaves it to the noise where things stand.
- All time steps have the same weight. In the first half of the training times are drawn with density 2t, since places
  are decided at high noise, where min-SNR weights of v go to 0; in the second half they are uniform, for the shapes.
- The vocabulary is a list of whole words; a word that is not in it becomes the unknown token.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import Unpack

import torch
import torch.nn.functional as F
from diffusers import AutoencoderKL, DDIMScheduler, StableDiffusionXLPipeline, UNet2DConditionModel
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection, PreTrainedTokenizerFast

from core.loading import autocast
from core.noise import Shape
from core.training import vae as vae_training
from core.training.loop import Ema, FitResult, Hooks, fit, parameters, seed_step, warmup_cosine

DROP = 0.1
QUERIES = 4  # of the layout's attention over the text
PUNCTUATION = (",", ".", "!", "?", ":", ";", "'", '"', "-", "(", ")")


def build_tokenizer(words: Sequence[str]) -> PreTrainedTokenizerFast:
    """A tokenizer of whole `words` (lower case) and some punctuation, framed and padded as CLIP's: 77-token window.

    Anything else becomes the unknown token, so that words which the model never saw are recognised.
    """
    start, end, unknown = "<|startoftext|>", "<|endoftext|>", "<unk>"
    listed = dict.fromkeys((start, end, unknown, *PUNCTUATION, *sorted(words)))
    tokenizer = Tokenizer(models.WordLevel({word: i for i, word in enumerate(listed)}, unk_token=unknown))
    tokenizer.normalizer = normalizers.Sequence([normalizers.NFC(), normalizers.Lowercase()])
    pieces = [pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Punctuation()]
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(pieces)
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{start} $A {end}", special_tokens=[(start, 0), (end, 1)]
    )
    special = {"bos_token": start, "eos_token": end, "unk_token": unknown, "pad_token": end}
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, model_max_length=77, **special)


def build_pipeline(
    words: Sequence[str],
    *,
    vae: AutoencoderKL | None = None,
    channels: tuple[int, ...] = (64, 96, 128),
    text_width: int = 64,
    text_layers: int = 3,
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
    time_ids, last = 32, len(channels) - 1
    unet = UNet2DConditionModel(
        sample_size=latent_size,
        in_channels=4,
        out_channels=4,
        block_out_channels=channels,
        layers_per_block=1,
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


class Layout(nn.Module):
    """Text -> the average latents of its pictures, at half the resolution."""

    def __init__(self, width: int, pooled: int, shape: Shape) -> None:
        super().__init__()
        self.shape = shape
        self.queries = nn.Parameter(torch.randn(QUERIES, width) / width**0.5)
        self.keys = nn.Linear(width, width)
        self.out = nn.Sequential(nn.Linear(QUERIES * width + pooled, 256), nn.GELU())
        self.out.append(nn.Linear(256, math.prod(shape)))

    def forward(self, text: Tensor, pooled: Tensor, mask: Tensor) -> Tensor:
        """text (B, L, D), pooled (B, P), mask (B, L) True at real tokens -> (B, C, H/2, W/2)."""
        near = self.queries @ self.keys(text).transpose(1, 2)
        share = near.masked_fill(~mask[:, None], -1e4).softmax(-1)
        return self.out(torch.cat([(share @ text).flatten(1), pooled], 1)).view(-1, *self.shape)


def train_diffuser(
    pipe: StableDiffusionXLPipeline,
    latents: Tensor,
    prompts: Sequence[str],
    *,
    text_steps: int = 600,
    text_batch: int = 256,
    text_rate: float = 1e-3,
    steps: int = 4000,
    batch: int = 32,
    rate: float = 8e-4,
    bf16: bool = True,
    save_every: int = 100,
    **hooks: Unpack[Hooks],
) -> FitResult:
    """Train text encoders (text_steps), then UNet and text encoders, in place on scaled latents (N, C, H, W) and their
    N prompts; the pipeline ends with the moving averages of the weights."""
    if len(latents) != len(prompts):
        raise ValueError(f"{len(latents)} latents for {len(prompts)} prompts: one prompt to each.")
    device = pipe.unet.device
    window = {"padding": "max_length", "max_length": 77, "truncation": True}
    tokens = pipe.tokenizer(list(prompts), return_tensors="pt", **window).input_ids
    real = tokens != pipe.tokenizer.pad_token_id
    longest = int(real.sum(1).max()) + 1
    encoders = {"text": pipe.text_encoder, "text_2": pipe.text_encoder_2}
    width = sum(encoder.config.hidden_size for encoder in encoders.values())
    channels, *sides = latents.shape[1:]
    torch.manual_seed(0)
    coarse_shape = (channels, *(side // 2 for side in sides))
    layout = Layout(width, pipe.text_encoder_2.config.projection_dim, coarse_shape).to(device)
    text_modules = {**encoders, "layout": layout}
    for module in (pipe.unet, *text_modules.values()):
        module.requires_grad_(True).train()

    def layout_error(rows: Tensor, hidden: Tensor, pooled: Tensor) -> Tensor:
        """Squared error of the layout predicted for rows from hidden (B, L, D) of any L and pooled (B, P)."""
        coarse = F.avg_pool2d(latents[rows].float(), 2).to(device)
        mask = real[rows, : hidden.shape[1]].to(device)
        return F.mse_loss(layout(hidden.float(), pooled.float(), mask), coarse)

    def text_loss(step: int) -> tuple[Tensor, dict[str, float]]:
        rows = torch.randint(len(latents), (text_batch,), generator=seed_step(1, step))
        loss = layout_error(rows, *encode_tokens(pipe, tokens[rows, :longest].to(device)))
        return loss, {"layout": loss.item()}

    if text_steps:
        folder = hooks.get("folder")
        text_hooks = hooks | {"folder": Path(folder) / "text" if folder else None}
        optimiser = torch.optim.AdamW(parameters(text_modules.values()), lr=text_rate)
        first = fit(
            text_modules, optimiser, text_loss, steps=text_steps, save_every=save_every,
            schedule=warmup_cosine(text_steps), seed=1, **text_hooks,
        )  # fmt: skip
        if first.stopped:
            return first
    modules = {"unet": pipe.unet, **text_modules}
    pipe.unet.to(memory_format=torch.channels_last)
    averages = {name: Ema(module, 0.999) for name, module in modules.items() if module is not layout}
    optimiser = torch.optim.AdamW(parameters(modules.values()), lr=rate, betas=(0.9, 0.99), weight_decay=0.01)
    alphas = pipe.scheduler.alphas_cumprod.to(device)
    side = float(latents.shape[-1] * pipe.vae_scale_factor)
    sizes = torch.tensor([side, side, 0.0, 0.0, side, side], device=device)
    # on a CPU the backward pass of fused attention takes a third of a step
    attention = partial(sdpa_kernel, SDPBackend.MATH) if device.type == "cpu" else nullcontext

    def loss_fn(step: int) -> tuple[Tensor, dict[str, float]]:
        draws = seed_step(0, step)
        rows = torch.randint(len(latents), (batch,), generator=draws)
        clean = latents[rows].float().to(device)
        noise = torch.randn(clean.shape, generator=draws).to(device)
        uniform = torch.rand(batch, generator=draws)
        share = uniform if 2 * step >= steps else uniform.sqrt()
        times = (len(alphas) * share).long().clamp_max(len(alphas) - 1)
        keep = (torch.rand(batch, generator=draws) >= DROP).float().to(device)[:, None]
        a = alphas[times.to(device)][:, None, None, None]
        noisy = a.sqrt() * clean + (1 - a).sqrt() * noise
        target = a.sqrt() * noise - (1 - a).sqrt() * clean
        with attention(), autocast(device, bf16):
            hidden, pooled = encode_tokens(pipe, tokens[rows].to(device))
            predicted = pipe.unet(
                noisy.to(memory_format=torch.channels_last),
                times.to(device),
                encoder_hidden_states=hidden * keep[..., None],
                added_cond_kwargs={"text_embeds": pooled * keep, "time_ids": sizes.expand(batch, 6)},
            ).sample
        error = F.mse_loss(predicted.float(), target)
        layout_loss = layout_error(rows, hidden, pooled)
        return error + layout_loss, {"mse": error.item(), "layout": layout_loss.item()}

    result = fit(
        modules, optimiser, loss_fn, steps=steps, save_every=save_every, ema=averages,
        schedule=warmup_cosine(steps, warmup=100), **hooks,
    )  # fmt: skip
    for name, module in modules.items():
        if not result.stopped and name in averages:
            averages[name].copy_to(module)
        module.eval()
    return result


def encode_tokens(pipe: StableDiffusionXLPipeline, tokens: Tensor) -> tuple[Tensor, Tensor]:
    """Token ids (B, L) to hidden (B, L, D) and pooled (B, P), as the SDXL pipeline's `encode_prompt` does."""
    first = pipe.text_encoder(tokens, output_hidden_states=True)
    second = pipe.text_encoder_2(tokens, output_hidden_states=True)
    return torch.cat([first.hidden_states[-2], second.hidden_states[-2]], dim=-1), second.text_embeds
