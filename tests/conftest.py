"""What every test gets: a run-time folder of its own, no network, few threads; a store to write to."""

import itertools
import os
import shutil
import sqlite3
import sys
import tempfile
import threading
from contextlib import contextmanager
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ["HF_HUB_OFFLINE"] = "1"

import pytest

from studio.environment import WithoutStubs

sys.meta_path.insert(0, WithoutStubs())


@pytest.fixture(scope="session")
def homes(tmp_path_factory):
    """Folders, each a new one; pytest would look through all folders of the session for a free name."""
    top = tmp_path_factory.mktemp("homes")
    return (top / str(n) for n in itertools.count())


@pytest.fixture(autouse=True)
def studio_home(homes, monkeypatch):
    """A fresh STUDIO_HOME: no test reads or writes the user's."""
    home = next(homes)
    home.mkdir()
    monkeypatch.setenv("STUDIO_HOME", str(home))
    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
    return home


@pytest.fixture(scope="session", autouse=True)
def migrated():
    """A new database gets a copy of what the migrations make of an empty one: that takes 1 ms, and they take 43."""
    from sqlite_utils import Database

    from data.store.schema import migrations

    template = sqlite3.connect(":memory:", check_same_thread=False)
    lock, apply = threading.Lock(), migrations.apply
    apply(Database(template))

    def copy(db, stop_before=None):
        if stop_before or db.table_names():
            apply(db, stop_before=stop_before)
        else:
            with lock:
                template.backup(db.conn)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(migrations, "apply", copy)
        yield


def folder_in_memory() -> tempfile.TemporaryDirectory:
    """In memory where there is one: every write to a store is synced, and a busy disk takes 20 ms."""
    return tempfile.TemporaryDirectory(dir="/dev/shm" if os.access("/dev/shm", os.W_OK) else None)


@pytest.fixture
def quick_path():
    """A folder in memory."""
    with folder_in_memory() as folder:
        yield Path(folder)


@pytest.fixture
def store(quick_path):
    from data.store import Store

    return Store(quick_path / "studio.db")


@pytest.fixture(scope="module")
def module_store():
    """A store that lasts for the module: filled once, it is read by many tests, or copied by ``copy_of``."""
    from data.store import Store

    with folder_in_memory() as folder:
        yield Store(Path(folder) / "studio.db")


@pytest.fixture
def copy_of(quick_path):
    """A function that copies a store to where ``store`` would be."""
    from data.store import Store

    def copy(made):
        made.database.close()  # its log is in the file then
        return Store(shutil.copy(made.database.path, quick_path / made.database.path.name))

    return copy


@pytest.fixture(scope="session")
def model_folder(tmp_path_factory):
    """Tiny random models, made once."""
    from tests import tiny

    return tiny.models(tmp_path_factory.mktemp("models"))


@pytest.fixture(scope="session")
def sample_row():
    """A function that makes the row of a sample; what it is given replaces the defaults."""

    def make(**changes):
        row = {"prompt": "a red circle above a blue square", "n_words": 7, "seed": 1, "backbone": "data/models/diffuser",
               "width": 128, "height": 128, "steps": 20, "guidance": 4.0, "image_path": "images/one.png",
               "image_sha256": "0" * 64}  # fmt: skip
        return {**row, **changes}

    return make


@pytest.fixture(scope="session")
def peaked():
    """A function that makes a VLM's distribution: ``p`` on one score, the rest spread over the others."""

    def make(score, p=0.91):
        return [p if k == score else (1 - p) / 9 for k in range(10)]

    return make


@pytest.fixture
def older_store(quick_path):
    """A function that makes a database of an earlier schema, filled by plain SQL: ``migration`` is the first one that it
    lacks, and today's code expects today's tables; (its path)."""
    from sqlite_utils import Database

    from data.store.database import insert, now
    from data.store.samples import checked_sample
    from data.store.schema import migrations

    def make(migration, samples=(), **rows):
        path = quick_path / "old.db"
        db = Database(path)
        migrations.apply(db, stop_before=migration)
        insert(db, "store", {"id": "s", "created": now()})
        columns = {column.name for column in db["samples"].columns}
        first = {"runs": rows.pop("runs", ()), "samples": [checked_sample(row) for row in samples]}
        for table, records in (first | rows).items():
            for record in records:
                insert(db, table, {k: v for k, v in record.items() if table != "samples" or k in columns})
        db.conn.commit()
        db.close()
        return path

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
