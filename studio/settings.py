"""Settings from the environment. The fields of `Settings` are the one table of them: default, meaning and what reads the
variable, which is STUDIO_ and the field's name in capitals."""

# ruff: noqa: RUF009 - `_setting` calls `dataclasses.field`

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from studio.access import hosts, places
from studio.access.identity import on_space

ROOT = Path(__file__).resolve().parent.parent
SIDES = (64, 2048)  # pixels

Reader = Callable[[str, str], Any]  # (variable, its text) -> the value; ValueError with a sentence
_defaults: set[str] = set()


# ---- readers of the environment's text ----------------------------------------------------------------------------


def _one_of(*choices: str) -> Reader:
    def read(variable: str, text: str) -> str:
        if text not in choices:
            listed = " or ".join([", ".join(choices[:-1]), choices[-1]])
            raise ValueError(f"{variable} is {text[:40]!r}: set it to {listed}.")
        return text

    return read


def _whole(low: int, high: int) -> Reader:
    def read(variable: str, text: str) -> int:
        if not text.isdecimal() or not low <= int(text[:9]) <= high or len(text) > 9:
            raise ValueError(f"{variable} is {text[:40]!r}: set it to a whole number from {low} to {high}.")
        return int(text)

    return read


def _auto(reader: Reader) -> Reader:
    """A reader of "auto" or of what another one reads, both as text."""
    return lambda variable, text: text if text == "auto" else str(reader(variable, text))


def _guidance(variable: str, text: str) -> float:
    if not re.fullmatch(r"\d{1,2}(\.\d{1,6})?", text) or float(text) > 20:
        raise ValueError(f"{variable} is {text[:40]!r}: set it to auto or a number from 0 (none) to 20.")
    return float(text)


def _negative(variable: str, text: str) -> str:
    if not text:  # torch takes long to import
        return text
    from core.words import check_prompt

    try:
        return check_prompt(text)
    except ValueError as error:
        raise ValueError(f"{variable} cannot be used as a negative prompt. {error}") from None


def _scheduler(variable: str, text: str) -> str:
    from core.schedulers import SCHEDULERS

    if text and text not in SCHEDULERS:
        raise ValueError(f"{variable} is {text[:60]!r}: set it to one of {', '.join(SCHEDULERS)}.")
    return text


def _device(variable: str, text: str) -> str:
    kind, _, index = text.partition(":")
    if kind not in ("auto", "cpu", "cuda", "mps") or (index and not index.isdecimal()):
        raise ValueError(f"{variable} is {text!r}: set it to auto, cpu, cuda, cuda:1 or mps.")
    return text


def _size(variable: str, text: str) -> str:
    sides = re.fullmatch(r"(\d{1,5})x(\d{1,5})", text)
    if not sides or any(int(s) % 8 or not SIDES[0] <= int(s) <= SIDES[1] for s in sides.groups()):
        raise ValueError(
            f"{variable} is {text[:40]!r}: set it to auto or WIDTHxHEIGHT in multiples of 8 from {SIDES[0]} to "
            f"{SIDES[1]}, for example 1024x768."
        )
    return text


def _folder(variable: str, text: str) -> Path:
    """An absolute path: a default is relative to the project, anything else to the working directory."""
    return ROOT / text if text in _defaults else Path(text).expanduser().absolute()


def _quantization(variable: str, text: str) -> str:
    """A name of core.quantize, or the absolute path of a .gguf file."""
    if text == "none":  # torch takes long to import
        return text
    from core.quantize import NAMES, is_gguf

    if is_gguf(text):
        return str(_folder(variable, text))
    if text not in NAMES:
        raise ValueError(
            f"{variable} is {text[:40]!r}: set it to {', '.join(NAMES)} or the path of a .gguf file."
        )
    return text


def _model(variable: str, text: str) -> str:
    """The absolute path of a folder that exists or can only be meant as one, else a hub id unchanged."""
    folder = _folder(variable, text)
    is_path = folder.exists() or folder.is_relative_to(ROOT / "data") or text.startswith((".", "/", "~"))
    return str(folder) if is_path else text


