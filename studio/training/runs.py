"""Training runs as the user knows them: make, run, watch, evaluate, promote, roll back, compare, delete.

One training at a time, across processes. A run that was stopped or killed goes on from where it was: its stages and
their states are in its folder. Promoting is never automatic. A run that is deleted loses its files and stays in the store,
archived: samples and other runs name it.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import time
import uuid
import zipfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from core import checkpoint
from core.training.loop import Progress, Stopped
from data.store import Store
from data.store.runs import RunBusy
from studio.access.identity import check_name
from studio.images.models import SHIPPED, Models
from studio.images.scoring import Stop, asked
from studio.numbers import plain, shown
from studio.processes import alive
from studio.settings import Settings
from studio.training import jobs, modelcard
from studio.training.configs import FIELDS, Kind, with_own
from studio.training.runlog import HEARTBEAT_SECONDS, Report, RunLog, training_lock

if TYPE_CHECKING:
    from studio.studio import Studio

MOST = 1000  # runs of a family that are looked through
PROJECTS = ("cycle", "projector", "warmup")  # kinds that make a projector
LOCK_TRIES, LOCK_WAIT = 20, 0.1  # a sweep holds the lock for a moment


class Job:
    """A run that is on: what its stages need to know of it."""

    def __init__(
        self, studio: Studio, run: dict[str, Any], stop: Callable[[], bool], also: Report | None
    ) -> None:
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
        """An on_progress for a stage: reports, and shows the store that the run is alive."""

        def on_progress(progress: Progress) -> None:
            self.log.report(stage, progress, self._also)
            if time.monotonic() - self._beat > HEARTBEAT_SECONDS:
                self._beat = time.monotonic()
                self.studio.store.runs.update(self.run["id"], heartbeat="now")

        return on_progress

    def counter(self, stage: str) -> Callable[[int, int], None]:
        """The like for work that counts done and total."""
        began, report = time.monotonic(), self.watch(stage)
        first: list[int] = []

        def on_count(done: int, total: int) -> None:
            first.append(done) if not first else None
            seconds, made = time.monotonic() - began, done - first[0]
            left = seconds / made * (total - done) if made > 0 else 0.0
            report(Progress(done, max(total, 1), {}, seconds, left))

        return on_count

    def stoppable(self, stage: str) -> Callable[[int, int], None]:
        """`counter` for work that cannot be asked to stop: it raises Stopped from within."""
        count = self.counter(stage)

        def on_count(done: int, total: int) -> None:
            count(done, total)
            self.check()

        return on_count

    def stage(self, name: str, work: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        """The result of a stage, done now or when the run was on before."""
        done = self.log.done()
        if name in done:
            return done[name]
        self.check()
        return self.log.finish(name, work())


class Runs:
    """Runs as the user knows them: made, looked at, put into use."""

    def __init__(self, settings: Settings, store: Store, models: Models, kinds: Mapping[str, Kind]) -> None:
        self.settings, self.store, self.models, self.kinds = settings, store, models, kinds

    def defaults(self, kind: str) -> dict[str, tuple[Any, str]]:
        """The settings of a kind of training: {name: (default, meaning)}."""
        found = self.checked(kind)
        return {name: (found[name], field.meaning) for name, field in FIELDS[kind].items()}

    def folder(self, run_id: str) -> Path:
        return self.settings.runs / run_id

    def new(self, kind: str, config: dict[str, Any] | None = None, starts: bool = False) -> str:
        """A queued run with its configuration, its labels and what was in use when it was made; its id. starts: this
        process begins it at once; RunBusy where another is on, of all who ask at once for all but one."""
        checked = self.checked(kind, config)
        sources = {"all": None, "vlm": ["vlm"], "corrections": ["human", "confirmed", "simulated"]}[
            checked.get("sources", "all")
        ]
        # a cycle fits a calibrator of its own first
        calibrated = (
            kind == "reward" and checked["calibrated"] and self.store.runs.promoted("calibrator") is not None
        )
        labels = None  # a round learns nothing
        if kind != "round":
            labels = self.store.labels.snapshot(split="train", sources=sources, include_calibrated=calibrated)
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
        """The whole configuration of a kind; ValueError for a bad one. Sampling is the backbone's own if none was chosen."""
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

    # -- results

    def find(self, **filters: Any) -> list[dict[str, Any]]:
        """Runs, the newest first, those whose process died marked as interrupted."""
        jobs.sweep(self)
        return self.store.runs.find(**filters)

    def get(self, id: str) -> dict[str, Any]:
        """A run; ValueError where there is none."""
        return self.store.runs.get(id)

    def promote(self, run_id: str, who: str, force: bool = False) -> dict[str, Any]:
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

    def why_not(self, run: dict[str, Any]) -> str:
        """The sentence for which a run should not be promoted, or ''."""
        heldout, kind = (run["metrics"] or {}).get("heldout"), run["kind"]
        end = "Promote it all the same only if you know why."
        nobody = f"The run {run['id']} has no held-out result, so nobody knows whether it is better. {end}"
        if not heldout:
            return nobody
        promoted = self.store.runs.promoted("projector" if kind == "cycle" else kind)
        in_use = promoted["id"] if promoted else None
        difference = heldout["difference"]["words"]["estimate"]
        measured_against = (run["config"].get("used") or {}).get("projector" if kind == "cycle" else kind)
        if kind in ("projector", "reward", "cycle", "lora") and in_use not in (measured_against, run["id"]):
            theirs = self.heldout_of(promoted) if promoted else None
            if theirs is None or theirs["key"] != heldout["key"]:
                return (
                    f"The run {run['id']} was measured against another model than the one now in use ({in_use or 'shipped'}), "
                    f"so nobody knows whether it is better. {end}"
                )
            pair = [found["after"]["words"]["estimate"] for found in (heldout, theirs)]
            difference = None if None in pair else pair[0] - pair[1]
        if difference is None:  # the scorer, who is the judge, could read none of the images
            return nobody
        if difference < 0:
            return (
                f"On held-out {heldout['of']} the run {run['id']} is worse than what is in use "
                f"(by {-difference:.4f}). {end}"
            )
        whole = heldout["difference"].get("clean") or {}
        if in_use == measured_against and whole.get("high") is not None and whole["high"] < 0:
            return (
                f"Of the held-out images of the run {run['id']} fewer are whole than of what is in use, by "
                f"{-100 * whole['estimate']:.1f} points: words hold, and things are there that nobody asked for. {end}"
            )
        return ""

    def heldout_of(self, run: dict[str, Any]) -> dict[str, Any] | None:
        """The held-out result of a run, or of the cycle that it is a part of."""
        found = (run["metrics"] or {}).get("heldout")
        if not found and run["parent"]:
            parent = self.get(run["parent"])
            found = (parent["metrics"] or {}).get("heldout") if parent["kind"] == "cycle" else None
        return found

    def _parts(self, run: dict[str, Any]) -> list[dict[str, Any]]:
        """The runs of a cycle's own models that can be put into use."""
        if run["kind"] != "cycle":
            return []
        return [
            child
            for child in self.store.runs.find(parent=run["id"])
            if (child["metrics"] or {}).get("use", True)
        ]

    def rollback(self, kind: str, who: str) -> dict[str, Any] | None:
        """Back to what was in use before; that run, or None for what the project ships."""
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
            found = self.store.runs.rollback(kind, who)
            self.store.audit.note(who, "rollback", kind)
        return found

    # -- the page of a run

    def page(self, run_id: str) -> dict[str, Any]:
        """{run, settings: [{name, value, default, meaning}], parents: nearest first, children, promotions: its own events,
        bytes: of its files | None, part_of: the loop that it belongs to | None}; ValueError where there is no such run."""
        run = self.get(run_id)
        fields = FIELDS.get(run["kind"], {})
        given = {k: v for k, v in run["config"].items() if k not in ("used", "cycle", "source", "name")}
        settings = [
            {
                "name": name,
                "value": value,
                "default": fields[name].default if name in fields else None,
                "meaning": fields[name].meaning if name in fields else "",
            }
            for name, value in given.items()
        ]
        promotions = [e for e in self.store.runs.promotions(run["kind"], MOST) if e["run"] == run_id]
        return {
            "run": run,
            "settings": settings,
            "parents": self._parents(run),
            "children": self.store.runs.find(parent=run_id, limit=MOST, archived=True),
            "promotions": promotions,
            "bytes": None if run["archived"] else _bytes(self.folder(run_id)),
            "part_of": run["config"].get("cycle"),
        }

    def _parents(self, run: dict[str, Any]) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = []
        while run["parent"] and len(found) < MOST:
            run = self.get(run["parent"])
            found.append(run)
        return found

    def sample_methods(self, run_id: str) -> list[str]:
        """The projector before and this run's, as ``check_grid`` takes them; none where the run makes no projector."""
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
        last = [(run["labels"] or {}).get("last") for run in runs]
        heldout = [self.heldout_of(run) for run in runs]
        why = ""
        if None in heldout:
            missing = " and ".join(run["id"] for run, found in zip(runs, heldout, strict=True) if not found)
            why = f"There is no held-out result of {missing}."
        elif heldout[0]["key"] != heldout[1]["key"]:
            why = "They were judged on other prompts, seeds or settings, so their figures say nothing of each other."
        return {
            "runs": runs,
            "settings": [{"name": n, "values": v, "differ": v[0] != v[1]} for n, v in rows],
            "labels": [(run["labels"] or {}).get("sources", {}) for run in runs],
            "events": None if None in last else abs(last[1] - last[0]),
            "heldout": heldout,
            "comparable": not why,
            "why": why,
        }

    def delete(self, run_id: str, who: str) -> int:
        """Delete a run's files, its parts' with it, and archive it; how many bytes that freed. ValueError for what is on,
        in use or part of a loop."""
        who = check_name(who)
        jobs.sweep(self)
        with self.store.database.writing():
            run = self.get(run_id)
            if run["config"].get("source") == "shipped":
                raise ValueError("This is what the project ships: it cannot be deleted.")
            if loop := run["config"].get("cycle"):
                raise ValueError(f"The run {run_id} is a part of the loop {loop}: delete that.")
            parts = [
                c["id"] for c in self.store.runs.find(parent=run_id, limit=MOST) if "cycle" in c["config"]
            ]
            self.store.runs.archive([run_id, *parts])
            folder = self.folder(run_id)
            freed = _bytes(folder) or 0
            self.store.audit.note(
                who, "delete run", run_id, {"kind": run["kind"], "parts": parts, "bytes": freed}
            )
        gone = folder.with_name(f".deleted-{run_id}-{uuid.uuid4().hex[:8]}")
        with contextlib.suppress(FileNotFoundError):
            folder.rename(gone)  # at once, so that nothing reads half of it
        for left in self.settings.runs.glob(".deleted-*"):  # also what an earlier, killed deletion has left
            shutil.rmtree(left, ignore_errors=True)
        return freed

    def model_card(self, run_id: str) -> str:
        """The model card of a run, in Markdown with the Hub's front matter."""
        run = self.get(run_id)
        return modelcard.card(run, self.heldout_of(run), self.settings.backbone)

    def pack(self, run_id: str, folder: Path | str) -> Path:
        """A zip in this folder with a run's checkpoint, verified, and its model card as README.md."""
        run = self.get(run_id)
        if run["archived"]:
            raise ValueError(f"The run {run_id} was deleted: its checkpoint is gone.")
        source = self.models.folder_of(run)
        checkpoint.verify(source)
        target = Path(folder) / f"{run['kind']}-{run_id}.zip"
        with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as packed:
            card = zipfile.ZipInfo("README.md")  # without the time: the same run gives the same bytes
            card.external_attr = 0o644 << 16
            packed.writestr(card, self.model_card(run_id), zipfile.ZIP_DEFLATED)
            for path in sorted(p for p in source.rglob("*") if p.is_file()):
                packed.write(path, path.relative_to(source).as_posix())
        return target


