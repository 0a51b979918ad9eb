"""The training loop of every stage (any optimiser, any loss): progress, stop, resume.

A stage hands over its modules, an optimiser and a loss that is a function of the step alone: all randomness of step n
comes from (seed, n). So weights, optimiser and step are all that a checkpoint needs for a run that was killed to end in
the same bits as one that was not (on one machine, with the same number of threads).

With several ranks (core.ranks) each draws the batch of a step and computes its share of it; gradients, loss and metrics
are the ranks' means weighted by the shares. So a run of two ranks equals that of one but for rounding, the masks of
dropout, which each rank draws for itself, and what a stage names itself. Rank 0 alone saves and reports, and all ranks
stop at the same step.
"""

from __future__ import annotations

import functools
import math
import operator
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypedDict

import torch
from torch import Tensor, nn
from torch.optim.lr_scheduler import LambdaLR
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from core import ranks
from core.checkpoint import load_state, save_state
from core.progress import OnProgress, Progress, Stop

STATE_FILE = "state.pt"
CLIP = 1.0  # norm to which the gradients of a step are clipped


@dataclass
class FitResult:
    """`step` of `total` done, whether the run was stopped before the end, and the metrics of the last step."""

    step: int
    total: int
    stopped: bool = False
    metrics: dict[str, float] = field(default_factory=dict)


class Hooks(TypedDict, total=False):
    """Hooks of a training.

    folder       where its state is saved, and from where it is resumed
    on_progress  called after every step
    stop         asked before every step; True ends the run, which can be resumed
    """

    folder: Path | str | None
    on_progress: OnProgress
    stop: Stop


class TrainingFailed(RuntimeError):
    """The loss, a gradient or a weight became NaN or infinite; the last good state is kept on disk."""


def seed_step(seed: int, step: int) -> torch.Generator:
    """Seed torch's global generator for a step, and return a generator for the data.

    Both streams depend on (seed, step) only, so that data order and dropout can be resumed. Ranks share that of the data.
    """
    mixed = (seed * 1_000_003 + step * 7_919 + 12_345) % (2**63)
    torch.manual_seed((mixed + ranks.rank() * 15_485_863) % (2**63))
    return torch.Generator().manual_seed(mixed ^ 0x5DEECE66D)


def warmup_cosine(steps: int, warmup: int = 50, floor: float = 0.05) -> Callable[[int], float]:
    """Learning-rate factor: linear over `warmup` steps, then a half cosine down to `floor`. (That of `transformers` starts
    at 0; the shipped models and all figures were made with this one.)"""

    def factor(step: int) -> float:
        if step < warmup:
            return (step + 1) / warmup
        share = min(1.0, (step - warmup) / max(1, steps - warmup))
        return floor + (1 - floor) * 0.5 * (1 + math.cos(math.pi * share))

    return factor


class Ema(AveragedModel):
    """Exponential moving average of a module's parameters, held in `module`; decay grows as (1 + n) / (10 + n)."""

    def __init__(self, module: nn.Module, decay: float = 0.999) -> None:
        def average(means: Any, values: Any, n: Tensor | int) -> None:
            count = int(n)
            get_ema_multi_avg_fn(min(decay, (1 + count) / (10 + count)))(means, values, n)

        super().__init__(module, multi_avg_fn=average)
        self.n_averaged.fill_(1)  # the initial weights are the first that are averaged
        self.module.eval()

    @torch.no_grad()
    def copy_to(self, module: nn.Module) -> None:
        """Put the averaged parameters into `module`."""
        for p, mean in zip(module.parameters(), self.module.parameters(), strict=True):
            p.copy_(mean)

    def state(self) -> dict[str, Any]:
        """State for a checkpoint, in the format of all earlier runs."""
        means = {name: mean.detach() for name, mean in self.module.named_parameters()}
        return {"updates": int(self.n_averaged) - 1, "shadow": means}

    @torch.no_grad()
    def load_state(self, state: dict[str, Any]) -> None:
        """Restore from `state`."""
        self.n_averaged.fill_(state["updates"] + 1)
        for name, mean in self.module.named_parameters():
            mean.copy_(state["shadow"][name])


