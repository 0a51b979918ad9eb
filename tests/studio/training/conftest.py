"""A trained loop once for the folder."""

import threading

import pytest

from studio.training import replay
from studio.training.runs import RunLog
from tests.studio.trained import CYCLE
from tests.tiny import change_settings


@pytest.fixture(scope="session")
def looped_home(grown, labelled_home):
    """A home in which a loop was trained, stopped before its projector and gone on with, to be copied."""
    studio = grown(labelled_home)
    change_settings(studio, labels=studio.settings.home / "labels")
    replay.gather(studio).save(studio.settings.labels)
    stop = threading.Event()

    def at_the_projector(line):
        if line["stage"] == "projector":
            stop.set()

    first = studio.training.train("cycle", CYCLE, on_progress=at_the_projector, stop=stop)
    assert first["state"] == "stopped"
    assert {"calibrator", "reward"} <= set(RunLog(studio.runs.folder(first["id"])).done())
    studio.training.train("cycle", run_id=first["id"])
    return studio.settings.home


@pytest.fixture
def loop(begun_as, looped_home):
    """A studio with a trained loop, and its run."""
    studio = begun_as(looped_home)
    return studio, studio.runs.find(kind="cycle")[0]
