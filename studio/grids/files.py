"""What leaves the studio as files: a picture with its text, and a grid as a zip of pictures with a manifest."""

from __future__ import annotations

import io
import json
import re
import zipfile
from pathlib import Path
from typing import Any

from studio.grids.grid import Grids
from studio.images import pictures, png_text
from studio.numbers import shown

MANIFEST = "manifest.json"
EPOCH = (1980, 1, 1, 0, 0, 0)  # the same grid gives the same bytes, whenever it is packed


class GridFiles:
    """Pictures and grids as files."""

    def __init__(self, grids: Grids) -> None:
        self.grids, self.settings, self.store = grids, grids.settings, grids.store

    def png(self, sample_id: str) -> bytes:
        """A sample's image with its text: "parameters" as the WebUI of AUTOMATIC1111 has it, and JSON of our own."""
        row = self.store.samples.get(sample_id)
        if not row["image_path"]:
            raise ValueError(
                "This sample was imported without its image: make it again, or choose another one."
            )
        path = self.settings.home / row["image_path"]
        try:
            content = path.read_bytes()
        except OSError as error:
            raise ValueError(
                f"The image {path.name} cannot be read ({error.strerror}): make it again."
            ) from None
        if row["image_sha256"] and pictures.sha256(content) != row["image_sha256"]:
            raise ValueError(f"The image {path.name} was changed after it was stored: put the original back.")
        return png_text.with_text(content, row)

    def zip(self, id: str, path: str | Path) -> Path:
        """Write the images of a grid, with their text, and manifest.json into a zip; its path. What is not made yet is
        left out; an image that is gone is named in the manifest."""
        view, files, cells = self.grids.get(id), {}, []
        for cell in view.cells:
            if cell.sample is None:
                continue
            name = f"{cell.place:03d}_seed-{cell.seed}_{safe(view.variants[cell.variant].name)}.png"
            entry: dict[str, Any] = {"place": cell.place, "seed": cell.seed, "variant": cell.variant}
            entry |= {
                "noise_seed": cell.sample.seed,
                "sample": cell.sample.id,
                "file": None,
                "sha256": None,
                "total": cell.sample.total,
            }
            try:
                files[name] = self.png(cell.sample.id)
                entry |= {"file": name, "sha256": pictures.sha256(files[name])}
            except ValueError as error:
                entry["problem"] = str(error)
            entry["scores"] = [
                {"index": word.index, "word": word.text, "score": word.score, "vlm": word.vlm,
                 "expected": word.expected, "correction": word.human}
                for word in cell.sample.words if word.scored
            ]  # fmt: skip
            cells.append(entry)
        if not cells:
            raise ValueError(f"The grid {shown(id)} has no image yet: wait for the first one.")
        manifest = {
            "version": 1, "grid": view.id, "prompt": view.prompt, "seeds": view.seeds,
            "variants": [vars(variant) for variant in view.variants], "made": view.done, "total": view.total,
            "cells": cells,
        }  # fmt: skip
        content = json.dumps(manifest, indent=1, sort_keys=True, ensure_ascii=False).encode()
        path, packed = Path(path), io.BytesIO()
        with zipfile.ZipFile(packed, "w", zipfile.ZIP_STORED) as archive:  # a PNG cannot be packed further
            for name, body in {MANIFEST: content, **files}.items():
                info = zipfile.ZipInfo(name, EPOCH)
                info.create_system, info.external_attr = 3, 0o644 << 16
                archive.writestr(info, body)
        pictures.write(path, packed.getvalue())
        return path


def safe(name: str) -> str:
    """A variant's name as a part of a file's name on any system."""
    return re.sub(r"[^a-z0-9.]+", "-", name.lower()).strip("-.")[:60] or "variant"
