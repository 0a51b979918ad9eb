"""LoRA on tiny random pipelines of both classes."""

import pytest
import torch
from accelerate import cpu_offload

from core.adapter import WEIGHTS, Adapter
from core.checkpoint import CheckpointError, verify
from core.diffusion import Diffuser
from core.noise import draw
from core.progress import Stopped
from core.training.lora import LoraConfig, image_weights, train_lora
from tests import backbones

PROMPTS = ["a red circle", "a blue square", "a star", "a red circle"]
SHORT = LoraConfig(rank=2, steps=4, batch=2)


@pytest.fixture(scope="module", params=["sdxl", "sd21"])
def diffuser(request):
    torch.manual_seed(0)
    pipe = backbones.sdxl("sdxl") if request.param == "sdxl" else backbones.sd("sd21")
    return Diffuser(pipe, "tiny", "revision-1")


def world(shape=(4, 4, 6)):
    """Latents (4, C, H, W), of images that are not square, with their prompts and scores."""
    return draw([1, 2, 3, 4], shape).half() * 0.1, PROMPTS, [1.0, 0.9, 1.0, 0.2]


def image(diffuser):
    return diffuser.sample(diffuser.encode(PROMPTS[:1]), draw([9], diffuser.latent_shape()), 2)


def test_training_lowers_the_loss_and_leaves_the_diffuser_as_it_was(diffuser, tmp_path):
    before, modules = image(diffuser), [name for name, _ in diffuser.pipe.unet.named_modules()]
    config = LoraConfig(rank=4, steps=40, batch=4, rate=3e-2)
    result, loss = train_lora(diffuser, *world(), config, tmp_path / "lora")
    assert result.step == 40 and loss["after"] < loss["before"]
    assert [name for name, _ in diffuser.pipe.unet.named_modules()] == modules
    assert not any(p.requires_grad for p in diffuser.pipe.unet.parameters())
    assert torch.equal(image(diffuser), before)


def test_an_adapter_changes_the_denoiser_only_while_it_is_enabled(diffuser, tmp_path):
    adapters = []
    for seed in (0, 1):
        config = LoraConfig(rank=4, steps=8, batch=4, rate=1e-2, seed=seed)
        train_lora(diffuser, *world(), config, tmp_path / str(seed))
        adapters.append(Adapter.load(tmp_path / str(seed)))
    plain, made = image(diffuser), []
    for adapter in (*adapters, adapters[0]):
        with adapter.on(diffuser):
            made.append(image(diffuser))
        assert torch.equal(image(diffuser), plain)
    assert torch.equal(made[0], made[2])
    assert not torch.allclose(made[0], plain, atol=1e-4) and not torch.allclose(made[0], made[1], atol=1e-4)
    with pytest.raises(Stopped), adapters[0].on(diffuser):
        raise Stopped
    assert torch.equal(image(diffuser), plain)


def test_the_file_is_diffusers_own_and_holds_the_adapter_alone(diffuser, tmp_path):
    train_lora(diffuser, *world(), SHORT, tmp_path / "lora", meta={"run": "r1"})
    manifest = verify(tmp_path / "lora")
    assert manifest["kind"] == "lora" and list(manifest["files"]) == [WEIGHTS]
    assert (manifest["meta"]["run"], manifest["meta"]["backbone_revision"]) == ("r1", "revision-1")
    adapter = Adapter.load(tmp_path / "lora")
    with adapter.on(diffuser):
        ours = image(diffuser)
    diffuser.pipe.unet.unload_lora()
    diffuser.pipe.load_lora_weights(str(tmp_path / "lora"), weight_name=WEIGHTS)
    theirs = image(diffuser)
    with pytest.raises(ValueError, match="fuse it"), adapter.on(diffuser):
        pass
    diffuser.pipe.unload_lora_weights()
    assert torch.allclose(ours, theirs, atol=1e-5)
    trained = rf"trained on {diffuser.name} \({diffuser.family.name}, revision .*another backbone than b:"
    with pytest.raises(ValueError, match=trained), adapter.on(Diffuser(diffuser.pipe, "b", "2")):
        pass
    (tmp_path / "lora" / WEIGHTS).write_bytes(b"x")
    with pytest.raises(CheckpointError, match="damaged"):
        Adapter.load(tmp_path / "lora")


def test_a_stopped_run_resumes_to_the_same_bits_and_checkpointing_changes_nothing(diffuser, tmp_path):
    _, whole = train_lora(diffuser, *world(), SHORT, tmp_path / "whole", folder=tmp_path / "a")
    steps = []
    result, loss = train_lora(
        diffuser, *world(), SHORT, tmp_path / "parts", folder=tmp_path / "b",
        on_progress=steps.append, stop=lambda: len(steps) == 2,
    )  # fmt: skip
    assert (result.stopped, result.step, loss) == (True, 2, {}) and not (tmp_path / "parts").exists()
    train_lora(diffuser, *world(), SHORT, tmp_path / "parts", folder=tmp_path / "b")
    assert (tmp_path / "parts" / WEIGHTS).read_bytes() == (tmp_path / "whole" / WEIGHTS).read_bytes()
    saving = LoraConfig(rank=2, steps=4, batch=2, checkpointing=True)
    _, loss = train_lora(diffuser, *world(), saving, tmp_path / "again")
    assert loss["after"] == pytest.approx(whole["after"], rel=1e-4)
    assert not diffuser.pipe.unet.is_gradient_checkpointing
    weights = image_weights([1.0, 0.8, 0.0], 0.2)
    assert weights.mean() == pytest.approx(1)
    assert (weights / weights[0]).tolist() == pytest.approx([1, 2.718281828**-1, 2.718281828**-5])


def test_a_sequentially_offloaded_backbone_is_refused(tmp_path):
    """Sequential offload leaves empty weights: layers beside them would be empty, too, and make noise of the images.
    The CPU stands for the GPU that the weights are brought to."""
    torch.manual_seed(0)
    diffuser = Diffuser(backbones.sdxl("sdxl"), "tiny", "revision-1")
    train_lora(diffuser, *world(), SHORT, tmp_path / "lora")
    adapter = Adapter.load(tmp_path / "lora")
    cpu_offload(diffuser.denoiser, torch.device("cpu"))
    with pytest.raises(ValueError, match="STUDIO_OFFLOAD"), adapter.on(diffuser):
        pass
    with pytest.raises(ValueError, match="STUDIO_OFFLOAD"):
        train_lora(diffuser, *world(), SHORT, tmp_path / "again")


@pytest.mark.parametrize(
    "change, says",
    [
        ({"latents": torch.zeros(3, 4, 4, 4)}, "3 latents, 4 prompts"),
        ({"latents": torch.zeros(0, 4, 4, 4), "prompts": [], "scores": []}, "no image"),
        ({"scores": [1, 1, 1, 1.5]}, "lie in"),
        ({"config": LoraConfig(temperature=0)}, "temperature 0 must"),
    ],
)
def test_bad_input_is_refused_with_a_sentence(diffuser, tmp_path, change, says):
    latents, prompts, scores = world()
    given = {"latents": latents, "prompts": prompts, "scores": scores, "config": SHORT} | change
    with pytest.raises(ValueError, match=says):
        train_lora(diffuser, *given.values(), tmp_path / "lora")
