"""The whole loop on every family of backbones: collect, score, correct, train, promote, compare, square and not.

The backbones are tiny and random, of the real classes, as `save_pretrained` wrote them: what is tested is that nothing
on the way asks which one it has.
"""

import multiprocessing
import pickle
import types

import numpy as np
import pytest
import torch
from PIL import Image

from data.prompts import load
from studio.errors import sentence
from studio.experiments import report_of
from studio.images import gpu
from studio.images.making import Making
from studio.images.scoring import Scoring
from studio.studio import check_request
from studio.training.datasets import replay_of
from studio.training.replay import gather
from tests import backbones
from tests.forked import forked
from tests.studio.images import loop
from tests.studio.images.loop import last, pixels
from tests.tiny import change_settings

SQUARE, WIDE = "64x64", "96x64"


@pytest.mark.parametrize(("name", "size"), [("turbo", WIDE), ("flux-dev", SQUARE)])
def test_the_whole_loop_runs_on_every_family_square_and_not(studio_on, name, size):
    """On all of them by `python -m tests.studio.images.loop`."""
    studio = studio_on(name, size=size, steps="2")
    loop.run(studio, loop.SIZES[size], backbones.SAMPLING[name][1], studio.prompts.of)


@pytest.mark.parametrize("name", [*backbones.FEW, "sd21"])
def test_a_backbone_is_sampled_as_it_was_made_to_be_where_nobody_says_otherwise(studio_on, name):
    studio, (steps, guidance) = studio_on(name), backbones.SAMPLING[name]
    assert studio.models.sampling() == {"steps": steps, "guidance": guidance}
    assert studio.models.loaded_diffuser is None
    assert studio.runs.defaults("cycle")["steps"][0] == steps == studio.runs.defaults("projector")["steps"][0]
    config = studio.runs.get(studio.runs.new("projector"))["config"]
    assert (config["steps"], config["guidance"]) == (steps, guidance)
    assert studio.runs.get(studio.runs.new("projector", {"steps": 7}))["config"]["steps"] == 7
    assert studio_on(name, steps="9", guidance="3.5").models.sampling() == {"steps": 9, "guidance": 3.5}
    row = studio.store.samples.get(studio.collecting.collect(["a red circle"], 1)[0])
    assert (row["steps"], row["guidance"]) == (steps, guidance)
    pair = last(studio, "a red circle", row["seed"], 1).pairs[0]
    assert not np.array_equal(pixels(pair.none), pixels(pair.projected))


def test_a_sampler_that_draws_noise_makes_the_same_image_in_every_batch(studio_on):
    """And projecting at strength 0 is no projection, to the bit, though it stands elsewhere in the batch."""
    studio = studio_on("turbo")
    ids = studio.collecting.collect(["a red circle", "a blue square", "a green star"], 1, steps=3, batch=3)
    for row in studio.store.samples.find(ids=ids):
        image = np.asarray(Image.open(studio.settings.home / row["image_path"])).astype(int)
        pair = last(studio, row["prompt"], row["seed"], 3, 0.0, strength=0).pairs[0]
        assert np.abs(image - pixels(pair.none)).max() <= 2
        assert np.array_equal(pixels(pair.none), pixels(pair.projected))


def test_a_size_can_be_chosen_and_labels_of_another_one_are_neither_trained_on_nor_replayed(studio_on):
    square = studio_on("sdxl", steps="1")
    square.scoring.score(square.collecting.collect(load("shapes_train", 2), 1))
    labels = square.settings.home / "labels"
    gather(square).save(labels)
    assert replay_of(studio_on("sdxl", labels=labels))[0] is not None
    wide = studio_on("sdxl", steps="1", size=WIDE, labels=labels)  # the same home
    replay, note = replay_of(wide)
    assert replay is None and "another image size" in note
    with pytest.raises(ValueError, match="nothing to train on"):
        wide.training.train("reward", {"reward_steps": 1, "foresight_steps": 1, "reader_steps": 1})
    wide.scoring.score(wide.collecting.collect(load("shapes_train", 1), 1))
    assert len(gather(wide)) == 1  # the store has images of both sizes
    row = square.store.samples.get(square.collecting.collect(["a red circle"], 1, width=72, height=96)[0])
    assert (row["width"], row["height"]) == (72, 96)
    with pytest.raises(ValueError, match="multiple of 8"):
        square.collecting.collect(["a red circle"], 1, width=70)
    assert pixels(last(square, "a red circle", 1, 1, width=80).pairs[0].none).shape == (64, 80, 3)


def test_half_precision_goes_through_the_loop(studio_on):
    studio = studio_on("sdxl", dtype="bfloat16", steps="1", size=WIDE)
    assert studio.scoring.score(studio.collecting.collect(load("shapes_train", 2), 1, "projected")) == 2
    assert studio.models.diffuser().dtype == torch.bfloat16
    config = {"reward_steps": 1, "reward_batch": 2, "foresight_steps": 1, "reader_steps": 1}
    run = studio.training.train("reward", config)
    assert run["state"] == "done" and np.isfinite(run["metrics"]["validation"]["after"]["cross_entropy"])


