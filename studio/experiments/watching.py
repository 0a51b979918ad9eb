"""Progress of work that is no run, and how it is stopped."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from core.progress import Progress, Stopped


@dataclass(frozen=True)
class Watching:
    """on_progress gets {stage, step, total, left, metrics}; stop() says whether to stop."""

    on_progress: Callable[[dict[str, Any]], None] | None
    stop: Callable[[], bool]

    def report(self, stage: str, step: int, total: int, left: float = 0.0, metrics: Any = None) -> None:
        """Report the progress of a stage."""
        if self.on_progress:
            line = {"stage": stage, "step": step, "total": total, "left": left, "metrics": metrics or {}}
            self.on_progress(line)

    def watch(self, stage: str) -> Callable[[Progress], None]:
        """An on_progress for a training or an experiment."""
        return lambda p: self.report(stage, p.step, p.total, p.left, p.metrics)

    def counter(self, stage: str) -> Callable[[int, int], None]:
        """An on_progress for work that counts done and total."""
        return lambda done, total: self.report(stage, done, total)

    def check(self) -> None:
        """Raise Stopped where the work was asked to stop."""
        if self.stop():
            raise Stopped
