"""Training runs: created, run in a process of their own or here, watched, promoted, rolled back, compared, deleted.

One training at a time, across processes: the one that trains holds a lock file. `Runs.start` writes a run into the store
and starts `python -m studio train KIND --run ID`, which outlives the page and the server; that no other run is on, and
that this one is, is one transaction. Nothing is kept in memory: pages read the store and the run's folder. A run that was
stopped or killed resumes where it was, as its stages and their states are in its folder. Promoting is never automatic. A
deleted run loses its files and stays in the store, archived: samples and other runs name it.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import sys
import threading
import time
import uuid
import zipfile
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from core import checkpoint
from core.jsonfile import parsed, read_or
from core.progress import Progress, Stopped, counter
from data.store import Store, StoreError
from data.store.checks import any_text, count, each, figure, maybe, record
from data.store.checks import run_id as checked_run_id
from data.store.runs import RunBusy
from studio.access.identity import check_name
from studio.errors import sentence
from studio.images import pictures
from studio.images.models import SHIPPED, Models
from studio.images.scoring import Stop, asked
from studio.numbers import plain, shown
from studio.processes import alive, lock, unlock
from studio.settings import ROOT, Settings
from studio.training.configs import CORRECTED, FIELDS, Field, Kind, with_own
from studio.training.results import card

if TYPE_CHECKING:
    from studio.studio import Studio

Run = dict[str, Any]  # a row of the store
Report = Callable[[dict[str, Any]], None]

PROGRESS, LOG, STAGES, STOP = "progress.jsonl", "log.txt", "stages.json", "stop"
REPORT = record(
    {"stage": any_text, "step": count, "total": count},
    {"left": maybe(figure), "metrics": each(maybe(figure)), "time": figure},
)
REPORT_SECONDS, HEARTBEAT_SECONDS = 0.5, 5.0
MOST = 1000  # parents, parts and promotions of a run that are read
PROJECTS = ("cycle", "projector", "warmup")  # kinds that make a projector
LOCK_TRIES, LOCK_WAIT = 20, 0.1  # a sweep holds the lock for a moment
STOP_SECONDS = 20.0  # a run that is queued for so long without a process has died on its way
BEGIN_SECONDS = 900.0  # or with one: a process begins sooner, so the id is by now another one's


# ---- the folder of a run ------------------------------------------------------------------------------------------


class RunLog:
    """The folder of one run: progress.jsonl (a line a report), log.txt (what the process printed), stages.json (finished
    stages), the states of its stages, and its checkpoints. The process that trains writes it, any may read it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._reported = 0.0

    def start(self) -> None:
        """Make the folder, without an old request to stop."""
        self.folder.mkdir(parents=True, exist_ok=True)
        (self.folder / STOP).unlink(missing_ok=True)

    def ask_to_stop(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        (self.folder / STOP).touch()

    def stop_asked(self) -> bool:
        return (self.folder / STOP).exists()

    def report(self, stage: str, progress: Progress, also: Report | None = None) -> None:
        """Write a step of a stage, twice a second at most and at the stage's end; `also` gets what is written."""
        now = time.monotonic()
        if now - self._reported < REPORT_SECONDS and progress.step < progress.total:
            return
        self._reported = now
        metrics = plain({name: round(float(value), 6) for name, value in progress.metrics.items()})
        line = {
            "time": time.time(), "stage": stage, "step": progress.step, "total": progress.total,
            "left": round(progress.left, 1), "metrics": metrics,
        }  # fmt: skip
        with (self.folder / PROGRESS).open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")
        if also:
            also(line)

    def progress(self, most: int = 2000) -> list[dict[str, Any]]:
        """The reports, oldest first, thinned to about `most`; lines that are no reports are left out."""
        try:
            lines = (self.folder / PROGRESS).read_bytes().split(b"\n")
        except OSError:
            return []
        reports = []
        for line in lines:
            with contextlib.suppress(ValueError):
                report = parsed(line, dict, PROGRESS)
                REPORT("report", report)
                reports.append(report)
        every = max(1, -(-len(reports) // most))
        return reports[::every] + (reports[-1:] if reports and (len(reports) - 1) % every else [])

    def tail(self, most: int = 2000) -> str:
        """The end of what the process printed."""
        try:
            return (self.folder / LOG).read_bytes()[-most:].decode("utf-8", "replace")
        except OSError:
            return ""

    def done(self) -> dict[str, Any]:
        """Results of the finished stages, by name. A damaged file costs time, nothing else."""
        stages = read_or({}, self.folder / STAGES)
        return {stage: result for stage, result in stages.items() if isinstance(result, dict)}

    def finish(self, stage: str, result: dict[str, Any]) -> dict[str, Any]:
        """Note a stage as finished, so that a resumed run does not repeat it; its result as it was stored."""
        stages = {**self.done(), stage: plain(result)}
        pictures.write(self.folder / STAGES, json.dumps(stages, indent=1).encode())
        return self.done()[stage]


class Job:
    """A run in progress, as its stages see it."""

    def __init__(self, studio: Studio, run: Run, stop: Callable[[], bool], also: Report | None) -> None:
        self.studio, self.run, self.config = studio, run, run["config"]
        self.folder = studio.runs.folder(run["id"])
        self.log = RunLog(self.folder)
        self._stop, self._also, self._beat = stop, also, 0.0
        self.began = time.monotonic()

    def stopped(self) -> bool:
        """Whether to stop: asked by the caller, or by anyone through the run's folder."""
        return self._stop() or self.log.stop_asked()

    def check(self) -> None:
        """Raise Stopped where the run was asked to stop."""
        if self.stopped():
            raise Stopped

    def watch(self, stage: str) -> Callable[[Progress], None]:
        """An on_progress for a stage: reports, and a heartbeat in the store."""

        def on_progress(progress: Progress) -> None:
            self.log.report(stage, progress, self._also)
            if time.monotonic() - self._beat > HEARTBEAT_SECONDS:
                self._beat = time.monotonic()
                self.studio.store.runs.update(self.run["id"], heartbeat="now")

        return on_progress

    def counter(self, stage: str) -> Callable[[int, int], None]:
        """Like `watch`, for work that counts done and total."""
        return counter(self.watch(stage))

    def stoppable(self, stage: str) -> Callable[[int, int], None]:
        """`counter` for work that cannot be asked to stop: it raises Stopped from within."""
        report = self.counter(stage)

        def on_count(done: int, total: int) -> None:
            report(done, total)
            self.check()

        return on_count

    def stage(self, name: str, work: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        """The result of a stage, which is done now unless an earlier process finished it."""
        done = self.log.done()
        if name in done:
            return done[name]
        self.check()
        return self.log.finish(name, work())


@contextlib.contextmanager
def training_lock(home: Path) -> Iterator[bool]:
    """The lock of the process that trains; False where another one holds it."""
    held = lock(home / "training.lock")
    try:
        yield held is not None
    finally:
        if held is not None:
            unlock(held)


# ---- the runs of the store ----------------------------------------------------------------------------------------


class Runs:
    """The runs of one studio."""

    def __init__(self, settings: Settings, store: Store, models: Models, kinds: Mapping[str, Kind]) -> None:
        self.settings, self.store, self.models, self.kinds = settings, store, models, kinds

    def defaults(self, kind: str) -> dict[str, tuple[Any, str]]:
        """The settings of a kind of training: {name: (default, meaning)}."""
        config = self.checked(kind)
        return {name: (config[name], field.meaning) for name, field in FIELDS[kind].items()}

    def folder(self, run_id: str) -> Path:
        return self.settings.runs / run_id

    def new(self, kind: str, config: dict[str, Any] | None = None, starts: bool = False) -> str:
        """The id of a new queued run with its configuration, its labels and the models in use. starts: this process
        begins it at once; RunBusy where another is on, of all who ask at once for all but one."""
        checked = self.checked(kind, config)
        sources = {"vlm": ["vlm"], "corrections": [*CORRECTED]}.get(checked.get("sources", "all"))
        # a cycle fits a calibrator of its own first
        calibrated = kind == "reward" and checked["calibrated"] and self.store.runs.promoted("calibrator")
        labels = None  # a round learns nothing
        if kind != "round":
            labels = self.store.labels.snapshot(
                split="train", sources=sources, include_calibrated=bool(calibrated)
            )
        with self.store.database.writing():
            if starts:
                self.refuse_if_busy()
            used = self.in_use()
            parent = used[kind if kind in used else "projector"]
            run = self.store.runs.new(kind, {**checked, "used": used}, parent, labels)
            if starts:
                self.store.runs.update(run, pid=os.getpid())
        return run

    def checked(self, kind: str, config: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """The whole configuration of a kind; ValueError for a bad one. Sampling defaults to the backbone's own."""
        if kind not in self.kinds:
            raise ValueError(f"{shown(kind)} cannot be trained: choose one of {', '.join(FIELDS)}.")
        known = self.kinds[kind]
        return known.check(with_own(known.fields(config or {}), self.models.sampling(), config))

    def in_use(self) -> dict[str, str | None]:
        """The runs whose reward model, projector and LoRA are in use; None: what the project ships."""
        used = {name: self.store.runs.promoted(name) for name in ("reward", "projector", "lora")}
        return {name: run["id"] if run else None for name, run in used.items()}

    def refuse_if_busy(self, but: str | None = None) -> None:
        """RunBusy where a training, other than the run `but`, is on or is just starting."""
        for run in self.store.runs.find(state="running") + self.store.runs.find(state="queued"):
            on = run["state"] == "running" or (run["pid"] and alive(run["pid"]))
            if on and run["id"] != but:
                raise RunBusy(run["id"], run["kind"])

    def find(self, **filters: Any) -> list[Run]:
        """Runs, the newest first, those whose process died marked as interrupted."""
        self.sweep()
        return self.store.runs.find(**filters)

    def get(self, id: str) -> Run:
        """A run; ValueError where there is none."""
        return self.store.runs.get(id)

    # -- processes

    def start(self, kind: str, config: dict[str, Any] | None = None) -> str:
        """Start a training in a process of its own; the run's id. ValueError or RunBusy where it cannot be."""
        self.sweep()
        run = self.new(kind, config, starts=True)  # it has this process's id until its own process exists
        self._spawn(self.get(run))
        return run

    def resume(self, run_id: str) -> str:
        """Resume a run that was stopped, interrupted or failed; its id."""
        self.sweep()
        with self.store.database.writing():
            run = self.get(run_id)
            if run["state"] in ("done", "running"):
                raise ValueError(f"The run {run_id} is {run['state']}: there is nothing to resume.")
            if run["archived"]:
                raise ValueError(f"The run {run_id} was deleted, and its files with it: start a new one.")
            self.refuse_if_busy()
            self.store.runs.update(run_id, state="queued", pid=os.getpid(), heartbeat="now", message="")
        self._spawn(run)
        return run_id

    def stop(self, run_id: str) -> None:
        """Ask a run to stop after the step it is in; finished work is kept."""
        self.sweep()
        run = self.get(run_id)
        if run["state"] not in ("running", "queued"):
            raise ValueError(f"The run {run_id} is {run['state']}: there is nothing to stop.")
        RunLog(self.folder(run_id)).ask_to_stop()

    def status(self, run_id: str, most: int = 500) -> dict[str, Any]:
        """The state of a run: {id, kind, state, stage, step, total, left, metrics: the latest, history: [reports], message,
        log, run}"""
        self.sweep()
        run, log = self.get(run_id), RunLog(self.folder(run_id))
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

    def sweep(self) -> list[str]:
        """Mark runs without a process as interrupted; their ids. A running run holds the training lock; a queued one has
        a process, or somebody is just about to start it."""
        dead = []
        with contextlib.suppress(StoreError, OSError):  # a store that cannot be written can still be read
            if self.store.runs.find(state="running"):
                with training_lock(self.settings.home) as free:
                    dead += self.sweep_held() if free else []
            for run in self.store.runs.find(state="queued"):
                since = datetime.fromisoformat(run["heartbeat"] or run["created"])
                waited = abs((datetime.now(UTC) - since).total_seconds())  # a clock may have been put back
                most = BEGIN_SECONDS if alive(run["pid"] or 0) else STOP_SECONDS
                if waited > most and self._interrupt(run, "Its process ended before it began."):
                    dead.append(run["id"])
        return dead

    def sweep_held(self) -> list[str]:
        """`sweep` for the holder of the training lock: whatever the store says is running has died."""
        running = self.store.runs.find(state="running")
        return [run["id"] for run in running if self._interrupt(run, "Its process ended before it was done.")]

    def _interrupt(self, run: Run, why: str) -> bool:
        """Mark a run whose process died, unless it was resumed meanwhile; whether it is over. A damaged store cannot be
        marked, and nothing can be resumed in it."""
        with self.store.database.unless_damaged(), self.store.database.writing():
            now = self.get(run["id"])
            if (now["state"], now["pid"]) != (run["state"], run["pid"]):
                return False
            self.store.runs.update(
                run["id"], state="interrupted", message=f"{why} Resume it: nothing was lost."
            )
        return True

    def _spawn(self, run: Run) -> None:
        run_id, kind = run["id"], run["kind"]
        what = ["experiment", run["config"]["name"]] if kind == "experiment" else ["train", kind]
        log = RunLog(self.folder(run_id))
        path = os.pathsep.join(p for p in (str(ROOT), os.environ.get("PYTHONPATH", "")) if p)
        env = {**os.environ, **self.settings.env(), "PYTHONUNBUFFERED": "1", "PYTHONPATH": path}
        arguments = [sys.executable, "-m", "studio", *what, "--run", run_id]
        try:
            log.start()
            with (log.folder / LOG).open("ab") as output:
                process = subprocess.Popen(
                    arguments, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT, cwd=ROOT, env=env,
                    start_new_session=True,
                )  # fmt: skip
        except OSError as error:
            why = f"The process of the run {run_id} could not be started ({error.strerror}). Mend that, then resume the run."
            self.store.runs.update(run_id, state="failed", message=why)
            raise ValueError(why) from None
        self.store.runs.update(run_id, pid=process.pid)
        # reap it when it ends, so that a long-lived server collects no dead processes
        threading.Thread(target=process.wait, name=f"job {run_id}", daemon=True).start()

    # -- promotion

    def promote(self, run_id: str, who: str, force: bool = False) -> Run:
        """Put a run's models into use; ValueError where its held-out result is worse, unless `force`.

        A cycle puts its calibrator, reward model and projector into use together.
        """
        who = check_name(who)
        with self.store.database.writing():  # with what the decision rests on, and with all parts
            run = self.get(run_id)
            if run["state"] != "done":
                raise ValueError(f"The run {run_id} is {run['state']}: let it finish before it is promoted.")
            if run["kind"] == "warmup":
                raise ValueError("A warm-up alone makes nothing better: train a projector and promote that.")
            if run["kind"] == "round":
                raise ValueError("A round makes images and no model: there is nothing to put into use.")
            if not force and (why := self.why_not(run)):
                raise ValueError(why)
            for child in self._parts(run):
                self.store.runs.promote(child["id"], who)
            promoted = self.store.runs.promote(run_id, who)
            self.store.audit.note(who, "promote", run_id, {"force": force})
        return promoted

    def why_not(self, run: Run) -> str:
        """The reason against promoting a run, in a sentence, or ''."""
        heldout, kind = (run["metrics"] or {}).get("heldout"), run["kind"]
        end = "Promote it all the same only if you know why."
        unknown = f"The run {run['id']} has no held-out result, so nobody knows whether it is better. {end}"
        if not heldout:
            return unknown
        promoted = self.store.runs.promoted("projector" if kind == "cycle" else kind)
        in_use = promoted["id"] if promoted else None
        difference = heldout["difference"]["words"]["estimate"]
        measured_against = (run["config"].get("used") or {}).get("projector" if kind == "cycle" else kind)
        if kind in ("projector", "reward", "cycle", "lora") and in_use not in (measured_against, run["id"]):
            other = self.heldout_of(promoted) if promoted else None
            if other is None or other["key"] != heldout["key"]:
                return (
                    f"The run {run['id']} was measured against another model than the one now in use ({in_use or 'shipped'}), "
                    f"so nobody knows whether it is better. {end}"
                )
            ours, theirs = (result["after"]["words"]["estimate"] for result in (heldout, other))
            difference = None if ours is None or theirs is None else ours - theirs
        if difference is None:  # the scorer, which is the judge, could read none of the images
            return unknown
        if difference < 0:
            return (
                f"On held-out {heldout['of']} the run {run['id']} is worse than what is in use "
                f"(by {-difference:.4f}). {end}"
            )
        clean = heldout["difference"].get("clean") or {}
        if in_use == measured_against and clean.get("high") is not None and clean["high"] < 0:
            return (
                f"Of the held-out images of the run {run['id']} fewer are whole than of what is in use, by "
                f"{-100 * clean['estimate']:.1f} points: words hold, and things are there that nobody asked for. {end}"
            )
        return ""

    def heldout_of(self, run: Run) -> dict[str, Any] | None:
        """The held-out result of a run, or of the cycle that it is a part of."""
        result = (run["metrics"] or {}).get("heldout")
        if not result and run["parent"]:
            parent = self.get(run["parent"])
            result = (parent["metrics"] or {}).get("heldout") if parent["kind"] == "cycle" else None
        return result

    def _parts(self, run: Run) -> list[Run]:
        """The runs of a cycle's own models that can be put into use."""
        children = self.store.runs.find(parent=run["id"]) if run["kind"] == "cycle" else []
        return [child for child in children if (child["metrics"] or {}).get("use", True)]

    def rollback(self, kind: str, who: str) -> Run | None:
        """Put what was in use before into use again; its run, or None for what the project ships."""
        who = check_name(who)
        if kind not in FIELDS or kind in ("warmup", "round"):
            raise ValueError(
                f"{shown(kind)} cannot be rolled back: choose projector, reward, calibrator, lora or cycle."
            )
        with self.store.database.writing():
            if kind == "cycle" and (last := self.store.runs.promoted("cycle")):
                for child in self._parts(last):
                    used = self.store.runs.promoted(child["kind"])
                    if used and used["id"] == child["id"]:
                        self.store.runs.rollback(child["kind"], who)
            run = self.store.runs.rollback(kind, who)
            self.store.audit.note(who, "rollback", kind)
        return run

    # -- the page of a run

    def page(self, run_id: str) -> dict[str, Any]:
        """The page of a run: {run, settings: [{name, value, default, meaning}], parents: nearest first, children, promotions: its own events,
        bytes: of its files | None, part_of: the cycle that it belongs to | None}; ValueError where there is no such run."""
        run = self.get(run_id)
        fields = FIELDS.get(run["kind"], {})
        unknown = Field(None, (), "")
        settings = [
            {"name": name, "value": value, "default": field.default, "meaning": field.meaning}
            for name, value in run["config"].items()
            for field in [fields.get(name, unknown)]
            if name not in ("used", "cycle", "source", "name")
        ]
        promotions = [e for e in self.store.runs.promotions(run["kind"], MOST) if e["run"] == run_id]
        parents: list[Run] = []
        child = run
        while child["parent"] and len(parents) < MOST:
            child = self.get(child["parent"])
            parents.append(child)
        return {
            "run": run,
            "settings": settings,
            "parents": parents,
            "children": self.store.runs.find(parent=run_id, limit=MOST, archived=True),
            "promotions": promotions,
            "bytes": None if run["archived"] else _bytes(self.folder(run_id)),
            "part_of": run["config"].get("cycle"),
        }

    def sample_methods(self, run_id: str) -> list[str]:
        """The projector before and this run's, as `check_grid` takes them; none where the run makes no projector."""
        run = self.get(run_id)
        if run["kind"] not in PROJECTS or run["state"] != "done" or run["archived"]:
            return []
        before = (run["config"].get("used") or {}).get("projector") or SHIPPED
        return list(dict.fromkeys([f"projected:{before}", f"projected:{projector_of(run)}"]))

    def compare(self, one: str, other: str) -> dict[str, Any]:
        """How two runs differ: {runs: [one, other], settings: [{name, values: [a, b], differ}], labels: [counts by
        source, each], events: score events between their labels | None, heldout: [result | None, each], comparable: whether
        both were judged on the same prompts and seeds by the same judge, why: the sentence where they were not}."""
        if one == other:
            raise ValueError("These are one and the same run: choose another one to compare it with.")
        runs = [self.get(one), self.get(other)]
        hidden = ("used", "cycle", "source")
        names = dict.fromkeys(name for run in runs for name in run["config"] if name not in hidden)
        rows = [(name, [run["config"].get(name) for run in runs]) for name in names]
        rows.append(("began from", [(run["config"].get("used") or {}).get("projector") for run in runs]))
        last = [run["labels"]["last"] for run in runs if "last" in (run["labels"] or {})]
        heldout = [self.heldout_of(run) for run in runs]
        missing = [run["id"] for run, result in zip(runs, heldout, strict=True) if not result]
        why = ""
        if missing:
            why = f"There is no held-out result of {' and '.join(missing)}."
        elif len({result["key"] for result in heldout if result}) > 1:
            why = "They were judged on other prompts, seeds or settings, so their figures say nothing of each other."
        return {
            "runs": runs,
            "settings": [{"name": n, "values": v, "differ": v[0] != v[1]} for n, v in rows],
            "labels": [(run["labels"] or {}).get("sources", {}) for run in runs],
            "events": abs(last[1] - last[0]) if len(last) == 2 else None,
            "heldout": heldout,
            "comparable": not why,
            "why": why,
        }

    def delete(self, run_id: str, who: str) -> int:
        """Delete a run's files, its parts' with it, and archive it; how many bytes that freed. ValueError for what is on,
        in use or part of a cycle."""
        who = check_name(who)
        self.sweep()
        with self.store.database.writing():
            run = self.get(run_id)
            if run["config"].get("source") == "shipped":
                raise ValueError("This is what the project ships: it cannot be deleted.")
            if cycle := run["config"].get("cycle"):
                raise ValueError(f"The run {run_id} is a part of the loop {cycle}: delete that.")
            folder = self.folder(checked_run_id("run", run_id))
            children = self.store.runs.find(parent=run_id, limit=MOST)
            parts = [child["id"] for child in children if "cycle" in child["config"]]
            self.store.runs.archive([run_id, *parts])
            freed = _bytes(folder) or 0
            detail = {"kind": run["kind"], "parts": parts, "bytes": freed}
            self.store.audit.note(who, "delete run", run_id, detail)
        deleted = folder.with_name(f".deleted-{run_id}-{uuid.uuid4().hex[:8]}")
        with contextlib.suppress(FileNotFoundError):
            folder.rename(deleted)  # at once, so that nothing reads half of it
        for leftover in self.settings.runs.glob(".deleted-*"):  # also of an earlier deletion that was killed
            shutil.rmtree(leftover, ignore_errors=True)
        return freed

    def model_card(self, run_id: str) -> str:
        """The model card of a run, in Markdown with the Hub's front matter."""
        run = self.get(run_id)
        return card(run, self.heldout_of(run), self.settings.backbone)

    def pack(self, run_id: str, folder: Path | str) -> Path:
        """A zip in this folder with a run's checkpoint, verified, and its model card as README.md."""
        run = self.get(run_id)
        if run["archived"]:
            raise ValueError(f"The run {run_id} was deleted: its checkpoint is gone.")
        source = self.models.folder_of(run)
        checkpoint.verify(source)
        target = Path(folder) / f"{run['kind']}-{run_id}.zip"
        with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as packed:
            readme = zipfile.ZipInfo("README.md")  # without the time: the same run gives the same bytes
            readme.external_attr = 0o644 << 16
            packed.writestr(readme, self.model_card(run_id), zipfile.ZIP_DEFLATED)
            for path in sorted(p for p in source.rglob("*") if p.is_file()):
                packed.write(path, path.relative_to(source).as_posix())
        return target


def projector_of(run: Mapping[str, Any]) -> str:
    """The id of the run that stands for a training's projector in the store."""
    return f"{run['id']}-projector" if run["kind"] == "cycle" else run["id"]


def _bytes(folder: Path) -> int | None:
    """The size of all files of a folder, or None where it is missing."""
    if not folder.is_dir():
        return None
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def changed(settings: list[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """The settings of a run's page, changed ones first."""
    return sorted(settings, key=lambda s: s["value"] == s["default"])


# ---- training in this process -------------------------------------------------------------------------------------


class Training:
    """Training in this process."""

    def __init__(self, studio: Studio, work: Callable[[str], Callable[[Job], dict[str, Any]]]) -> None:
        """studio: stages make, score and judge images with all of it. work: the function of a kind of run."""
        self.studio, self.runs, self.work = studio, studio.runs, work

    def train(
        self,
        kind: str,
        config: dict[str, Any] | None = None,
        run_id: str | None = None,
        on_progress: Report | None = None,
        stop: Stop = None,
    ) -> Run:
        """Train in this process and return the run. With `run_id` that run is begun or resumed.

        on_progress gets the reports of the run's folder. The state of a stopped run is 'stopped'.
        """
        if run_id is not None and (run := self.runs.get(run_id))["kind"] != kind:
            raise ValueError(f"The run {run_id} is a {run['kind']} training, not {kind}: name its own kind.")
        with self._alone(run_id):
            self.runs.sweep_held()
            if run_id is None:
                run_id = self.runs.new(kind, config, starts=True)
            log = RunLog(self.runs.folder(run_id))
            if self.runs.get(run_id)["state"] != "queued":
                log.start()
            run = self.studio.store.runs.claim(run_id, os.getpid())
            log.folder.mkdir(parents=True, exist_ok=True)
            job = Job(self.studio, run, asked(stop), on_progress)
            try:
                self.studio.models.diffuser()
                fields = self.work(kind)(job)
                self.studio.store.runs.update(run_id, state="done", **plain(fields))
            except Stopped:
                self._end(run_id, "stopped", "Stopped; resume it at any time.")
            except KeyboardInterrupt:
                self._end(run_id, "interrupted", "Interrupted; resume it at any time.")
                raise
            except BaseException as error:
                self._end(run_id, "failed", sentence(error)[:2000])
                raise
        return self.runs.get(run_id)

    def _end(self, run_id: str, state: str, message: str) -> None:
        (self.runs.folder(run_id) / STOP).unlink(missing_ok=True)
        self.studio.store.runs.update(run_id, state=state, message=message)

    @contextlib.contextmanager
    def _alone(self, run_id: str | None) -> Iterator[None]:
        """Holds the training lock; RunBusy where another process does."""
        for _ in range(LOCK_TRIES):
            with training_lock(self.studio.settings.home) as free:
                if free:
                    yield
                    return
            self.runs.refuse_if_busy(but=run_id)
            time.sleep(LOCK_WAIT)
        raise ValueError("Another training is on. Wait for it or stop it, then start this one.")
