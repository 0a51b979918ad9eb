"""What things cost: how times become figures. No figure is held against a bound: the machine of a test is anyone's."""

from __future__ import annotations

import time

import numpy as np
import pytest
import torch

from core.diffusion import Diffuser
from core.evaluation import benchmark
from core.evaluation.benchmark import (
    Sampling,
    Spread,
    composed,
    image_cost,
    ratio,
    rounds,
    scoring_cost,
    training_cost,
)
from core.networks.projector import NoiseProjector
from core.networks.reward import RewardModel
from core.scoring.scores import make
from core.training.data import Texts
from core.training.diffuser import build_pipeline
from core.training.loop import Stopped
from core.words import scored, units
from tests.tiny import SMALL

PROMPTS = ["a red circle", "a blue square above a green star"]


@pytest.fixture(scope="module")
def diffuser():
    torch.manual_seed(0)
    words = " ".join(PROMPTS).split()
    return Diffuser(build_pipeline(words, channels=(16, 32), text_width=32, text_layers=1, latent_size=8))


def projector_for(diffuser):
    return NoiseProjector(latent_channels=diffuser.channels, text_width=diffuser.text_width, **SMALL)


def test_a_spread_is_the_median_with_the_quartiles():
    assert Spread.of([3.0, 1.0, 2.0, 10.0]) == Spread(2.5, 1.75, 4.75, 4)
    assert Spread.of([3.0]) == Spread(3.0, 3.0, 3.0, 1)


def test_ratios_are_taken_within_rounds():
    assert ratio([1.0, 10.0, 1.2], [2.0, 20.0, 2.0]) == Spread(0.5, 0.5, 0.55, 3)


def test_an_image_is_composed_of_its_parts_and_of_all_its_steps():
    parts = {"text": [1.0], "projector": [0.5], "denoising": [2.0], "decoding": [3.0], "pair denoising": [3.5],
             "pair decoding": [5.0]}  # fmt: skip
    whole = composed(parts, steps=30, timed_steps=2)
    assert whole == {"text": [1.0], "projector": [0.5], "denoising": [30.0], "decoding": [3.0],
                     "image": [1.0 + 30.0 + 3.0], "pair": [1.0 + 0.5 + 52.5 + 5.0]}  # fmt: skip
    assert composed(parts, steps=2, timed_steps=2)["image"] == [6.0]


def test_every_round_times_every_work_and_short_work_many_times_over(monkeypatch):
    asked, seen = [], []

    def clock(work, device, times=1):
        """Stands for the real clock, as times on the machine of a test are anyone's."""
        asked.append((work(), times))
        return {"quick": 0.01, "slow": 2.0}[work()]

    monkeypatch.setattr(benchmark, "clock", clock)
    works = {"quick": lambda: "quick", "slow": lambda: "slow"}
    result = rounds(works, 3, on_progress=lambda done, total: seen.append((done, total)))
    assert result.seconds == {"quick": [0.01] * 3, "slow": [2.0] * 3}
    assert asked == [("quick", 1), ("quick", 1), ("slow", 1)] + 3 * [("quick", 5), ("slow", 1)]
    assert seen == [(n, 8) for n in range(1, 9)]
    assert set(result.peak) == {"quick", "slow"}


def test_warming_up_that_takes_long_is_the_first_round(monkeypatch):
    monkeypatch.setattr(benchmark, "LONG", 0.0)
    seen = []
    result = rounds({"work": lambda: time.sleep(0.001)}, 2, on_progress=lambda *done: seen.append(done))
    assert len(result.seconds["work"]) == 2 and seen[-1] == (2, 2)


def test_no_rounds_are_refused():
    with pytest.raises(ValueError, match="1 or more rounds"):
        rounds({"work": lambda: None}, 0)


