"""Settings: where things lie and what the work runs on, from the environment (one table, `studio.settings_table.SETTINGS`)."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path

from studio.access import hosts, places
from studio.access.identity import on_space
from studio.settings_table import SETTINGS

ROOT = Path(__file__).resolve().parent.parent

_CHOICES = {
    "world": ("small", "large"),
    "dtype": ("auto", "float32", "float16", "bfloat16"),
    "scorer_dtype": ("auto", "float32", "float16", "bfloat16"),
    "offload": ("none", "model", "sequential"),
    "slicing": ("no", "yes"),
    "mcp": ("auto", "yes", "no"),
    "confirm": ("yes", "no"),
    "annotate": ("everyone", "login", "nobody"),
    "restore": ("yes", "no"),
}
SIDES = (64, 2048)  # pixels


@dataclass(frozen=True)
class Settings:
    """See `SETTINGS`. Models are folders or hub ids, as text; the other paths are absolute."""

    home: Path = ROOT / ".studio"
    backbone: str = str(ROOT / "data/models/diffuser")
    scorer: str = str(ROOT / "data/models/scorer")
    scorer_revision: str = ""
    scorer_dtype: str = "auto"
    scorer_model: str = "auto"
    scorer_parallel: int = 8
    reward: Path = ROOT / "data/models/reward"
    projector: Path = ROOT / "data/models/projector"
    labels: Path = ROOT / "data/models/labels"
    examples: str = str(ROOT / "data/examples")
    device: str = "auto"
    threads: int = 0
    world: str = "small"
    prompts: str = "shapes"
    batch: int = 16
    revision: str = ""
    variant: str = ""
    dtype: str = "auto"
    size: str = "auto"
    steps: str = "auto"
    guidance: str = "auto"
    offload: str = "none"
    slicing: str = "no"
    gold_every: int = 10
    confirm: str = "yes"
    mcp: str = "auto"
    annotate: str = "everyone"
    admins: str = ""
    token: str = field(default="", repr=False)
    hosts: str = ""
    max_cells: str = "auto"
    max_steps: str = "auto"
    max_size: str = "auto"
    max_samples: str = "auto"
    queue: int = 32
    backup: str = ""
    backup_minutes: int = 15
    restore: str = "yes"
    overlap: int = 0
    webhook: str = ""

    @classmethod
    def from_env(cls, env: Mapping[str, str] | None = None) -> Settings:
        """Read the environment; ValueError names the variable that is wrong and says what it may be."""
        env = os.environ if env is None else env
        raw = {}
        for name, (variable, default, _) in SETTINGS.items():
            raw[name] = env.get(variable, "").strip() or default
        for name, choices in _CHOICES.items():
            if raw[name] not in choices:
                listed = " or ".join([", ".join(choices[:-1]), choices[-1]])
                raise ValueError(f"{SETTINGS[name][0]} is {raw[name][:40]!r}: set it to {listed}.")
        kind, _, index = raw["device"].partition(":")
        if kind not in ("auto", "cpu", "cuda", "mps") or (index and not index.isdecimal()):
            raise ValueError(f"STUDIO_DEVICE is {raw['device']!r}: set it to auto, cpu, cuda, cuda:1 or mps.")
        return cls(
            home=places.home(_given(env, "home"), ROOT / SETTINGS["home"][1], env),
            backbone=_model(raw["backbone"]),
            scorer=_scorer(raw["scorer"]),
            scorer_revision=raw["scorer_revision"],
            scorer_dtype=raw["scorer_dtype"],
            scorer_model=raw["scorer_model"],
            scorer_parallel=_whole("STUDIO_SCORER_PARALLEL", raw["scorer_parallel"], 1, 256),
            reward=_folder(raw["reward"]),
            projector=_folder(raw["projector"]),
            labels=_folder(raw["labels"]),
            examples=raw["examples"] if raw["examples"] == "none" else str(_folder(raw["examples"])),
            device=raw["device"],
            threads=_whole("STUDIO_THREADS", raw["threads"], 0, 1024),
            world=raw["world"],
            prompts=_prompts(raw["prompts"]),
            batch=_whole("STUDIO_BATCH", raw["batch"], 1, 1024),
            revision=raw["revision"],
            variant=raw["variant"],
            dtype=raw["dtype"],
            size=_size(raw["size"]),
            steps=_own(raw["steps"], lambda text: _whole("STUDIO_STEPS", text, 1, 100)),
            guidance=_own(raw["guidance"], _guidance),
            offload=raw["offload"],
            slicing=raw["slicing"],
            gold_every=_whole("STUDIO_GOLD_EVERY", raw["gold_every"], 0, 1000),
            confirm=raw["confirm"],
            mcp=raw["mcp"],
            annotate=raw["annotate"],
            admins=raw["admins"],
            token=_token(raw["token"], raw["admins"], env),
            hosts=_hosts(raw["hosts"]),
            max_cells=_bound("max_cells", raw, 1, 256),
            max_steps=_bound("max_steps", raw, 1, 100),
            max_size=_bound("max_size", raw, *SIDES),
            max_samples=_bound("max_samples", raw, 1, 10**9 - 1),
            queue=_whole("STUDIO_QUEUE", raw["queue"], 1, 1000),
            backup=places.backup(raw["backup"], _given(env, "home"), env),
            backup_minutes=_whole("STUDIO_BACKUP_MINUTES", raw["backup_minutes"], 1, 10_000),
            restore=raw["restore"],
            overlap=_whole("STUDIO_OVERLAP", raw["overlap"], 0, 1000),
            webhook=_webhook(raw["webhook"]),
        )

    def env(self) -> dict[str, str]:
        """The variables by which another process gets the same settings."""
        return {SETTINGS[f.name][0]: str(getattr(self, f.name)) for f in fields(self)}

    @property
    def sides(self) -> tuple[int, int] | None:
        """(height, width) of images in pixels, or None for the backbone's own."""
        if self.size == "auto":
            return None
        width, height = self.size.split("x")
        return int(height), int(width)

    @property
    def host_names(self) -> list[str]:
        """`hosts` as `studio.access.hosts.authority` gives them."""
        found = [hosts.authority(text) for text in self.hosts.split(",") if text.strip()]
        return [one[0] for one in found if one]

    @property
    def database(self) -> Path:
        return self.home / "studio.db"

    @property
    def images(self) -> Path:
        return self.home / "images"

    @property
    def runs(self) -> Path:
        return self.home / "runs"


