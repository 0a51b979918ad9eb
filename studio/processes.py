"""Processes of this machine."""

from __future__ import annotations

import os


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
