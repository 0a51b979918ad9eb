"""A small Qwen2.5-VL from a configuration, with a word-level tokenizer, in the files that `core.scoring.vlm` loads.

It differs from the real one in sizes: patches of one frame, attention over the whole picture in every vision layer, tied
embeddings, a vocabulary of whole words (others are <|unk|>), a chat template without a default system message, and a
rotary base of 10,000 in place of a million. With neither base does the rotary embedding tell the few columns of a small
picture apart: the place of an image token is learned (`core.training.scorer`).
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from core import checkpoint
from core.scoring.dialogue import INSTRUCTION, MARK
from core.scoring.scores import DIGITS
from core.scoring.vlm import VLMScorer

SPECIAL = (
    "<|pad|>", "<|unk|>", "<|im_start|>", "<|im_end|>", "<|vision_start|>", "<|vision_end|>", "<|image_pad|>",
    "<|video_pad|>",
)  # fmt: skip
NOTHING = "nothing"  # word for an empty place
SIDES = (("left", "right"), ("above", "below"))  # words for the ends of the two axes
CHAT_TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n"
    "{% if message['content'] is string %}{{ message['content'] }}{% else %}"
    "{% for part in message['content'] %}{% if part['type'] == 'image' %}"
    "<|vision_start|><|image_pad|><|vision_end|>{% else %}{{ part['text'] }}{% endif %}{% endfor %}{% endif %}"
    "<|im_end|>\n{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


@dataclass(frozen=True)
class ScorerConfig:
    """Sizes of the small model."""

    image: int = 96  # pixels a side: pictures of other sizes are resized to this area
    patch: int = 8  # pixels a side of a patch; 2 x 2 patches make one image token
    vision_width: int = 128
    vision_depth: int = 3
    width: int = 128  # of the language model
    depth: int = 4
    heads: int = 4
    feed: int = 384  # width of the feed-forward layers


def make_tokenizer(vocabulary: Sequence[str]) -> Any:
    """A word-level tokenizer that knows the special tokens, digits, the instruction's words and `vocabulary`."""
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    pieces = pre_tokenizers.Sequence(
        [
            pre_tokenizers.WhitespaceSplit(),
            pre_tokenizers.Punctuation("isolated"),
            pre_tokenizers.Digits(individual_digits=True),
        ]
    )
    plain = [word for text in (INSTRUCTION.lower(), MARK) for word, _ in pieces.pre_tokenize_str(text)]
    words = [
        *map(str, range(DIGITS)),
        *".,;:!?'-()",
        *plain,
        "system",
        "user",
        "assistant",
        NOTHING,
        *vocabulary,
        *(word for side in SIDES for word in side),
    ]
    order = list(dict.fromkeys([*SPECIAL, *(word.lower() for word in words)]))
    core = Tokenizer(models.WordLevel({word: i for i, word in enumerate(order)}, unk_token="<|unk|>"))
    core.normalizer = normalizers.Sequence([normalizers.NFC(), normalizers.Lowercase()])
    core.pre_tokenizer = pieces
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=core,
        unk_token="<|unk|>",
        pad_token="<|pad|>",
        eos_token="<|im_end|>",
        additional_special_tokens=list(SPECIAL[2:]),
    )
    tokenizer.chat_template = CHAT_TEMPLATE
    return tokenizer


def make_scorer(vocabulary: Sequence[str], config: ScorerConfig | None = None, seed: int = 0) -> VLMScorer:
    """An untrained small scorer: model, tokenizer and image processor."""
    from transformers import Qwen2_5_VLConfig, Qwen2_5_VLForConditionalGeneration
    from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

    c = config or ScorerConfig()
    if c.image % (2 * c.patch):
        raise ValueError(f"The image size {c.image} is not a multiple of two patches of {c.patch}.")
    tokenizer = make_tokenizer(vocabulary)
    ids = tokenizer.convert_tokens_to_ids
    half = c.width // c.heads // 2
    side = half // 8 * 3
    text = {
        "vocab_size": (len(tokenizer) + 7) // 8 * 8,
        "hidden_size": c.width,
        "intermediate_size": c.feed,
        "num_hidden_layers": c.depth,
        "num_attention_heads": c.heads,
        "num_key_value_heads": c.heads,
        "max_position_embeddings": 1024,
        "initializer_range": 0.04,
        "rope_parameters": {
            "rope_type": "default", "rope_theta": 10_000.0, "mrope_section": [half - 2 * side, side, side],
        },
        "bos_token_id": None,
        "eos_token_id": ids("<|im_end|>"),
        "pad_token_id": ids("<|pad|>"),
        "tie_word_embeddings": True,
    }  # fmt: skip
    vision = {
        "depth": c.vision_depth,
        "hidden_size": c.vision_width,
        "intermediate_size": 2 * c.vision_width,
        "num_heads": c.heads,
        "patch_size": c.patch,
        "spatial_merge_size": 2,
        "temporal_patch_size": 1,
        "window_size": c.image,
        "out_hidden_size": c.width,
        "fullatt_block_indexes": list(range(c.vision_depth)),
        "initializer_range": 0.04,
    }
    full = Qwen2_5_VLConfig(
        text_config=text,
        vision_config=vision,
        image_token_id=ids("<|image_pad|>"),
        video_token_id=ids("<|video_pad|>"),
        vision_start_token_id=ids("<|vision_start|>"),
        vision_end_token_id=ids("<|vision_end|>"),
        tie_word_embeddings=True,
    )
    torch.manual_seed(seed)
    model = Qwen2_5_VLForConditionalGeneration(full).float()
    pixels = c.image * c.image
    images = Qwen2VLImageProcessorPil(
        patch_size=c.patch,
        temporal_patch_size=1,
        merge_size=2,
        size={"shortest_edge": pixels, "longest_edge": pixels},
        image_mean=[0.5] * 3,
        image_std=[0.25] * 3,
    )
    return VLMScorer(model, tokenizer, images, "scorer", "untrained")


@dataclass
class _Whole:
    """Model, tokenizer and image processor, saved together with weights in float16."""

    scorer: VLMScorer

    def save_pretrained(self, folder: Path | str, **options: Any) -> None:
        """Write the files that `VLMScorer.load` reads."""
        model = self.scorer.model
        half = type(model)(model.config)
        half.load_state_dict(model.state_dict())
        half.half().save_pretrained(folder, **options)
        self.scorer.tokenizer.save_pretrained(folder)
        self.scorer.image_processor.save_pretrained(folder)
        # the class name by which all versions of transformers find their backend
        path = Path(folder) / "preprocessor_config.json"
        config = json.loads(path.read_text(encoding="utf-8"))
        config["image_processor_type"] = "Qwen2VLImageProcessor"
        path.write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")


def save_scorer(scorer: VLMScorer, folder: Path | str, meta: dict[str, Any] | None = None) -> dict[str, Any]:
    """Save a scorer as a checkpoint (manifest with sha256; float16 safetensors) and return its manifest."""
    return checkpoint.save(_Whole(scorer), folder, meta, kind="VLMScorer", max_shard_size="9MB")
