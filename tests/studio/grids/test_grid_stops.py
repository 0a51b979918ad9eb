"""Grids that are stopped, fail or are killed keep what was made, and go on."""

import errno
import os
import signal
import subprocess
import sys
import time

import pytest
import torch

from core.scoring.endpoint import Unanswered
from studio.grids.grid import Cells, stop_file
from studio.images import pictures
from studio.settings import ROOT
from studio.studio import check_request
from tests import tiny
from tests.studio.gridded import LONG, PROMPT, ended, grid_of, samples_of
from tests.tiny import STEPS


def stop_after(studio, monkeypatch, batches, what):
    """Let a number of batches be made, then do something."""
    made, make = [], Cells.make

    def counted(*given):
        if len(made) == batches:
            what()
        found = make(*given)
        made.append(found)
        return found

    monkeypatch.setattr(Cells, "make", counted)
    return made


def test_a_grid_that_is_stopped_keeps_what_was_made_and_goes_on(studio, monkeypatch):
    ids = []
    stop_after(studio, monkeypatch, 2, lambda: studio.grids.stop(ids[0], "ann"))
    with studio.models.lock:
        ids.append(grid_of(studio, "1-4", wait=False))
    view = ended(studio, ids[0])
    assert (view.state, view.done) == ("stopped", 3) and view.message.startswith("Stopped")
    kept = samples_of(view)
    monkeypatch.undo()
    studio.grids.resume(view.id, "ann")
    again = ended(studio, view.id)
    assert (again.state, again.done, again.message) == ("done", 8, "")
    assert samples_of(again)[:3] == kept[:3]
    with pytest.raises(ValueError, match="nothing to stop"):
        studio.grids.stop(view.id, "ann")


def test_grids_wait_for_each_other_and_one_that_waits_can_be_stopped(studio):
    with studio.models.lock:
        first, second = grid_of(studio, "1", wait=False), grid_of(studio, "2", wait=False)
        assert {grid["id"]: grid["state"] for grid in studio.grids.find()}[second] == "queued"
        with pytest.raises(ValueError, match="wait for it"):
            studio.grids.resume(second, "ann")
        studio.grids.stop(second, "ann")
    assert ended(studio, first).state == "done" and ended(studio, second).state == "stopped"


def test_a_comparison_goes_on_beside_a_grid(studio):
    id = grid_of(studio, "1-8", wait=False)
    assert list(studio.comparison.compare(check_request(PROMPT, "90", STEPS)))[-1].stage == "done"
    assert ended(studio, id).state == "done"


def test_time_left_is_told_while_a_grid_is_made(studio, monkeypatch):
    told = []
    stop_after(studio, monkeypatch, 2, lambda: told.append(studio.grids.get(studio.grids.find()[0]["id"])))
    grid_of(studio, "1-4")
    assert (told[0].state, told[0].done) == ("running", 3) and told[0].left > 0
    assert all(cell.sample.total is not None for cell in told[0].cells[:3])


@pytest.mark.parametrize(
    ("error", "why"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), "No space left on device"),
        (torch.OutOfMemoryError("CUDA out of memory"), "not enough memory"),
        (RuntimeError("surprise"), "its log says more"),
    ],
)
def test_an_error_in_the_middle_keeps_what_was_made_and_can_be_gone_on_from(studio, monkeypatch, error, why):
    def fail(*given):
        raise error

    made = []
    denoised = Cells.denoised
    monkeypatch.setattr(
        Cells, "denoised", lambda *given: fail() if made else made.append(1) or denoised(*given)
    )
    view = grid_of(studio, "1-4")
    assert (view.state, view.done) == ("failed", 1) and why in view.message
    monkeypatch.undo()
    studio.grids.resume(view.id, "ann")
    assert (ended(studio, view.id).state, studio.store.samples.count()) == ("done", 8)


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


def test_an_image_that_has_gone_is_made_again(studio):
    view = grid_of(studio)
    os.remove(view.cells[1].sample.image_path)
    assert studio.grids.get(view.id).cells[1].sample.image_path is None
    studio.grids.resume(view.id, "ann")
    again = ended(studio, view.id)
    assert all(cell.sample.image_path for cell in again.cells)
    assert [a == b for a, b in zip(samples_of(view), samples_of(again), strict=True)] == [
        True,
        False,
        True,
        True,
    ]


def test_a_full_disk_cannot_hide_how_a_grid_ended(studio, monkeypatch):
    from data.store import StoreError

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


KILLED = """
import sys, time
from pathlib import Path
from tests import tiny
from studio.grids.grid import check_grid
studio = tiny.studio_at(Path(sys.argv[1]), Path(sys.argv[2]))
id = studio.grids.start(check_grid(sys.argv[3], "1-60", steps=2), "ann")
print(id, flush=True)
time.sleep(600)
"""


def test_a_process_that_is_killed_loses_nothing_that_was_made(studio, model_folder):
    process = subprocess.Popen(
        [sys.executable, "-c", KILLED, str(studio.settings.home), str(model_folder), PROMPT],
        cwd=ROOT, stdout=subprocess.PIPE, text=True, env={**os.environ, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    try:
        id = process.stdout.readline().strip()
        until = time.monotonic() + LONG
        while studio.store.grids.cells_made(id) < 12 and time.monotonic() < until:
            time.sleep(0.02)
        assert studio.grids.get(id).state == "running"  # it is alive, and held by another process
        with pytest.raises(ValueError, match="wait for it"):
            studio.grids.resume(id, "ann")
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    view = studio.grids.get(id)
    assert view.state == "interrupted" and "no finished image is lost" in view.message
    assert 12 <= view.done < view.total
    for cell in view.cells[: view.done]:
        row = studio.store.samples.get(cell.sample.id)
        pictures.read(studio.settings.home / row["image_path"], row["image_sha256"])
    studio.store.restoring.check()
    kept = [id for id in samples_of(view) if id]
    studio.grids.work.ends.clear()
    studio.grids.resume(id, "ann")
    until = time.monotonic() + LONG
    while studio.store.grids.cells_made(id) <= view.done and time.monotonic() < until:
        time.sleep(0.02)
    studio.grids.stop(id, "ann")
    again = ended(studio, id)
    assert again.done > view.done and set(kept) <= set(samples_of(again))
    seeds = [(row["seed"], row["method"]) for row in studio.store.samples.find(limit=1000)]
    assert len(seeds) == len(set(seeds))


def test_another_process_is_asked_to_stop_through_its_folder(studio):
    with studio.models.lock:
        id = grid_of(studio, "1-4", wait=False)
        other = tiny.studio_at(studio.settings.home, studio.settings.projector.parent)
        assert other.grids.get(id).state in ("queued", "running")
        other.grids.stop(id, "bob")
    assert ended(studio, id).state == "stopped"
    assert not stop_file(studio.settings.home, id).exists()
