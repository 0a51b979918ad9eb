"""Tiny random models of the real classes of image-text families, saved as a hub folder is: model, tokenizer, image
processor, processor_config.json. Each has a tokenizer and a chat template of the form that its family uses."""

import json
from pathlib import Path

import torch
import transformers as hf
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil
from transformers.models.gemma3.image_processing_pil_gemma3 import Gemma3ImageProcessorPil
from transformers.models.got_ocr2.image_processing_pil_got_ocr2 import GotOcr2ImageProcessorPil
from transformers.models.idefics3.image_processing_pil_idefics3 import Idefics3ImageProcessorPil
from transformers.models.llava_onevision.image_processing_pil_llava_onevision import (
    LlavaOnevisionImageProcessorPil,
)
from transformers.models.mllama.image_processing_pil_mllama import MllamaImageProcessorPil
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil
from transformers.models.smolvlm.image_processing_pil_smolvlm import SmolVLMImageProcessorPil

from core.training.scorer_model import CHAT_TEMPLATE as QWEN

LISTS = "{% for part in message['content'] %}{% if part['type'] == 'image' %}IMAGE{% elif part['type'] == 'text' %}"
# the digit comes after a space, and a system message that is a plain string shows nothing
SMOL = (
    "<|im_start|>{% for message in messages %}{{ message['role'] | capitalize }}:{{ ' ' }}"
    + LISTS.replace("IMAGE", "<image>")
    + "{{ part['text'] }}{% endif %}{% endfor %}<end_of_utterance>\n{% endfor %}"
    "{% if add_generation_prompt %}Assistant:{% endif %}"
)
LLAVA = (
    "{% for message in messages %}{% if message['role'] != 'system' %}{{ message['role'].upper() }}: {% endif %}"
    + LISTS.replace("IMAGE", "<image>\n")
    + "{{ part['text'] }} {% endif %}{% endfor %}{% endfor %}{% if add_generation_prompt %}ASSISTANT:{% endif %}"
)
INTERN = QWEN.replace("<|vision_start|><|image_pad|><|vision_end|>", "<IMG_CONTEXT>\n")
ONEVISION = QWEN.replace("<|vision_start|><|image_pad|><|vision_end|>", "<image>\n")
GEMMA = (
    "{{ bos_token }}{% for message in messages %}{% if message['role'] == 'system' %}"
    "{{ raise_exception('no system here') }}{% endif %}"
    "<start_of_turn>{{ 'model' if message['role'] == 'assistant' else message['role'] }}\n"
    "{% if message['content'] is string %}{{ message['content'] | trim }}{% else %}"
    + LISTS.replace("IMAGE", "<start_of_image>")
    + "{{ part['text'] | trim }}{% endif %}{% endfor %}{% endif %}<end_of_turn>\n{% endfor %}"
    "{% if add_generation_prompt %}<start_of_turn>model\n{% endif %}"
)


def tokens(special, template, words=False, plain=(), **named):
    """A tokenizer of single bytes; with `words` of characters, a sign for the space and one before the first word.
    `plain` are added tokens that are not marked as special."""
    if words:
        letters = ["▁", *(chr(c) for c in range(33, 127)), "\n"]
        core = Tokenizer(
            models.BPE(dict(zip(["<unk>", *letters], range(999), strict=False)), [], unk_token="<unk>")
        )
        core.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first")
        core.decoder = decoders.Metaspace(prepend_scheme="first")
    else:
        letters = sorted(pre_tokenizers.ByteLevel.alphabet())
        joined = [f"Ġ{digit}" for digit in range(10)] if named.pop("joined", False) else []
        core = Tokenizer(
            models.BPE(
                dict(zip([*letters, *joined], range(999), strict=False)), [tuple(pair) for pair in joined]
            )
        )
        core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
        core.decoder = decoders.ByteLevel()
    core.add_tokens([AddedToken(token, special=False, normalized=False) for token in plain])
    tokenizer = hf.PreTrainedTokenizerFast(tokenizer_object=core, **named)
    tokenizer.add_special_tokens({"extra_special_tokens": list(special)}, replace_extra_special_tokens=False)
    tokenizer.chat_template = template
    return tokenizer


def text(tokenizer, **more):
    size = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 3, "num_attention_heads": 2}
    # large first weights: else all digits are as good as equal, and a wrong read-out would not show
    wide = {"vocab_size": len(tokenizer), "num_key_value_heads": 1, "initializer_range": 0.3, "head_dim": 16}
    none = {"bos_token_id": None, "eos_token_id": 0, "pad_token_id": 0}
    return {**size, **wide, **none, "max_position_embeddings": 4096, "tie_word_embeddings": False, **more}


def sight(**more):
    """Of most vision towers."""
    return {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 2,
            "initializer_range": 0.3, **more}  # fmt: skip


