"""studio/pretrain/diffuser.py: the embedded autoencoder and diffuser, of their real sizes, in two steps each."""

import shutil
from collections import Counter

import pytest
import torch
from diffusers import AutoencoderKL, DiffusionPipeline

from core import checkpoint
from core.diffusion import Diffuser
from core.training.vae import build
from data.shapes.scenes import heldout_prompts, parse
from studio.pretrain.diffuser import carelessly, pretrain_diffuser, pretrain_vae
from studio.pretrain.renders import SIZE, latents_of, renders


@pytest.fixture(scope="module")
def work(tmp_path_factory):
    """A folder with eight renders, which both stages read."""
    folder = tmp_path_factory.mktemp("work")
    renders(folder, "small", 8)
    return folder


@pytest.fixture(scope="module")
def vae_folder(work):
    torch.manual_seed(0)
    vae = build(size=SIZE)
    vae.register_to_config(scaling_factor=0.5)
    checkpoint.save(vae, work / "some-vae")
    return work / "some-vae"


def stopped_then_finished(pretrain, out, *places, after=1, **more):
    """The reports of a training that was stopped after so many of them; nothing is saved before it is done."""
    seen: list = []
    options = {"count": 8, "batch": 1, "on_progress": seen.append, **more}
    first = pretrain(out, *places, **options, stop=lambda: len(seen) == after)
    assert first.stopped and not out.exists()
    assert not pretrain(out, *places, **options).stopped
    assert checkpoint.verify(out)["meta"]["renders"] == 8
    return [(p.step, p.total) for p in seen]


def test_the_autoencoder_is_stopped_goes_on_and_loads_with_the_scale_of_its_latents(work, tmp_path):
    assert stopped_then_finished(pretrain_vae, tmp_path / "vae", work, steps=2) == [(1, 2), (2, 2)]
    vae = AutoencoderKL.from_pretrained(tmp_path / "vae", torch_dtype=torch.float32)
    assert vae.config.scaling_factor == checkpoint.verify(tmp_path / "vae")["meta"]["scaling"]
    latents = latents_of(vae, work, "small", 8)
    assert latents.shape == (8, 4, SIZE // 8, SIZE // 8)
    assert latents.float().std().item() == pytest.approx(1, abs=0.05)


def test_the_diffuser_is_stopped_goes_on_with_careless_captions_and_makes_an_image_when_loaded(
    work, vae_folder, tmp_path
):
    out, steps = tmp_path / "diffuser", {"steps": 1, "text_steps": 2, "careless_steps": 2}
    seen = stopped_then_finished(pretrain_diffuser, out, work, vae_folder, after=4, **steps)
    assert seen == [(1, 2), (2, 2), (1, 1), (1, 2), (2, 2)]
    assert all(path.stat().st_size < 10_000_000 for path in out.rglob("*.safetensors"))
    plain = DiffusionPipeline.from_pretrained(out)  # as people load it, without a dtype
    assert {plain.unet.dtype, plain.text_encoder.dtype, plain.text_encoder_2.dtype} == {torch.float32}
    diffuser = Diffuser.load(out)
    assert diffuser.pipe.vae.config.scaling_factor == 0.5
    noise = torch.zeros(1, *diffuser.latent_shape())
    image = diffuser.decode(diffuser.sample(diffuser.encode(["a red circle"]), noise, steps=1))
    assert image.shape == (1, SIZE, SIZE, 3)


def test_a_damaged_autoencoder_is_not_trained_on(work, vae_folder, tmp_path):
    shutil.copytree(vae_folder, tmp_path / "vae")
    (tmp_path / "vae" / "config.json").write_text("{}")
    with pytest.raises(checkpoint.CheckpointError, match="damaged"):
        pretrain_diffuser(tmp_path / "out", work, tmp_path / "vae", count=8, steps=1, batch=1)


def test_careless_captions_are_wrong_in_a_relation_in_colours_or_in_one_thing():
    prompts = [scene.prompt for scene in heldout_prompts(400, split="train")]
    said = carelessly(prompts, "small", 0.5)
    changed = [(parse(a), parse(b)) for a, b in zip(prompts, said, strict=True) if a != b]
    assert 80 < len(changed) < 280
    assert carelessly(prompts, "small", 0.0) == prompts
    assert carelessly(prompts, "small", 0.5) == said
    kinds = Counter()
    for before, after in changed:
        assert after.split == "train" and before.composition != after.composition
        assert (before.relation is None) == (after.relation is None)
        same = [a == b for a, b in zip(before.things, after.things, strict=True)]
        colours = [sorted(thing.colour for thing in scene.things) for scene in (before, after)]
        kinds["relation"] += before.relation != after.relation
        kinds["exchanged"] += same == [False, False] and colours[0] == colours[1]
        kinds["thing"] += sorted(same) == [False, True]
        assert before.relation != after.relation or same != [True, True]
    assert min(kinds["relation"], kinds["exchanged"], kinds["thing"]) > 15
