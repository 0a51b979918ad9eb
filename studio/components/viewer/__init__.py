"""The viewer: a dialog with two images, side by side, under a slider, hold-to-flip or as their difference, with zoom.

The pictures are the stored PNGs, their parameters still in them, as data URLs: what is shown is what is downloaded.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from studio.components import source
from studio.components.scripted import Scripted, moment
from studio.components.thumbnails import data_url
from studio.grids.axes import projects
from studio.images.detecting import Opinion
from studio.images.views import SampleView


def side(
    name: str,
    sample: SampleView,
    content: bytes | None,
    before: SampleView | None = None,
    *,
    seed: int | None = None,
    opinion: Opinion | None = None,
) -> dict[str, Any]:
    """One side: a sample, its name here and its PNG, None where the file is gone. before: the other side, from which
    the change of each word is counted. seed: the one it stands for, where its noise was chosen among several;
    opinion: the detector's."""
    then = {} if before is None else {w.index: w.score for w in before.words}
    words = []
    for word in sample.words:
        if word.scored:
            earlier = then.get(word.index)
            change = None if earlier is None or word.score is None else word.score - earlier
            words.append({"text": word.text, "score": word.score, "change": change})
    return {
        "name": name,
        "sample": sample.id,
        "seed": str(sample.seed if seed is None else seed),
        "total": None if sample.total is None else round(sample.total, 2),
        "made": f"{sample.steps} steps, guidance {sample.guidance:g}"
        + (f", strength {sample.strength:g}" if projects(sample.method) else "")
        + (f", noise of seed {sample.seed}" if seed not in (None, sample.seed) else ""),
        "detector": opinion.text if opinion else "",
        "words": words,
        "picture": None if content is None else data_url(content),
        "file": f"{sample.seed}-{sample.id[:8]}.png",
    }


def pair_value(
    prompt: str, left: Mapping[str, Any], right: Mapping[str, Any] | None, **more: Any
) -> dict[str, Any]:
    """The component's value: opens the viewer on two sides, or on one alone."""
    return {
        "at": moment(),
        "prompt": prompt,
        "left": dict(left),
        "right": dict(right) if right else None,
        **more,
    }


class PairViewer(Scripted):
    """Value: what ``pair_value`` makes, or None. Events with data {sample}: ``annotate``, ``reuse`` its settings, ``reseed``: its seed alone."""

    SCRIPT = source("elements.js", "buttons.js", "dialog.js", "viewer/viewer.js")
    TEMPLATE = '<div class="pair-viewer"></div>'
