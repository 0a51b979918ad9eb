"""A job is a process of its own: it goes on without the one that started it, and a killed one is gone on with."""

import os
import signal
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from core import checkpoint
from data.store import RunBusy
from studio.exchange import transfer
from studio.training import runs
from tests.jobs import job
from tests.tiny import studio_at

CONFIG = {"prompts": 4, "warmup_steps": 3000}


def wait(studio, run, until):
    """The status once `until(status)`; fails with the log otherwise."""
    end = time.monotonic() + 300
    while not until(status := studio.runs.status(run)):
        assert time.monotonic() < end, f"{status['state']}: {runs.RunLog(studio.runs.folder(run)).tail()}"
        time.sleep(0.05)
    return status


def test_a_killed_job_is_interrupted_stopped_ones_go_on_and_nothing_is_lost(
    studio, model_folder, monkeypatch
):
    run = studio.runs.start("warmup", CONFIG)
    running = wait(studio, run, lambda s: s["state"] == "running" and s["step"] > 0)
    assert running["total"] == 3000
    assert os.getsid(running["run"]["pid"]) == running["run"]["pid"] != os.getsid(0)

    other_page = studio_at(studio.settings.home, model_folder)
    assert other_page.runs.status(run)["state"] == "running"
    with pytest.raises(RunBusy, match=run):
        other_page.runs.start("warmup", CONFIG)

    wait(studio, run, lambda s: s["step"] > 250)
    os.kill(running["run"]["pid"], signal.SIGKILL)
    dead = wait(studio, run, lambda s: s["state"] == "interrupted")
    assert "Resume it" in dead["message"]

    monkeypatch.setattr(runs.subprocess, "Popen", job)
    studio.runs.resume(run)
    again = wait(
        studio,
        run,
        lambda s: s["state"] == "running" and s["history"][-1]["time"] > dead["history"][-1]["time"],
    )
    assert again["step"] > 200  # not from the beginning
    studio.runs.stop(run)
    stopped = wait(studio, run, lambda s: s["state"] == "stopped")
    state = checkpoint.load_state(studio.runs.folder(run) / "warmup-state" / "state.pt")
    assert again["step"] <= state["step"] and stopped["step"] < 3000


CALLS = {
    "start": lambda studio, n: studio.runs.start(["reward", "round", "warmup"][n % 3]),
    "start or resume": lambda studio, n: studio.runs.resume("old") if n % 2 else studio.runs.start("warmup"),
}


@pytest.mark.parametrize("call", CALLS)
def test_of_many_who_start_at_once_one_does(studio, model_folder, monkeypatch, call):
    """Each with a store of its own, as several processes have."""
    monkeypatch.setattr(runs.subprocess, "Popen", Process)
    studio.store.runs.new("warmup", {**CONFIG, "used": {}}, id="old")
    studio.store.runs.update("old", state="stopped")
    pages = [studio_at(studio.settings.home, model_folder) for _ in range(4)]
    together = threading.Barrier(4)

    def begin(n):
        together.wait()
        try:
            return CALLS[call](pages[n], n)
        except RunBusy as busy:
            return busy.run

    with ThreadPoolExecutor(4) as threads:
        told = list(threads.map(begin, range(4)))
    on = [run["id"] for run in studio.store.runs.find() if run["state"] == "queued"]
    assert len(on) == 1 and told == on * 4  # the others are told which
    studio.store.runs.update(on[0], state="stopped")


@pytest.mark.parametrize(
    "left",
    [
        {},  # killed before the process was started
        {"pid": 2**22 - 1},  # the process died before it left a line in its log
        {"pid": os.getpid()},  # its id is another process's by now
        {"since": "2999-01-01T00:00:00.000000Z"},  # the clock was put back
    ],
)
def test_a_queued_run_that_nobody_will_start_is_interrupted_and_holds_up_nothing(studio, quick_path, left):
    copy = studio.store.database.vacuum_into(quick_path / "copy.db")
    run = left_queued(studio, **left)
    assert [(r["id"], r["state"]) for r in studio.runs.find()] == [(run, "interrupted")]
    assert "Resume it" in studio.runs.status(run)["message"]
    with pytest.raises(ValueError, match="is interrupted: there is nothing to stop"):
        studio.runs.stop(run)
    studio.runs.delete(run, "ann")
    with pytest.raises(ValueError, match="was deleted"):
        studio.runs.resume(run)
    left_queued(studio, **left)
    transfer.restore(studio, copy, "ann")
    assert studio.runs.find() == []
    again = left_queued(studio, **left)
    studio.models.load = lambda on_stage: None  # the models are not what is loaded here
    studio.load()
    assert studio.store.runs.get(again)["state"] == "interrupted"


@pytest.fixture(autouse=True)
def no_job_is_left_behind(studio):
    yield
    for run in studio.store.runs.find():
        left = run["state"] in ("queued", "running") and run["pid"] not in (None, os.getpid())
        if left and runs.alive(run["pid"]):
            os.kill(run["pid"], signal.SIGKILL)


class Process:
    """A fake: what is tested is who may start one. It lives for as long as this process does."""

    pid = os.getpid()

    def __init__(self, *_, **__):
        time.sleep(0.02)

    def wait(self):
        return 0


def test_a_run_that_was_found_dead_and_is_taken_up_meanwhile_is_left_alone(studio):
    run = studio.store.runs.new("warmup", {})
    found = studio.runs.get(run)
    studio.store.runs.claim(run, os.getpid())
    assert not studio.runs._interrupt(found, "Its process ended.")
    assert studio.runs.get(run)["state"] == "running"
    studio.store.runs.update(run, state="stopped")


LONG_AGO = "2026-01-01T00:00:00.000000Z"


def left_queued(studio, pid=None, since=LONG_AGO):
    """A queued run whose starter died: nothing but its row is there."""
    run = studio.runs.new("warmup", CONFIG)
    with studio.store.database.writing() as db:
        db.execute("UPDATE runs SET created = ?, pid = ? WHERE id = ?", (since, pid, run))
    return run


def test_a_run_that_is_just_being_started_or_gone_on_with_is_left_alone(studio, monkeypatch):
    new, begun = studio.runs.new("warmup", CONFIG), studio.runs.new("warmup", CONFIG)
    studio.store.runs.update(begun, pid=os.getpid())
    old = left_queued(studio)
    studio.store.runs.update(old, state="interrupted")
    monkeypatch.setattr(studio.runs, "_spawn", lambda run: None)  # it is just about to
    monkeypatch.setattr(runs, "alive", lambda pid: False)
    studio.runs.resume(old)
    assert studio.runs.sweep() == []
    assert [studio.runs.get(run)["state"] for run in (new, begun, old)] == ["queued"] * 3


@pytest.mark.parametrize("how", ["process", "folder"])
def test_a_job_that_cannot_be_started_has_failed_with_the_reason_and_can_be_gone_on_with(
    studio, monkeypatch, how
):
    if how == "process":
        monkeypatch.setattr(runs.sys, "executable", str(studio.settings.home / "nowhere"))
        reason = "No such file"
    else:
        studio.settings.runs.write_text("a file in the folder's place")
        reason = "exists|Not a directory"
    with pytest.raises(ValueError, match=f"could not be started .*({reason})"):
        studio.runs.start("warmup", CONFIG)
    (run,) = studio.runs.find()
    assert run["state"] == "failed" and "resume the run" in run["message"]
    studio.runs.refuse_if_busy()  # it is in nobody's way
