"""core/families.py, core/loading.py: every family is loaded and sampled by its description; what cannot be is a sentence.

The pipelines are tiny and random, of the real classes: what is tested is the plumbing.
"""

import dataclasses
import json
import shutil
from unittest.mock import Mock, call

import numpy as np
import pytest
import torch

from core import checkpoint, families, loading
from core.diffusion import Diffuser, ModelError
from core.families import ORDINARY, Sampling, sampling
from core.noise import draw
from tests import backbones

PROMPTS = ["a red circle above a blue square", "a blue star"]


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    return {name: backbones.save(name, tmp_path_factory.mktemp(name)) for name in backbones.BACKBONES}


@pytest.fixture(scope="module")
def loaded(folders):
    return {name: Diffuser.load(folder) for name, folder in folders.items()}


def sample(diffuser, rows=(0, 1), size=(64, 96), seeds=(3, 4), **more):
    text = diffuser.encode(PROMPTS).take(rows)
    seeds = [seeds[row] for row in rows]
    noise = draw([3, 4], diffuser.latent_shape(*size))[list(rows)]
    return diffuser.sample(text, noise, 3, diffuser.default_guidance, seeds=seeds, **more)


# ---- sampling


@pytest.mark.parametrize("name", backbones.BACKBONES)
def test_an_image_depends_on_its_seed_alone_and_on_nothing_else_in_its_batch(loaded, folders, name):
    diffuser, seen = loaded[name], []
    both = sample(diffuser, on_step=lambda step, total, latents: seen.append((step, total)))
    assert sorted(set(seen)) == [(1, 3), (2, 3), (3, 3)] and seen == sorted(seen)
    assert both.shape == (2, *diffuser.latent_shape(64, 96)) and both.isfinite().all()
    assert torch.equal(both, sample(diffuser))
    assert torch.allclose(both[1:], sample(diffuser, rows=[1]), atol=1e-3)
    other = sample(diffuser, seeds=(3, 5))  # of the same noise
    assert torch.allclose(other[0], both[0], atol=1e-3)
    assert torch.equal(other[1], both[1]) != (name in ("turbo", "lcm"))  # whose samplers draw noise
    assert diffuser.decode(both).shape == (2, 64, 96, 3)
    _, steps, guidance = backbones.BACKBONES[name]
    assert (diffuser.default_steps, diffuser.default_guidance) == (steps, guidance)
    assert loading.own_sampling(folders[name]) == Sampling(steps, guidance)  # without loading it


def test_guidance_is_an_input_of_a_consistency_model_and_costs_it_no_second_pass(loaded):
    lcm, calls = loaded["lcm"], []
    text, noise = lcm.encode(PROMPTS), draw([3, 4], lcm.latent_shape())
    hook = lcm.denoiser.register_forward_pre_hook(lambda module, given: calls.append(len(given[0])))
    low, high = (lcm.sample(text, noise, 2, guidance) for guidance in (2.0, 12.0))
    hook.remove()
    assert set(calls) == {2} and not torch.equal(low, high)


def test_zero_terminal_snr_models_and_unreadable_ones_have_ordinary_sampling(tmp_path):
    trailing = {"_class_name": "EulerDiscreteScheduler", "timestep_spacing": "trailing"}
    assert sampling(trailing, {}).steps == 4
    assert sampling({**trailing, "rescale_betas_zero_snr": True}, {}) == ORDINARY
    assert loading.own_sampling(tmp_path) == ORDINARY


# ---- text and sizes


def test_a_tokenizer_of_letters_and_an_autoencoder_of_another_scale_are_taken_as_they_are(loaded, folders):
    sd15 = loaded["sd15"]
    text = sd15.encode(["a red circle"])
    pieces = (text.words[0] > 0).sum(1).tolist()
    assert pieces == [1, 3, 6, 12] and torch.allclose(text.words[0].sum(1), torch.ones(4))
    assert text.pooled is None and text.mask.sum() == 1 + 10 + 1
    assert text.hidden.shape == (1, 77, sd15.text_width)
    assert (sd15.scale, sd15.latent_shape(), sd15.latent_shape(72, 64)) == (4, (4, 16, 16), (4, 18, 16))
    assert sd15.decode(sample(sd15, size=(72, 64))).shape == (2, 72, 64, 3)
    assert "safety_checker" in json.loads((folders["sd15"] / "model_index.json").read_text())
    assert sd15.pipe.safety_checker is None


def test_the_default_size_can_be_set_and_need_not_be_square(folders):
    wide = Diffuser.load(folders["sdxl"], size=(64, 96))
    assert wide.latent_shape() == (4, 8, 12) and wide.default_size == 64
    assert wide.latent_shape(64, 64) == (4, 8, 8)
    assert "96x64" in wide.fingerprint
    with pytest.raises(ValueError, match="multiple of 8: take"):
        Diffuser.load(folders["sdxl"], size=(60, 64))


# ---- loading


