"""core/training/reward.py and projector.py: the three stages on a world whose truth is known."""

import copy
from dataclasses import replace

import numpy as np
import pytest
import torch
from known_world import HEAD, PAIRS, SHAPE, TINY, labelled, texts, truth

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
    with pytest.raises(ValueError, match="select by"):
        train_reward(model, data, data, replace(config, select="luck"))
    result = train_reward(model, labelled(TRAIN, range(8)), data, config)
    assert result.fit.step < 40 and not result.fit.stopped
    assert evaluate_reward(model, data)["cross_entropy"] == pytest.approx(result.metrics["cross_entropy"])


def test_the_reward_model_learns_from_a_teacher_what_no_label_says():
    """The teacher knows the truth of fresh noises; the labelled samples are of one noise a prompt."""
    torch.manual_seed(0)
    model, asked = RewardModel(**TINY, **HEAD), texts(TRAIN)

    def teach(noise, rows):
        logits = torch.full((len(rows), asked.words.shape[1], 10), -4.0)
        for b, row in enumerate(rows.tolist()):
            for j, word in zip((1, 3), TRAIN[row], strict=True):
                digit = (truth(noise[b : b + 1], word) * 9.999).int().item()
                logits[b, j, digit] = 4.0
        return noise / 2, logits

    data, held = labelled(TRAIN, [1]), labelled(HELD, range(5000, 5040))
    config = replace(REWARD, steps=150, fresh=0.75)
    result = train_reward(model, data, held, config, teach=teach, fresh=asked)
    assert evaluate_reward(model, labelled(HELD, range(6000, 6040)))["pearson_within"] > 0.6
    assert result.best_step > 0 and {"taught_cross_entropy", "taught_foresee"} <= set(result.fit.metrics)


def test_a_teacher_and_what_it_is_asked_about_go_together():
    with pytest.raises(ValueError, match="go together"):
        train_reward(RewardModel(**TINY, **HEAD), labelled(TRAIN, [1]), teach=lambda *_: None)


def test_images_that_people_judged_are_a_fixed_share_of_every_batch():
    data = labelled(TRAIN, range(20))
    data.judged[:3] = True
    for step in range(4):
        rows = mixed_rows(step, 16, data, 0.25, seed=0)
        assert len(rows) == 16 and data.judged[rows].sum() == 4
    data.judged[:] = False
    assert torch.equal(mixed_rows(2, 16, data, 0.25, seed=0), rows_of(2, 16, len(data), 0))


def test_where_no_word_has_two_noises_the_cross_entropy_chooses():
    result = {"cross_entropy": 1.5, "pearson_within": 0.0, "compared": 0.0, "pearson": 0.4}
    assert selected(result, "pearson_within") == -1.5
    assert selected(result | {"compared": 8.0}, "pearson_within") == 0.0


def test_every_sample_comes_once_in_a_pass_and_passes_differ():
    first = torch.cat([rows_of(step, 4, 10, seed=1) for step in range(5)])
    assert sorted(first[:10].tolist()) == sorted(first[10:].tolist()) == list(range(10))
    assert first[:10].tolist() != first[10:].tolist()
    assert torch.equal(rows_of(3, 4, 10, 1), first[12:16])


@pytest.mark.parametrize(
    "score, expected", [(4, {3: 0.1, 4: 0.8, 5: 0.1}), (0, {0: 0.9, 1: 0.1}), (9, {8: 0.1, 9: 0.9})]
)
def test_smoothing_moves_mass_to_the_neighbouring_scores_and_loses_none(score, expected):
    target = torch.zeros(10)
    target[score] = 1
    assert {i: round(v, 4) for i, v in enumerate(smooth(target, 0.2).tolist()) if v > 0} == expected


def test_cross_entropy_counts_labels_by_weight_and_ignores_words_without_one():
    logits, target = torch.zeros(1, 3, 10), torch.zeros(1, 3, 10)
    target[..., 0] = 1
    logits[0, 1, 0] = 100
    assert cross_entropy(logits, target, torch.tensor([[1.0, 3.0, 0.0]])).item() == pytest.approx(
        np.log(10) / 4
    )


def test_a_constant_model_has_a_correlation_of_0():
    result = figures(torch.zeros(20, 5, 10), labelled(TRAIN, range(2)))
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
@pytest.mark.parametrize("killed_after", [1, 5])
def test_a_killed_run_that_is_resumed_ends_in_the_same_bits(stage, killed_after, tmp_path, monkeypatch):
    whole, _ = run(stage, tmp_path / "whole")
    original = torch.optim.AdamW.step
    count = []

    def step(self, *arguments, **named):
        if len(count) == killed_after:
            raise Killed
        count.append(1)
        return original(self, *arguments, **named)

    monkeypatch.setattr(torch.optim.AdamW, "step", step)
    with pytest.raises(Killed):
        run(stage, tmp_path / "killed")
    monkeypatch.undo()
    again, result = run(stage, tmp_path / "killed")
    assert torch.equal(weights(again), weights(whole)) and result.fit.step == 9


