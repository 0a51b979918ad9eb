"""diffusers' guidance on tiny random pipelines of both classes; the classic PAG pipeline is the reference."""

import copy

import pytest
import torch
from diffusers import HeunDiscreteScheduler, StableDiffusionPAGPipeline, StableDiffusionXLPAGPipeline

from core.diffusion import Diffuser
from core.evaluation.base import counted
from core.guidance import Guided, hooks
from core.noise import draw
from core.progress import Stopped
from tests import backbones

PROMPTS = ["a red circle", "a blue square above a star"]
MAKE = {"sdxl": lambda: backbones.sdxl("sdxl"), "sd": lambda: backbones.sd("sd15")}
CLASSIC = {"sdxl": StableDiffusionXLPAGPipeline, "sd": StableDiffusionPAGPipeline}


@pytest.fixture(scope="module")
def diffusers():
    torch.manual_seed(0)
    return {name: Diffuser(make()) for name, make in MAKE.items()}


@pytest.fixture(scope="module", params=MAKE)
def case(request, diffusers):
    """(class, diffuser, text, noise); the noise is not square."""
    diffuser = diffusers[request.param]
    return request.param, diffuser, diffuser.encode(PROMPTS), draw([1, 2], diffuser.latent_shape(32, 48))


@pytest.mark.parametrize("scheduler", [None, HeunDiscreteScheduler, "ancestral"])
def test_classifier_free_guidance_by_the_modular_pipeline_is_what_the_diffuser_samples(diffusers, scheduler):
    """Heun asks the network twice a step; the ancestral sampler draws noise of its own, from the seeds."""
    diffuser = Diffuser(backbones.sdxl("turbo")) if scheduler == "ancestral" else diffusers["sdxl"]
    if scheduler is HeunDiscreteScheduler:
        diffuser = Diffuser(copy.copy(diffuser.pipe))
        diffuser.pipe.scheduler = scheduler(**backbones.BETAS)
    text, noise = diffuser.encode(PROMPTS), draw([1, 2], diffuser.latent_shape(32, 48))
    for guidance in (1.0, 4.0):
        result, expected = (
            one.sample(text, noise, 3, guidance, seeds=[5, 6]) for one in (Guided(diffuser, "cfg"), diffuser)
        )
        assert torch.allclose(result, expected, atol=1e-3)


@pytest.mark.parametrize("guidance", [1.0, 4.0])
def test_pag_is_what_the_classic_pipeline_makes(case, guidance):
    name, diffuser, text, noise = case
    pipe = CLASSIC[name](**diffuser.pipe.components, pag_applied_layers=["mid"])
    pipe.set_progress_bar_config(disable=True)
    pooled = {"pooled_prompt_embeds": text.pooled, "negative_pooled_prompt_embeds": text.negative_pooled}
    expected = pipe(
        prompt_embeds=text.hidden, negative_prompt_embeds=text.negative, latents=noise, height=32, width=48,
        num_inference_steps=3, guidance_scale=guidance, pag_scale=2.0, output_type="latent",
        **(pooled if name == "sdxl" else {}),
    ).images  # fmt: skip
    result = Guided(diffuser, "pag", 2.0).sample(text, noise, 3, guidance)
    assert torch.allclose(result, expected, atol=1e-4)
    assert not torch.allclose(result, diffuser.sample(text, noise, 3, guidance), atol=1e-2)


def test_pag_works_where_attention_goes_in_slices():
    """diffusers' guider knows one attention processor, and the sliced one is another."""
    torch.manual_seed(0)
    whole = Diffuser(MAKE["sdxl"]())
    sliced = Diffuser(copy.deepcopy(whole.pipe))
    sliced.pipe.enable_attention_slicing("max")
    text, noise = whole.encode(PROMPTS), draw([1, 2], whole.latent_shape())
    processors = dict(sliced.pipe.unet.attn_processors)
    result, expected = (Guided(one, "pag").sample(text, noise, 2, 4.0) for one in (sliced, whole))
    assert torch.allclose(result, expected, atol=1e-4)
    assert sliced.pipe.unet.attn_processors == processors


