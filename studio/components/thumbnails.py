"""Small pictures as data: URLs, since the page may not read the studio's folder (``blocked_paths``)."""

from __future__ import annotations

import base64
import io
from functools import lru_cache
from pathlib import Path

from PIL import Image

SIDE = 256  # pixels; a smaller image stays as it is


def thumbnail(path: str | None, side: int = SIDE) -> str:
    """The image of a file, at most so large, as a data: URL; '' where it is gone or is no image."""
    if path is None:
        return ""
    try:
        return _drawn(path, side, Path(path).stat().st_mtime_ns)
    except OSError:
        return ""


@lru_cache(maxsize=512)
def _drawn(path: str, side: int, stamp: int) -> str:
    with Image.open(path) as image:
        small = image.convert("RGB")
    small.thumbnail((side, side), Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    small.save(buffer, "WEBP", quality=88)
    return "data:image/webp;base64," + base64.b64encode(buffer.getvalue()).decode()
