"""Work in background threads: a queue, and cached values that are computed again when what they depend on has changed."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Any, Generic, TypeVar

Item = TypeVar("Item")

BREATH = (
    3.0  # times the last computation's duration, the pause before the next: a busy store leaves the page room
)
LEAST = 2.0  # seconds of that pause


class Queue(Generic[Item]):
    """Does `work` on items one after another, in a thread that exists only while there are any."""

    def __init__(self, name: str, work: Callable[[Item], object]) -> None:
        self.name, self.work = name, work
        self.waiting: deque[Item] = deque()
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None

    def add(self, items: Iterable[Item]) -> None:
        with self._lock:
            self.waiting.extend(items)
            if self.waiting and self._thread is None:
                self._thread = threading.Thread(target=self._run, name=self.name, daemon=True)
                self._thread.start()

    def _run(self) -> None:
        while True:
            with self._lock:
                if not self.waiting:
                    self._thread = None
                    return
                item = self.waiting.popleft()
            self.work(item)


@dataclass(frozen=True)
class Look:
    """value: the latest, None before the first; at: when it was computed (time.time()); busy: whether a newer one is being
    computed; stale: whether it is out of date; problem: what went wrong, or ''."""

    value: Any = None
    at: float | None = None
    busy: bool = False
    stale: bool = False
    problem: str = ""


class Background:
    """The value of `work()`, computed in a thread whenever `stamp()`, which is quick, differs from the last time; `told`
    makes a sentence of an error."""

    def __init__(
        self, work: Callable[[], Any], stamp: Callable[[], Any], told: Callable[[BaseException], str] = str
    ) -> None:
        self.work, self.stamp, self.told = work, stamp, told
        self._lock, self._thread = threading.Lock(), threading.Thread()
        self._stamp: Any = None  # of the value
        self._look, self._next = Look(), 0.0

    def look(self, wait: float = 0.0) -> Look:
        """The value as it is now; starts to compute a newer one if it is out of date. wait: seconds that this may take."""
        now = self.stamp()
        with self._lock:
            stale = self._look.at is None or now != self._stamp
            if stale and not self._thread.is_alive() and time.monotonic() >= self._next:
                self._thread = threading.Thread(target=self._run, args=(now,), name="figures", daemon=True)
                self._thread.start()
            thread = self._thread
        if wait and thread.is_alive():
            thread.join(wait)
        return replace(self._look, busy=thread.is_alive(), stale=now != self._stamp)

    def settled(self, wait: float) -> Look:
        """The value once it is up to date, or after `wait` seconds."""
        until = time.monotonic() + wait
        while True:
            look = self.look(max(0.0, until - time.monotonic()))
            if not look.stale or time.monotonic() >= until:
                return look
            time.sleep(0.1)  # during the pause between two computations

    def _run(self, stamp: Any) -> None:
        began = time.monotonic()
        try:
            look = Look(self.work(), time.time())
        except Exception as error:  # noqa: BLE001 - the page shows it
            look = Look(self._look.value, time.time(), problem=self.told(error))
        seconds = time.monotonic() - began
        with self._lock:
            self._look, self._stamp = look, stamp
            self._next = time.monotonic() + max(LEAST, BREATH * seconds)
