"""What is left open by things that were made and closed: ``python -m tests.reliability.leaks FOLDER page 30``.

Prints the file descriptors and threads of this process after the first cycle and after the last. It is a process of its
own, as others' threads would end meanwhile.
"""

import gc
import json
import os
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

from data.store import Store
from tests import tiny

SETTLED = 1.5  # seconds after which connections without use have been closed


def store(home: Path) -> None:
    made = Store(home / "studio.db")
    made.runs.new("reward", {})
    made.restoring.check()
    made.database.close()


def page(home: Path) -> None:
    """The whole page, served and closed again; no model is loaded."""
    from studio.interface import build
    from studio.pages.shared import Loading
    from studio.studio import Studio

    studio = Studio(tiny.settings_at(home, home / "models"))
    served = build(studio, Loading(studio))
    served.launch(
        prevent_thread_lock=True, quiet=True, server_name="127.0.0.1", ssr_mode=False, _frontend=False
    )
    served.close(verbose=False)
    studio.store.database.close()


CYCLES: dict[str, Callable[[Path], None]] = {"store": store, "page": page}


def opened() -> dict[str, int]:
    gc.collect()
    time.sleep(SETTLED)
    return {"files": len(os.listdir("/proc/self/fd")), "threads": threading.active_count()}


def main(folder: str, what: str, cycles: str) -> None:
    home, cycle = Path(folder), CYCLES[what]
    cycle(home)
    first = opened()
    for _ in range(int(cycles) - 1):
        cycle(home)
    print(json.dumps([first, opened()]))


if __name__ == "__main__":
    main(*sys.argv[1:])
