"""What a run leaves on disk while it goes on, for whoever watches it: progress, the wish to stop, who is training.

A run folder holds progress.jsonl (a line a report), log.txt (what the process printed), stages.json (what is done),
the states of its stages, and its checkpoints. All of it is written by the one process that trains and read by any.
"""

from __future__ import annotations

import contextlib
import json
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from core.jsonfile import parsed, read_or
from core.training.loop import Progress
from data.store.checks import any_text, count, each, figure, maybe, record
from studio.images import pictures
from studio.numbers import plain

try:
    import fcntl
except ImportError:  # Windows: the store's claim is then the only guard
    fcntl = None  # type: ignore[assignment]

PROGRESS, LOG, STAGES, STOP = "progress.jsonl", "log.txt", "stages.json", "stop"
REPORT = record(
    {"stage": any_text, "step": count, "total": count},
    {"left": maybe(figure), "metrics": each(maybe(figure)), "time": figure},
)
REPORT_SECONDS, HEARTBEAT_SECONDS = 0.5, 5.0

Report = Callable[[dict[str, Any]], None]


def locks_work() -> bool:
    """Whether the system has file locks that die with their process."""
    return fcntl is not None


@contextlib.contextmanager
def training_lock(home: Path) -> Iterator[bool]:
    """Held by the process that trains; False where another one has it. The system frees it when a process dies, so
    nobody has to guess from a process id whether a run is alive."""
    home.mkdir(parents=True, exist_ok=True)
    with (home / "training.lock").open("a+") as file:
        if fcntl is None:
            yield True
            return
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            yield False
            return
        try:
            file.truncate(0)
            file.write(f"{os.getpid()}\n")
            file.flush()
            yield True
        finally:
            fcntl.flock(file, fcntl.LOCK_UN)


class RunLog:
    """The folder of one run."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._reported = 0.0

    def start(self) -> None:
        """Make the folder, and forget an old wish to stop."""
        self.folder.mkdir(parents=True, exist_ok=True)
        (self.folder / STOP).unlink(missing_ok=True)

    def ask_to_stop(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        (self.folder / STOP).touch()

    def stop_asked(self) -> bool:
        return (self.folder / STOP).exists()

    # -- progress

    def report(self, stage: str, progress: Progress, also: Report | None = None) -> None:
        """A step of a stage: written twice a second and at the stage's end."""
        now = time.monotonic()
        if now - self._reported < REPORT_SECONDS and progress.step < progress.total:
            return
        self._reported = now
        line = {
            "time": time.time(),
            "stage": stage,
            "step": progress.step,
            "total": progress.total,
            "left": round(progress.left, 1),
            "metrics": plain({name: round(float(value), 6) for name, value in progress.metrics.items()}),
        }
        with (self.folder / PROGRESS).open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")
        if also:
            also(line)

    def progress(self, most: int = 2000) -> list[dict[str, Any]]:
        """The reports, oldest first, thinned to about `most`; a line that is no report is left out."""
        try:
            raw = (self.folder / PROGRESS).read_bytes().split(b"\n")
        except OSError:
            return []
        found = []
        for line in raw:
            with contextlib.suppress(ValueError):
                report = parsed(line, dict, PROGRESS)
                REPORT("report", report)
                found.append(report)
        every = max(1, -(-len(found) // most))
        return found[::every] + (found[-1:] if found and (len(found) - 1) % every else [])

    def tail(self, most: int = 2000) -> str:
        """The end of what the process printed."""
        try:
            return (self.folder / LOG).read_bytes()[-most:].decode("utf-8", "replace")
        except OSError:
            return ""

    # -- stages that are done

    def done(self) -> dict[str, Any]:
        """Results of the stages that were finished, by name. What is damaged costs time, nothing else."""
        found = read_or({}, self.folder / STAGES)
        return {stage: result for stage, result in found.items() if isinstance(result, dict)}

    def finish(self, stage: str, result: dict[str, Any]) -> dict[str, Any]:
        """Note a stage as done, so that a run that goes on does not repeat it."""
        pictures.write(
            self.folder / STAGES, json.dumps({**self.done(), stage: plain(result)}, indent=1).encode()
        )
        return self.done()[stage]
