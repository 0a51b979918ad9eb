"""What people set for sampling beside steps and guidance, as pages, endpoints and commands take it and a sample's row keeps it.

LoRA files are those in the folder `loras` of STUDIO_HOME, chosen by name: an administrator puts them there, and no path comes
from a visitor. A file is known by its SHA-256, so that an image can only be made again with the very file.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from core.emphasis import is_weighted, plain
from core.options import MOST_WEIGHT, UNTRAINED, Options, digest_of
from core.schedulers import SCHEDULERS
from core.words import check_prompt
from studio.numbers import real, shown
from studio.settings import Settings

if TYPE_CHECKING:
    from studio.studio import Studio

SUFFIX = ".safetensors"
MOST = 8  # files at once
LONGEST_NAME = 200  # characters of a file's name
WEIGHTS = (-MOST_WEIGHT, MOST_WEIGHT)


@dataclass(frozen=True)
class LoraFile:
    """A file of the folder `loras`, by its name and content, and its weight."""

    name: str
    weight: float
    sha256: str


@dataclass(frozen=True)
class SamplingOptions:
    """negative: the negative prompt; scheduler: a class name, "" for the model's own; loras: in the order of their names;
    weighted: the prompt as it was typed, where parts of it or of the negative prompt have weights, else "". The negative prompt
    is in the syntax of weights only then."""

    negative: str = ""
    scheduler: str = ""
    loras: tuple[LoraFile, ...] = ()
    weighted: str = ""

    def typed(self, prompts: Sequence[str]) -> list[str]:
        """The texts that are sampled under, of plain prompts."""
        return [self.weighted or prompt for prompt in prompts]

    def of(self, settings: Settings) -> Options:
        """The same for `core.options`; ValueError where a file is gone."""
        loras = tuple((str(file_of(settings, lora)), lora.weight) for lora in self.loras)
        return Options(self.negative, self.scheduler, loras, bool(self.weighted))

    @property
    def hashes(self) -> dict[str, str]:
        """The SHA-256 of each LoRA file by its name."""
        return {lora.name: lora.sha256 for lora in self.loras}

    def columns(self) -> dict[str, str]:
        """The columns of a sample but that of the scheduler."""
        return {"negative": self.negative, "weighted": self.weighted, "loras": loras_text(self.loras)}

    def config(self) -> dict[str, Any]:
        """The same as JSON has it."""
        return {**asdict(self), "loras": [asdict(lora) for lora in self.loras]}

    @classmethod
    def of_config(cls, config: Mapping[str, Any]) -> SamplingOptions:
        """The options that `config` gave."""
        return cls(**{**config, "loras": tuple(LoraFile(**lora) for lora in config["loras"])})

    def notes(self, projected: bool) -> list[str]:
        """What is said of them beside an image."""
        return [UNTRAINED] if self.negative and projected else []


NONE = SamplingOptions()


def default_options(settings: Settings) -> SamplingOptions:
    """The options where nobody chooses."""
    return SamplingOptions(settings.negative, settings.scheduler)


def check_options(
    settings: Settings, negative: Any = None, scheduler: Any = None, loras: Any = None
) -> SamplingOptions:
    """The options from the inputs of a page or a command line, None for the studio's own; ValueError with a sentence for
    each bad one. loras: names, or name:weight, as a list or with commas between."""
    default = default_options(settings)
    return SamplingOptions(
        default.negative if negative is None else check_negative(negative),
        default.scheduler if scheduler is None else check_scheduler(scheduler),
        check_loras(settings, loras),
    )


def read_options(
    settings: Settings,
    prompt: Any,
    negative: Any = None,
    scheduler: Any = None,
    loras: Any = None,
    weighted: Any = False,
) -> tuple[Any, SamplingOptions]:
    """A prompt and its options, as `check_options` reads these. weighted: the prompt and the negative prompt are in the syntax
    of weights; the prompt that is returned is plain."""
    options = check_options(settings, negative, scheduler, loras)
    if not isinstance(weighted, bool):
        raise ValueError(f"The weights of words are {shown(weighted)}: switch them on or off.")
    if not weighted:
        return prompt, options
    typed, negative = check_prompt(prompt), options.negative
    if not plain(negative).strip():
        negative = ""
    has_syntax = plain(typed) != typed or plain(negative) != negative
    return plain(typed), replace(options, negative=negative, weighted=typed if has_syntax else "")


def read_prompts(
    settings: Settings,
    prompts: Sequence[str],
    negative: Any = None,
    scheduler: Any = None,
    loras: Any = None,
    weighted: bool = False,
) -> tuple[list[str], SamplingOptions, dict[str, str]]:
    """Prompts and the options that they share, as `read_options` reads one; and the prompts as they were typed by the plain
    ones, nothing where none has weights. ValueError for prompts that differ in their weights alone."""
    options, typed = check_options(settings, negative, scheduler, loras), dict[str, str]()
    for prompt in prompts if weighted else ():
        text, options = read_options(settings, prompt, negative, scheduler, loras, True)
        if typed.setdefault(text, options.weighted) != options.weighted:
            raise ValueError(
                f"The prompt {text[:60]!r} is there with two sets of weights: collect one after the other."
            )
    with_syntax = {text: weighted for text, weighted in typed.items() if weighted}
    return list(typed) or list(prompts), replace(options, weighted=""), with_syntax


def check_negative(text: Any) -> str:
    """A negative prompt; "" for a blank one."""
    return check_prompt(text) if not isinstance(text, str) or text.strip() else ""


def check_scheduler(name: Any) -> str:
    """The name of a scheduler, "" for the model's own; whether it serves the model is known once that is loaded."""
    name = name.strip() if isinstance(name, str) else name
    if name and name not in SCHEDULERS:
        raise ValueError(f"There is no scheduler {shown(name)}: choose one of {', '.join(SCHEDULERS)}.")
    return name or ""


