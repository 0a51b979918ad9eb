"""core/noise.py: what a seed draws, what strength does, and what the drift statistics see."""

import math

import numpy as np
import pytest
import torch

from core.noise import SEED_LIMIT, blend, check_seed, check_strength, draw, drift, second

SHAPE = (4, 16, 16)


def test_a_seed_draws_what_a_diffusers_pipeline_draws():
    from diffusers.utils.torch_utils import randn_tensor

    generators = [torch.Generator("cpu").manual_seed(s) for s in (7, 8)]
    assert torch.equal(draw([7, 8], SHAPE), randn_tensor((2, *SHAPE), generator=generators))


def test_an_item_depends_on_its_own_seed_only():
    assert torch.equal(draw([1, 2, 3], SHAPE)[1], draw([2], SHAPE)[0])
    assert torch.equal(second([1, 2, 3], SHAPE)[1], second([2], SHAPE)[0])


def test_the_second_stream_is_standard_normal_and_independent_of_the_first():
    seeds = list(range(64))
    eps, xi = draw(seeds, SHAPE), second(seeds, SHAPE)
    assert abs(xi.mean()) < 0.02 and abs(xi.std() - 1) < 0.02
    assert abs((eps * xi).mean()) < 0.02


@pytest.mark.parametrize(
    "seed, value", [(0, 0), ("42", 42), (" 7 ", 7), (np.int64(9), 9), (SEED_LIMIT - 1,) * 2]
)
def test_a_whole_number_is_a_seed(seed, value):
    assert check_seed(seed) == value


@pytest.mark.parametrize(
    "seed", [-1, "-1", 1.0, "1.5", math.nan, None, "", "x", True, SEED_LIMIT, "9" * 30, "²", [1]]
)
def test_anything_else_is_refused_with_a_sentence(seed):
    with pytest.raises(ValueError, match=r"The seed .*use.*\.$"):
        check_seed(seed)


def test_seeds_at_the_limit_would_be_aliases_which_is_why_they_are_refused():
    low, high = (torch.randn(4, generator=torch.Generator("cpu").manual_seed(s)) for s in (5, 5 + SEED_LIMIT))
    assert torch.equal(low, high)


@pytest.mark.parametrize("strength", [-0.1, 1.1, math.nan, math.inf, "1", None])
def test_a_strength_out_of_range_is_refused(strength):
    with pytest.raises(ValueError, match="from 0"):
        check_strength(strength)


def test_strength_0_is_the_noise_and_strength_1_the_projection_bit_for_bit():
    eps, projected = draw([1, 2], SHAPE), draw([3, 4], SHAPE)
    assert torch.equal(blend(eps, projected, 0), eps) and torch.equal(blend(eps, projected, 1), projected)


@pytest.mark.parametrize("strength", [0.25, 0.5, 0.9])
def test_between_the_two_the_variance_is_kept(strength):
    eps, other = draw([1, 2], SHAPE), draw([3, 4], SHAPE)
    assert abs(blend(eps, other, strength).std() - 1) < 0.03
    assert torch.allclose(blend(eps, eps.clone(), strength), eps, atol=1e-6)


def test_blend_refuses_shapes_that_differ():
    with pytest.raises(ValueError, match="differ in shape"):
        blend(draw([1], SHAPE), draw([1], (4, 8, 8)), 0.5)


def test_white_noise_shows_no_drift():
    eps = draw(range(32), SHAPE)
    found = drift(eps, eps)
    assert found["cosine"] == pytest.approx(1) and found["distance"] == 0
    assert abs(found["mean"]) < 0.02 and abs(found["std"] - 1) < 0.02 and found["kl"] < 0.005
    assert found["spatial_correlation"] < found["white_bound"] < 0.03


@pytest.mark.parametrize(
    "change, name, least",
    [
        (lambda x: x + 0.1, "mean", 0.08),
        (lambda x: x * 1.1, "std", 1.08),
        (lambda x: x * 1.5, "kl", 0.15),
        (lambda x: x + 0.1 * x.roll(1, -1), "spatial_correlation", 0.08),
        (lambda x: x + 0.1 * x.roll(1, -2), "spatial_correlation", 0.08),
        (lambda x: x + 0.2, "distance", 0.19),
    ],
)
def test_each_kind_of_drift_is_seen(change, name, least):
    eps = draw(range(16), SHAPE)
    assert drift(change(eps), eps)[name] > least


def test_drift_works_for_one_column_and_refuses_other_shapes():
    eps = draw([1], (4, 9, 1))
    assert math.isfinite(drift(eps, eps)["spatial_correlation"])
    with pytest.raises(ValueError, match="B, C, H, W"):
        drift(eps, eps[0])
