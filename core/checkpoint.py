"""Checkpoints: written atomically, and verified before a model is built.

safetensors keeps no checksum, so a `manifest.json` with size and sha256 of every file is written beside the weights. A
checkpoint is written under a temporary name, synced to disk and renamed. Training state (`save_state`) is one file,
written the same way, that ends in its own sha256; it is read with `weights_only`, so it cannot run code.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import pickle
import shutil
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

FORMAT = 1
MANIFEST = "manifest.json"
WEIGHTS = "weights.safetensors"
MODEL_WEIGHTS = "diffusion_pytorch_model.safetensors"  # as diffusers names them


class CheckpointError(ValueError):
    """A checkpoint that is missing, unfinished or damaged; the message names the file and says what to do."""


def save(
    model: Any, folder: Path | str, meta: dict[str, Any] | None = None, *, kind: str = "", **options: Any
) -> dict[str, Any]:
    """Write a checkpoint and return its manifest; an older one at `folder` is replaced when the new one is complete on disk.

    model: anything with `save_pretrained`, which gets `options`, or a dict of tensors (one safetensors file).
    """
    folder = Path(folder)
    folder.parent.mkdir(parents=True, exist_ok=True)
    fresh = folder.with_name(f".{folder.name}.{uuid.uuid4().hex[:8]}.tmp")
    try:
        fresh.mkdir()
        if isinstance(model, dict):
            tensors = {name: value.detach().cpu().contiguous() for name, value in model.items()}
            save_file(tensors, fresh / WEIGHTS)
        else:
            model.save_pretrained(fresh, **options)
        for path in fresh.rglob("*.json"):  # a path that the model was loaded from is one of this machine
            content = json.loads(path.read_text(encoding="utf-8"))
            if isinstance(content, dict) and content.pop("_name_or_path", None) is not None:
                path.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
        manifest = {
            "format": FORMAT,
            "kind": kind or type(model).__name__,
            "files": {name: _describe(fresh / name) for name in _files(fresh)},
            "meta": meta or {},
        }
        (fresh / MANIFEST).write_text(json.dumps(manifest, indent=1, sort_keys=True) + "\n", encoding="utf-8")
        for path in [*fresh.rglob("*"), fresh]:
            _sync(path)
        _replace(fresh, folder)
    finally:
        shutil.rmtree(fresh, ignore_errors=True)
    return manifest


def verify(folder: Path | str, kind: str = "", name: str = "") -> dict[str, Any]:
    """Verify every file of a checkpoint and return its manifest; CheckpointError where one is missing or damaged, or where
    the checkpoint is not of a kind, by its name for people."""
    folder = Path(folder)
    _recover(folder)
    path = folder / MANIFEST
    if not path.is_file():
        what = f"has no {MANIFEST}" if folder.is_dir() else "does not exist"
        raise CheckpointError(f"The checkpoint {folder} {what}: choose another one, or train it again.")
    try:
        manifest = json.loads(path.read_text(encoding="utf-8"))
        form = manifest["format"]
        files = {file: (entry["sha256"], entry["bytes"]) for file, entry in manifest["files"].items()}
        if not files or not isinstance(manifest["kind"], str):
            raise ValueError
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise CheckpointError(f"{path} is damaged: fetch or train this checkpoint again.") from error
    if form != FORMAT:
        raise CheckpointError(f"{path} is of format {form}, this version reads {FORMAT}: update the studio.")
    for file, (sha256, size) in files.items():
        if Path(file).is_absolute() or ".." in Path(file).parts:
            raise CheckpointError(f"{path} names a file outside its folder ({file!r}): do not use it.")
        if not (folder / file).is_file():
            raise CheckpointError(f"{folder / file} is missing: fetch or train this checkpoint again.")
        if _describe(folder / file) != {"sha256": sha256, "bytes": size}:
            raise CheckpointError(
                f"{folder / file} is damaged (it differs from {MANIFEST}): fetch or train this checkpoint again."
            )
    if kind and manifest["kind"] != kind:
        raise CheckpointError(
            f"The checkpoint {folder} holds a {manifest['kind']}, not a {name or kind}: choose another one."
        )
    return manifest


def load(cls: Any, folder: Path | str) -> Any:
    """Load a model from a verified checkpoint by `cls.from_pretrained`, in evaluation mode."""
    verify(folder, cls.__name__)
    try:
        model = cls.from_pretrained(str(folder), local_files_only=True)
        if (path := Path(folder) / MODEL_WEIGHTS).is_file():
            with safe_open(path, "pt") as saved:  # from_pretrained initialises missing weights at random
                if set(saved.keys()) != set(model.state_dict()):
                    raise KeyError
    except (RuntimeError, ValueError, TypeError, KeyError) as error:
        raise CheckpointError(
            f"The checkpoint {folder} was made for another version of its model: train it again, or choose another one."
        ) from error
    _check_finite(folder, model.state_dict())
    return model.eval()


def load_tensors(folder: Path | str) -> dict[str, Tensor]:
    """Load the verified tensors of a checkpoint that was saved from a dict of tensors."""
    verify(folder)
    tensors = load_file(Path(folder) / WEIGHTS)
    _check_finite(folder, tensors)
    return tensors


def _check_finite(folder: Path | str, tensors: Mapping[str, Tensor]) -> None:
    for name, value in tensors.items():
        if not torch.isfinite(value).all():
            raise CheckpointError(
                f"The checkpoint {folder} holds numbers that are not finite ({name}): choose another one, or train it again."
            )


def digest(folder: Path | str) -> str:
    """sha256 of a checkpoint's manifest, which lists that of every file."""
    _recover(Path(folder))
    path = Path(folder) / MANIFEST
    if not path.is_file():
        raise CheckpointError(
            f"The checkpoint {folder} has no {MANIFEST}: choose another, or train it again."
        )
    return hashlib.sha256(path.read_bytes()).hexdigest()


