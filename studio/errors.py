"""Sentences for the user from exceptions."""

from __future__ import annotations

import logging

from core.loading import out_of_memory
from core.ranks import Lost
from core.training.loop import TrainingFailed
from data.store import StoreError
from studio.access.places import shortened

log = logging.getLogger("studio")
MEMORY = (
    "There is not enough memory for this. Make fewer images at a time (STUDIO_BATCH, fewer seeds) or smaller ones "
    "(STUDIO_SIZE), or set STUDIO_DTYPE=float16, STUDIO_SLICING=yes, STUDIO_QUANTIZE=fp8 or STUDIO_OFFLOAD=model."
)
OURS = (ValueError, StoreError, TrainingFailed, Lost)  # their texts are written for the user


def sentence(error: BaseException, paths: bool = False) -> str:
    """The user's sentence for an exception: its own text if it was written for them, else a general one; an unexpected
    exception goes to the log. paths: with whole paths, for this machine's console."""
    if isinstance(error, OURS) and str(error).strip():
        return str(error) if paths else shortened(str(error))
    if out_of_memory(error):
        return MEMORY
    if isinstance(error, OSError) and error.strerror:
        return f"A file could not be read or written ({error.strerror}): check the disk and its permissions."
    log.error("Unexpected %s", type(error).__name__, exc_info=error)
    return f"Something went wrong in the studio itself ({type(error).__name__}); its log says more. Nothing was lost."
