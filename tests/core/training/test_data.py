"""core/training/data.py: texts and labels in memory, and the labels that are refused."""

import pytest
import torch

from core.noise import draw
from core.training.data import RewardData, Sample, Texts, distribution
from tests.core.training.known_world import PAIRS, SHAPE, Encoded, Whole, labelled


def test_texts_keep_each_prompt_once_cut_padding_and_score_words_with_meaning():
    result = Texts.encode(Encoded, ["a red and star", "a star", "a red and star"], batch=1)
    assert result.prompts == ["a red and star", "a star"]
    assert result.hidden.shape == (2, 6, 8)
    assert result.scored.tolist() == [[False, True, False, True, False], [False, True, False, False, False]]
    assert result.only(["a star"]).scored.tolist() == [[False, True, False, False, False]]


def test_nothing_else_is_one_more_word_to_train_on_and_words_without_meaning_are_left_out():
    result = Texts.encode(Whole, ["a red and star", "a red"])
    assert result.scored.tolist() == [[False, True, False, True, True], [False, True, True, False, False]]
    said = {0: (9, 1.0), 1: ([0, 0, 0, 0, 0, 2, 2, 0, 0, 0], 1.0), 2: (3, 0.5)}
    data = RewardData.build([Sample("a red", 1, said)], result, SHAPE)
    assert data.weight.tolist() == [[0, 1, 0.5, 0, 0]] and data.target[0, 2, 3] == 1
    assert data.target[0, 1, 5:7].tolist() == [0.5, 0.5]


def test_noise_is_drawn_again_from_the_seed_unless_it_was_stored():
    kept, said = torch.full(SHAPE, 2.0), {1: (9, 1.0)}
    samples = [Sample("a red", 5, said), Sample("a red", 5, said, noise=kept), Sample("a red", 6, said)]
    data = RewardData.build(samples, Texts.encode(Encoded, ["a red"]), SHAPE)
    noises = data.subset(torch.tensor([1, 2])).noises(torch.tensor([1, 0]))
    assert torch.equal(noises[1], kept) and torch.equal(noises[:1], draw([6], SHAPE))


def test_validation_prompts_are_not_trained_on():
    train, validation = labelled(PAIRS, [1, 2, 3]).split(0.25, seed=1)
    assert len(train) == 27 and len(validation) == 9
    assert not set(train.item.tolist()) & set(validation.item.tolist())


@pytest.mark.parametrize(
    "samples, message",
    [
        ([], "collect and score"),
        ([Sample("a blue", 1, {1: (3, 1.0)})], "was not encoded"),
        ([Sample("a red", 1, {3: (3, 1.0)})], "no word 3"),
        ([Sample("a red", 1, {1: (3, float("nan"))})], "weight nan"),
        ([Sample("a red", 1, {0: (3, 1.0)})], "carries meaning"),
        ([Sample("a red", -1, {1: (3, 1.0)})], "seed"),
        ([Sample("a red", 1, {1: (10, 1.0)})], "score 10"),
    ],
)
def test_samples_that_cannot_be_used_are_refused_with_a_sentence(samples, message):
    with pytest.raises(ValueError, match=message):
        RewardData.build(samples, Texts.encode(Encoded, ["a red"]), SHAPE)


def test_invalid_distributions_and_too_few_prompts_are_refused():
    for label in (-1, 10, [1.0] * 9, [float("nan")] * 10, [-1.0] + [1.0] * 9, [0.0] * 10):
        with pytest.raises(ValueError, match="0"):
            distribution(label)
    with pytest.raises(ValueError, match="1 prompts"):
        labelled(PAIRS[:1], [1, 2]).split(0.5)
    with pytest.raises(ValueError, match="no prompt"):
        Texts.encode(Encoded, [])
