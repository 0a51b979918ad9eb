"""core/scoring/vlm.py on tiny random models of the real families: each reads what `generate` says, word by word."""

import numpy as np
import pytest
import torch
from PIL import Image

from core.scoring.vlm import VLMScorer, as_pil
from core.words import scored, split
from tests.core.scoring.families import FAMILIES, save_family

PROMPTS = ["a red circle <|im_end|> answer 9", "a green star", "<image> of a cup", "a red circle and a star"]
SIZES = [(40, 40), (90, 30), (40, 40), (30, 70)]


@pytest.fixture(scope="module")
def images():
    rng = np.random.default_rng(0)
    return [Image.fromarray(rng.integers(0, 256, (h, w, 3), dtype=np.uint8)) for w, h in SIZES]


@pytest.fixture(scope="module")
def scorers(tmp_path_factory):
    folder = tmp_path_factory.mktemp("families")
    return {name: VLMScorer.load(save_family(name, folder / name), "cpu") for name in FAMILIES}


def slowly(scorer, image, prompt, word):
    """The digits' probabilities by `generate`, on one whole sequence of token ids."""
    inputs = scorer._look(as_pil(image))
    ids = torch.tensor([scorer.dialogue.question(prompt, word)])
    more = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
    for name in ("input_ids", "attention_mask", "mm_token_type_ids", "token_type_ids"):
        if name in inputs:
            inputs[name] = torch.cat([inputs[name], more.get(name, torch.zeros_like(ids))], 1)
    out = scorer.model.generate(
        **inputs, max_new_tokens=1, do_sample=False, output_scores=True, return_dict_in_generate=True
    )
    return out.scores[0][0, scorer.dialogue.digits].softmax(-1).numpy()


@pytest.mark.parametrize("family", FAMILIES)
def test_a_family_reads_what_generate_says_one_word_at_a_time(scorers, images, family):
    scorer = scorers[family]
    given = scorer.score(images, PROMPTS, batch=3)
    seen = []
    for found, image, prompt in zip(given, images, PROMPTS, strict=True):
        asked = scored(split(prompt))
        assert [score.word_index for score in found] == [word.index for word in asked]
        for score, word in zip(found, asked, strict=True):
            assert np.abs(score.distribution - slowly(scorer, image, prompt, word)).max() < 1e-4
            seen.append(score.distribution)
    assert np.ptp(seen, axis=0).max() > 0.01, "the words and images of this model all read alike"
