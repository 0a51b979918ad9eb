"""core/networks/blocks.py and trunk.py: positions, pointing, comparing, experts and patches."""

import pytest
import torch

from core.networks.blocks import (
    Attention,
    Comparing,
    MixtureOfExperts,
    Pointing,
    ordinals,
    positions,
)
from core.networks.trunk import patches, trim, unpatch

ALL = torch.ones(1, 3, 3, dtype=torch.bool)


def test_positions_tell_every_cell_apart_and_follow_the_map_and_ordinals_every_word():
    like = torch.zeros(1)
    for height, width in ((8, 8), (3, 11), (1, 1)):
        rows = positions(height, width, 32, like)
        assert rows.shape == (height * width, 32)
        assert len(torch.unique(rows, dim=0)) == height * width
    large = positions(12, 12, 32, like).view(12, 12, 32)[1::3, 1::3].reshape(16, 32)
    assert torch.allclose(positions(4, 4, 32, like), large, atol=1e-4)
    long = ordinals(77, 32, like)
    assert long.abs().max() <= 1 and torch.cdist(long, long).add(torch.eye(77) * 9).min() > 0.1
    assert torch.equal(ordinals(5, 32, like), long[:5])  # however many follow
    assert ordinals(3, 32, like.half()).dtype == torch.float16


def test_words_that_are_masked_are_not_compared():
    torch.manual_seed(0)
    layer, x, where = Comparing(16), torch.randn(1, 3, 16), torch.randn(1, 3, 2)
    peers = ALL.clone()
    peers[:, :2, 2] = False
    other, elsewhere = x.clone(), where.clone()
    other[:, 2], elsewhere[:, 2] = 9.0, 9.0
    out, changed = layer(x, where, peers), layer(other, elsewhere, peers)
    assert torch.equal(out[:, :2], changed[:, :2]) and not torch.equal(out[:, 2], changed[:, 2])
    assert torch.allclose(layer(x[:, :2], where[:, :2], ALL[:, :2, :2]), out[:, :2], atol=1e-6)


def test_a_single_word_has_nothing_to_compare():
    layer, x = Comparing(16, reach=2), torch.randn(1, 1, 16)
    out = layer(x, torch.randn(1, 1, 2), torch.ones(1, 1, 1, dtype=torch.bool))
    assert torch.allclose(out, x + layer.out.bias, atol=1e-6)


def test_a_router_picks_top_k_experts_and_the_dense_sum_equals_the_sparse_one():
    torch.manual_seed(0)
    layer = MixtureOfExperts(8, 6, experts=4, top_k=2)
    torch.nn.init.normal_(layer.router.weight)
    x = torch.randn(2, 5, 8)
    out, losses = layer(x)
    inner = layer.norm(x)
    chances = layer.router(inner).softmax(-1)
    for b, n in ((0, 0), (1, 4)):
        top = chances[b, n].topk(2)
        hidden = torch.nn.functional.gelu(layer.up(inner[b, n])).view(4, 6)
        sparse = sum(
            gate / top.values.sum() * (hidden[e] @ layer.down[e] + layer.bias[e])
            for gate, e in zip(top.values, top.indices, strict=True)
        )
        assert torch.allclose(out[b, n], x[b, n] + sparse, atol=1e-5)
    assert set(losses) == {"load_balance", "router_z"}


def test_load_balance_is_1_when_even_and_grows_when_one_expert_takes_all():
    layer = MixtureOfExperts(8, 6, experts=4, top_k=1)
    torch.nn.init.zeros_(layer.norm.weight)
    torch.nn.init.ones_(layer.norm.bias)
    torch.nn.init.zeros_(layer.router.weight)
    assert layer(torch.randn(2, 5, 8))[1]["load_balance"].item() == pytest.approx(1)
    with torch.no_grad():
        layer.router.weight[0] = 5
    assert layer(torch.randn(2, 5, 8))[1]["load_balance"].item() == pytest.approx(4, abs=0.01)


def test_sizes_that_do_not_fit_are_refused_with_the_numbers():
    for build in (lambda: MixtureOfExperts(8, 6, 2, 3), lambda: Attention(10, 4), lambda: Pointing(10, 4)):
        with pytest.raises(ValueError, match=r"\d"):
            build()


def test_unpatch_inverts_patches():
    for size in ((16, 16), (7, 10), (1, 1)):
        noise = torch.randn(2, 4, *size)
        rows, columns = -(-size[0] // 2), -(-size[1] // 2)
        cells = patches(noise, 2).transpose(1, 2).reshape(2, 16, rows, columns)
        assert torch.equal(unpatch(cells, 2, *size), noise)


def test_trim_cuts_padding_only_and_leaves_each_item_a_token():
    text, mask = torch.randn(2, 6, 3), torch.tensor([[1, 1, 1, 0, 0, 0], [0, 0, 0, 0, 0, 0]]).bool()
    cut, kept = trim(text, mask)
    assert torch.equal(cut, text[:, :3])
    assert kept.tolist() == [[True, True, True], [True, False, False]]
