"""core/noise.py: what a seed draws, what strength does, and what the drift statistics see."""

import math

import numpy as np
import pytest
import torch

from core.noise import SEED_LIMIT, blend, check_seed, check_seeds, check_strength, draw, drift, second, third
from tests.no_float64 import OnDevice

SHAPE = (4, 16, 16)


def test_a_seed_draws_what_a_diffusers_pipeline_draws_and_its_streams_go_on_from_each_other():
    from diffusers.utils.torch_utils import randn_tensor

    generators = [torch.Generator("cpu").manual_seed(s) for s in (7, 8)]
    first, other = (randn_tensor((2, *SHAPE), generator=generators) for _ in range(2))
    assert torch.equal(draw([7, 8], SHAPE), first) and torch.equal(second([7, 8], SHAPE), other)
    assert torch.equal(draw([8], SHAPE), first[1:])  # whatever else is drawn
    assert torch.equal(
        torch.randn(SHAPE, generator=third([7], SHAPE)[0]), torch.randn(SHAPE, generator=generators[0])
    )


@pytest.mark.parametrize(
    "seed, value",
    [
        (0, 0), ("42", 42), (" 7 ", 7), (np.int64(9), 9), (np.uint64(9), 9), (np.array(9), 9), (torch.tensor(9), 9),
        (SEED_LIMIT - 1,) * 2, (np.uint64(SEED_LIMIT - 1), SEED_LIMIT - 1), (str(SEED_LIMIT - 1), SEED_LIMIT - 1),
    ],
)  # fmt: skip
def test_a_whole_number_is_a_seed(seed, value):
    assert check_seed(seed) == value and type(check_seed(seed)) is int
    for seeds in (seed, [seed], (seed,), np.array([value]), torch.tensor([value])):
        assert check_seeds(seeds) == [value]


@pytest.mark.parametrize(
    "seed",
    [
        -1, "-1", 1.0, "1.5", math.nan, None, "", "x", True, SEED_LIMIT, "9" * 30, "²", [1], b"7",
        np.float32(1), np.True_, np.uint64(SEED_LIMIT), np.int64(-1), np.array([1, 2]), np.datetime64("2026-01-01"),
        torch.tensor(1.0), torch.tensor(True), torch.tensor([1, 2]), torch.tensor(-1), 10**30,
        pytest.param(10**5000, id="thousands of digits"), pytest.param(-(10**5000), id="and below zero"),
    ],
)  # fmt: skip
def test_anything_else_is_refused_with_a_sentence(seed):
    with pytest.raises(ValueError, match=r"The seed .*use.*\.$"):
        check_seed(seed)


def test_what_cannot_be_used_is_refused():
    for seeds in ([], (), np.array([], int), torch.tensor([]), range(0)):
        with pytest.raises(ValueError, match="There is no seed"):
            check_seeds(seeds)
    for strength in (-0.1, 1.1, math.nan, math.inf, "1", None):
        with pytest.raises(ValueError, match="from 0"):
            check_strength(strength)
    eps = draw([1], SHAPE)
    with pytest.raises(ValueError, match="differ in shape"):
        blend(eps, draw([1], (4, 8, 8)), 0.5)
    with pytest.raises(ValueError, match="B, C, H, W"):
        drift(eps, eps[0])


BEYOND = [2**32, 2**32 + 5, 2**33 + 5, 5 * 2**32, 2**53, 2**53 + 1, 2**62 + 5, SEED_LIMIT - 1]


def test_no_two_seeds_have_the_same_noise_in_any_stream():
    """Against each other, and against the smaller seeds that torch would take them for."""
    seeds = [0, 5, 2**32 - 1, *BEYOND]
    rest = [torch.randn(SHAPE, generator=generator) for generator in third(seeds, SHAPE)]
    streams = torch.cat([draw(seeds, SHAPE), second(seeds, SHAPE), torch.stack(rest)]).flatten(1)
    alike = torch.corrcoef(streams) - torch.eye(len(streams))
    assert alike.abs().max() < 0.15  # white noise of 1,024 values


@pytest.mark.parametrize("seed", BEYOND)
def test_a_seed_beyond_32_bits_draws_standard_normal_noise(seed):
    first = draw([seed], (4, 64, 64))
    assert torch.equal(first, draw([seed], (4, 64, 64)))
    (generator,) = third([seed], first.shape[1:])
    assert generator.initial_seed() == seed
    for stream in (first, torch.randn(3, *first.shape, generator=generator)):
        assert abs(stream.mean()) < 0.03 and abs(stream.std() - 1) < 0.03


def test_blending_and_drift_need_no_float64_on_the_device():
    eps, other = draw([1, 2], SHAPE), draw([3, 4], SHAPE)
    placed, moved = eps.as_subclass(OnDevice), other.as_subclass(OnDevice)
    with pytest.raises(TypeError, match="float64"):
        placed.double()
    assert torch.equal(blend(placed, moved, 0.4), blend(eps, other, 0.4))
    assert drift(moved, placed) == drift(other, eps)


def test_strength_0_is_the_noise_1_the_projection_bit_for_bit_and_between_them_the_variance_is_kept():
    eps, other = draw([1, 2], SHAPE), draw([3, 4], SHAPE)
    assert torch.equal(blend(eps, other, 0), eps) and torch.equal(blend(eps, other, 1), other)
    for strength in (0.25, 0.5, 0.9):
        assert abs(blend(eps, other, strength).std() - 1) < 0.03
        assert torch.allclose(blend(eps, eps.clone(), strength), eps, atol=1e-6)


def test_white_noise_has_no_drift():
    eps = draw(range(32), SHAPE)
    result = drift(eps, eps)
    assert result["cosine"] == pytest.approx(1) and result["distance"] == 0
    assert abs(result["mean"]) < 0.02 and abs(result["std"] - 1) < 0.02 and result["kl"] < 0.005
    assert result["spatial_correlation"] < result["white_bound"] < 0.03
    column = draw([1], (4, 9, 1))
    assert math.isfinite(drift(column, column)["spatial_correlation"])


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
