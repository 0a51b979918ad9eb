"""core/diffusion.py on a random pipeline of SDXL architecture (random: what is tested is the plumbing)."""

import numpy as np
import pytest
import torch

from core.diffusion import Diffuser, ModelError
from core.noise import draw
from core.training.diffuser import build_pipeline
from core.training.loop import Stopped

PROMPTS = ["a red circle above a blue square", "a blue star"]
WORDS = ["a", "red", "blue", "circle", "square", "star", "above", "an", "orange"]


@pytest.fixture(scope="module")
def diffuser(tmp_path_factory):
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("pipe")
    build_pipeline(WORDS, channels=(16, 32), latent_size=8).save_pretrained(folder)
    return Diffuser.load(folder)


def test_the_same_noise_and_prompt_give_the_same_image_whatever_else_is_in_the_batch(diffuser):
    text, noise = diffuser.encode(PROMPTS), draw([3, 4], diffuser.latent_shape())
    both = diffuser.sample(text, noise, steps=3, guidance=4.0)
    alone = diffuser.sample(text.take([1]), noise[1:], steps=3, guidance=4.0)
    assert torch.allclose(both[1:], alone, atol=1e-4)
    assert torch.equal(both, diffuser.sample(text, noise, steps=3, guidance=4.0))


def test_every_item_of_a_batch_has_its_own_prompt(diffuser):
    text, noise = diffuser.encode(PROMPTS), draw([3, 3], diffuser.latent_shape())
    a = diffuser.sample(text, noise, steps=2)
    b = diffuser.sample(text.take([1, 0]), noise, steps=2)
    assert not torch.equal(a, b) and torch.allclose(a[0], b[1], atol=1e-4)


def test_encoding_knows_words_and_their_tokens(diffuser):
    text = diffuser.encode(["a red zebra"])
    known = {word.text: place.known for word, place in zip(text.word_lists[0], text.located[0], strict=True)}
    assert known == {"a": True, "red": True, "zebra": False, "nothing else": True}
    assert text.hidden.shape == (1, 77, diffuser.text_width) and text.words.shape == (1, 4, 77)
    assert torch.allclose(text.words[0].sum(1), torch.ones(4))


def test_nothing_else_is_asked_of_all_tokens_of_its_prompt(diffuser):
    text = diffuser.encode([*PROMPTS, "the of"])
    assert [len(words) for words in text.word_lists] == [8, 4, 2]
    assert text.words.shape[1] == 8
    for row, (words, last) in enumerate([(text.words[0], 7), (text.words[1], 3)]):
        real = text.mask[row].float()
        assert torch.allclose(words[last], real / real.sum())
        assert not words[last + 1 :].any()  # padding
    assert not text.words[2, 2:].any()  # no scored word, nothing that could be too much


def test_nothing_else_is_seen_also_where_the_prompt_exceeds_the_window(diffuser):
    text = diffuser.encode(["a red circle and " * 30 + "a blue square"])
    *words, last = text.located[0]
    assert not all(place.seen for place in words)
    assert last.seen and last.known


def test_the_callback_sees_every_step_and_stop_ends_the_sampling(diffuser):
    text, noise = diffuser.encode(PROMPTS[:1]), draw([1], diffuser.latent_shape())
    seen = []
    diffuser.sample(text, noise, steps=4, on_step=lambda step, total, latents: seen.append((step, total)))
    assert seen == [(1, 4), (2, 4), (3, 4), (4, 4)]
    seen.clear()
    with pytest.raises(Stopped):
        diffuser.sample(
            text, noise, steps=4, on_step=lambda s, t, x: seen.append(s), stop=lambda: len(seen) >= 2
        )
    assert seen == [1, 2]


def test_images_and_previews_are_pictures_of_the_right_size(diffuser):
    latents = torch.randn(2, 4, 8, 6)
    image, preview = diffuser.decode(latents), diffuser.preview(latents)
    assert image.shape == (2, 64, 48, 3) and image.dtype == np.uint8
    assert preview.shape == (2, 8, 6, 3) and preview.dtype == np.uint8


def test_images_are_encoded_to_scaled_latents_that_can_be_decoded(diffuser):
    images = np.random.default_rng(0).integers(0, 256, (2, 64, 48, 3), dtype=np.uint8)
    latents = diffuser.to_latents(images)
    assert latents.shape == (2, 4, 8, 6) and diffuser.decode(latents).shape == images.shape
    pixels = torch.from_numpy(images).permute(0, 3, 1, 2) / 127.5 - 1
    mean = diffuser.pipe.vae.encode(pixels).latent_dist.mean
    assert torch.allclose(latents, mean * diffuser.pipe.vae.config.scaling_factor, atol=1e-5)


@pytest.mark.parametrize("height,width", [(60, 64), (64, 4), (-8, 64)])
def test_a_size_that_is_no_multiple_of_eight_is_refused_with_a_size_that_works(diffuser, height, width):
    with pytest.raises(ValueError, match="multiple of 8: take"):
        diffuser.latent_shape(height, width)


def test_non_square_sizes_are_sampled(diffuser):
    shape = diffuser.latent_shape(64, 96)
    assert shape == (4, 8, 12)
    latents = diffuser.sample(diffuser.encode(["a blue star"]), draw([1], shape), steps=1)
    assert latents.shape == (1, *shape)


def test_a_folder_without_a_model_is_refused_with_a_sentence(tmp_path):
    with pytest.raises(ModelError, match="cannot be loaded"):
        Diffuser.load(tmp_path)


def test_prompts_and_noises_must_be_equally_many(diffuser):
    with pytest.raises(ValueError, match="2 prompts for 1 noises"):
        diffuser.sample(diffuser.encode(PROMPTS), draw([1], diffuser.latent_shape()))
