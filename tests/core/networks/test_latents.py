"""NoiseProjector.latents: the two lines that use a projector on a diffusers pipeline of its owner's.

The pipelines are tiny and random, of the real classes.
"""

from unittest.mock import Mock

import diffusers
import numpy as np
import pytest
import torch
from diffusers.schedulers import scheduling_euler_ancestral_discrete as ancestral
from PIL import Image

from core.diffusion import Diffuser
from core.families import FAMILIES, ModelError, family_of, relative_of
from core.networks.projector import NoiseProjector
from core.noise import draw, third
from tests import backbones
from tests.no_float64 import device_without_float64

SMALL = {"width": 16, "depth": 1, "channels": (16, 16), "heads": 2, "dropout": 0.1}
PROMPT = "a red circle"


@pytest.fixture(scope="module")
def pipes():
    torch.manual_seed(0)
    made = {"StableDiffusionXL": backbones.sdxl("sdxl"), "StableDiffusion": backbones.sd("sd15")}
    for pipe in made.values():
        pipe.set_progress_bar_config(disable=True)
    return made


@pytest.fixture
def sdxl(pipes):
    return pipes["StableDiffusionXL"]


def projector_of(pipe):
    torch.manual_seed(1)
    model = NoiseProjector(text_width=pipe.unet.config.cross_attention_dim, **SMALL)
    torch.nn.init.normal_(model.out.weight, std=0.2)
    return model.eval()


@pytest.fixture
def projector(sdxl):
    return projector_of(sdxl)


def relative(pipe, name):
    """The pipeline of this class with the components of `pipe`, and those that it needs more."""
    cls, more = getattr(diffusers, name), {}
    if "ControlNetUnion" in name:
        more["controlnet"] = diffusers.ControlNetUnionModel.from_unet(pipe.unet)
    elif "ControlNet" in name:
        more["controlnet"] = diffusers.ControlNetModel.from_unet(pipe.unet)
    elif "Adapter" in name:
        more["adapter"] = diffusers.T2IAdapter(channels=[16, 32], num_res_blocks=1, downscale_factor=8)
    taken = diffusers.DiffusionPipeline._get_signature_keys(cls)
    parts = {key: part for key, part in pipe.components.items() if key in set.union(*map(set, taken))}
    if "safety_checker" in parts:
        more["requires_safety_checker"] = False
    return cls(**parts, **more)


# ---- what it makes


def test_two_lines_make_an_image_and_strength_0_is_the_pipelines_own_noise(sdxl, projector):
    latents = projector.latents(sdxl, PROMPT, 7)
    image = sdxl(PROMPT, latents=latents, num_inference_steps=1, output_type="np").images[0]
    assert image.shape == (64, 64, 3)
    off = projector.latents(sdxl, PROMPT, 7, strength=0)
    assert torch.equal(off, draw([7], (4, 8, 8))) and not torch.equal(off, latents)
    own = sdxl(PROMPT, generator=torch.Generator().manual_seed(7), num_inference_steps=1, output_type="np")
    given = sdxl(PROMPT, latents=off, num_inference_steps=1, output_type="np")
    assert (own.images == given.images).all()


def test_one_prompt_goes_with_many_seeds_and_one_seed_with_many_prompts(sdxl, projector):
    seeds = projector.latents(sdxl, PROMPT, [1, 2], height=64, width=128)
    assert seeds.shape == (2, 4, 8, 16)
    prompts = projector.latents(sdxl, [PROMPT, "a blue star"], 1)
    assert not torch.equal(prompts[0], prompts[1])
    assert torch.allclose(prompts[1:], projector.latents(sdxl, "a blue star", 1), atol=1e-5)


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"prompts": ""}, "prompt is empty"),
        ({"seeds": -1}, "The seed -1 is out of range"),
        ({"seeds": torch.tensor([1.0, 2.0])}, "The seed 1.0 is not a whole number"),
        ({"seeds": np.array([], int)}, "There is no seed"),
        ({"strength": 2}, "strength"),
        ({"height": 65}, "multiple of 8"),
        ({"prompts": ["a star"] * 2, "seeds": [1, 2, 3]}, "2 prompts and 3 seeds"),
        ({"prompts": []}, "no prompt"),
    ],
)
def test_what_cannot_be_used_is_refused_with_a_sentence(sdxl, pipes, projector, arguments, message):
    with pytest.raises(ValueError, match=message):
        projector.latents(sdxl, **{"prompts": "a star", "seeds": 1, **arguments})
    with pytest.raises(ValueError, match="text of width 64"):
        projector.latents(pipes["StableDiffusion"], "a star", 1)


