"""Journal of an experiment: finished records as JSON lines, from which a killed experiment resumes.

The first line holds the settings; each method begins with a line of its fingerprint. An experiment with other settings,
or a method with another fingerprint, is refused in the same folder: its figures would mix two experiments.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from core.jsonfile import lines_of

FILE = "items.jsonl"
Key = tuple[str, str, tuple[int, ...]]  # method, prompt, seeds


class Journal:
    """Records by (method, prompt, seeds), in a folder or only in memory."""

    def __init__(self, folder: Path | None, settings: dict[str, Any], fingerprints: dict[str, str]) -> None:
        self.path = folder / FILE if folder else None
        self.settings = settings
        self._records: dict[Key, dict[str, Any]] = {}
        known: dict[str, str] = {}
        stored = None
        for line in self._lines():
            try:
                if "settings" in line:
                    stored = dict(line["settings"])
                elif "fingerprint" in line:
                    known[line["method"]] = line["fingerprint"]
                else:
                    self._records[key(line["method"], line["prompt"], line["seeds"])] = line
            except (KeyError, TypeError, ValueError):
                raise ValueError(
                    f"{self.path} is damaged: a line names no settings, method, prompt or seeds. Remove the file and start the "
                    "experiment again."
                ) from None
        if stored is None:
            self._write({"settings": settings})
        elif stored != json.loads(json.dumps(settings)):
            changed = sorted(name for name in {*stored, *settings} if stored.get(name) != settings.get(name))
            raise ValueError(
                f"The folder {folder} holds an experiment with other settings ({', '.join(changed)}): "
                "give another folder, or remove that one."
            )
        for name, fingerprint in fingerprints.items():
            if known.get(name, fingerprint) != fingerprint:
                raise ValueError(
                    f"The folder {folder} holds images of another {name!r} (its weights or settings differ): "
                    "give another folder or another name."
                )
            if name not in known:
                self._write({"method": name, "fingerprint": fingerprint})

    def has(self, method: str, prompt: str, seeds: Sequence[int]) -> bool:
        """Whether the method's images of a prompt and its seeds are finished."""
        return key(method, prompt, seeds) in self._records

    def get(self, method: str, prompt: str, seeds: Sequence[int]) -> dict[str, Any]:
        """The record of a method's images of a prompt and its seeds."""
        return self._records[key(method, prompt, seeds)]

    def add(self, record: dict[str, Any]) -> None:
        """Add a record; it is on disk when this returns."""
        record = json.loads(json.dumps(record))
        self._records[key(record["method"], record["prompt"], record["seeds"])] = record
        self._write(record)

    def _write(self, line: dict[str, Any]) -> None:
        if self.path is None:
            return
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line, ensure_ascii=False) + "\n")
            file.flush()
            os.fsync(file.fileno())

    def _lines(self) -> list[dict[str, Any]]:
        """The lines on disk; a last line that a kill cut off is removed."""
        if self.path is None or not self.path.exists():
            return []
        raw = self.path.read_bytes()
        whole = raw[: raw.rfind(b"\n") + 1]
        if len(whole) != len(raw):
            with self.path.open("r+b") as file:
                file.truncate(len(whole))
        try:
            return lines_of(whole, str(self.path))
        except ValueError as error:
            raise ValueError(f"{error} Remove the file and start the experiment again.") from None


def key(method: str, prompt: str, seeds: Sequence[int]) -> Key:
    """The key of a record."""
    return method, prompt, tuple(seeds)
