"""Several processes that work as one, on one machine or many: torch.distributed as `accelerate launch` and torchrun
start it.

Rank 0 does the work of a command. The others follow: they wait for calls that rank 0 hands out (`call`, and every
function marked `together`) and make them beside it, each on its share. So only rank 0 reads and writes what is kept,
reports and decides; the others need nothing but what they are handed. Data-parallel training is the mean of the
ranks' gradients, weighted by the size of their shares (`gradients`).

A process that is alone is not touched by any of this. A rank that ends, or does not answer for `SECONDS` within a
step, makes the others raise `Lost`; only while rank 0 works by itself, which may take hours, do they wait for a day.
Objects travel as pickles: all ranks are one program started by one person, as torch.distributed has it.
"""

from __future__ import annotations

import contextlib
import functools
import io
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn

SECONDS = 600.0  # for which a rank waits for the others within a step
ALONE_SECONDS = 24 * 3600.0  # and for rank 0 while that works by itself
HOOKS = ("folder", "on_progress", "stop")  # arguments of a call that are rank 0's own

T = TypeVar("T")


class Lost(RuntimeError):
    """Another rank has ended; the text is a sentence for the user."""


@dataclass
class _Group:
    rank: int
    size: int
    local: int
    waiting: Any  # a process group of its own for waiting on rank 0
    following: bool = True  # whether the others wait for calls


_group: _Group | None = None


def rank() -> int:
    """0 in the process that does the work, and where it is alone."""
    return _group.rank if _group else 0


def world() -> int:
    """How many processes there are."""
    return _group.size if _group else 1


def gpu() -> str:
    """The CUDA device of this process: each of a machine's ranks has one of its own."""
    return f"cuda:{_group.local % torch.cuda.device_count()}" if _group else "cuda"


@contextlib.contextmanager
def group() -> Iterator[None]:
    """Join the processes of the environment (RANK, WORLD_SIZE, LOCAL_RANK, MASTER_ADDR, MASTER_PORT) and leave at the
    end. The variables are taken away, so that no process that is started from here takes itself for a rank."""
    global _group
    size, local = int(os.environ.get("WORLD_SIZE", "1")), int(os.environ.get("LOCAL_RANK", "0"))
    if size < 2:
        yield
        return
    gpus, here = torch.cuda.device_count(), int(os.environ.get("LOCAL_WORLD_SIZE", str(size)))
    os.environ.setdefault("TORCH_NCCL_BLOCKING_WAIT", "1")  # a time-out is an exception, not an abort
    # NCCL takes one rank a GPU; gloo takes tensors of the CPU, and those of a GPU that ranks have to share
    backend = "cpu:gloo,cuda:nccl" if 0 < here <= gpus else "gloo"
    if gpus:
        torch.cuda.set_device(local % gpus)
    with _talking():
        dist.init_process_group(backend, timeout=timedelta(seconds=SECONDS))
        waiting = dist.new_group(backend="gloo", timeout=timedelta(seconds=ALONE_SECONDS))
    _group = _Group(dist.get_rank(), size, local, waiting)
    for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK"):
        os.environ.pop(name, None)
    try:
        yield
        dist.destroy_process_group()  # after an error there is nobody to say goodbye to
    finally:
        _group = None


# ---- rank 0 hands out, the others follow --------------------------------------------------------------------------


def follow(stop: Callable[[], bool] | None = None) -> None:
    """Make the calls that rank 0 hands out, with `stop`, until it dismisses."""
    while (task := _sent()) is not None:
        function, args, kwargs = task
        function(*args, **kwargs, stop=stop)
        wait()


def dismiss() -> None:
    """Rank 0 needs nobody any more. After an error in a call, the others have ended or will for want of rank 0; and one
    that died meanwhile is no matter."""
    if _group and _group.following:
        with contextlib.suppress(Lost):
            _sent(None)


def call(function: Callable[..., Any], *args: Any, **kwargs: Any) -> Callable[[], None]:
    """Let the others make this call, with `stop=` added, while rank 0 does its part; what is returned waits for them.

    The function is one of a module, and what it is given can be pickled. An error before they have been waited for ends
    the group: nobody follows any more.
    """
    if _group is None or _group.rank:
        return lambda: None
    _sent((function, args, kwargs))
    _group.following = False

    def finish() -> None:
        wait()
        _group.following = True

    return finish


def together(function: Callable[..., T]) -> Callable[..., T]:
    """Make a function of rank 0 (a training, with the keyword arguments of `HOOKS`) one that every rank takes part in.

    The others get its arguments, less the hooks: they write and report nothing."""

    @functools.wraps(function)
    def everywhere(*args: Any, **kwargs: Any) -> T:
        shared = {name: value for name, value in kwargs.items() if name not in HOOKS}
        finish = call(everywhere, *args, **shared)
        result = function(*args, **kwargs)
        finish()
        return result

    return everywhere


