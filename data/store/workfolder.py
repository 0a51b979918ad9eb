"""Folders for files that are only needed for a while, beside what they are for. Whoever makes one holds a lock in it, which
the system frees when the process dies, however it dies: so ``sweep`` takes away what was left behind, and nothing else."""

from __future__ import annotations

import contextlib
import shutil
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

try:
    import fcntl
except ImportError:  # Windows: what is old enough was left behind
    fcntl = None  # type: ignore[assignment]

OLD = 86400.0  # seconds
# what versions before this one, and whoever is killed while it writes a file beside its place, leave without a lock
UNLOCKED = (
    ".restore-*.db*", "restore-*", "backup-*", "backups/*.partial", ".*.tmp", "secret.*.tmp", "images/*/.*.tmp", "runs/*/.*.tmp",
    "runs/*/*/.*.tmp",
)  # fmt: skip


@contextlib.contextmanager
def work_folder(parent: Path) -> Iterator[Path]:
    """An empty folder in ``parent``; it and all in it goes afterwards."""
    while True:
        folder = parent / f".work-{uuid.uuid4().hex[:8]}"
        folder.mkdir()
        with contextlib.suppress(FileNotFoundError):  # swept before it was locked
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
    """Take away the work folders of processes that are gone, and old files that no lock tells anything of."""
    for folder in home.glob(".work-*"):
        with (
            contextlib.suppress(OSError),
            (folder / "lock").open("a") as lock,
        ):  # OSError: somebody works in it
            if fcntl is not None:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if fcntl is not None or _old(folder):
                shutil.rmtree(folder, ignore_errors=True)
    for left in (path for pattern in UNLOCKED for path in home.glob(pattern)):
        with contextlib.suppress(OSError):
            if _old(left):
                shutil.rmtree(left) if left.is_dir() else left.unlink()


def _old(path: Path) -> bool:
    return time.time() - path.stat().st_mtime > OLD
