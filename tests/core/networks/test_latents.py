"""NoiseProjector.latents: the two lines that use a projector on a diffusers pipeline of its owner's.

The pipelines are tiny and random, of the real classes.
"""

import inspect
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
from core.noise import draw, second, third
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
    diffuser = Diffuser(pipe, borrowed=True)
    torch.manual_seed(1)
    model = NoiseProjector(latent_channels=diffuser.channels, text_width=diffuser.text_width, **SMALL)
    torch.nn.init.normal_(model.out.weight, std=0.2)
    return model.eval()


@pytest.fixture
def projector(sdxl):
    return projector_of(sdxl)


def relative(pipe, name):
    """The pipeline of this class with the components of `pipe`, and those that it needs more."""
    cls, more = getattr(diffusers, name), {}
    if "ControlNet" in name and not hasattr(pipe, "unet"):
        family = name.partition("ControlNet")[0].replace("StableDiffusion3", "SD3")
        config = {key: value for key, value in pipe.transformer.config.items() if not key.startswith("_")}
        masked = {"SD3": "extra_conditioning_channels", "QwenImage": "extra_condition_channels"}
        if "Inpaint" in name and family in masked:
            config[masked[family]] = 4 if family == "QwenImage" else 1
        more["controlnet"] = getattr(diffusers, f"{family}ControlNetModel").from_config(config)
    elif "ControlNetUnion" in name:
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


@pytest.fixture(params=["sdxl", "sd15", "sd3", "flux-dev"])
def training(request):
    """A pipeline in the middle of a training: parts in different modes, some of them frozen, a progress bar of its own."""
    pipe = backbones.build(request.param)
    pipe.set_progress_bar_config(desc="mine", leave=False)
    denoiser = getattr(pipe, "unet", None) or pipe.transformer
    denoiser.requires_grad_(True).train()
    next(denoiser.children()).eval()
    pipe.vae.requires_grad_(False).train()
    pipe.text_encoder.train()
    next(pipe.text_encoder.parameters()).requires_grad_(False)
    next(m for m in pipe.text_encoder.modules() if isinstance(m, torch.nn.LayerNorm)).eval()
    # the first call of a text encoder puts transformers' own hooks on it
    Diffuser(pipe, borrowed=True).encode([PROMPT])
    projector = projector_of(pipe)
    projector.train()
    projector.trunk.eval()
    return pipe, projector


def test_a_pipeline_in_training_is_as_it_was_also_after_an_error_and_its_next_step_learns(training):
    pipe, projector = training
    before = state(pipe, projector)
    given = {"prompts": [PROMPT, "a blue star"], "seeds": [1, 2], "height": 64, "width": 64}
    latents = projector.latents(pipe, **given)
    assert state(pipe, projector) == before and not latents.requires_grad
    assert torch.equal(latents, projector.latents(pipe, **given))  # without dropout
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
    diffuser = Diffuser(pipe, borrowed=True)
    text, noise = diffuser.encode([PROMPT, "a blue star"]), diffuser.family.unpack(latents, (8, 8))
    diffuser.first(text, noise)[1].square().mean().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in diffuser.denoiser.parameters())


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


# ---- the same of other families: what the latents are at a pipeline's first step


@pytest.fixture(scope="module")
def flows():
    """Pipelines by name, each built when it is first asked for."""
    made = {}

    def flow(name):
        if name not in made:
            made[name] = backbones.sd3(16) if name == "sd3-16" else backbones.build(name)
            for part in made[name].components.values():
                if isinstance(part, torch.nn.Module):
                    part.eval()
        return made[name]

    return flow


class Begun(Exception):
    """A pipeline takes its first step, from this sample."""


def first_step(pipe, size, **inputs):
    """The sample (B, C, H, W) that a pipeline's scheduler gets at its first step."""

    def begin(predicted, time, sample, *given, **named):
        raise Begun(sample)

    accepted = inspect.signature(pipe.__call__).parameters
    picture = Image.fromarray(np.full((*size, 3), 90, np.uint8))
    mask = Image.fromarray(np.full(size, 255, np.uint8))
    given = {
        **dict.fromkeys(("image", "control_image"), picture),
        **dict.fromkeys(("mask_image", "control_mask"), mask),
        "prompt": PROMPT,
        "height": size[0],
        "width": size[1],
        "num_inference_steps": 4,
        "use_resolution_binning": False,
        "true_cfg_scale": 1.0,
        "strength": 1.0,
        **inputs,
    }
    pipe.set_progress_bar_config(disable=True)
    pipe.scheduler.step = begin
    try:
        pipe(**{name: value for name, value in given.items() if name in accepted})
    except Begun as begun:
        diffuser = Diffuser(pipe, borrowed=True)
        return diffuser.family.unpack(begun.args[0], diffuser.latent_shape(*size)[1:])
    finally:
        del pipe.scheduler.step
    raise AssertionError("the pipeline took no step")


def projected(projector, pipe, size):
    """Projected noise (B, C, H, W) of seed 7, by the networks themselves."""
    diffuser = Diffuser(pipe, borrowed=True)
    text, shape = diffuser.encode([PROMPT]), diffuser.latent_shape(*size)
    return projector.project(draw([7], shape), text.hidden, text.mask, second([7], shape))


