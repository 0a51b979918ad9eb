"""core/families.py, core/loading.py: every family is loaded and sampled by its description; what cannot be is a sentence.

The pipelines are tiny and random, of the real classes: what is tested is the plumbing.
"""

import copy
import json
import shutil
from unittest.mock import Mock, call

import numpy as np
import pytest
import torch

from core import checkpoint, loading
from core.diffusion import Diffuser, ModelError, Text
from core.families import FAMILIES, ORDINARY, Sampling, by_scheduler, from_patches, instruction_of, to_patches
from core.foresight import Foresight
from core.networks.projector import NoiseProjector
from core.noise import draw, third
from core.options import Options, configured
from studio.settings import ROOT
from tests import backbones, loras

PROMPTS = ["a red circle above a blue square", "a blue star"]


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    return {name: backbones.save(name, tmp_path_factory.mktemp(name)) for name in backbones.SAMPLING}


@pytest.fixture(scope="module")
def loaded(folders):
    return {name: Diffuser.load(folder, size=(64, 64)) for name, folder in folders.items()}


def sample(diffuser, rows=(0, 1), size=(64, 96), seeds=(3, 4), **more):
    text = diffuser.encode(PROMPTS).take(rows)
    seeds = [seeds[row] for row in rows]
    noise = draw([3, 4], diffuser.latent_shape(*size))[list(rows)]
    return diffuser.sample(text, noise, 3, diffuser.default_guidance, seeds=seeds, **more)


# ---- sampling


@pytest.mark.parametrize("name", backbones.SAMPLING)
def test_an_image_depends_on_its_seed_alone_and_on_nothing_else_in_its_batch(loaded, folders, name):
    diffuser, seen = loaded[name], []
    both = sample(diffuser, on_step=lambda step, total, latents: seen.append((step, total)))
    assert sorted(set(seen)) == [(1, 3), (2, 3), (3, 3)] and seen == sorted(seen)
    assert both.shape == (2, *diffuser.latent_shape(64, 96)) and both.isfinite().all()
    assert torch.equal(both, sample(diffuser))
    assert torch.allclose(both[1:], sample(diffuser, rows=[1]), atol=1e-3)
    other = sample(diffuser, seeds=(3, 5))  # of the same noise
    assert torch.allclose(other[0], both[0], atol=1e-3)
    assert torch.equal(other[1], both[1]) != (name in ("turbo", "lcm", "sprint"))  # whose samplers draw noise
    images = diffuser.decode(both)
    assert images.shape == (2, 64, 96, 3) and diffuser.to_latents(images).shape == both.shape
    steps, guidance = backbones.SAMPLING[name]
    assert (diffuser.default_steps, diffuser.default_guidance) == (steps, guidance)
    assert loading.own_sampling(folders[name]) == Sampling(steps, guidance)  # without loading it


def own_call(diffuser, size, **more):
    """The pipeline's own call as its users make it, of two seeds: images uint8."""
    options = {diffuser.family.guidance: diffuser.default_guidance, **diffuser.family.extra(3)}
    if diffuser.family.guidance == "true_cfg_scale":
        options["negative_prompt"] = ["", ""]
    with torch.no_grad():
        images = diffuser.pipe(
            prompt=list(PROMPTS), height=size[0], width=size[1], num_inference_steps=3, output_type="np", **options, **more
        ).images  # fmt: skip
    return (images * 255).round().astype(np.uint8)


@pytest.mark.parametrize("size", [(64, 64), (64, 96)])
@pytest.mark.parametrize("name", backbones.SAMPLING)
def test_an_image_from_our_latents_equals_the_pipelines_own_draw_with_the_seeds_generator(loaded, name, size):
    diffuser = loaded[name]
    ours = diffuser.decode(sample(diffuser, size=size))
    more = {"generator": [torch.Generator().manual_seed(seed) for seed in (3, 4)]}
    if name in (
        "turbo",
        "lcm",
        "sprint",
    ):  # draw more noise from the same generator: ours is the seed's third stream
        shape = diffuser.latent_shape(*size)
        more = {"latents": draw([3, 4], shape), "generator": third([3, 4], shape)}
    own = own_call(diffuser, size, **more)
    assert np.abs(own.astype(int) - ours).max() <= 1 and ours.std() > 5


