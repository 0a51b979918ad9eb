"""The projection as a block of diffusers' modular pipelines."""

from __future__ import annotations

import copy
from typing import Any

import torch
from diffusers.modular_pipelines import ModularPipelineBlocks
from diffusers.modular_pipelines.modular_pipeline_utils import ComponentSpec, InputParam, OutputParam
from diffusers.pipelines.flux2.system_messages import SYSTEM_MESSAGE
from torch import Tensor

from core.families import Family, latent_shape, text_of
from core.noise import generators
from core.published.drawing import projected_noise, prompts_of


class ProjectionStep(ModularPipelineBlocks):
    """Draws and projects the initial noise of a modular pipeline, before its latents are prepared; given latents are kept.
    family: the description of the backbone, whose arguments of a call are the names of the text in the pipeline's state."""

    family: Family

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
        return [
            *(InputParam(name) for name in ("prompt", "prompt_2", "prompt_3")),
            *(InputParam(name) for name in self.text.values()),
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
    def text(self) -> dict[str, str]:
        """Names in the pipeline's state: of the hidden states and, where the pipeline makes one, of their mask."""
        return {field: name for field, name in self.family.arguments if field in ("hidden", "mask")}

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
            states = {field: getattr(values, name) for field, name in self.text.items()}
            prompts = prompts_of(values.prompt, values.prompt_2, values.prompt_3)
            return text_of(self.family, components, prompts, states)

        height, width = values.height or components.default_height, values.width or components.default_width
        count = values.batch_size * values.num_images_per_prompt
        noise = projected_noise(
            components.projector, (count, *latent_shape(self.family, components, height, width)), values.generator,
            text, values.projection_strength, components._execution_device,
        )  # fmt: skip
        kept = noise.dtype if self.family.draw_float32 else values.dtype or noise.dtype
        values.latents = self.family.pack(noise.to(kept))
        self.set_block_state(state, values)
        return components, state


def insert(blocks: Any, step: ProjectionStep) -> int:
    """Insert a step before each preparation of latents from noise alone, at any depth; how many there are. Where a pipeline
    mixes these with an image afterwards (img2img, inpainting), their noise is projected too; SDXL's draws noise and reads the
    image in one step, which is left as it is.

    The modular FLUX.2 has a system message of its own: it gets that of the pipeline, with which the projector was trained.
    """
    inner = blocks.sub_blocks = copy.deepcopy(blocks.sub_blocks)  # diffusers shares some between pipelines
    count = 0
    if hasattr(blocks, "DEFAULT_SYSTEM_MESSAGE"):
        blocks.DEFAULT_SYSTEM_MESSAGE = SYSTEM_MESSAGE
    if "prepare_latents" in inner:
        read = {one.name for one in inner["prepare_latents"].inputs}
        if "image_latents" not in read:
            inner.insert("projection", step, list(inner).index("prepare_latents"))
            count = 1
    return count + sum(insert(one, step) for one in list(inner.values()))
