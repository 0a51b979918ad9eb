"""diffusers' guidance on tiny random pipelines; the classic PAG pipeline and the diffuser itself are the references."""

import copy
import importlib.util

import pytest
import torch
from diffusers import HeunDiscreteScheduler, StableDiffusionPAGPipeline, StableDiffusionXLPAGPipeline
from peft import LoraConfig

from core.diffusion import Diffuser
from core.evaluation.base import counted
from core.guidance import Guided, hooks
from core.guiders import GUIDERS
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


def available(kind):
    """A mark that leaves out a kind whose package is not installed: it is an extra, and refused with a sentence."""
    package = GUIDERS[kind].package
    missing = bool(package) and importlib.util.find_spec(package) is None
    return pytest.param(kind, marks=pytest.mark.skipif(missing, reason=f"{package} is not installed"))


STEPS = 10
# items through the network in 10 steps; slg has its third pass in the second step alone, seg from the second on
PASSES = dict.fromkeys(GUIDERS, 2 * STEPS) | {"slg": 2 * STEPS + 1, "pag": 3 * STEPS, "seg": 3 * STEPS - 1}


@pytest.mark.parametrize("kind", [available(kind) for kind in GUIDERS])
def test_every_kind_costs_its_passes_reports_its_steps_and_makes_an_image_of_its_own(diffusers, kind):
    diffuser, steps, tally = diffusers["sdxl"], [], [0]
    text, noise = diffuser.encode(PROMPTS), draw([1, 2], diffuser.latent_shape())
    with counted(diffuser.denoiser, tally):
        result = Guided(diffuser, kind).sample(
            text, noise, STEPS, 4.0, on_step=lambda step, total, latents: steps.append((step, total, latents))
        )
    assert tally[0] == 2 * PASSES[kind]
    assert [step[:2] for step in steps] == [(step, STEPS) for step in range(1, STEPS + 1)]
    assert torch.equal(steps[-1][2], result) and result.isfinite().all()
    plain = diffuser.sample(text, noise, STEPS, 4.0)
    assert torch.allclose(result, plain, atol=1e-3) == (kind == "cfg")
    assert not torch.equal(result, Guided(diffuser, kind, 6.0).sample(text, noise, STEPS, 4.0))


NEUTRAL = {"cfg": 4.0, "fdg": 4.0, "apg-mix": 1.0, "slg": 1e-6, "pag": 1e-6, "seg": 1e-6}


@pytest.mark.parametrize("kind", [available(kind) for kind in NEUTRAL])
def test_at_its_neutral_number_a_kind_is_classifier_free_guidance(diffusers, kind):
    diffuser = diffusers["sdxl"]
    text, noise = diffuser.encode(PROMPTS), draw([1, 2], diffuser.latent_shape())
    result = Guided(diffuser, kind, NEUTRAL[kind]).sample(text, noise, STEPS, 4.0)
    assert torch.allclose(result, diffuser.sample(text, noise, STEPS, 4.0), atol=1e-3)


