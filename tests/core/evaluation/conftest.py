"""A tiny random diffuser, a scorer and a judge whose verdicts are plain functions of the pixels."""

import numpy as np
import pytest
import torch

from core.scoring.scores import from_truth, make
from core.words import scored, split, units

PROMPTS = ["a red circle", "a blue square above a red star", "a star"]


@pytest.fixture(scope="package")
def diffuser():
    from core.diffusion import Diffuser
    from core.training.diffuser import build_pipeline
    from core.training.vae import build

    torch.manual_seed(0)
    words = ["a", "above", "blue", "circle", "red", "square", "star"]
    vae = build(channels=(16, 16, 16, 16), size=32)
    pipe = build_pipeline(words, vae=vae, channels=(16, 32), text_width=32, text_layers=1, latent_size=4)
    return Diffuser(pipe, name="tiny", revision="0")


@pytest.fixture(scope="package")
def networks(diffuser):
    """(projector, reward): random, and the projector moves the noise."""
    from core.networks.projector import NoiseProjector
    from core.networks.reward import RewardModel

    torch.manual_seed(1)
    small = {"width": 16, "heads": 2, "depth": 1, "experts": 2, "top_k": 1, "channels": (16,)}
    shape = {"latent_channels": 4, "text_width": diffuser.text_width}
    projector = NoiseProjector(**shape, **small)
    with torch.no_grad():
        projector.out.weight.normal_(std=0.2)
    return projector, RewardModel(**shape, **small, head_width=16, head_depth=1, extra=True).eval()


def brightness(image: np.ndarray) -> float:
    """A figure of an image in [0, 1] that differs from seed to seed."""
    return float(image.mean(dtype=np.float64) * 997 % 1)


class Scorer:
    """Scores every word by the brightness of its image, or by a function of it; counts the images it saw."""

    version = "brightness"

    def __init__(self, function=lambda value: value):
        self.function, self.seen = function, 0

    def score(self, images, prompts):
        self.seen += len(images)
        return [
            [
                make(w.index, from_truth(self.function(brightness(im))), im[0, 0].astype(np.float16))
                for w in scored(units(p))
            ]
            for im, p in zip(images, prompts, strict=True)
        ]


def judge(prompt, image):
    """Strict where the image is bright; no verdict on a lone star."""
    if prompt == "a star":
        return None
    value = brightness(image)
    return {"strict": value > 0.5, "words": {w.index: value for w in scored(split(prompt))}, "extra": 1}


@pytest.fixture(scope="package")
def world():
    """What an experiment needs besides a diffuser: prompts, a scorer class and a judge."""
    return {"prompts": PROMPTS, "scorer": Scorer, "judge": judge, "brightness": brightness}
