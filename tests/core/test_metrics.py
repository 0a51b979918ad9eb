import itertools
import math

import numpy as np
import pytest
from scipy import stats
from scipy.linalg import sqrtm

from core import metrics as m

RNG = np.random.default_rng(0)
X, Y = RNG.normal(size=60), RNG.normal(size=60)


@pytest.mark.parametrize("x, y", [(X, Y), (X, X + 0.1 * Y), (np.round(X), np.round(X + Y)), (X, -X)])
def test_correlations_agree_with_scipy_ties_included(x, y):
    assert m.pearson(x, y) == pytest.approx(stats.pearsonr(x, y).statistic)
    assert m.spearman(x, y) == pytest.approx(stats.spearmanr(x, y).statistic)


@pytest.mark.parametrize("decimals", [0, 1, 9])
def test_auc_is_the_share_of_pairs_in_the_right_order_a_tie_counting_half(decimals):
    scores, truth = np.round(X, decimals), Y > 0.3
    right, wrong = scores[truth], scores[~truth]
    pairs = [(a > b) + 0.5 * (a == b) for a, b in itertools.product(right, wrong)]
    assert m.auc(scores, truth) == pytest.approx(np.mean(pairs))


def test_a_statistic_that_says_nothing_is_nan():
    said = [figure([], []) for figure in (m.pearson, m.spearman, m.mae, m.auc)]
    said += [figure(np.full(5, 0.1), np.arange(5)) for figure in (m.pearson, m.spearman)]
    said += [m.auc([0.1, 0.2], [1, 1]), *m.mean_interval([], []), *m.wilson(0, 0)]
    assert all(map(math.isnan, said))


@pytest.mark.parametrize("bad", [([1.0, np.nan], [1.0, 2.0]), ([1.0], [1.0, 2.0]), ([[1.0]], [[1.0]])])
def test_bad_numbers_are_refused(bad):
    with pytest.raises(ValueError, match="numbers|finite"):
        m.pearson(*bad)


def test_simple_figures_count_what_they_say():
    assert m.mae([0.0, 1.0], [0.5, 1.0]) == 0.25
    table = m.confusion([9, 9, 0], [9, 8, 0])
    assert table.shape == (10, 10) and table.sum() == 3
    assert (table[9, 9], table[9, 8], table[0, 0]) == (1, 1, 1)
    assert m.within(np.array([1.0, 3.0, 10.0]), ["a", "a", "b"]).tolist() == [-1, 1, 0]
    assert m.win_tie_loss([1, 0, 1, 0], [0, 1, 1, 0]) == {"win": 1, "tie": 2, "loss": 1}
    assert m.wilson(8, 10) == pytest.approx((0.8, 0.4902, 0.9433), abs=1e-4)


def test_the_interval_is_the_same_each_time_and_holds_the_estimate():
    values, prompts = RNG.normal(0.5, 1, 80), np.repeat(np.arange(10), 8)
    first, again = (m.mean_interval(values, prompts, draws=300) for _ in range(2))
    assert first == again
    assert first.low < first.estimate < first.high
    assert first.estimate == pytest.approx(values.mean())
    single = m.mean_interval(values[:50], ["a"] * 50, draws=400)  # whose seeds are drawn again
    assert single.low < single.estimate < single.high


@pytest.mark.parametrize("between", [0.0, 1.0])
def test_the_interval_covers_the_truth_about_as_often_as_it_says(between):
    rng, hits, prompts = np.random.default_rng(3), 0, np.repeat(np.arange(25), 4)
    for trial in range(100):
        values = rng.normal(size=(25, 4)) + between * rng.normal(size=(25, 1))
        result = m.mean_interval(values.ravel(), prompts, draws=100, seed=trial)
        hits += result.low <= 0 <= result.high
    assert 0.86 <= hits / 100 <= 1


def test_prompts_that_stand_or_fall_together_make_the_interval_wider():
    values = np.repeat(RNG.normal(size=10), 8)
    together = m.mean_interval(values, np.repeat(np.arange(10), 8), draws=400)
    alone = m.mean_interval(values, np.arange(80), draws=400)
    assert together.high - together.low > 2 * (alone.high - alone.low)


@pytest.mark.parametrize(
    "of, plain",
    [(m.pearson_of, m.pearson), (m.auc_of, lambda x, y: m.auc(x, y > 0.5))],
    ids=["pearson", "auc"],
)
def test_a_weight_of_two_is_the_item_twice(of, plain):
    x, y = X[:20], (Y[:20] > 0).astype(float)
    weights = np.tile([2, 1], 10)[None].astype(float)
    twice = np.repeat(np.arange(20), weights[0].astype(int))
    assert of(x, y)(weights)[0] == pytest.approx(plain(x[twice], y[twice]))


@pytest.mark.parametrize("n", [1, 2, 3, 5])
@pytest.mark.parametrize("scores", [[0.3, 0.1, 0.9, 0.5, 0.7], [1, 0, 1, 1, 0]])
def test_best_of_n_is_the_mean_over_all_subsets(n, scores):
    outcome = np.array([5.0, 1.0, 2.0, 8.0, 3.0])
    subsets = list(itertools.combinations(range(5), n))
    chosen = {subset: outcome[max(subset, key=lambda i: (scores[i], -i))] for subset in subsets}
    expected = m.best_of(outcome[None], np.array([scores], float), n)[0]
    assert expected.mean() == pytest.approx(np.mean(list(chosen.values())))
    for seed in range(5):
        assert expected[seed] == pytest.approx(np.mean([v for s, v in chosen.items() if seed in s]))
    assert m.choice_matrix(np.array(scores), n).sum(1) == pytest.approx(np.ones(5))


def test_best_of_one_is_the_sample_itself_and_best_of_all_by_the_outcome_is_the_maximum():
    outcome = RNG.normal(size=(3, 4))
    assert (m.best_of(outcome, -outcome, 1) == outcome).all()
    assert m.best_of(outcome, outcome, 4) == pytest.approx(np.repeat(outcome.max(1, keepdims=True), 4, 1))
    with pytest.raises(ValueError, match="5 samples"):
        m.best_of(outcome, outcome, 5)


def test_the_frechet_distance_is_that_of_two_normal_fits():
    a, b = RNG.normal(size=(200, 5)), RNG.normal(size=(150, 5)) @ RNG.normal(size=(5, 5)) + 1
    sa, sb = np.cov(a, rowvar=False), np.cov(b, rowvar=False)
    known = ((a.mean(0) - b.mean(0)) ** 2).sum() + np.trace(sa + sb - 2 * sqrtm(sa @ sb).real)
    assert m.frechet(a, b) == pytest.approx(known)
    assert m.frechet(a, a) == pytest.approx(0, abs=1e-8)
    assert m.frechet(a, a + 2) == pytest.approx(20)
    with pytest.raises(ValueError, match="Features"):
        m.frechet(a[:1], b)