def test_a_device_without_float64_weights_in_8_bits_and_offloaded_parts_change_nothing(
    projector, monkeypatch
):
    pipe, freed = backbones.sdxl("sdxl"), []
    monkeypatch.setattr(pipe, "maybe_free_model_hooks", lambda: freed.append(1), raising=False)
    for strength in (0.3, 1.0):
        expected = projector.latents(pipe, PROMPT, [7, 8], strength)
        with device_without_float64():
            latents = projector.latents(pipe, PROMPT, [7, 8], strength)
        assert type(latents) is not torch.Tensor  # it came from the device
        assert torch.equal(latents.cpu(), expected)
    assert freed == [1] * 4  # as parts that are offloaded go back to the CPU, which there is no GPU for here
    pipe.unet.enable_layerwise_casting(storage_dtype=torch.float8_e4m3fn, compute_dtype=torch.float32)
    assert next(pipe.unet.parameters()).dtype == torch.float8_e4m3fn
    assert projector.latents(pipe, PROMPT, 7).dtype == torch.float32


# ---- the pipeline of its owner


def state(pipe, projector):
    """All of a pipeline and a projector that could be touched."""
    models = {name: part for name, part in pipe.components.items() if isinstance(part, torch.nn.Module)}
    models["projector"] = projector
    return {
        "attributes": {k: v for k, v in vars(pipe).items() if k not in models},
        "config": dict(pipe.config),
        "scheduler": dict(vars(pipe.scheduler)),
        "rng": torch.get_rng_state().tolist(),
        "grad": torch.is_grad_enabled(),
        **{
            name: (
                {
                    n: (p.requires_grad, p.dtype, p.device, p.grad is None)
                    for n, p in model.named_parameters()
                },
                {n: m.training for n, m in model.named_modules()},
                {n: len(m._forward_hooks) + len(m._forward_pre_hooks) for n, m in model.named_modules()},
            )
            for name, model in models.items()
        },
    }


@pytest.fixture(params=["StableDiffusionXL", "StableDiffusion"])
def training(request):
    """A pipeline in the middle of a training: parts in different modes, some of them frozen, a progress bar of its own."""
    pipe = backbones.sdxl("sdxl") if request.param == "StableDiffusionXL" else backbones.sd("sd15")
    pipe.set_progress_bar_config(desc="mine", leave=False)
    pipe.unet.requires_grad_(True).train()
    pipe.unet.mid_block.eval()
    pipe.vae.requires_grad_(False).train()
    pipe.text_encoder.train()
    next(pipe.text_encoder.parameters()).requires_grad_(False)
    next(m for m in pipe.text_encoder.modules() if isinstance(m, torch.nn.LayerNorm)).eval()
    pipe.encode_prompt(
        prompt=PROMPT, device="cpu", num_images_per_prompt=1, do_classifier_free_guidance=True
    )  # the first call of a text encoder puts transformers' own hooks on it
    projector = projector_of(pipe)
    projector.train()
    projector.trunk.eval()
    return pipe, projector


