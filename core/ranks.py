"""Data-parallel work in several processes, on one machine or many, as `accelerate launch` and torchrun start them.

Rank 0 runs a command. The other ranks follow: they wait for calls that rank 0 hands out (`call`, and every function
marked `together`) and make them beside it, each on its share of the items. A training that is not marked runs on rank 0
alone. So only rank 0 reads and writes files, reports and decides; the others need nothing but their arguments.
The gradient of a step is the mean of the ranks' gradients, weighted by the size of their shares (`gradients`).

A single process is not touched by any of this. When a rank ends, or does not answer for `SECONDS` within a step, the
others raise `Lost`; only while rank 0 works by itself, which may take hours, do they wait for a day. Objects travel as
pickles: all ranks are one program started by one person, as in torch.distributed.

Process state, sums and gathering are accelerate's. Ours are the calls of rank 0, and the split of a batch: a rank takes
every n-th item of a training batch and whole batches of images, so that every image has the bits that one process
gives it (`PartialState.split_between_processes` hands out one run of items to each rank).
"""

from __future__ import annotations

import contextlib
import functools
import io
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn

from core.progress import Stop

if TYPE_CHECKING:  # accelerate takes half a second to import, and a single process does not need it
    from accelerate import PartialState

SECONDS = 600.0  # for which a rank waits for the others within a step
ALONE_SECONDS = 24 * 3600.0  # and for rank 0 while that works by itself
HOOKS = ("folder", "on_progress", "stop")  # arguments of a call that only rank 0 gets

T = TypeVar("T")


class Lost(RuntimeError):
    """Another rank has ended; the text is a sentence for the user."""


@dataclass
class _Group:
    state: PartialState
    waiting: Any  # a process group of its own for waiting on rank 0
    following: bool = True  # whether the other ranks wait for calls


_group: _Group | None = None


def rank() -> int:
    """0 in the process that runs the command, and in a single process."""
    return _group.state.process_index if _group else 0


def world() -> int:
    """The number of processes."""
    return _group.state.num_processes if _group else 1


def gpu() -> str:
    """The CUDA device of this process: each of a machine's ranks has one of its own."""
    return f"cuda:{_group.state.local_process_index % torch.cuda.device_count()}" if _group else "cuda"


@contextlib.contextmanager
def group() -> Iterator[None]:
    """Join the processes of the environment (RANK, WORLD_SIZE, LOCAL_RANK, MASTER_ADDR, MASTER_PORT) and leave at the
    end. The variables are removed, so that no process started from here takes itself for a rank."""
    global _group
    size, local = int(os.environ.get("WORLD_SIZE", "1")), int(os.environ.get("LOCAL_RANK", "0"))
    if size < 2:
        yield
        return
    from accelerate import PartialState

    gpus, processes = torch.cuda.device_count(), int(os.environ.get("LOCAL_WORLD_SIZE", str(size)))
    os.environ.setdefault("TORCH_NCCL_BLOCKING_WAIT", "1")  # a time-out is an exception, not an abort
    # PartialState would set another number of threads where this is not set
    os.environ.setdefault("OMP_NUM_THREADS", str(torch.get_num_threads()))
    # NCCL takes one rank a GPU; gloo takes tensors of the CPU, and those of a GPU that ranks have to share
    own_gpu = 0 < processes <= gpus
    if gpus:
        torch.cuda.set_device(local % gpus)
    with _talking():
        # here, because PartialState takes one backend, and tensors of the CPU need gloo beside NCCL
        backend = "cpu:gloo,cuda:nccl" if own_gpu else "gloo"
        dist.init_process_group(backend, timeout=timedelta(seconds=SECONDS))
        waiting = dist.new_group(backend="gloo", timeout=timedelta(seconds=ALONE_SECONDS))
    _group = _Group(PartialState(cpu=not own_gpu), waiting)
    for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK"):
        os.environ.pop(name, None)
    try:
        yield
        _group.state.destroy_process_group()  # not after an error: the other ranks may have ended
    finally:
        _group = None
        PartialState._reset_state()


def follow(stop: Stop = None) -> None:
    """Make the calls that rank 0 hands out, with `stop=` added, until `dismiss`."""
    while (task := _broadcast()) is not None:
        function, args, kwargs = task
        function(*args, **kwargs, stop=stop)
        wait()


def dismiss() -> None:
    """Let the other ranks end; one that has died meanwhile is no error."""
    if _group and _group.following:
        with contextlib.suppress(Lost):
            _broadcast(None)


def call(function: Callable[..., Any], *args: Any, **kwargs: Any) -> Callable[[], None]:
    """Let the other ranks make this call while rank 0 does its share; the function that is returned waits for them.

    Function and arguments are pickled. An error before the wait ends the group: no rank follows any more.
    """
    if _group is None or _group.state.process_index:
        return lambda: None
    joined = _group
    _broadcast((function, args, kwargs))
    joined.following = False

    def finish() -> None:
        wait()
        joined.following = True

    return finish


