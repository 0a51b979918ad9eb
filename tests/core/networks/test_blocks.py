"""core/networks/blocks.py and trunk.py: positions, pointing, comparing, experts and patches."""

import pytest
import torch

from core.networks.blocks import (
    Attention,
    Comparing,
    MixtureOfExperts,
    Pointing,
    TextIn,
    ordinals,
    positions,
)
from core.networks.trunk import patches, trim, unpatch

ALL = torch.ones(1, 3, 3, dtype=torch.bool)


def test_positions_tell_every_cell_apart_and_follow_the_map_not_its_size():
    like = torch.zeros(1)
    for height, width in ((8, 8), (3, 11), (1, 1)):
        rows = positions(height, width, 32, like)
        assert rows.shape == (height * width, 32)
        assert len(torch.unique(rows, dim=0)) == height * width
    small, large = (
        positions(4, 4, 32, like),
        positions(12, 12, 32, like).view(12, 12, 32)[1::3, 1::3].reshape(16, 32),
    )
    assert torch.allclose(small, large, atol=1e-4)


def test_a_words_ordinal_does_not_depend_on_how_many_follow_and_no_two_are_alike():
    like = torch.zeros(1)
    long = ordinals(77, 32, like)
    assert long.shape == (77, 32) and long.abs().max() <= 1
    for count in (1, 5, 40):
        assert torch.equal(ordinals(count, 32, like), long[:count])
    assert torch.cdist(long, long).add(torch.eye(77) * 9).min() > 0.1
    assert ordinals(3, 32, like.half()).dtype == torch.float16


@pytest.mark.parametrize("length", [1, 2, 77])
def test_text_of_any_length_is_accepted_and_an_output_depends_on_its_state_and_the_one_before(length):
    torch.manual_seed(0)
    layer, text = TextIn(6, 8), torch.randn(2, length, 6)
    out = layer(text)
    assert out.shape == (2, length, 8)
    assert torch.allclose(layer(text[:, :1]), out[:, :1], atol=1e-6)
    assert torch.allclose(layer(text[:, -2:])[:, -1:], out[:, -1:], atol=1e-6) or length == 1


def test_a_small_change_of_one_token_is_amplified_there_and_nowhere_before():
    torch.manual_seed(0)
    layer = TextIn(32, 16)
    text = torch.randn(1, 1, 32).expand(1, 5, 32) + 0.05 * torch.randn(1, 5, 32)
    other = text.clone()
    other[:, 3] += 0.05 * torch.randn(32)
    assert torch.cosine_similarity(text[:, 3], other[:, 3]).item() > 0.98
    apart = (layer(text) - layer(other)).norm(dim=-1) / layer(text).norm(dim=-1)
    assert apart[0, 3] > 0.3 and apart[0, :3].max() == 0
    plain = torch.nn.functional.layer_norm(torch.stack([text[:, 3], other[:, 3]]), (32,))
    assert apart[0, 3] > 3 * (plain[0] - plain[1]).norm() / plain[0].norm()


def pointing(heads=2):
    """One that compares what it is given itself, not projections of it."""
    layer = Pointing(32, heads)
    for linear in (layer.query, layer.key):
        torch.nn.init.eye_(linear.weight)
        torch.nn.init.zeros_(linear.bias)
    return layer


def test_a_query_that_equals_a_cell_points_at_that_cell():
    torch.manual_seed(0)
    layer, cells = pointing(1), torch.randn(2, 16, 32)
    axis = torch.linspace(-1, 1, 4)
    places = torch.cartesian_prod(axis, axis)
    x = torch.stack([cells[0, [5, 15, 0]], cells[1, [3, 8, 12]]])
    out, where = layer(3 * x, cells, places)  # how long a query is does not matter
    assert out.shape == x.shape
    assert (where - places[torch.tensor([[5, 15, 0], [3, 8, 12]])]).norm(dim=-1).max() < 0.25
    sharper = pointing(1)
    sharper.sharpness.data.mul_(4)
    assert torch.allclose(
        sharper(x, cells, places)[1], places[torch.tensor([[5, 15, 0], [3, 8, 12]])], atol=1e-2
    )


