"""File locks: turns between processes, and work folders that are removed when their process is gone.

SQLite has a process that finds the database locked sleep and retry, for longer and longer, while the holder may take the lock
again: of sixteen processes that write without a pause, some wait for seconds. A file lock wakes who waits, and is freed with
its process. It only makes waiting fair: where a file system has no such locks, what is written is safe without it.
"""

from __future__ import annotations

import shutil
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from threading import Thread
from typing import IO

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]  # a module elsewhere

OLD = 86400.0  # seconds after which an unlocked temporary file was left behind
# temporary files that earlier versions, or a process killed while it writes a file beside its place, leave without a lock
UNLOCKED = (
    ".restore-*.db*", "restore-*", "backup-*", "backups/*.partial", ".*.tmp", "secret.*.tmp", "images/*/.*.tmp", "runs/*/.*.tmp",
    "runs/*/*/.*.tmp",
)  # fmt: skip


@contextmanager
def turn(path: Path, seconds: float) -> Iterator[bool]:
    """Wait for the turn on a lock file, for so long at most, first come, first served; False where it is still taken."""
    try:
        file = path.open("a")
    except OSError:  # a folder that cannot be written to
        yield True
        return
    with file:
        acquired = _lock(file, seconds)
        try:
            yield acquired
        finally:
            if acquired and fcntl is not None:
                with suppress(OSError):
                    fcntl.flock(file, fcntl.LOCK_UN)  # also that of a process forked meanwhile


def _lock(file: IO[str], seconds: float) -> bool:
    """Lock the file; False where another process holds it. True where the file system has no locks."""
    if fcntl is None:
        return True
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return True
    except BlockingIOError:
        if seconds <= 0:
            return False
    except OSError:
        return True
    # flock has no timeout
    waiting = Thread(target=fcntl.flock, args=(file, fcntl.LOCK_EX), daemon=True)
    waiting.start()
    waiting.join(seconds)
    return not waiting.is_alive()


@contextmanager
def work_folder(parent: Path) -> Iterator[Path]:
    """A temporary folder in ``parent``, with a lock in it for as long as its process lives."""
    while True:
        folder = parent / f".work-{uuid.uuid4().hex[:8]}"
        folder.mkdir()
        with suppress(FileNotFoundError):  # swept before it was locked
            lock = (folder / "lock").open("w")
            if fcntl is not None:
                fcntl.flock(lock, fcntl.LOCK_EX)
            if (folder / "lock").exists():
                break
            lock.close()
    try:
        yield folder
    finally:
        lock.close()
        shutil.rmtree(folder, ignore_errors=True)


def sweep(home: Path) -> None:
    """Remove the work folders of processes that are gone, and old temporary files that no lock protects."""
    for folder in home.glob(".work-*"):
        with suppress(OSError), (folder / "lock").open("a") as lock:  # OSError: it is in use
            if fcntl is not None:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if fcntl is not None or _old(folder):
                shutil.rmtree(folder, ignore_errors=True)
    for path in (path for pattern in UNLOCKED for path in home.glob(pattern)):
        with suppress(OSError):
            if _old(path):
                shutil.rmtree(path) if path.is_dir() else path.unlink()


def _old(path: Path) -> bool:
    return time.time() - path.stat().st_mtime > OLD
