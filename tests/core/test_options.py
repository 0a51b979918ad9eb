"""Negative prompt, weights, scheduler and LoRA files on tiny pipelines; diffusers' own call is the reference."""

import copy
from dataclasses import replace

import pytest
import torch
from diffusers import DPMSolverMultistepScheduler, EulerAncestralDiscreteScheduler
from safetensors.torch import load_file, save_file

from core.diffusion import Diffuser
from core.emphasis import weighted
from core.evaluation.methods import Guidance, Projected, guidance_of
from core.guidance import Guided
from core.noise import draw, third
from core.options import Configured, Options, configured
from core.progress import Stopped
from core.schedulers import like, serving
from tests import backbones, loras

PROMPTS = ["a red circle", "a blue square above a star"]
NEGATIVE = "a green star"


@pytest.fixture(scope="module")
def diffusers():
    torch.manual_seed(0)
    return {"sdxl": Diffuser(backbones.sdxl("sdxl")), "sd": Diffuser(backbones.sd("sd15"))}


@pytest.fixture(scope="module", params=["sdxl", "sd"])
def diffuser(request, diffusers):
    return diffusers[request.param]


@pytest.fixture(scope="module")
def files(diffusers, tmp_path_factory):
    folder = tmp_path_factory.mktemp("loras")
    made = {
        "style": loras.write(diffusers["sdxl"], folder / "style.safetensors"),
        "pose": loras.write(diffusers["sdxl"], folder / "pose.safetensors", seed=1, parts=("denoiser",)),
        "other": loras.write(diffusers["sd"], folder / "other.safetensors"),
    }
    cut = folder / "cut.safetensors"
    cut.write_bytes(made["style"].read_bytes()[:-100])
    return {name: str(path) for name, path in {**made, "cut": cut}.items()}


def sampled(diffuser, seeds=(5, 6), steps=3, guidance=4.0, **more):
    text, noise = diffuser.encode(PROMPTS), draw([1, 2], diffuser.latent_shape(32, 48))
    return diffuser.sample(text, noise, steps, guidance, seeds=seeds, **more)


def by_pipeline(diffuser, prompts=PROMPTS, guidance=4.0, **more):
    pipe = diffuser.pipe
    return pipe(
        prompts, latents=draw([1, 2], diffuser.latent_shape(32, 48)), height=32, width=48, num_inference_steps=3,
        guidance_scale=guidance, output_type="latent", **more,
    ).images  # fmt: skip


# ---- negative prompt


def test_a_negative_prompt_is_the_pipelines_own_and_leaves_the_text_as_it_was(diffuser):
    under, text = Configured(diffuser, Options(negative=NEGATIVE)), diffuser.encode(PROMPTS)
    result = under.encode(PROMPTS)
    assert torch.equal(result.hidden, text.hidden) and torch.equal(result.words, text.words)
    assert not torch.equal(result.negative, text.negative)
    expected = by_pipeline(diffuser, negative_prompt=[NEGATIVE] * 2)
    assert torch.allclose(sampled(under), expected, atol=1e-4)
    assert not torch.allclose(sampled(under), sampled(diffuser), atol=1e-2)


@pytest.mark.parametrize(
    ("name", "guidance", "says"), [("sdxl", 1.0, "At a guidance of 1"), ("lcm", 8.0, "was distilled")]
)
def test_a_negative_prompt_without_effect_is_refused(name, guidance, says):
    diffuser = Diffuser(backbones.sdxl(name))
    with pytest.raises(ValueError, match=says):
        sampled(Configured(diffuser, Options(negative=NEGATIVE)), guidance=guidance)


@pytest.mark.parametrize(
    ("method", "guidance", "takes"),
    [
        ("cfg-7", 1.0, True),
        ("cfg-1", 4.0, False),
        ("apg-5", 1.0, True),
        ("cfg", 1.0, False),
        ("pag-3", 4.0, True),
    ],
)
def test_a_negative_prompt_is_judged_by_the_guidance_that_a_method_has(diffusers, method, guidance, takes):
    diffuser, (kind, _, scale) = diffusers["sdxl"], method.partition("-")
    under = Configured(diffuser, Options(negative=NEGATIVE))
    guided = Guided(under, kind, float(scale) if scale else None)
    way = Guidance(kind, float(scale) if scale else None)
    if takes:
        under.check(guidance_of(Projected(torch.nn.Identity(), base=way), guidance))
        assert sampled(guided, guidance=guidance).isfinite().all()
    else:
        for refused in (
            lambda: under.check(guidance_of(way, guidance)),
            lambda: sampled(guided, guidance=guidance),
        ):
            with pytest.raises(ValueError, match="a negative prompt has no effect"):
                refused()


