"""Grids as background work of the server: one after another, told by the store, stopped between steps.

A process that works on a grid, or has it waiting, holds the grid's lock file; the system frees it when the process dies,
so that whoever looks next knows that the grid was interrupted. Pages and command lines read the store.
"""

from __future__ import annotations

import contextlib
import contextvars
import logging
import os
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from core.training.loop import Stopped
from data.store import Store, StoreError
from studio.processes import alive
from studio.settings import Settings

if TYPE_CHECKING:
    from studio.grids.cells import Cells

try:
    import fcntl
except ImportError:  # Windows: a living process id is all there is to go by
    fcntl = None  # type: ignore[assignment]

log = logging.getLogger("studio")
STOPPED = "Stopped; what was made is kept. Go on with it at any time."
INTERRUPTED = "The studio ended before the grid was done. Go on with it: nothing that was made is lost."
PACE = 3  # the latest batches, by which the time left is told


def claim(home: Path, id: str) -> IO[str] | None:
    """The open lock file of a grid, to be kept open while its work lasts; None where another process has it."""
    folder = home / "grids"
    folder.mkdir(parents=True, exist_ok=True)
    file = (folder / f"{id}.lock").open("a+")
    try:
        if fcntl is not None:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        else:
            file.seek(0)
            other = file.read(20).strip()
            if other.isdecimal() and int(other) != os.getpid() and alive(int(other)):
                raise OSError
    except OSError:
        file.close()
        return None
    with contextlib.suppress(OSError):  # a full disk; it is written for people, and for Windows
        file.truncate(0)
        file.write(f"{os.getpid()}\n")
        file.flush()
    return file


@dataclass
class Job:
    """A grid that this process works on or has waiting."""

    id: str
    lock: IO[str]
    wish: Path  # a file by which another process asks it to stop
    context: contextvars.Context
    stop: threading.Event = field(default_factory=threading.Event)
    pace: deque[tuple[float, int]] = field(default_factory=lambda: deque(maxlen=PACE))  # seconds, images
    missing: int = 0  # images that are still to be made
    note: str = ""  # what was left undone
    mute: bool = False  # the scorer's server is down, and not asked again

    def halt(self) -> bool:
        """Whether it was asked to stop."""
        return self.stop.is_set() or self.wish.exists()

    def paced(self, seconds: float, images: int) -> None:
        self.pace.append((seconds, images))

    @property
    def left(self) -> float | None:
        """Seconds until it is done, as the latest batches went; None before the first."""
        images = sum(count for _, count in self.pace)
        return sum(seconds for seconds, _ in self.pace) / images * self.missing if images else None


class GridWork:
    """The grids of this process: a thread that works on them in turn, there only while there are any."""

    def __init__(self) -> None:
        self.jobs: dict[str, Job] = {}
        self.ends: dict[str, tuple[str, str]] = {}  # what the store could not take (a full disk)
        self._lock, self._waiting, self._thread = threading.Lock(), deque[Job](), None

    def add(self, cells: Cells, id: str, lock: IO[str], work: Callable[[Cells, Job], None]) -> None:
        """Work on a grid once those before it are done. lock: as `claim` gave it."""
        # in the context of who asks: a Space reads from it on whose account a GPU is lent
        job = Job(id, lock, stop_file(cells.settings.home, id), contextvars.copy_context())
        job.wish.unlink(missing_ok=True)
        with self._lock:
            self.jobs[id] = job
            self.ends.pop(id, None)
            self._waiting.append(job)
            if self._thread is None:
                self._thread = threading.Thread(
                    target=self._run, args=(cells, work), name="grids", daemon=True
                )
                self._thread.start()

    def wait(self, id: str, seconds: float) -> bool:
        """Wait for a grid's end, so long at most; whether it has ended."""
        until = time.monotonic() + seconds
        while id in self.jobs and time.monotonic() < until:
            time.sleep(0.02)
        return id not in self.jobs

    def _run(self, cells: Cells, work: Callable[[Cells, Job], None]) -> None:
        while True:
            with self._lock:
                if not self._waiting:
                    self._thread = None
                    return
                job = self._waiting.popleft()
            job.context.run(self._one, cells, job, work)

    def _one(self, cells: Cells, job: Job, work: Callable[[Cells, Job], None]) -> None:
        from studio.errors import sentence  # it imports those who use this

        try:
            if job.halt():
                raise Stopped
            cells.store.grids.update(job.id, "running")
            work(cells, job)
            end = ("failed", job.note) if job.note else ("done", "")
        except Stopped:
            end = ("stopped", STOPPED)
        except BaseException as error:  # noqa: BLE001 - the page says what it was
            end = ("failed", f"{sentence(error)} What was made is kept; go on with it at any time."[:2000])
        try:
            cells.store.grids.update(job.id, *end)
        except Exception as error:  # noqa: BLE001 - for example the disk is full: told from memory until it is not
            log.error("The end of the grid %s could not be stored: %s", job.id, error)
            self.ends[job.id] = end
        with contextlib.suppress(OSError):
            job.wish.unlink(missing_ok=True)
        with self._lock:
            del self.jobs[job.id]
        with contextlib.suppress(OSError):
            job.lock.close()

    def end_of(self, grid: dict[str, Any]) -> tuple[str, str]:
        """State and message of a grid's row, or those that the store could not take."""
        on = grid["state"] in ("queued", "running")
        return self.ends.get(grid["id"] if on else "", (grid["state"], grid["message"]))


def stop_file(home: Path, id: str) -> Path:
    return home / "grids" / f"{id}.stop"


def sweep(settings: Settings, store: Store, work: GridWork) -> None:
    """Mark the grids whose process is gone as interrupted."""
    with contextlib.suppress(StoreError, OSError):  # looking goes on where nothing can be written
        for state in ("running", "queued"):
            for grid in store.grids.find(state=state, limit=1000):
                if grid["id"] in work.jobs:
                    continue
                lock = claim(settings.home, grid["id"])
                if lock is None:
                    continue
                with contextlib.closing(lock):
                    if store.grids.get(grid["id"])["state"] == state:
                        end = work.ends.get(grid["id"], ("interrupted", INTERRUPTED))
                        store.grids.update(grid["id"], *end)
                        work.ends.pop(grid["id"], None)