def test_a_pipeline_in_training_is_as_it_was_also_after_an_error_and_its_next_step_learns(training):
    pipe, projector = training
    before = state(pipe, projector)
    latents = projector.latents(pipe, [PROMPT, "a blue star"], [1, 2])
    assert state(pipe, projector) == before and not latents.requires_grad
    assert torch.equal(latents, projector.latents(pipe, [PROMPT, "a blue star"], [1, 2]))  # without dropout
    for part in (projector.out, pipe.text_encoder, None):
        broken = part and part.register_forward_pre_hook(Mock(side_effect=RuntimeError("no")))
        during = state(pipe, projector)
        for wrong in [{}] if part else [{"height": 65}, {"seeds": True}, {"prompts": [PROMPT, ""]}]:
            with pytest.raises((ValueError, RuntimeError)):
                projector.latents(pipe, **{"prompts": PROMPT, "seeds": 1, **wrong})
        assert state(pipe, projector) == during
        if part:
            broken.remove()
    assert state(pipe, projector) == before
    hidden = torch.randn(2, 77, pipe.unet.config.cross_attention_dim)
    added = {"text_embeds": torch.zeros(2, 32), "time_ids": torch.ones(2, 6)}
    pipe.unet(latents, 5, hidden, added_cond_kwargs=added).sample.square().mean().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in pipe.unet.parameters())


# ---- pipelines that do other work with the same text and noise

XL = "ControlNet ControlNetImg2Img ControlNetInpaint ControlNetUnion ControlNetPAG Img2Img Inpaint PAGInpaint Adapter"
PLAIN = (
    "ControlNet ControlNetImg2Img ControlNetInpaint ControlNetPAGInpaint Img2Img Inpaint PAGImg2Img Adapter"
)


@pytest.mark.parametrize(
    ("family", "work"),
    [("StableDiffusionXL", w) for w in XL.split()] + [("StableDiffusion", w) for w in PLAIN.split()],
)
def test_a_pipeline_that_needs_more_than_a_prompt_has_the_latents_of_its_family(pipes, family, work):
    pipe = pipes[family]
    other, projector = relative(pipe, f"{family}{work}Pipeline"), projector_of(pipe)
    size = {"height": 64, "width": 96}
    assert torch.equal(
        projector.latents(other, PROMPT, 7, **size), projector.latents(pipe, PROMPT, 7, **size)
    )


OTHERS = """WanPipeline HunyuanDiTControlNetPipeline StableDiffusionUpscalePipeline AuraFlowPipeline
    AnimateDiffControlNetPipeline ControlNetPipeline Pipeline"""


def test_a_pipeline_of_no_family_that_is_known_is_refused_by_its_name_and_none_of_these_is_a_backbone(sdxl):
    for name in OTHERS.split():
        with pytest.raises(ModelError, match=f"^{name} is no text-to-image pipeline"):
            relative_of([name])
    assert relative_of(["LatentConsistencyModelImg2ImgPipeline"]).name == "Stable Diffusion 1.x and 2.x"
    assert relative_of(["FluxControlNetInpaintPipeline"]).name == "FLUX.1"
    assert all(family_of([name]) for family in FAMILIES for name in family.pipelines)
    with pytest.raises(ModelError, match="StableDiffusionXLInpaintPipeline is no text-to-image pipeline"):
        Diffuser(relative(sdxl, "StableDiffusionXLInpaintPipeline"))


PICTURE = Image.fromarray(np.full((64, 64, 3), 90, np.uint8))


@pytest.mark.parametrize(
    ("work", "inputs"),
    [
        ("ControlNet", {"image": PICTURE}),
        ("Inpaint", {"image": PICTURE, "mask_image": PICTURE.convert("L"), "strength": 1.0}),
    ],
)
def test_they_make_images_from_the_latents_as_from_noise_of_their_own(sdxl, projector, work, inputs):
    pipe = relative(sdxl, f"StableDiffusionXL{work}Pipeline")
    pipe.set_progress_bar_config(disable=True)
    how = {
        "prompt": PROMPT,
        "num_inference_steps": 2,
        "output_type": "np",
        "height": 64,
        "width": 64,
        **inputs,
    }
    off = pipe(**how, latents=projector.latents(pipe, PROMPT, 7, strength=0)).images
    moved = pipe(**how, latents=projector.latents(pipe, PROMPT, 7)).images
    assert off.shape == moved.shape == (1, 64, 64, 3) and not np.array_equal(off, moved)
    if work == "ControlNet":  # the other draws from its generator before the noise
        assert np.array_equal(off, pipe(**how, generator=torch.Generator().manual_seed(7)).images)