SIZES = [(64, 64), (64, 96)]
FROM_NOISE = {
    "FluxControlNetPipeline": "flux-dev",
    "FluxInpaintPipeline": "flux-dev",
    "FluxControlNetInpaintPipeline": "flux-dev",
    "StableDiffusion3ControlNetPipeline": "sd3",
    "StableDiffusion3ControlNetInpaintingPipeline": "sd3",
    "StableDiffusion3InpaintPipeline": "sd3-16",
    "QwenImageControlNetPipeline": "qwen",
    "QwenImageControlNetInpaintPipeline": "qwen",
    "SanaControlNetPipeline": "sana",
    "Flux2KleinInpaintPipeline": "klein",
    "ZImageInpaintPipeline": "z-image",
}


@pytest.mark.parametrize("name", FROM_NOISE)
def test_a_control_or_inpaint_pipeline_begins_with_the_projected_noise(flows, name):
    pipe = relative(flows(FROM_NOISE[name]), name)
    projector = projector_of(pipe)
    for size in SIZES:
        latents = projector.latents(pipe, PROMPT, 7, height=size[0], width=size[1])
        expected = projected(projector, pipe, size)
        assert not torch.allclose(expected, draw([7], expected.shape[1:]), atol=0.1)
        assert torch.allclose(first_step(pipe, size, latents=latents), expected, atol=1e-5)


FROM_AN_IMAGE = {
    "FluxImg2ImgPipeline": "flux-dev",
    "StableDiffusion3Img2ImgPipeline": "sd3",
    "QwenImageImg2ImgPipeline": "qwen",
    "ZImageImg2ImgPipeline": "z-image",
    "KolorsImg2ImgPipeline": "kolors",
    "SanaSprintImg2ImgPipeline": "sprint",
}


def shares(scheduler):
    """How much of the image and of the noise is in the sample of a pipeline's first step."""
    begin = scheduler.begin_index or 0
    if "sigma_data" in scheduler.config:
        time = scheduler.timesteps[begin]
        return time.cos(), time.sin() * scheduler.config.sigma_data
    sigma = scheduler.sigmas[begin]
    return (1.0, sigma) if hasattr(scheduler, "alphas_cumprod") else (1 - sigma, sigma)


@pytest.mark.parametrize("name", FROM_AN_IMAGE)
def test_an_img2img_pipeline_takes_latents_that_are_noised_with_the_projected_noise(flows, name):
    """With the pipeline's own noise they are what it makes itself."""
    pipe = relative(flows(FROM_AN_IMAGE[name]), name)
    projector, diffuser = projector_of(pipe), Diffuser(pipe, borrowed=True)
    for size in SIZES:
        clean = torch.randn(1, *diffuser.latent_shape(*size), generator=torch.Generator().manual_seed(1))
        how = {"image": clean, "strength": 0.5}
        if "Sprint" in name:  # which takes no image's latents
            picture = np.arange(3 * size[0] * size[1], dtype=np.uint8).reshape(*size, 3)
            clean = diffuser.to_latents(picture[None]) * pipe.scheduler.config.sigma_data
            how |= {"image": Image.fromarray(picture), "num_inference_steps": 2}
        own = first_step(pipe, size, generator=torch.Generator().manual_seed(7), **how)
        of_image, of_noise = shares(pipe.scheduler)
        assert 0 < of_noise and of_image > 0
        for strength in (0.0, 1.0):
            noise = projector.latents(pipe, PROMPT, 7, strength, *size)
            noised = of_image * diffuser.pack(clean) + of_noise * noise
            sample = first_step(pipe, size, latents=noised, **how)
            expected = draw([7], clean.shape[1:]) if strength == 0 else projected(projector, pipe, size)
            assert torch.allclose(sample, of_image * clean + of_noise * expected, atol=1e-5)
            assert torch.allclose(sample, own, atol=1e-5) == (strength == 0)


@pytest.mark.parametrize("name", ["FluxImg2ImgPipeline", "StableDiffusion3Img2ImgPipeline"])
def test_a_flow_scheduler_noises_latents_in_the_pipelines_form(flows, name):
    pipe = relative(flows(FROM_AN_IMAGE[name]), name)
    diffuser = Diffuser(pipe, borrowed=True)
    clean, noise = torch.randn(1, 4, 8, 12), draw([7], (4, 8, 12))
    first_step(pipe, (64, 96), image=clean, strength=0.5)
    scheduler = pipe.scheduler
    noised = scheduler.scale_noise(
        diffuser.pack(clean), scheduler.timesteps[scheduler.begin_index, None], diffuser.pack(noise)
    )
    of_image, of_noise = shares(scheduler)
    assert torch.allclose(noised, diffuser.pack(of_image * clean + of_noise * noise), atol=1e-6)


def test_the_inpaint_pipeline_of_qwen_image_takes_no_latents(flows):
    """A fault of diffusers; where this fails it has been mended, and the README has to say so."""
    pipe = relative(flows("qwen"), "QwenImageInpaintPipeline")
    latents = projector_of(pipe).latents(pipe, PROMPT, 7, height=64, width=64)
    for given in (latents, draw([7], (4, 8, 8))):
        with pytest.raises(ValueError, match="not enough values to unpack"):
            first_step(pipe, (64, 64), latents=given)


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