def qwen(family, vision, rope=(), plain=(), processor="Qwen3VLProcessor", **more):
    special = [
        "<|im_start|>",
        "<|im_end|>",
        "<|vision_start|>",
        "<|vision_end|>",
        "<|image_pad|>",
        "<|video_pad|>",
    ]
    tokenizer = tokens(special, QWEN, plain=plain, eos_token="<|im_end|>")
    names = ["vision_start_token_id", "vision_end_token_id", "image_token_id", "video_token_id"]
    config = getattr(hf, f"{family}Config")(
        text_config=text(
            tokenizer,
            rope_parameters={"rope_type": "default", "rope_theta": 10.0, "mrope_section": [2, 3, 3], **dict(rope)},
            **more,
        ),
        vision_config={
            "depth": 2, "hidden_size": 32, "intermediate_size": 48, "num_heads": 2, "patch_size": 8,
            "spatial_merge_size": 2, "temporal_patch_size": 2, "out_hidden_size": 32, "initializer_range": 0.3, **vision,
        },
        **dict(zip(names, tokenizer.convert_tokens_to_ids(special[2:]), strict=True)),
    )  # fmt: skip
    images = Qwen2VLImageProcessorPil(
        patch_size=8, temporal_patch_size=2, merge_size=2, size={"shortest_edge": 256, "longest_edge": 4096}
    )
    kind = getattr(hf, f"{family}ForConditionalGeneration")
    return kind, config, tokenizer, images, {"processor_class": processor}


def qwen2_5_vl():
    vision = {"window_size": 32, "fullatt_block_indexes": [1]}
    return qwen("Qwen2_5_VL", vision, plain=["<think>"], processor="Qwen2_5_VLProcessor")


def qwen3_vl():
    vision = {"num_position_embeddings": 64, "deepstack_visual_indexes": [0, 1]}
    return qwen("Qwen3VL", vision, {"mrope_interleaved": True})


def qwen3_5():
    """Two layers of three are linear attention: its state is no cache of keys and values."""
    return qwen(
        "Qwen3_5", {"num_position_embeddings": 64}, {"mrope_interleaved": True},
        layer_types=["linear_attention", "full_attention", "linear_attention"], linear_num_key_heads=2,
        linear_num_value_heads=2, linear_key_head_dim=8, linear_value_head_dim=8,
    )  # fmt: skip


def smolvlm(family="SmolVLM", images=SmolVLMImageProcessorPil):
    special = ["<|im_start|>", "<end_of_utterance>", "<fake_token_around_image>", "<image>", "<global-img>"]
    special += [f"<row_{r}_col_{c}>" for r in range(1, 5) for c in range(1, 5)]
    tokenizer = tokens(special, SMOL, joined=True, eos_token="<end_of_utterance>")
    config = getattr(hf, f"{family}Config")(
        text_config={**text(tokenizer), "model_type": "llama"},
        vision_config=sight(image_size=32, patch_size=8),
        scale_factor=2,
        image_token_id=tokenizer.convert_tokens_to_ids("<image>"),
    )
    kind = getattr(hf, f"{family}ForConditionalGeneration")
    sizes = {"size": {"longest_edge": 64}, "max_image_size": {"longest_edge": 32}}
    settings = {"processor_class": f"{family}Processor", "image_seq_len": 4}
    return kind, config, tokenizer, images(**sizes), settings


def idefics3():
    return smolvlm("Idefics3", Idefics3ImageProcessorPil)


def internvl():
    named = {
        "start_image_token": "<img>", "end_image_token": "</img>", "context_image_token": "<IMG_CONTEXT>",
        "video_token": "<video>",
    }  # fmt: skip
    tokenizer = tokens(
        ["<|im_start|>", "<|im_end|>"], INTERN, eos_token="<|im_end|>", model_specific_special_tokens=named
    )
    config = hf.InternVLConfig(
        text_config={**text(tokenizer), "model_type": "qwen2"},
        vision_config=sight(image_size=[32, 32], patch_size=[8, 8], layer_scale_init_value=1.0),
        image_token_id=tokenizer.convert_tokens_to_ids("<IMG_CONTEXT>"),
        image_seq_length=4,
    )
    images = GotOcr2ImageProcessorPil(size={"height": 32, "width": 32}, min_patches=1, max_patches=4)
    return hf.InternVLForConditionalGeneration, config, tokenizer, images, {
        "processor_class": "InternVLProcessor", "image_seq_length": 4,
    }  # fmt: skip


