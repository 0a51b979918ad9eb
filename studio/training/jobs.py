"""Training as a job of its own: a process that outlives the page and the server (DESIGN sections 4 and 6).

`start` writes a run into the store and starts `python -m studio train KIND --run ID` in a session of its own, with
its output in the run's folder. That none is on and that this one is are one transaction. Nothing is kept in memory here:
whatever the page shows is read from the store and the folder, so a page that is reloaded, or another server, sees the
same.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import threading
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from data.store import StoreError
from studio.processes import alive
from studio.settings import ROOT
from studio.training.runlog import LOG, RunLog, locks_work, training_lock

if TYPE_CHECKING:
    from studio.training.runs import Runs

STOP_SECONDS = 20.0  # a run that waits for so long without a process has died on its way
BEGIN_SECONDS = 900.0  # or with one: a process begins sooner, so the id is by now another one's


def start(runs: Runs, kind: str, config: dict[str, Any] | None = None) -> str:
    """Start a training; the run's id. ValueError or RunBusy where it cannot be."""
    sweep(runs)
    run = runs.new(kind, config, starts=True)  # it has this process's id until its own is there
    _spawn(runs, runs.get(run))
    return run


def resume(runs: Runs, run_id: str) -> str:
    """Go on with a run that was stopped, interrupted or failed."""
    sweep(runs)
    with runs.store.database.writing():
        run = runs.get(run_id)
        if run["state"] in ("done", "running"):
            raise ValueError(f"The run {run_id} is {run['state']}: there is nothing to go on with.")
        if run["archived"]:
            raise ValueError(f"The run {run_id} was deleted, and its files with it: start a new one.")
        runs.refuse_if_busy()
        runs.store.runs.update(run_id, state="queued", pid=os.getpid(), heartbeat="now", message="")
    _spawn(runs, run)
    return run_id


def stop(runs: Runs, run_id: str) -> None:
    """Ask a run to stop after the step it is in; what it has done is kept."""
    sweep(runs)
    run = runs.get(run_id)
    if run["state"] not in ("running", "queued"):
        raise ValueError(f"The run {run_id} is {run['state']}: there is nothing to stop.")
    RunLog(runs.folder(run_id)).ask_to_stop()


def status(runs: Runs, run_id: str, most: int = 500) -> dict[str, Any]:
    """{id, kind, state, stage, step, total, left, metrics: the latest, history: [reports], message, log, run}"""
    sweep(runs)
    run, log = runs.get(run_id), RunLog(runs.folder(run_id))
    history = log.progress(most)
    last = history[-1] if history else {}
    return {
        "id": run_id,
        "kind": run["kind"],
        "state": run["state"],
        "stage": last.get("stage", ""),
        "step": last.get("step", 0),
        "total": last.get("total", 0),
        "left": last.get("left") if run["state"] == "running" else None,
        "metrics": last.get("metrics", {}),
        "history": history,
        "message": run["message"],
        "log": log.tail() if run["state"] in ("failed", "interrupted") else "",
        "run": run,
    }


def sweep(runs: Runs) -> list[str]:
    """Mark runs without a process as interrupted; their ids. A run that is on holds the training lock; one that is queued
    has a process, or somebody is just about to start it."""
    gone = []
    with contextlib.suppress(StoreError, OSError):  # looking goes on where nothing can be written
        if runs.store.runs.find(state="running"):
            with training_lock(runs.settings.home) as free:
                gone += sweep_held(runs) if free else []
        for run in runs.store.runs.find(state="queued"):
            since = datetime.fromisoformat(run["heartbeat"] or run["created"])
            waited = abs((datetime.now(UTC) - since).total_seconds())  # a clock may have been put back
            if waited > (BEGIN_SECONDS if alive(run["pid"] or 0) else STOP_SECONDS):
                gone += _interrupt(runs, run, "Its process ended before it began.")
    return gone


def sweep_held(runs: Runs) -> list[str]:
    """The like for whoever holds the training lock: whatever the store says is running has died. Without file locks
    (Windows) a living process id is all there is to go by."""
    running = [
        run for run in runs.store.runs.find(state="running") if locks_work() or not alive(run["pid"] or 0)
    ]
    return [id for run in running for id in _interrupt(runs, run, "Its process ended before it was done.")]


def _interrupt(runs: Runs, run: dict[str, Any], why: str) -> list[str]:
    """Mark a run that was found dead, unless it has been taken up again since; its id, or none."""
    with runs.store.database.writing():
        now = runs.get(run["id"])
        if (now["state"], now["pid"]) != (run["state"], run["pid"]):
            return []
        message = f"{why} Go on with it: nothing was lost."
        runs.store.runs.update(run["id"], state="interrupted", message=message)
    return [run["id"]]


def _spawn(runs: Runs, run: dict[str, Any]) -> None:
    run_id, kind = run["id"], run["kind"]
    what = ["experiment", run["config"]["name"]] if kind == "experiment" else ["train", kind]
    log = RunLog(runs.folder(run_id))
    env = {**os.environ, **runs.settings.env(), "PYTHONUNBUFFERED": "1"}
    env["PYTHONPATH"] = os.pathsep.join(p for p in (str(ROOT), os.environ.get("PYTHONPATH", "")) if p)
    try:
        log.start()
        with (log.folder / LOG).open("ab") as output:
            process = subprocess.Popen(
                [sys.executable, "-m", "studio", *what, "--run", run_id],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                cwd=ROOT,
                env=env,
                start_new_session=True,
            )
    except OSError as error:
        why = f"The process of the run {run_id} could not be started ({error.strerror}). Mend that, then go on with the run."
        runs.store.runs.update(run_id, state="failed", message=why)
        raise ValueError(why) from None
    runs.store.runs.update(run_id, pid=process.pid)
    # reap it when it ends, lest a long-lived server collect dead processes
    threading.Thread(target=process.wait, name=f"job {run_id}", daemon=True).start()
