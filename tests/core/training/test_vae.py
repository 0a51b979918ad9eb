"""core/training/vae.py on a few flat pictures: that it learns is measured, not assumed."""

import numpy as np
import torch

from core.training.vae import build, encode_all, set_scaling, to_pixels, train_vae

COLOURS = np.array([[250, 20, 20], [20, 20, 250], [20, 20, 20], [20, 200, 20]], np.uint8)


def _examples(rows):
    """Half white, half a colour: group norms would make a wholly flat picture the same in every colour."""
    images = np.full((len(rows), 32, 32, 3), 255, np.uint8)
    images[:, :, 16:] = COLOURS[rows % 4][:, None, None]
    return images


def test_training_lowers_the_reconstruction_error_and_sets_unit_variance_latents():
    torch.manual_seed(0)
    vae = build(channels=(8, 16), size=32)
    assert to_pixels(np.array([[[[0, 255, 0]]]], np.uint8)).flatten().tolist() == [-1.0, 1.0, -1.0]
    pixels = to_pixels(_examples(np.arange(4)))

    def error():
        with torch.no_grad():
            return (vae(pixels, sample_posterior=False).sample - pixels).abs().mean().item()

    before = error()
    result = train_vae(vae, _examples, 4, steps=60, batch=4, rate=5e-3, crop=24, bf16=False)
    assert result.step == 60 and error() < before / 2
    latents = encode_all(vae, _examples, 4)
    factor = set_scaling(vae, latents)
    assert vae.config.scaling_factor == factor
    assert abs(float((latents.float() * factor).std()) - 1) < 1e-2