def first(work: Callable[[], T]) -> T:
    """What rank 0 makes of work(), on every rank; the others do not work."""
    if _alone():
        return work()
    if _group.rank:
        value, problem = _sent()
        if problem:
            raise Lost(problem)
        return value
    try:
        value = work()
    except BaseException as error:
        _sent((None, f"The first process failed: {error}"))
        raise
    _sent((value, ""))
    return value


def _alone() -> bool:
    """Whether nobody shares what is done now: there are no ranks, or the others wait for rank 0, which works by itself."""
    return _group is None or (_group.rank == 0 and _group.following)


def wait() -> None:
    """Until every rank is here."""
    if _group:
        with _talking():
            dist.barrier(group=_group.waiting)


def _sent(value: Any = None) -> Any:
    """What rank 0 gives, on every rank. Tensors of a GPU arrive on the own one."""
    buffer = io.BytesIO()
    if not rank():
        torch.save(value, buffer)
    size = torch.tensor([buffer.getbuffer().nbytes])
    with _talking():
        dist.broadcast(size, 0, group=_group.waiting)
        content = torch.frombuffer(buffer.getbuffer(), dtype=torch.uint8) if not rank() else None
        content = torch.empty(int(size), dtype=torch.uint8) if content is None else content
        dist.broadcast(content, 0, group=_group.waiting)
    if not rank():
        return value

    def place(storage: Any, where: str) -> Any:
        return storage.cuda(torch.cuda.current_device()) if where.startswith("cuda") else storage

    return torch.load(io.BytesIO(content.numpy().tobytes()), map_location=place, weights_only=False)


@contextlib.contextmanager
def _talking() -> Iterator[None]:
    """Whatever torch.distributed says of a rank that is gone becomes a sentence."""
    try:
        yield
    except RuntimeError as error:
        raise Lost(
            "Another process of the group has ended or does not answer. What was finished is kept: give the same "
            "command again to go on, a training with its --run."
        ) from error


# ---- shares -------------------------------------------------------------------------------------------------------


def share(count: int) -> slice:
    """This rank's items of a batch of `count`; where there is none for it the first, which then counts for nothing."""
    if _alone():
        return slice(None)
    return slice(_group.rank, None, _group.size) if _group.rank < count else slice(0, 1)


def part(count: int) -> float:
    """What share of a batch of `count` is this rank's."""
    return 1.0 if _alone() else len(range(_group.rank, count, _group.size)) / count


def deal(items: Sequence[T], size: int) -> list[T]:
    """This rank's items, dealt out by whole batches of `size`: so every batch is the one that a process alone makes,
    and comes out in the same bits."""
    starts = range(rank() * size, len(items), world() * size)
    return [item for at in starts for item in items[at : at + size]]


# ---- one step of training -----------------------------------------------------------------------------------------


def either(flag: bool) -> bool:
    """Whether it holds on any rank."""
    if _alone():
        return flag
    found = torch.tensor([int(flag)])
    with _talking():
        dist.all_reduce(found, dist.ReduceOp.MAX)
    return bool(found)


def mean(value: Tensor, weight: float) -> Tensor:
    """The ranks' mean of a value of the batch, with the gradient of the own one, which `gradients` weighs.

    So what a loss needs of the whole batch, also where it is no sum over the items, is exact. weight: `part` of it."""
    if _alone():
        return value
    whole = value.detach() * weight
    with _talking():
        dist.all_reduce(whole)
    return value + (whole - value.detach())


def means(values: Mapping[str, float], weight: float) -> dict[str, float]:
    """The ranks' means of named numbers; one that a rank has not counts as 0 there."""
    if _alone():
        return dict(values)
    found: list[Any] = [None] * _group.size
    with _talking():
        dist.all_gather_object(found, (weight, dict(values)))
    names = dict.fromkeys(name for _, theirs in found for name in theirs)
    return {name: sum(w * theirs.get(name, 0.0) for w, theirs in found if w) for name in names}


@torch.no_grad()
def gradients(parameters: Iterable[nn.Parameter], weight: float) -> None:
    """Replace the gradients by the ranks' weighted sum; a parameter without one on every rank stays without."""
    if _alone():
        return
    parameters = list(parameters)
    pieces = [torch.zeros_like(p) if p.grad is None else p.grad for p in parameters]
    there = torch.tensor([float(p.grad is not None) for p in parameters], device=pieces[0].device)
    whole = torch.cat([*(piece.float().flatten() * weight for piece in pieces), there])
    with _talking():
        dist.all_reduce(whole)
    *sums, there = whole.split([*(p.numel() for p in parameters), len(parameters)])
    for p, total, had in zip(parameters, sums, there.tolist(), strict=True):
        p.grad = total.view_as(p).to(p.dtype) if had else None
