"""core/training/loop.py: stop, resume and failure."""

import pytest
import torch

from core.checkpoint import load_state
from core.training.loop import Ema, TrainingFailed, fit, seed_step, warmup_cosine


def train(folder, steps, stop_at=None):
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.Dropout(0.3), torch.nn.Linear(8, 1))
    average, extra, calls = Ema(model), {"seen": 0}, iter(range(10_000))

    def loss(step):
        x = torch.randn(16, 4, generator=seed_step(5, step))
        extra["seen"] += 16
        return (model(x) - x.sum(1, keepdim=True)).square().mean(), {"step": float(step)}

    result = fit(
        {"model": model}, torch.optim.AdamW(model.parameters(), lr=1e-2), loss, steps=steps, folder=folder,
        save_every=3, ema={"model": average}, schedule=warmup_cosine(steps, warmup=2), extra=extra, seed=5,
        stop=(lambda: next(calls) >= stop_at) if stop_at else None,
    )  # fmt: skip
    return [*model.parameters(), *average.module.parameters()], extra, result


def test_a_stopped_run_that_is_resumed_ends_in_the_same_bits(tmp_path):
    whole, whole_extra, _ = train(tmp_path / "whole", 10)
    for stop_at in (1, 3, 7):
        *_, stopped = train(tmp_path / str(stop_at), 10, stop_at)
        assert stopped.stopped and stopped.step == stop_at
        resumed, extra, result = train(tmp_path / str(stop_at), 10)
        assert not result.stopped and extra == whole_extra
        assert all(map(torch.equal, whole, resumed))


def fit_one(model, loss=None, steps=9, **options):
    """Fit a linear layer, its own output as the loss unless another is given."""
    optimiser = torch.optim.SGD(model.parameters(), lr=0.1)
    loss = loss or (lambda step: model(torch.ones(1, 1)).sum())
    return fit({"m": model}, optimiser, lambda step: (loss(step), {"x": 1.0}), steps=steps, **options)


class Steep(torch.autograd.Function):
    """The identity, whose gradient is what it is told: a finite loss with a gradient that is not."""

    @staticmethod
    def forward(context, x, slope):
        context.slope = slope
        return x.clone()

    @staticmethod
    def backward(context, gradient):
        return gradient * context.slope, None


@pytest.mark.parametrize("bad", [3, 8])  # between two states, and the last step
@pytest.mark.parametrize("what", ["loss", "gradient nan", "gradient inf", "weight"])
def test_what_is_not_finite_stops_the_run_before_it_is_saved(tmp_path, what, bad):
    model = torch.nn.Linear(1, 1)

    def loss(step):
        value = model(torch.ones(1, 1)).sum()
        if step != bad or what == "weight":
            return value + (0 * model.bias).sum() if what != "weight" else model.weight.sum()
        return value * float("nan") if what == "loss" else Steep.apply(value, float(what.split()[1]))

    def spoil(progress):
        if what == "weight" and progress.step == bad:
            model.bias.data.fill_(float("inf"))

    says = {"loss": "The loss", "weight": "A weight"}.get(what, "The gradient")
    with pytest.raises(TrainingFailed, match=rf"{says} became (nan|inf) at step {bad + 1} of 9"):
        fit_one(model, loss, folder=tmp_path, save_every=2, on_progress=spoil)
    state = load_state(tmp_path / "state.pt")
    assert state["step"] == bad - bad % 2
    assert all(torch.isfinite(value).all() for value in state["modules"]["m"].values())
    assert what == "weight" or torch.isfinite(model.weight).all()


def test_progress_counts_to_the_end_and_says_what_is_left():
    seen = []
    fit_one(torch.nn.Linear(1, 1), steps=3, on_progress=seen.append)
    assert [(p.step, p.total) for p in seen] == [(1, 3), (2, 3), (3, 3)]
    assert seen[-1].left == 0 and set(seen[0].metrics) == {"loss", "x"}
    with pytest.raises(ValueError, match="at least 1, got 0"):
        fit_one(torch.nn.Linear(1, 1), steps=0)
