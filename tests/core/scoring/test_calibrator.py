"""core/scoring/calibrator.py: it starts as no change, learns what people say, and says honestly whether it helps."""

import time

import numpy as np
import pytest

from core.checkpoint import CheckpointError
from core.scoring.calibrator import Calibrator, Row, _bases, _Encoder, _identity, _logs, _predict

KINDS = ("colour", "object", "relation")
AXIS = np.random.default_rng(1).normal(size=(8, 24))


def words(prompts, seed=0, misled=True, a_prompt=4, hidden=True):
    """Corrected words of a VLM that is right nine times in ten, but (`misled`) wrong wherever one direction of its
    hidden state is high: what a calibrator can learn from a few hundred words."""
    rng = np.random.default_rng(seed)
    rows = []
    for p in range(prompts):
        for j in range(a_prompt):
            truth, cause = rng.random() < 0.6, rng.normal(size=8)
            claimed = truth ^ (rng.random() < 0.1) ^ (misled and cause[0] > 1)
            logits = rng.normal(size=10) * 0.3
            logits[9 if claimed else 0] += 4
            distribution = np.exp(logits) / np.exp(logits).sum()
            state = (cause @ AXIS).astype(np.float16) if hidden else None
            rows.append(Row(distribution, state, KINDS[j % 3], 9 if truth else 0, f"prompt {p}"))
    return rows


def stacked(rows):
    return (
        np.stack([r.distribution for r in rows]),
        np.stack([r.hidden for r in rows]),
        [r.kind for r in rows],
    )


def test_without_corrections_the_vlms_own_distribution_comes_back():
    p, hidden, kinds = stacked(words(5))
    encoder = _Encoder.of(hidden.astype(np.float64))
    z = encoder(hidden.astype(np.float64), kinds)
    given = _predict(bases := _bases(_logs(p)), z, _identity(bases, z))
    assert np.abs(given - p).max() < 1e-3


def test_it_learns_where_the_vlm_is_misled_within_two_seconds():
    rows = words(100)
    start = time.process_time()
    calibrator = Calibrator.fit(rows)
    assert time.process_time() - start < 4  # 2 s on a quiet machine
    report = calibrator.report
    assert report["better"] is True
    assert report["log_loss_change"][1] < 0
    assert report["calibrated"]["auc"] > report["raw"]["auc"] + 0.05
    fresh = words(200, seed=5)
    given = calibrator.apply(*stacked(fresh))
    assert given.shape == (800, 10)
    assert np.allclose(given.sum(1), 1, atol=1e-5)
    target = np.array([row.score for row in fresh])
    raw = np.stack([row.distribution for row in fresh])
    assert -np.log(given[np.arange(800), target]).mean() < -np.log(raw[np.arange(800), target]).mean() - 0.1


def test_the_reported_gain_is_what_fresh_prompts_show():
    calibrator = Calibrator.fit(words(60))
    report, fresh = calibrator.report, words(500, seed=9)
    given = calibrator.apply(*stacked(fresh))
    loss = -np.log(given[np.arange(len(fresh)), [row.score for row in fresh]]).mean()
    assert report["calibrated"]["log_loss"] == pytest.approx(loss, abs=0.12)


