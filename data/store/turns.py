"""Processes that write take turns, first come, first served.

SQLite lets whoever finds the database locked sleep and try again, for longer and longer, while who has it takes it again:
of sixteen processes that write without a pause some wait for seconds. A file lock wakes who waits, and dies with its
process. It is a courtesy to those who write: what is written is safe without it, where a file system has no such locks.
Imports take turns in the same way, on a file of their own.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from threading import Thread
from typing import IO

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]


@contextmanager
def turn(path: Path, seconds: float) -> Iterator[bool]:
    """Wait for the turn, for so long at most; False where somebody else still has it."""
    try:
        file = path.open("a")
    except OSError:  # a folder that cannot be written to
        yield True
        return
    with file:
        free = _lock(file, seconds)
        try:
            yield free
        finally:
            if free and fcntl is not None:
                with suppress(OSError):
                    fcntl.flock(file, fcntl.LOCK_UN)  # also of a process that was forked meanwhile


def _lock(file: IO[str], seconds: float) -> bool:
    """Whether nobody else has it; where a file system has no locks, that is not known, and nobody is waited for."""
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
    # there is none with a bound
    waiting = Thread(target=fcntl.flock, args=(file, fcntl.LOCK_EX), daemon=True)
    waiting.start()
    waiting.join(seconds)
    return not waiting.is_alive()
