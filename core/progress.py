"""Progress of long work, and how it is stopped."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Progress:
    """The state of work after a step. `seconds` and `left` are of this process."""

    step: int
    total: int
    metrics: dict[str, float]
    seconds: float
    left: float


def counter(report: Callable[[Progress], None]) -> Callable[[int, int], None]:
    """An on_progress(done, total) that reports counted work; the time that is left is estimated from what was done since
    the first call."""
    began = time.monotonic()
    first: int | None = None

    def on_count(done: int, total: int) -> None:
        nonlocal first
        first = done if first is None else first
        seconds, made = time.monotonic() - began, done - first
        left = seconds / made * (total - done) if made > 0 else 0.0
        report(Progress(done, max(total, 1), {}, seconds, left))

    return on_count


class Stopped(Exception):
    """Raised where work was asked to stop, and what it made so far is safe."""


OnProgress = Callable[[Progress], None] | None
Stop = Callable[[], bool] | None  # asked between steps whether to stop
