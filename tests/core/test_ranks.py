"""How work is dealt out to ranks, and that a process that is alone is left alone."""

from types import SimpleNamespace

import pytest
import torch
from torch import nn

from core import ranks
from core.training.loop import fit


def as_rank(monkeypatch, rank, size, following=False):
    """Shares are arithmetic: no process has to be started for them (tests/reliability has real ones)."""
    state = SimpleNamespace(process_index=rank, num_processes=size)
    monkeypatch.setattr(ranks, "_group", ranks._Group(state, None, following=following))


def test_shares_and_dealt_items_are_the_whole_in_the_batches_of_one_process(monkeypatch):
    for count, size in ((8, 2), (7, 3), (2, 4)):
        taken, weight = [], 0.0
        for rank in range(size):
            as_rank(monkeypatch, rank, size)
            mine = list(range(count))[ranks.share(count)]
            assert mine  # a loss of nothing is not a number: who has nothing takes one that does not count
            assert ranks.fraction(count) == (len(mine) / count if rank < count else 0.0)
            taken += mine if rank < count else []
            weight += ranks.fraction(count)
        assert sorted(taken) == list(range(count)) and weight == pytest.approx(1)
    items, result = list(range(11)), []
    for rank in range(3):
        as_rank(monkeypatch, rank, 3)
        mine = ranks.deal(items, 2)
        result += [mine[at : at + 2] for at in range(0, len(mine), 2)]
    assert sorted(result) == [items[at : at + 2] for at in range(0, 11, 2)]


@pytest.mark.parametrize("who", ["a single process", "rank 0, while the other waits for a call"])
def test_who_works_alone_computes_as_if_there_were_no_ranks(monkeypatch, who):
    """There is no process group, so communication would fail."""
    if who == "a single process":
        monkeypatch.setenv("WORLD_SIZE", "1")
    else:
        as_rank(monkeypatch, 0, 2, following=True)
    layer = nn.Linear(1, 1, bias=False)

    def loss(_step):
        return layer(torch.ones(1, 1)).sum(), {"part": ranks.fraction(4)}

    def alone():
        assert (ranks.fraction(5), ranks.means({"loss": 1.0}, 0.5)) == (1.0, {"loss": 1.0})
        assert list(range(4))[ranks.share(4)] == [0, 1, 2, 3] and ranks.first(lambda: 3) == 3
        assert ranks.either(True) and not ranks.either(False)
        result = fit({"layer": layer}, torch.optim.SGD(layer.parameters(), lr=0.1), loss, steps=2)
        assert result.step == 2 and result.metrics["part"] == 1.0

    if who == "a single process":
        with ranks.group():
            alone()
            assert (ranks.rank(), ranks.world(), ranks.deal([1, 2], 1)) == (0, 1, [1, 2])
            ranks.call(print, "nobody hears this")()
            ranks.wait()
            ranks.dismiss()
    else:
        alone()
