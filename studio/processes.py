"""Processes of this machine, and the lock files by which they keep out of each other's way."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import IO

try:
    import fcntl
except ImportError:  # Windows: a lock is held by the living process whose id is in the file
    fcntl = None  # type: ignore[assignment]  # to mypy a module is never None


def alive(pid: int) -> bool:
    """Whether there is a process with this id."""
    if pid <= 0:
        return False
    if pid == os.getpid():  # on Windows the question itself would interrupt it
        return True
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True


def lock(path: Path) -> IO[str] | None:
    """The locked file, with this process's id in it, for `unlock`; None where another process holds the lock. The system
    frees it when the process dies, so nobody has to guess from a process id whether the work is still going on."""
    path.parent.mkdir(parents=True, exist_ok=True)
    file = path.open("a+")
    try:
        if fcntl is not None:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        else:
            file.seek(0)
            holder = file.read(20).strip()
            if holder.isdecimal() and int(holder) != os.getpid() and alive(int(holder)):
                raise OSError
    except OSError:
        file.close()
        return None
    with contextlib.suppress(OSError):  # a full disk; the id is written for people, and for Windows
        file.truncate(0)
        file.write(f"{os.getpid()}\n")
        file.flush()
    return file


def unlock(file: IO[str]) -> None:
    """Release a lock, also in a process that was forked while it was held."""
    with contextlib.suppress(OSError):
        if fcntl is not None:
            fcntl.flock(file, fcntl.LOCK_UN)
        file.close()
