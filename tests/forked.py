"""Work in a process of its own, a copy of this one: a new one would first import for a second."""

import multiprocessing
import os
import signal
from collections.abc import Callable
from typing import Any


def forked(work: Callable[..., Any], *given: Any) -> multiprocessing.Process:
    """A process that does this; it has begun."""
    process = multiprocessing.get_context("fork").Process(target=work, args=given, daemon=True)
    process.start()
    return process  # type: ignore[return-value]


def killed(work: Callable[..., Any], *given: Any) -> None:
    """Do this in a process that is killed (SIGKILL) in the midst of it: by itself, through ``die``."""
    process = forked(work, *given)
    process.join()
    assert process.exitcode == -signal.SIGKILL, process.exitcode


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)
