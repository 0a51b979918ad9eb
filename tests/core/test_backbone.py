"""What a checkpoint knows of its backbone: the same one, a fine-tune of the same shapes, other shapes, no facts."""

import copy
import warnings
from dataclasses import asdict, replace

import pytest
import torch

from core import checkpoint
from core.backbone import Backbone, fingerprint
from core.diffusion import Diffuser
from core.networks.projector import NoiseProjector
from tests import backbones
from tests.tiny import SMALL


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return backbones.save("sdxl", tmp_path_factory.mktemp("backbones") / "sdxl")


@pytest.fixture(scope="module")
def diffuser(folder):
    return Diffuser.load(folder)


@pytest.fixture(scope="module")
def facts(diffuser):
    return Backbone.of(diffuser)


@pytest.fixture(scope="module")
def tuned(diffuser):
    """The first text encoder after some steps of fine-tuning: every weight has moved a little."""
    encoder = copy.deepcopy(diffuser.text_encoders[0])
    draws = torch.Generator().manual_seed(0)
    for weight in encoder.parameters():
        weight += 0.05 * weight.std() * torch.randn(weight.shape, generator=draws)
    return encoder


def saved(facts, folder, text_width=64):
    """A projector's checkpoint with these facts, as it is loaded; None: one of an earlier version."""
    model = NoiseProjector(text_width=text_width, **SMALL)
    checkpoint.save(model, folder, facts.meta() if facts else {"run": "1"})
    return NoiseProjector.from_pretrained(str(folder)).eval()


def test_the_facts_are_those_of_the_loaded_pipeline(facts, diffuser):
    expected = Backbone(
        "Stable Diffusion XL",
        "sdxl",
        diffuser.revision,
        facts.text,
        4,
        64,
        64,
        64,
        "epsilon",
        20,
        facts.denoiser,
    )
    assert facts == expected and len(facts.text) == len(facts.denoiser) == 16 and facts.revision


def test_the_facts_are_read_back_from_a_manifest_and_what_is_not_one_of_them_is_unknown(facts, tmp_path):
    checkpoint.save({"x": torch.zeros(1)}, tmp_path / "all", facts.meta())
    assert Backbone.read(tmp_path / "all") == facts
    odd = {"backbone": {**asdict(facts), "revision": ["a"], "steps": True, "more": 1}}
    checkpoint.save({"x": torch.zeros(1)}, tmp_path / "odd", odd)
    assert Backbone.read(tmp_path / "odd") == replace(facts, revision="", steps=0)


@pytest.mark.parametrize("meta", [{}, {"backbone": "sdxl", "backbone_revision": "1"}, {"backbone": None}])
def test_a_manifest_of_an_earlier_version_has_no_facts(meta, tmp_path):
    checkpoint.save({"x": torch.zeros(1)}, tmp_path / "old", meta)
    assert Backbone.read(tmp_path / "old") == Backbone() == Backbone.read(tmp_path / "nowhere")


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_the_fingerprint_of_text_encoders_stands_in_every_number_format_and_after_saving(
    diffuser, facts, dtype, tmp_path
):
    encoders = [copy.deepcopy(encoder).to(dtype) for encoder in diffuser.text_encoders]
    assert fingerprint(encoders) == facts.text
    encoders[0].save_pretrained(tmp_path)
    again = type(encoders[0]).from_pretrained(tmp_path)
    assert fingerprint([again, encoders[1]]) == facts.text


def test_the_same_model_saved_elsewhere_in_16_bits_or_loaded_in_float8_is_the_same_backbone(
    diffuser, facts, folder, tmp_path
):
    diffuser.pipe.save_pretrained(tmp_path / "copy", variant="fp16", max_shard_size="40KB")
    copied = Diffuser.load(tmp_path / "copy", dtype=torch.bfloat16, variant="fp16")
    small = Diffuser.load(folder, quantize="fp8")
    for other in (Backbone.of(copied), Backbone.of(small)):
        assert (other.text, other.denoiser) == (facts.text, facts.denoiser)
        assert facts.warning(other) == other.warning(facts) == ""
    assert Backbone.of(copied).revision != facts.revision