def test_a_backbone_that_was_saved_as_a_pag_pipeline_is_sampled_without_pag(case):
    """Its own default would put PAG into every method, `none` first."""
    name, diffuser, text, noise = case
    saved = Diffuser(CLASSIC[name](**diffuser.pipe.components))
    result, expected = (one.sample(text, noise, 2, 4.0) for one in (saved, diffuser))
    assert torch.allclose(result, expected, atol=1e-5)


@pytest.mark.parametrize("kind, passes", [("pag", 3), ("autoguidance", 2)])
def test_passes_are_counted_steps_are_reported_and_the_scale_changes_the_image(diffusers, kind, passes):
    diffuser, steps, tally = diffusers["sdxl"], [], [0]
    text, noise = diffuser.encode(PROMPTS), draw([1, 2], diffuser.latent_shape())
    with counted(diffuser.denoiser, tally):
        result = Guided(diffuser, kind).sample(
            text, noise, 3, 4.0, on_step=lambda step, total, latents: steps.append((step, total, latents))
        )
    assert tally[0] == 2 * 3 * passes
    assert [step[:2] for step in steps] == [(1, 3), (2, 3), (3, 3)] and torch.equal(steps[-1][2], result)
    assert not torch.allclose(result, Guided(diffuser, kind, 6.0).sample(text, noise, 3, 4.0), atol=1e-3)


@pytest.mark.parametrize("name, kind", [("sdxl", "pag"), ("sdxl", "autoguidance"), ("sd", "pag")])
def test_the_diffuser_is_bit_for_bit_what_it_was_after_a_run_a_stop_and_a_failure(diffusers, name, kind):
    diffuser = diffusers[name]
    text, noise, calls = diffuser.encode(PROMPTS), draw([1, 2], diffuser.latent_shape()), []
    before = diffuser.sample(text, noise, 2)
    processors, hooked = dict(diffuser.pipe.unet.attn_processors), hooks(diffuser.pipe.unet)

    def fail(*_):  # in the middle of a pass, where the guider's hooks are on
        calls.append(1)
        if len(calls) == 3 or name == "sd" or kind == "autoguidance" and len(calls) == 2:
            raise RuntimeError("out of memory")

    Guided(diffuser, kind).sample(text, noise, 2)
    with pytest.raises(Stopped):
        Guided(diffuser, kind).sample(text, noise, 2, stop=lambda: calls.append(1) or len(calls) > 1)
    calls.clear()
    handle = diffuser.pipe.unet.up_blocks[0].register_forward_pre_hook(fail)
    with pytest.raises(RuntimeError, match="out of memory"):
        Guided(diffuser, kind).sample(text, noise, 2)
    handle.remove()
    assert torch.equal(diffuser.sample(text, noise, 2), before)
    assert diffuser.pipe.unet.attn_processors == processors and hooks(diffuser.pipe.unet) == hooked


@pytest.mark.parametrize(
    "call, says",
    [
        (lambda d: Guided(d["sd"], "autoguidance").sample(d["sd"].encode(["a star"]), draw([1], (4, 4, 4))),
         "needs a modular pipeline"),
        (lambda d: Guided(d["sdxl"], "autoguidance").sample(d["sdxl"].encode(["a star"]), draw([1], (4, 8, 8)), 2, 0),
         "at guidance 0 has none"),
        (lambda d: Guided(d["sd"], "magic"), "choose pag or autoguidance"),
        (lambda d: Guided(d["sd"], "pag", 0), "out of range"),
        (lambda d: Guided(d["sd"], "pag").sample(d["sd"].encode(["a star"]), draw([1, 2], (4, 4, 4))), "1 prompts"),
        (lambda d: Guided(d["sd"], "pag").sample(d["sd"].encode(["a star"]), draw([1], (4, 4, 4)), 0), "got 0"),
    ],
)  # fmt: skip
def test_what_cannot_be_done_is_refused_with_a_sentence(diffusers, call, says):
    with pytest.raises(ValueError, match=says):
        call(diffusers)
