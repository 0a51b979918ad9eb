"""Requests, whose bodies are bounded, uploads, which are bounded by the hour too, and the files that Gradio keeps for a while.

Gradio (6.31) bounds each uploaded file, not their number, reads other bodies into memory whatever their size, and forgets
which files it has written when its process is killed. So the bodies are bounded and the uploads counted here, and the
files that nobody asked for within the hour are deleted from the studio's own folder for them (``places.transient``).
"""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Collection
from pathlib import Path

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from studio.access.guard import SHOWN
from studio.access.limits import MAX_UPLOAD
from studio.access.waiting import visitor

HOUR, KEPT, LOOK = 3600, 3000, 300  # seconds: what is kept between two looks is gone within the hour
SLACK = 2**16  # bytes of a request around the files
VISITOR, ALL = 20 * MAX_UPLOAD, 40 * MAX_UPLOAD  # bytes an hour
TOO_LARGE = f"The request is larger than {MAX_UPLOAD // 2**20} MB: use python -m studio for larger files, where the store lies."
NO_LENGTH = "The request does not say how large it is: send it with Content-Length, and not in chunks."
TOO_MUCH = (
    "{} uploaded {} MB within an hour, which is all that is taken: try again later, or use python -m studio, where the "
    "store lies."
)


class Uploads:
    """ASGI middleware: requests of at most MAX_UPLOAD bytes and SLACK, which say their length; uploads of VISITOR bytes an
    hour of one visitor and ALL of all, counted as they arrive. Uploads with the studio's token are not counted."""

    def __init__(self, app: ASGIApp, clock: Callable[[], float] = time.monotonic) -> None:
        self.app, self.clock = app, clock
        self.minutes: deque[tuple[float, Counter[str | None]]] = deque()  # bytes by visitor, None: of all

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            try:
                receive = self._bounded(Request(scope), receive)
            except HTTPException as refused:
                await PlainTextResponse(refused.detail, refused.status_code)(scope, receive, send)
                return
        await self.app(scope, receive, send)

    def _bounded(self, request: Request, receive: Receive) -> Receive:
        """``receive``, which counts the bytes of an upload; HTTPException for a request that is refused by its headers."""
        upload = request.method == "POST" and request.scope["path"].rstrip("/").endswith("/upload")
        length = request.headers.get("content-length", "" if upload else "0")
        if "transfer-encoding" in request.headers or not (length.isascii() and length.isdigit()):
            raise HTTPException(411, NO_LENGTH)  # of both headers, h11 follows Transfer-Encoding
        if len(length) > 12 or int(length) > MAX_UPLOAD + SLACK:
            raise HTTPException(413, TOO_LARGE)
        if not upload or request.scope.get(SHOWN):
            return receive
        who = visitor(request)
        self._check(who, int(length))

        async def counted() -> Message:
            message = await receive()
            if size := len(message.get("body", b"")):
                self._check(who, size)  # again, as other uploads arrive at the same time
                self._add(who, size)
            return message

        return counted

    def _check(self, who: str, size: int) -> None:
        """HTTPException where so many bytes more are too many for this hour."""
        while self.minutes and self.minutes[0][0] <= self.clock() // 60 - HOUR // 60:
            self.minutes.popleft()
        for whose, key, most in (("You have", who, VISITOR), ("All visitors together have", None, ALL)):
            taken = sum(sizes[key] for _, sizes in self.minutes)
            if taken + size > most:
                raise HTTPException(429, TOO_MUCH.format(whose, taken // 2**20))

    def _add(self, who: str, size: int) -> None:
        minute = self.clock() // 60
        if not self.minutes or self.minutes[-1][0] != minute:
            self.minutes.append((minute, Counter()))
        self.minutes[-1][1].update({who: size, None: size})


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
