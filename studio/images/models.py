"""Loaded models: the diffuser, the scorer, and the projector, reward model, calibrator and LoRA that are in use.

They are loaded when first needed, kept, and used by one piece of work at a time (`lock`). What is in use follows the
store's promotions, else what the project ships; another process may promote, so the store is asked each time. A missing
or damaged projector is a sentence in `Using.problem`: work that needs none is not disturbed.
"""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from core import checkpoint, ranks
from core.backbone import Backbone
from core.diffusion import Diffuser
from core.families import Sampling
from core.loading import DTYPES, own_sampling
from core.options import configured
from core.scoring.calibrator import Calibrator
from core.scoring.endpoint import EndpointScorer
from core.scoring.vlm import VLMScorer
from data.store import Store
from studio.access.places import shortened
from studio.images import gpu
from studio.images.options import NONE, SamplingOptions, default_options
from studio.settings import Settings, is_address

log = logging.getLogger("studio")
SHIPPED = "shipped"
NETWORKS = ("projector", "reward")  # the kinds of model that the project ships one of
_importing = threading.Lock()


class UnfitError(ValueError):
    """A projector or reward model of another kind of backbone."""


@dataclass(frozen=True)
class Using:
    """A model that is in use: its run in the store, 'shipped' or the run's id as `name`, its checkpoint's folder, and a
    sentence where it was trained for another backbone of the same shapes; or no model, and a sentence why."""

    model: Any = None
    run: str | None = None
    name: str | None = None
    folder: Path | None = None
    problem: str = ""
    warning: str = ""


