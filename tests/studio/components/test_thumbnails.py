"""Thumbnails are small, are made anew where the file changed, and are empty where there is no image."""

from __future__ import annotations

import base64
import io
import os

import numpy as np
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


def test_a_picture_that_was_gone_is_shown_once_it_is_put_back(tmp_path):
    path = tmp_path / "one.png"
    assert thumbnail(str(path), "sha") == ""
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
