"""A pool of idle connections, as opening one costs fifty times a query.

A connection is closed where the file has been replaced or deleted, after a second without use, and where a restore wants the
file for itself, as a flag beside it says. None is used, nor closed, in a forked process.

Idle connections are closed before a fork: SQLite's record of a process's locks is copied with its memory, so a worker that opens
the file anew believes that it holds the lock which says that the log is in use. The parent's last connection then deletes the
log, and whatever the worker writes afterwards is lost.
"""

from __future__ import annotations

import os
import time
import weakref
from pathlib import Path
from threading import Lock, RLock, Timer
from typing import Any

from sqlite_utils import Database

IDLE = 8  # idle connections at most
REST = 1.0  # seconds after which an idle connection is closed
FLAG_SECONDS = 60.0  # an older flag was left behind by a restore that died


def identity(path: Path) -> tuple[int, int] | None:
    """Device and inode of a file, which no other file has while a connection to it is open; None where there is none."""
    try:
        stat = path.stat()
    except OSError:
        return None
    return stat.st_dev, stat.st_ino


class Idle:
    """Idle connections for reuse by this process, on the same file."""

    def __init__(self, flag: Path) -> None:
        self._flag = flag
        self._inherited: list[Any] = []
        self._reset()
        _every.add(self)

    def _reset(self) -> None:
        # a store may be garbage collected anywhere, also under this lock, and then calls ``close``
        self._pid, self._lock, self._writing = os.getpid(), RLock(), Lock()
        self._waiting: list[tuple[tuple[int, int], Database, float]] = []  # with the time when each was done
        self._clock = False

    def _after_fork(self) -> None:
        """In a forked process, set the connections of its ancestors aside: they must not be used there, nor closed."""
        if self._pid != os.getpid():
            self._inherited = [*self._inherited, *self._waiting]
            self._reset()

    def turn(self) -> Lock:
        """The lock of the thread that writes."""
        self._after_fork()
        return self._writing

    def take(self, file: tuple[int, int] | None) -> Database | None:
        """An idle connection to this file, or None."""
        self._after_fork()
        if self.wanted():
            self.close()
        with self._lock:
            stale = [entry for entry in self._waiting if entry[0] != file]
            self._waiting = [entry for entry in self._waiting if entry[0] == file]
            connection = self._waiting.pop()[1] if self._waiting else None
        for _, db, _ in stale:
            db.conn.close()
        return connection

    def keep(self, db: Database, file: tuple[int, int] | None) -> None:
        """Keep a connection for reuse, or close it."""
        self._after_fork()
        with self._lock:
            room = len(self._waiting) < IDLE and not self.wanted()
            if file is not None and room and not db.conn.in_transaction:
                self._waiting.append((file, db, time.monotonic()))
                self._tick()
                return
        db.conn.close()

    def _tick(self) -> None:
        """Start the timer of ``_tidy``; under the lock."""
        if not self._clock:
            self._clock, timer = True, Timer(REST, self._tidy)
            timer.daemon = True
            timer.start()

    def _tidy(self) -> None:
        """Close connections that have been idle for long, which would block a restore."""
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
        """Whether a restore waits for the file (``Restoring.restore``)."""
        try:
            return time.time() - self._flag.stat().st_mtime < FLAG_SECONDS
        except OSError:
            return False

    def close(self) -> None:
        self._after_fork()
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
