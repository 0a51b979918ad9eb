"""The detector's opinion as one line under an image, beside the VLM's scores."""

from __future__ import annotations

from studio.components import source
from studio.components.scripted import Scripted
from studio.images.detecting import Opinion

TITLE = (
    "The detector looks at the colours, shapes and places in the image and has nothing learned. Its opinion is shown where "
    "the prompt is of the shapes world; it is never stored, and nothing is trained on it."
)


def line(opinion: Opinion | None) -> dict[str, str]:
    """The component's value for an `Opinion`, or for None."""
    return {"text": opinion.text, "title": TITLE} if opinion is not None else {"text": "", "title": ""}


class DetectorLine(Scripted):
    """Value: what `line` makes."""

    SCRIPT = source("detector/detector.js")
    TEMPLATE = '<div class="detector-line"></div>'