def test_the_match_of_a_query_does_not_depend_on_repeats_of_the_map():
    torch.manual_seed(0)
    layer, cells, x = pointing(), torch.randn(1, 4, 32), torch.randn(1, 3, 32)
    places = torch.rand(4, 2)
    once = layer(x, cells, places)
    twice = layer(x, torch.cat([cells, cells], 1), torch.cat([places, places]))
    for a, b in zip(once, twice, strict=True):
        assert torch.allclose(a, b, atol=1e-5)


def test_pointing_works_on_a_map_of_one_cell_and_its_gradient_is_finite():
    layer, place = Pointing(8, 2), torch.tensor([[0.3, -0.7]])
    x = torch.zeros(2, 3, 8, requires_grad=True)  # what a LayerNorm cannot scale
    cells = torch.randn(2, 1, 8, requires_grad=True)
    out, where = layer(x, cells, place)
    assert torch.allclose(where, place.expand(2, 3, 2))
    (out.square().sum() + where.sum()).backward()
    result = [x.grad, cells.grad, *(p.grad for p in layer.parameters())]
    assert all(grad is not None and grad.isfinite().all() for grad in result)


def comparing():
    """One that picks by order alone, as a fresh one mostly does."""
    torch.manual_seed(0)
    layer = Comparing(16)
    torch.nn.init.zeros_(layer.query.weight)
    torch.nn.init.zeros_(layer.query.bias)
    return layer


def test_a_word_compares_the_places_before_and_after_it():
    layer, fresh = comparing(), Comparing(16)
    x = torch.randn(1, 3, 16)
    where = torch.tensor([[[0.1, -0.8], [0.5, 0.5], [-0.6, 0.9]]])
    swapped = where[:, [2, 1, 0]]
    out, other = ((layer(x, w, ALL) - x - layer.out.bias)[0, 1] for w in (where, swapped))
    assert out.norm() > 1e-2 and torch.allclose(out, -other, atol=1e-6)  # the way is turned round
    same = where[:, [0, 1, 0]]
    assert torch.allclose(layer(x, same, ALL)[0, 1], x[0, 1] + layer.out.bias, atol=1e-6)
    assert (fresh(x, where, ALL) - fresh(x, swapped, ALL))[0, 1].norm() > 1e-2
    moved = where + torch.tensor([0.3, -0.2])
    assert torch.allclose(fresh(x, moved, ALL), fresh(x, where, ALL), atol=1e-5)


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


def test_a_single_word_has_nothing_to_compare_and_many_words_have_finite_gradients():
    torch.manual_seed(0)
    layer, x = Comparing(16, reach=2), torch.randn(1, 1, 16)
    out = layer(x, torch.randn(1, 1, 2), torch.ones(1, 1, 1, dtype=torch.bool))
    assert torch.allclose(out, x + layer.out.bias, atol=1e-6)
    many = layer(torch.randn(2, 30, 16), torch.randn(2, 30, 2), torch.ones(2, 30, 30, dtype=torch.bool))
    many.sum().backward()
    assert all(p.grad.isfinite().all() for p in layer.parameters())


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


@pytest.mark.parametrize(
    "build", [lambda: MixtureOfExperts(8, 6, 2, 3), lambda: Attention(10, 4), lambda: Pointing(10, 4)]
)
def test_sizes_that_do_not_fit_are_refused_with_the_numbers(build):
    with pytest.raises(ValueError, match=r"\d"):
        build()


@pytest.mark.parametrize("size", [(16, 16), (7, 10), (1, 1)])
def test_unpatch_inverts_patches(size):
    noise = torch.randn(2, 4, *size)
    rows, columns = -(-size[0] // 2), -(-size[1] // 2)
    cells = patches(noise, 2).transpose(1, 2).reshape(2, 16, rows, columns)
    assert torch.equal(unpatch(cells, 2, *size), noise)


def test_trim_cuts_padding_only_and_leaves_each_item_a_token():
    text, mask = torch.randn(2, 6, 3), torch.tensor([[1, 1, 1, 0, 0, 0], [0, 0, 0, 0, 0, 0]]).bool()
    cut, kept = trim(text, mask)
    assert torch.equal(cut, text[:, :3])
    assert kept.tolist() == [[True, True, True], [True, False, False]]
