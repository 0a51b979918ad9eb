"""`python -m studio`: the studio's services without a browser.

Every command prints a few lines for people, takes `--json FILE` for the whole result, writes its progress on one line
of stderr, and answers bad input with one sentence and exit code 2. Ctrl-C stops long work after the step it is in,
and says how to go on; a second Ctrl-C ends at once.
"""

from __future__ import annotations

import json
import logging
import os
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from studio.cli.application import Call, WrongArguments, parse
from studio.cli.console import Console
from studio.doors import Result
from studio.numbers import plain

STOPPED, WRONG = 130, 2


def write_json(path: str, value: Any) -> None:
    """The result into FILE, whole or not at all; '-' is stdout."""
    text = json.dumps(plain(value), indent=1, ensure_ascii=False, allow_nan=False)
    if path == "-":
        print(text)
        return
    from studio.images.pictures import write

    write(Path(path), text.encode() + b"\n")


def run(call: Call, console: Console) -> Result | None:
    """The command's result. Of several processes (`accelerate launch -m studio ...`) the first does it, and the others
    help where it trains, collects or scores; they have no result."""
    if int(os.environ.get("WORLD_SIZE", "1")) < 2:
        return call.run(console)
    from core import ranks

    with ranks.group():
        if ranks.rank():
            console.name = f"Process {ranks.rank()}: "
            ranks.follow(console.stop.is_set)
            return None
        try:
            return call.run(console)
        finally:
            ranks.dismiss()


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; the exit code."""
    try:
        call = parse(arguments)
    except WrongArguments as error:
        print(error, file=sys.stderr)
        return WRONG
    if call is None:
        return 0
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("DIFFUSERS_VERBOSITY", "error")
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    console = Console()
    try:
        if call.json and call.json != "-" and not Path(call.json).absolute().parent.is_dir():
            raise ValueError(f"The folder of {call.json} does not exist: make it, or give another file.")
        if threading.current_thread() is threading.main_thread():
            console.listen()
        result = run(call, console)
        console.close()
        if result is None:
            return 0
        if call.json:
            write_json(call.json, result.data)
        if call.json != "-":
            print(result.text)
        if result.again:
            console.say(f"Stopped; nothing is lost. Go on with: {result.again}")
            return STOPPED
        return 0
    except KeyboardInterrupt:
        console.say("Ended. What was stored is kept; the same command goes on from there.")
        return STOPPED
    except Exception as error:  # noqa: BLE001 - a user sees a sentence, never a traceback
        from studio.errors import sentence

        console.say(sentence(error, paths=True))
        return WRONG


if __name__ == "__main__":
    sys.exit(main())