def lora_folder(settings: Settings) -> Path:
    return settings.home / "loras"


def lora_names(settings: Settings) -> list[str]:
    """The names of the LoRA files that can be chosen."""
    folder = lora_folder(settings)
    return (
        sorted(path.name for path in folder.glob(f"*{SUFFIX}") if path.is_file()) if folder.is_dir() else []
    )


def check_loras(settings: Settings, given: Any) -> tuple[LoraFile, ...]:
    """The files of a list of names, each perhaps with a weight ("style:0.8"); ValueError for an unknown one."""
    items = given.split(",") if isinstance(given, str) else given or []
    if not isinstance(items, Sequence):
        raise ValueError(f"The LoRA files {shown(given)} are no list: give names such as style:0.8.")
    names, files = lora_names(settings), {}
    for item in items:
        if not isinstance(item, str):
            raise ValueError(f"The LoRA {shown(item)} is no name: give names such as style:0.8.")
        name, weight = split_item(item)
        if not name and not weight:
            continue
        full = name if name in names else f"{name}{SUFFIX}"
        if full not in names:
            known = f"It has {', '.join(names[:20])}." if names else "It is empty."
            raise ValueError(
                f"There is no LoRA {shown(name)} in the folder loras of STUDIO_HOME. {known} An administrator can put "
                f"{SUFFIX} files there."
            )
        if full in files:
            raise ValueError(f"The LoRA {full} is named twice: name it once.")
        amount = real(f"weight of the LoRA {full}", weight, *WEIGHTS) if weight else 1.0
        files[full] = LoraFile(full, amount, digest_of(lora_folder(settings) / full))
    if len(files) > MOST:
        raise ValueError(f"There are {len(files)} LoRA files: give {MOST} at most.")
    return tuple(files[name] for name in sorted(files))


def split_item(item: str) -> tuple[str, str]:
    """The name and the weight of a LoRA such as "style:0.8"; no weight, "", where none is given. A file's own name may have
    colons: it ends with SUFFIX."""
    item = item.strip()
    name, colon, weight = item.rpartition(":")
    return (item, "") if not colon or item.endswith(SUFFIX) else (name.strip(), weight.strip())


def file_of(settings: Settings, lora: LoraFile) -> Path:
    """The path of a file by its content, whatever its name is now; ValueError where it is gone."""
    folder, names = lora_folder(settings), lora_names(settings)
    for name in sorted(names, key=lambda name: name != lora.name):
        if digest_of(folder / name) == lora.sha256:
            return folder / name
    raise ValueError(
        f"The LoRA {lora.name} (sha256 {lora.sha256[:12]}) is not in the folder loras of STUDIO_HOME, or was replaced: put the "
        "same file there again, or leave it out."
    )


def replaced(settings: Settings, hashes: Mapping[str, str]) -> str:
    """The sentence for LoRA files that were replaced: whose names are here, but with another SHA-256 than in hashes (by
    name). "" where there are none."""
    folder, names = lora_folder(settings), lora_names(settings)
    others = [name for name in hashes if name in names and digest_of(folder / name) != hashes[name]]
    if not others:
        return ""
    return (
        f"The folder loras of STUDIO_HOME has another file under the name {', '.join(others)[:200]} than the image was made "
        "with, so another image will be made: put the same file there again to get the same one."
    )


def loras_text(loras: Sequence[LoraFile]) -> str:
    """The files as the column of a sample has them."""
    return json.dumps(
        [asdict(lora) for lora in loras], sort_keys=True, separators=(",", ":"), ensure_ascii=False
    )


def loras_of(row: Mapping[str, Any]) -> tuple[LoraFile, ...]:
    """The files of a sample's row."""
    return tuple(LoraFile(**lora) for lora in json.loads(row["loras"]))


def options_of(studio: Studio, row: Mapping[str, Any]) -> SamplingOptions:
    """The options by which a sample is asked for again. Which scheduler is the model's own is known once it is loaded; until
    then that of a row is taken for it."""
    diffuser, scheduler = studio.models.loaded_diffuser, row["sampler"]
    own = diffuser is None or scheduler == type(diffuser.scheduler).__name__ or scheduler not in SCHEDULERS
    return SamplingOptions(row["negative"], "" if own else scheduler, loras_of(row), row["weighted"])


def lora_items(loras: Sequence[LoraFile]) -> list[str]:
    """The files as `check_options` takes them."""
    return [lora.name if lora.weight == 1 else f"{lora.name}:{lora.weight:g}" for lora in loras]


def about(row: Mapping[str, Any]) -> list[str]:
    """Lines that say what a sample was made with."""
    lines = [f"prompt with weights: {row['weighted']}"] if row["weighted"] not in ("", row["prompt"]) else []
    with_weights = row["weighted"] and is_weighted(row["negative"])
    title = "negative prompt with weights" if with_weights else "negative prompt"
    lines += [f"{title}: {row['negative']}"] if row["negative"] else []
    if loras := loras_of(row):
        lines.append("LoRA: " + ", ".join(f"{lora.name} ({lora.weight:g})" for lora in loras))
    return [*lines, f"scheduler: {row['sampler']}"] if row["sampler"] else lines
