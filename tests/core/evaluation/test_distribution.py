import math
from itertools import permutations

import numpy as np
import pytest
from scipy.spatial.distance import pdist

from core.evaluation import distribution as d
from core.metrics import frechet

RNG = np.random.default_rng(0)
A, B = RNG.normal(size=(200, 16)), RNG.normal(size=(200, 16))


def slow_mmd(a, b, width):
    """Gretton et al. 2012, eq. 3, a pair at a time."""

    def k(x, y):
        return math.exp(-np.square(x - y).sum() / (2 * width**2))

    inner, outer = (np.mean([k(x, y) for x, y in permutations(one, 2)]) for one in (a, b))
    return inner + outer - 2 * np.mean([[k(x, y) for y in b] for x in a])


def test_the_mmd_is_the_textbook_sum_at_the_median_distance():
    for a, b in ((A[:7], B[:9]), (A[:9], B[:5] + 1)):
        width = np.median(pdist(np.concatenate([a, b])))
        assert d.mmd_test(a, b)[0] == pytest.approx(slow_mmd(a, b, width))


def test_the_mmd_is_about_zero_for_one_distribution_and_not_for_two():
    tests = [d.mmd_test(*RNG.normal(size=(2, 30, 8)), seed=i) for i in range(60)]
    values = [value for value, _ in tests]
    assert abs(np.mean(values)) < 3 * np.std(values) / math.sqrt(60)
    assert min(values) < 0 < max(values)  # unbiased: as often below 0
    assert sum(value > level for value, level in tests) <= 8  # 3 of 60 are expected
    value, level = d.mmd_test(A, B)
    assert value < level < d.mmd_test(A, B + 0.3)[0]
    assert d.mmd_test(A, A)[0] < 0 < d.mmd_test(A, A)[1]


def test_the_jensen_shannon_divergence_of_histograms_has_its_known_values():
    for p, q, nats in (
        ([1, 2, 3], [2, 4, 6], 0.0),
        ([1, 0], [0, 5], math.log(2)),
        ([1, 1], [1, 0], 0.25 * math.log(2 / 3) + 0.25 * math.log(2) + 0.5 * math.log(4 / 3)),
    ):
        assert d.jensen_shannon(np.array(p), np.array(q)) == pytest.approx(nats)
    assert d.histogram(np.array([-99.0, 0.1, 99.0])).sum() == 3
    near, far = (d.jensen_shannon(d.histogram(A), d.histogram(other)) for other in (B, A * 1.5))
    assert far > 5 * near


def test_the_inner_frechet_distance_is_what_halves_of_one_set_give():
    groups = np.repeat(np.arange(10), 20)
    inner, shifted = d.half_frechet(A, A, groups), d.half_frechet(A, A + 1, groups)
    assert len(inner) == 10 and 0 < np.mean(inner) < np.mean(shifted)
    # a shift of 1 in 16 dimensions adds 16 to the squared distance of the means, and something by chance
    assert np.mean(shifted) - np.mean(inner) == pytest.approx(16, abs=1.5)
    assert d.half_frechet(A, A, groups) == inner
    half = d.halves(groups, np.random.default_rng(1))
    assert [half[groups == g].sum() for g in range(10)] == [10] * 10
    assert frechet(A, A) == pytest.approx(0, abs=1e-6)


def test_the_inception_like_score_runs_from_one_to_the_number_of_classes():
    assert d.inception_like(np.eye(10))["score"] == pytest.approx(10)
    assert d.inception_like(np.full((4, 10), 0.1))["score"] == pytest.approx(1)
    assert d.inception_like(np.eye(10)[[3, 3, 3]])["score"] == pytest.approx(1)
    mixed = d.inception_like(np.array([[0.9, 0.1], [0.2, 0.8]]))
    assert mixed["score"] == pytest.approx(math.exp(mixed["spread"] - mixed["certain"]))


def test_an_image_is_invalid_if_not_finite_of_one_colour_or_of_a_spread_far_from_the_usual():
    rng = np.random.default_rng(3)
    latents = rng.normal(size=(40, 4, 8, 8)) * rng.uniform(0.9, 1.1, (40, 1, 1, 1))
    images = rng.integers(0, 255, (40, 16, 16, 3), np.uint8)
    usual = d.looks(images, latents)
    assert not d.invalid(usual, usual).any()
    broken, bad = latents[:5].copy(), images[:5].copy()
    broken[0, 0, 0, 0] = np.nan
    bad[1] = 255
    broken[2] *= 3
    broken[3] *= 0.1
    assert d.invalid(d.looks(bad, broken), usual).tolist() == [True, True, True, True, False]
    assert d.invalid(d.looks(bad, broken), []).tolist() == [True, True, False, False, False]


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda: d.mmd_test(A[:1], B), "N of 2 or more"),
        (lambda: d.mmd_test(A * np.nan, B), "not finite"),
        (lambda: d.jensen_shannon(np.zeros(3), np.ones(3)), "hold something"),
        (lambda: d.inception_like(np.ones((2, 3))), "sum to 1"),
        (lambda: d.half_frechet(A, B[:10], [0] * 200), "Paired"),
    ],
)
def test_sets_that_cannot_be_compared_are_refused_with_a_sentence(call, says):
    with pytest.raises(ValueError, match=says):
        call()


def test_the_gaussian_kl_sees_what_all_noises_share_and_no_single_one_shows():
    rng = np.random.default_rng(0)
    white, pattern = rng.normal(size=(400, 256)), rng.normal(size=256)
    assert d.gaussian_kl(white) == pytest.approx(1 / 400, rel=0.15)
    shared = np.sqrt(0.75) * white + 0.5 * pattern  # each item has unit variance still
    assert shared.var() == pytest.approx(1, abs=0.05)
    expected = 0.5 * (0.75 + 0.25 * np.mean(pattern**2) - 1 - np.log(0.75))
    assert d.gaussian_kl(shared) == pytest.approx(expected + 1 / 400, rel=0.05)
    with pytest.raises(ValueError, match="N of 2 or more"):
        d.gaussian_kl(white[0])
