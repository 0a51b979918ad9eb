"""`python -m studio`: the studio's services without a browser.

Every command prints a few lines for people, takes `--json FILE` for the whole result, writes its progress on one line
of stderr, and answers bad input with one sentence and exit code 2. Ctrl-C stops long work after the step it is in,
and says how to go on; a second Ctrl-C ends at once.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from studio.numbers import plain

PROGRAM = "python -m studio"
STOPPED, WRONG = 130, 2
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
        began, first = time.monotonic(), []

        def on_count(done: int, total: int) -> None:
            first.append(done) if not first else None
            made = done - first[0]
            left = (time.monotonic() - began) / made * (total - done) if made else 0.0
            self.report({"stage": stage, "step": done, "total": total, "left": left, "metrics": {}})

        return on_count

    def steps(self, stage: str) -> Callable[[Any], None]:
        """An on_progress(Progress) of core's loops."""
        return lambda p: self.report(
            {"stage": stage, "step": p.step, "total": p.total, "left": p.left, "metrics": p.metrics}
        )

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
        if self._open:
            print(file=sys.stderr, flush=True)
            self._open = False


def duration(seconds: float) -> str:
    """12 s, 3 min, 2 h 5 min."""
    minutes = round(seconds / 60)
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"


class Parser(argparse.ArgumentParser):
    """Answers bad arguments with one sentence."""

    def error(self, message: str) -> Any:
        print(
            f"{message[0].upper()}{message[1:]}. `{self.prog} --help` says what can be given.",
            file=sys.stderr,
        )
        raise SystemExit(WRONG)


def write_json(path: str, value: Any) -> None:
    """The result into FILE, whole or not at all; '-' is stdout."""
    text = json.dumps(plain(value), indent=1, ensure_ascii=False, allow_nan=False)
    if path == "-":
        print(text)
        return
    from studio.images.pictures import write

    write(Path(path), text.encode() + b"\n")


def run(given: argparse.Namespace, console: Console) -> Any:
    """The command's result. Of several processes (`accelerate launch -m studio ...`) the first does it, and the others
    help where it trains, collects or scores; they have no result."""
    if int(os.environ.get("WORLD_SIZE", "1")) < 2:
        return given.run(given, console)
    from core import ranks

    with ranks.group():
        if ranks.rank():
            console.name = f"Process {ranks.rank()}: "
            return ranks.follow(console.stop.is_set)
        try:
            return given.run(given, console)
        finally:
            ranks.dismiss()


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; the exit code."""
    from studio.cli.arguments import parser

    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("DIFFUSERS_VERBOSITY", "error")
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    given = parser(Parser, PROGRAM).parse_args(arguments)
    console = Console()
    try:
        if given.json not in (None, "-") and not Path(given.json).absolute().parent.is_dir():
            raise ValueError(f"The folder of {given.json} does not exist: make it, or give another file.")
        if threading.current_thread() is threading.main_thread():
            console.listen()
        result = run(given, console)
        console.close()
        if result is None:
            return 0
        if given.json:
            write_json(given.json, result.data)
        if given.json != "-":
            print(result.text)
        if result.again:
            console.say(f"Stopped; nothing is lost. Go on with: {result.again}")
            return STOPPED
        return 0
    except SystemExit:
        raise
    except KeyboardInterrupt:
        console.say("Ended. What was stored is kept; the same command goes on from there.")
        return STOPPED
    except Exception as error:  # noqa: BLE001 - a user sees a sentence, never a traceback
        from studio.errors import sentence

        console.say(sentence(error, paths=True))
        return WRONG


if __name__ == "__main__":
    sys.exit(main())
