"""The service that the page, the API and the command line all call: settings, store and models joined.

`Studio` is composed of parts, each in a module of its own. What goes wrong is an exception whose text is a sentence for
the user; `studio.errors.sentence` gives it, and hides what is not meant for them.
"""

from __future__ import annotations

import contextlib
import logging
import os
import threading
import time
from collections.abc import Callable
from typing import Any

from data.store import Store, StoreError
from data.store.locks import sweep
from studio.access.places import shortened
from studio.annotation.foreseeing import Foreseeing, Foreseer
from studio.annotation.labelling import Annotation
from studio.annotation.people import People
from studio.annotation.quality import LATEST, agreement
from studio.background import Background
from studio.errors import sentence
from studio.experiments.fields import EXPERIMENT
from studio.grids.comparison import Comparison
from studio.grids.grid import Cells, GridFiles, Grids
from studio.grids.votes import Votes
from studio.images.collecting import Collecting
from studio.images.detecting import Detector
from studio.images.making import Making
from studio.images.models import Models
from studio.images.prompts import Prompts
from studio.images.scoring import Scoring
from studio.images.views import CompareUpdate, Pair, SampleView, check_request
from studio.settings import Settings
from studio.training.configs import KINDS
from studio.training.runs import Job, Runs, Training

__all__ = ["CompareUpdate", "Pair", "SampleView", "Studio", "check_request"]

log = logging.getLogger("studio")


class Studio:
    """One studio: settings, store, models and their services. Safe to share between threads; models work for one at a
    time."""

    def __init__(self, settings: Settings | None = None) -> None:
        self.settings = settings or Settings.from_env()
        self.settings.home.mkdir(parents=True, exist_ok=True)
        sweep(self.settings.home)
        self.store = Store(self.settings.database)
        self.models = Models(self.settings, self.store)
        self.prompts = Prompts(self.settings.prompts, self.settings.world)
        self.people = People(self.settings, self.store)
        self.detector = Detector()
        self.foreseeing = Foreseeing(self.settings, self.store, self.models)
        self.foreseer = Foreseer(self.foreseeing)
        self.annotation = Annotation(self.settings, self.store, self.models, self.foreseer)
        self.making = Making(self.settings, self.store, self.models, self.prompts)
        self.scoring = Scoring(self.making)
        self.collecting = Collecting(self.making)
        self.cells = Cells(self.scoring)
        self.comparison = Comparison(self.annotation, self.scoring, self.cells)
        self.grids = Grids(self.annotation, self.cells)
        self.grid_files = GridFiles(self.grids)
        self.votes = Votes(self.annotation)
        self.runs = Runs(self.settings, self.store, self.models, {**KINDS, "experiment": EXPERIMENT})
        self.training = Training(self, work_of)
        # the figures of the tab Quality, computed once for all visitors
        self.figures = Background(
            lambda: agreement(self.store, LATEST), self.store.judgements.judged, sentence
        )

    @property
    def ready(self) -> bool:
        """Whether the diffuser and the scorer are loaded."""
        return self.models.ready

    def load(self, on_stage: Callable[[str], None] | None = None) -> None:
        """Load the models now; `on_stage` gets a sentence before each. Grids and runs of processes that ended are marked as
        interrupted."""
        self.grids.sweep()
        self.runs.sweep()
        self.models.load(on_stage)

    def finish_imports(self) -> None:
        """Finish imports that were interrupted; the log says what prevents it. For a thread of its own, as it takes a minute
        for a million rows."""
        try:
            self.store.imports.finish()
        except StoreError as error:
            log.warning("An import is still unfinished: %s", error)

    def look_for_damage(self) -> None:
        """Read the whole database: a damaged one becomes read-only, and the page says so. For a thread of its own, with low
        priority."""
        with contextlib.suppress(OSError, AttributeError):  # a system where threads have no priorities
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), 10)
        with contextlib.suppress(StoreError):
            self.store.restoring.check()

    def watch_for_damage(self, pause: float = 60.0) -> None:
        """Look for damage, and again every minute while there is some, as another process may have restored the store.
        Never returns."""
        while True:
            self.look_for_damage()
            time.sleep(pause)
            while not self.store.database.damage:
                time.sleep(pause)

    def status(self) -> dict[str, Any]:
        """{ready, backbone, scorer, projector: run id | 'shipped' | None, projector_problem: sentence | '' (why there is
        none), projector_warning: sentence | '' (it was trained for another backbone), reward, reward_problem,
        reward_warning, device, samples, scored, corrections, training: run id | None}. Loads nothing."""
        running = self.store.runs.find(state="running", limit=1)
        status: dict[str, Any] = {
            "ready": self.ready,
            "backbone": shortened(self.settings.backbone),
            "scorer": shortened(self.settings.scorer),
            "device": str(self.models.device),
            "samples": self.store.samples.count(),
            "scored": self.store.samples.count(scored=True),
            # words with a current correction, except on held-out samples, on which nothing is trained
            "corrections": self.store.tallies.count_corrected(),
            "training": running[0]["id"] if running else None,
        }
        for kind in ("projector", "reward"):
            if self.ready:
                using = self.models.using(kind)
                status |= {
                    kind: using.name,
                    f"{kind}_problem": using.problem,
                    f"{kind}_warning": using.warning,
                }
            else:
                run = self.store.runs.promoted(kind)
                status |= {
                    kind: run["id"] if run else "shipped",
                    f"{kind}_problem": "",
                    f"{kind}_warning": "",
                }
        return status


def work_of(kind: str) -> Callable[[Job], dict[str, Any]]:
    """The work of a run of a kind, imported when one begins, as the networks' training is heavy."""
    if kind == "experiment":
        from studio.experiments import conduct

        return conduct
    from studio.training.stages import STAGES

    return STAGES[kind]
