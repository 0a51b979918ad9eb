"""Controls: a projector that is given another prompt's text."""

import pytest
import torch

from core.evaluation.base import Settings
from core.evaluation.controls import OtherText
from core.evaluation.methods import Projected

PROMPTS = ["a red circle", "a blue square", "a star"]
SHORT = Settings(steps=2, guidance=2.0, batch=2)


def test_noise_is_projected_for_another_prompt_and_denoised_under_its_own(diffuser, networks):
    method = OtherText(networks[0], diffuser, PROMPTS)
    assert method.others == dict(zip(PROMPTS, [*PROMPTS[1:], PROMPTS[0]], strict=True))
    text, seeds, shape = diffuser.encode(PROMPTS), [1, 2, 3], diffuser.latent_shape()
    moved = method.start(text, seeds, shape).noise
    others = diffuser.encode([method.others[p] for p in PROMPTS])
    assert torch.allclose(moved, Projected(networks[0]).start(others, seeds, shape).noise, atol=1e-5)
    assert not torch.allclose(moved, Projected(networks[0]).start(text, seeds, shape).noise, atol=1e-3)
    result = method.run(diffuser, PROMPTS, seeds, SHORT)
    assert torch.allclose(result.noise, moved, atol=1e-5)
    wanted = diffuser.sample(text, result.noise, SHORT.steps, SHORT.guidance, seeds=seeds)
    assert torch.allclose(result.latents, wanted.cpu(), atol=1e-3)
    fewer = OtherText(networks[0], diffuser, PROMPTS[:2])
    assert len({method.fingerprint, fewer.fingerprint, Projected(networks[0]).fingerprint}) == 3
    with pytest.raises(ValueError, match="two or more"):
        OtherText(networks[0], diffuser, PROMPTS[:1])
