"""NoiseProjector.latents: the two lines that use a projector on any diffusers pipeline."""

import pytest
import torch
from diffusers import StableDiffusionPipeline
from transformers import CLIPTextConfig, CLIPTextModel

from core.networks import NoiseProjector
from core.noise import draw
from core.training.diffuser import build_pipeline

WORDS = ["a", "red", "blue", "circle", "star", "above"]
SMALL = {"width": 16, "depth": 1, "channels": (16, 16), "heads": 2}


@pytest.fixture(scope="module")
def sdxl():
    torch.manual_seed(0)
    pipe = build_pipeline(WORDS, channels=(16, 32), text_width=32, text_layers=1, latent_size=8)
    pipe.set_progress_bar_config(disable=True)
    return pipe


@pytest.fixture(scope="module")
def sd15(sdxl):
    """The other family: one text encoder, and an `encode_prompt` that returns two tensors, not four."""
    config = CLIPTextConfig(
        vocab_size=len(sdxl.tokenizer), hidden_size=16, intermediate_size=16, num_hidden_layers=1,
        num_attention_heads=2, eos_token_id=sdxl.tokenizer.eos_token_id,
    )  # fmt: skip
    unet = type(sdxl.unet)(
        sample_size=8, block_out_channels=(16,), down_block_types=("CrossAttnDownBlock2D",), norm_num_groups=8,
        up_block_types=("CrossAttnUpBlock2D",), cross_attention_dim=16, layers_per_block=1, attention_head_dim=2,
    )  # fmt: skip
    parts = (sdxl.vae, CLIPTextModel(config), sdxl.tokenizer, unet, sdxl.scheduler)
    return StableDiffusionPipeline(
        *parts, safety_checker=None, feature_extractor=None, requires_safety_checker=False
    )


@pytest.fixture
def projector(request):
    torch.manual_seed(1)
    model = NoiseProjector(text_width=getattr(request, "param", 64), **SMALL)
    torch.nn.init.normal_(model.out.weight, std=0.2)
    return model


def test_two_lines_make_an_image_and_strength_0_is_the_pipelines_own_noise(sdxl, projector):
    latents = projector.latents(sdxl, "a red circle", 7)
    image = sdxl("a red circle", latents=latents, num_inference_steps=1, output_type="np").images[0]
    assert image.shape == (64, 64, 3)
    off = projector.latents(sdxl, "a red circle", 7, strength=0)
    assert torch.equal(off, draw([7], (4, 8, 8))) and not torch.equal(off, latents)
    own = sdxl(
        "a red circle", generator=torch.Generator().manual_seed(7), num_inference_steps=1, output_type="np"
    )
    given = sdxl("a red circle", latents=off, num_inference_steps=1, output_type="np")
    assert (own.images == given.images).all()


def test_one_prompt_goes_with_many_seeds_and_one_seed_with_many_prompts(sdxl, projector):
    seeds = projector.latents(sdxl, "a red circle", [1, 2], height=64, width=128)
    assert seeds.shape == (2, 4, 8, 16)
    prompts = projector.latents(sdxl, ["a red circle", "a blue star"], 1)
    assert not torch.equal(prompts[0], prompts[1])
    assert torch.allclose(prompts[1:], projector.latents(sdxl, "a blue star", 1), atol=1e-5)


@pytest.mark.parametrize("projector", [16], indirect=True)
def test_a_pipeline_with_one_text_encoder_works_too(sd15, projector):
    latents = projector.latents(sd15, ["a red circle", "a blue star"], [1, 2])
    assert latents.shape == (2, 4, 8, 8) and latents.isfinite().all()


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"prompts": ""}, "prompt is empty"),
        ({"seeds": -1}, "seed"),
        ({"seeds": 1.5}, "seed"),
        ({"strength": 2}, "strength"),
        ({"height": 65}, "multiple of 8"),
        ({"prompts": ["a star"] * 2, "seeds": [1, 2, 3]}, "2 prompts and 3 seeds"),
        ({"prompts": []}, "no prompt"),
    ],
)
def test_what_cannot_be_used_is_refused_with_a_sentence(sdxl, projector, arguments, message):
    with pytest.raises(ValueError, match=message):
        projector.latents(sdxl, **{"prompts": "a star", "seeds": 1, **arguments})


def test_a_projector_of_another_backbone_is_refused(sd15, projector):
    with pytest.raises(ValueError, match="text of width 64"):
        projector.latents(sd15, "a star", 1)
