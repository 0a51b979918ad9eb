"""Limits of request bodies and of uploads an hour, and deletion of Gradio's temporary files.

Gradio (6.31) limits each uploaded file, not their number, reads other bodies into memory whatever their size, and forgets
which files it has written when its process is killed. So bodies are limited and uploads counted here, and files that
nobody requested within the hour are deleted from the studio's own folder for them (``places.transient``).
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

HOUR, KEPT, LOOK = (
    3600,
    3000,
    300,
)  # seconds: with the pause between two sweeps a file is gone within the hour
SLACK = 2**16  # bytes of a request around the files
VISITOR, ALL = 20 * MAX_UPLOAD, 40 * MAX_UPLOAD  # bytes an hour
TOO_LARGE = f"The request is larger than {MAX_UPLOAD // 2**20} MB: use python -m studio for larger files, where the store lies."
NO_LENGTH = "The request does not say how large it is: send it with Content-Length, and not in chunks."
TOO_MUCH = (
    "{} uploaded {} MB within an hour, which is all that is taken: try again later, or use python -m studio, where the "
    "store lies."
)


class Uploads:
    """ASGI middleware that accepts requests of at most MAX_UPLOAD bytes and SLACK, which state their length, and uploads of
    VISITOR bytes an hour from one visitor and ALL from all, counted as they arrive. Uploads with the token do not count."""

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
        """``receive``, counting the bytes of an upload; HTTPException for a request that is refused by its headers."""
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
        """HTTPException if so many bytes more are too many for this hour."""
        while self.minutes and self.minutes[0][0] <= self.clock() // 60 - HOUR // 60:
            self.minutes.popleft()
        for subject, key, most in (("You have", who, VISITOR), ("All visitors together have", None, ALL)):
            taken = sum(sizes[key] for _, sizes in self.minutes)
            if taken + size > most:
                raise HTTPException(429, TOO_MUCH.format(subject, taken // 2**20))

    def _add(self, who: str, size: int) -> None:
        minute = self.clock() // 60
        if not self.minutes or self.minutes[-1][0] != minute:
            self.minutes.append((minute, Counter()))
        self.minutes[-1][1].update({who: size, None: size})


def sweep(folder: Path, keep: Collection[str] = (), age: float = KEPT) -> None:
    """Delete files that nobody requested for so long, and empty folders. keep: files that the page shows."""
    for parent, folders, files in os.walk(folder, topdown=False):
        for delete, names in ((os.unlink, files), (os.rmdir, folders)):
            for path in (os.path.join(parent, name) for name in names):
                with contextlib.suppress(OSError):  # a folder that is not empty
                    if path not in keep and time.time() - os.lstat(path).st_ctime > age:
                        delete(path)


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
