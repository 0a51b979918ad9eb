"""Image inputs of an image-text model of `transformers`, by the family's own processor without its video part.

The processor determines how its family cuts an image into tiles and how many tokens represent it. AutoProcessor also
needs a video processor, which needs torchvision; here the same class is built from the PIL image processor, the tokenizer
and the saved settings, without a video processor. SmolVLM's class also needs num2words, for the length of a video, so
SmolVLM gets Idefics3's, which writes images in the same way.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from PIL import Image
from torch import Tensor

SAME_FOR_IMAGES = {"SmolVLMProcessor": "Idefics3Processor"}


def make_processor(
    config: Any, tokenizer: Any, image_processor: Any, settings: Mapping[str, Any] | None = None
) -> Any:
    """The processor of a model, with the settings of processor_config.json; ValueError where `transformers` has none."""
    from transformers.models.auto.processing_auto import PROCESSOR_MAPPING, processor_class_from_name

    settings = dict(settings or {})
    name = str(settings.get("processor_class") or getattr(image_processor, "_processor_class", None) or "")
    kind: Any = processor_class_from_name(SAME_FOR_IMAGES.get(name, name)) if name else None
    if kind is None and type(config) in PROCESSOR_MAPPING:
        name = PROCESSOR_MAPPING[type(config)].__name__
        kind = processor_class_from_name(SAME_FOR_IMAGES.get(name, name))
    if kind is None:
        raise ValueError(f"transformers has no processor for a model of type {config.model_type!r}.")

    def check(self: Any, name: str, component: Any) -> Any:  # an omitted component is accepted
        return None if component is None else kind.check_argument_for_proper_class(self, name, component)

    still: Any = type("Still", (kind,), {"check_argument_for_proper_class": check})
    components = {"image_processor": image_processor, "tokenizer": tokenizer}
    return still.from_args_and_dict([components.get(name) for name in still.get_attributes()], settings)


def look(processor: Any, image: Image.Image, opening: str, takes: frozenset[str]) -> dict[str, Tensor]:
    """Inputs of the model's forward for an RGB image and the text before the prompt: input_ids (1, S) with the image's
    tokens, attention_mask, pixel_values and others of `takes`."""
    inputs = processor(images=[image], text=[opening], return_tensors="pt", add_special_tokens=False)
    return {name: value for name, value in inputs.items() if name in takes}
