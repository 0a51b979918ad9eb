"""Thumbnails are small, are made anew where the file changed, and are empty where there is no image."""

from __future__ import annotations

import base64
import io
import os

import numpy as np
from PIL import Image

from studio.components.thumbnails import thumbnail


def test_a_large_image_is_made_small_and_a_small_one_is_left(quick_path):
    path = str(quick_path / "a.png")
    for size, wanted in (((1024, 512), (256, 128)), ((64, 64), (64, 64))):
        Image.new("RGB", size).save(path)
        os.utime(path, ns=(size[0], size[0]))
        content = base64.b64decode(thumbnail(path).partition(",")[2])
        assert Image.open(io.BytesIO(content)).size == wanted


def test_what_is_gone_or_no_image_is_empty_until_it_is_put_back(quick_path):
    path = quick_path / "one.png"
    assert thumbnail(None) == thumbnail(str(path), "sha") == ""
    path.write_bytes(b"no image")
    assert thumbnail(str(path)) == ""
    Image.new("RGB", (500, 300)).save(path)
    shown = thumbnail(str(path), "sha")
    assert shown.startswith("data:image/webp;base64,")
    path.unlink()
    assert thumbnail(str(path), "sha") == shown  # made once


def test_a_picture_is_sent_without_loss_where_that_takes_few_bytes(quick_path):
    noise = np.random.default_rng(0).integers(0, 255, (600, 400, 3), np.uint8)
    for name, image, kind in (("plain", np.zeros_like(noise), "png"), ("noise", noise, "webp")):
        Image.fromarray(image).save(quick_path / f"{name}.png")
        shown = thumbnail(str(quick_path / f"{name}.png"), lossless=16_384)
        assert shown.startswith(f"data:image/{kind};base64,") and len(shown) < 120_000
