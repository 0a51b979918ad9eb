"""The projection as a node of ComfyUI: noise for SamplerCustomAdvanced from a seed, a CLIP and a text.

ComfyUI is under the GPL: nothing of it is imported or copied. A node is a class of agreed names, a CLIP has `tokenize` and
`encode_from_tokens`, and noise is an object with `seed` and `generate_noise`.

ComfyUI draws a whole batch from one generator of the seed. So item 0 is the noise of that seed in the studio, and the
others are those of no seed. The xi of item k is that of the seed plus k.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from core.networks.projector import NoiseProjector
from core.noise import SEED_LIMIT, second

FOLDER = Path(__file__).resolve().parent


class ProjectedNoise:
    """Noise as ComfyUI's samplers take it. hidden (1, L, D) and mask (1, L): of the prompt."""

    def __init__(
        self, seed: int, projector: NoiseProjector, hidden: Tensor, mask: Tensor, strength: float
    ) -> None:
        self.seed, self.projector, self.strength = seed, projector, strength
        self.hidden, self.mask = hidden, mask

    @torch.no_grad()
    def generate_noise(self, input_latent: dict[str, Any]) -> Tensor:
        """Noise of the shape and the dtype of `samples` (B, C, H, W), on the CPU; `batch_index`: which items of a larger
        batch these are."""
        samples, index = input_latent["samples"], input_latent.get("batch_index")
        noise = drawn(samples, self.seed, index)
        if self.strength == 0:
            return noise
        count, places = len(noise), range(len(noise)) if index is None else index
        xi = second([(self.seed + int(place)) % SEED_LIMIT for place in places], tuple(noise.shape[1:]))
        hidden, mask = self.hidden.expand(count, -1, -1), self.mask.expand(count, -1)
        return self.projector.project(noise.float(), hidden, mask, xi, self.strength).to(noise.dtype)


def drawn(samples: Tensor, seed: int, index: Any = None) -> Tensor:
    """The noise that ComfyUI draws for latents (B, C, H, W), also bit for bit: in float32, all of the batch at once, or, for
    items of a larger batch, item by item up to the last. The global generator is left as ComfyUI leaves it."""
    kind: dict[str, Any] = {"layout": samples.layout, "device": "cpu", "generator": torch.manual_seed(seed)}
    if index is None:
        return torch.randn(samples.shape, dtype=torch.float32, **kind).to(samples.dtype)
    shape = (1, *samples.shape[1:])
    items = [torch.randn(shape, dtype=torch.float32, **kind) for _ in range(max(index) + 1)]
    return torch.cat([items[place] for place in index]).to(samples.dtype)


def read(clip: Any, text: str) -> tuple[Tensor, Tensor]:
    """Hidden states (1, L, D) and mask (1, L) of a text, by a CLIP of ComfyUI: without weights such as (red:1.3), and of
    the text's first window, as the projector was trained."""
    tokens = {
        name: [[(token[0], 1.0) for token in row] for row in rows[:1]]
        for name, rows in clip.tokenize(text).items()
    }
    hidden = clip.encode_from_tokens(tokens, return_dict=True)["cond"].float().cpu()
    row = [token for token, _ in next(iter(tokens.values()))[0]]
    if hidden.shape[1] != len(row):
        raise ValueError(
            f"This CLIP gives {hidden.shape[1]} hidden states for {len(row)} tokens: take one whose text encoders are all CLIP "
            "(Stable Diffusion 1.x, 2.x, XL)."
        )
    empty = next(iter(clip.tokenize("").values()))[0]
    end = empty[1][0]  # an empty text is begin, end, padding, and padding may be the same token as the end
    ends = (place for place, token in enumerate(row) if place and isinstance(token, int) and token == end)
    last = next(ends, len(row) - 1)
    return hidden, (torch.arange(len(row)) <= last)[None]


def open_projector(path: str) -> NoiseProjector:
    """A projector by its folder or its file of weights, beside this file or anywhere."""
    place = FOLDER / path
    place = place if place.exists() else Path(path).expanduser()
    folder = place.parent if place.is_file() else place
    if not (folder / "config.json").is_file():
        raise ValueError(
            f"There is no projector at {path!r}: give the folder `projector` that was published, or its weights beside their "
            "config.json."
        )
    return NoiseProjector.from_pretrained(str(folder), local_files_only=True)


class NoiseProjection:
    """The node: noise of a seed, projected for a text."""

    RETURN_TYPES = ("NOISE",)
    FUNCTION = "noise"
    CATEGORY = "sampling/custom_sampling/noise"
    DESCRIPTION = "Noise of a seed, moved once toward what the text needs. For SamplerCustomAdvanced."

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        return {
            "required": {
                "seed": ("INT", {"default": 0, "min": 0, "max": 2**64 - 1, "control_after_generate": True}),
                "clip": ("CLIP",),
                "text": ("STRING", {"multiline": True, "default": ""}),
                "strength": ("FLOAT", {"default": 1.0, "min": 0.0, "max": 1.0, "step": 0.05}),
                "projector": ("STRING", {"default": "projector"}),
            }
        }

    def noise(
        self, seed: int, clip: Any, text: str, strength: float, projector: str
    ) -> tuple[ProjectedNoise]:
        with torch.no_grad():
            hidden, mask = read(clip, text)
        return (ProjectedNoise(seed, open_projector(projector), hidden, mask, strength),)


NODE_CLASS_MAPPINGS = {"NoiseProjection": NoiseProjection}
NODE_DISPLAY_NAME_MAPPINGS = {"NoiseProjection": "Noise Projection"}