@pytest.mark.parametrize("name", backbones.SAMPLING)
def test_foresight_is_what_the_first_step_of_the_whole_schedule_says(loaded, name):
    """The slow reference. For flow matching a schedule of one step, which goes from the noise to the clean latents by the
    scheduler's own formula; for UNets, whose one step is another, the first call of the network in the whole schedule."""
    diffuser = loaded[name]
    text, noise = diffuser.encode(PROMPTS), draw([3, 4], diffuser.latent_shape(64, 96))
    foreseen = Foresight(diffuser)(noise, diffuser.encode_many(PROMPTS), torch.arange(2))
    guidance = diffuser.default_guidance if diffuser.embedded else 0.0
    if diffuser.family.denoiser == "unet":
        reference = first_of_schedule(diffuser, text, noise, guidance)
    else:
        reference = diffuser.sample(text, noise, 1, guidance)
    # the network computes in bfloat16 where the CPU is made for it
    assert (foreseen - reference).norm() < 0.02 * reference.norm()


def first_of_schedule(diffuser, text, noise, guidance):
    """The clean latents by the first call of the network, with the whole schedule after it."""
    calls = []
    hook = diffuser.denoiser.register_forward_hook(
        lambda module, given, result: calls.append((*given[:2], result[0]))
    )
    diffuser.sample(text, noise, None, guidance)
    hook.remove()
    x, time, predicted = calls[0]
    alpha = diffuser.pipe.scheduler.alphas_cumprod[int(time)]
    if diffuser.pipe.scheduler.config.prediction_type == "v_prediction":
        return alpha.sqrt() * x - (1 - alpha).sqrt() * predicted
    return (x - (1 - alpha).sqrt() * predicted) / alpha.sqrt()


@pytest.mark.parametrize("name", ["flux-dev", "flux2", "qwen", "sana", "z-image", "sd3"])
def test_a_projectors_latents_are_taken_by_the_pipeline_as_they_come(loaded, name):
    diffuser, shape = loaded[name], (64, 96)
    torch.manual_seed(0)
    projector = NoiseProjector(
        latent_channels=diffuser.channels,
        text_width=diffuser.text_width,
        width=16,
        heads=2,
        depth=1,
        channels=(16,),
    )
    torch.nn.init.normal_(projector.out.weight, std=0.2)
    latents = projector.latents(diffuser.pipe, PROMPTS, [3, 4], height=64, width=96)
    plain = projector.latents(diffuser.pipe, PROMPTS, [3, 4], strength=0, height=64, width=96)
    own = own_call(diffuser, shape, latents=latents)
    assert np.abs(own.astype(int) - own_call(diffuser, shape, latents=plain)).max() > 1
    text, noise = diffuser.encode(PROMPTS), draw([3, 4], diffuser.latent_shape(*shape))
    assert torch.equal(plain, diffuser.to_pipeline(noise))
    again = diffuser.family.unpack(latents, noise.shape[-2:]) if latents.ndim == 3 else latents
    assert again.shape == noise.shape
    ours = diffuser.decode(diffuser.sample(text, again.cpu(), 3))
    assert np.abs(own.astype(int) - ours).max() <= 1


def test_guidance_is_an_input_of_a_consistency_model_and_costs_it_no_second_pass(loaded):
    lcm, calls = loaded["lcm"], []
    text, noise = lcm.encode(PROMPTS), draw([3, 4], lcm.latent_shape())
    hook = lcm.denoiser.register_forward_pre_hook(lambda module, given: calls.append(len(given[0])))
    low, high = (lcm.sample(text, noise, 2, guidance) for guidance in (2.0, 12.0))
    hook.remove()
    assert set(calls) == {2} and not torch.equal(low, high)


def test_zero_terminal_snr_models_and_unreadable_ones_have_ordinary_sampling(tmp_path):
    trailing = {"_class_name": "EulerDiscreteScheduler", "timestep_spacing": "trailing"}
    assert by_scheduler(trailing, {}, {}).steps == 4
    assert by_scheduler({**trailing, "rescale_betas_zero_snr": True}, {}, {}) == ORDINARY
    assert loading.own_sampling(tmp_path) == ORDINARY


