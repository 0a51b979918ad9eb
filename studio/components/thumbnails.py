"""Small pictures as data: URLs, since the page may not read the studio's folder (``blocked_paths``)."""

from __future__ import annotations

import base64
import io
from functools import lru_cache
from pathlib import Path

from PIL import Image

SIDE = 256  # pixels; a smaller image stays as it is


def thumbnail(path: str | None, stamp: str = "", side: int = SIDE) -> str:
    """The image of a file, at most so large, as a data: URL; '' where it is gone or is no image. stamp: what changes with
    its content, where that is known; else the file is asked when it changed."""
    if path is None:
        return ""
    try:
        return _drawn(path, side, stamp or str(Path(path).stat().st_mtime_ns))
    except (OSError, ValueError, Image.DecompressionBombError):
        return ""


@lru_cache(maxsize=1024)
def _drawn(path: str, side: int, stamp: str) -> str:
    with Image.open(path) as image:
        image.draft("RGB", (side, side))
        small = image.convert("RGB")
    small.thumbnail((side, side), Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    small.save(buffer, "WEBP", quality=88)
    return "data:image/webp;base64," + base64.b64encode(buffer.getvalue()).decode()
