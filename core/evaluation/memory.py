"""Peak memory of a block of code."""

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
    """bytes: the peak while the block ran; None where the system does not report it."""

    bytes: int | None = None


@contextmanager
def peak(device: torch.device | str = "cpu") -> Iterator[Peak]:
    """Yields a `Peak` that is filled in when the block ends.

    On CUDA it is the memory that torch had allocated on the device, weights included. Elsewhere it is the resident memory
    of the whole process, of which Linux keeps a high-water mark that can be reset; other systems keep none. A block inside
    another resets the mark for both.
    """
    device, peak = torch.device(device), Peak()
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        try:
            yield peak
        finally:
            peak.bytes = torch.cuda.max_memory_allocated(device)
        return
    started = _reset_mark()
    try:
        yield peak
    finally:
        peak.bytes = _mark() if started else None


def _reset_mark() -> bool:
    try:
        (PROCESS / "clear_refs").write_text("5")  # proc(5): sets VmHWM to what is resident now
    except OSError:
        return False
    return True


def _mark() -> int | None:
    line = re.search(r"^VmHWM:\s+(\d+) kB$", (PROCESS / "status").read_text(), re.MULTILINE)
    return int(line[1]) * 1024 if line else None
