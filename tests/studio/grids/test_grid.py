"""Grids: images appear as they are made, equal ones are not made twice, and nothing that was made is ever lost."""

import dataclasses
import io
import json
import os
import pickle
import zipfile

import numpy as np
import pytest
import torch
from PIL import Image

from core import checkpoint
from core.networks.projector import NoiseProjector
from studio.access import limits
from studio.grids.grid import Cells, Variant, check_grid, grid_change
from studio.images import gpu, pictures
from studio.images.png_text import read_png
from studio.settings import Settings
from studio.studio import check_request
from tests import tiny
from tests.studio.gridded import PROMPT, ended, grid_of, samples_of
from tests.tiny import STEPS


def pixels(sample):
    return np.asarray(Image.open(sample.image_path)).astype(int)


def columns(view):
    return [[cell.sample for cell in view.cells if cell.variant == i] for i in range(len(view.variants))]


def test_a_grid_is_made_stored_and_scored_cell_by_cell(studio):
    view = grid_of(studio, strengths="0.5,1")
    assert (view.state, view.message, view.done, view.total) == ("done", "", 6, 6)
    places = [(cell.place, cell.seed, cell.variant) for cell in view.cells]
    assert places == [(0, 1, 0), (1, 1, 1), (2, 1, 2), (3, 2, 0), (4, 2, 1), (5, 2, 2)]
    for cell in view.cells:
        row, variant = studio.store.samples.get(cell.sample.id), view.variants[cell.variant]
        assert (row["seed"], row["method"], row["strength"]) == (cell.seed, variant.method, variant.strength)
        assert (row["prompt_set"], row["split"], row["steps"]) == ("seeds", "train", STEPS)
        assert (row["projector_run"] or "") == variant.run and 0 <= cell.sample.total <= 9
    none, half, full = (pixels(row[0]) for row in columns(view))
    assert 0 < np.abs(half - none).mean() < np.abs(full - none).mean()
    cell = view.cells[0].sample  # an ordinary sample to the annotator
    assert studio.annotation.next("bob").id in samples_of(view)
    studio.annotation.correct(cell.id, 1, 2, "bob")
    assert studio.grids.get(view.id).cells[0].sample.words[1].human == 2
    assert studio.grids.get(view.id, "cyd").cells[0].sample.words[1].human is None
    assert grid_change(studio.grids.get(view.id))["points"][0]["seed"] == 1


def test_what_a_comparison_or_another_grid_has_made_is_not_made_again(studio, monkeypatch):
    pair = list(studio.comparison.compare(check_request(PROMPT, "1", STEPS)))[-1].pairs[0]
    view = grid_of(studio, "1-2", methods="none,projected", guidances="0,4")
    of = {(v.method, v.guidance): row for v, row in zip(view.variants, columns(view), strict=True)}
    noises = {studio.store.samples.get(of["none", guidance][0].id)["noise_sha256"] for guidance in (0.0, 4.0)}
    assert len(noises) == 1  # all variants of a seed start from its noise
    assert of["none", 4.0][0].id == pair.none.id and of["projected", 4.0][0].id == pair.projected.id
    count = studio.store.samples.count()
    monkeypatch.setattr(Cells, "make", lambda *given: pytest.fail("it was made again"))
    two = grid_of(studio, "2,1", methods="projected,none", guidances="4")
    assert two.state == "done" and set(samples_of(two)) < set(samples_of(view))
    assert (two.cells[0].sample.seed, two.cells[0].sample.method) == (2, "projected")
    pairs = list(studio.comparison.compare(check_request(PROMPT, "1-2", STEPS)))[-1].pairs
    assert {id for pair in pairs for id in (pair.none.id, pair.projected.id)} == set(samples_of(two))
    assert studio.store.samples.count() == count


@pytest.fixture
def run(studio, model_folder):
    """A projector run whose checkpoint is another one than the shipped."""
    run = studio.store.runs.new("projector", {})
    projector = checkpoint.load(NoiseProjector, model_folder / "projector")
    with torch.no_grad():
        projector.out.weight.mul_(-1)
    checkpoint.save(projector, studio.runs.folder(run) / "projector")
    sha256 = checkpoint.digest(studio.runs.folder(run) / "projector")
    studio.store.runs.update(run, state="done", checkpoint=f"runs/{run}/projector", checkpoint_sha256=sha256)
    return run