def test_the_table_of_families_in_the_documentation_has_all_of_them_with_their_defaults():
    text = (ROOT / "studio" / "README.md").read_text()
    rows = [
        line.split("|")[1:-1]
        for line in text.split("### Families of backbones")[1].split("\n## ")[0].splitlines()
        if line.startswith("| ")
    ]
    table = {name.strip(): (pipeline.strip(" `"), defaults) for name, pipeline, defaults, _ in rows[1:]}
    assert list(table) == [family.name for family in FAMILIES]
    for family in FAMILIES:
        pipeline, defaults = table[family.name]
        own = family.sampling({}, {"guidance_embeds": True}, {})
        assert pipeline == family.pipelines[0] and f"{own.steps}, {own.guidance:g}" in defaults


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
    "a family that is not described": lambda f: (f / "model_index.json").write_text('{"_class_name": "WanPipeline"}'),
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
        ({"offload": "some"}, "none, model, group, sequential"),
        ({"revision": "v1"}, "a folder, which has no revision"),
    ],
)
def test_a_wrong_option_is_refused_with_a_sentence(folders, options, says):
    with pytest.raises(ModelError, match=says):
        Diffuser.load(folders["sd21"], **options)


def test_offload_is_left_to_the_pipeline_and_the_work_is_done_on_the_gpu():
    """The pipeline is a fake that records what it is told, for there is no GPU here."""
    pipe = Mock()
    for offload in ("none", "model", "group", "sequential"):
        loading.place(pipe, "cuda:1", offload, False)
    assert pipe.mock_calls == [
        call.to("cuda:1"),
        call.enable_model_cpu_offload(device="cuda:1"),
        call.enable_group_offload(
            onload_device=torch.device("cuda:1"), offload_type="leaf_level", use_stream=True
        ),
        call.enable_sequential_cpu_offload(device="cuda:1"),
    ]


def test_out_of_memory_while_loading_is_raised_as_it_is(folders, monkeypatch):
    monkeypatch.setattr(loading, "place", Mock(side_effect=torch.OutOfMemoryError("CUDA out of memory")))
    with pytest.raises(torch.OutOfMemoryError):
        Diffuser.load(folders["sd21"])


# ---- text of other families


@pytest.mark.parametrize("name", [name for name in backbones.OTHERS if name != "sd3"])
def test_the_words_are_at_their_own_tokens_whatever_stands_around_the_prompt(loaded, name):
    """A letter is a token, some of them put a mark before each word, and that of Kolors joins a few letters."""
    diffuser = loaded[name]
    text = diffuser.encode(PROMPTS)
    for words, places, real in zip(text.word_lists, text.located, text.mask, strict=True):
        used = [token for place in places for token in place.tokens]
        assert used == sorted(set(used)) and real[used].all()
        for word, place in zip(words[:-1], places, strict=False):
            assert place.seen and place.known and 0 < len(place.tokens) <= len(word.text) + 1
            assert name == "kolors" or len(place.tokens) >= len(word.text)
    assert text.words.sum(-1)[0].round(decimals=4).eq(1).all()
    if name == "kolors":  # pads on the left, so that all move
        return
    changed = diffuser.encode(["a red circle above a blue squire", "a blue star"])
    tokens = list(text.located[0][6].tokens)
    assert text.word_lists[0][6].text == "square" and changed.located[0][6] == text.located[0][6]
    assert not torch.allclose(changed.hidden[0, tokens], text.hidden[0, tokens])
    if name not in ("flux-dev", "flux-schnell", "pixart"):  # T5 reads in both directions
        before = text.mask[0, : tokens[0]]
        assert torch.equal(changed.hidden[0, : tokens[0]][before], text.hidden[0, : tokens[0]][before])


def test_the_first_words_of_stable_diffusion_3_are_at_the_tokens_of_clip_and_nothing_else_at_all_of_them(
    loaded,
):
    text = loaded["sd3"].encode(PROMPTS)
    assert text.hidden.shape == (2, 77 + 256, 32)
    assert text.words[0, :7, 77:].sum() == 0 and 0.4 < text.words[0, 7, 77:].sum() < 0.6


def test_texts_of_other_lengths_are_joined_with_zeros_that_no_mask_counts(loaded):
    qwen = loaded["qwen"]
    apart = [qwen.encode([prompt]) for prompt in PROMPTS]
    assert apart[0].hidden.shape != apart[1].hidden.shape
    joined = Text.join(apart)
    together = qwen.encode(PROMPTS)
    assert torch.equal(joined.mask, together.mask) and joined.prompts == PROMPTS
    assert torch.allclose(joined.hidden, together.hidden, atol=1e-4) and torch.equal(
        joined.words, together.words
    )


def test_patches_are_undone_and_sides_that_do_not_fit_are_refused(loaded):
    latents = torch.randn(2, 4, 8, 12)
    assert to_patches(latents).shape == (2, 24, 16)
    assert torch.equal(from_patches(to_patches(latents), (8, 12)), latents)
    for name, side in (("sd3", 16), ("flux-dev", 16), ("klein", 16), ("sana", 8)):
        assert loaded[name].latent_shape(2 * side, side)[1:] == (
            2 * side // loaded[name].scale,
            side // loaded[name].scale,
        )
        with pytest.raises(ValueError, match=f"multiple of {side}"):
            loaded[name].latent_shape(side + 4, 64)


