"""A job is a process of its own: it goes on without the one that started it, and a killed one is gone on with."""

import multiprocessing
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
from tests.tiny import studio_at

CONFIG = {"prompts": 8, "warmup_steps": 3000}


def wait(studio, run, until, seconds=900):
    """The status once `until(status)`; fails with the log otherwise."""
    for _ in range(int(seconds / 0.1)):
        status = studio.runs.status(run)
        if until(status):
            return status
        time.sleep(0.1)
    raise AssertionError(f"{status['state']}: {runs.RunLog(studio.runs.folder(run)).tail()}")


@pytest.fixture(autouse=True)
def no_job_is_left_behind(studio):
    yield
    for run in studio.store.runs.find():
        left = run["state"] in ("queued", "running") and run["pid"] not in (None, os.getpid())
        if left and runs.alive(run["pid"]):
            os.kill(run["pid"], signal.SIGKILL)


def test_a_killed_job_is_interrupted_stopped_ones_go_on_and_nothing_is_lost(studio, model_folder):
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

    studio.runs.resume(run)
    again = wait(
        studio,
        run,
        lambda s: s["state"] == "running" and s["history"][-1]["time"] > dead["history"][-1]["time"],
    )
    assert again["step"] > 200  # not from the beginning
    studio.runs.stop(run)
    stopped = wait(studio, run, lambda s: s["state"] == "stopped")
    assert stopped["step"] < 3000
    assert (
        checkpoint.load_state(studio.runs.folder(run) / "warmup-state" / "state.pt")["step"] >= again["step"]
    )


class Process:
    """A fake: what is tested is who may start one. It lives for as long as this process does."""

    pid = os.getpid()

    def __init__(self, *_, **__):
        time.sleep(0.05)

    def wait(self):
        return 0


CALLS = {
    "start": lambda studio, _: studio.runs.start("warmup", CONFIG),
    "start another kind": lambda studio, n: studio.runs.start(["reward", "round"][n % 2]),
    "resume": lambda studio, _: studio.runs.resume("old"),
    "start or resume": lambda studio, n: studio.runs.resume("old") if n % 2 else studio.runs.start("warmup"),
}


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("stores", ["one store", "a store each, as of several processes"])
def test_of_many_who_start_at_once_one_does(studio, model_folder, monkeypatch, call, stores):
    monkeypatch.setattr(runs.subprocess, "Popen", Process)
    studio.store.runs.new("warmup", {**CONFIG, "used": {}}, id="old")
    studio.store.runs.update("old", state="stopped")
    pages = [
        studio if stores == "one store" else studio_at(studio.settings.home, model_folder) for _ in range(4)
    ]
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


def start_when_all_are_there(home, model_folder, together, told):
    """In a process of its own, which lives until the test is done with it."""
    runs.subprocess.Popen = Process
    studio = studio_at(home, model_folder)
    together.wait()
    try:
        told.put(("started", studio.runs.start("warmup", CONFIG)))
    except RunBusy as busy:
        told.put(("busy", busy.run))
    together.wait()


def test_of_processes_that_start_at_once_one_does(studio, model_folder):
    """The processes are real; the training that each would start is a fake, as it would outlive the test."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["tests.tiny", "studio.training.runs"])
    together, told = context.Barrier(4), context.Queue()
    given = (studio.settings.home, model_folder, together, told)
    many = [context.Process(target=start_when_all_are_there, args=given, daemon=True) for _ in range(3)]
    for process in many:
        process.start()
    together.wait(timeout=300)
    said = [told.get(timeout=60) for _ in many]
    assert sorted(what for what, _ in said) == ["busy", "busy", "started"]
    assert len({run for _, run in said}) == 1
    assert [run["state"] for run in studio.store.runs.find()] == ["queued"]
    together.wait(timeout=60)
    for process in many:
        process.join(timeout=60)


def test_a_run_that_was_found_dead_and_is_taken_up_meanwhile_is_left_alone(studio):
    run = studio.store.runs.new("warmup", {})
    found = studio.runs.get(run)
    studio.store.runs.claim(run, os.getpid())
    assert not studio.runs._interrupt(found, "Its process ended.")
    assert studio.runs.get(run)["state"] == "running"
    studio.store.runs.update(run, state="stopped")


def test_a_run_that_was_deleted_is_not_gone_on_with(studio):
    run = studio.runs.new("reward", {})
    studio.store.runs.update(run, state="failed")
    studio.runs.delete(run, "ann")
    with pytest.raises(ValueError, match="was deleted"):
        studio.runs.resume(run)
    assert studio.runs.get(run)["state"] == "failed"


LONG_AGO = "2026-01-01T00:00:00.000000Z"


def left_queued(studio, pid=None, since=LONG_AGO):
    """A queued run whose starter died: nothing but its row is there."""
    run = studio.runs.new("warmup", CONFIG)
    with studio.store.database.writing() as db:
        db.execute("UPDATE runs SET created = ?, pid = ? WHERE id = ?", (since, pid, run))
    return run


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
    studio.runs.delete(run, "ann")
    left_queued(studio, **left)
    transfer.restore(studio, copy, "ann")
    assert studio.runs.find() == []


def test_what_a_killed_process_left_queued_is_ended_when_the_app_loads(studio):
    run = left_queued(studio)
    studio.models.load = lambda on_stage: None  # the models are not what is loaded here
    studio.load()
    assert studio.store.runs.get(run)["state"] == "interrupted"


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


def test_stop_of_a_run_without_a_process_says_that_there_is_nothing_to_stop(studio):
    run = left_queued(studio)
    with pytest.raises(ValueError, match="is interrupted: there is nothing to stop"):
        studio.runs.stop(run)
