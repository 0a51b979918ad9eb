"""Pictures as data: URLs, since the page may not read the studio's folder (``blocked_paths``)."""

from __future__ import annotations

import base64
import io
from functools import lru_cache
from pathlib import Path
from typing import Any

from PIL import Image

SIDE = 256  # pixels; a smaller image stays as it is
UNREADABLE = (OSError, ValueError, Image.DecompressionBombError)


def data_url(content: bytes, kind: str = "image/png") -> str:
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"


def small(path: str | Path, side: int = SIDE, lossless: int = 0) -> str:
    """The image of a file without its text, at most so large: without loss where that takes at most so many bytes, else
    as webp. One of ``UNREADABLE`` where there is no such image."""
    with Image.open(path) as image:
        image.draft("RGB", (side, side))
        scaled = image.convert("RGB")
    scaled.thumbnail((side, side), Image.Resampling.LANCZOS)
    if lossless and len(content := encoded(scaled, "PNG", optimize=True)) <= lossless:
        return data_url(content)
    return data_url(encoded(scaled, "WEBP", quality=88), "image/webp")


def thumbnail(path: str | None, stamp: str = "", side: int = SIDE, lossless: int = 0) -> str:
    """``small``, made once; '' where the file is gone or is no image. stamp: what changes with its content, where that is
    known; else the file is asked when it changed."""
    if path is None:
        return ""
    try:
        return _kept(path, side, lossless, stamp or str(Path(path).stat().st_mtime_ns))
    except UNREADABLE:
        return ""


_kept = lru_cache(maxsize=3072)(lambda path, side, lossless, stamp: small(path, side, lossless))


def encoded(image: Image.Image, kind: str, **options: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()
