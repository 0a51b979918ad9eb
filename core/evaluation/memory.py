"""How much memory a piece of work took at most."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch

PROCESS = Path("/proc/self")


@dataclass
class Peak:
    """bytes: the most that was in use while the block ran; None where it cannot be told."""

    bytes: int | None = None


@contextmanager
def peak(device: torch.device | str = "cpu", process: Path = PROCESS) -> Iterator[Peak]:
    """Fills in the `Peak` that it gives when the block ends.

    On CUDA it is what torch had allocated on the device, weights included. Elsewhere it is the whole process's resident
    memory, which Linux keeps a high-water mark of and starts anew on request; other systems keep none. One block inside
    another starts the mark anew for both.
    """
    device, found = torch.device(device), Peak()
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        try:
            yield found
        finally:
            found.bytes = torch.cuda.max_memory_allocated(device)
        return
    started = _start_mark(process)
    try:
        yield found
    finally:
        found.bytes = _mark(process) if started else None


def _start_mark(process: Path) -> bool:
    try:
        (process / "clear_refs").write_text("5")  # proc(5): sets VmHWM to what is resident now
    except OSError:
        return False
    return True


def _mark(process: Path) -> int | None:
    found = re.search(r"^VmHWM:\s+(\d+) kB$", (process / "status").read_text(), re.MULTILINE)
    return int(found.group(1)) * 1024 if found else None
