"""What people set for sampling beside steps and guidance: negative prompt, weights, scheduler, LoRA files.

`Configured(diffuser, options)` is a diffuser that samples under them. Methods and experiments take it as any diffuser. What
the projector and the reward model read stays the plain prompt: the negative prompt and the weights reach the denoiser
alone. A LoRA changes the text encoders too, where it has layers for them, and then all read the text as these encode it.
"""

from __future__ import annotations

import hashlib
import re
import weakref
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from core.adapter import LOADED, check_loaded
from core.diffusion import Diffuser, Text
from core.emphasis import plain, token_weights, weighted
from core.families import text_of
from core.loading import out_of_memory
from core.schedulers import like
from core.words import check_prompt

FILE = f"{LOADED}file_"  # prefix of the names of adapters from files; core.adapter replaces them as it does its own
DOWN = re.compile(
    r"lora_A\.|lora\.down\.|lora_down\.|lora_linear_layer\.down\."
)  # one a layer of a LoRA file
BASES = ("ss_base_model_version", "modelspec.architecture", "ss_sd_model_name")
"""What trainers (kohya's, and others after the specification ModelSpec) write into a file of its base model."""
MOST_WEIGHT = 10.0
UNTRAINED = "The projector was trained without a negative prompt, so what it gains with one is not known: compare the two."
_layers: weakref.WeakKeyDictionary[Any, dict[str, list[str]]] = weakref.WeakKeyDictionary()
"""Of pipelines with adapters from files: the adapters of each component as they were loaded."""


@dataclass(frozen=True)
class Options:
    """Options of sampling.

    negative: what the image should not show, in the same syntax as the prompts. scheduler: diffusers' class name
    (`core.schedulers`), "" for the model's own.
    loras: LoRA files (.safetensors) or hub ids, each with its weight. weighted: prompts are in the WebUI's syntax of weights
    (`core.emphasis`)."""

    negative: str = ""
    scheduler: str = ""
    loras: tuple[tuple[str, float], ...] = ()
    weighted: bool = False


class Configured:
    """A diffuser that samples under options; all other attributes are those of the diffuser. ValueError where the model has
    no such option."""

    def __init__(self, diffuser: Diffuser, options: Options) -> None:
        self._diffuser, self.options = diffuser, options
        if options.negative and (problem := without_negative(diffuser)):
            raise ValueError(problem)
        own, sigmas = diffuser.scheduler, diffuser.family.own_sigmas
        self._scheduler = like(own, options.scheduler, sigmas) if options.scheduler else None
        check_weights(options.loras)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._diffuser, name)

    @property
    def fingerprint(self) -> str:
        """Changes when the same seed and settings would make another image."""
        files = tuple((name_of(source), weight) for source, weight in self.options.loras)
        return f"{self._diffuser.fingerprint} {asdict(replace(self.options, loras=files))}"

    def check(self, guidance: float | None = None) -> None:
        """ValueError where there is a negative prompt and the model has no use for it, at this guidance or at any (None)."""
        if self.options.negative and (problem := without_negative(self._diffuser, guidance)):
            raise ValueError(problem)

    def encode(self, prompts: Sequence[str]) -> Text:
        """As `Diffuser.encode`, of the plain texts; prompts may have weights where the options say so."""
        given, weighted = [check_prompt(prompt) for prompt in prompts], self.options.weighted
        read = plain if weighted else str
        with lora_files(self._diffuser, self.options.loras):
            text = self._diffuser.encode([read(prompt) for prompt in given], read(self.options.negative))
        if weighted:
            text.emphasis = token_weights(self._diffuser, given, text.mask).to(text.hidden.device)
            text.negative_emphasis = self._negative_weights(text)
        return text

    def _negative_weights(self, text: Text) -> Tensor | None:
        """Weights (B, L) of the tokens of the negative prompt of a text, None where there is none."""
        if not self.options.negative or text.negative is None:
            return None
        diffuser, mask = self._diffuser, text.negative_mask
        if mask is None:
            states = {"hidden": text.negative}
            mask = text_of(diffuser.family, diffuser.pipe, [plain(self.options.negative)], states)[1]
        row = token_weights(diffuser, [self.options.negative], mask[:1].bool(), negative=True)
        return row.repeat(len(text), 1).to(text.negative.device)

    @torch.no_grad()
    def sample(
        self,
        text: Text,
        noise: Tensor,
        steps: int | None = None,
        guidance: float | None = None,
        *args: Any,
        **more: Any,
    ) -> Tensor:
        """As `Diffuser.sample`. Scheduler and denoiser are afterwards what they were, also where an error is raised."""
        self.check(self._diffuser.default_guidance if guidance is None else guidance)
        if text.emphasis is not None:
            text = replace(text, hidden=weighted(text.hidden, text.emphasis))
        if text.negative is not None and text.negative_emphasis is not None:
            text = replace(text, negative=weighted(text.negative, text.negative_emphasis))
        with lora_files(self._diffuser, self.options.loras), scheduled(self._diffuser, self._scheduler):
            return self._diffuser.sample(text, noise, steps, guidance, *args, **more)