def test_agreement_with_a_confident_vlm_is_no_improvement():
    rng = np.random.default_rng(3)
    rows = []
    for i in range(120):
        p = np.full(10, 1e-4)
        digit = int(rng.integers(10))
        p[digit] = 1 - 9e-4
        rows.append(Row(p, rng.normal(size=8).astype(np.float16), "colour", digit, str(i // 4)))
    report = Calibrator.fit(rows).report
    assert report["better"] is False
    assert report["calibrated"]["mae"] < 0.02


def test_labels_of_pure_chance_are_not_called_an_improvement_in_ranking():
    rng = np.random.default_rng(4)
    rows = [
        Row(
            np.full(10, 0.1),
            rng.normal(size=8).astype(np.float16),
            "colour",
            int(rng.integers(10)),
            str(i // 4),
        )
        for i in range(200)
    ]
    assert Calibrator.fit(rows).report["better"] is False


def test_words_of_a_prompt_are_never_split_between_fitting_and_evaluation():
    rng = np.random.default_rng(6)
    rows = []
    for p in range(40):  # each prompt has its own hidden state and its own answer, unrelated to anything else
        state, digit = rng.normal(size=64).astype(np.float16), int(rng.choice([0, 9]))
        rows += [Row(np.full(10, 0.1), state, "colour", digit, str(p)) for _ in range(5)]
    report = Calibrator.fit(rows).report
    assert report["calibrated"]["auc"] < 0.7


def test_a_scorer_without_hidden_states_is_calibrated_from_its_digits(tmp_path):
    rows = words(60, misled=False, hidden=False)
    calibrator = Calibrator.fit(rows)
    assert calibrator.report["hidden"] is False
    given = calibrator.apply(np.stack([row.distribution for row in rows]), None, [row.kind for row in rows])
    calibrator.save(tmp_path / "c")
    again = Calibrator.load(tmp_path / "c").apply(
        np.stack([row.distribution for row in rows]), None, [row.kind for row in rows]
    )
    assert np.array_equal(given, again)


def test_a_calibrator_from_before_nothing_else_existed_gives_the_same_predictions(tmp_path):
    rows = words(10)
    now = Calibrator.fit(rows)
    before = Calibrator(now.encoder, np.delete(now.weights, 6, axis=1), now.report)
    before.save(tmp_path / "calibrator")
    loaded = Calibrator.load(tmp_path / "calibrator")
    assert np.array_equal(loaded.apply(*stacked(rows)), now.apply(*stacked(rows)))
    p, hidden, kinds = stacked(rows)
    assert np.array_equal(
        loaded.apply(p, hidden, ["extra"] * len(kinds)), loaded.apply(p, hidden, ["other"] * len(kinds))
    )


def test_saving_and_loading_keeps_every_bit_and_the_report(tmp_path):
    rows = words(30)
    calibrator = Calibrator.fit(rows, scorer="marked-1/scorer@abc")
    calibrator.save(tmp_path / "calibrator")
    loaded = Calibrator.load(tmp_path / "calibrator")
    assert np.array_equal(loaded.apply(*stacked(rows)), calibrator.apply(*stacked(rows)))
    assert loaded.report == calibrator.report
    assert loaded.scorer == "marked-1/scorer@abc"
    weights = tmp_path / "calibrator" / "weights.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"\x01")
    with pytest.raises(CheckpointError):
        Calibrator.load(tmp_path / "calibrator")


def test_the_same_corrections_give_the_same_calibrator():
    rows = words(20)
    assert np.array_equal(Calibrator.fit(rows).weights, Calibrator.fit(rows).weights)


def test_labels_are_weighted():
    rows = words(40, misled=False)
    heavy = [
        Row(r.distribution, r.hidden, r.kind, 0, r.prompt, 1000.0 if i % 2 else 1.0)
        for i, r in enumerate(rows)
    ]
    heavy = [r if r.weight > 1 else Row(r.distribution, r.hidden, r.kind, 9, r.prompt) for r in heavy]
    given = Calibrator.fit(heavy).apply(*stacked(heavy))
    assert given[:, 0].mean() > 0.8


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda rows: rows[:10], "correct at least 20 words"),
        (lambda rows: [Row(**{**r.__dict__, "prompt": "one"}) for r in rows], "on 1 prompts"),
        (lambda rows: [Row(**{**r.__dict__, "score": 12}) for r in rows], "from 0 to 9"),
        (lambda rows: [Row(**{**r.__dict__, "weight": float("nan")}) for r in rows], "positive number"),
        (lambda rows: [Row(**{**r.__dict__, "distribution": np.ones(10)}) for r in rows], "sums to 1"),
    ],
)
def test_what_cannot_be_learned_from_is_refused_with_a_sentence(change, message):
    with pytest.raises(ValueError, match=message):
        Calibrator.fit(change(words(8)))


def test_hidden_states_of_another_scorer_are_refused():
    rows = words(20)
    p, hidden, kinds = stacked(rows)
    with pytest.raises(ValueError, match="score the samples again"):
        Calibrator.fit(rows).apply(p, hidden[:, :5], kinds)
