"""Two pictures over the page, to be looked at closely: side by side, a slider, hold to flip, their difference; zoom.

The pictures are the stored PNGs, their parameters still in them, as data URLs: what is looked at is what is downloaded.
"""

from __future__ import annotations

import base64
import time
from collections.abc import Mapping
from typing import Any

from studio.components.scripted import Scripted, source
from studio.images.methods import projects

SCRIPT = source("elements.js", "buttons.js", "viewer.js", "viewer_modes.js")


def data_url(content: bytes, kind: str = "image/png") -> str:
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"


def side(
    name: str,
    sample: Any,
    content: bytes | None,
    before: Any = None,
    *,
    seed: int | None = None,
    opinion: Any = None,
) -> dict[str, Any]:
    """One of the two: a ``SampleView``, what it is called here and its PNG, None where the file is gone. before: the
    other one, against which its words are told. seed: the one it stands for, where its noise was chosen among several;
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
        "at": time.time_ns() // 1000,
        "prompt": prompt,
        "left": dict(left),
        "right": dict(right) if right else None,
        **more,
    }


class PairViewer(Scripted):
    """Value: what ``pair_value`` makes, or None. Events with data {sample}: ``annotate``, ``reuse`` its settings, ``reseed``: its seed alone."""

    SCRIPT, ROOT = SCRIPT, "pair-viewer"
    SCHEMA = {  # noqa: RUF012
        "prompt": {"type": "string"},
        "left": {"type": "object"},
        "right": {"anyOf": [{"type": "object"}, {"type": "null"}]},
    }