# ---- weights


def test_words_and_projection_read_the_plain_text_and_sampling_the_weighted(diffuser):
    under, text = Configured(diffuser, Options(weighted=True)), diffuser.encode(PROMPTS)
    typed = ["a (red:1.4) circle", "a blue square [above] a star"]
    result = under.encode(typed)
    assert result.prompts == PROMPTS and result.word_lists == text.word_lists
    assert torch.equal(result.hidden, text.hidden)
    noise = draw([1, 2], diffuser.latent_shape())
    assert not torch.allclose(under.sample(result, noise, 2), diffuser.sample(text, noise, 2), atol=1e-3)
    assert torch.allclose(
        under.sample(result.take([1]), noise[1:], 2), under.sample(result, noise, 2)[1:], atol=1e-3
    )
    same = under.encode([r"a red circle", "a blue square above a star"])
    assert torch.equal(under.sample(same, noise, 2), diffuser.sample(text, noise, 2))


def test_weights_in_the_negative_prompt_weigh_what_is_sampled_against(diffuser):
    noise, plain = draw([1, 2], diffuser.latent_shape()), Options(negative=NEGATIVE, weighted=True)
    typed = Configured(diffuser, Options(negative="a (green:1.5) star", weighted=True))
    text, expected = typed.encode(PROMPTS), diffuser.encode(PROMPTS, NEGATIVE)
    assert torch.equal(text.negative, expected.negative) and torch.equal(text.hidden, expected.hidden)
    against = Configured(diffuser, Options(weighted=True)).encode(["a (green:1.5) star"])
    assert torch.equal(text.negative_emphasis, against.emphasis.repeat(2, 1))
    by_hand = replace(expected, negative=weighted(expected.negative, text.negative_emphasis))
    assert torch.equal(typed.sample(text, noise, 2), diffuser.sample(by_hand, noise, 2))
    same = Configured(diffuser, plain)
    unweighted = same.sample(same.encode(PROMPTS), noise, 2)
    assert torch.equal(unweighted, diffuser.sample(expected, noise, 2))
    assert not torch.equal(typed.sample(text, noise, 2), unweighted)
    literal = Configured(diffuser, Options(negative="a (green:1.5) star")).encode(PROMPTS)
    assert literal.negative_emphasis is None and not torch.equal(literal.negative, text.negative)


# ---- scheduler


@pytest.mark.parametrize("kind", [DPMSolverMultistepScheduler, EulerAncestralDiscreteScheduler])
def test_a_scheduler_by_name_is_what_the_pipeline_makes_with_it(diffuser, kind):
    """What is stochastic draws from the third stream of each seed."""
    reference = Diffuser(copy.copy(diffuser.pipe))
    reference.pipe.scheduler = kind.from_config(diffuser.pipe.scheduler.config)
    generator = third([5, 6], diffuser.latent_shape(32, 48))
    expected = by_pipeline(reference, generator=generator)
    under = Configured(diffuser, Options(scheduler=kind.__name__))
    assert torch.allclose(sampled(under), expected, atol=1e-4)
    other = sampled(under, seeds=(5, 7))
    assert torch.allclose(other[0], sampled(under)[0], atol=1e-3)
    assert torch.equal(other[1], sampled(under)[1]) != (kind is EulerAncestralDiscreteScheduler)


def test_every_scheduler_that_is_offered_samples(diffuser):
    own, result = diffuser.pipe.scheduler, sampled(diffuser)
    for name in serving(own):
        assert sampled(Configured(diffuser, Options(scheduler=name))).isfinite().all(), name
    assert diffuser.pipe.scheduler is own and torch.equal(sampled(diffuser), result)
    assert torch.equal(sampled(Configured(diffuser, Options(scheduler=type(own).__name__))), result)


def test_the_scheduler_is_the_models_own_again_after_a_stop_and_a_failure(diffuser):
    own, under = diffuser.pipe.scheduler, Configured(diffuser, Options(scheduler="HeunDiscreteScheduler"))
    calls = []
    with pytest.raises(Stopped):
        sampled(under, stop=lambda: calls.append(1) or len(calls) > 2)
    assert diffuser.pipe.scheduler is own
    with pytest.raises(ValueError, match="at least 1"):
        sampled(under, steps=0)
    assert diffuser.pipe.scheduler is own


