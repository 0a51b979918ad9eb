"""core/networks: what reward model and projector promise for any backbone's sizes and any batch."""

import pytest
import torch

from core import checkpoint
from core.networks.projector import NoiseProjector, rematch
from core.networks.reward import RewardModel
from core.noise import draw, drift, second

SMALL = {"text_width": 24, "width": 16, "depth": 1, "channels": (16, 24), "heads": 2}


def inputs(batch=3, size=(16, 16), tokens=9, words=4, channels=4):
    generator = torch.Generator().manual_seed(5)
    text = torch.randn(batch, tokens, 24, generator=generator)
    mask = torch.arange(tokens)[None] < torch.tensor([5 + i % 3 for i in range(batch)])[:, None]
    rows = torch.zeros(batch, words, tokens)
    for j in range(words - 1):  # the last word has no token: it is padding
        rows[:, j, j + 1] = 1
    return draw(range(batch), (channels, *size)), text, mask, rows


@pytest.fixture
def reward():
    torch.manual_seed(0)
    return RewardModel(**SMALL, head_width=16, head_depth=1).eval()


@pytest.fixture
def projector():
    """A projector as training leaves it: its last layer is not zero."""
    torch.manual_seed(0)
    model = NoiseProjector(**SMALL).eval()
    torch.nn.init.normal_(model.out.weight, std=0.05)
    return model


@pytest.mark.parametrize("size", [(16, 16), (8, 24), (13, 7), (1, 3), (33, 20)])
def test_any_latent_size_works(reward, projector, size):
    noise, text, mask, words = inputs(size=size)
    assert reward(noise, text, mask, words).logits.shape == (3, 4, 10)
    out = projector(noise, text, mask)
    assert out.mean.shape == out.std.shape == out.log_variance.shape == noise.shape
    assert torch.allclose(out.log_variance.exp().sqrt(), out.std, atol=1e-6)
    assert torch.isfinite(out.mean).all()


@pytest.mark.parametrize("size", [(1, 1), (2, 2), (4, 4)])
@pytest.mark.parametrize("training", [False, True])
def test_a_batch_of_one_noise_with_a_map_of_one_cell_works(reward, projector, size, training):
    """A norm over one cell whose group is one channel would have nothing but zeros to say."""
    noise, text, mask, words = inputs(batch=1, size=size)
    answers = []
    for given in (noise, -noise):
        torch.manual_seed(0)  # the same dropout twice
        answers.append(reward.train(training)(given, text, mask, words).logits)
        assert projector.train(training)(given, text, mask).mean.isfinite().all()
    assert answers[0].isfinite().all() and (answers[0] - answers[1]).abs().max() > 1e-4


def test_other_channels_and_patches_work():
    noise, text, mask, words = inputs(channels=16, size=(10, 6))
    for patch in (1, 4):
        sizes = {**SMALL, "latent_channels": 16, "patch": patch}
        assert RewardModel(**sizes, head_width=16)(noise, text, mask, words).logits.isfinite().all()
        assert NoiseProjector(**sizes)(noise, text, mask).mean.shape == noise.shape


def test_each_item_depends_on_its_own_prompt(reward, projector):
    noise, text, mask, words = inputs()
    other = [1, 2, 0]
    same = projector.project(noise, text, mask, noise)
    assert (
        (projector.project(noise, text[other], mask[other], noise) - same).abs().amax((1, 2, 3)) > 1e-5
    ).all()
    logits = reward(noise, text, mask, words).logits
    assert ((reward(noise, text[other], mask[other], words).logits - logits).abs().amax((1, 2)) > 1e-5).all()


def test_an_item_does_not_depend_on_its_neighbours_nor_on_padding(reward, projector):
    noise, text, mask, words = inputs()
    longer = torch.cat([text, torch.full((3, 4, 24), 9.0)], 1)
    masked = torch.cat([mask, torch.zeros(3, 4, dtype=torch.bool)], 1)
    wider = torch.cat([torch.cat([words, torch.zeros(3, 2, 9)], 1), torch.zeros(3, 6, 4)], 2)
    logits, mean = reward(noise, text, mask, words).logits, projector(noise, text, mask).mean
    for i in range(3):
        one = slice(i, i + 1)
        alone = reward(noise[one], longer[one], masked[one], wider[one]).logits
        assert torch.allclose(alone[0, :3], logits[i, :3], atol=1e-5)
        assert torch.allclose(projector(noise[one], longer[one], masked[one]).mean[0], mean[i], atol=1e-5)