@pytest.mark.parametrize(("height", "width", "steps", "timed"), [(None, None, 2, 2), (32, 64, 6, 1)])
def test_the_cost_of_an_image_has_all_its_parts(diffuser, height, width, steps, timed):
    projector = projector_for(diffuser)
    result = image_cost(
        diffuser, projector, PROMPTS[0], Sampling(steps, 4.0, height, width, timed), repeats=2
    )
    assert result.shape == diffuser.latent_shape(height, width)
    assert set(result.seconds) == {"text", "projector", "denoising", "decoding", "image", "pair"}
    assert all(0 < spread.low <= spread.median <= spread.high for spread in result.seconds.values())
    assert result.seconds["image"].low > result.seconds["denoising"].low
    assert 0 < result.share.median and 0 < result.pair_in_singles.median < result.pair_in_images.median
    assert all(b is None or b > 0 for b in result.peak.values())


def test_more_steps_than_there_are_cannot_be_timed(diffuser):
    with pytest.raises(ValueError, match="3 of 2 steps"):
        image_cost(diffuser, projector_for(diffuser), PROMPTS[0], Sampling(2, timed_steps=3))


def test_the_cost_of_scoring_is_given_per_image_and_per_word():
    class Fake:
        """Stands for a scorer, so that what is timed is known: it takes a while and scores every word."""

        def score(self, images, prompts, batch=16, stop=None):
            time.sleep(0.002)
            assert batch == len(images) == len(prompts)
            p, hidden = np.full(10, 0.1, np.float32), np.zeros(2, np.float16)
            return [[make(word.index, p, hidden) for word in scored(units(prompt))] for prompt in prompts]

    result = scoring_cost(Fake(), np.zeros((2, 8, 8, 3), np.uint8), PROMPTS, repeats=2)
    words = sum(len(scored(units(prompt))) for prompt in PROMPTS)
    assert (result["images"], result["words"]) == (2, words)
    assert result["per_word"].median == pytest.approx(result["per_image"].median * 2 / words)
    with pytest.raises(ValueError, match="name things"):
        scoring_cost(Fake(), np.zeros((1, 8, 8, 3), np.uint8), ["the"], repeats=1)


def test_training_is_timed_by_the_loops_that_train(diffuser):
    reward = RewardModel(latent_channels=diffuser.channels, text_width=diffuser.text_width, **SMALL,
                         head_width=16, head_depth=1)  # fmt: skip
    before, seen = {name: p.clone() for name, p in reward.named_parameters()}, []
    texts, shape = Texts.encode(diffuser.encode, PROMPTS), diffuser.latent_shape()
    result = training_cost(reward, projector_for(diffuser), texts, shape, (4, 2), steps=2,
                          on_progress=lambda *done: seen.append(done))  # fmt: skip
    assert [(name, part["batch"]) for name, part in result.items()] == [("reward", 4), ("projector", 2)]
    assert all(part["steps_per_second"].low > 0 for part in result.values())
    assert all(part["steps_per_second"].rounds == 2 for part in result.values())
    assert any((p != before[name]).any() for name, p in reward.named_parameters()), "real steps were taken"
    assert seen == [(n, 8) for n in range(1, 9)]


def test_each_measurement_can_be_stopped(diffuser):
    calls = []

    def stop():
        calls.append(1)
        return len(calls) > 3

    texts, shape = Texts.encode(diffuser.encode, PROMPTS), diffuser.latent_shape()
    reward = RewardModel(latent_channels=diffuser.channels, text_width=diffuser.text_width, **SMALL,
                         head_width=16, head_depth=1)  # fmt: skip
    for work in (
        lambda: rounds({"work": lambda: None}, 100, stop=stop),
        lambda: image_cost(
            diffuser, projector_for(diffuser), PROMPTS[0], Sampling(50, timed_steps=50), 50, stop
        ),
        lambda: training_cost(reward, projector_for(diffuser), texts, shape, (2, 2), 100, stop),
    ):
        calls.clear()
        with pytest.raises(Stopped):
            work()
