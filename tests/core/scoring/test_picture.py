"""core/scoring/picture.py: what a model is given is what its family's own processor gives."""

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import AutoProcessor, BertConfig
from transformers.models.smolvlm import processing_smolvlm

from core.scoring import picture
from core.scoring.picture import look, make_processor
from tests.core.scoring.families import FAMILIES, save_family

TAKES = frozenset(
    ["input_ids", "attention_mask", "pixel_values", "pixel_attention_mask", "token_type_ids", "image_sizes"]
)


@pytest.fixture
def image():
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, (50, 70, 3), dtype=np.uint8))


def same(ours, theirs):
    assert {"input_ids", "pixel_values"} <= ours.keys()
    for name, value in ours.items():
        assert torch.equal(value, theirs[name]), name


@pytest.mark.parametrize(("family", "token"), [("llava", "<image>"), ("gemma3", "<start_of_image>")])
def test_a_family_without_videos_gets_what_its_auto_processor_makes(tmp_path, image, family, token):
    _, config, tokenizer, images, settings = FAMILIES[family]()
    ours = look(make_processor(config, tokenizer, images, settings), image, f"a {token} b", TAKES)
    theirs = AutoProcessor.from_pretrained(save_family(family, tmp_path), backend="pil")
    same(ours, theirs(images=[image], text=[f"a {token} b"], return_tensors="pt", add_special_tokens=False))


def test_smolvlm_gets_what_its_own_class_makes(image, monkeypatch):
    _, config, tokenizer, images, settings = FAMILIES["smolvlm"]()
    ours = look(make_processor(config, tokenizer, images, settings), image, "a <image> b", TAKES)
    # its own class is given words for numbers, which it needs for videos only
    monkeypatch.setattr(processing_smolvlm, "num2words", str)
    monkeypatch.setattr(picture, "SAME_FOR_IMAGES", {})
    own = make_processor(config, tokenizer, images, settings)
    assert type(own).__mro__[1].__name__ == "SmolVLMProcessor"
    same(ours, look(own, image, "a <image> b", TAKES))


def test_without_a_file_that_names_it_the_processor_is_known_by_the_model_where_there_is_one(image):
    _, config, tokenizer, images, _ = FAMILIES["qwen2_5_vl"]()
    seen = look(make_processor(config, tokenizer, images), image, "<|image_pad|>", TAKES)
    assert (seen["input_ids"] == config.image_token_id).sum() == len(seen["pixel_values"]) // 4
    with pytest.raises(ValueError, match="no processor for a model of type 'bert'"):
        make_processor(BertConfig(), tokenizer, images)
