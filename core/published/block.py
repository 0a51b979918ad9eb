"""The projection as a block of diffusers' modular pipelines."""

from __future__ import annotations

from typing import Any

import torch
from diffusers.modular_pipelines import ModularPipelineBlocks
from diffusers.modular_pipelines.modular_pipeline_utils import ComponentSpec, InputParam, OutputParam
from torch import Tensor

from core.families import token_mask
from core.noise import generators
from core.published.drawing import projected_noise, prompts_of


class ProjectionStep(ModularPipelineBlocks):
    """Draws and projects the initial noise of a modular pipeline, before its latents are prepared; given latents are kept.

    hidden, mask: names of the text's hidden states and their mask in the pipeline's state; "" for a mask that the pipeline
    does not make: then it is that of its tokenizers.
    """

    hidden = "prompt_embeds"
    mask = ""
    tokenizers: tuple[str, ...] = ("tokenizer",)

    @property
    def description(self) -> str:
        return "Draws the initial noise from `seed` or `generator`, and projects it for the prompt."

    @property
    def expected_components(self) -> list[ComponentSpec]:
        return [ComponentSpec("projector", description="noise and text -> better noise for the prompt")]

    @property
    def inputs(self) -> list[InputParam]:
        strength = "of the projection, from 0 (off) to 1"
        seed = "a whole number, or one for each image, in place of a generator"
        text = [name for name in ("prompt", self.hidden, self.mask) if name]
        return [
            *(InputParam(name) for name in text),
            InputParam("batch_size"),
            InputParam("num_images_per_prompt", default=1),
            InputParam("height"),
            InputParam("width"),
            InputParam("dtype"),
            InputParam("latents"),
            InputParam("generator"),
            InputParam("seed", description=seed),
            InputParam("projection_strength", default=1.0, description=strength),
        ]

    @property
    def intermediate_outputs(self) -> list[OutputParam]:
        return [OutputParam("latents", type_hint=Tensor), OutputParam("generator")]

    @torch.no_grad()
    def __call__(self, components: Any, state: Any) -> tuple[Any, Any]:
        values = self.get_block_state(state)
        if values.latents is not None:
            return components, state
        if values.seed is not None:
            values.generator = generators(values.seed)

        def text() -> tuple[Tensor, Tensor]:
            hidden, prompts = getattr(values, self.hidden), prompts_of(values.prompt)
            if self.mask:
                return hidden, getattr(values, self.mask)
            tokenizers = [getattr(components, name) for name in self.tokenizers]
            return hidden, token_mask(tokenizers, prompts, hidden.shape[1])

        scale, device = components.vae_scale_factor, components._execution_device
        height, width = values.height or components.default_height, values.width or components.default_width
        count = values.batch_size * values.num_images_per_prompt
        shape = (count, components.vae.config.latent_channels, height // scale, width // scale)
        latents = projected_noise(
            components.projector, shape, values.generator, text, values.projection_strength, device
        )
        values.latents = latents.to(values.dtype or latents.dtype)
        self.set_block_state(state, values)
        return components, state


def insert(blocks: Any, step: ProjectionStep) -> int:
    """Insert a step before each preparation of latents from noise alone, at any depth; how many there are. Latents that
    begin with an image (img2img, inpainting) are left as they are."""
    inner, count = blocks.sub_blocks, 0
    if "prepare_latents" in inner:
        read = {one.name for one in inner["prepare_latents"].inputs}
        if "image_latents" not in read:
            inner.insert("projection", step, list(inner).index("prepare_latents"))
            count = 1
    return count + sum(insert(one, step) for one in list(inner.values()))
