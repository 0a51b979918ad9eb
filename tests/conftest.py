"""What every test gets: a run-time folder of its own, no network, few threads; a store to write to."""

from __future__ import annotations

import itertools
import os
import sys
import tempfile
from contextlib import contextmanager
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ["HF_HUB_OFFLINE"] = "1"

import pytest


@pytest.fixture(autouse=True)
def studio_home(tmp_path_factory, monkeypatch):
    """A fresh STUDIO_HOME: no test reads or writes the user's."""
    home = tmp_path_factory.mktemp("home")
    monkeypatch.setenv("STUDIO_HOME", str(home))
    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
    return home


@pytest.fixture
def quick_path():
    """A folder in memory where there is one: every write to a store is synced, and a busy disk takes 20 ms."""
    memory = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
    with tempfile.TemporaryDirectory(dir=memory) as folder:
        yield Path(folder)


@pytest.fixture
def store(quick_path):
    from data.store import Store

    return Store(quick_path / "studio.db")


@pytest.fixture
def sample_row():
    """A function that makes the row of a sample; what it is given replaces the defaults."""

    def make(**changes):
        row = {
            "prompt": "a red circle above a blue square",
            "n_words": 7,
            "seed": 1,
            "backbone": "data/models/diffuser",
            "width": 128,
            "height": 128,
            "steps": 20,
            "guidance": 4.0,
            "image_path": "images/one.png",
            "image_sha256": "0" * 64,
        }
        return {**row, **changes}

    return make


@pytest.fixture
def before_word_rules():
    """A function that checks a sample's row and leaves out what a store had no column for until rules had numbers."""
    from data.store.samples import checked_sample

    def make(row):
        return {name: value for name, value in checked_sample(row).items() if name != "word_rules"}

    return make


@pytest.fixture
def peaked():
    """A function that makes a VLM's distribution: ``p`` on one score, the rest spread over the others."""

    def make(score, p=0.91):
        return [p if k == score else (1 - p) / 9 for k in range(10)]

    return make


@pytest.fixture
def token_shown():
    """A context in which the studio is called as Gradio does for a request that came with its token."""
    from gradio.context import LocalContext
    from starlette.requests import Request

    from studio.access.guard import SHOWN

    @contextmanager
    def shown():
        before = LocalContext.request.set(Request({"type": "http", SHOWN: True}))
        try:
            yield
        finally:
            LocalContext.request.reset(before)

    return shown


@pytest.fixture(params=["steps back an hour", "runs backwards", "stands still"])
def bad_clock(request, monkeypatch):
    """The store's clock is wrong from now on, as after a correction by NTP, on a coarse timer or in a resumed machine: it
    is faked, as the machine's own cannot be set by a test."""
    from datetime import UTC, datetime, timedelta

    from data.store import database

    began, ticks = datetime.now(UTC), itertools.count()
    moves = {
        "steps back an hour": lambda n: timedelta(microseconds=n, hours=0 if n < 4 else -1),
        "runs backwards": lambda n: timedelta(seconds=-n),
        "stands still": lambda n: timedelta(0),
    }

    class Clock:
        @staticmethod
        def now(tz):
            return began + moves[request.param](next(ticks))

    monkeypatch.setattr(database, "datetime", Clock)
