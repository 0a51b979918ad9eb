"""Progress of long work, and how it is stopped."""

from __future__ import annotations

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


class Stopped(Exception):
    """Raised where work was asked to stop, and what it made so far is safe."""


OnProgress = Callable[[Progress], None] | None
Stop = Callable[[], bool] | None  # asked between steps whether to stop