def test_what_is_in_use_when_a_grid_begins_is_used_to_its_end_and_others_are_had_by_name(studio, run):
    def values():
        return [value for _, value in studio.grids.methods()]

    view = grid_of(studio, "1", methods=["none", "projected", f"projected:{run}"])
    shipped = columns(view)[1][0]
    assert values()[:2] == ["none", "projected"] and "pag" in values() and "lora" not in values()
    assert f"projected:{run}" in values()
    studio.store.runs.promote(run, "ann")
    assert "projected:shipped" in values() and f"projected:{run}" not in values()
    assert columns(grid_of(studio, "1"))[1][0].id == columns(view)[2][0].id
    assert columns(grid_of(studio, "1", methods="projected:shipped"))[0][0].id == shipped.id
    with pytest.raises(ValueError, match="needs a projector"):
        grid_of(studio, methods=f"projected:{studio.store.runs.new('reward', {})}")


def test_what_is_not_there_or_not_allowed_is_refused_before_anything_is_made(without_projector):
    request = check_grid(PROMPT, "1-2", ["none"])
    for call, says in (
        (lambda: grid_of(without_projector), "no projector yet"),
        (lambda: grid_of(without_projector, methods="lora"), "no lora in use"),
        (lambda: grid_of(without_projector, methods="projected:nowhere"), "no run nowhere"),
        (lambda: without_projector.grids.start(request, "detector"), "name"),
        (
            lambda: without_projector.grids.start(dataclasses.replace(request, seeds=[*range(300)]), "ann"),
            "1 to 256 images",
        ),
    ):
        with pytest.raises(ValueError, match=says):
            call()
    assert without_projector.grids.find() == []
    assert grid_of(without_projector, methods="none").state == "done"


def test_a_picture_says_how_it_was_made_and_a_zip_holds_them_all_and_names_what_has_gone(studio, tmp_path):
    def packed(name, id):
        with zipfile.ZipFile(studio.grid_files.zip(id, tmp_path / name)) as archive:
            files = {file: archive.read(file) for file in archive.namelist()}
        return files, json.loads(files["manifest.json"])

    view = grid_of(studio, "1-2", strengths="0.5")
    files, manifest = packed("one.zip", view.id)
    assert (tmp_path / "one.zip").read_bytes() == studio.grid_files.zip(
        view.id, tmp_path / "two.zip"
    ).read_bytes()
    assert list(files)[1:3] == ["000_seed-1_none.png", "001_seed-1_projected-0.5.png"]
    assert (manifest["prompt"], manifest["seeds"], len(manifest["cells"])) == (PROMPT, [1, 2], 4)
    for cell, told in zip(view.cells, manifest["cells"], strict=True):
        content = files[told["file"]]
        assert content == studio.grid_files.png(cell.sample.id)
        assert pictures.sha256(content) == told["sha256"]
        found = read_png(content)
        assert (found["seed"], found["method"]) == (cell.seed, view.variants[cell.variant].method)
        words = ["red", "circle", "above", "blue", "square", "nothing else"]
        assert [score["word"] for score in told["scores"]] == words
        assert np.array_equal(pixels(cell.sample), np.asarray(Image.open(io.BytesIO(content))))
    os.remove(view.cells[0].sample.image_path)
    gone = packed("three.zip", view.id)[1]["cells"][0]
    assert gone["file"] is None and "cannot be read" in gone["problem"]
    id = studio.store.grids.add({"prompt": PROMPT, "seeds": [1], "variants": [vars(Variant("none"))]}, "ann")
    for grid, says in ((id, "no image yet"), ("nowhere", "There is no grid")):
        with pytest.raises(ValueError, match=says):
            studio.grid_files.zip(grid, tmp_path / "none.zip")


