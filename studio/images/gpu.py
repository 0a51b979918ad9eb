"""ZeroGPU Spaces, which lend a GPU to a forked process for a minute or two at a time. Elsewhere this does nothing.

There the models are loaded in the main process, in its main thread and before the page is served, and `spaces.GPU` runs
a function in a forked process in which they are on the GPU. Arguments and results are pickled, so they are plain data:
no callbacks (no live previews, no stop between steps), no tensors of the GPU. What the function changes in memory is
lost. Such a process may be kept for the next call.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from studio.errors import sentence

try:
    import spaces
except ImportError:
    spaces = None

_MAIN = os.getpid()
_owner: list[Any] = []  # whose method is called: the forked process finds it here, as it cannot be pickled


@dataclass(frozen=True)
class Failed:
    """An error of the forked process: an exception would arrive as the name of its class."""

    text: str


def apart() -> bool:
    """Whether this is a ZeroGPU Space, where a forked process has the GPU."""
    return spaces is not None and os.environ.get("SPACES_ZERO_GPU", "").lower() in ("1", "t", "true")


def on_gpu(seconds: int) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Decorator of methods that a ZeroGPU Space runs in the process with the GPU, for `seconds` at most. Arguments and
    result must be picklable; the owner has `models`; an error arrives as a ValueError with its sentence."""

    def decorated(method: Callable[..., Any]) -> Callable[..., Any]:
        if spaces is None:
            return method

        def run(*args: Any) -> Any:
            owner = _owner[0]
            if os.getpid() != _MAIN:
                owner.models.after_fork()
            try:
                return method(owner, *args)
            except Exception as error:  # noqa: BLE001 - raised again in the main process
                return Failed(sentence(error))

        run.__name__ = method.__name__
        lent = spaces.GPU(duration=seconds)(run)

        @functools.wraps(method)
        def call(self: Any, *args: Any) -> Any:
            _owner[:] = [self]
            result = lent(*args)
            if isinstance(result, Failed):
                raise ValueError(result.text)
            return result

        return call

    return decorated