# the kinds that diffusers has not for a family's blocks or latents; all others make an image
REFUSED = {
    "sd3": {"autoguidance", "slg"},
    "klein-base": {"autoguidance", "slg", "pag", "fdg"},
    "qwen": {"cfg-zero", "autoguidance", "slg", "fdg"},
    "z-image": {"autoguidance", "slg", "seg"},
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_transformers_guiders_run_or_are_refused_and_its_cfg_is_its_own(name):
    diffuser, refused = Diffuser(backbones.build(name)), set()
    text, noise = diffuser.encode(PROMPTS), draw([1, 2], diffuser.latent_shape(64, 64))
    plain = diffuser.sample(text, noise, 2, 4.0)
    for kind in (
        kind for kind, row in GUIDERS.items() if not row.package or importlib.util.find_spec(row.package)
    ):
        try:
            Guided(diffuser, kind).check(4.0)
        except ValueError:
            refused.add(kind)
            continue
        result = Guided(diffuser, kind).sample(text, noise, 2, 4.0)
        assert result.shape == noise.shape and result.isfinite().all(), kind
        assert kind != "cfg" or torch.allclose(result, plain, atol=1e-3)
    assert refused == {kind for kind in REFUSED[name] if kind != "fdg" or importlib.util.find_spec("kornia")}


@pytest.mark.parametrize("name", ["sana", "pixart", "kolors"])
def test_pag_is_that_of_the_classic_pipeline_where_there_is_no_guider(name):
    diffuser = Diffuser(backbones.build(name))
    text, noise = diffuser.encode(PROMPTS), draw([1, 2], diffuser.latent_shape(64, 64))
    result = Guided(diffuser, "pag").sample(text, noise, 2, 4.0)
    plain = diffuser.sample(text, noise, 2, 4.0)
    assert result.isfinite().all() and not torch.allclose(result, plain, atol=1e-4)


@pytest.mark.parametrize("name", ["flux-dev", "flux-schnell", "flux2", "klein", "sprint"])
def test_a_distilled_model_has_no_guider_but_its_own_guidance(name):
    diffuser = Diffuser(backbones.build(name))
    assert Guided(diffuser, "cfg").check(4.0)
    for kind in set(GUIDERS) - {"cfg"}:
        with pytest.raises(ValueError, match="eave"):
            Guided(diffuser, kind).check(4.0)


def test_the_number_of_cfg_is_its_guidance_also_where_there_is_no_guider(diffusers):
    for diffuser in diffusers.values():
        text, noise = diffuser.encode(PROMPTS), draw([1, 2], diffuser.latent_shape())
        result = Guided(diffuser, "cfg", 6.0).sample(text, noise, 2, 4.0)
        assert torch.allclose(result, diffuser.sample(text, noise, 2, 6.0), atol=1e-3)


def test_smoothed_energy_guidance_sees_through_a_lora(diffusers):
    """A LoRA is wrapped around the query layer; one whose layers are zero changes nothing."""
    diffuser = Diffuser(copy.deepcopy(diffusers["sdxl"].pipe))
    text, noise = diffuser.encode(PROMPTS), draw([1, 2], diffuser.latent_shape())
    expected = Guided(diffuser, "seg").sample(text, noise, 3, 4.0)
    diffuser.denoiser.add_adapter(LoraConfig(r=2, target_modules=["to_q"]))
    assert torch.allclose(Guided(diffuser, "seg").sample(text, noise, 3, 4.0), expected, atol=1e-4)


# (backbone, kind): in which call of the network, within ten steps, the guider's hooks are on it
WEAKENED = {
    ("sdxl", "pag"): 3,
    ("sdxl", "autoguidance"): 2,
    ("sdxl", "slg"): 5,
    ("sdxl", "seg"): 5,
    ("sd", "pag"): 1,
}


@pytest.mark.parametrize("name, kind", WEAKENED)
def test_the_diffuser_is_bit_for_bit_what_it_was_after_a_run_a_stop_and_a_failure(diffusers, name, kind):
    diffuser = diffusers[name]
    text, noise, calls = diffuser.encode(PROMPTS), draw([1, 2], diffuser.latent_shape()), []
    before = diffuser.sample(text, noise, 2)
    processors, hooked = dict(diffuser.pipe.unet.attn_processors), hooks(diffuser.pipe.unet)

    def fail(*_):
        calls.append(1)
        if len(calls) == WEAKENED[name, kind]:
            assert hooks(diffuser.pipe.unet) != hooked or name == "sd"
            raise RuntimeError("out of memory")

    Guided(diffuser, kind).sample(text, noise, STEPS)
    with pytest.raises(Stopped):
        Guided(diffuser, kind).sample(text, noise, STEPS, stop=lambda: calls.append(1) or len(calls) > 1)
    calls.clear()
    handle = diffuser.pipe.unet.up_blocks[0].register_forward_pre_hook(fail)
    with pytest.raises(RuntimeError, match="out of memory"):
        Guided(diffuser, kind).sample(text, noise, STEPS)
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
        (lambda d: Guided(d["sdxl"], "apg", 1).sample(d["sdxl"].encode(["a star"]), draw([1], (4, 8, 8)), 2), "has none"),
        (lambda d: Guided(d["sdxl"], "seg").sample(d["sdxl"].encode(["a star"]), draw([1], (4, 8, 16)), 2), "take a square"),
        (lambda d: Guided(Diffuser(backbones.sdxl("lcm")), "slg").check(4.0), "is distilled to do without it"),
        (lambda d: Guided(d["sd"], "magic"), "choose one of cfg, cfg-zero"),
        (lambda d: Guided(d["sd"], "pag", 0), "out of range"),
        (lambda d: Guided(d["sd"], "pag").sample(d["sd"].encode(["a star"]), draw([1, 2], (4, 4, 4))), "1 prompts"),
        (lambda d: Guided(d["sd"], "pag").sample(d["sd"].encode(["a star"]), draw([1], (4, 4, 4)), 0), "got 0"),
    ],
)  # fmt: skip
def test_what_cannot_be_done_is_refused_with_a_sentence(diffusers, call, says):
    with pytest.raises(ValueError, match=says):
        call(diffusers)


def test_a_kind_whose_package_is_missing_says_what_to_install(diffusers, monkeypatch):
    monkeypatch.setattr("core.guidance.find_spec", lambda name: None)
    with pytest.raises(ValueError, match="pip install kornia"):
        Guided(diffusers["sdxl"], "fdg").check(4.0)


def test_pag_works_on_several_items_where_guidance_is_an_input_of_the_network():
    lcm = Diffuser(backbones.build("lcm"))
    text, noise = lcm.encode(["a red circle", "a blue star"]), draw([3, 4], lcm.latent_shape())
    both = Guided(lcm, "pag").sample(text, noise, 2, 8.0, seeds=[3, 4])
    alone = Guided(lcm, "pag").sample(text.take([1]), noise[1:], 2, 8.0, seeds=[4])
    assert torch.allclose(both[1:], alone, atol=1e-3)
    assert not torch.allclose(both, lcm.sample(text, noise, 2, 8.0, seeds=[3, 4]), atol=1e-3)
