"""Weights in fewer bits: what works on a CPU does, on tiny random pipelines; what the machine lacks is a sentence."""

import pytest
import torch
from safetensors.torch import load_file, save_file

from core import loading, quantize
from core.adapter import Adapter
from core.diffusion import Diffuser, ModelError
from core.foresight import Teacher
from core.guidance import Guided
from core.networks.reward import PictureReader
from core.noise import draw
from core.options import Options, configured
from core.training.lora import LoraConfig, train_lora
from tests import backbones, loras

PROMPTS = ["a red circle", "a blue square"]
SMALL = {"head_width": 16, "head_depth": 1, "heads": 2}


def installed(name):
    """A mark that leaves out a quantisation whose package is not installed: none of them is needed by anything else."""
    row = quantize.QUANTIZATIONS.get(name)
    missing = row is not None and not quantize._installed(row.module)
    return pytest.param(
        name, marks=pytest.mark.skipif(missing, reason=f"{row and row.package} is not installed")
    )


ON_CPU = [installed(name) for name in ("fp8", "torchao-int8", "quanto-int8")]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return backbones.save("sdxl", tmp_path_factory.mktemp("sdxl"))


@pytest.fixture(scope="module")
def whole(folder):
    return Diffuser.load(folder)


@pytest.fixture(scope="module", params=ON_CPU)
def small(request, folder):
    return Diffuser.load(folder, quantize=request.param)


def image(diffuser, guided=None):
    text, noise = diffuser.encode(PROMPTS), draw([1, 2], diffuser.latent_shape())
    return (guided or diffuser).sample(text, noise, 3, 4.0)


def test_a_quantised_denoiser_makes_nearly_the_same_image_and_says_what_it_is(small, whole):
    """The text, which the projector reads, is the same: the text encoders are not quantised."""
    assert not quantize.has_plain_weights(small.denoiser) and quantize.has_plain_weights(whole.denoiser)
    assert torch.equal(small.encode(PROMPTS).hidden, whole.encode(PROMPTS).hidden)
    assert small.dtype == whole.dtype == torch.float32
    assert small.revision == f"{whole.revision}+{small.weights}" and small.fingerprint != whole.fingerprint
    result, expected = image(small), image(whole)
    assert 0 < (result - expected).norm() < 0.3 * expected.norm()
    assert small.decode(result).shape == (2, 64, 64, 3)


@pytest.mark.parametrize("kind", ["pag", "slg", "seg"])
def test_guiders_weaken_quantised_blocks_and_leave_them_as_they_were(small, kind):
    before = image(small)
    assert not torch.allclose(image(small, Guided(small, kind, 9.0)), before, atol=1e-3) or kind == "slg"
    assert torch.equal(image(small), before)


def test_a_lora_is_trained_beside_quantised_weights_and_is_never_merged_into_them(small, tmp_path):
    config = LoraConfig(rank=2, steps=2, batch=2, rate=1e-2)
    latents = draw([1, 2], small.latent_shape())
    train_lora(small, latents, PROMPTS, [1.0, 1.0], config, tmp_path / "lora")
    adapter, before = Adapter.load(tmp_path / "lora"), image(small)
    with adapter.on(small):
        assert not torch.equal(image(small), before)
    assert torch.equal(image(small), before)
    reader = PictureReader(latent_channels=small.channels, text_width=small.text_width, **SMALL)
    teacher = Teacher(small, reader, adapter)
    teacher.foresee(draw([1, 2], small.latent_shape()), small.encode(PROMPTS), torch.arange(2))
    assert teacher.foresight.diffuser is small  # no copy with merged weights


@pytest.fixture(scope="module", params=["sdxl", "flux-dev"])
def cast(request, tmp_path_factory):
    """A backbone, the same in float8, and a function of LoRA files: their names with weights -> options."""
    source = backbones.save(request.param, tmp_path_factory.mktemp(request.param))
    plain, small = Diffuser.load(source), Diffuser.load(source, quantize="fp8")
    files = {
        name: loras.write(plain, source / f"{name}.safetensors", seed) for seed, name in enumerate("abc")
    }
    save_file({name: weight.bfloat16() for name, weight in load_file(files["c"]).items()}, files["c"])
    return plain, small, lambda **chosen: Options(loras=tuple((str(files[n]), w) for n, w in chosen.items()))


def test_lora_files_beside_float8_change_the_image_as_they_do_beside_whole_weights(cast):
    plain, small, files = cast
    before = [image(one) for one in (plain, small)]
    error = (before[1] - before[0]).norm()
    for chosen in ({"a": 8.0}, {"b": 6.0}, {"a": 4.0, "b": -4.0}):
        expected, result = (image(configured(one, files(**chosen))) for one in (plain, small))
        layers = [w for name, w in small.denoiser.named_parameters() if ".lora_" in name]
        assert layers and {weight.dtype for weight in layers} == {torch.float32}
        change, wanted = result - before[1], expected - before[0]
        assert (result - expected).norm() < 1.5 * error < 0.5 * wanted.norm()
        assert torch.cosine_similarity(change.flatten(), wanted.flatten(), 0) > 0.95
        assert torch.equal(image(small), before[1])


def test_a_lora_file_in_16_bits_loses_nothing_beside_float8(cast):
    plain, small, files = cast
    for one in (plain, small):
        image(configured(one, files(c=1.0)))
    expected, layers = (
        {name: weight for name, weight in one.denoiser.named_parameters() if ".lora_" in name}
        for one in (plain, small)
    )
    assert layers.keys() == expected.keys()
    assert all(torch.equal(weight.float(), expected[name].float()) for name, weight in layers.items())


