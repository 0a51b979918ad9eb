"""ZeroGPU Spaces, which lend a GPU to a forked process for a minute or two at a time. Elsewhere this does nothing.

There the models are loaded in the main process, in its main thread and before the page is served, and `spaces.GPU` runs
a function in a forked process in which they are on the GPU. Arguments, values and results are pickled, so they are plain
data: no callbacks, no tensors of the GPU. What the function changes in memory is lost. Such a process may be kept for the
next call.

The function is a generator: what a method says while it works (previews) arrives as it is said, and closing the generator
stops the method where it next asks whether to stop. The GPU is asked for as long as the work may take (`made_in`), as a
short request waits less and a long one is refused; `spaces` itself asks for more where a GPU is slower. How long ZeroGPU
lends one at once depends on a visitor's account; `LENT` seconds are lent to everybody.
"""

from __future__ import annotations

import contextlib
import functools
import math
import os
import queue
import re
import threading
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from core.progress import Stopped
from core.schedulers import calls_a_step
from studio.errors import sentence

try:
    import spaces
except ImportError:
    spaces = None

if TYPE_CHECKING:
    from core.diffusion import Diffuser

_MAIN = os.getpid()
START = 15.0  # seconds until the process has begun and the weights are on the GPU
CALL = 0.05  # seconds of a call of the denoiser, however small its work
# seconds a step and million pixels of a denoiser of SDXL's size with guidance: .066 measured on a whole H200, of which
# ZeroGPU lends less than half
MEGAPIXEL, SDXL = 0.2, 2.6e9
READ = 5.0  # seconds until a LoRA file is read and its layers are on the model
LENT = 80  # seconds, which count as 120 on a Blackwell GPU
LESS = "ask for fewer images, fewer steps or a smaller size"
BUSY = "No GPU was free within a minute: try again later. Who has signed in to Hugging Face is served first."

Say = Callable[[Any], None]
Asked = Callable[[], bool]


def unheard(value: Any) -> None:
    """A `say` to which nobody listens."""


def never() -> bool:
    """A `stop` that nobody asks for."""
    return False


@dataclass(frozen=True)
class Result:
    """What a method returned."""

    value: Any


@dataclass(frozen=True)
class Failed:
    """An error of the forked process: an exception would arrive as the name of its class."""

    text: str


class Duration(float):
    """Seconds to ask a GPU for. images: how many images would be made in `LENT` seconds; 0 where not even one."""

    images = 0


def apart() -> bool:
    """Whether this is a ZeroGPU Space, where a forked process has the GPU."""
    return spaces is not None and os.environ.get("SPACES_ZERO_GPU", "").lower() in ("1", "t", "true")


def on_gpu(seconds: Callable[..., float]) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Decorator of methods `method(self, *args, say, stop)` that a ZeroGPU Space runs in the process with the GPU.

    seconds: how long the GPU is asked for, of the same self and args. The method is called as it is written: `say` is
    called here with what it says there, and it is stopped (Stopped) where it asks after `stop` has become true here. self
    has `models`; args, what is said and the result must be picklable. An error, also one of ZeroGPU, arrives as a
    ValueError with its sentence.
    """

    def decorated(method: Callable[..., Any]) -> Callable[..., Any]:
        if spaces is None:
            return method
        owner: list[Any] = []  # the forked process finds it here, as it cannot be pickled

        def run(*args: Any) -> Iterator[Any]:
            if os.getpid() != _MAIN:
                owner[0].models.after_fork()
            try:
                value = yield from streamed(functools.partial(method, owner[0], *args))
            except Exception as error:  # noqa: BLE001 - raised again in the main process
                yield Failed(sentence(error))
            else:
                yield Result(value)

        run.__name__ = method.__name__
        lent = spaces.GPU(duration=lambda *args: math.ceil(seconds(owner[0], *args)))(run)

        @functools.wraps(method)
        def call(self: Any, *args: Any, say: Say = unheard, stop: Asked = never) -> Any:
            owner[:], end = [self], None
            if stop():
                raise Stopped
            try:
                with contextlib.closing(lent(*args)) as values:
                    for value in values:
                        if stop():
                            raise Stopped
                        if isinstance(value, Result | Failed):
                            end = value
                        elif value is not None:
                            say(value)
            except Exception as error:
                if text := refusal(error, lambda: seconds(self, *args)):
                    raise ValueError(text) from error
                raise
            if isinstance(end, Failed):
                raise ValueError(end.text)
            assert end is not None
            return end.value

        return call

    return decorated


def streamed(work: Callable[..., Any]) -> Generator[Any, None, Any]:
    """What `work(say=..., stop=...)` says in a thread of its own, and None whenever it asks whether to stop; the
    generator's return value is its result. Closing the generator stops it, and waits for that."""
    said: queue.SimpleQueue[Any] = queue.SimpleQueue()
    closed = threading.Event()

    def stop() -> bool:
        said.put(None)
        return closed.is_set()

    def run() -> None:
        try:
            said.put(Result(work(say=said.put, stop=stop)))
        except BaseException as error:  # noqa: BLE001 - raised again by the generator
            said.put(error)

    thread = threading.Thread(target=run, name="on the GPU", daemon=True)
    thread.start()
    try:
        while not isinstance(value := said.get(), Result):
            if isinstance(value, BaseException):
                raise value
            yield value
        return value.value
    finally:
        closed.set()
        thread.join()