def save_state(state: dict[str, Any], path: Path | str) -> None:
    """Write resumable training state (tensors and plain values) atomically."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    fresh = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}.tmp")
    try:
        torch.save(state, buffer := io.BytesIO())
        content = buffer.getvalue()
        fresh.write_bytes(content + hashlib.sha256(content).digest())
        _sync(fresh)
        os.replace(fresh, path)
        _sync(path.parent)
    finally:
        fresh.unlink(missing_ok=True)


def load_state(path: Path | str) -> dict[str, Any]:
    """Read what `save_state` wrote, to the CPU; CheckpointError where it is missing or damaged."""
    if not Path(path).is_file():
        raise CheckpointError(f"There is no training state at {path}: start the run from its beginning.")
    try:
        data = Path(path).read_bytes()
        content, trailer = data[:-32], data[-32:]
        if hashlib.sha256(content).digest() != trailer:  # torch.load does not verify the file's CRC32
            raise ValueError("checksum")
        return torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    except (RuntimeError, EOFError, OSError, ValueError, KeyError, pickle.UnpicklingError) as error:
        raise CheckpointError(f"{path} is damaged: delete it and start the run anew.") from error


def _files(folder: Path) -> list[str]:
    files = (path for path in folder.rglob("*") if path.is_file() and path.name != MANIFEST)
    return sorted(path.relative_to(folder).as_posix() for path in files)


def _describe(path: Path) -> dict[str, str | int]:
    with path.open("rb") as file:
        return {"sha256": hashlib.file_digest(file, "sha256").hexdigest(), "bytes": path.stat().st_size}


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _aside(folder: Path) -> Path:
    return folder.with_name(f".{folder.name}.previous")


def _replace(fresh: Path, folder: Path) -> None:
    """Replace `folder` by `fresh`. A kill between the two renames is repaired by `_recover`."""
    _recover(folder)
    shutil.rmtree(_aside(folder), ignore_errors=True)
    if folder.exists():
        os.rename(folder, _aside(folder))
    os.rename(fresh, folder)
    _sync(folder.parent)
    shutil.rmtree(_aside(folder), ignore_errors=True)


def _recover(folder: Path) -> None:
    if not folder.exists() and _aside(folder).is_dir():
        os.rename(_aside(folder), folder)