def _given(env: Mapping[str, str], name: str) -> str:
    """What was set, '' for the default."""
    text = env.get(SETTINGS[name][0], "").strip()
    return "" if text == SETTINGS[name][1] else text


def _bound(name: str, raw: Mapping[str, str], low: int, high: int) -> str:
    return _own(raw[name], lambda text: _whole(SETTINGS[name][0], text, low, high))


def _folder(text: str) -> Path:
    """Relative to where the user stands if it was given so; the defaults are relative to the project."""
    if text in {default for _, default, _ in SETTINGS.values()}:
        return ROOT / text
    return Path(text).expanduser().absolute()


def _model(text: str) -> str:
    """A folder where there is one or where only a folder can be meant, else a hub id as it is."""
    folder = _folder(text)
    is_path = folder.exists() or folder.is_relative_to(ROOT / "data") or text.startswith((".", "/", "~"))
    return str(folder) if is_path else text


def is_address(text: str) -> bool:
    """Whether a scorer is a server's address, and no folder or hub id."""
    return text.lower().startswith(("http://", "https://"))


def _scorer(text: str) -> str:
    """A server's address without secrets in it (ValueError otherwise), else a folder or a hub id."""
    if is_address(text):
        from core.scoring.connection import check_address

        return check_address(text)
    return _model(text)


def _token(text: str, admins: str, env: Mapping[str, str]) -> str:
    """STUDIO_TOKEN: '', none, or a secret that a link and a header can carry. The sentence does not repeat it."""
    if text == "none" and admins and not on_space(env):
        raise ValueError(
            "STUDIO_TOKEN=none makes everybody an administrator, and STUDIO_ADMINS names some: take one of them away."
        )
    if text not in ("", "none") and not re.fullmatch(r"[A-Za-z0-9._~-]{16,200}", text):
        raise ValueError(
            "STUDIO_TOKEN cannot be used: set it to 16 to 200 letters, digits, - . _ or ~, or to none."
        )
    return text


def _hosts(text: str) -> str:
    for name in text.split(","):
        if name.strip() and hosts.authority(name) is None:
            raise ValueError(
                f"STUDIO_HOSTS has {name.strip()[:100]!r}: write names alone with commas between, as in "
                "STUDIO_HOSTS=studio.example.org,10.0.0.5."
            )
    return text


def _webhook(text: str) -> str:
    if not text:
        return text
    return hosts.check_webhook(text)


def _prompts(text: str) -> str:
    """A file or a public set by its absolute path: a job of its own does not stand where the user stands."""
    if text == SETTINGS["prompts"][1]:
        return text
    from data.prompts.public import located

    return located(text)


def _whole(variable: str, text: str, low: int, high: int) -> int:
    if not text.isdecimal() or not low <= int(text[:9]) <= high or len(text) > 9:
        raise ValueError(f"{variable} is {text[:40]!r}: set it to a whole number from {low} to {high}.")
    return int(text)


def _own(text: str, check: Callable[[str], float]) -> str:
    """auto, or a number that was checked."""
    return text if text == "auto" else str(check(text))


def _guidance(text: str) -> float:
    if not re.fullmatch(r"\d{1,2}(\.\d{1,6})?", text) or float(text) > 20:
        raise ValueError(f"STUDIO_GUIDANCE is {text[:40]!r}: set it to auto or a number from 0 (none) to 20.")
    return float(text)


def _size(text: str) -> str:
    if text == "auto":
        return text
    sides = re.fullmatch(r"(\d{1,5})x(\d{1,5})", text)
    if not sides or any(int(s) % 8 or not SIDES[0] <= int(s) <= SIDES[1] for s in sides.groups()):
        raise ValueError(
            f"STUDIO_SIZE is {text[:40]!r}: set it to auto or WIDTHxHEIGHT in multiples of 8 from {SIDES[0]} to "
            f"{SIDES[1]}, for example 1024x768."
        )
    return text
