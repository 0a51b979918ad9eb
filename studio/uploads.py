"""What Gradio keeps for a while: uploads, which are bounded, and copies of pictures and files that are shown or downloaded.

Gradio (6.31) bounds each uploaded file, not their number, and forgets what it has written when its process is killed. So
what passes through is counted here, and all that nobody asked for within the hour goes from the studio's own folder for it
(``places.transient``).
"""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections import deque
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

from starlette.requests import Request
from starlette.responses import PlainTextResponse

from studio.limits import MAX_UPLOAD
from studio.waiting import visitor

HOUR, KEPT, LOOK = 3600, 3000, 300  # seconds: what is kept between two looks is gone within the hour
SLACK = 2**16  # bytes of a request around the files
VISITOR, ALL = 20 * MAX_UPLOAD, 40 * MAX_UPLOAD  # bytes an hour
TOO_LARGE = f"The upload is larger than {MAX_UPLOAD // 2**20} MB: python -m studio takes larger files, where the store lies."
NO_LENGTH = "The upload does not say how large it is: send it with its length."
TOO_MUCH = (
    "{} uploaded {} MB within an hour, which is all that is taken: try again later, or use python -m studio, where the "
    "store lies."
)


class Uploads:
    """ASGI middleware: uploads of at most MAX_UPLOAD bytes a request, VISITOR bytes an hour of one visitor, ALL of all."""

    def __init__(self, app: Any, clock: Callable[[], float] = time.monotonic) -> None:
        self.app, self.clock = app, clock
        self.taken: deque[tuple[float, str, int]] = deque()  # when, of whom, bytes

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        refused = None
        if (
            scope["type"] == "http"
            and scope["method"] == "POST"
            and scope["path"].rstrip("/").endswith("/upload")
        ):
            refused = self._refusal(Request(scope))
        await (refused or self.app)(scope, receive, send)

    def _refusal(self, request: Request) -> PlainTextResponse | None:
        length = request.headers.get("content-length", "")
        if not (length.isascii() and length.isdigit()):
            return PlainTextResponse(NO_LENGTH, 411)
        if len(length) > 12 or int(length) > MAX_UPLOAD + SLACK:
            return PlainTextResponse(TOO_LARGE, 413)
        now, who = self.clock(), visitor(request)
        while self.taken and now - self.taken[0][0] > HOUR:
            self.taken.popleft()
        mine = sum(size for _, of, size in self.taken if of == who)
        for whose, sent, most in (
            ("You have", mine, VISITOR),
            ("All visitors together have", self._all(), ALL),
        ):
            if sent + int(length) > most:
                return PlainTextResponse(TOO_MUCH.format(whose, sent // 2**20), 429)
        self.taken.append((now, who, int(length)))
        return None

    def _all(self) -> int:
        return sum(size for *_, size in self.taken)


def sweep(folder: Path, keep: Collection[str] = (), age: float = KEPT) -> None:
    """Take away the files that nobody asked for so long, and empty folders. keep: files that parts of the page show."""
    for place, folders, files in os.walk(folder, topdown=False):
        for name in files:
            path = os.path.join(place, name)
            with contextlib.suppress(OSError):
                if path not in keep and time.time() - os.lstat(path).st_ctime > age:
                    os.unlink(path)
        for name in folders:
            with contextlib.suppress(OSError):  # not empty
                if time.time() - os.lstat(os.path.join(place, name)).st_ctime > age:
                    os.rmdir(os.path.join(place, name))


def keep_swept(folder: Path, keep: Collection[str]) -> threading.Event:
    """Sweep now, and every LOOK seconds in a thread until the event that is returned is set."""
    end = threading.Event()

    def rounds() -> None:
        while True:
            sweep(folder, keep)
            if end.wait(LOOK):
                return

    threading.Thread(target=rounds, name="uploads", daemon=True).start()
    return end