def test_a_lack_of_memory_names_the_settings_to_lower_also_from_inside_the_pipeline(studio_on):
    """The error is a fake: a real one would take the memory of the machine."""
    full = torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB")
    cpu = RuntimeError(
        "[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate 8 bytes"
    )
    wrapped = RuntimeError("a library's own words")
    wrapped.__cause__ = full
    for error in (MemoryError(), full, cpu, wrapped):
        for name in ("STUDIO_BATCH", "STUDIO_SIZE", "STUDIO_DTYPE", "STUDIO_OFFLOAD", "STUDIO_SLICING"):
            assert name in sentence(error)
    studio = studio_on("sdxl", steps="1")

    def fail(*_given):
        raise full

    hook = studio.models.diffuser().denoiser.register_forward_pre_hook(fail)
    with pytest.raises(torch.OutOfMemoryError) as found:
        last(studio, "a red circle", 1, 1)
    hook.remove()
    assert "STUDIO_OFFLOAD" in sentence(found.value)
    assert last(studio, "a red circle", 1, 1).stage == "done"


def fake_spaces(calls):
    """What the package `spaces` does on a ZeroGPU Space, which is nowhere else: the function runs in a forked process,
    and what goes there and comes back is pickled."""

    def lend(duration):
        def decorate(task):
            def call(*given):
                calls.append((task.__name__, duration))
                ours, theirs = multiprocessing.Pipe()
                packed = pickle.dumps(given)
                child = forked(lambda: theirs.send_bytes(pickle.dumps(task(*pickle.loads(packed)))))
                assert ours.poll(60), "the forked process does not answer"
                found = pickle.loads(ours.recv_bytes())
                child.join()
                return found

            return call

        return decorate

    return types.SimpleNamespace(GPU=lend)


def test_zero_gpu_compiles_nothing(studio_on, monkeypatch):
    """A fake Space: ZeroGPU is nowhere else."""
    studio = studio_on("sdxl", compile="yes")
    monkeypatch.setattr("studio.images.models.apart", lambda: True)
    with pytest.raises(ValueError, match="set STUDIO_COMPILE to no"):
        studio.models.diffuser()


def test_what_a_backbone_cannot_have_is_left_out_of_the_comparison_with_the_reason(studio_on):
    studio = studio_on("sd15")
    methods = "pag,autoguidance,lora,best-of-2,pag+lora,best-of-2+autoguidance"
    config = {"prompts": 2, "seeds": 2, "steps": 2, "lora_prompts": 2, "lora_seeds": 1, "lora_steps": 1}
    run = studio.training.train("experiment", {"name": "alignment", "methods": methods, **config})
    report = report_of(studio, run)
    assert set(report["data"]["left_out"]) == {"autoguidance", "best-of-2+autoguidance"}
    assert "Leave it out, or take pag" in report["data"]["left_out"]["autoguidance"]
    made = [row[0] for row in report["tables"][0]["rows"]]
    assert made == ["none", "pag", "lora", "best-of-2", "lora + pag"]


@pytest.fixture(scope="session")
def backbone_folders(tmp_path_factory):
    return tmp_path_factory.mktemp("backbones")


@pytest.fixture
def studio_on(backbone_folders, model_folder, loaded, quick_path):
    """A function: a studio on a backbone, at a size, with an empty home."""

    def make(name, **changes):
        folder = loop.prepare(backbone_folders, name)
        studio = loop.studio_at(quick_path / f"home-{name}", folder, model_folder, **changes)
        studio.models._scorer = loaded.models._scorer
        return studio

    return make


def test_a_projector_of_another_backbone_is_a_sentence_and_one_can_be_begun_afresh(
    studio_on, backbone_folders
):
    studio = studio_on("sd21", steps="1")
    change_settings(studio, projector=loop.prepare(backbone_folders, "sdxl") / "projector")
    update = last(studio, "a red circle", 1, 1)
    assert update.stage == "done" and update.pairs[0].projected is None and "start=fresh" in update.message


def test_on_a_zerogpu_space_images_are_made_and_scored_in_a_process_that_has_the_gpu(studio_on, monkeypatch):
    studio = studio_on("turbo")
    request = check_request("a red circle", "1, 2", **studio.models.sampling())
    here = list(studio.comparison.compare(request))[-1].pairs
    calls = []
    monkeypatch.setattr(gpu, "spaces", fake_spaces(calls))
    assert not gpu.apart()
    monkeypatch.setenv("SPACES_ZERO_GPU", "true")
    for owner, name, seconds in ((Making, "_make_apart", 120), (Scoring, "_read_apart", 60)):
        monkeypatch.setattr(owner, name, gpu.on_gpu(seconds)(getattr(owner, name)))
    other = studio_on("turbo", home=studio.settings.home / "other")
    other.models._diffuser, other.models._scorer = studio.models._diffuser, studio.models._scorer
    updates = list(other.comparison.compare(request))
    assert [u.stage for u in updates] == ["encode", "denoise", "decode", "score", "done"]
    assert calls == [("_make_apart", 120), ("_read_apart", 60)]
    for mine, theirs in zip(here, updates[-1].pairs, strict=True):
        assert np.array_equal(pixels(mine.none), pixels(theirs.none))
        assert np.array_equal(pixels(mine.projected), pixels(theirs.projected))
        assert mine.none.total == pytest.approx(theirs.none.total, abs=1e-4)
    monkeypatch.setattr(Making, "_make_here", lambda *_: 1 / 0)
    with pytest.raises(ValueError, match="Something went wrong"):
        other.collecting.collect(["a blue square"], 1)
