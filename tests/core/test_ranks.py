"""How work is dealt out to ranks, and that a process that is alone is left alone."""

from types import SimpleNamespace

import pytest
import torch
from torch import nn

from core import ranks
from core.training.loop import fit


def as_rank(monkeypatch, rank, size):
    """Shares are arithmetic: no process has to be started for them (tests/reliability has real ones)."""
    state = SimpleNamespace(process_index=rank, num_processes=size)
    monkeypatch.setattr(
        ranks, "_group", ranks._Group(state, None, following=False)
    )  # in the middle of a call


@pytest.fixture
def waiting(monkeypatch):
    """Rank 0 of two while the other waits for a call: there is no process group, so communication would fail."""
    state = SimpleNamespace(process_index=0, num_processes=2)
    monkeypatch.setattr(ranks, "_group", ranks._Group(state, None))


def test_the_shares_of_a_batch_are_the_batch(monkeypatch):
    for count, size in ((8, 2), (7, 3), (2, 4)):
        taken, weight = [], 0.0
        for rank in range(size):
            as_rank(monkeypatch, rank, size)
            mine = list(range(count))[ranks.share(count)]
            assert mine  # a loss of nothing is not a number: who has nothing takes one that does not count
            assert ranks.fraction(count) == (len(mine) / count if rank < count else 0.0)
            taken += mine if rank < count else []
            weight += ranks.fraction(count)
        assert sorted(taken) == list(range(count))
        assert abs(weight - 1) < 1e-12


def test_items_are_dealt_out_by_the_batches_that_one_process_makes(monkeypatch):
    items = list(range(11))
    alone = [items[at : at + 2] for at in range(0, 11, 2)]
    result = []
    for rank in range(3):
        as_rank(monkeypatch, rank, 3)
        mine = ranks.deal(items, 2)
        result += [mine[at : at + 2] for at in range(0, len(mine), 2)]
    assert sorted(result) == alone


def test_work_of_rank_0_alone_is_not_shared(waiting):
    assert (ranks.fraction(5), ranks.share(5), ranks.means({"loss": 1.0}, 0.5)) == (
        1.0,
        slice(None),
        {"loss": 1.0},
    )
    assert ranks.first(lambda: 3) == 3 and ranks.either(True)


def test_a_single_process_computes_as_if_there_were_no_ranks(monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "1")
    with ranks.group():
        assert (ranks.rank(), ranks.world(), ranks.fraction(5), ranks.deal([1, 2], 1)) == (0, 1, 1.0, [1, 2])
        value, layer = torch.ones(2), nn.Linear(1, 1)
        assert ranks.mean(value, 0.5) is value
        assert value[ranks.share(2)] is not None and len(value[ranks.share(2)]) == 2
        assert ranks.means({"loss": 1.0}, 0.5) == {"loss": 1.0}
        ranks.gradients(layer.parameters(), 0.5)
        assert layer.weight.grad is None
        assert ranks.first(lambda: 3) == 3
        assert ranks.either(True) and not ranks.either(False)
        ranks.call(print, "nobody hears this")()
        ranks.wait()
        ranks.dismiss()


def test_a_training_of_rank_0_alone_does_not_communicate(waiting):
    """A LoRA's training is one, as any that is not marked `together`."""
    layer = nn.Linear(1, 1, bias=False)
    optimiser = torch.optim.SGD(layer.parameters(), lr=0.1)

    def loss(_step):
        return layer(torch.ones(1, 1)).sum(), {"part": ranks.fraction(4)}

    result = fit({"layer": layer}, optimiser, loss, steps=2)
    assert result.step == 2 and result.metrics["part"] == 1.0
    assert list(range(4))[ranks.share(4)] == [0, 1, 2, 3] and ranks.first(lambda: 3) == 3