def llava():
    """The placeholder is an added token that is not marked as special, as in some folders."""
    tokenizer = tokens(
        ["<s>", "</s>"], LLAVA, words=True, plain=["<image>"], bos_token="<s>", eos_token="</s>"
    )
    config = hf.LlavaConfig(
        text_config={**text(tokenizer), "model_type": "llama"},
        vision_config={**sight(image_size=32, patch_size=8), "model_type": "clip_vision_model"},
        image_token_index=tokenizer.convert_tokens_to_ids("<image>"),
        image_seq_length=16,
    )
    images = CLIPImageProcessorPil(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32})
    return hf.LlavaForConditionalGeneration, config, tokenizer, images, {
        "processor_class": "LlavaProcessor", "patch_size": 8, "num_additional_image_tokens": 1,
        "vision_feature_select_strategy": "default",
    }  # fmt: skip


def llava_onevision():
    tokenizer = tokens(
        ["<|im_start|>", "<|im_end|>", "<image>", "<video>"], ONEVISION, eos_token="<|im_end|>"
    )
    grid = [[32, 32], [32, 64], [64, 32], [64, 64]]
    config = hf.LlavaOnevisionConfig(
        text_config={**text(tokenizer), "model_type": "qwen2"},
        vision_config={
            **sight(image_size=32, patch_size=8, vision_use_head=False), "model_type": "siglip_vision_model",
        },
        image_token_index=tokenizer.convert_tokens_to_ids("<image>"),
        video_token_index=tokenizer.convert_tokens_to_ids("<video>"),
        image_grid_pinpoints=grid,
    )  # fmt: skip
    images = LlavaOnevisionImageProcessorPil(size={"height": 32, "width": 32}, image_grid_pinpoints=grid)
    return hf.LlavaOnevisionForConditionalGeneration, config, tokenizer, images, {
        "processor_class": "LlavaOnevisionProcessor", "num_image_tokens": 16,
        "vision_feature_select_strategy": "full",
    }  # fmt: skip


def gemma3():
    """Layers that see eight tokens back: the prefix is longer than their cache."""
    named = {
        "boi_token": "<start_of_image>",
        "eoi_token": "<end_of_image>",
        "image_token": "<image_soft_token>",
    }
    tokenizer = tokens(
        ["<start_of_turn>", "<end_of_turn>"], GEMMA, bos_token="<bos>", eos_token="<end_of_turn>",
        model_specific_special_tokens=named,
    )  # fmt: skip
    ids = tokenizer.convert_tokens_to_ids
    config = hf.Gemma3Config(
        text_config=text(tokenizer, sliding_window=8, layer_types=["sliding_attention", "full_attention", "sliding_attention"]),
        vision_config={**sight(image_size=32, patch_size=8), "vision_use_head": False},
        mm_tokens_per_image=4,
        boi_token_index=ids("<start_of_image>"),
        eoi_token_index=ids("<end_of_image>"),
        image_token_index=ids("<image_soft_token>"),
    )  # fmt: skip
    images = Gemma3ImageProcessorPil(size={"height": 32, "width": 32})
    return hf.Gemma3ForConditionalGeneration, config, tokenizer, images, {
        "processor_class": "Gemma3Processor", "image_seq_length": 4,
    }  # fmt: skip


def mllama():
    """Its image is no part of the sequence: the text looks at it by cross-attention."""
    tokenizer = tokens(
        ["<|im_start|>", "<|im_end|>", "<|image|>"],
        ONEVISION.replace("<image>", "<|image|>"),
        bos_token="<s>",
    )
    rope = {"rope_type": "default", "rope_theta": 10.0}
    wide = {"rope_parameters": rope, "cross_attention_layers": [1], "bos_token_id": 0}
    config = hf.MllamaConfig(
        text_config=text(tokenizer, **wide),
        vision_config={
            "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_global_layers": 1,
            "attention_heads": 2, "image_size": 32, "patch_size": 8, "vision_output_dim": 64, "max_num_tiles": 1,
            "intermediate_layers_indices": [0], "supported_aspect_ratios": [[1, 1]],
        },
        image_token_index=tokenizer.convert_tokens_to_ids("<|image|>"),
    )  # fmt: skip
    images = MllamaImageProcessorPil(size={"height": 32, "width": 32}, max_image_tiles=1)
    settings = {"processor_class": "MllamaProcessor"}
    return hf.MllamaForConditionalGeneration, config, tokenizer, images, settings


ALL = (qwen2_5_vl, qwen3_vl, qwen3_5, smolvlm, idefics3, internvl, llava, llava_onevision, gemma3)
FAMILIES = {make.__name__: make for make in ALL}


def save_family(name: str, folder: Path) -> Path:
    """Write a tiny random model of the family into the folder; the same weights each time."""
    kind, config, tokenizer, images, settings = {**FAMILIES, "mllama": mllama}[name]()
    torch.manual_seed(0)
    model = kind(config).float()
    for weight in model.parameters():
        if weight.ndim == 2 and not weight.any():  # Gemma's projection of images begins at nothing
            torch.nn.init.normal_(weight, std=0.3)
    for part in (model, tokenizer, images):
        part.save_pretrained(folder)
    (folder / "processor_config.json").write_text(json.dumps(settings))
    return folder
