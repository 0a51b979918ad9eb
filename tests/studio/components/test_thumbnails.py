"""Thumbnails are small, are made anew where the file changed, and are empty where there is no image."""

from __future__ import annotations

import base64
import io
import os

from PIL import Image

from studio.components.thumbnails import thumbnail


def opened(url):
    return Image.open(io.BytesIO(base64.b64decode(url.split(",", 1)[1])))


def test_a_large_image_is_made_small_and_a_small_one_is_left(quick_path):
    for size, wanted in (((1024, 512), (256, 128)), ((64, 64), (64, 64))):
        Image.new("RGB", size).save(quick_path / "a.png")
        os.utime(quick_path / "a.png", ns=(size[0], size[0]))
        assert opened(thumbnail(str(quick_path / "a.png"))).size == wanted


def test_what_is_gone_or_no_image_is_empty(quick_path):
    (quick_path / "b.png").write_bytes(b"no image")
    for path in (None, str(quick_path / "gone.png"), str(quick_path / "b.png")):
        assert thumbnail(path) == ""
