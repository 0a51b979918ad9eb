"""ZeroGPU Spaces lend a GPU to a process of its own, for a minute or two at a time. Elsewhere nothing here does anything.

There the models are loaded in the main process, in its main thread and before the page is served, and `spaces.GPU` runs
a function in a forked process in which they are on the GPU. What goes there and comes back is pickled, so it is plain
data: no callbacks (no live previews, no stop between steps), no tensors of the GPU. What the function changes in memory
is lost. Such a process may be kept for the next call.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

try:
    import spaces
except ImportError:
    spaces = None

_MAIN = os.getpid()
_studio: list[Any] = []  # the one whose work is done; a forked process finds it here, as it cannot be pickled


@dataclass(frozen=True)
class Failed:
    """What went wrong there: an exception would arrive as the name of its class."""

    text: str


def apart() -> bool:
    """Whether what needs the GPU must be done in a process of its own."""
    return spaces is not None and os.environ.get("SPACES_ZERO_GPU", "").lower() in ("1", "t", "true")


def on_gpu(seconds: int) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """A method of the studio that a ZeroGPU Space runs where the GPU is, within `seconds`. Arguments and result must be
    such that they can be pickled; an error comes back as a ValueError with its sentence."""

    def decorated(method: Callable[..., Any]) -> Callable[..., Any]:
        if spaces is None:
            return method

        def there(*given: Any) -> Any:
            studio = _studio[0]
            if os.getpid() != _MAIN:
                studio.models.after_fork()
            try:
                return method(studio, *given)
            except Exception as error:  # noqa: BLE001 - told where the page waits
                from studio.errors import sentence  # it imports those who use this

                return Failed(sentence(error))

        there.__name__ = method.__name__
        lent = spaces.GPU(duration=seconds)(there)

        @functools.wraps(method)
        def call(self: Any, *given: Any) -> Any:
            _studio[:] = [self]
            found = lent(*given)
            if isinstance(found, Failed):
                raise ValueError(found.text)
            return found

        return call

    return decorated