def is_address(text: str) -> bool:
    """Whether a scorer is a server's address, and no folder or hub id."""
    return text.lower().startswith(("http://", "https://"))


def _scorer(variable: str, text: str) -> str:
    """A server's address without a secret in it (ValueError otherwise), else a folder or a hub id."""
    if is_address(text):
        from core.scoring.connection import check_address

        return check_address(text)
    return _model(variable, text)


def _prompts(variable: str, text: str) -> str:
    """The absolute path of a file or a public set: a training process has another working directory."""
    if text == "shapes":
        return text
    from data.prompts.public import located

    return located(text)


def _token(variable: str, text: str) -> str:
    """'', none, or a secret that a link and a header can carry. The error does not repeat it."""
    if text not in ("", "none") and not re.fullmatch(r"[A-Za-z0-9._~-]{16,200}", text):
        raise ValueError(
            f"{variable} cannot be used: set it to 16 to 200 letters, digits, - . _ or ~, or to none."
        )
    return text


def _hosts(variable: str, text: str) -> str:
    for name in text.split(","):
        if name.strip() and hosts.authority(name) is None:
            raise ValueError(
                f"{variable} has {name.strip()[:100]!r}: write names alone with commas between, as in "
                "STUDIO_HOSTS=studio.example.org,10.0.0.5."
            )
    return text


# ---- the settings -------------------------------------------------------------------------------------------------


def _setting(default: str, meaning: str, read: Reader = lambda variable, text: text, **options: Any) -> Any:
    """A field of `Settings`. default: the text that stands for an unset variable; options: as of `dataclasses.field`."""
    _defaults.add(default)
    metadata = {"default": default, "meaning": meaning, "read": read}
    return field(default=read("", default), metadata=metadata, **options)


