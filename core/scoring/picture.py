"""An image as an image-text model of `transformers` takes it: the family's own processor, without its video part.

The processor knows how its family cuts an image into tiles and how many tokens stand for it. AutoProcessor also asks
for a video processor, and that needs torchvision; here the same class is made from the PIL image processor, the
tokenizer and the settings that were saved with them, with nothing in the video processor's place. SmolVLM's class asks
for num2words as well, to write the length of a video, so SmolVLM gets Idefics3's, which writes images the same way.
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
    """The processor of a model with this configuration. `settings` are those of processor_config.json.

    ValueError where `transformers` has none, or one that cannot be made of these parts.
    """
    from transformers.models.auto.processing_auto import PROCESSOR_MAPPING, processor_class_from_name

    settings = dict(settings or {})
    name = settings.get("processor_class") or getattr(image_processor, "_processor_class", None)
    name = SAME_FOR_IMAGES.get(name, name)
    kind = processor_class_from_name(name) if name else None
    if kind is None and type(config) in PROCESSOR_MAPPING:
        kind = PROCESSOR_MAPPING[type(config)]
        kind = processor_class_from_name(SAME_FOR_IMAGES.get(kind.__name__, kind.__name__))
    if kind is None:
        raise ValueError(f"transformers has no processor for a model of type {config.model_type!r}.")

    class Still(kind):
        def check_argument_for_proper_class(self, argument_name: str, argument: Any) -> Any:
            """What is left out needs no class."""
            return (
                None if argument is None else super().check_argument_for_proper_class(argument_name, argument)
            )

    parts = {"image_processor": image_processor, "tokenizer": tokenizer}
    return Still.from_args_and_dict([parts.get(name) for name in Still.get_attributes()], settings)


def look(processor: Any, image: Image.Image, opening: str, takes: frozenset[str]) -> dict[str, Tensor]:
    """What the model's forward takes for an RGB image and the text before the prompt: input_ids (1, S) with the
    image's places, attention_mask, pixel_values and what else the family names in `takes`."""
    found = processor(images=[image], text=[opening], return_tensors="pt", add_special_tokens=False)
    return {name: value for name, value in found.items() if name in takes}
