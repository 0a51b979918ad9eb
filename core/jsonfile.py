"""JSON files that the project reads back from its own folders. A disk, a kill or a person may have changed them: what comes
back has the kind that was asked for, or is a sentence that names the file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

KINDS = {dict: "an object", list: "a list", float: "a number"}


def parsed(text: str | bytes, kind: type, name: str) -> Any:
    """JSON of this kind (dict, list or float, which takes whole numbers too); ValueError, which names it, for any other."""
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        found = None
    fits = isinstance(found, int | float if kind is float else kind) and not isinstance(found, bool)
    if not fits:
        raise ValueError(f"{name} is damaged: it should hold {KINDS[kind]} in JSON.")
    return found


def read(path: Path, kind: type = dict) -> Any:
    """What a file holds; ValueError where it is damaged, OSError where it cannot be read."""
    return parsed(path.read_bytes(), kind, str(path))


def read_or(default: Any, path: Path) -> Any:
    """The like, or the default, which is of the kind, where there is no such file or it cannot be used."""
    try:
        return read(path, type(default))
    except (OSError, ValueError):
        return default


def lines_of(content: bytes, name: str) -> list[dict[str, Any]]:
    """The objects of JSON lines, of which the last may be half written; ValueError, which names the line, where another one
    is none."""
    lines = content.split(b"\n")[:-1]
    return [parsed(line, dict, f"{name}, line {number},") for number, line in enumerate(lines, 1)]


def read_lines(path: Path) -> list[dict[str, Any]]:
    """``lines_of`` a file; OSError where it cannot be read."""
    return lines_of(path.read_bytes(), str(path))
