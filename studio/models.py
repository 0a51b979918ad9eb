"""What is loaded: the diffuser, the scorer, and the projector, reward model and calibrator that are in use.

Loaded when first needed, kept, and used by one piece of work at a time (`lock`). What is in use follows the store's
promotions, else what the project ships; another process may promote, so this is asked anew each time. A projector
that is missing or damaged is a sentence in `Using.problem`: everything that needs none goes on.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from diffusers.utils import logging as diffusers_logging
from transformers.utils import logging as transformers_logging

from core import checkpoint
from core.diffusion import Diffuser
from core.networks.projector import NoiseProjector
from core.networks.reward import RewardModel
from core.scoring.calibrator import Calibrator
from core.scoring.vlm import VLMScorer
from data.store import Store
from studio.settings import Settings

SHIPPED = "shipped"
CLASSES: dict[str, type] = {"projector": NoiseProjector, "reward": RewardModel}


class UnfitError(ValueError):
    """A projector or reward model of another kind of backbone."""


@dataclass(frozen=True)
class Using:
    """A model that is in use: its run in the store, 'shipped' or the run's id as `name`, its checkpoint's folder;
    or no model and the sentence that says why."""

    model: Any = None
    run: str | None = None
    name: str | None = None
    folder: Path | None = None
    problem: str = ""


class Models:
    """See the module. Every method may be called from any thread; hold `lock` while a model computes."""

    def __init__(self, settings: Settings, store: Store) -> None:
        self.settings, self.store = settings, store
        self.lock = threading.Lock()  # one model computes at a time
        self._loading = threading.RLock()
        self._diffuser: Diffuser | None = None
        self._scorer: VLMScorer | None = None
        self._using: dict[str, tuple[tuple, Using]] = {}
        diffusers_logging.disable_progress_bar()  # the studio tells its own progress
        transformers_logging.disable_progress_bar()
        if settings.threads:
            torch.set_num_threads(settings.threads)

    @property
    def device(self) -> torch.device:
        wanted = self.settings.device
        if wanted == "auto":
            wanted = "cuda" if torch.cuda.is_available() else "cpu"
        if wanted.startswith("cuda") and not torch.cuda.is_available():
            raise ValueError(
                f"STUDIO_DEVICE is {wanted}, but there is no CUDA GPU here: set it to auto or cpu."
            )
        if wanted == "mps" and not torch.backends.mps.is_available():
            raise ValueError("STUDIO_DEVICE is mps, but there is none here: set it to auto or cpu.")
        return torch.device(wanted)

    @property
    def ready(self) -> bool:
        return self._diffuser is not None and self._scorer is not None

    def load(self, on_stage: Callable[[str], None] | None = None) -> None:
        """Load everything now; `on_stage` gets a sentence before each part."""
        say = on_stage or (lambda text: None)
        say("Loading the diffusion model.")
        self.diffuser()
        say("Loading the scorer.")
        self.scorer()
        say("Loading the projector and the reward model.")
        self.using("projector")
        self.using("reward")

    def diffuser(self) -> Diffuser:
        with self._loading:
            if self._diffuser is None:
                _need("The diffusion model", self.settings.backbone, "diffuser", "STUDIO_BACKBONE")
                on_gpu = self.device.type == "cuda"
                dtype = torch.float16 if on_gpu else torch.float32
                self._diffuser = Diffuser.load(self.settings.backbone, self.device, dtype)
            return self._diffuser

    def share(self, other: Models) -> None:
        """Use the diffuser and the scorer of another studio, and its lock: for a store apart from the user's own."""
        self.lock, self._diffuser, self._scorer = other.lock, other.diffuser(), other.scorer()

    @property
    def loaded_diffuser(self) -> Diffuser | None:
        """The diffuser if it is there already; for what must not wait for it."""
        return self._diffuser

    def scorer(self) -> VLMScorer:
        with self._loading:
            if self._scorer is None:
                _need("The scorer", self.settings.scorer, "scorer", "STUDIO_SCORER")
                self._scorer = VLMScorer.load(self.settings.scorer, self.device)
            return self._scorer

    def using(self, kind: str) -> Using:
        """The projector, reward model or calibrator that is in use, loaded; never raises for a bad checkpoint."""
        with self._loading:
            run = self.store.promoted(kind)
            if run is None and kind not in CLASSES:
                return Using()  # no calibrator is shipped
            folder = self.folder_of(run) if run else Path(getattr(self.settings, kind))
            manifest = folder / checkpoint.MANIFEST
            stamp = manifest.stat().st_mtime_ns if manifest.is_file() else None
            key = (run["id"] if run else None, str(folder), stamp)
            if kind not in self._using or self._using[kind][0] != key:
                self._using[kind] = (key, self._open(kind, folder, run))
            return self._using[kind][1]

    def _open(self, kind: str, folder: Path, run: dict[str, Any] | None) -> Using:
        name = run["id"] if run else SHIPPED
        try:
            model = self.open(kind, folder)
            if kind in CLASSES:
                self.check_fits(model)
        except ValueError as error:
            if run is None and not folder.exists():
                problem = f"There is no {kind} yet: train one, or put a checkpoint at {folder}."
            else:
                problem = f"The {kind} that is in use ({name}) cannot be used. {error}"
            return Using(problem=problem)
        return Using(model, self.recorded(kind, folder, run), name, folder)

    def open(self, kind: str, folder: Path) -> Any:
        """A verified model from a checkpoint's folder, frozen; CheckpointError where it is damaged."""
        if kind == "calibrator":
            return Calibrator.load(folder)
        model = checkpoint.load(CLASSES[kind], folder)
        return model.requires_grad_(False).to(self.device).float()

    def check_fits(self, model: Any) -> None:
        """UnfitError where a projector or reward model was made for another kind of backbone."""
        diffuser = self.diffuser()
        ours = (diffuser.channels, diffuser.text_width)
        theirs = (model.config.latent_channels, model.config.text_width)
        if ours != theirs:
            raise UnfitError(
                f"It reads {theirs[0]} latent channels and text of width {theirs[1]}, and this backbone has {ours[0]} "
                f"and {ours[1]}: train one for this backbone, or choose its backbone by STUDIO_BACKBONE."
            )

    def folder_of(self, run: dict[str, Any]) -> Path:
        """Where a run's checkpoint lies: inside the home folder, or a shipped one."""
        if not run["checkpoint"]:
            raise ValueError(
                f"The run {run['id']} has no checkpoint: let it finish first, or choose another one."
            )
        return self.settings.home / run["checkpoint"]

    def recorded(self, kind: str, folder: Path, run: dict[str, Any] | None) -> str:
        """The run that stands for a checkpoint in the store. What the project ships gets a row as well, so that a
        sample names the very weights that made it."""
        if run:
            return run["id"]
        sha256 = checkpoint.digest(folder)
        id = f"{SHIPPED}-{kind}-{sha256[:12]}"
        try:
            return self.store.run(id)["id"]
        except ValueError:
            pass
        try:
            self.store.new_run(kind, {"source": SHIPPED}, id=id)
            self.store.update_run(
                id,
                state="done",
                checkpoint=str(folder),
                checkpoint_sha256=sha256,
                message="Comes with the project.",
            )
        except ValueError:  # another process was first
            self.store.run(id)
        return id


def _need(what: str, source: str, stage: str, variable: str) -> None:
    """A sentence for the embedded model that has not been made, before a library tries the source as a hub id."""
    if Path(source).is_absolute() and not Path(source).exists():
        raise ValueError(
            f"{what} is not there ({source}): make it by `python -m studio pretrain {stage}`, or set {variable} to a "
            "folder or a hub id."
        )
