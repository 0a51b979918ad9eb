"""core/diffusion.py on a random pipeline of SDXL architecture; the other families are in test_families.py."""

import numpy as np
import pytest
import torch

from core.diffusion import Diffuser
from core.noise import draw
from core.progress import Stopped
from core.training.diffuser import build_pipeline

PROMPTS = ["a red circle above a blue square", "a blue star"]
WORDS = ["a", "red", "blue", "circle", "square", "star", "above", "an", "orange"]


@pytest.fixture(scope="module")
def diffuser():
    torch.manual_seed(0)
    return Diffuser(build_pipeline(WORDS, channels=(16, 32), latent_size=8))


def test_encoding_knows_words_and_their_tokens(diffuser):
    text = diffuser.encode(["a red zebra"])
    known = {word.text: place.known for word, place in zip(text.word_lists[0], text.located[0], strict=True)}
    assert known == {"a": True, "red": True, "zebra": False, "nothing else": True}
    assert text.hidden.shape == (1, 77, diffuser.text_width) and text.words.shape == (1, 4, 77)
    assert torch.allclose(text.words[0].sum(1), torch.ones(4))


def test_nothing_else_is_asked_of_all_tokens_of_its_prompt(diffuser):
    text = diffuser.encode([*PROMPTS, "the of"])
    assert [len(words) for words in text.word_lists] == [8, 4, 2]
    for row, last in enumerate((7, 3)):
        real = text.mask[row].float()
        assert torch.allclose(text.words[row][last], real / real.sum())
        assert not text.words[row][last + 1 :].any()  # padding
    assert not text.words[2, 2:].any()  # no scored word, nothing that could be too much
    long = diffuser.encode(["a red circle and " * 30 + "a blue square"])  # beyond the window
    *words, last = long.located[0]
    assert not all(place.seen for place in words) and last.seen and last.known


def test_stop_ends_the_sampling(diffuser):
    text, noise, seen = diffuser.encode(PROMPTS[:1]), draw([1], diffuser.latent_shape()), []
    with pytest.raises(Stopped):
        diffuser.sample(
            text, noise, steps=4, on_step=lambda s, t, x: seen.append((s, t)), stop=lambda: len(seen) >= 2
        )
    assert seen == [(1, 4), (2, 4)]


def test_images_are_encoded_to_scaled_latents_that_can_be_decoded_and_previewed(diffuser):
    images = np.random.default_rng(0).integers(0, 256, (2, 64, 48, 3), dtype=np.uint8)
    latents = diffuser.to_latents(images)
    again, preview = diffuser.decode(latents), diffuser.preview(latents)
    assert (latents.shape, again.shape, preview.shape) == ((2, 4, 8, 6), images.shape, (2, 8, 6, 3))
    assert again.dtype == preview.dtype == np.uint8
    pixels = torch.from_numpy(images).permute(0, 3, 1, 2) / 127.5 - 1
    mean = diffuser.pipe.vae.encode(pixels).latent_dist.mean
    assert torch.allclose(latents, mean * diffuser.pipe.vae.config.scaling_factor, atol=1e-5)


def test_sizes_and_batches_that_do_not_fit_are_refused_with_the_numbers(diffuser):
    for size in ((60, 64), (64, 4), (-8, 64)):
        with pytest.raises(ValueError, match="multiple of 8: take"):
            diffuser.latent_shape(*size)
    with pytest.raises(ValueError, match="2 prompts for 1 noises"):
        diffuser.sample(diffuser.encode(PROMPTS), draw([1], diffuser.latent_shape()))