def made_in(
    diffuser: Diffuser,
    images: int,
    steps: int,
    size: tuple[int, int],
    scheduler: str = "",
    loras: int = 0,
    third: bool = False,
) -> Duration:
    """Seconds to ask a GPU for to make images of a size (height, width) in pixels, an estimate from above. scheduler: its
    class name, "" for the model's own. loras: how many files are read. third: whether the guidance has a third pass."""
    parameters = sum(weight.numel() for weight in diffuser.denoiser.parameters())
    calls = steps * calls_a_step(diffuser.scheduler, scheduler)
    passes = 1 if diffuser.embedded else 3 if third else 2  # guidance as an input costs none
    image = calls * passes / 2 * size[0] * size[1] / 1e6 * parameters / SDXL * MEGAPIXEL
    fixed = START + READ * loras + calls * CALL
    duration = Duration(fixed + images * image)
    duration.images = max(0, int((LENT - fixed) / image))
    return duration


def refusal(error: Exception, asked: Callable[[], float] = float) -> str:
    """The sentence for an error of `spaces` (a `gr.Error` with its title), or '' for any other. asked: gives the seconds that
    the GPU was asked for."""
    title, text = getattr(error, "title", ""), str(getattr(error, "message", ""))
    if not isinstance(title, str) or not title.startswith("ZeroGPU"):
        return ""
    if title == "ZeroGPU illegal duration":
        return _too_long(text, asked())
    if "No GPU was available" in text or title == "ZeroGPU queue timeout":
        return BUSY
    if title == "ZeroGPU quota exceeded":
        return _used_up(text)
    if title == "ZeroGPU pending credits exceeded":
        return "Other work of yours has taken all your time on GPUs: wait until some of it is done."
    if "Expired" in text:
        return "This page has been open for too long to be lent a GPU: reload it and try again."
    if "aborted" in text:
        return f"The GPU was taken back before this was done: {LESS}."
    return f"The process with the GPU has failed ({text[:200]}): try again; the Space's log says more."


def _too_long(text: str, asked: float) -> str:
    found = re.search(r"(\d+)s", text)  # on a Blackwell GPU more than what was asked for
    needed = math.ceil(asked) or (found[1] if found else "some")
    sentence = f"This needs the GPU for {needed} s, longer than it is lent at once: {LESS}."
    if not isinstance(asked, Duration):
        return sentence
    fit = f"{asked.images} such images fit" if asked.images else "Not even one such image fits"
    return f"{sentence} {fit} into {LENT} s."


def _used_up(text: str) -> str:
    """The sentence for a quota of `spaces`: of runs, of calls without a visitor's token, or of a visitor's seconds."""
    if "runs limit" in text:
        return "You may not use the GPU more often today: try again tomorrow, or sign in to Hugging Face if you have not."
    seconds = re.search(r"(\d+)s requested vs\. (-?\d+)s left", text)
    if not seconds:
        return (
            "The time on the GPU for calls that come from no visitor's page is used up: do this on the Space's page, or "
            "try again later."
        )
    wait = re.search(r"Try again in ([^.]+)", text)
    advice = [f"wait for {wait[1].strip()}" if wait else "try again tomorrow"]
    if int(seconds[2]) > START:  # else there is no time left for even the least
        advice.insert(0, LESS)
    if "free ZeroGPU" in text:
        advice.append("take Hugging Face PRO, which gives more of it")
    elif "Pro ZeroGPU" not in text:
        advice.append("sign in to Hugging Face, which gives more of it")
    return f"Your time on the GPU is used up ({seconds[1]} s were asked for, {seconds[2]} s are left): {', or '.join(advice)}."
