"""Progress on a terminal or in a log, and the wish to stop."""

from __future__ import annotations

import signal
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

from core.progress import Progress, counter

LINE_SECONDS = 10.0  # between lines of progress where there is no terminal


class Console:
    """Progress on stderr, and the wish to stop."""

    def __init__(self) -> None:
        self.name = ""  # of a process that is not the only one, and not the first
        self.stop = threading.Event()
        self._last, self._open, self._terminal = 0.0, False, sys.stderr.isatty()

    def listen(self) -> None:
        """Let Ctrl-C (and a polite kill) ask to stop; the second one is the usual interrupt."""

        def on_signal(number: int, _frame: Any) -> None:
            if self.stop.is_set():
                raise KeyboardInterrupt
            self.stop.set()
            if not self.name:
                self.say("Stopping after this step; once more to end at once.")

        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, on_signal)

    def say(self, text: str) -> None:
        """A line of its own."""
        self.close()
        print(f"{self.name}{text}", file=sys.stderr, flush=True)

    def report(self, line: dict[str, Any]) -> None:
        """A report of work: {stage, step, total, left, metrics}."""
        figures = " ".join(f"{name} {value:.4g}" for name, value in list(line["metrics"].items())[:4])
        left = f", {duration(line['left'])} left" if line.get("left") else ""
        self._show(f"{line['stage']}: {line['step']} of {line['total']}{left} {figures}".rstrip(),
                   line["step"] >= line["total"])  # fmt: skip

    def count(self, stage: str) -> Callable[[int, int], None]:
        """An on_progress(done, total)."""
        return counter(self.steps(stage))

    def steps(self, stage: str) -> Callable[[Progress], None]:
        """An on_progress(Progress) of core's loops."""
        return lambda p: self.report({**vars(p), "stage": stage})

    def _show(self, text: str, last: bool) -> None:
        now = time.monotonic()
        if self._terminal:
            if now - self._last > 0.1 or last:
                print(f"\r\x1b[K{text[:110]}", end="", file=sys.stderr, flush=True)
                self._last, self._open = now, True
        elif now - self._last > LINE_SECONDS or last:
            print(text, file=sys.stderr, flush=True)
            self._last = now

    def close(self) -> None:
        """End the line of progress that stands on a terminal."""
        if self._open:
            print(file=sys.stderr, flush=True)
            self._open = False


def duration(seconds: float) -> str:
    """12 s, 3 min, 2 h 5 min."""
    minutes = round(seconds / 60)
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"