def projector_of(run: Mapping[str, Any]) -> str:
    """The run under which a training's projector stands in the store."""
    return f"{run['id']}-projector" if run["kind"] == "cycle" else run["id"]


def _bytes(folder: Path) -> int | None:
    """The size of all files of a folder, or None where it is not there."""
    if not folder.is_dir():
        return None
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def changed(settings: list[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Of a run page's settings those that are not the default, first; then the others."""
    return sorted(settings, key=lambda s: s["value"] == s["default"])


class Training:
    """Trains and evaluates in this process."""

    def __init__(self, studio: Studio, work: Callable[[str], Callable[[Job], dict[str, Any]]]) -> None:
        """studio: the stages of a training make, score and judge images with all of it. work: what a kind of run does."""
        self.studio, self.runs, self.work = studio, studio.runs, work

    def train(
        self,
        kind: str,
        config: dict[str, Any] | None = None,
        run_id: str | None = None,
        on_progress: Report | None = None,
        stop: Stop = None,
    ) -> dict[str, Any]:
        """Train in this process and return the run. With `run_id` that run is begun or gone on with.

        on_progress gets the reports of the run's folder. Stopped, the run's state is 'stopped'.
        """
        if run_id is not None and (run := self.runs.get(run_id))["kind"] != kind:
            raise ValueError(f"The run {run_id} is a {run['kind']} training, not {kind}: name its own kind.")
        with self._alone(run_id):
            jobs.sweep_held(self.runs)
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
                found = self.work(kind)(job)
                self.studio.store.runs.update(run_id, state="done", **plain(found))
            except Stopped:
                self._end(run_id, "stopped", "Stopped; go on with it at any time.")
            except KeyboardInterrupt:
                self._end(run_id, "interrupted", "Interrupted; go on with it at any time.")
                raise
            except BaseException as error:
                from studio.errors import sentence

                self._end(run_id, "failed", sentence(error)[:2000])
                raise
        return self.runs.get(run_id)

    def _end(self, run_id: str, state: str, message: str) -> None:
        (self.runs.folder(run_id) / "stop").unlink(missing_ok=True)
        self.studio.store.runs.update(run_id, state=state, message=message)

    @contextlib.contextmanager
    def _alone(self, run_id: str | None) -> Iterator[None]:
        """Held while this process trains; RunBusy where another process does."""
        for _ in range(LOCK_TRIES):
            with training_lock(self.studio.settings.home) as free:
                if free:
                    yield
                    return
            self.runs.refuse_if_busy(but=run_id)
            time.sleep(LOCK_WAIT)
        raise ValueError("Another training is on. Wait for it or stop it, then start this one.")
