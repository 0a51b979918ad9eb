"""Small copies of stored images for the page, as data URLs: the folder of images itself is served to nobody."""

from __future__ import annotations

import io
import threading
from collections import OrderedDict
from pathlib import Path
from typing import Any

from PIL import Image

from studio.components.viewer import data_url

SIDE = 256  # pixels of a small copy, at most
LIGHT = 16_384  # bytes up to which a small copy is kept without loss
KEPT = 2048  # small copies in memory, a few KB each


class Thumbnails:
    """Small copies, each made once; safe to share between threads."""

    def __init__(self) -> None:
        self._kept: OrderedDict[str, str] = OrderedDict()
        self._lock = threading.Lock()

    def __call__(self, sample: Any) -> str | None:
        """A small copy of a SampleView's image; None where its file is gone."""
        if sample.image_path is None:
            return None
        with self._lock:
            if sample.id in self._kept:
                self._kept.move_to_end(sample.id)
                return self._kept[sample.id]
        made = small(sample.image_path)
        if made is not None:
            with self._lock:
                self._kept[sample.id] = made
                while len(self._kept) > KEPT:
                    self._kept.popitem(last=False)
        return made


def small(path: str | Path, side: int = SIDE) -> str | None:
    """An image file, scaled to fit: without loss where that is small, else as webp. None where it cannot be read."""
    try:
        with Image.open(path) as image:
            scaled = image.convert("RGB")
    except OSError:
        return None
    scaled.thumbnail((side, side), Image.Resampling.LANCZOS)
    lossless = _encoded(scaled, "PNG", optimize=True)
    if len(lossless) <= LIGHT:
        return data_url(lossless)
    return data_url(_encoded(scaled, "WEBP", quality=88), "image/webp")


def without_text(path: str | None) -> str | None:
    """An image in its full size as a data URL that says nothing of how it was made; None where its file is gone."""
    return None if path is None else small(path, 4096)


def _encoded(image: Image.Image, kind: str, **how: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **how)
    return file.getvalue()
