"""core/training/diffuser.py: a pipeline of SDXL architecture that loads with the stock class, and learns."""

import pytest
import torch
from diffusers import DiffusionPipeline

from core.training.diffuser import build_pipeline, encode_tokens, train_diffuser

WORDS = ["a", "red", "blue", "circle"]


def _pipe():
    torch.manual_seed(0)
    return build_pipeline(WORDS, channels=(16, 32), text_width=32, text_layers=2, latent_size=8)


def test_the_pipeline_loads_with_the_stock_class_and_encodes_as_in_training(tmp_path):
    pipe = _pipe()
    pipe.save_pretrained(tmp_path)
    loaded = DiffusionPipeline.from_pretrained(tmp_path)
    assert type(loaded).__name__ == "StableDiffusionXLPipeline"
    hidden, _, pooled, _ = loaded.encode_prompt(
        "a red circle", device="cpu", num_images_per_prompt=1, do_classifier_free_guidance=True
    )
    tokens = pipe.tokenizer(
        "a red circle", padding="max_length", max_length=77, return_tensors="pt"
    ).input_ids
    ours, ours_pooled = encode_tokens(pipe, tokens)
    assert torch.allclose(hidden, ours, atol=1e-5) and torch.allclose(pooled, ours_pooled, atol=1e-5)
    tokenizer = pipe.tokenizer
    assert tokenizer.tokenize("A red, circle") == ["a", "red", ",", "circle"]
    assert tokenizer("zebra").input_ids[1] == tokenizer.unk_token_id != tokenizer.eos_token_id
    with pytest.raises(ValueError, match="3 latents for 1 prompts"):
        train_diffuser(pipe, torch.zeros(3, 4, 8, 8), ["a"])


def test_training_lowers_the_loss_and_resumes_to_the_same_bits(tmp_path):
    latents = torch.stack([torch.full((4, 8, 8), v) for v in (1.0, -1.0)]).repeat(4, 1, 1, 1)
    prompts = ["a red circle", "a blue circle"] * 4
    losses = []

    def run(folder, stop=None):
        pipe = _pipe()
        train_diffuser(
            pipe, latents, prompts, text_steps=0, steps=40, batch=8, rate=3e-3, bf16=False, folder=folder, save_every=10,
            on_progress=lambda p: losses.append(p.metrics["loss"]), stop=stop,
        )  # fmt: skip
        return pipe

    whole = run(tmp_path / "whole")
    assert sum(losses[-10:]) < 0.8 * sum(losses[:10])
    count = iter(range(100))
    run(tmp_path / "cut", stop=lambda: next(count) >= 25)
    resumed = run(tmp_path / "cut")
    for a, b in zip(whole.unet.parameters(), resumed.unet.parameters(), strict=True):
        assert torch.equal(a, b)


def test_the_text_encoders_learn_first_what_a_word_does_to_the_picture():
    high, low = torch.zeros(2, 4, 8, 8)
    high[:, :4], low[:, 4:] = 1.0, 1.0
    latents, prompts = torch.stack([high, low] * 4), ["a red circle", "a blue circle"] * 4
    pipe, seen = _pipe(), []
    train_diffuser(
        pipe, latents, prompts, text_steps=40, text_batch=8, text_rate=3e-3, steps=1, batch=2, bf16=False,
        on_progress=lambda p: seen.append(p.metrics["layout"]),
    )  # fmt: skip
    assert len(seen) == 41 and seen[39] < 0.2 * seen[0]