def total(terms: Iterable[Tensor]) -> Tensor:
    """The sum of the terms of a loss, in their order."""
    return functools.reduce(operator.add, terms)


def parameters(modules: Iterable[nn.Module]) -> list[nn.Parameter]:
    """All trainable parameters of several modules."""
    return [p for module in modules for p in module.parameters() if p.requires_grad]


def fit(
    modules: dict[str, nn.Module],
    optimiser: torch.optim.Optimizer,
    loss_fn: Callable[[int], tuple[Tensor, dict[str, float]]],
    *,
    steps: int,
    folder: Path | str | None = None,
    save_every: int = 200,
    on_progress: OnProgress = None,
    stop: Stop = None,
    ema: dict[str, Ema] | None = None,
    schedule: Callable[[int], float] | None = None,
    seed: int = 0,
    extra: dict[str, Any] | None = None,
    batch: int | None = None,
) -> FitResult:
    """Run `loss_fn(step)` for `steps` steps; save to `folder` every `save_every` steps and at the end or a stop, and
    resume from there.

    extra: plain values or tensors that `loss_fn` changes (a best score, for example), saved and restored with the rest.
    batch: the items of a step, of which `loss_fn` takes `ranks.share(batch)` and returns their mean; None where every
    rank computes the same. Raises TrainingFailed on a loss, a gradient or a weight that is not finite, before that
    changes a weight or is saved.
    """
    if steps < 1:
        raise ValueError(f"steps must be at least 1, got {steps}")
    ema, extra = ema or {}, extra if extra is not None else {}
    path = Path(folder) / STATE_FILE if folder else None
    start, weight = 0, ranks.fraction(batch) if batch else 1 / ranks.world()
    if state := ranks.first(lambda: load_state(path) if path and path.exists() else None):
        for name, module in modules.items():
            module.load_state_dict(state["modules"][name])
        for name, average in ema.items():
            average.load_state(state["ema"][name])
        optimiser.load_state_dict(state["optimiser"])
        extra.update(state["extra"])
        start = state["step"]
    for group in optimiser.param_groups:
        group.setdefault("initial_lr", group["lr"])
    rates = LambdaLR(optimiser, schedule, start - 1) if schedule else None
    trained = parameters(modules.values())

    def check_finite(what: str, value: float, step: int, why: str = "") -> None:
        if not math.isfinite(value):
            raise TrainingFailed(
                f"{what} became {value} at step {step} of {steps}{why}. Lower the learning rate; the last saved state is "
                "untouched."
            )

    def save(step: int) -> None:
        check_finite("A weight", float(sum(p.detach().float().sum() for p in trained)), step)
        if path:
            save_state(
                {
                    "step": step,
                    "modules": {name: module.state_dict() for name, module in modules.items()},
                    "optimiser": optimiser.state_dict(),
                    "ema": {name: average.state() for name, average in ema.items()},
                    "extra": extra,
                },
                path,
            )

    result = FitResult(start, steps)
    began = time.monotonic()
    for step in range(start, steps):
        if ranks.either(bool(stop and stop())):
            save(step)
            result.stopped = True
            return result
        seed_step(seed, step)
        optimiser.zero_grad(set_to_none=True)
        loss, metrics = loss_fn(step)
        result.metrics = ranks.means({"loss": loss.item(), **metrics}, weight)
        check_finite("The loss", result.metrics["loss"], step + 1, f": {metrics}")
        loss.backward()
        ranks.gradients(trained, weight)
        norm = torch.nn.utils.clip_grad_norm_(trained, CLIP)
        check_finite("The gradient", float(norm), step + 1)
        optimiser.step()
        if rates:
            rates.step()
        for name, average in ema.items():
            average.update_parameters(modules[name])
        result.step = step + 1
        if result.step % save_every == 0 or result.step == steps:
            save(result.step)
        if on_progress:
            seconds = time.monotonic() - began
            left = seconds / (result.step - start) * (steps - result.step)
            on_progress(Progress(result.step, steps, result.metrics, seconds, left))
    return result
