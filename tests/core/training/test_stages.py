"""core/training/reward.py and projector.py: the three stages on a world whose truth is known."""

import copy
from dataclasses import replace

import numpy as np
import pytest
import torch

from core.networks.projector import NoiseProjector, ProjectorOutput
from core.networks.reward import RewardModel
from core.noise import draw, drift, second
from core.training import projector as stages
from core.training.data import Texts
from core.training.projector import ProjectorConfig, WarmupConfig, train_projector, train_warmup
from core.training.reward import (
    RewardConfig,
    cross_entropy,
    evaluate_reward,
    figures,
    mixed_rows,
    rows_of,
    selected,
    smooth,
    train_reward,
)
from tests.core.training.known_world import HALVES, HEAD, PAIRS, SHAPE, TINY, labelled, texts, truth

HELD = [("red", "circle"), ("star", "blue")]  # two words that one noise can serve: channels keep their means
TRAIN = [pair for pair in PAIRS if pair not in HELD]
REWARD = RewardConfig(steps=200, batch=64, rate=5e-3, evaluate_every=40, looks=80)


@pytest.fixture(scope="module")
def reward():
    torch.manual_seed(0)
    model = RewardModel(**TINY, **HEAD)
    result = train_reward(
        model, labelled(TRAIN, range(1600), every=9), labelled(HELD, range(5000, 5040)), REWARD
    )
    return model, result


def weights(model):
    return torch.cat([value.flatten() for value in model.state_dict().values()])


def test_the_reward_model_learns_what_the_noise_does_for_words_of_unseen_prompts(reward):
    model, result = reward
    actual = evaluate_reward(model, labelled(HELD, range(6000, 6040)))
    assert actual["pearson_within"] > 0.7 and actual["pearson"] > 0.7 and actual["words"] == 160
    assert result.metrics["cross_entropy"] < 2.0 and 0 < result.best_step <= REWARD.steps


def test_training_ends_early_and_keeps_the_best_weights_when_nothing_gets_better():
    torch.manual_seed(0)
    model = RewardModel(**TINY, **HEAD)
    config = replace(REWARD, steps=40, evaluate_every=2, patience=2, rate=1.0)
    data = labelled(HELD, range(8))
    result = train_reward(model, labelled(TRAIN, range(8)), data, config)
    assert result.fit.step < 40 and not result.fit.stopped
    assert evaluate_reward(model, data)["cross_entropy"] == pytest.approx(result.metrics["cross_entropy"])


def test_the_reward_model_learns_from_a_teacher_what_no_label_says():
    """The teacher knows the truth of fresh noises; the labelled samples are of one noise a prompt."""
    torch.manual_seed(0)
    model, asked = RewardModel(**TINY, **HEAD), texts(TRAIN)

    def teach(noise, rows):
        logits = torch.full((len(rows), asked.words.shape[1], 10), -4.0)
        digits = {word: (truth(noise, word) * 9.999).int().tolist() for word in HALVES}
        for b, row in enumerate(rows.tolist()):
            for j, word in zip((1, 3), TRAIN[row], strict=True):
                logits[b, j, digits[word][b]] = 4.0
        return noise / 2, logits

    data, held = labelled(TRAIN, [1]), labelled(HELD, range(5000, 5040))
    config = replace(REWARD, steps=150, batch=32, rate=7e-3, fresh=0.75)
    result = train_reward(model, data, held, config, teach=teach, fresh=asked)
    assert evaluate_reward(model, labelled(HELD, range(6000, 6040)))["pearson_within"] > 0.6
    assert result.best_step > 0 and {"taught_cross_entropy", "taught_foresee"} <= set(result.fit.metrics)


def test_images_that_people_judged_are_a_fixed_share_of_every_batch():
    data = labelled(TRAIN, range(20))
    data.judged[:3] = True
    for step in range(4):
        rows = mixed_rows(step, 16, data, 0.25, seed=0)
        assert len(rows) == 16 and data.judged[rows].sum() == 4
    data.judged[:] = False
    assert torch.equal(mixed_rows(2, 16, data, 0.25, seed=0), rows_of(2, 16, len(data), 0))


def test_every_sample_comes_once_in_a_pass_and_passes_differ():
    first = torch.cat([rows_of(step, 4, 10, seed=1) for step in range(5)])
    assert sorted(first[:10].tolist()) == sorted(first[10:].tolist()) == list(range(10))
    assert first[:10].tolist() != first[10:].tolist()
    assert torch.equal(rows_of(3, 4, 10, 1), first[12:16])


