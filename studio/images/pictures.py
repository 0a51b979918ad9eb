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
    """PNG of an image uint8 (H, W, 3), with the settings that make it again as JSON in its text `studio`."""
    text = PngImagePlugin.PngInfo()
    text.add_text(TEXT_KEY, json.dumps(made_by, sort_keys=True))
    file = io.BytesIO()
    Image.fromarray(image).save(file, "PNG", pnginfo=text)
    return file.getvalue()


def write(path: Path, content: bytes) -> None:
    """Atomic and durable write: a temporary file, fsync, rename, fsync of the folder."""
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
    """PNG of a stored image without text; None where its file cannot be read."""
    file = io.BytesIO()
    try:
        with Image.open(path) as image:
            image.convert("RGB").save(file, "PNG")
    except OSError:
        return None
    return file.getvalue()


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def verified(path: Path, expected_sha256: str | None = None) -> bytes:
    """The bytes of an image's file; ValueError with a sentence where it is gone or has another hash."""
    try:
        content = path.read_bytes()
    except OSError as error:
        raise _unreadable(path, error) from None
    if expected_sha256 is not None and sha256(content) != expected_sha256:
        raise ValueError(f"The image {path.name} was changed after it was stored: put the original back.")
    return content


def read(path: Path, expected_sha256: str | None = None) -> np.ndarray:
    """The image as uint8 (H, W, 3); ValueError like `verified`."""
    try:
        with Image.open(io.BytesIO(verified(path, expected_sha256))) as image:
            return np.asarray(image.convert("RGB"))
    except OSError as error:
        raise _unreadable(path, error) from None


def _unreadable(path: Path, error: OSError) -> ValueError:
    reason = error.strerror or "it is no image"
    return ValueError(f"The image {path.name} cannot be read ({reason}): put it back, or make it again.")
