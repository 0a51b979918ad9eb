"""Fine-tuning of the denoiser by LoRA (Hu et al. 2022) on scored images: the baseline that changes the network where the
projector changes the noise.

Reward-weighted regression (Peters & Schaal 2007; Lee et al. 2023 for text to image): an image has weight exp((s - 1) / T)
in the diffusion loss, s in [0, 1] being the mean score of its words and T a temperature. Images are sampled by their
weights, which is the same loss in expectation and spends no step on images of little weight. The loss is the mean squared
error of the network's prediction (noise, or v), with a tenth of the prompts dropped for classifier-free guidance. Layers
are `peft`'s on the attention projections; files are in diffusers' format, so other programs load them.

Dimension key: N images, B batch, C H W latents, L tokens, D text width.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Unpack

import peft
import torch
import torch.nn.functional as F
from diffusers import DDPMScheduler, ModelMixin
from torch import Tensor, nn

from core import checkpoint
from core.adapter import KIND, WEIGHTS, check_loaded
from core.backbone import Backbone
from core.diffusion import Diffuser, Text
from core.training.loop import FitResult, Hooks, fit, seed_step, warmup_cosine

TARGETS = ("to_q", "to_k", "to_v", "to_out.0")
TRAINED = "fresh"  # name of the adapter in training
DROP = 0.1
MEASURED = 256  # images at most on which the loss is measured before and after


@dataclass(frozen=True)
class LoraConfig:
    """Settings of training an adapter."""

    rank: int = 8
    steps: int = 300
    batch: int = 8
    rate: float = 2e-4
    temperature: float = 0.2
    checkpointing: bool = False  # keep fewer activations: less memory, a third slower
    seed: int = 0


def train_lora(
    diffuser: Diffuser,
    latents: Tensor,
    prompts: Sequence[str],
    scores: Sequence[float],
    config: LoraConfig,
    out: Path | str,
    *,
    meta: dict | None = None,
    **hooks: Unpack[Hooks],
) -> tuple[FitResult, dict[str, float]]:
    """Fine-tune on scaled latents (N, C, H, W), their N prompts and scores in [0, 1]; write the adapter to `out`.

    Returns how the loop ended and {before, after}, the weighted loss over the images on the same noises; a run that was
    stopped returns no losses and writes no adapter. The diffuser is left as it was.
    """
    if not len(latents) == len(prompts) == len(scores):
        raise ValueError(
            f"{len(latents)} latents, {len(prompts)} prompts and {len(scores)} scores: give one of each to an image."
        )
    if len(latents) == 0:
        raise ValueError("There is no image to fine-tune on: collect and score some first.")
    check_loaded(diffuser)
    schedule = training_schedule(diffuser)
    weights = image_weights(scores, config.temperature)
    unique = list(dict.fromkeys(prompts))
    text, empty = diffuser.encode_many(unique), diffuser.encode(unique[:1]).cpu()
    rows = torch.tensor([unique.index(prompt) for prompt in prompts])
    denoiser = diffuser.denoiser

    def error(at: Tensor, draws: torch.Generator, drop: float) -> Tensor:
        """Squared error of each image (B,)."""
        clean = latents[at].float()
        noise = torch.randn(clean.shape, generator=draws)
        times = torch.randint(schedule.config.num_train_timesteps, (len(at),), generator=draws)
        keep = torch.rand(len(at), generator=draws) >= drop
        clean, noise, times = (tensor.to(diffuser.device) for tensor in (clean, noise, times))
        noisy = schedule.add_noise(clean, noise, times)
        kind = schedule.config.prediction_type
        target = noise if kind == "epsilon" else schedule.get_velocity(clean, noise, times)
        given = conditions(text.take(rows[at].tolist()), empty, keep, diffuser, clean.shape[-2:])
        weight = next(denoiser.parameters())
        with torch.autocast(diffuser.device.type, torch.bfloat16, enabled=weight.dtype != torch.float32):
            predicted = denoiser(noisy, times, **given, return_dict=False)[0]
        return F.mse_loss(predicted.float(), target, reduction="none").mean((1, 2, 3))

    @torch.no_grad()
    def measured() -> float:
        draws = torch.Generator().manual_seed(config.seed)
        drawn = torch.randperm(len(latents), generator=draws)[:MEASURED]
        errors = torch.cat([error(at, draws, 0.0).cpu() for at in drawn.split(config.batch)])
        return float((errors * weights[drawn]).sum() / weights[drawn].sum())

    def loss_fn(step: int) -> tuple[Tensor, dict[str, float]]:
        draws = seed_step(config.seed, step)
        at = torch.multinomial(weights, config.batch, replacement=True, generator=draws)
        loss = error(at, draws, DROP).mean()
        return loss, {"mse": loss.item()}

    with training_layers(diffuser, config) as layers:
        before = measured()
        optimiser = torch.optim.AdamW(layers.parameters(), lr=config.rate, weight_decay=0.01)
        result = fit(
            {"lora": layers},
            optimiser,
            loss_fn,
            steps=config.steps,
            schedule=warmup_cosine(config.steps, warmup=min(50, config.steps // 10 + 1)),
            seed=config.seed,
            **hooks,
        )
        if result.stopped:
            return result, {}
        about = {"backbone_revision": diffuser.revision, "rank": config.rank} | Backbone.of(diffuser).meta()
        checkpoint.save(Layers(diffuser), out, {**about, **(meta or {})}, kind=KIND)
        return result, {"before": before, "after": measured()}


def conditions(
    text: Text, empty: Text, keep: Tensor, diffuser: Diffuser, size: Sequence[int]
) -> dict[str, Any]:
    """Arguments of a UNet beside latents of a size (H, W) and the time: text, or the empty prompt where keep (B,) is False."""

    def select(full: Tensor, other: Tensor) -> Tensor:
        mask = keep.view(-1, *[1] * (full.ndim - 1))
        return torch.where(mask, full, other[:1]).to(diffuser.device)

    assert empty.negative is not None
    arguments: dict[str, Any] = {"encoder_hidden_states": select(text.hidden, empty.negative)}
    if diffuser.denoiser.config.get("addition_embed_type") == "text_time":
        assert text.pooled is not None and empty.negative_pooled is not None
        pooled = select(text.pooled, empty.negative_pooled)
        pixels = tuple(int(side) * diffuser.scale for side in size)
        ids = diffuser.pipe._get_add_time_ids(pixels, (0, 0), pixels, pooled.dtype, pooled.shape[-1])
        times = ids.to(diffuser.device).expand(len(keep), -1)
        arguments["added_cond_kwargs"] = {"text_embeds": pooled, "time_ids": times}
    return arguments


def image_weights(scores: Sequence[float], temperature: float) -> Tensor:
    """Weights of the images (N,): exp((s - 1) / T), normalised to a mean of 1."""
    if not temperature > 0:
        raise ValueError(f"The temperature {temperature} must be above 0: 0.2 is a start.")
    values = torch.tensor(list(scores), dtype=torch.float64)
    if not ((values >= 0) & (values <= 1)).all():
        raise ValueError("An image's score must lie in [0, 1]: give the mean expected score of its words.")
    weights = ((values - values.max()) / temperature).exp()
    return weights / weights.mean()


def training_schedule(diffuser: Diffuser) -> DDPMScheduler:
    """The noise schedule that the backbone was trained with; ValueError where it is not defined by betas."""
    config, known = diffuser.pipe.scheduler.config, ("epsilon", "v_prediction")
    unet = diffuser.family.denoiser == "unet"
    if not unet or "beta_start" not in config or config.get("prediction_type", "epsilon") not in known:
        raise ValueError(
            f"LoRA training knows UNets that predict noise or v, and {diffuser.name} is none "
            f"({type(diffuser.denoiser).__name__}, {type(diffuser.pipe.scheduler).__name__}): leave the LoRA out."
        )
    return DDPMScheduler.from_config(config)


def block_layers(denoiser: ModelMixin) -> list[str]:
    """The names of all linear and convolutional layers inside the denoiser's blocks, without those of adapters, and without
    convolutions in groups, which take no layers of any rank."""
    layers = {
        name.removesuffix(".base_layer"): layer
        for name, layer in denoiser.named_modules()
        if isinstance(layer, (nn.Linear, nn.Conv2d)) and ".lora_" not in name
    }
    names = [name for name, layer in layers.items() if getattr(layer, "groups", 1) == 1]
    blocks = ("block", "layers.")  # "layers" in Z-Image
    return [name for name in names if any(block in name for block in blocks)]


@contextmanager
def training_layers(
    diffuser: Diffuser, config: LoraConfig, targets: Sequence[str] = TARGETS
) -> Iterator[nn.ParameterList]:
    """Put fresh float32 LoRA layers on the denoiser's layers of these names, as a module of only these; removed at the end."""
    denoiser = diffuser.denoiser
    if getattr(denoiser, "peft_config", None):
        denoiser.unload_lora()  # a LoRA in use is loaded again when it is needed
    torch.manual_seed(config.seed)
    layers = peft.LoraConfig(  # diffusers takes the rank as alpha where a file names none
        r=config.rank, lora_alpha=config.rank, init_lora_weights="gaussian", target_modules=list(targets)
    )
    denoiser.add_adapter(layers, TRAINED)
    trained = [parameter for parameter in denoiser.parameters() if parameter.requires_grad]
    for parameter in trained:
        parameter.data = parameter.data.float()
    if config.checkpointing:
        denoiser.enable_gradient_checkpointing()
    try:
        yield nn.ParameterList(trained)
    finally:
        if config.checkpointing:
            denoiser.disable_gradient_checkpointing()
        denoiser.unload_lora()
        denoiser.requires_grad_(False)


@dataclass
class Layers:
    """The layers in training, saved by `checkpoint.save` as diffusers' LoRA file."""

    diffuser: Diffuser

    def save_pretrained(self, folder: Path | str) -> None:
        """Write the file into the folder."""
        state = peft.get_peft_model_state_dict(self.diffuser.denoiser, adapter_name=TRAINED)
        layers = {f"{self.diffuser.family.denoiser}_lora_layers": state}
        type(self.diffuser.pipe).save_lora_weights(str(folder), weight_name=WEIGHTS, **layers)
