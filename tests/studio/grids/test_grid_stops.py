"""Grids that are stopped, fail or are killed keep what was made, and go on."""

import errno
import os
import time

import pytest
import torch

from core.scoring.endpoint import Unanswered
from data.store import StoreError
from studio.grids.grid import Cells, check_grid, stop_file
from studio.images import pictures
from studio.studio import check_request
from tests import tiny
from tests.forked import forked
from tests.studio.gridded import LONG, PROMPT, ended, grid_of, samples_of
from tests.tiny import STEPS


def test_a_grid_that_is_stopped_keeps_what_was_made_and_goes_on(studio, monkeypatch):
    made, make = [], Cells.make

    def stopped(*given):
        if len(made) == 2:
            made.append(studio.grids.get(id))
            studio.grids.stop(id, "ann")
        made.append(make(*given))
        return made[-1]

    monkeypatch.setattr(Cells, "make", stopped)
    with studio.models.lock:
        id = grid_of(studio, "1-4", wait=False)
    view, meanwhile = ended(studio, id), made[2]
    assert (meanwhile.state, meanwhile.done) == ("running", 3) and meanwhile.left > 0
    assert all(cell.sample.total is not None for cell in meanwhile.cells[:3])
    assert (view.state, view.done) == ("stopped", 3) and view.message.startswith("Stopped")
    monkeypatch.undo()
    studio.grids.resume(id, "ann")
    pair = list(studio.comparison.compare(check_request(PROMPT, "90", STEPS)))[-1]  # goes on beside it
    again = ended(studio, id)
    assert (pair.stage, again.state, again.done, again.message) == ("done", "done", 8, "")
    assert samples_of(again)[:3] == samples_of(view)[:3]
    with pytest.raises(ValueError, match="nothing to stop"):
        studio.grids.stop(id, "ann")
    os.remove(again.cells[1].sample.image_path)
    assert studio.grids.get(id).cells[1].sample.image_path is None
    studio.grids.resume(id, "ann")  # makes what has gone again
    mended = ended(studio, id)
    assert all(cell.sample.image_path for cell in mended.cells)
    changed = [a != b for a, b in zip(samples_of(again), samples_of(mended), strict=True)]
    assert changed == [place == 1 for place in range(8)]


def test_grids_wait_for_each_other_and_one_is_stopped_from_any_process(studio):
    with studio.models.lock:
        first, second, third = (grid_of(studio, seed, wait=False) for seed in "123")
        assert {grid["id"]: grid["state"] for grid in studio.grids.find()}[second] == "queued"
        with pytest.raises(ValueError, match="wait for it"):
            studio.grids.resume(second, "ann")
        studio.grids.stop(second, "ann")
        other = tiny.studio_at(studio.settings.home, studio.settings.projector.parent)
        assert other.grids.get(first).state in ("queued", "running")
        other.grids.stop(first, "bob")
    assert [ended(studio, id).state for id in (first, second, third)] == ["stopped", "stopped", "done"]
    assert not stop_file(studio.settings.home, first).exists()


@pytest.mark.parametrize(
    ("error", "why"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), "No space left on device"),
        (torch.OutOfMemoryError("CUDA out of memory"), "not enough memory"),
        (RuntimeError("surprise"), "its log says more"),
    ],
)
def test_an_error_in_the_middle_keeps_what_was_made_and_can_be_gone_on_from(studio, monkeypatch, error, why):
    made, denoised = [], Cells.denoised

    def fails(*given):
        if made:
            raise error
        made.append(1)
        return denoised(*given)

    monkeypatch.setattr(Cells, "denoised", fails)
    view = grid_of(studio, "1-2")
    assert (view.state, view.done) == ("failed", 1) and why in view.message
    monkeypatch.undo()
    studio.grids.resume(view.id, "ann")
    assert (ended(studio, view.id).state, studio.store.samples.count()) == ("done", 4)


def begin(other):
    """In a process of its own: a grid that is long on."""
    other.grids.start(check_grid(PROMPT, "1-60", steps=STEPS), "ann")
    time.sleep(600)


def test_a_process_that_is_killed_loses_nothing_that_was_made(studio, model_folder):
    other = tiny.studio_at(studio.settings.home, model_folder)
    other.models.share(studio.models)
    process = forked(begin, other)

    def wait_for(reached):
        until = time.monotonic() + LONG
        while not reached() and time.monotonic() < until:
            time.sleep(0.02)

    try:
        wait_for(studio.grids.find)
        id = studio.grids.find()[0]["id"]
        wait_for(lambda: studio.store.grids.cells_made(id) >= 6)
        assert studio.grids.get(id).state == "running"  # it is alive, and held by another process
        with pytest.raises(ValueError, match="wait for it"):
            studio.grids.resume(id, "ann")
    finally:
        process.kill()
        process.join()
    view = studio.grids.get(id)
    assert view.state == "interrupted" and "no finished image is lost" in view.message
    assert 6 <= view.done < view.total
    for cell in view.cells[: view.done]:
        row = studio.store.samples.get(cell.sample.id)
        pictures.read(studio.settings.home / row["image_path"], row["image_sha256"])
    studio.store.restoring.check()
    studio.grids.work.ends.clear()
    studio.grids.resume(id, "ann")
    wait_for(lambda: studio.store.grids.cells_made(id) > view.done)
    studio.grids.stop(id, "ann")
    again = ended(studio, id)
    assert again.done > view.done and {one for one in samples_of(view) if one} <= set(samples_of(again))
    seeds = [(row["seed"], row["method"]) for row in studio.store.samples.find(limit=1000)]
    assert len(seeds) == len(set(seeds))


def test_too_little_memory_for_a_batch_makes_smaller_ones(studio, monkeypatch):
    denoised, sizes = Cells.denoised, []

    def narrow(*given):
        sizes.append(len(given[2]))
        if len(given[2]) > 2:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return denoised(*given)

    monkeypatch.setattr(Cells, "denoised", narrow)
    assert grid_of(studio, "1-4").state == "done"
    assert sizes == [1, 2, 4, 2, 2, 1]


def test_a_server_that_gives_no_scores_leaves_images_and_is_asked_again(studio, monkeypatch):
    def silent(*given, **named):
        raise Unanswered("The scorer's server does not answer.", [], down=True)

    monkeypatch.setattr(studio.scoring, "score_here", silent)
    view = grid_of(studio)
    assert (view.state, view.done) == ("failed", 4) and "does not answer" in view.message
    monkeypatch.undo()
    studio.grids.resume(view.id, "ann")
    view = ended(studio, view.id)
    assert view.state == "done" and all(cell.sample.total is not None for cell in view.cells)


def test_a_full_disk_cannot_hide_how_a_grid_ended(studio, monkeypatch):
    update = studio.store.grids.update

    def full(id, state, message=""):
        if state == "failed":
            raise StoreError("The disk is full.")
        return update(id, state, message)

    monkeypatch.setattr(studio.store.grids, "update", full)
    monkeypatch.setattr(Cells, "denoised", lambda *given: 1 / 0)
    view = grid_of(studio)
    assert view.state == "failed" and studio.grids.find()[0]["state"] == "failed"
    monkeypatch.undo()
    assert studio.grids.get(view.id).state == studio.store.grids.get(view.id)["state"] == "failed"