@dataclass(frozen=True)
class Settings:
    """Models are folders or hub ids, as text; the other paths are absolute. The defaults of paths are relative to the
    project's folder."""

    home: Path = _setting(".studio", "the one folder that is written to: database, images, runs", _folder)
    backbone: str = _setting("data/models/diffuser", "the diffusion pipeline: a folder or a hub id", _model)
    scorer: str = _setting(
        "data/models/scorer",
        "the vision-language model that scores words: folder, hub id or a server's http(s) address",
        _scorer,
    )
    scorer_revision: str = _setting("", "the scorer's branch, tag or commit, where it is a hub id")
    scorer_dtype: str = _setting(
        "auto",
        "what the scorer computes in: auto (float32 on a CPU, as stored on a GPU), float32, float16 or bfloat16",
        _one_of("auto", "float32", "float16", "bfloat16"),
    )
    scorer_model: str = _setting(
        "auto", "the model's name on a scorer's server; auto takes the first that it lists"
    )
    scorer_parallel: int = _setting("8", "requests in flight to a scorer's server", _whole(1, 256))
    reward: Path = _setting("data/models/reward", "the reward model in use until one is promoted", _folder)
    projector: Path = _setting("data/models/projector", "the projector in use until one is promoted", _folder)
    labels: Path = _setting(
        "data/models/labels", "VLM scores that are trained on again beside new labels", _folder
    )
    examples: str = _setting(
        "data/examples",
        "the example pairs that an empty store begins with, where the models that made them are in use: a folder or none",
        lambda variable, text: text if text == "none" else str(_folder(variable, text)),
    )
    device: str = _setting("auto", "auto (a GPU where there is one), cpu, cuda, cuda:1 or mps", _device)
    threads: int = _setting("0", "CPU threads of the models; 0 leaves it to torch", _whole(0, 1024))
    world: str = _setting(
        "small", "the shapes world that prompts are taken from: small or large", _one_of("small", "large")
    )
    prompts: str = _setting(
        "shapes",
        "the prompts to train and judge on beside the labelled ones: shapes, a file with one a line, or a public set",
        _prompts,
    )
    batch: int = _setting("16", "images made or scored at a time", _whole(1, 1024))
    revision: str = _setting("", "the backbone's branch, tag or commit, where it is a hub id")
    variant: str = _setting("", "of the backbone's weight files, for example fp16")
    dtype: str = _setting(
        "auto",
        "what the backbone computes in: auto (float16 on a GPU), float32, float16 or bfloat16",
        _one_of("auto", "float32", "float16", "bfloat16"),
    )
    size: str = _setting(
        "auto", "of images: auto (the backbone's own) or WIDTHxHEIGHT, multiples of 8", _auto(_size)
    )
    steps: str = _setting(
        "auto",
        "sampling steps where nobody chooses: auto (the backbone's own) or 1 to 100",
        _auto(_whole(1, 100)),
    )
    guidance: str = _setting("auto", "guidance likewise: auto or 0 (none) to 20", _auto(_guidance))
    negative: str = _setting("", "negative prompt of images where nobody chooses; empty: none", _negative)
    scheduler: str = _setting(
        "",
        "diffusers' class name of the scheduler likewise, for example DPMSolverMultistepScheduler; empty: the backbone's own",
        _scheduler,
    )
    offload: str = _setting(
        "none",
        "parts of the backbone that wait outside the GPU: none, model (one at a time is there), group (layers that are copied ahead) or sequential (a layer at a time)",
        _one_of("none", "model", "group", "sequential"),
    )
    quantize: str = _setting(
        "none",
        "the denoiser's weights in fewer bits: none, fp8, torchao-int8, quanto-int8, bnb-int8, bnb-nf4 or a .gguf file of them",
        _quantization,
    )
    compile: str = _setting(
        "no",
        "yes: the blocks that the denoiser repeats are compiled at their first call; not on ZeroGPU",
        _one_of("no", "yes"),
    )
    slicing: str = _setting(
        "no", "yes: attention and autoencoder in slices, slower and in less memory", _one_of("no", "yes")
    )
    vae_slicing: str = _setting(
        "no", "yes: the autoencoder alone decodes image by image", _one_of("no", "yes")
    )
    vae_tiling: str = _setting(
        "no", "yes: the autoencoder alone decodes in tiles, whose seams may show", _one_of("no", "yes")
    )
    gold_every: int = _setting(
        "10",
        "one in so many images that a person is given to annotate carries gold scores; 0: none does",
        _whole(0, 1000),
    )
    confirm: str = _setting(
        "yes",
        "yes: who is done with an image confirms the scores that they were shown and left as they are; no: only n does",
        _one_of("yes", "no"),
    )
    mcp: str = _setting(
        "auto",
        "the named endpoints as MCP tools too: auto (where the package mcp is installed), yes or no",
        _one_of("auto", "yes", "no"),
    )
    annotate: str = _setting(
        "everyone",
        "who may correct scores and vote: everyone, login (accounts that signed in, on a Space) or nobody",
        _one_of("everyone", "login", "nobody"),
    )
    admins: str = _setting(
        "",
        "names, with commas between, that may train, promote, import, export, delete and see gold: accounts on a Space, elsewhere by the token; none: on a Space its owner, elsewhere whoever has the token, on a machine of one's own everyone",
    )
    token: str = _setting(
        "",
        "the administrators' token off a Space: 16 to 200 letters, digits, - . _ or ~; where it is not set, a new one at each start; with the word none everybody is an administrator",
        _token,
        repr=False,
    )
    hosts: str = _setting(
        "",
        "further names, with commas between, by which browsers reach the studio off a Space, such as that of a proxy",
        _hosts,
    )
    max_cells: str = _setting(
        "auto",
        "images that a visitor may ask for at once: auto (256, on a Space 32) or 1 to 256",
        _auto(_whole(1, 256)),
    )
    max_steps: str = _setting(
        "auto",
        "sampling steps that a visitor may ask for: auto (100, on a Space 50) or 1 to 100",
        _auto(_whole(1, 100)),
    )
    max_size: str = _setting(
        "auto",
        "pixels a side that a visitor may ask for: auto (2048, on a Space 1024) or 64 to 2048",
        _auto(_whole(*SIDES)),
    )
    max_samples: str = _setting(
        "auto",
        "images in the store beyond which visitors make no more: auto (no bound, on a Space 20000) or their number",
        _auto(_whole(1, 10**9 - 1)),
    )
    queue: int = _setting(
        "32",
        "requests that may wait for the models: an eighth from one page, half from one account or address; more are turned away",
        _whole(1, 1000),
    )
    backup: str = _setting(
        "",
        "where copies of the store go: a folder (a mounted bucket), or a dataset USER/NAME (needs HF_TOKEN)",
    )
    backup_minutes: int = _setting(
        "15", "minutes between two copies, where something changed", _whole(1, 10_000)
    )
    restore: str = _setting(
        "yes",
        "yes: an empty STUDIO_HOME begins with what STUDIO_BACKUP holds; no: it begins empty",
        _one_of("yes", "no"),
    )
    overlap: int = _setting(
        "0",
        "how many people annotate an image in all, at once or not; 0: any number, one at a time",
        _whole(0, 1000),
    )
    webhook: str = _setting(
        "",
        "an https address that people's new scores are posted to, signed where STUDIO_WEBHOOK_SECRET is set",
        lambda variable, text: hosts.check_webhook(text),
    )

    @classmethod
    def from_env(cls, env: Mapping[str, str] | None = None) -> Settings:
        """Read the environment; ValueError names the variable that is wrong and says what it may be."""
        env = os.environ if env is None else env
        texts = {name: env.get(variable, "").strip() for name, (variable, _, _) in SETTINGS.items()}
        values = {}
        for name, (variable, default, _) in SETTINGS.items():
            values[name] = cls.__dataclass_fields__[name].metadata["read"](variable, texts[name] or default)
        if values["token"] == "none" and values["admins"] and not on_space(env):
            raise ValueError(
                "STUDIO_TOKEN=none makes everybody an administrator, and STUDIO_ADMINS names some: take one of them away."
            )
        home = "" if texts["home"] == SETTINGS["home"][1] else texts["home"]
        values["home"] = places.home(home, cls.home, env)
        values["backup"] = places.backup(texts["backup"], home, env)
        return cls(**values)

    def env(self) -> dict[str, str]:
        """The variables by which another process gets the same settings."""
        return {variable: str(getattr(self, name)) for name, (variable, _, _) in SETTINGS.items()}

    @property
    def sides(self) -> tuple[int, int] | None:
        """(height, width) of images in pixels, or None for the backbone's own."""
        if self.size == "auto":
            return None
        width, height = self.size.split("x")
        return int(height), int(width)

    @property
    def host_names(self) -> list[str]:
        """The names in `hosts`, normalised by `studio.access.hosts.authority`."""
        authorities = map(hosts.authority, self.hosts.split(","))
        return [authority[0] for authority in authorities if authority]

    @property
    def database(self) -> Path:
        return self.home / "studio.db"

    @property
    def images(self) -> Path:
        return self.home / "images"

    @property
    def runs(self) -> Path:
        return self.home / "runs"


# name: (variable, default, what it means)
SETTINGS: dict[str, tuple[str, str, str]] = {
    f.name: (f"STUDIO_{f.name.upper()}", f.metadata["default"], f.metadata["meaning"])
    for f in fields(Settings)
}


def settings_table() -> str:
    """`SETTINGS` as a table in Markdown, as the README shows it."""
    rows = ["| setting | default | meaning |", "|---|---|---|"]
    rows += [
        f"| `{variable}` | {f'`{default}`' if default else 'none'} | {meaning} |"
        for variable, default, meaning in SETTINGS.values()
    ]
    return "\n".join(rows)
