"""What the pages are made of: word chips, grid, viewer, tables, plots. A component of our own is a folder with its Python,
script and style; none of them knows the store or the models."""

from __future__ import annotations

from pathlib import Path

HERE = Path(__file__).parent


def source(*names: str) -> str:
    """Scripts or styles of this folder, one after the other."""
    return "\n".join((HERE / name).read_text(encoding="utf-8") for name in names)