def test_an_img2img_pipeline_takes_the_latents_as_the_noise_of_its_image(sdxl, projector):
    pipe = relative(sdxl, "StableDiffusionXLImg2ImgPipeline")
    pipe.set_progress_bar_config(disable=True)
    clean = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(1))
    pipe.scheduler.set_timesteps(4)
    first = pipe.get_timesteps(4, 0.5, "cpu")[0][:1]
    how = {
        "prompt": PROMPT,
        "image": clean,
        "num_inference_steps": 4,
        "strength": 0.5,
        "output_type": "latent",
    }
    noised = {
        s: pipe.scheduler.add_noise(clean, projector.latents(pipe, PROMPT, 7, s), first) for s in (0, 1)
    }
    own = pipe(**how, generator=torch.Generator().manual_seed(7)).images
    assert torch.equal(pipe(**how, latents=noised[0]).images, own)
    assert not torch.equal(pipe(**how, latents=noised[1]).images, own)


def test_an_inpainting_network_of_nine_channels_has_noise_of_four(sdxl):
    config = {k: v for k, v in sdxl.unet.config.items() if k != "_use_default_values"}
    nine = type(sdxl.unet).from_config({**config, "in_channels": 9})
    parts = {**sdxl.components, "unet": nine}
    pipe = diffusers.StableDiffusionXLInpaintPipeline(**parts)
    pipe.set_progress_bar_config(disable=True)
    latents = projector_of(pipe).latents(pipe, PROMPT, [7, 8])
    assert latents.shape == (2, 4, 8, 8)
    how = {"image": PICTURE, "mask_image": PICTURE.convert("L"), "strength": 1.0, "height": 64, "width": 64}
    made = pipe([PROMPT] * 2, latents=latents, num_inference_steps=2, output_type="np", **how)
    assert made.images.shape == (2, 64, 64, 3)


# ---- samplers that draw noise at every step


DRAWING = {
    "Euler ancestral": diffusers.EulerAncestralDiscreteScheduler,
    "LCM": diffusers.LCMScheduler,
    "DPM2 ancestral": diffusers.KDPM2AncestralDiscreteScheduler,
    "DDPM": diffusers.DDPMScheduler,
    "SDE": lambda **betas: diffusers.DPMSolverMultistepScheduler(**betas, algorithm_type="sde-dpmsolver++"),
    "SA": diffusers.SASolverScheduler,
}


@pytest.mark.parametrize("name", DRAWING)
def test_a_sampler_that_draws_noise_is_reproducible_with_a_generator_of_the_third_stream(name, monkeypatch):
    """One of the seed itself would draw the initial noise again."""
    noises, real = [], ancestral.randn_tensor

    def record(*given, **named):
        noises.append(real(*given, **named))
        return noises[-1]

    pipe = backbones.sdxl("turbo")
    pipe.scheduler = DRAWING[name](**backbones.BETAS)
    pipe.set_progress_bar_config(disable=True)
    latents, noise = projector_of(pipe).latents(pipe, PROMPT, 7), draw([7], (4, 8, 8))

    def image(**more):
        noises.clear()
        return pipe(PROMPT, latents=latents, num_inference_steps=3, output_type="latent", **more).images

    one, other = (image(generator=third([7], latents.shape[1:])) for _ in range(2))
    assert torch.equal(one, other) and not torch.equal(image(), image())
    bad = image(generator=torch.Generator().manual_seed(7))
    assert not torch.equal(one, bad)
    assert torch.equal(
        one, Diffuser(pipe).sample(Diffuser(pipe).encode([PROMPT]), latents, 3, 5.0, seeds=[7])
    )
    if name == "Euler ancestral":
        monkeypatch.setattr(ancestral, "randn_tensor", record)
        image(generator=torch.Generator().manual_seed(7))
        assert torch.equal(noises[0], noise)
        image(generator=third([7], latents.shape[1:]))
        alike = [torch.corrcoef(torch.stack([n.flatten(), noise.flatten()]))[0, 1].abs() for n in noises]
        assert len(alike) == 3 and max(alike) < 0.25
