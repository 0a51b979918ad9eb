"""core/training/reading.py: the reward model learns to find in a picture what the words name."""

import pytest
import torch

from core.networks.reward import PictureReader, RewardModel
from core.training import reading
from core.training.data import RewardData, Sample
from core.training.reading import (
    Places,
    ReaderConfig,
    ReadingConfig,
    evaluate_reading,
    train_reader,
    train_reading,
)
from core.training.reward import RewardConfig, evaluate_reward, figures, train_reward
from tests.core.training.known_world import HEAD, PAIRS, SHAPE, TINY, prompt_of, texts

WORDS = ("red", "blue", "circle", "star")
CONFIG = ReadingConfig(steps=400, sight_steps=50, batch=32, rate=5e-3)


def pictures(count, seed=0):
    """Pictures that each show two of the four words, as a pattern on one cell, and a prompt about two words."""
    draws = torch.Generator().manual_seed(seed)
    patterns = torch.randn(4, 2, 2, 2, generator=torch.Generator().manual_seed(9)) * 2
    samples, at, kinds = [], torch.zeros(count, 2, 2), torch.zeros(count, 2, 1, dtype=torch.long)
    for i in range(count):
        picture = torch.randn(SHAPE, generator=draws) * 0.2
        cells = torch.randperm(16, generator=draws)[:2].tolist()
        shown = torch.randperm(4, generator=draws)[:2].tolist()
        for k, (cell, word) in enumerate(zip(cells, shown, strict=True)):
            y, x = divmod(cell, 4)
            picture[:, 2 * y : 2 * y + 2, 2 * x : 2 * x + 2] += patterns[word]
            at[i, k], kinds[i, k, 0] = torch.tensor([(x + 0.5) / 4, (y + 0.5) / 4]), word
        pair = PAIRS[int(torch.randint(len(PAIRS), (), generator=draws))]
        labels = {2 * j + 1: (9 * (WORDS.index(word) in shown), 1.0) for j, word in enumerate(pair)}
        samples.append(Sample(prompt_of(pair), i, labels, picture=picture))
    return RewardData.build(samples, texts(PAIRS), SHAPE), Places(at, kinds)


def accuracy(model, data):
    right = (RewardModel.expected(evaluate_reading(model, data)) >= 0.5) == (data.target[..., 9] == 1)
    return right[data.weight > 0].double().mean().item()


@pytest.fixture(scope="module")
def reader():
    torch.manual_seed(1)
    model = RewardModel(**TINY, **HEAD)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    train_reading(model, *pictures(600), CONFIG)
    return model, before


def test_words_are_found_in_pictures_that_were_not_seen_and_the_part_that_reads_noise_is_not_touched(reader):
    model, before = reader
    assert accuracy(model, pictures(100, seed=1)[0]) > 0.9
    for name, value in model.state_dict().items():
        if name.startswith(("trunk", "foresight", "from_map")):
            assert torch.equal(value, before[name])


def test_a_stopped_training_ends_in_the_same_bits(tmp_path):
    config = ReadingConfig(steps=8, sight_steps=3, batch=8, save_every=2)
    data, places = pictures(40)
    ends = []
    for stop_at in (None, 5):
        torch.manual_seed(0)
        model, seen = RewardModel(**TINY, **HEAD), []
        options = {"folder": tmp_path / str(stop_at), "on_progress": seen.append}
        if stop_at:
            assert train_reading(
                model, data, places, config, stop=lambda seen=seen: len(seen) >= 5, **options
            ).stopped
            model = RewardModel(**TINY, **HEAD)
        train_reading(model, data, places, config, **options)
        ends.append(torch.cat([p.detach().flatten() for p in model.reader.parameters()]))
    assert torch.equal(*ends)


def test_stage_1_learns_to_foresee_the_pictures_of_its_samples_and_from_those_without_one():
    """The picture that comes of a noise is here the noise itself, at half its size."""
    torch.manual_seed(0)
    data, places = pictures(300)
    data.picture = data.noises(torch.arange(300)) / 2
    model, config = RewardModel(**TINY, **HEAD), RewardConfig(steps=60, rate=5e-3, batch=16)
    before = evaluate_reward(model, data)["foreseen"]
    result = train_reward(model, data, None, config)
    assert before < 0.1 and evaluate_reward(model, data)["foreseen"] > 0.6
    assert {"foresee", "read"} <= set(result.metrics)
    data.picture_row[::2] = -1
    some, known = data.pictures(torch.tensor([0, 1, 2, 3]))
    assert known.tolist() == [False, True, False, True] and torch.equal(some, data.picture[[1, 3]])
    with pytest.raises(ValueError, match="no picture to read"):
        train_reading(model, data, places, CONFIG)
    data.picture = None
    data.picture_row[:] = -1
    result = train_reward(model, data, None, RewardConfig(steps=2))
    assert "foresee" not in result.metrics and "foreseen" not in evaluate_reward(model, data)


def test_a_rank_without_items_has_a_finite_loss():
    """More ranks than items: it looks at one item that counts for nothing, and of no thing."""
    seen, places = torch.randn(1, 3, 2, 2), Places(torch.full((1, 1, 2), 0.5), torch.zeros(1, 1, 1).long())
    loss = reading._sight(torch.nn.Linear(3, 2), seen, places, torch.tensor([0]), [2], 0.0)
    assert torch.isfinite(loss * 0)


def test_a_reader_learns_what_people_say_on_finished_pictures_and_on_what_is_foreseen(reader):
    """People call red what was taught as blue."""
    model, asked = reader[0].reading(), []
    data, held = pictures(300)[0], pictures(80, seed=1)[0]
    for some in (data, held):
        for s, item in enumerate(some.item.tolist()):
            words = some.texts.prompts[item].split()
            if "red" in words and "blue" not in words:
                picture_has = some.target[s, words.index("red"), 9] == 1
                some.target[s, words.index("red")] = torch.eye(10)[0 if picture_has else 9]
    before = figures(evaluate_reading(model, held), held)

    def foresee(of, rows):
        asked.append(len(rows))
        return of.pictures(rows)[0] * 0.9

    config = ReaderConfig(steps=150, batch=32, rate=3e-3, evaluate_every=50)
    result = train_reader(model, data, held, config, foresee=foresee)
    after = figures(evaluate_reading(model, held), held)
    assert result.best_step > 0 and after["pearson_within"] > before["pearson_within"] + 0.1
    assert asked and "finished_pearson" in result.metrics


def test_a_reward_model_reads_as_the_reader_that_it_takes_over():
    torch.manual_seed(0)
    model, data = RewardModel(**TINY, **HEAD), pictures(8)[0]
    reader = model.reading()
    for parameter in reader.parameters():
        parameter.data += 0.1
    assert not torch.equal(evaluate_reading(model, data), evaluate_reading(reader, data))
    model.take(reader)
    assert torch.equal(evaluate_reading(model, data), evaluate_reading(reader, data))
    with pytest.raises(ValueError, match="another shape"):
        model.take(PictureReader(latent_channels=2, text_width=8, head_width=16, heads=2))