@pytest.mark.parametrize(
    ("own", "name"),
    [
        (backbones.BACKBONES["sdxl"][0], "FlowMatchEulerDiscreteScheduler"),
        (backbones.BACKBONES["sdxl"][0], "DPMSolverSDEScheduler"),
        (backbones.BACKBONES["sd21"][0].from_config(backbones.BACKBONES["sd21"][0].config, prediction_type="sample"),
         "HeunDiscreteScheduler"),
    ],
)  # fmt: skip
def test_a_scheduler_that_cannot_serve_is_refused_with_those_that_can(own, name):
    with pytest.raises(ValueError, match=f"does not serve.*choose one of {type(own).__name__}.*UniPC"):
        like(own, name)


@pytest.mark.parametrize(
    "name", ["sd3", "sana", "flux-dev", "flux-schnell", "qwen", "z-image", "klein", "pixart"]
)
def test_every_scheduler_that_is_offered_samples_on_families_of_flow_too(name):
    flow = Diffuser(backbones.build(name), size=(64, 64))
    text, noise = flow.encode(["a red circle"]), draw([1], flow.latent_shape())
    names = serving(flow.scheduler, flow.family.own_sigmas)
    assert (len(names) > 1) == (not flow.family.own_sigmas)
    for scheduler in names:
        under = Configured(flow, Options(scheduler=scheduler))
        assert under.sample(text, noise, 3).isfinite().all(), scheduler
        assert flow.replaced is None
    if name == "sana":
        assert like(flow.scheduler, "FlowMatchEulerDiscreteScheduler").config.shift == 3.0


def test_a_guidance_by_a_classic_pipeline_goes_with_options():
    sd15 = Diffuser(backbones.build("sd15"))
    text, noise = sd15.encode(["a red circle"]), draw([1], sd15.latent_shape())
    under = Configured(sd15, Options(scheduler="DDIMScheduler", negative="blue"))
    plain, guided = under.sample(under.encode(["a red circle"]), noise, 3, 4.0), Guided(under, "pag")
    perturbed = guided.sample(guided.encode(["a red circle"]), noise, 3, 4.0)
    assert perturbed.isfinite().all() and not torch.allclose(perturbed, plain, atol=1e-4)
    assert not torch.allclose(perturbed, Guided(sd15, "pag").sample(text, noise, 3, 4.0), atol=1e-4)
    assert sd15.pipe.scheduler is sd15.scheduler


def test_a_flow_model_takes_schedulers_of_flow_alone():
    from diffusers import FlowMatchEulerDiscreteScheduler

    own = FlowMatchEulerDiscreteScheduler(shift=3.0)
    names = serving(own)
    assert names[0] == "FlowMatchEulerDiscreteScheduler" and "EulerDiscreteScheduler" not in names
    for name in names[1:]:
        config = like(own, name).config
        assert (config.prediction_type, config.use_flow_sigmas, config.flow_shift) == (
            "flow_prediction",
            True,
            3,
        )


# ---- LoRA files


def test_lora_files_are_what_diffusers_makes_of_them(diffusers, files):
    diffuser, reference = diffusers["sdxl"], Diffuser(copy.deepcopy(diffusers["sdxl"].pipe))
    for name in ("style", "pose"):
        reference.pipe.load_lora_weights(files[name], adapter_name=name)
    reference.pipe.set_adapters(["style", "pose"], [0.8, 0.5])
    under = Configured(diffuser, Options(loras=((files["style"], 0.8), (files["pose"], 0.5))))
    before = sampled(diffuser)
    assert torch.allclose(sampled(under), sampled(reference), atol=1e-4)
    assert not torch.allclose(sampled(under), before, atol=1e-3)
    assert torch.equal(sampled(diffuser), before)


def test_the_text_is_read_by_the_encoders_that_a_file_changes(diffusers, files):
    diffuser = diffusers["sd"]
    before = diffuser.encode(PROMPTS).hidden
    reference = Diffuser(copy.deepcopy(diffuser.pipe))
    reference.pipe.load_lora_weights(files["other"], adapter_name="other")
    reference.pipe.set_adapters(["other"], [0.8])
    hidden = Configured(diffuser, Options(loras=((files["other"], 0.8),))).encode(PROMPTS).hidden
    assert torch.allclose(hidden, reference.encode(PROMPTS).hidden, atol=1e-5)
    assert not torch.allclose(hidden, before, atol=1e-3)
    assert torch.equal(diffuser.encode(PROMPTS).hidden, before)


