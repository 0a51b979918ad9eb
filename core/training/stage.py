"""A stage of training: AdamW, a moving average of the weights, and early stopping on held-out prompts."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from core import ranks
from core.training.loop import Ema, FitResult, Hooks, fit, warmup_cosine

Look = Callable[[Any], tuple[float, dict[str, float]]]
"""Evaluates a model of the stage's class: a score, larger is better, and the metrics to keep with it."""


@dataclass
class StageResult:
    """The loop's result, the metrics of the weights that are kept, and their step (0: the initial weights)."""

    fit: FitResult
    metrics: dict[str, float]
    best_step: int


class Best:
    """The best averaged weights so far, kept in the loop's `extra` so that a resumed run has them too."""

    def __init__(self, average: Ema, patience: int) -> None:
        self.model, self.patience = average.module, patience
        self.extra: dict[str, Any] = {
            "score": -float("inf"), "step": -1, "since": 0, "weights": {}, "metrics": {},
        }  # fmt: skip

    def offer(self, step: int, look: Look) -> dict[str, float]:
        """Evaluate the averaged weights before `step`, and keep them if they score higher; metrics for the progress log."""
        score, metrics = ranks.first(lambda: look(self.model))
        if score > self.extra["score"]:
            weights = {name: value.detach().clone() for name, value in self.model.named_parameters()}
            self.extra |= {"score": score, "step": step, "since": 0, "weights": weights, "metrics": metrics}
        else:
            self.extra["since"] += 1
        return {f"validation_{name}": value for name, value in metrics.items()}

    def exhausted(self) -> bool:
        """Whether the last `patience` evaluations brought nothing better."""
        return self.extra["since"] >= self.patience

    @torch.no_grad()
    def restore(self, model: nn.Module) -> None:
        """Put the best weights into `model`."""
        for name, parameter in model.named_parameters():
            parameter.copy_(self.extra["weights"][name])


def run_stage(
    name: str,
    model: nn.Module,
    config: Any,
    loss_fn: Callable[[int], tuple[Tensor, dict[str, float]]],
    look: Look | None,
    hooks: Hooks,
    warmup: int = 50,
) -> StageResult:
    """Train `model` in place; it ends with the averaged weights that `look` scored highest, the initial ones among them,
    or with the last ones where there is no `look`. A run that `stop` ended leaves the model unfit for use.

    name: of the model in the saved state. config: the stage's settings. warmup: steps over which the rate rises.
    """
    optimiser = torch.optim.AdamW(
        model.parameters(), lr=config.rate, betas=(0.9, 0.98), weight_decay=config.weight_decay
    )
    average = Ema(model, config.average)
    best, stop = Best(average, getattr(config, "patience", 1)), hooks.get("stop")

    def evaluated(step: int) -> tuple[Tensor, dict[str, float]]:
        metrics = {}
        if look is not None and step % config.evaluate_every == 0:
            metrics = best.offer(step, look)
        loss, terms = loss_fn(step)
        return loss, terms | metrics

    result = fit(
        {name: model},
        optimiser,
        evaluated,
        steps=config.steps,
        folder=hooks.get("folder"),
        save_every=config.save_every,
        on_progress=hooks.get("on_progress"),
        stop=lambda: best.exhausted() or bool(stop and stop()),
        ema={name: average},
        schedule=warmup_cosine(config.steps, warmup),
        seed=config.seed,
        extra=best.extra,
        batch=config.batch,
    )
    model.eval()
    if result.stopped and not best.exhausted():
        return StageResult(result, {}, best.extra["step"])
    if look is None:
        average.copy_to(model)
        return StageResult(result, dict(result.metrics), result.step)
    if result.stopped:
        result.stopped = False  # early stopping is an end like any other
    else:
        best.offer(result.step, look)
    best.restore(model)
    return StageResult(result, best.extra["metrics"], best.extra["step"])