def test_where_a_gpu_is_lent_to_a_process_of_its_own_only_plain_data_goes_there(studio, monkeypatch):
    sent, apart = [], studio.cells.denoised_apart
    monkeypatch.setattr(gpu, "apart", lambda: True)
    monkeypatch.setattr(
        studio.cells, "denoised_apart", lambda *given, stop: sent.append(given) or apart(*given, stop=stop)
    )
    view = grid_of(studio, "1-2", methods="none,projected,best-noise-of-2")
    assert (view.state, view.message, view.done) == ("done", "", 6)
    assert pickle.loads(pickle.dumps(sent)) == sent and 4 <= sum(len(given[1]) for given in sent) <= 6
    assert all(isinstance(part, np.ndarray) for part in apart(*sent[0]))


@pytest.mark.parametrize(
    ("images", "methods", "batches"),
    [
        (0, "none", [1] * 6), (2, "none", [1, 2, 2, 1]), (9, "none", [1, 2, 3]),
        (9, "best-noise-of-4", [1, 2, 2, 1]),  # of four noises to foresee for each
    ],
)  # fmt: skip
def test_a_batch_of_a_grid_is_no_longer_than_a_gpu_is_lent(studio, monkeypatch, images, methods, batches):
    asked, apart, duration = [], studio.cells.denoised_apart, gpu.Duration(5)
    duration.images = images
    monkeypatch.setattr(gpu, "apart", lambda: True)
    monkeypatch.setattr(gpu, "made_in", lambda *given, **more: duration)
    monkeypatch.setattr(
        studio.cells,
        "denoised_apart",
        lambda *given, stop: asked.append(len(given[1])) or apart(*given, stop=stop),
    )
    assert grid_of(studio, "1-6", methods=methods).state == "done"
    assert asked == batches


def test_grids_in_the_queue_count_toward_what_visitors_may_fill_the_store_with(studio):
    bound = limits.visitor(Settings(max_samples=str(studio.store.samples.count() + 6)), {})
    with studio.models.lock:
        ids = [grid_of(studio, seeds, wait=False) for seeds in ("1001", "1002-1003")]
        asked = studio.grids.request(ids[1])
        assert (asked.prompt, asked.seeds, asked.total) == (PROMPT, [1002, 1003], 4)
        with pytest.raises(ValueError, match="full with the 6 that grids in the queue are still to make"):
            bound.check_grid(asked, studio.store)
        for id in ids:
            studio.grids.stop(id, "ann")
    for id in ids:
        ended(studio, id)
    assert studio.store.grids.cells_waiting() == 0


def test_the_first_image_comes_alone_and_batches_grow(studio, monkeypatch):
    sizes, make = [], Cells.make
    monkeypatch.setattr(Cells, "make", lambda *given: sizes.append(len(given[2])) or make(*given))
    grid_of(studio, "1-8")
    assert sizes == [1, 2, 4, 4, 4, 1]  # the settings' batch is 4


def test_other_methods_and_the_shipped_run_by_name(studio):
    view = grid_of(studio, "1", methods="none,pag,pag+projected,projected:shipped")
    assert view.state == "done", view.message
    methods = [studio.store.samples.get(row[0].id)["method"] for row in columns(view)]
    assert methods == ["none", "pag", "pag+projected", "projected"]
    assert columns(view)[3][0].id in samples_of(grid_of(studio, "1", methods="projected"))


def test_a_picture_is_made_again_in_another_studio(studio, loaded, model_folder, quick_path):
    view = grid_of(studio, "5", methods="projected", strengths="0.5")
    told = read_png(studio.grid_files.png(view.cells[0].sample.id))
    other = tiny.studio_at(quick_path / "other", model_folder)
    other.models.share(loaded.models)
    request = check_grid(
        told["prompt"], [told["seed"]], f"{told['method']}:{told['run']}", told["strength"], told["guidance"],
        told["steps"], told["width"], told["height"],
    )  # fmt: skip
    again = ended(other, other.grids.start(request, "bob")).cells[0].sample
    assert np.abs(pixels(again) - pixels(view.cells[0].sample)).max() <= 1
