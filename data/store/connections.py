"""Connections that are done and wait for the next operation, as to open one costs fifty times what a question costs.

They are let go where the file has been replaced or taken away, where nobody used them for a second, and where somebody
wants the file for themselves, which a flag beside it says. Never used, nor closed, in a process that was forked.

Before a fork those that wait are closed (one that is in use is not): SQLite's own record of the locks that a process has on
a file is copied with its memory, and a worker that opens the file anew believes to have the lock that says that the log is
in use. The last connection of its parent then takes the log away, and what the worker writes from there on is lost.
"""

from __future__ import annotations

import os
import time
import weakref
from pathlib import Path
from threading import Lock, RLock, Timer
from typing import Any

from sqlite_utils import Database

IDLE = 8  # connections that wait for the next operation
REST = 1.0  # seconds after which one that nobody used is closed
FLAG_SECONDS = 60.0  # a flag that is older was left behind by a restore that died


def identity(path: Path) -> tuple[int, int] | None:
    """Which file lies there; no other one is it while a connection to it is open."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino


class Idle:
    """Connections that are done and may be used again, by this process and on the same file."""

    def __init__(self, flag: Path) -> None:
        self._flag = flag
        self._inherited: list[Any] = []
        self._begin()
        _every.add(self)

    def _begin(self) -> None:
        # a store that is garbage may be found anywhere, under this lock too, and then it calls ``close``
        self._pid, self._lock, self._writing = os.getpid(), RLock(), Lock()
        self._waiting: list[tuple[tuple[int, int], Database, float]] = []  # with the time when each was done
        self._clock = False

    def _own(self) -> None:
        """A connection must not be used, nor closed, in a process that was forked from the one that opened it."""
        if self._pid != os.getpid():
            self._inherited = [*self._inherited, *self._waiting]  # of all who were forked from
            self._begin()

    def turn(self) -> Lock:
        """Held by the thread that writes."""
        self._own()
        return self._writing

    def take(self, file: tuple[int, int] | None) -> Database | None:
        self._own()
        if self.wanted():
            self.close()
        stale = []
        with self._lock:
            found = None
            while self._waiting and found is None:
                of, db, _ = self._waiting.pop()
                if of == file:
                    found = db
                else:
                    stale.append(db)
        for db in stale:
            db.conn.close()
        return found

    def keep(self, db: Database, file: tuple[int, int] | None) -> None:
        self._own()
        with self._lock:
            if (
                file is not None
                and not db.conn.in_transaction
                and len(self._waiting) < IDLE
                and not self.wanted()
            ):
                self._waiting.append((file, db, time.monotonic()))
                self._tick()
                return
        db.conn.close()

    def _tick(self) -> None:
        """Have the connections looked through in a while; under the lock."""
        if not self._clock:
            self._clock, timer = True, Timer(REST, self._tidy)
            timer.daemon = True
            timer.start()

    def _tidy(self) -> None:
        """Close what has waited for long: a connection that nobody uses would keep a restore from the file."""
        with self._lock:
            now = time.monotonic()
            stale = [entry for entry in self._waiting if now - entry[2] > REST or self.wanted()]
            self._waiting = [entry for entry in self._waiting if entry not in stale]
            self._clock = False
            if self._waiting:
                self._tick()
        for _, db, _ in stale:
            db.conn.close()

    def wanted(self) -> bool:
        """Whether somebody waits to have the file for themselves (``DatabaseFile.restore``)."""
        try:
            return time.time() - self._flag.stat().st_mtime < FLAG_SECONDS
        except OSError:
            return False

    def close(self) -> None:
        self._own()
        with self._lock:
            waiting, self._waiting = self._waiting, []
        for _, db, _ in waiting:
            db.conn.close()


_every: weakref.WeakSet[Idle] = weakref.WeakSet()


def _before_fork() -> None:
    for idle in list(_every):
        idle.close()


if hasattr(os, "register_at_fork"):  # not on Windows, which does not fork
    os.register_at_fork(before=_before_fork)
