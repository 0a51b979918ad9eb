"""A job is a process of its own: it goes on without the one that started it, and a killed one is gone on with."""

import os
import signal
import time

import pytest

from core import checkpoint
from data.store import RunBusy
from studio import jobs
from tests.tiny import studio_at

CONFIG = {"prompts": 8, "warmup_steps": 3000}


def wait(studio, run, until, seconds=900):
    """The status once `until(status)`; fails with the log otherwise."""
    for _ in range(int(seconds / 0.1)):
        status = jobs.status(studio, run)
        if until(status):
            return status
        time.sleep(0.1)
    raise AssertionError(f"{status['state']}: {jobs.RunLog(studio.run_folder(run)).tail()}")


@pytest.fixture(autouse=True)
def no_job_is_left_behind(studio):
    yield
    for run in studio.store.runs():
        if run["state"] in ("queued", "running") and run["pid"] and jobs.alive(run["pid"]):
            os.kill(run["pid"], signal.SIGKILL)


def test_a_killed_job_is_interrupted_stopped_ones_go_on_and_nothing_is_lost(studio, model_folder):
    run = jobs.start(studio, "warmup", CONFIG)
    running = wait(studio, run, lambda s: s["state"] == "running" and s["step"] > 0)
    assert running["total"] == 3000
    assert os.getsid(running["run"]["pid"]) == running["run"]["pid"] != os.getsid(0)

    other_page = studio_at(studio.settings.home, model_folder)
    assert jobs.status(other_page, run)["state"] == "running"
    with pytest.raises(RunBusy, match=run):
        jobs.start(other_page, "warmup", CONFIG)

    wait(studio, run, lambda s: s["step"] > 250)
    os.kill(running["run"]["pid"], signal.SIGKILL)
    dead = wait(studio, run, lambda s: s["state"] == "interrupted")
    assert "Go on with it" in dead["message"]

    jobs.resume(studio, run)
    again = wait(
        studio,
        run,
        lambda s: s["state"] == "running" and s["history"][-1]["time"] > dead["history"][-1]["time"],
    )
    assert again["step"] > 200  # not from the beginning
    jobs.stop(studio, run)
    stopped = wait(studio, run, lambda s: s["state"] == "stopped")
    assert stopped["step"] < 3000
    assert (
        checkpoint.load_state(studio.run_folder(run) / "warmup-state" / "state.pt")["step"] >= again["step"]
    )


def test_a_run_that_was_deleted_is_not_gone_on_with(studio):
    run = studio.new_run("reward", {})
    studio.store.update_run(run, state="failed")
    studio.delete_run(run, "ann")
    with pytest.raises(ValueError, match="was deleted"):
        jobs.resume(studio, run)
    assert studio.run(run)["state"] == "failed"