def test_words_of_one_prompt_get_their_own_scores_from_the_noise(reward):
    noise, text, mask, words = inputs()
    logits = reward(noise, text, mask, words).logits
    assert (logits[:, 0] - logits[:, 1]).abs().max() > 1e-4
    other = reward(draw([7, 8, 9], (4, 16, 16)), text, mask, words).logits
    assert ((other - logits).abs().amax((1, 2)) > 1e-4).all()


def test_the_expected_score_runs_from_0_to_1():
    logits = torch.full((1, 3, 10), -50.0)
    logits[0, 0, 0] = logits[0, 1, 9] = 50
    logits[0, 2] = 0
    assert RewardModel.expected(logits)[0].tolist() == pytest.approx([0, 1, 0.5])


def test_an_untrained_projector_nearly_keeps_the_noise():
    noise, text, mask, _ = inputs()
    out = NoiseProjector(**SMALL)(noise, text, mask)
    assert torch.allclose(out.std, torch.full_like(out.std, 0.05))
    assert torch.allclose(out.mean, noise * (1 - 0.05**2) ** 0.5, atol=1e-5)


def test_strength_0_is_the_noise_bit_for_bit_and_half_lies_between(projector):
    noise, text, mask, _ = inputs()
    xi = second(range(3), (4, 16, 16))
    assert torch.equal(projector.project(noise, text, mask, xi, strength=0), noise)
    full, half = (projector.project(noise, text, mask, xi, strength=s) for s in (1.0, 0.5))
    assert torch.equal(full, projector(noise, text, mask).sample(xi))
    assert 0 < (half - noise).norm() < (full - noise).norm()


def test_a_projector_keeps_the_moments_of_its_input_and_bounds_its_std(projector):
    noise, text, mask, _ = inputs(batch=24)
    torch.nn.init.normal_(projector.out.weight, std=0.5)
    out = projector(noise, text, mask)
    assert out.std.min() > 0 and out.std.max() < projector.config.max_std
    result = drift(out.sample(second(range(24), (4, 16, 16))), noise)
    assert abs(result["mean"]) < 0.02 and abs(result["std"] - 1) < 0.02 and result["cosine"] < 0.95


def test_rematch_gives_channels_the_mean_and_spread_of_the_noise():
    noise, x = draw([1, 2], (4, 8, 8)), draw([3, 4], (4, 8, 8)) * 3 + 1
    again = rematch(x, noise)
    assert torch.allclose(again.mean((2, 3)), noise.mean((2, 3)), atol=1e-6)
    assert torch.allclose(again.std((2, 3)), noise.std((2, 3)), atol=1e-6)
    assert torch.allclose(rematch(noise, noise), noise, atol=1e-6)


def test_saved_and_loaded_models_give_the_same_output_bit_for_bit(reward, projector, tmp_path):
    given = inputs()
    for model, arguments, field in ((reward, given, "logits"), (projector, given[:3], "mean")):
        checkpoint.save(model, tmp_path / field)
        again = checkpoint.load(type(model), tmp_path / field)
        assert torch.equal(getattr(again(*arguments), field), getattr(model(*arguments), field))
        assert dict(again.config)["channels"] in ([16, 24], (16, 24))


@pytest.mark.parametrize(
    "change, text",
    [
        ({"noise": torch.zeros(3, 5, 16, 16)}, "noise of 4 channels"),
        ({"noise": torch.zeros(4, 16, 16)}, "noise of 4 channels"),
        ({"text": torch.zeros(3, 9, 25)}, "text of width 24"),
        ({"text": torch.zeros(2, 9, 24)}, "its own prompt"),
        ({"mask": torch.ones(3, 8).bool()}, "its own prompt"),
    ],
)
def test_inputs_that_do_not_fit_are_refused_with_their_sizes(reward, projector, change, text):
    noise, hidden, mask, words = inputs()
    arguments = {"noise": noise, "text": hidden, "mask": mask} | change
    for call in (lambda: reward(**arguments, words=words), lambda: projector(**arguments)):
        with pytest.raises(ValueError, match=text):
            call()


def test_word_weights_and_stds_that_do_not_fit_are_refused(reward, projector):
    noise, text, mask, words = inputs()
    with pytest.raises(ValueError, match="Word weights"):
        reward(noise, text, mask, words[..., :5])
    with pytest.raises(ValueError, match="xi"):
        projector.project(noise, text, mask, noise[:1])
    with pytest.raises(ValueError, match="first_std"):
        NoiseProjector(**SMALL, first_std=0.5, max_std=0.4)
