"""Reading of the project's own JSON files, which a disk, a kill or a person may have changed: the content is of the kind
that was asked for, or an error names the file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

KINDS = {dict: "an object", list: "a list", float: "a number"}


def parsed(text: str | bytes, kind: type, name: str) -> Any:
    """JSON of a kind (dict, list or float, which includes whole numbers); ValueError, which names it, for anything else."""
    try:
        content = json.loads(text)
    except (ValueError, RecursionError):
        content = None
    if not isinstance(content, int | float if kind is float else kind) or isinstance(content, bool):
        raise ValueError(f"{name} is damaged: it should hold {KINDS[kind]} in JSON.")
    return content


def read(path: Path, kind: type = dict) -> Any:
    """The content of a file; ValueError where it is damaged, OSError where it cannot be read."""
    return parsed(path.read_bytes(), kind, str(path))


def read_or(default: Any, path: Path) -> Any:
    """The content of a file, of the default's kind, or the default where there is no usable file."""
    try:
        return read(path, type(default))
    except (OSError, ValueError):
        return default


def lines_of(content: bytes, name: str) -> list[dict[str, Any]]:
    """The objects of JSON lines without a last line that is cut off; ValueError, which names the line, for anything else."""
    lines = content.split(b"\n")[:-1]
    return [parsed(line, dict, f"{name}, line {number},") for number, line in enumerate(lines, 1)]


def read_lines(path: Path) -> list[dict[str, Any]]:
    """`lines_of` a file; OSError where it cannot be read."""
    return lines_of(path.read_bytes(), str(path))
