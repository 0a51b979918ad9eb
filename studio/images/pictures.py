"""Image files: PNGs that say how they were made, written atomically, read with a check of their hash."""

from __future__ import annotations

import hashlib
import io
import json
import os
import uuid
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, PngImagePlugin

TEXT_KEY = "studio"


def png(image: np.ndarray, made_by: dict[str, Any]) -> bytes:
    """A PNG of uint8 (H, W, 3) whose text says, as JSON, how to make it again."""
    text = PngImagePlugin.PngInfo()
    text.add_text(TEXT_KEY, json.dumps(made_by, sort_keys=True))
    file = io.BytesIO()
    Image.fromarray(image).save(file, "PNG", pnginfo=text)
    return file.getvalue()


def write(path: Path, content: bytes) -> None:
    """Write a file atomically and durably: under a temporary name, forced to disk, renamed, the name forced to disk too."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}.tmp")
    try:
        with partial.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial, path)
        if os.name != "nt":
            folder = os.open(path.parent, os.O_RDONLY)
            os.fsync(folder)
            os.close(folder)
    finally:
        partial.unlink(missing_ok=True)


def without_text(path: str | Path) -> bytes | None:
    """An image as a PNG without any text; None where its file cannot be read."""
    file = io.BytesIO()
    try:
        with Image.open(path) as image:
            image.convert("RGB").save(file, "PNG")
    except OSError:
        return None
    return file.getvalue()


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def read(path: Path, expected_sha256: str | None = None) -> np.ndarray:
    """The image as uint8 (H, W, 3); ValueError with a sentence where the file is gone or has another hash."""
    try:
        content = path.read_bytes()
        if expected_sha256 is not None and sha256(content) != expected_sha256:
            raise ValueError(f"The image {path.name} was changed after it was stored: put the original back.")
        with Image.open(io.BytesIO(content)) as image:
            return np.asarray(image.convert("RGB"))
    except OSError as error:
        reason = error.strerror or "it is no image"
        raise ValueError(
            f"The image {path.name} cannot be read ({reason}): put it back, or make it again."
        ) from None
