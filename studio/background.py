"""A figure that takes a while, worked out behind the page and kept until what it is of has changed."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

BREATH = 3.0  # times what the last one took, before the next one begins: a busy store leaves the page room
LEAST = 2.0  # seconds of it


@dataclass(frozen=True)
class Look:
    """value: the last that was worked out, None before the first; at: when (time.time()); busy: whether a newer one is
    under way; stale: whether there is something that it does not know yet; problem: what went wrong, or ''."""

    value: Any = None
    at: float | None = None
    busy: bool = False
    stale: bool = False
    problem: str = ""


class Background:
    """`work()` in a thread of its own whenever `stamp()`, which is quick, differs from the last time; `told` makes a
    sentence of what goes wrong."""

    def __init__(
        self, work: Callable[[], Any], stamp: Callable[[], Any], told: Callable[[BaseException], str] = str
    ) -> None:
        self.work, self.stamp, self.told = work, stamp, told
        self._lock, self._thread = threading.Lock(), threading.Thread()
        self._of: Any = None
        self._look, self._next = Look(), 0.0

    def look(self, wait: float = 0.0) -> Look:
        """What is known now; begins to work out a newer one where there is need. `wait`: seconds that this may take."""
        now = self.stamp()
        with self._lock:
            stale = self._look.at is None or now != self._of
            if stale and not self._thread.is_alive() and time.monotonic() >= self._next:
                self._thread = threading.Thread(target=self._run, args=(now,), name="figures", daemon=True)
                self._thread.start()
            thread = self._thread
        if wait and thread.is_alive():
            thread.join(wait)
        found = self._look
        return Look(found.value, found.at, thread.is_alive(), now != self._of, found.problem)

    def settled(self, wait: float) -> Look:
        """What is known once there is nothing newer to know, or after `wait` seconds."""
        until = time.monotonic() + wait
        while True:
            found = self.look(max(0.0, until - time.monotonic()))
            if not found.stale or time.monotonic() >= until:
                return found
            time.sleep(0.1)  # the store has its breath

    def _run(self, stamp: Any) -> None:
        began = time.monotonic()
        try:
            found = Look(self.work(), time.time())
        except Exception as error:  # noqa: BLE001 - the page says what it was
            found = Look(self._look.value, time.time(), problem=self.told(error))
        took = time.monotonic() - began
        with self._lock:
            self._look, self._of = found, stamp
            self._next = time.monotonic() + max(LEAST, BREATH * took)