def test_files_take_each_others_place_and_other_weights_need_no_loading(diffusers, files, monkeypatch):
    diffuser, read = diffusers["sdxl"], []
    load = type(diffuser.pipe).load_lora_weights
    monkeypatch.setattr(
        type(diffuser.pipe),
        "load_lora_weights",
        lambda self, *a, **k: read.append(k["weight_name"]) or load(self, *a, **k),
    )

    def of(*chosen):
        return sampled(Configured(diffuser, Options(loras=tuple((files[name], w) for name, w in chosen))))

    diffuser.pipe.unload_lora_weights()
    one = of(("style", 1.0))
    half = of(("style", 0.5))
    assert read == ["style.safetensors"] and not torch.equal(one, half)
    pose = of(("pose", 1.0))
    assert read == ["style.safetensors", "pose.safetensors"] and not torch.equal(pose, one)
    assert torch.equal(of(("style", 1.0)), one)


@pytest.mark.parametrize("name", ["cut", "other"])
def test_a_damaged_file_and_one_for_another_base_are_refused_and_leave_nothing(diffusers, files, name):
    diffuser = diffusers["sdxl"]
    diffuser.pipe.unload_lora_weights()
    before, modules = sampled(diffuser), names_of_modules(diffuser)
    for chosen in ((files[name], 1.0),), ((files["pose"], 1.0), (files[name], 1.0)):
        with pytest.raises(ValueError, match=f"{name}.safetensors.*made for another base"):
            sampled(Configured(diffuser, Options(loras=chosen)))
        assert names_of_modules(diffuser) == modules and not diffuser.pipe.get_list_adapters()
        assert torch.equal(sampled(diffuser), before)


@pytest.mark.parametrize(
    ("metadata", "says"),
    [
        ({"ss_base_model_version": "sd_1.5"}, "The file says that it was made for sd_1.5. Take one"),
        ({"modelspec.architecture": "flux-1-dev/lora"}, "made for flux-1-dev/lora. Take one"),
        (None, "made for another base model. Take one"),
    ],
)
def test_the_refusal_of_a_file_names_the_base_that_it_was_made_for(
    diffusers, files, tmp_path, metadata, says
):
    named = tmp_path / "named.safetensors"
    save_file(load_file(files["other"]), named, metadata)
    with pytest.raises(ValueError, match=says):
        sampled(Configured(diffusers["sdxl"], Options(loras=((str(named), 1.0),))))


def names_of_modules(diffuser):
    networks = (diffuser.denoiser, *diffuser.text_encoders)
    return [name for network in networks for name, _ in network.named_modules()]


def test_a_lora_of_the_method_lora_and_files_are_refused_together(diffusers, files, tmp_path):
    from core.adapter import Adapter

    diffuser = diffusers["sdxl"]
    folder = tmp_path / "lora"
    folder.mkdir()
    loras.write(diffuser, folder / "pytorch_lora_weights.safetensors", seed=2, parts=("denoiser",))
    adapter, under = (
        Adapter(folder, "0" * 64, ""),
        Configured(diffuser, Options(loras=((files["pose"], 1.0),))),
    )
    plain, alone = sampled(diffuser), sampled(under)
    with adapter.on(diffuser):
        tuned = sampled(diffuser)
        with pytest.raises(ValueError, match="Another LoRA is on the denoiser"):
            sampled(under)
    assert torch.equal(sampled(under), alone) and torch.equal(sampled(diffuser), plain)
    with adapter.on(diffuser):
        assert torch.equal(sampled(diffuser), tuned)
    assert not torch.equal(tuned, plain) and not torch.equal(alone, plain)


@pytest.mark.parametrize(
    ("weight", "says"), [(11.0, "not from -10 to 10"), (float("nan"), "not from -10 to 10")]
)
def test_a_weight_out_of_range_is_refused(diffusers, files, weight, says):
    with pytest.raises(ValueError, match=says):
        Configured(diffusers["sdxl"], Options(loras=((files["style"], weight),)))
    with pytest.raises(ValueError, match="named twice"):
        Configured(diffusers["sdxl"], Options(loras=((files["style"], 1.0), (files["style"], 0.5))))


# ---- together


def test_all_options_go_with_pag_and_leave_the_diffuser_as_it_was(diffusers, files):
    diffuser = diffusers["sdxl"]
    options = Options(NEGATIVE, "EulerAncestralDiscreteScheduler", ((files["style"], 0.7),), weighted=True)
    under, before = configured(diffuser, options), sampled(diffuser)
    guided = Guided(under, "pag")
    assert sampled(guided).isfinite().all() and torch.equal(sampled(guided), sampled(guided))
    assert not torch.allclose(sampled(guided), sampled(under), atol=1e-3)
    assert torch.equal(sampled(diffuser), before)
    assert configured(diffuser, Options()) is diffuser
    assert under.fingerprint != diffuser.fingerprint and under.scale == diffuser.scale
