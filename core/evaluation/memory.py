"""Peak memory of a block of code."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch

PROCESS = Path("/proc/self")


@dataclass
class Peak:
    """bytes: the peak while the block ran; None where the system does not report it."""

    bytes: int | None = None


@contextlib.contextmanager
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
    marked = False
    with contextlib.suppress(OSError):
        (PROCESS / "clear_refs").write_text("5")  # proc(5): sets VmHWM to what is resident now
        marked = True
    try:
        yield peak
    finally:
        status = (PROCESS / "status").read_text() if marked else ""
        line = re.search(r"^VmHWM:\s+(\d+) kB$", status, re.MULTILINE)
        peak.bytes = int(line[1]) * 1024 if line else None
