"""What things cost: how times become figures. No figure is held against a bound: the machine of a test is anyone's."""

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
from core.progress import Stopped
from core.scoring.scores import make
from core.training.data import Texts
from core.training.diffuser import build_pipeline
from core.words import scored, units
from tests.tiny import SMALL

PROMPTS = ["a red circle", "a blue square above a green star"]


@pytest.fixture(scope="module")
def diffuser():
    torch.manual_seed(0)
    words = " ".join(PROMPTS).split()
    return Diffuser(build_pipeline(words, channels=(16, 32), text_width=32, text_layers=1, latent_size=8))


@pytest.fixture
def projector(diffuser):
    return NoiseProjector(latent_channels=diffuser.channels, text_width=diffuser.text_width, **SMALL)


@pytest.fixture
def reward(diffuser):
    shape = {"latent_channels": diffuser.channels, "text_width": diffuser.text_width}
    return RewardModel(**shape, **SMALL, head_width=16, head_depth=1)


def test_times_become_medians_quartiles_ratios_within_rounds_and_the_sum_of_parts():
    assert Spread.of([3.0, 1.0, 2.0, 10.0]) == Spread(2.5, 1.75, 4.75, 4)
    assert Spread.of([3.0]) == Spread(3.0, 3.0, 3.0, 1)
    assert ratio([1.0, 10.0, 1.2], [2.0, 20.0, 2.0]) == Spread(0.5, 0.5, 0.55, 3)
    parts = {"text": [1.0], "projector": [0.5], "denoising": [2.0], "decoding": [3.0], "pair denoising": [3.5],
             "pair decoding": [5.0]}  # fmt: skip
    assert composed(parts, steps=30, timed_steps=2) == {
        "text": [1.0], "projector": [0.5], "denoising": [30.0], "decoding": [3.0], "image": [1.0 + 30.0 + 3.0],
        "pair": [1.0 + 0.5 + 52.5 + 5.0],
    }  # fmt: skip


def test_every_round_times_every_work_and_a_long_warming_up_is_the_first_round(monkeypatch):
    seen, works = [], {"quick": lambda: None, "slow": lambda: time.sleep(0.002)}
    result = rounds(works, 3, on_progress=lambda *done: seen.append(done))
    assert {name: len(seconds) for name, seconds in result.seconds.items()} == {"quick": 3, "slow": 3}
    assert min(result.seconds["slow"]) > max(0.002, *result.seconds["quick"])
    assert seen == [(n, 8) for n in range(1, 9)] and set(result.peak) == {"quick", "slow"}
    monkeypatch.setattr(benchmark, "LONG", 0.0)
    result = rounds({"work": lambda: time.sleep(0.001)}, 2, on_progress=lambda *done: seen.append(done))
    assert len(result.seconds["work"]) == 2 and seen[-1] == (2, 2)


@pytest.mark.parametrize(("height", "width", "steps", "timed"), [(None, None, 2, 2), (32, 64, 6, 1)])
def test_the_cost_of_an_image_has_all_its_parts(diffuser, projector, height, width, steps, timed):
    sampling = Sampling(steps, 4.0, height, width, timed)
    result = image_cost(diffuser, projector, PROMPTS[0], sampling, repeats=2)
    assert result.shape == diffuser.latent_shape(height, width)
    assert set(result.seconds) == {"text", "projector", "denoising", "decoding", "image", "pair"}
    assert all(0 < spread.low <= spread.median <= spread.high for spread in result.seconds.values())
    assert result.seconds["image"].low > result.seconds["denoising"].low
    assert 0 < result.share.median and 0 < result.pair_in_singles.median < result.pair_in_images.median
    assert all(b is None or b > 0 for b in result.peak.values())


class Fake:
    """Stands for a scorer, so that what is timed is known: it takes a while and scores every word."""

    def score(self, images, prompts, batch=16, stop=None):
        time.sleep(0.002)
        assert batch == len(images) == len(prompts)
        p, hidden = np.full(10, 0.1, np.float32), np.zeros(2, np.float16)
        return [[make(word.index, p, hidden) for word in scored(units(prompt))] for prompt in prompts]


def test_the_cost_of_scoring_is_given_per_image_and_per_word():
    result = scoring_cost(Fake(), np.zeros((2, 8, 8, 3), np.uint8), PROMPTS, repeats=2)
    words = sum(len(scored(units(prompt))) for prompt in PROMPTS)
    assert (result["images"], result["words"]) == (2, words)
    assert result["per_word"].median == pytest.approx(result["per_image"].median * 2 / words)


def test_training_is_timed_by_the_loops_that_train(diffuser, projector, reward):
    before, seen = {name: p.clone() for name, p in reward.named_parameters()}, []
    texts, shape = Texts.encode(diffuser.encode, PROMPTS), diffuser.latent_shape()
    result = training_cost(reward, projector, texts, shape, (4, 2), steps=2,
                           on_progress=lambda *done: seen.append(done))  # fmt: skip
    assert [(name, part["batch"]) for name, part in result.items()] == [("reward", 4), ("projector", 2)]
    assert all(part["steps_per_second"].low > 0 for part in result.values())
    assert all(part["steps_per_second"].rounds == 2 for part in result.values())
    assert any((p != before[name]).any() for name, p in reward.named_parameters()), "real steps were taken"
    assert seen == [(n, 8) for n in range(1, 9)]


def test_each_measurement_can_be_stopped_and_what_cannot_be_timed_is_refused(diffuser, projector, reward):
    calls = []

    def stop():
        calls.append(1)
        return len(calls) > 3

    texts, shape = Texts.encode(diffuser.encode, PROMPTS), diffuser.latent_shape()
    for work in (
        lambda: rounds({"work": lambda: None}, 100, stop=stop),
        lambda: image_cost(diffuser, projector, PROMPTS[0], Sampling(50, timed_steps=50), 50, stop),
        lambda: training_cost(reward, projector, texts, shape, (2, 2), 100, stop),
    ):
        calls.clear()
        with pytest.raises(Stopped):
            work()
    for work, says in (
        (lambda: rounds({"work": lambda: None}, 0), "1 or more rounds"),
        (lambda: image_cost(diffuser, projector, PROMPTS[0], Sampling(2, timed_steps=3)), "3 of 2 steps"),
        (lambda: scoring_cost(Fake(), np.zeros((1, 8, 8, 3), np.uint8), ["the"], repeats=1), "name things"),
    ):
        with pytest.raises(ValueError, match=says):
            work()