def together(function: Callable[..., T]) -> Callable[..., T]:
    """Decorator: every rank takes part in a function of rank 0 (a training, with the keyword arguments of `HOOKS`).

    The other ranks get its arguments without the hooks: they write and report nothing."""

    @functools.wraps(function)
    def everywhere(*args: Any, **kwargs: Any) -> T:
        shared = {name: value for name, value in kwargs.items() if name not in HOOKS}
        finish = call(everywhere, *args, **shared)
        result = function(*args, **kwargs)
        finish()
        return result

    return everywhere


def _joined() -> _Group | None:
    """The group while all ranks make one call; None in a single process, and in rank 0 while the others wait."""
    return None if _group is None or (_group.following and not _group.state.process_index) else _group


def first(work: Callable[[], T]) -> T:
    """The result of `work` on rank 0, on every rank."""
    if _joined() is None:
        return work()
    if rank():
        value, problem = _broadcast()
        if problem:
            raise Lost(problem)
        return value
    try:
        value = work()
    except BaseException as error:
        _broadcast((None, f"The first process failed: {error}"))
        raise
    _broadcast((value, ""))
    return value


def wait() -> None:
    """Until every rank is here."""
    if _group:
        with _talking():
            dist.barrier(group=_group.waiting)


def _broadcast(value: Any = None) -> Any:
    """Rank 0's value, on every rank. By torch's own pickles, which can put the tensors of rank 0's GPU on this rank's."""
    assert _group is not None
    content: list[bytes] = [b""]
    if not rank():
        torch.save(value, buffer := io.BytesIO())
        content = [buffer.getvalue()]
    with _talking():
        dist.broadcast_object_list(content, src=0, group=_group.waiting)
    if not rank():
        return value

    def place(storage: Any, device: str) -> Any:
        return storage.cuda(torch.cuda.current_device()) if device.startswith("cuda") else storage

    return torch.load(io.BytesIO(content[0]), map_location=place, weights_only=False)


@contextlib.contextmanager
def _talking() -> Iterator[None]:
    """Turn an error of torch.distributed about a rank that is gone into Lost."""
    try:
        yield
    except RuntimeError as error:
        raise Lost(
            "Another process of the group has ended or does not answer. What was finished is kept: give the same "
            "command again to go on, a training with its --run."
        ) from error


def share(count: int) -> slice:
    """This rank's items of a batch of `count`; the first item, with weight 0, where there are fewer items than ranks."""
    if _joined() is None:
        return slice(None)
    return slice(rank(), None, world()) if rank() < count else slice(0, 1)


def fraction(count: int) -> float:
    """The fraction of a batch of `count` that is this rank's."""
    return 1.0 if _joined() is None else len(range(rank(), count, world())) / count


def deal(items: Sequence[T], size: int) -> list[T]:
    """This rank's items, in whole batches of `size`: those that a single process would make, which keeps their bits."""
    starts = range(rank() * size, len(items), world() * size)
    return [item for at in starts for item in items[at : at + size]]


def _reduced(value: Tensor, reduction: str = "sum") -> Tensor:
    """The sum, or another reduction, of the ranks' tensors."""
    from accelerate.utils import reduce

    with _talking():
        return reduce(value, reduction)


def either(flag: bool) -> bool:
    """Whether the flag is set on any rank."""
    return flag if _joined() is None else bool(_reduced(torch.tensor(int(flag)), "max"))


def mean(value: Tensor, weight: float) -> Tensor:
    """The ranks' mean of a value, weighted by `fraction`, with the gradient of this rank's, which `gradients` weights. So a
    quantity of the whole batch is exact in a loss, also where it is no sum over the items."""
    if _joined() is None:
        return value
    detached = value.detach()
    return value + (_reduced(detached * weight) - detached)


def means(values: Mapping[str, float], weight: float) -> dict[str, float]:
    """The ranks' weighted means of named numbers; one that a rank lacks counts as 0 there."""
    if _joined() is None:
        return dict(values)
    from accelerate.utils import gather_object

    with _talking():
        rows: list[tuple[float, dict[str, float]]] = gather_object([(weight, dict(values))])
    names = dict.fromkeys(name for _, row in rows for name in row)
    return {name: sum(w * row.get(name, 0.0) for w, row in rows if w) for name in names}


@torch.no_grad()
def gradients(parameters: Iterable[nn.Parameter], weight: float) -> None:
    """Replace the gradients by the ranks' weighted sum; a parameter without one on every rank stays without."""
    if _joined() is None:
        return
    parameters = list(parameters)
    grads = [torch.zeros_like(p) if p.grad is None else p.grad for p in parameters]
    present = torch.tensor([float(p.grad is not None) for p in parameters], device=grads[0].device)
    flat = _reduced(torch.cat([*(gradient.float().flatten() * weight for gradient in grads), present]))
    *sums, present = flat.split([*(p.numel() for p in parameters), len(parameters)])
    for p, total, had in zip(parameters, sums, present.tolist(), strict=True):
        p.grad = total.view_as(p).to(p.dtype) if had else None