def test_noise_stays_in_float32_where_the_pipeline_draws_it_so(folders):
    for name, dtype in (("sana", torch.float32), ("z-image", torch.float32), ("flux-dev", torch.bfloat16)):
        diffuser = Diffuser.load(folders[name], dtype=torch.bfloat16, size=(64, 64))
        assert diffuser.dtype == torch.bfloat16
        assert diffuser.to_pipeline(draw([3], diffuser.latent_shape())).dtype == dtype
        assert sample(diffuser, size=(64, 64)).isfinite().all()


def test_a_negative_prompt_changes_the_negatives_alone_and_the_image(loaded):
    for name in ("sd15", "sdxl", "sd3", "sana", "qwen", "pixart", "z-image", "klein-base", "kolors"):
        diffuser = loaded[name]
        text, other = diffuser.encode(PROMPTS), diffuser.encode(PROMPTS, negative="blue star")
        assert torch.equal(text.hidden, other.hidden) and torch.equal(text.mask, other.mask)
        assert text.negative.shape != other.negative.shape or not torch.equal(text.negative, other.negative)
        noise = draw([3, 4], diffuser.latent_shape())
        guidance = diffuser.default_guidance or 2.0
        images = [diffuser.sample(one, noise, 2, guidance) for one in (text, other)]
        assert not torch.allclose(*images, atol=1e-5), name


def test_guidance_on_a_model_that_was_distilled_without_it_is_a_sentence(loaded):
    for name in ("flux-schnell", "klein"):
        text, noise = loaded[name].encode(PROMPTS), draw([3, 4], loaded[name].latent_shape())
        with pytest.raises(ValueError, match="takes no guidance, got 4: set guidance to 0"):
            loaded[name].sample(text, noise, 2, 4.0)
    assert all(loaded[name].guided for name in backbones.SAMPLING if name not in ("flux-schnell", "klein"))


# ---- LoRA files


def lora_networks(diffuser):
    """The names of all modules of a denoiser, by which layers of a LoRA are seen."""
    return [name for name, _ in diffuser.denoiser.named_modules()]


@pytest.mark.parametrize(
    "name", [n for n in backbones.OTHERS if n not in ("pixart", "flux-schnell", "klein-base")]
)
def test_lora_files_on_every_family_are_what_diffusers_makes_of_them_and_leave_the_backbone_as_it_was(
    loaded, name, tmp_path
):
    diffuser = loaded[name]
    modules, before = lora_networks(diffuser), sample(diffuser)
    files = [loras.write(diffuser, tmp_path / f"{i}.safetensors", i, parts=("denoiser",)) for i in range(2)]
    reference = diffuser.with_pipe(copy.deepcopy(diffuser.pipe))
    for i, file in enumerate(files):
        reference.pipe.load_lora_weights(file, adapter_name=f"file{i}")
    both, first = (
        Options(loras=tuple((str(file), weight) for file, weight in zip(files, weights, strict=False)))
        for weights in ((4.0, -2.0), (4.0,))
    )
    for options, weights in ((both, [4.0, -2.0]), (first, [4.0, 0.0])):  # the second without loading again
        reference.pipe.set_adapters(["file0", "file1"], weights)
        result = sample(configured(diffuser, options))
        assert torch.allclose(result, sample(reference), atol=1e-4)
        assert not torch.allclose(result, before, atol=1e-3)
        assert torch.equal(sample(diffuser), before)
    diffuser.pipe.unload_lora_weights()
    assert lora_networks(diffuser) == modules and torch.equal(sample(diffuser), before)


def test_a_sana_pipeline_whose_class_has_a_call_of_its_own_has_the_same_instruction(loaded):
    pipe = copy.copy(loaded["sana"].pipe)
    pipe.__class__ = type("Own", (type(pipe),), {"__call__": lambda self, prompt, **options: None})
    assert instruction_of(pipe) == instruction_of(loaded["sana"].pipe)


def test_lora_files_for_a_pipeline_that_loads_none_are_a_sentence(loaded):
    with pytest.raises(ValueError, match="diffusers loads no LoRA files into pixart.*: leave them"):
        sample(configured(loaded["pixart"], Options(loras=(("style.safetensors", 1.0),))))
