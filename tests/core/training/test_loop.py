"""core/training/loop.py: stop, resume and failure."""

import pytest
import torch

from core.checkpoint import load_state
from core.training.loop import Ema, TrainingFailed, fit, seed_step, warmup_cosine


def _train(folder, steps, stop_at=None, save_every=3):
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.Dropout(0.3), torch.nn.Linear(8, 1))
    optimiser = torch.optim.AdamW(model.parameters(), lr=1e-2)
    average = Ema(model)
    extra = {"seen": 0}

    def loss_fn(step):
        draws = seed_step(5, step)
        x = torch.randn(16, 4, generator=draws)
        extra["seen"] += 16
        return (model(x) - x.sum(1, keepdim=True)).square().mean(), {"step": float(step)}

    calls = iter(range(10_000))
    result = fit(
        {"model": model},
        optimiser,
        loss_fn,
        steps=steps,
        folder=folder,
        save_every=save_every,
        ema={"model": average},
        schedule=warmup_cosine(steps, warmup=2),
        stop=(lambda: next(calls) >= stop_at) if stop_at is not None else None,
        extra=extra,
        seed=5,
    )
    return model, average, extra, result


@pytest.mark.parametrize("stop_at", [1, 3, 7])
def test_a_stopped_run_that_is_resumed_ends_in_the_same_bits(tmp_path, stop_at):
    whole, whole_average, whole_extra, _ = _train(tmp_path / "whole", 10)
    _, _, _, stopped = _train(tmp_path / "cut", 10, stop_at=stop_at)
    assert stopped.stopped and stopped.step == stop_at
    resumed, average, extra, result = _train(tmp_path / "cut", 10)
    assert not result.stopped and extra == whole_extra
    for a, b in zip(whole.parameters(), resumed.parameters(), strict=True):
        assert torch.equal(a, b)
    for a, b in zip(whole_average.module.parameters(), average.module.parameters(), strict=True):
        assert torch.equal(a, b)


def test_a_loss_that_is_not_finite_stops_the_run_and_keeps_the_last_state(tmp_path):
    model = torch.nn.Linear(1, 1)
    optimiser = torch.optim.SGD(model.parameters(), lr=0.1)

    def loss_fn(step):
        bad = float("nan") if step == 4 else 1.0
        return model(torch.ones(1, 1)).sum() * bad, {}

    with pytest.raises(TrainingFailed, match="step 5 of 9"):
        fit({"m": model}, optimiser, loss_fn, steps=9, folder=tmp_path, save_every=2)
    assert load_state(tmp_path / "state.pt")["step"] == 4
    assert torch.isfinite(model.weight).all()


class Steep(torch.autograd.Function):
    """The identity, whose gradient is what it is told: a finite loss with a gradient that is not."""

    @staticmethod
    def forward(context, x, slope):
        context.slope = slope
        return x.clone()

    @staticmethod
    def backward(context, gradient):
        return gradient * context.slope, None


@pytest.mark.parametrize("slope", [float("nan"), float("inf")])
@pytest.mark.parametrize("bad", [3, 8])  # between two states, and the last step
def test_a_gradient_that_is_not_finite_stops_the_run_before_it_changes_a_weight(tmp_path, bad, slope):
    model = torch.nn.Linear(1, 1)

    def loss_fn(step):
        return Steep.apply(model(torch.ones(1, 1)), slope if step == bad else 1.0).sum(), {}

    with pytest.raises(TrainingFailed, match=rf"The gradient became (nan|inf) at step {bad + 1} of 9.*Lower"):
        fit(
            {"m": model},
            torch.optim.SGD(model.parameters(), lr=0.1),
            loss_fn,
            steps=9,
            folder=tmp_path,
            save_every=2,
        )
    state = load_state(tmp_path / "state.pt")
    assert state["step"] == bad - bad % 2
    assert all(torch.isfinite(value).all() for value in [model.weight, *state["modules"]["m"].values()])


def test_a_weight_that_is_not_finite_is_not_saved(tmp_path):
    model = torch.nn.Linear(1, 1)

    def spoil(progress):
        if progress.step == 3:
            with torch.no_grad():
                model.bias.fill_(float("inf"))
                model.weight.zero_()

    with pytest.raises(TrainingFailed, match="A weight became inf at step 4 of 9"):
        fit(
            {"m": model},
            torch.optim.SGD(model.parameters(), lr=0.1),
            lambda step: (model.weight.sum(), {}),
            steps=9,
            folder=tmp_path,
            save_every=2,
            on_progress=spoil,
        )
    assert load_state(tmp_path / "state.pt")["step"] == 2


def test_progress_counts_to_the_end_and_says_what_is_left():
    model = torch.nn.Linear(1, 1)
    seen = []
    fit(
        {"m": model},
        torch.optim.SGD(model.parameters(), lr=0.1),
        lambda step: (model(torch.ones(1, 1)).sum().square(), {"x": 1.0}),
        steps=3,
        on_progress=seen.append,
    )
    assert [(p.step, p.total) for p in seen] == [(1, 3), (2, 3), (3, 3)]
    assert seen[-1].left == 0 and set(seen[0].metrics) == {"loss", "x"}


def test_steps_must_be_at_least_one():
    model = torch.nn.Linear(1, 1)
    with pytest.raises(ValueError, match="at least 1, got 0"):
        fit(
            {"m": model},
            torch.optim.SGD(model.parameters(), lr=0.1),
            lambda s: (torch.zeros(()), {}),
            steps=0,
        )
