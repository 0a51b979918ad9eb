"""The noise projector P_theta (arXiv 2510.14526): noise and text -> mean and std of better noise for the prompt.

    shift, raw   = head(trunk(noise, text))                  the head's last layer starts at zero
    std          = max_std * sigmoid(raw)                    starts at first_std
    mean         = sqrt(1 - std^2) * rematch(noise + shift)
    projected    = mean + std * xi,   xi ~ N(0, I) from the same seed's second stream

Departure from a plain VAE encoder: the mean is a residual on the noise, and `rematch` restores the mean and standard
deviation that every channel of every item had in the noise. So an untrained projector changes almost nothing, and a
trained one rearranges noise rather than amplifying it.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from diffusers import ConfigMixin, ModelMixin
from diffusers.configuration_utils import register_to_config
from torch import Tensor, nn

from core.networks.blocks import ResBlock, evaluating
from core.networks.trunk import Trunk, check_inputs, trim, unpatch
from core.noise import blend, check_seeds, check_strength, draw, second
from core.words import check_prompt

if TYPE_CHECKING:
    from core.diffusion import Diffuser


@dataclass
class ProjectorOutput:
    """mean, log_variance and std (B, C, H, W) of the projected noise; losses by name: load_balance, router_z."""

    mean: Tensor
    log_variance: Tensor
    std: Tensor
    losses: dict[str, Tensor]

    def sample(self, xi: Tensor) -> Tensor:
        """projected = mean + std * xi, all (B, C, H, W)."""
        return self.mean + self.std * xi


class NoiseProjector(ModelMixin, ConfigMixin):
    """noise (B, C, H, W) and text (B, L, D) -> a normal distribution over noise (B, C, H, W)."""

    @register_to_config
    def __init__(
        self,
        latent_channels: int = 4,  # C of the backbone
        text_width: int = 128,  # D of the backbone's text encoder(s), concatenated
        width: int = 64,  # W: positions and text inside the trunk
        patch: int = 2,  # latents a side of one noise position
        heads: int = 4,
        depth: int = 2,  # trunk blocks: self-attention, cross-attention, mixture of experts
        experts: int = 4,
        top_k: int = 2,  # experts picked for a position
        channels: Sequence[int] = (64, 128, 192),  # of the encoder; each after the first halves the map
        dropout: float = 0.0,
        first_std: float = 0.05,  # std before training
        max_std: float = 0.3,  # upper bound of std
        max_shift: float = 2.0,  # upper bound of a latent's shift, in standard deviations
    ) -> None:
        super().__init__()
        if not 0 < first_std < max_std < 1:
            raise ValueError(
                f"The stds must satisfy 0 < first_std < max_std < 1, got {first_std}, {max_std}."
            )
        if not max_shift > 0:
            raise ValueError(f"max_shift must be positive, got {max_shift}.")
        self.trunk = Trunk(
            latent_channels, text_width, width, patch, heads, depth, experts, top_k, tuple(channels), dropout
        )
        finest = channels[0]
        self.lift = nn.ModuleList(nn.Conv2d(size, finest, 1) for size in channels)
        self.mix = ResBlock(finest, finest, width, dropout=dropout)
        self.norm = nn.GroupNorm(4 if finest % 4 == 0 else 1, finest)
        self.out = nn.Conv2d(finest, 2 * latent_channels * patch * patch, 3, padding=1)
        for parameter in self.out.parameters():
            nn.init.zeros_(parameter)

    def forward(self, noise: Tensor, text: Tensor, mask: Tensor) -> ProjectorOutput:
        """noise (B, C, H, W), text (B, L, D), mask (B, L) -> mean, log-variance and std (B, C, H, W)."""
        config = self.config
        check_inputs(noise, text, mask, config.latent_channels, config.text_width)
        trunk = self.trunk(noise.to(self.dtype), *trim(text.to(self.dtype), mask))
        grid = trunk.maps[0].shape[-2:]
        merged = sum(
            F.interpolate(lift(cells), size=grid, mode="nearest")
            for lift, cells in zip(self.lift, trunk.maps, strict=True)
        )
        shift, raw = self.out(F.silu(self.norm(self.mix(merged, trunk.sentence)))).chunk(2, dim=1)
        shift, raw = (unpatch(x, config.patch, *noise.shape[-2:]).float() for x in (shift, raw))
        start = math.log(config.first_std / (config.max_std - config.first_std))
        std = config.max_std * torch.sigmoid(raw + start)
        shift = config.max_shift * torch.tanh(shift / config.max_shift)
        mean = (1 - std**2).sqrt() * rematch(noise.float() + shift, noise.float())
        return ProjectorOutput(mean, 2 * std.log(), std, trunk.losses)

    def project(self, noise: Tensor, text: Tensor, mask: Tensor, xi: Tensor, strength: float = 1.0) -> Tensor:
        """Projected noise (B, C, H, W); strength 0 returns the noise itself, bit for bit, without running the network."""
        if check_strength(strength) == 0.0:
            return noise
        if xi.shape != noise.shape:
            raise ValueError(f"xi {tuple(xi.shape)} must have the shape of the noise, {tuple(noise.shape)}.")
        projected = self(noise, text, mask).sample(xi.to(noise.device).float())
        return blend(noise, projected.to(noise.dtype), strength)

    @torch.no_grad()
    def latents(
        self,
        pipe: Any,
        prompts: str | Sequence[str],
        seeds: int | Sequence[int],
        strength: float = 1.0,
        height: int | None = None,
        width: int | None = None,
    ) -> Tensor:
        """Initial latents for a diffusers pipeline of a family in `core.families`, on its device, in the form that it takes
        as `latents` (B, C, H, W; packed for Qwen-Image and for FLUX.1 but for its inpaint pipelines):

            latents = projector.latents(pipe, "a red circle", 7)
            image = pipe("a red circle", latents=latents).images[0]

        seeds: an integer of Python, NumPy or torch from 0 to 2^63 - 1, or a sequence, array or tensor of such. Either one
        prompt with many seeds, one seed with many prompts, or as many of each. height, width: of the image in pixels; the
        model's default where they are None. The pipeline is left unchanged, also where an error is raised.

        ControlNet and inpaint pipelines (at strength 1) take the latents in the same way, with the height and width of their
        image. An img2img pipeline's `latents=` are noised already: `pipe.scheduler.add_noise(image_latents, latents, t)` with t (1,), or
        `scale_noise(image_latents, t, latents)` of flow matching, in the same form. A sampler
        that draws noise at every step (ancestral, LCM, SDE) draws it from the pipeline's `generator=`: pass
        `core.noise.third(seeds, latents.shape[1:])`. A generator of the seed itself would draw the initial noise again.

        A pipeline of other shapes than the projector was trained for is a ValueError, another one of the same shapes a
        warning.
        """
        from core.diffusion import Diffuser  # here: the networks can be used without a pipeline

        prompts = [check_prompt(p) for p in ([prompts] if isinstance(prompts, str) else prompts)]
        if not prompts:
            raise ValueError("There is no prompt: give at least one.")
        seeds = check_seeds(seeds)
        count = max(len(prompts), len(seeds))
        if {len(prompts), len(seeds)} - {1, count}:
            raise ValueError(f"{len(prompts)} prompts and {len(seeds)} seeds: give one or as many of each.")
        prompts, seeds = prompts * (count // len(prompts)), seeds * (count // len(seeds))
        diffuser = pipe if isinstance(pipe, Diffuser) else Diffuser(pipe, borrowed=True)
        shape = diffuser.latent_shape(height, width)
        noise = draw(seeds, shape)
        if check_strength(strength) > 0:
            self._check_backbone(diffuser)
            device = next(self.parameters()).device
            with evaluating(self, *diffuser.text_encoders):
                try:
                    text = diffuser.encode(prompts)
                finally:  # offloaded parts go back to the CPU
                    diffuser.pipe.maybe_free_model_hooks()
                hidden, mask, xi = (
                    text.hidden.to(device),
                    text.mask.to(device),
                    second(seeds, shape).to(device),
                )
                noise = self.project(noise.to(device), hidden, mask, xi, strength)
        return diffuser.to_pipeline(noise)

    def _check_backbone(self, diffuser: Diffuser) -> None:
        """ValueError for a backbone of other shapes; a warning for another one than the projector was trained for, as the
        manifest says in the folder that it was loaded from."""
        from core.backbone import Backbone

        folder = self.config.get("_name_or_path")
        backbone, trained_for = Backbone.of(diffuser), Backbone.read(folder) if folder else Backbone()
        if refused := backbone.refused(trained_for, self.config):
            raise ValueError(refused)
        if warning := backbone.warning(trained_for):
            warnings.warn(warning, stacklevel=3)


def rematch(x: Tensor, noise: Tensor) -> Tensor:
    """x (B, C, H, W) with the mean and standard deviation of noise, channel by channel of each item."""

    def mean(values: Tensor) -> Tensor:
        return values.mean((-2, -1), keepdim=True)

    centred, centre = x - mean(x), mean(noise)
    target, std = mean((noise - centre).square()).sqrt(), mean(centred.square()).clamp_min(1e-12).sqrt()
    return centred * (target / std) + centre
