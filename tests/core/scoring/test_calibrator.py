"""core/scoring/calibrator.py: it starts as no change, learns what people say, and says honestly whether it helps."""

import time
from dataclasses import replace

import numpy as np
import pytest

from core import checkpoint
from core.checkpoint import CheckpointError
from core.scoring import calibrator as module
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


def test_it_learns_where_the_vlm_is_misled_within_two_seconds_and_the_reported_gain_is_real():
    start = time.process_time()
    calibrator = Calibrator.fit(words(100))
    assert time.process_time() - start < 4  # 2 s on a quiet machine
    report, fresh = calibrator.report, words(300, seed=5)
    assert report["better"] is True and report["log_loss_change"][1] < 0
    assert report["calibrated"]["auc"] > report["raw"]["auc"] + 0.05
    given, target = calibrator.apply(*stacked(fresh)), [row.score for row in fresh]
    assert given.shape == (1200, 10) and np.allclose(given.sum(1), 1, atol=1e-5)
    raw = np.stack([row.distribution for row in fresh])
    before, after = (-np.log(p[np.arange(len(fresh)), target]).mean() for p in (raw, given))
    assert after < before - 0.1 and report["calibrated"]["log_loss"] == pytest.approx(after, abs=0.12)


def test_neither_agreement_with_a_confident_vlm_nor_pure_chance_is_an_improvement():
    rng = np.random.default_rng(3)
    states, digits = rng.normal(size=(200, 8)).astype(np.float16), rng.integers(10, size=200).tolist()
    sure = [np.where(np.arange(10) == digit, 1 - 9e-4, 1e-4) for digit in digits]
    reports = [
        Calibrator.fit(
            [Row(p, states[i], "colour", digits[i], str(i // 4)) for i, p in enumerate(said)]
        ).report
        for said in (sure, [np.full(10, 0.1)] * 200)
    ]
    assert [report["better"] for report in reports] == [False, False]
    assert reports[0]["calibrated"]["mae"] < 0.02


def test_words_of_a_prompt_are_never_split_between_fitting_and_evaluation():
    rng = np.random.default_rng(6)
    rows = []
    for p in range(40):  # each prompt has its own hidden state and its own answer, unrelated to anything else
        state, digit = rng.normal(size=64).astype(np.float16), int(rng.choice([0, 9]))
        rows += [Row(np.full(10, 0.1), state, "colour", digit, str(p)) for _ in range(5)]
    report = Calibrator.fit(rows).report
    assert report["calibrated"]["auc"] < 0.7


def saved_without_kinds(calibrator, folder):
    """As calibrators were saved that did not name their kinds of word."""
    with pytest.MonkeyPatch.context() as patch:
        save = checkpoint.save
        patch.setattr(
            checkpoint,
            "save",
            lambda tensors, folder, meta, **named: save(
                tensors, folder, {k: v for k, v in meta.items() if k != "kinds"}, **named
            ),
        )
        calibrator.save(folder)
    return Calibrator.load(folder)


@pytest.mark.parametrize("kinds", [KINDS, ("shape", *reversed(module.KINDS[:-1]), "other")])
def test_a_calibrator_with_other_kinds_of_word_gives_the_same_predictions(tmp_path, monkeypatch, kinds):
    rows = words(10)
    monkeypatch.setattr(module, "KINDS", (*kinds, "other") if kinds == KINDS else kinds)
    before = Calibrator.fit(rows)
    asked = before.apply(*stacked(rows))
    before.save(tmp_path / "calibrator")
    monkeypatch.undo()
    loaded = Calibrator.load(tmp_path / "calibrator")
    assert np.allclose(loaded.apply(*stacked(rows)), asked, atol=1e-6)
    loaded.save(tmp_path / "again")
    assert np.array_equal(Calibrator.load(tmp_path / "again").weights, loaded.weights)


def test_a_calibrator_that_does_not_name_its_kinds_gives_the_same_predictions(tmp_path):
    rows = words(10)
    now = Calibrator.fit(rows)
    same = saved_without_kinds(now, tmp_path / "same")
    assert np.array_equal(same.weights, now.weights)
    before = Calibrator(now.encoder, np.delete(now.weights, 6, axis=1), now.report)
    loaded = saved_without_kinds(before, tmp_path / "before")  # there was no *nothing else*
    assert np.array_equal(loaded.apply(*stacked(rows)), now.apply(*stacked(rows)))
    p, hidden, kinds = stacked(rows)
    assert np.array_equal(
        loaded.apply(p, hidden, ["extra"] * len(kinds)), loaded.apply(p, hidden, ["other"] * len(kinds))
    )


@pytest.mark.parametrize("hidden", [True, False])
def test_saving_and_loading_keeps_every_bit_and_the_report(tmp_path, hidden):
    rows = words(30, hidden=hidden)
    asked = (
        np.stack([r.distribution for r in rows]),
        stacked(rows)[1] if hidden else None,
        [r.kind for r in rows],
    )
    calibrator = Calibrator.fit(rows, scorer="marked-1/scorer@abc")
    assert np.array_equal(calibrator.weights, Calibrator.fit(rows).weights)
    calibrator.save(tmp_path / "calibrator")
    loaded = Calibrator.load(tmp_path / "calibrator")
    assert np.array_equal(loaded.apply(*asked), calibrator.apply(*asked))
    assert (loaded.report, loaded.scorer) == (calibrator.report, "marked-1/scorer@abc")
    assert loaded.report["hidden"] is hidden
    weights = tmp_path / "calibrator" / "weights.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"\x01")
    with pytest.raises(CheckpointError):
        Calibrator.load(tmp_path / "calibrator")


def test_labels_are_weighted():
    heavy = [
        replace(row, score=0, weight=1000.0) if i % 2 else replace(row, score=9)
        for i, row in enumerate(words(40, misled=False))
    ]
    assert Calibrator.fit(heavy).apply(*stacked(heavy))[:, 0].mean() > 0.8


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda rows: rows[:10], "correct at least 20 words"),
        (lambda rows: [replace(r, prompt="one") for r in rows], "on 1 prompts"),
        (lambda rows: [replace(r, score=12) for r in rows], "from 0 to 9"),
        (lambda rows: [replace(r, weight=float("nan")) for r in rows], "positive number"),
        (lambda rows: [replace(r, distribution=np.ones(10)) for r in rows], "sums to 1"),
    ],
)
def test_what_cannot_be_learned_from_is_refused_with_a_sentence(change, message):
    with pytest.raises(ValueError, match=message):
        Calibrator.fit(change(words(8)))


def test_hidden_states_of_another_scorer_are_refused():
    p, hidden, kinds = stacked(words(20))
    with pytest.raises(ValueError, match="score the samples again"):
        Calibrator.fit(words(20)).apply(p, hidden[:, :5], kinds)