@pytest.mark.parametrize(
    ("name", "dtype"), [("sdxl", torch.bfloat16), ("sdxl", torch.float16), ("sd15", torch.float16)]
)
def test_half_precision_makes_images_and_the_autoencoder_that_overflows_in_it_stays_in_float32(
    folders, tmp_path, name, dtype
):
    diffuser = Diffuser.load(folders[name], dtype=dtype)
    assert diffuser.dtype == dtype and diffuser.pipe.vae.dtype == torch.float32
    latents = sample(diffuser)
    assert latents.dtype == dtype and latents.isfinite().all()
    image = diffuser.decode(latents)
    assert np.array_equal(image, diffuser.decode(latents.float()))
    assert diffuser.to_latents(image).dtype == torch.float32
    folder = with_vae(folders[name], tmp_path, force_upcast=False)  # as in a VAE that was fixed
    if name == "sdxl":
        assert Diffuser.load(folder, dtype=dtype).pipe.vae.dtype == dtype


def with_vae(folder, tmp_path, **changes):
    """A copy of a backbone, these entries of its autoencoder's configuration changed."""
    copy = shutil.copytree(folder, tmp_path / "changed")
    config = copy / "vae" / "config.json"
    config.write_text(json.dumps({**json.loads(config.read_text()), **changes}))
    return copy


def test_latents_are_normalised_by_the_autoencoders_own_mean_and_deviation(folders, tmp_path):
    more = {"latents_mean": [1.0, 2.0, 3.0, 4.0], "latents_std": [2.0] * 4, "scaling_factor": 0.5}
    folder = with_vae(folders["sdxl"], tmp_path, **more)
    plain, normalised = Diffuser.load(folders["sdxl"]), Diffuser.load(folder)
    image = np.full((1, 64, 64, 3), 200, np.uint8)
    raw = plain.to_latents(image) / plain.pipe.vae.config.scaling_factor
    result = normalised.to_latents(image)
    assert torch.allclose(result, (raw - torch.tensor([1.0, 2, 3, 4]).view(1, 4, 1, 1)) / 2 * 0.5, atol=1e-5)
    assert np.abs(normalised.decode(result).astype(int) - plain.decode(plain.to_latents(image))).max() <= 1


def test_slicing_changes_the_memory_and_not_the_image_and_a_variant_is_loaded(folders, loaded, tmp_path):
    sliced = Diffuser.load(folders["sdxl"], slicing=True)
    assert sliced.pipe.vae.use_slicing and sliced.pipe.vae.use_tiling
    assert torch.allclose(sample(sliced), sample(loaded["sdxl"]), atol=1e-3)
    folder = backbones.save("sd21", tmp_path / "halved", variant="fp16")
    assert Diffuser.load(folder, variant="fp16").text_width == 48


def test_a_model_of_the_hub_has_the_commit_as_its_revision(folders, tmp_path, monkeypatch):
    """A cache of the hub as its client leaves it, for there is no network here."""
    commit, home = "0123456789abcdef0123456789abcdef01234567", tmp_path / "models--someone--tiny"
    shutil.copytree(folders["turbo"], home / "snapshots" / commit)
    for name in ("main", "v1"):
        (home / "refs").mkdir(exist_ok=True)
        (home / "refs" / name).write_text(commit)
    for module in ("configuration_utils", "pipelines.pipeline_utils"):
        monkeypatch.setattr(f"diffusers.{module}.HF_HUB_CACHE", str(tmp_path), raising=False)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    for revision in (None, "v1"):
        diffuser = Diffuser.load("someone/tiny", revision=revision)
        assert (diffuser.name, diffuser.revision) == ("someone/tiny", commit)
    assert loading.own_sampling("someone/tiny").steps == 4
    with pytest.raises(ModelError, match="someone/tiny' cannot be loaded"):
        Diffuser.load("someone/tiny", revision="v2")


def test_weights_that_were_written_in_another_form_keep_the_revision_that_their_manifest_names(
    folders, tmp_path
):
    folder = shutil.copytree(folders["sdxl"], tmp_path / "shipped")
    own = loading.revision_of(folder)
    checkpoint.save(Diffuser.load(folder).pipe, folder, {"revision": "0123456789ab"})
    assert Diffuser.load(folder).revision == "0123456789ab"
    (folder / "unet" / "config.json").write_text("{}\n")  # the manifest does not speak of this any more
    assert loading.revision_of(folder) not in ("0123456789ab", own)


BAD = {
    "no index": lambda f: (f / "model_index.json").unlink(),
    "an index that is no JSON": lambda f: (f / "model_index.json").write_text("{"),
    "a family that is not described": lambda f: (f / "model_index.json").write_text('{"_class_name": "FluxPipeline"}'),
    "an index of nothing": lambda f: (f / "model_index.json").write_text("{}"),
    "no network": lambda f: shutil.rmtree(f / "unet"),
    "a network that was cut short": lambda f: next((f / "unet").glob("*.safetensors")).write_bytes(b"x" * 50),
    "a text encoder that was cut short": lambda f: next((f / "text_encoder").glob("*.safetensors")).write_bytes(b"x"),
    "no scheduler": lambda f: (f / "scheduler" / "scheduler_config.json").unlink(),
    "a prediction that is none": lambda f: (f / "scheduler" / "scheduler_config.json").write_text(
        json.dumps({"_class_name": "DDIMScheduler", "prediction_type": "magic"})
    ),
}  # fmt: skip