def test_smoothing_moves_mass_to_the_neighbouring_scores_and_loses_none():
    for score, expected in ((4, {3: 0.1, 4: 0.8, 5: 0.1}), (0, {0: 0.9, 1: 0.1}), (9, {8: 0.1, 9: 0.9})):
        target = torch.eye(10)[score]
        assert {i: round(v, 4) for i, v in enumerate(smooth(target, 0.2).tolist()) if v > 0} == expected


def test_cross_entropy_counts_labels_by_weight_and_chooses_where_no_word_has_two_noises():
    logits, target = torch.zeros(1, 3, 10), torch.zeros(1, 3, 10)
    target[..., 0] = 1
    logits[0, 1, 0] = 100
    weighted = cross_entropy(logits, target, torch.tensor([[1.0, 3.0, 0.0]]))
    assert weighted.item() == pytest.approx(np.log(10) / 4)
    result = {"cross_entropy": 1.5, "pearson_within": 0.0, "compared": 0.0, "pearson": 0.4}
    assert selected(result, "pearson_within") == -1.5
    assert selected(result | {"compared": 8.0}, "pearson_within") == 0.0
    result = figures(torch.zeros(20, 5, 10), labelled(TRAIN, range(2)))  # of a constant model
    assert (result["pearson"], result["spearman"], result["pearson_within"]) == (0, 0, 0)


@pytest.fixture(scope="module")
def warm():
    torch.manual_seed(1)
    model = NoiseProjector(**TINY)
    result = train_warmup(model, texts(TRAIN), SHAPE, WarmupConfig(steps=30, batch=16))
    return model, result


def projected_by(model, pairs, seeds):
    hidden, mask, _, _ = texts(pairs).take(torch.zeros(len(seeds), dtype=torch.long))
    with torch.no_grad():
        return model.project(draw(seeds, SHAPE), hidden, mask, second(seeds, SHAPE))


def test_a_warmed_up_projector_is_harmless(warm):
    seeds = range(200)
    result = drift(projected_by(warm[0], HELD, seeds), draw(seeds, SHAPE))
    assert abs(result["mean"]) < 0.02 and abs(result["std"] - 1) < 0.02 and result["cosine"] > 0.95
    assert result["spatial_correlation"] < result["white_bound"]


def test_a_trained_projector_improves_unseen_prompts_on_unseen_seeds_and_its_output_is_still_noise(
    reward, warm
):
    model, judge = copy.deepcopy(warm[0]), reward[0]
    config = ProjectorConfig(steps=100, batch=32, rate=4e-3, evaluate_every=20, looks=64)
    held = texts(HELD)

    def by_reward(noise, rows):
        return stages.expected_scores(judge, noise, *held.take(rows)[:3])

    result = train_projector(model, judge, texts(TRAIN), SHAPE, config, validation=held, judge=by_reward)
    assert result.best_step > 0 and result.metrics["judge_gain"] > 0.1
    seeds = range(7000, 7200)
    after, before = projected_by(model, HELD[:1], seeds), draw(seeds, SHAPE)
    gains = [(truth(after, word) - truth(before, word)).mean().item() for word in HELD[0]]
    assert sum(gains) / 2 > 0.08
    actual = drift(after, before)
    assert abs(actual["mean"]) < 0.02 and abs(actual["std"] - 1) < 0.03 and actual["cosine"] > 0.7
    assert all(p.requires_grad for p in judge.parameters())


def run(stage, folder, stop_at=None):
    """One short training run; stop_at ends the process's part of it after that many steps."""
    torch.manual_seed(2)
    seen = []
    hooks = {
        "folder": folder,
        "on_progress": lambda p: seen.append(p.step),
        "stop": (lambda: len(seen) >= stop_at) if stop_at else None,
    }
    if stage == "reward":
        model = RewardModel(**TINY, **{**HEAD, "dropout": 0.2})
        config = RewardConfig(steps=9, batch=8, evaluate_every=2, save_every=3)
        data = labelled(TRAIN, range(4))
        result = train_reward(model, data, labelled(HELD, range(4)), config, **hooks)
    elif stage == "warmup":
        model = NoiseProjector(**TINY, dropout=0.2)
        result = train_warmup(
            model, texts(TRAIN), SHAPE, WarmupConfig(steps=9, batch=4, save_every=3), **hooks
        )
    else:
        model, reward = NoiseProjector(**TINY, dropout=0.2), RewardModel(**TINY, **HEAD)
        config = ProjectorConfig(steps=9, batch=4, evaluate_every=2, looks=4, save_every=3)
        result = train_projector(
            model, reward, texts(TRAIN), SHAPE, config, validation=texts(HELD), seeds=[1, 2, 3], **hooks
        )
    return model, result


