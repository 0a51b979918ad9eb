"""core/foresight.py: what the backbone foresees at its first step, on tiny random pipelines of the real classes."""

from types import SimpleNamespace

import pytest
import torch
from diffusers import (
    DDIMScheduler,
    DPMSolverMultistepScheduler,
    EulerDiscreteScheduler,
    FlowMatchEulerDiscreteScheduler,
    LCMScheduler,
)

from core import checkpoint, foresight
from core.adapter import Adapter
from core.diffusion import Diffuser
from core.evaluation.base import Settings
from core.evaluation.choosing import by_teacher
from core.evaluation.methods import BestOfNoise
from core.foresight import Foresight, RewardParts, Teacher, check_first_step, clean
from core.networks.reward import PictureReader, RewardModel
from core.noise import draw
from core.training.data import RewardData, Sample, Texts
from core.training.foresight import ForesightConfig, train_foresight
from tests import backbones

PROMPTS = ["a red circle", "a blue square above a star"]
SMALL = {"head_width": 16, "head_depth": 1, "heads": 2}


@pytest.fixture(scope="module", params=["sdxl", "sd21", "flux-dev", "z-image"])
def diffuser(request):
    return Diffuser(backbones.build(request.param), "tiny", "revision-1", size=(64, 64))


def set_up(scheduler):
    """A scheduler at its first step."""
    scheduler.set_timesteps(20)
    return scheduler