@pytest.mark.parametrize("what", BAD)
def test_a_bad_folder_raises_a_model_error_with_a_sentence(folders, tmp_path, what):
    folder = shutil.copytree(folders["sd21"], tmp_path / "broken")
    BAD[what](folder)
    with pytest.raises(ModelError) as result:
        Diffuser.load(folder)
    text = str(result.value)
    assert text.endswith((".", "empty.")) and len(text) < 700 and "Traceback" not in text


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"variant": "fp16"}, "in the variant 'fp16'.*STUDIO_VARIANT"),
        ({"dtype": torch.int8}, "float32, float16, bfloat16"),
        ({"offload": "model"}, "set STUDIO_OFFLOAD to none"),
        ({"offload": "sequential"}, "works on the CPU"),
        ({"offload": "some"}, "none, model, sequential"),
        ({"revision": "v1"}, "a folder, which has no revision"),
    ],
)
def test_a_wrong_option_is_refused_with_a_sentence(folders, options, says):
    with pytest.raises(ModelError, match=says):
        Diffuser.load(folders["sd21"], **options)


def test_offload_is_left_to_the_pipeline_and_the_work_is_done_on_the_gpu():
    """The pipeline is a fake that records what it is told, for there is no GPU here."""
    pipe = Mock()
    for offload in ("none", "model", "sequential"):
        loading.place(pipe, "cuda:1", offload, False)
    assert pipe.mock_calls == [
        call.to("cuda:1"),
        call.enable_model_cpu_offload(device="cuda:1"),
        call.enable_sequential_cpu_offload(device="cuda:1"),
    ]


def test_out_of_memory_while_loading_is_raised_as_it_is(folders, monkeypatch):
    monkeypatch.setattr(loading, "place", Mock(side_effect=torch.OutOfMemoryError("CUDA out of memory")))
    with pytest.raises(torch.OutOfMemoryError):
        Diffuser.load(folders["sd21"])


# ---- another family


def test_stable_diffusion_3_needs_a_description_and_no_code(tmp_path, monkeypatch):
    from diffusers import FlowMatchEulerDiscreteScheduler, SD3Transformer2DModel, StableDiffusion3Pipeline
    from transformers import CLIPTextConfig, CLIPTextModelWithProjection, T5Config, T5EncoderModel

    from core.training.diffuser import build_tokenizer
    from core.training.vae import build

    sd3 = dataclasses.replace(
        families.SDXL,
        name="Stable Diffusion 3",
        pipelines=("StableDiffusion3Pipeline",),
        denoiser="transformer",
        text_width="joint_attention_dim",
        patch=2,
        blank=("prompt_2", "prompt_3"),
        tokenizers=("tokenizer", "tokenizer_3"),
        predictions=("flow_prediction",),
    )
    monkeypatch.setattr(families, "FAMILIES", (*families.FAMILIES, sd3))
    torch.manual_seed(0)
    tokenizer = build_tokenizer(["a", "above", "red", "blue", "circle", "square", "star"])
    end, heads = tokenizer.eos_token_id, {"num_attention_heads": 2}
    clip = CLIPTextConfig(vocab_size=50, hidden_size=16, intermediate_size=16, num_hidden_layers=2, projection_dim=16,
                          eos_token_id=end, **heads)  # fmt: skip
    StableDiffusion3Pipeline(
        transformer=SD3Transformer2DModel(
            sample_size=8, in_channels=4, out_channels=4, num_layers=1, attention_head_dim=8, joint_attention_dim=32,
            caption_projection_dim=16, pooled_projection_dim=32, **heads,
        ),
        scheduler=FlowMatchEulerDiscreteScheduler(shift=3.0),
        vae=build(channels=(16, 16, 16, 16), size=64),
        text_encoder=CLIPTextModelWithProjection(clip),
        tokenizer=tokenizer,
        text_encoder_2=CLIPTextModelWithProjection(clip),
        tokenizer_2=tokenizer,
        text_encoder_3=T5EncoderModel(
            T5Config(vocab_size=50, d_model=32, d_kv=8, d_ff=32, num_layers=1, num_heads=2)
        ),
        tokenizer_3=tokenizer,
    ).save_pretrained(tmp_path)  # fmt: skip
    diffuser = Diffuser.load(tmp_path)
    text = diffuser.encode(PROMPTS)
    assert text.hidden.shape == (2, 77 + 256, 32) and text.mask.sum(1).tolist() == [2 * 9, 2 * 5]
    assert text.words[0, :7, 77:].sum() == 0 and text.words[0, 7, 77:].sum() == pytest.approx(0.5)
    assert diffuser.latent_shape() == (4, 8, 8)
    both = sample(diffuser)
    assert torch.allclose(both[1:], sample(diffuser, rows=[1]), atol=1e-3)
    assert diffuser.decode(both).shape == (2, 64, 96, 3)
    with pytest.raises(ValueError, match="multiple of 16"):
        diffuser.latent_shape(72, 64)