@pytest.mark.parametrize("stage", ["reward", "projector"])
def test_a_stopped_run_is_marked_and_resumes_to_the_same_bits(stage, tmp_path):
    whole, _ = run(stage, tmp_path / "whole")
    _, result = run(stage, tmp_path / "stopped", stop_at=4)
    assert result.fit.stopped and result.fit.step == 4 and result.metrics == {}
    again, _ = run(stage, tmp_path / "stopped")
    assert torch.equal(weights(again), weights(whole))


def test_words_that_the_noise_shows_badly_weigh_more_and_unscored_ones_nothing():
    result = stages.word_weights(
        torch.tensor([[0.0, 0.9, 0.5]]), torch.tensor([[True, True, False]]), focus=1.0, floor=0.1
    )
    assert result[0, 2] == 0 and result.sum() == pytest.approx(1) and result[0, 0] == pytest.approx(1.1 / 1.3)


def test_an_item_whose_words_the_noise_shows_weighs_less():
    scored = torch.ones(2, 2, dtype=torch.bool)
    result = stages.word_weights(torch.tensor([[0.1, 0.1], [0.9, 0.9]]), scored, focus=2.0, floor=0.0)
    assert result.sum().item() == pytest.approx(2) and result[0].sum() == pytest.approx(81 * result[1].sum())


def test_nothing_else_weighs_more_than_a_word():
    some = texts(TRAIN[:2])
    some.words[:, 4, 0], some.scored[:, 4] = 1.0, True
    assert stages.importance(some, torch.tensor([0, 1]), 2.0).tolist() == [[0, 1, 0, 1, 2]] * 2


@pytest.mark.parametrize(
    "change, name",
    [
        (lambda x: x + 0.3, "moments"),
        (lambda x: x * 1.3, "moments"),
        (lambda x: (x + 0.3 * x.roll(1, -1)) / 1.09**0.5, "correlation"),
        (lambda x: (x + 0.3 * x.roll((1, 1), (-1, -2))) / 1.09**0.5, "correlation"),
        (lambda x: -x, "distance"),
    ],
)
def test_each_kind_of_drift_raises_its_term_of_the_constraint(change, name):
    noise = draw(range(8), (4, 16, 16))
    std = torch.full_like(noise, 0.05)
    out = ProjectorOutput(noise, 2 * std.log(), std, {})
    still, moved = (stages.constraint_terms(x, noise, out)[name] for x in (noise, change(noise)))
    assert moved > still + 0.02


def test_the_shared_pattern_is_what_all_noises_of_a_prompt_are_moved_by():
    noise = draw(range(8), SHAPE)
    alike, apart = noise + 0.5, noise + 0.5 * torch.tensor([1, -1] * 4)[:, None, None, None]
    assert stages.shared_pattern(alike, noise, 4).item() == pytest.approx(0.25)
    assert stages.shared_pattern(apart, noise, 4).item() == pytest.approx(0)


def test_the_weight_of_the_shared_pattern_keeps_the_noises_of_a_prompt_apart(reward, warm):
    shared = []
    for weight in (0.0, 30.0):
        model, seeds = copy.deepcopy(warm[0]), range(64)
        config = ProjectorConfig(steps=30, batch=16, rate=4e-3, tau=0.05, shared=weight)
        train_projector(model, reward[0], texts(TRAIN), SHAPE, config)
        moved = projected_by(model, HELD[:1], seeds) - draw(seeds, SHAPE)
        shared.append(moved.mean(0).square().mean().item())
    assert shared[1] < 0.5 * shared[0]


def test_a_batch_holds_each_prompt_as_often_as_the_shared_pattern_needs():
    _, _, rows = stages._batch(texts(TRAIN), SHAPE, None, 12, 0, 3, torch.device("cpu"), 4)
    assert len(rows) == 12 and (rows.view(3, 4) == rows.view(3, 4)[:, :1]).all()


def test_a_batch_into_which_the_prompts_do_not_fit_is_refused(reward, warm):
    with pytest.raises(ValueError, match="batch is 10.*multiple of 4"):
        train_projector(
            copy.deepcopy(warm[0]), reward[0], texts(TRAIN), SHAPE, ProjectorConfig(batch=10, shared=1.0)
        )


def test_prompts_without_meaning_are_refused(warm):
    plain = texts(TRAIN[:1])
    silent = Texts(plain.prompts, plain.hidden, plain.mask, plain.words, plain.scored & False, plain.extra)
    with pytest.raises(ValueError, match="carries meaning"):
        train_projector(warm[0], RewardModel(**TINY, **HEAD), silent, SHAPE)