def test_a_float8_denoiser_is_what_it_was_after_lora_files_are_unloaded(cast):
    _, small, files = cast
    small.pipe.unload_lora_weights()
    before, weights = image(small), {n: w.clone() for n, w in small.denoiser.named_parameters()}
    image(configured(small, files(a=1.0)))
    small.pipe.unload_lora_weights()
    after = dict(small.denoiser.named_parameters())
    assert after.keys() == weights.keys() and torch.equal(image(small), before)
    for name, weight in weights.items():
        assert after[name].dtype == weight.dtype and torch.equal(after[name].float(), weight.float())


def test_lora_files_are_refused_on_weights_in_whole_numbers(whole, monkeypatch):
    whole_numbers = torch.nn.Parameter(torch.zeros(2, dtype=torch.uint8), requires_grad=False)
    monkeypatch.setattr(whole.denoiser, "parameters", lambda: iter([whole_numbers]))
    with pytest.raises(ValueError, match="set STUDIO_QUANTIZE to fp8 or none"):
        image(configured(whole, Options(loras=(("style.safetensors", 1.0),))))


@pytest.mark.parametrize(
    ("name", "device", "says"),
    [
        ("int3", "cpu", "set STUDIO_QUANTIZE to one of none, fp8, torchao-int8"),
        ("fp8", "mps", "quanto-int8 or none"),
        ("weights.gguf", "cpu", "There is no file 'weights.gguf'"),
        ("bnb-nf4", "cpu", "NVIDIA GPU alone, and this works on cpu"),
        ("bnb-int8", "mps", "set STUDIO_QUANTIZE to fp8, torchao-int8"),
    ],
)
def test_what_this_machine_cannot_do_is_refused_before_anything_is_loaded(name, device, says, monkeypatch):
    monkeypatch.setattr(quantize, "_installed", lambda module: True)
    with pytest.raises(ModelError, match=says):
        loading.load_pipeline("nowhere", device, torch.float32, quantize=name)


@pytest.mark.parametrize("name", ["torchao-int8", "quanto-int8", "bnb-int8", "bnb-nf4", "file.gguf"])
def test_a_package_that_is_missing_is_named_with_its_installation(name, tmp_path, monkeypatch):
    (tmp_path / "file.gguf").touch()
    monkeypatch.setattr(quantize, "_installed", lambda module: False)
    name = str(tmp_path / name) if name.endswith("gguf") else name
    with pytest.raises(
        ModelError, match=r"needs the package [\w-]+: `pip install [\w-]+`, or set STUDIO_QUANTIZE to fp8"
    ):
        quantize.check_quantization(name, "cuda")


def test_a_gguf_file_takes_the_place_of_the_denoisers_weights(folder, whole, tmp_path, monkeypatch):
    """The loader of the file is a fake: the real one knows the published models' files alone, and none is that small."""
    (tmp_path / "unet.gguf").touch()
    calls = []

    def from_single_file(cls, file, **options):
        calls.append((file, options["subfolder"], options["quantization_config"]))
        return whole.denoiser

    monkeypatch.setattr(quantize, "_installed", lambda module: True)
    monkeypatch.setattr(quantize, "_gguf", lambda dtype: dtype)
    monkeypatch.setattr(type(whole.denoiser), "from_single_file", classmethod(from_single_file))
    file = tmp_path / "unet.gguf"
    diffuser = Diffuser.load(folder, quantize=str(file))
    assert calls == [(str(file), "unet", torch.float32)]
    assert diffuser.denoiser is whole.denoiser and diffuser.revision.startswith(f"{whole.revision}+")
    file.write_bytes(b"others")
    assert Diffuser.load(folder, quantize=str(file)).revision != diffuser.revision


# ---- other settings of loading


def test_the_autoencoder_alone_is_sliced_or_tiled(folder, whole):
    sliced, tiled = Diffuser.load(folder, vae_slicing=True), Diffuser.load(folder, vae_tiling=True)
    assert (sliced.pipe.vae.use_slicing, sliced.pipe.vae.use_tiling) == (True, False)
    assert (tiled.pipe.vae.use_slicing, tiled.pipe.vae.use_tiling) == (False, True)
    processors = {type(p) for p in whole.denoiser.attn_processors.values()}
    assert {type(p) for p in tiled.denoiser.attn_processors.values()} == processors


def test_compiled_blocks_make_the_same_image_under_every_guidance(folder, whole, monkeypatch):
    """torch's compiler without its code generator, which needs a C++ compiler on the machine."""
    monkeypatch.setattr(loading, "COMPILE", {"backend": "eager"})
    compiled = Diffuser.load(folder, compile_blocks=True)
    assert any(module._compiled_call_impl for module in compiled.denoiser.modules())
    for kind in ("cfg", "pag", "autoguidance"):
        results = [image(one, Guided(one, kind)) for one in (compiled, whole)]
        assert torch.allclose(*results, atol=1e-3), kind
        assert torch.allclose(image(compiled), image(whole), atol=1e-3)


def test_a_denoiser_without_blocks_that_repeat_cannot_be_compiled(tmp_path):
    with pytest.raises(ModelError, match="names no blocks that repeat, .* set STUDIO_COMPILE to no"):
        Diffuser.load(backbones.save("sd3", tmp_path), compile_blocks=True)