class Killed(BaseException):
    """Stands for a kill: nothing after it is saved."""


@pytest.mark.parametrize("stage", ["reward", "warmup", "projector"])
def test_a_killed_or_stopped_run_that_is_resumed_ends_in_the_same_bits(stage, tmp_path, monkeypatch):
    whole, _ = run(stage, tmp_path / "whole")
    original, count = torch.optim.AdamW.step, []

    def step(self, *arguments, **named):
        if len(count) == 5:
            raise Killed
        count.append(1)
        return original(self, *arguments, **named)

    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(torch.optim.AdamW, "step", step)
        run(stage, tmp_path / "killed")
    _, stopped = run(stage, tmp_path / "stopped", stop_at=4)
    if stage != "warmup":
        assert stopped.fit.stopped and stopped.fit.step == 4 and stopped.metrics == {}
    for name in ("killed", "stopped"):
        again, result = run(stage, tmp_path / name)
        assert torch.equal(weights(again), weights(whole)) and result.fit.step == 9


def test_what_the_noise_shows_badly_weighs_more_unscored_words_nothing_and_nothing_else_twice():
    result = stages.word_weights(
        torch.tensor([[0.0, 0.9, 0.5]]), torch.tensor([[True, True, False]]), focus=1.0, floor=0.1
    )
    assert result[0, 2] == 0 and result.sum() == pytest.approx(1) and result[0, 0] == pytest.approx(1.1 / 1.3)
    scored = torch.ones(2, 2, dtype=torch.bool)
    result = stages.word_weights(torch.tensor([[0.1, 0.1], [0.9, 0.9]]), scored, focus=2.0, floor=0.0)
    assert result.sum().item() == pytest.approx(2) and result[0].sum() == pytest.approx(81 * result[1].sum())
    some = texts(TRAIN[:2])
    some.words[:, 4, 0], some.scored[:, 4] = 1.0, True
    assert stages.importance(some, torch.tensor([0, 1]), 2.0).tolist() == [[0, 1, 0, 1, 2]] * 2


def test_each_kind_of_drift_raises_its_term_of_the_constraint():
    noise = draw(range(8), (4, 16, 16))
    std = torch.full_like(noise, 0.05)
    out = ProjectorOutput(noise, 2 * std.log(), std, {})
    for moved, name in (
        (noise + 0.3, "moments"),
        (noise * 1.3, "moments"),
        ((noise + 0.3 * noise.roll(1, -1)) / 1.09**0.5, "correlation"),
        ((noise + 0.3 * noise.roll((1, 1), (-1, -2))) / 1.09**0.5, "correlation"),
        (-noise, "distance"),
    ):
        before, after = (stages.constraint_terms(x, noise, out)[name] for x in (noise, moved))
        assert after > before + 0.02
    alike, apart = noise + 0.5, noise + 0.5 * torch.tensor([1, -1] * 4)[:, None, None, None]
    assert stages.shared_pattern(alike, noise, 4).item() == pytest.approx(0.25)
    assert stages.shared_pattern(apart, noise, 4).item() == pytest.approx(0)


def test_the_weight_of_the_shared_pattern_keeps_the_noises_of_a_prompt_apart(reward, warm):
    shared = []
    for weight in (0.0, 30.0):
        model, seeds = copy.deepcopy(warm[0]), range(64)
        config = ProjectorConfig(steps=20, batch=16, rate=4e-3, tau=0.05, shared=weight)
        train_projector(model, reward[0], texts(TRAIN), SHAPE, config)
        moved = projected_by(model, HELD[:1], seeds) - draw(seeds, SHAPE)
        shared.append(moved.mean(0).square().mean().item())
    assert shared[1] < 0.5 * shared[0]


def test_what_cannot_be_trained_on_is_refused(reward, warm):
    data, plain = labelled(TRAIN, [1]), texts(TRAIN[:1])
    silent = Texts(plain.prompts, plain.hidden, plain.mask, plain.words, plain.scored & False, plain.extra)
    for train, says in (
        (lambda: train_reward(reward[0], data, teach=lambda *_: None), "go together"),
        (lambda: train_reward(reward[0], data, data, replace(REWARD, select="luck")), "select by"),
        (lambda: train_projector(warm[0], reward[0], silent, SHAPE), "carries meaning"),
        (
            lambda: train_projector(warm[0], reward[0], plain, SHAPE, ProjectorConfig(batch=10, shared=1.0)),
            "batch is 10.*multiple of 4",
        ),
    ):
        with pytest.raises(ValueError, match=says):
            train()