class Models:
    """The models of one studio. Methods may be called from any thread; hold `lock` while a model computes."""

    def __init__(self, settings: Settings, store: Store) -> None:
        self.settings, self.store = settings, store
        self.lock = threading.Lock()  # one model computes at a time
        self._loading = threading.RLock()
        self._diffuser: Diffuser | None = None
        self._scorer: VLMScorer | EndpointScorer | None = None
        self._own: Sampling | None = None
        self._using: dict[str, tuple[tuple, Using]] = {}
        self._teacher: tuple[Any, Using] = (None, Using())  # a reward model, and the teacher beside it
        if settings.threads:
            torch.set_num_threads(settings.threads)

    def after_fork(self) -> None:
        """New locks in a forked process: the copied ones may be held by threads that it does not have."""
        self.lock, self._loading = threading.Lock(), threading.RLock()

    @property
    def device(self) -> torch.device:
        wanted = self.settings.device
        if wanted == "auto":
            wanted = ranks.gpu() if torch.cuda.is_available() else "cpu"
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
        say("Loading the libraries of the models.")
        libraries()
        say("Loading the diffusion model.")
        self.diffuser()
        self.check_options()
        say("Loading the scorer.")
        self.scorer()
        say("Loading the projector and the reward model.")
        self.using("projector")
        self.using("reward")

    def diffuser(self) -> Diffuser:
        with self._loading:
            if self._diffuser is None:
                libraries()
                settings = self.settings
                if settings.compile == "yes" and gpu.apart():
                    raise ValueError("ZeroGPU cannot compile models: set STUDIO_COMPILE to no.")
                _need("The diffusion model", settings.backbone, "diffuser", "STUDIO_BACKBONE")
                self._diffuser = Diffuser.load(
                    settings.backbone, self.device, self.dtype, revision=settings.revision or None,
                    variant=settings.variant or None, size=settings.sides, offload=settings.offload,
                    quantize=settings.quantize, slicing=settings.slicing == "yes",
                    vae_slicing=settings.vae_slicing == "yes", vae_tiling=settings.vae_tiling == "yes",
                    compile_blocks=settings.compile == "yes",
                )  # fmt: skip
            return self._diffuser

    def configured(self, options: SamplingOptions | None = None) -> Any:
        """The diffuser under options, None for the studio's own; images are sampled with it. ValueError where the model has
        no such option."""
        options = default_options(self.settings) if options is None else options
        return configured(self.diffuser(), options.of(self.settings))

    def check_options(self) -> None:
        """ValueError where the model has no such option as the settings say, at any guidance."""
        options = default_options(self.settings)
        try:
            diffuser = self.configured(options)
            if options != NONE:
                diffuser.check()
        except ValueError as error:
            named = {"STUDIO_NEGATIVE": options.negative, "STUDIO_SCHEDULER": options.scheduler}
            given = " and ".join(f"{name} ({value[:60]!r})" for name, value in named.items() if value)
            raise ValueError(f"{given} cannot be used with this backbone. {error}") from error

    def share(self, other: Models) -> None:
        """Use the diffuser, the scorer and the lock of another studio."""
        self.lock, self._diffuser, self._scorer = other.lock, other.diffuser(), other.scorer()

    @property
    def dtype(self) -> torch.dtype:
        """The backbone's number format."""
        if self.settings.dtype == "auto":
            return torch.float16 if self.device.type == "cuda" else torch.float32
        return DTYPES[self.settings.dtype]

    def sampling(self) -> dict[str, Any]:
        """The default {steps, guidance}: the settings', else the backbone's own. Loads no model."""
        with self._loading:
            if self._own is None:
                self._own = own_sampling(self.settings.backbone, self.settings.revision or None)
        steps, guidance = self.settings.steps, self.settings.guidance
        return {
            "steps": self._own.steps if steps == "auto" else int(steps),
            "guidance": self._own.guidance if guidance == "auto" else float(guidance),
        }

    @property
    def loaded_diffuser(self) -> Diffuser | None:
        """The diffuser if it is loaded, for what must not wait for it."""
        return self._diffuser

    def scorer(self) -> VLMScorer | EndpointScorer:
        """The scorer; a server is not asked anything yet."""
        with self._loading:
            settings = self.settings
            if self._scorer is None and is_address(settings.scorer):
                name = "" if settings.scorer_model == "auto" else settings.scorer_model
                key = os.environ.get("STUDIO_SCORER_KEY", "").strip()
                self._scorer = EndpointScorer(settings.scorer, name, key, parallel=settings.scorer_parallel)
            elif self._scorer is None:
                libraries()
                _need("The scorer", settings.scorer, "scorer", "STUDIO_SCORER")
                dtype = None if settings.scorer_dtype == "auto" else settings.scorer_dtype
                revision = settings.scorer_revision or None
                self._scorer = VLMScorer.load(settings.scorer, self.device, dtype, revision)
            return self._scorer

    def using(self, kind: str) -> Using:
        """The projector, reward model, calibrator or LoRA in use, loaded; a bad checkpoint is a `problem`, not an error."""
        with self._loading:
            run = self.store.runs.promoted(kind)
            if run is None and kind not in NETWORKS:
                return Using()  # no calibrator and no LoRA is shipped
            folder = self.folder_in_use(kind, run)
            manifest = folder / checkpoint.MANIFEST
            stamp = manifest.stat().st_mtime_ns if manifest.is_file() else None
            key = (run["id"] if run else None, folder, stamp)
            if kind not in self._using or self._using[kind][0] != key:
                self._using[kind] = (key, self._open(kind, folder, run))
            return self._using[kind][1]

    def teacher(self, reward: Using | None = None) -> Using:
        """The teacher (`core.foresight.Teacher`) beside a reward model, None for the one in use; opened once. `run` and
        `name` are the reward model's."""
        with self._loading:
            reward = reward or self.using("reward")
            if reward.model is None or reward.folder is None:
                return Using(problem=reward.problem)
            if self._teacher[0] is not reward.model:
                from core.foresight import Teacher  # with diffusers, which a start does not wait for

                try:
                    using = replace(reward, model=Teacher.of_reward(reward.folder, self.diffuser()))
                except ValueError as error:
                    using = Using(problem=shortened(str(error)))
                self._teacher = (reward.model, using)
            return self._teacher[1]

    def taught(self) -> bool:
        """Whether the reward model in use has a teacher. Loads nothing."""
        try:
            folder = self.folder_in_use("reward", self.store.runs.promoted("reward"))
        except ValueError:
            return False
        return (folder / "teacher" / "reader").is_dir()

    def of_run(self, kind: str, run_id: str | None) -> Using:
        """Like `using`, for the model of a run; None for the shipped one."""
        run = self.store.runs.get(run_id) if run_id else None
        if run is None and kind not in NETWORKS:
            return Using()
        return self._open(kind, self.folder_in_use(kind, run), run)

    def _open(self, kind: str, folder: Path, run: dict[str, Any] | None) -> Using:
        name = run["id"] if run else SHIPPED
        try:
            model, warning = self.open(kind, folder), ""
            if kind in NETWORKS:
                self.check_fits(model, folder)
                warning = self.warning_of(kind, name, folder)
            elif kind == "lora":
                model.check_fits(self.diffuser())
        except ValueError as error:
            if run is None and not folder.exists():
                problem = f"There is no {kind} yet: train one, or put a checkpoint where STUDIO_{kind.upper()} says."
            else:
                problem = f"The {kind} that is in use ({name}) cannot be used. {shortened(str(error))}"
            return Using(problem=problem)
        if warning:
            log.warning("%s", warning)
        return Using(model, self.recorded(kind, folder, run), name, folder, warning=warning)

    def open(self, kind: str, folder: Path) -> Any:
        """A verified, frozen model from a checkpoint's folder; CheckpointError for a damaged one."""
        if kind not in NETWORKS:
            return class_of(kind).load(folder)
        model = checkpoint.load(class_of(kind), folder)
        return model.requires_grad_(False).to(self.device).float()

    def backbone(self) -> Backbone:
        """The facts of the backbone, for the manifests of what is trained for it."""
        # on a ZeroGPU Space the weights are where only the forked process reads them
        return Backbone.of(self.diffuser(), readable=not gpu.apart())

    def check_fits(self, model: Any, folder: Path) -> None:
        """UnfitError for a projector or reward model, from this folder, that reads other shapes than the backbone has."""
        if refused := self.backbone().refused(Backbone.read(folder), model.config):
            raise UnfitError(refused)

    def warning_of(self, kind: str, name: str, folder: Path) -> str:
        """The sentence for a projector or reward model that was trained for another backbone of the same shapes, or ''."""
        warning = self.backbone().warning(Backbone.read(folder))
        what = "projector" if kind == "projector" else "reward model"
        return f"The {what} that is in use ({name}) may not fit. {shortened(warning)}" if warning else ""

    def folder_of(self, run: dict[str, Any]) -> Path:
        """The folder of a run's checkpoint, which is in the home folder or a shipped one."""
        if not run["checkpoint"]:
            raise ValueError(
                f"The run {run['id']} has no checkpoint: let it finish first, or choose another one."
            )
        return self.settings.home / run["checkpoint"]

    def folder_in_use(self, kind: str, run: dict[str, Any] | None) -> Path:
        """The folder of the checkpoint of a run, None for the shipped model of this kind."""
        return self.folder_of(run) if run else Path(getattr(self.settings, kind))

    def recorded(self, kind: str, folder: Path, run: dict[str, Any] | None) -> str:
        """The id of the run that stands for a checkpoint in the store. A shipped checkpoint gets a run too, so that a
        sample names the very weights that made it."""
        if run:
            return run["id"]
        sha256 = checkpoint.digest(folder)
        id = f"{SHIPPED}-{kind}-{sha256[:12]}"
        try:
            return self.store.runs.get(id)["id"]
        except ValueError:
            pass
        try:
            with self.store.database.writing():
                self.store.runs.new(kind, {"source": SHIPPED}, id=id)
                about = {"checkpoint": str(folder), "checkpoint_sha256": sha256}
                self.store.runs.update(id, state="done", message="Comes with the project.", **about)
        except ValueError:  # another process was first
            self.store.runs.get(id)
        return id


def libraries() -> None:
    """Import the models' libraries, once. Not with this file: it takes longer than the rest of a start, and the page can be
    shown meanwhile. One thread at a time, as these libraries' modules import each other in circles."""
    with _importing:
        import diffusers.utils
        import transformers.utils

        import core.guidance
        import core.networks.projector
        import core.networks.reward
        import core.training.lora  # noqa: F401 - each is asked for by name later

        for library in (diffusers, transformers):
            library.utils.logging.disable_progress_bar()  # the studio tells its own progress


def class_of(kind: str) -> Any:
    """The class of a kind of model."""
    libraries()
    from core.adapter import Adapter
    from core.networks.projector import NoiseProjector
    from core.networks.reward import RewardModel

    classes = {"projector": NoiseProjector, "reward": RewardModel, "calibrator": Calibrator, "lora": Adapter}
    return classes[kind]


def _need(what: str, source: str, stage: str, variable: str) -> None:
    """ValueError for an embedded model that has not been made, before a library tries the source as a hub id."""
    if Path(source).is_absolute() and not Path(source).exists():
        raise ValueError(
            f"{what} is not there ({source}): make it by `python -m studio pretrain {stage}`, or set {variable} to a "
            "folder or a hub id."
        )