@pytest.mark.parametrize("kind", ["epsilon", "v_prediction", "sample"])
@pytest.mark.parametrize("scheduler", [DDIMScheduler, EulerDiscreteScheduler, LCMScheduler])
def test_the_clean_latents_are_those_that_the_scheduler_itself_predicts(scheduler, kind):
    betas = {"beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012}
    made = set_up(scheduler.from_config({"prediction_type": kind, "clip_sample": False, **betas}))
    predicted, x = torch.randn(2, 4, 8, 8), draw([1, 2], (4, 8, 8)) * made.init_noise_sigma
    ours = clean(made, x, predicted)
    made.scale_model_input(x, made.timesteps[0])
    result = made.step(predicted, made.timesteps[0], x)
    theirs = result.pred_original_sample if hasattr(result, "pred_original_sample") else result.denoised
    assert torch.allclose(ours, theirs, atol=2e-3, rtol=2e-3)


@pytest.mark.parametrize(
    "scheduler",
    [
        FlowMatchEulerDiscreteScheduler(),
        FlowMatchEulerDiscreteScheduler(shift=3.0),
        DPMSolverMultistepScheduler(prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=3.0),
    ],
)
def test_flow_matching_goes_from_the_noise_along_what_is_predicted(scheduler):
    noise, velocity = torch.randn(1, 4, 2, 2), torch.randn(1, 4, 2, 2)
    assert torch.allclose(clean(set_up(scheduler), noise, velocity), noise - velocity, atol=5e-3)


def test_epsilon_prediction_at_zero_signal_is_refused():
    def check(kind):
        made = DDIMScheduler(rescale_betas_zero_snr=True, timestep_spacing="trailing", prediction_type=kind)
        check_first_step(SimpleNamespace(scheduler=made, default_steps=20, name="tiny"))

    with pytest.raises(ValueError, match="foresight_steps=0"):
        check("epsilon")
    check("v_prediction")


def data_of(diffuser, pictures=True):
    shape = diffuser.latent_shape()
    texts = Texts.encode(diffuser.encode, PROMPTS)
    picture = draw(range(100, 108), shape) * 0.5
    samples = [
        Sample(PROMPTS[i % 2], i, {1: (9, 1.0)}, picture=picture[i] if pictures else None) for i in range(8)
    ]
    return RewardData.build(samples, texts, shape)


def foresee(diffuser):
    given = diffuser.encode_many(PROMPTS)
    with torch.no_grad():
        return Foresight(diffuser)(draw([5, 6], diffuser.latent_shape()), given, torch.arange(2))


def test_fine_tuning_improves_foresight_and_leaves_the_backbone_unchanged(diffuser, tmp_path):
    before, data = foresee(diffuser), data_of(diffuser)
    config = ForesightConfig(steps=20, batch=8, rate=2e-2, rank=4)
    result, actual = train_foresight(diffuser, data, tmp_path / "adapter", config)
    assert result.step == 20 and actual["after"] > actual["before"]
    assert torch.equal(foresee(diffuser), before)
    reader = PictureReader(latent_channels=diffuser.channels, text_width=diffuser.text_width, **SMALL)
    teacher = Teacher(diffuser, reader, Adapter.load(tmp_path / "adapter"))
    given, noise = diffuser.encode_many(PROMPTS), draw([5, 6], diffuser.latent_shape())
    tuned = teacher.foresee(noise, given, torch.arange(2))
    assert not torch.allclose(tuned, before, atol=1e-3) and torch.equal(foresee(diffuser), before)

    reward = RewardModel(latent_channels=diffuser.channels, text_width=diffuser.text_width, width=16, heads=2, depth=1,
                         channels=(16,), head_width=16, head_depth=1)  # fmt: skip
    meta = {"backbone_revision": diffuser.revision}
    checkpoint.save(RewardParts(reward, teacher), tmp_path / "reward", meta, kind="RewardModel")
    again = Teacher.of_reward(tmp_path / "reward", diffuser)
    assert torch.equal(again.foresee(noise, given, torch.arange(2)), tuned)
    text = diffuser.encode(PROMPTS)
    assert torch.allclose(again.logits(noise, text), teacher.logits(noise, text))
    texts = Texts.encode(diffuser.encode, PROMPTS)
    rows = torch.tensor([1, 0])
    picture, logits = again.of(texts)(noise, rows)
    assert picture.shape == noise.shape and logits.shape == (2, texts.words.shape[1], 10)
    assert torch.equal(again.judge(texts)(noise, rows), PictureReader.expected(logits))
    assert checkpoint.load(RewardModel, tmp_path / "reward").config.width == 16


def teacher_of(diffuser, folder, steps=1):
    """A teacher with an adapter of so many steps, which is in the folder."""
    train_foresight(diffuser, data_of(diffuser), folder, ForesightConfig(steps=steps, batch=2, rank=2))
    reader = PictureReader(latent_channels=diffuser.channels, text_width=diffuser.text_width, **SMALL)
    return Teacher(diffuser, reader, Adapter.load(folder))


def test_only_a_small_denoiser_is_copied_with_the_adapter_merged_and_none_that_is_offloaded(
    diffuser, tmp_path, monkeypatch
):
    given, noise = diffuser.encode_many(PROMPTS), draw([5, 6], diffuser.latent_shape())
    small = teacher_of(diffuser, tmp_path / "a", steps=2)
    large, offloaded = (Teacher(diffuser, small.reader, small.adapter) for _ in range(2))
    before = [part.clone() for part in diffuser.denoiser.parameters()]
    one = small.foresee(noise, given, torch.arange(2))
    copied = small.foresight.diffuser.denoiser
    assert copied is not diffuser.denoiser and not hasattr(copied, "peft_config")
    assert not hasattr(diffuser.denoiser, "peft_config")  # nothing is left on the one that draws
    with monkeypatch.context() as patch:
        patch.setattr(diffuser.denoiser, "_hf_hook", object(), raising=False)  # as accelerate leaves it
        offloaded.foresee(noise, given, torch.arange(2))
    monkeypatch.setattr(foresight, "COPIED", 0)
    other = large.foresee(noise, given, torch.arange(2))
    assert large.foresight.diffuser is offloaded.foresight.diffuser is diffuser
    assert (one - other).norm() < 0.02 * other.norm()  # both compute in bfloat16
    assert not torch.equal(one, Foresight(diffuser)(noise, given, torch.arange(2)))
    now = [part for name, part in diffuser.denoiser.named_parameters() if "lora" not in name]
    assert len(now) == len(before) and all(map(torch.equal, now, before))


def test_the_calls_of_a_teacher_are_counted_separately_from_those_of_sampling(diffuser, tmp_path):
    method = BestOfNoise(2, by_teacher(teacher_of(diffuser, tmp_path / "a")))
    for _ in range(2):
        made = method.run(diffuser, PROMPTS, [1, 2], Settings(steps=2, guidance=4.0))
        passes = 1 if diffuser.embedded else 2  # with and without the text
        assert made.network_calls == 2 * 2 * passes  # images, steps
        assert made.other_calls == {"foresight": 4}


def test_what_cannot_be_foreseen_with_is_refused_with_advice(diffuser, tmp_path):
    with pytest.raises(ValueError, match="collect samples first"):
        train_foresight(diffuser, data_of(diffuser, pictures=False), tmp_path / "adapter")
    reward = RewardModel(
        latent_channels=4, text_width=8, width=16, heads=2, depth=1, channels=(16,), head_width=16
    )
    parts, other = RewardParts(reward, teacher_of(diffuser, tmp_path / "a")), {"backbone_revision": "another"}
    checkpoint.save(reward, tmp_path / "old")
    checkpoint.save(parts, tmp_path / "other", other, kind="RewardModel")
    for name, says in (("old", "of an earlier kind"), ("other", "another backbone")):
        with pytest.raises(ValueError, match=says):
            Teacher.of_reward(tmp_path / name, diffuser)
