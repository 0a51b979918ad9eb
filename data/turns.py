"""Processes that write take turns, first come, first served.

SQLite lets whoever finds the database locked sleep and try again, for longer and longer, while who has it takes it again:
of sixteen processes that write without a pause some wait for seconds. A file lock wakes who waits, and dies with its
process. It is a courtesy: what is written is safe without it, where a file system has no such locks.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Thread
from typing import IO

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]


@contextmanager
def turn(path: Path, seconds: float) -> Iterator[None]:
    """Wait for the turn, for so long at most; whoever waits in vain asks SQLite, which says so."""
    try:
        file = path.open("a")
    except OSError:  # a folder that cannot be written to
        yield
        return
    with file:
        locked = _lock(file, seconds)
        try:
            yield
        finally:
            if locked:
                fcntl.flock(file, fcntl.LOCK_UN)  # also of a process that was forked meanwhile


def _lock(file: IO[str], seconds: float) -> bool:
    if fcntl is None:
        return False
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return True
    except BlockingIOError:
        pass
    except OSError:
        return False
    # there is none with a bound
    waiting = Thread(target=fcntl.flock, args=(file, fcntl.LOCK_EX), daemon=True)
    waiting.start()
    waiting.join(seconds)
    return not waiting.is_alive()