def configured(diffuser: Diffuser, options: Options) -> Any:
    """The diffuser under options; itself where nothing is set."""
    return diffuser if options == Options() else Configured(diffuser, options)


def without_negative(diffuser: Diffuser, guidance: float | None = None) -> str:
    """Why a negative prompt has no effect on this model, or at this guidance; "" where it has one."""
    family = diffuser.family
    if all(field != "negative" for field, _ in family.arguments):
        return f"{diffuser.name} ({family.name}) has no negative prompt: leave it empty."
    if diffuser.embedded or not diffuser.guided:
        return f"{diffuser.name} was distilled to work in one pass, in which a negative prompt has no effect: leave it empty."
    none = 0 if family.original_guidance else 1  # the guidance that is none
    if guidance is not None and guidance <= none:
        return f"At a guidance of {guidance:g} a negative prompt has no effect: leave it empty, or set a guidance above {none}."
    return ""


def check_weights(loras: Sequence[tuple[str, float]]) -> None:
    """ValueError for a weight out of range, and for a file that is named twice."""
    for source, weight in loras:
        if not -MOST_WEIGHT <= weight <= MOST_WEIGHT:
            raise ValueError(
                f"The weight {weight:g} of the LoRA {Path(source).name} is not from {-MOST_WEIGHT:g} to {MOST_WEIGHT:g}: "
                "change it; 1 is the usual one."
            )
    names = [source for source, _ in loras]
    if twice := [name for name in names if names.count(name) > 1]:
        raise ValueError(f"The LoRA {Path(twice[0]).name} is named twice: name it once.")


@contextmanager
def scheduled(diffuser: Diffuser, scheduler: Any) -> Iterator[None]:
    """Give the diffuser's pipeline a scheduler, None for its own, while the block runs."""
    if scheduler is None:
        yield
        return
    own = diffuser.replaced = diffuser.pipe.scheduler
    diffuser.pipe.scheduler = scheduler
    try:
        yield
    finally:
        diffuser.pipe.scheduler = own
        diffuser.replaced = None


@contextmanager
def lora_files(diffuser: Diffuser, loras: Sequence[tuple[str, float]]) -> Iterator[None]:
    """Enable LoRA files with their weights while the block runs; afterwards every component computes bit for bit as before.

    The layers stay on the pipeline, disabled, so that the next batch need not read the files again; other files take their
    place. ValueError with a sentence for a file that cannot be used; then no layer of any file is left."""
    if not loras:
        yield
        return
    pipe = diffuser.pipe
    check_free(diffuser)
    names = {name_of(source): (source, weight) for source, weight in loras}
    layers = _layers.get(pipe)
    if (
        layers is None
        or layers != listed(pipe)
        or not set(names) <= {n for each in layers.values() for n in each}
    ):
        _layers.pop(pipe, None)
        pipe.unload_lora_weights()
        try:
            for name, (source, _) in names.items():
                _load(diffuser, source, name)
        except BaseException:
            pipe.unload_lora_weights()
            raise
        _layers[pipe] = listed(pipe)
    try:
        pipe.set_adapters(list(names), [weight for _, weight in names.values()])
        pipe.enable_lora()
        yield
    finally:
        pipe.disable_lora()


