"""Training jobs in processes that are forked with their imports made: a new process takes longer for these than for its work.

`Jobs` stands in for `subprocess.Popen` in an app under test, `job` in a test; both take what `studio.training.runs` gives.
"""

import multiprocessing
import os
import signal
import sys
import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from studio.__main__ import main
from tests.browser.conftest import fork


def run(arguments: list[str], env: dict[str, str], log: str) -> None:
    """The work of `python -m studio ...` in a session of its own."""
    os.setsid()
    os.environ.clear()
    os.environ.update(env)
    with open(log, "ab") as output:
        for stream in (1, 2):
            os.dup2(output.fileno(), stream)
    code = main(arguments[3:])
    sys.stdout.flush()
    os._exit(code)


def job(arguments: list[str], *, env: dict[str, str], stdout: Any, **_: Any) -> Any:
    """A process forked from one that has made the imports."""
    return fork(env, Path(os.devnull), run, arguments, env, stdout.name)


class Jobs:
    """Forks from a copy of this process as it was when this was made, which should be before it has threads."""

    def __init__(self) -> None:
        self.ours, theirs = multiprocessing.Pipe()
        self.lock = threading.Lock()
        if os.fork() == 0:
            self.ours.close()
            try:
                self.attend(theirs)
            finally:
                os._exit(0)
        theirs.close()

    def attend(self, asked: Any) -> None:
        """Fork a process for each request, until the app is gone."""
        before = signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for them
        while True:
            try:
                given = asked.recv()
            except EOFError:
                return
            pid = os.fork()
            if pid == 0:
                asked.close()
                signal.signal(signal.SIGCHLD, before)
                run(*given)
            asked.send(pid)

    def __call__(self, arguments: list[str], *, env: dict[str, str], stdout: Any, **_: Any) -> Any:
        with self.lock:
            self.ours.send((arguments, env, stdout.name))
            return SimpleNamespace(pid=self.ours.recv(), wait=lambda: 0)