def test_the_fingerprint_changes_with_training_and_with_the_order_of_the_encoders(diffuser, facts, tuned):
    first, second = diffuser.text_encoders
    assert len({facts.text, fingerprint([tuned, second]), fingerprint([second, first])}) == 3


def test_the_fingerprint_of_weights_that_are_quantised_or_elsewhere_is_unknown(diffuser):
    assert fingerprint([copy.deepcopy(diffuser.text_encoders[0]).to("meta")]) == ""
    quantised = copy.deepcopy(diffuser.text_encoders[0])
    quantised.config.quantization_config = {"quant_method": "bitsandbytes"}
    assert fingerprint([quantised]) == ""


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({}, None),
        ({"name": "moved elsewhere"}, None),
        ({"steps": 4, "height": 128}, None),
        ({"revision": "", "name": "the class of a pipeline"}, None),
        ({"text": ""}, None),
        ({"revision": "0123456789ab"}, None),
        ({"revision": "0123456789ab", "denoiser": ""}, "a fine-tune of the same model it may well serve"),
        ({"revision": "a" * 40, "denoiser": ""}, None),
        (
            {"revision": "a" * 40, "denoiser": "", "text": ""},
            "a fine-tune of the same model it may well serve",
        ),
        ({"denoiser": "f" * 16}, "a fine-tune of the same model it may well serve"),
        ({"revision": "", "denoiser": "f" * 16}, "a fine-tune of the same model it may well serve"),
        ({"text": "f" * 16}, "Its text encoders are others: expect less"),
        ({"prediction": "v_prediction"}, "It predicts epsilon and not v_prediction: expect less"),
        ({"family": "Kolors", "text": "f" * 16}, "It is of another family, and its text encoders are others"),
    ],
)
def test_another_backbone_of_the_same_shapes_is_a_warning_that_names_both(facts, changes, says):
    other = replace(facts, **({"name": "org/other"} if says else {}) | changes)
    warning = facts.warning(other)
    if says is None:
        assert warning == ""
    else:
        assert says in warning and "org/other" in warning and "sdxl (Stable Diffusion XL" in warning
        assert "start=fresh" in warning
    assert facts.refused(other, {"latent_channels": 4, "text_width": 64}) == ""


def test_other_shapes_are_refused_with_the_backbone_that_was_trained_for(facts):
    flux = Backbone("FLUX.1", "org/flux", "12", "f" * 16, 16, 4096)
    sentence = facts.refused(flux, {"latent_channels": 16, "text_width": 4096})
    assert sentence.startswith(
        "It was trained for org/flux (FLUX.1, revision 12): it reads 16 latent channels and "
    )
    assert f"this backbone, {facts.title}, has 4 and 64" in sentence and "STUDIO_BACKBONE" in sentence
    unknown = facts.refused(Backbone(), {"latent_channels": 4, "text_width": 48})
    assert unknown.startswith("It reads 4 latent channels and text of width 48")
    assert facts.warning(Backbone()) == ""


def test_a_projector_warns_on_another_pipeline_alone_and_refuses_one_of_other_shapes(
    diffuser, facts, tuned, tmp_path
):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for name, known in (("same", facts), ("old", None)):
            expected = saved(known, tmp_path / name).latents(diffuser.pipe, "a red circle", 7)
            assert expected.shape == (1, 4, 8, 8)
    parts = {**diffuser.pipe.components, "text_encoder": tuned}
    other = type(diffuser.pipe)(**parts)
    projector = NoiseProjector.from_pretrained(str(tmp_path / "same")).eval()
    with pytest.warns(UserWarning, match="trained for sdxl .*text encoders are others"):
        projector.latents(other, "a red circle", 7)
    narrow = saved(replace(facts, name="org/narrow", text_width=48), tmp_path / "narrow", 48)
    encoded = []
    hook = diffuser.text_encoders[0].register_forward_hook(lambda *given: encoded.append(1))
    with pytest.raises(ValueError, match="trained for org/narrow .*this backbone"):
        narrow.latents(diffuser.pipe, "a red circle", 7)
    hook.remove()
    assert not encoded
    assert torch.equal(narrow.latents(diffuser.pipe, "a red circle", 7, strength=0).cpu(),
                       projector.latents(diffuser.pipe, "a red circle", 7, strength=0).cpu())  # fmt: skip