def check_free(diffuser: Diffuser) -> None:
    """ValueError where LoRA files cannot be put on a diffuser's pipeline."""
    from peft.tuners.tuners_utils import BaseTunerLayer

    check_loaded(diffuser)
    if not hasattr(diffuser.pipe, "load_lora_weights"):
        raise ValueError(f"diffusers loads no LoRA files into {diffuser.name}'s pipeline: leave them out.")
    if any(not weight.is_floating_point() for weight in diffuser.denoiser.parameters()):
        raise ValueError(
            "LoRA files are not put on weights in whole numbers: set STUDIO_QUANTIZE to fp8 or none, or leave the files out."
        )
    layers = (layer for layer in diffuser.denoiser.modules() if isinstance(layer, BaseTunerLayer))
    if any(not layer.disable_adapters for layer in layers):
        raise ValueError(
            "Another LoRA is on the denoiser already (the method lora, or one that was loaded into the model): leave it or "
            "the LoRA files out."
        )


def name_of(source: str) -> str:
    """The name of a file's adapter: by its content, so that a file that was replaced is read again."""
    path = Path(source)
    digest = digest_of(path) if path.is_file() else hashlib.sha256(source.encode()).hexdigest()
    return FILE + digest[:16]


def digest_of(path: Path) -> str:
    """The SHA-256 of a file, computed once as long as the file is unchanged."""
    stat = path.stat()
    return _digest(path, stat.st_mtime_ns, stat.st_size)


@lru_cache(maxsize=256)
def _digest(path: Path, _changed: int, _size: int) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def listed(pipe: Any) -> dict[str, list[str]]:
    """The adapters of each component of a pipeline."""
    return {name: list(adapters) for name, adapters in pipe.get_list_adapters().items()}


def _load(diffuser: Diffuser, source: str, name: str) -> None:
    """Load a file's layers, all of them; ValueError with a sentence otherwise."""
    from core.guidance import unlogged

    pipe, path = diffuser.pipe, Path(source)
    if path.suffix and path.is_file() and path.suffix != ".safetensors":
        raise ValueError(
            f"The LoRA {path.name} is no .safetensors file: convert it, as other formats can run code."
        )
    where: dict[str, Any] = {"weight_name": path.name, "local_files_only": True} if path.is_file() else {}
    folder = str(path.parent) if path.is_file() else source
    try:
        with unlogged():
            state = pipe.lora_state_dict(
                folder, use_safetensors=True, unet_config=diffuser.denoiser.config, **where
            )
            keys = list(state[0] if isinstance(state, tuple) else state)
            if any("norm" in key.rpartition(".lora")[2] or "x_embedder" in key for key in keys):
                raise ValueError("it replaces layers, which cannot be undone")
            pipe.load_lora_weights(folder, adapter_name=name, use_safetensors=True, **where)
    except Exception as error:
        if out_of_memory(error):
            raise
        reason = (str(error).strip() or type(error).__name__).splitlines()[0][:200]
        raise ValueError(
            f"The LoRA {path.name} cannot be put on {diffuser.name} ({reason}): it is damaged or was made for another base "
            f"model. {made_for(path)}Take one that was made for this one."
        ) from error
    wanted, there = sum(bool(DOWN.search(key)) for key in keys), 0
    for component in pipe.components.values():
        if isinstance(component, torch.nn.Module):
            there += sum(name in getattr(layer, "lora_A", {}) for layer in component.modules())
            for key, parameter in component.named_parameters():
                if f".{name}." in key:  # copied, as the file is mapped into memory and may be replaced
                    parameter.requires_grad_(False).data = parameter.data.clone()
    if there < max(wanted, 1):
        raise ValueError(
            f"Of the {wanted} layers of the LoRA {path.name} only {there} have a place in {diffuser.name}: it was made for "
            f"another base model. {made_for(path)}Take one that was made for this one."
        )


def made_for(path: Path) -> str:
    """The sentence that names the base model which a LoRA file says it was made for, "" where it says none."""
    try:
        with safe_open(path, framework="pt") as file:
            about = file.metadata() or {}
    except (OSError, SafetensorError):
        return ""
    base = " ".join(next((about[key] for key in BASES if about.get(key)), "").split())
    return f"The file says that it was made for {base[:80]}. " if base else ""
