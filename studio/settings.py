"""Settings: where things lie and what the work runs on, from the environment (one table, `SETTINGS`)."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent

# field: (variable, default, what it means); the defaults of paths are relative to the project's folder
SETTINGS: dict[str, tuple[str, str, str]] = {
    "home": ("STUDIO_HOME", ".studio", "the one folder that is written to: database, images, runs"),
    "backbone": ("STUDIO_BACKBONE", "data/models/diffuser", "the diffusion pipeline: a folder or a hub id"),
    "scorer": (
        "STUDIO_SCORER",
        "data/models/scorer",
        "the vision-language model that scores words: folder or hub id",
    ),
    "reward": ("STUDIO_REWARD", "data/models/reward", "the reward model in use until one is promoted"),
    "projector": ("STUDIO_PROJECTOR", "data/models/projector", "the projector in use until one is promoted"),
    "labels": (
        "STUDIO_LABELS",
        "data/models/labels",
        "VLM scores that are trained on again beside new labels",
    ),
    "device": ("STUDIO_DEVICE", "auto", "auto (a GPU where there is one), cpu, cuda, cuda:1 or mps"),
    "threads": ("STUDIO_THREADS", "0", "CPU threads of the models; 0 leaves it to torch"),
    "world": ("STUDIO_WORLD", "small", "the shapes world that prompts are taken from: small or large"),
    "prompts": (
        "STUDIO_PROMPTS",
        "shapes",
        "the prompts to train and judge on beside the labelled ones: shapes, or a file of one prompt a line",
    ),
    "batch": ("STUDIO_BATCH", "16", "images made or scored at a time"),
}


@dataclass(frozen=True)
class Settings:
    """See `SETTINGS`. Models are folders or hub ids, as text; the other paths are absolute."""

    home: Path = ROOT / ".studio"
    backbone: str = str(ROOT / "data/models/diffuser")
    scorer: str = str(ROOT / "data/models/scorer")
    reward: Path = ROOT / "data/models/reward"
    projector: Path = ROOT / "data/models/projector"
    labels: Path = ROOT / "data/models/labels"
    device: str = "auto"
    threads: int = 0
    world: str = "small"
    prompts: str = "shapes"
    batch: int = 16

    @classmethod
    def from_env(cls, env: Mapping[str, str] | None = None) -> Settings:
        """Read the environment; ValueError names the variable that is wrong and says what it may be."""
        env = os.environ if env is None else env
        raw = {}
        for name, (variable, default, _) in SETTINGS.items():
            raw[name] = env.get(variable, "").strip() or default
        if raw["world"] not in ("small", "large"):
            raise ValueError(f"STUDIO_WORLD is {raw['world']!r}: set it to small or large.")
        kind, _, index = raw["device"].partition(":")
        if kind not in ("auto", "cpu", "cuda", "mps") or (index and not index.isdecimal()):
            raise ValueError(f"STUDIO_DEVICE is {raw['device']!r}: set it to auto, cpu, cuda, cuda:1 or mps.")
        return cls(
            home=_folder(raw["home"]),
            backbone=_model(raw["backbone"]),
            scorer=_model(raw["scorer"]),
            reward=_folder(raw["reward"]),
            projector=_folder(raw["projector"]),
            labels=_folder(raw["labels"]),
            device=raw["device"],
            threads=_whole("STUDIO_THREADS", raw["threads"], 0, 1024),
            world=raw["world"],
            prompts=raw["prompts"],
            batch=_whole("STUDIO_BATCH", raw["batch"], 1, 1024),
        )

    def env(self) -> dict[str, str]:
        """The variables by which another process gets the same settings."""
        return {SETTINGS[f.name][0]: str(getattr(self, f.name)) for f in fields(self)}

    @property
    def database(self) -> Path:
        return self.home / "studio.db"

    @property
    def images(self) -> Path:
        return self.home / "images"

    @property
    def runs(self) -> Path:
        return self.home / "runs"


def settings_table() -> str:
    """`SETTINGS` as a table in Markdown, as the README shows it."""
    rows = ["| setting | default | meaning |", "|---|---|---|"]
    rows += [
        f"| `{variable}` | `{default}` | {meaning} |" for variable, default, meaning in SETTINGS.values()
    ]
    return "\n".join(rows)


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


def _whole(variable: str, text: str, low: int, high: int) -> int:
    if not text.isdecimal() or not low <= int(text[:9]) <= high or len(text) > 9:
        raise ValueError(f"{variable} is {text[:40]!r}: set it to a whole number from {low} to {high}.")
    return int(text)
