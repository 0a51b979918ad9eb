"""A report with a plot of every kind, in the form that experiments write. Its figures are made up: what is tested is
how they are drawn, so they only have to look like the real ones."""

from __future__ import annotations

import base64
import io
from typing import Any

import numpy as np
from PIL import Image

METHODS = ["none", "projected", "best of 4 + projected", "LoRA fine-tuning + projected"]
GAINS = [0.0, 6.1, 9.8, 11.4]
KINDS, TAUS = ["object", "attribute", "count"], [0.1, 1.0, 10.0]


def interval(estimate: float, half: float) -> dict[str, float]:
    return {"estimate": estimate, "low": estimate - half, "high": estimate + half}


def png(colour: tuple[int, int, int]) -> str:
    """The base64 of a small picture."""
    file = io.BytesIO()
    Image.new("RGB", (32, 32), colour).save(file, "PNG")
    return base64.b64encode(file.getvalue()).decode()


def series(name: str, x: list[Any], y: list[float | None], half: float = 4.0) -> dict[str, Any]:
    """A series with an interval around each of its points."""
    low, high = ([None if value is None else value + sign * half for value in y] for sign in (-1, 1))
    return {"name": name, "x": x, "y": y, "low": low, "high": high}


def report() -> dict[str, Any]:
    draw = np.random.default_rng(0)
    truth = draw.integers(0, 10, 160)
    said = np.clip(truth + draw.normal(0, 1.6, 160), 0, 9)
    confusion = np.histogram2d(truth, np.round(said), bins=[np.arange(-0.5, 10)] * 2)[0].astype(int)
    digits, share = [str(k) for k in range(10)], "words that hold, %"
    figures = [
        {"kind": "dots", "title": "Words that hold, by method", "x": "method", "y": share, "reference": 59.2,
         "reference_name": "no projection", "note": "A dot is the mean over prompts and seeds.",
         "series": [series("words", METHODS, [59.2 + g for g in GAINS])]},
        {"kind": "dots", "title": "By kind of word", "x": "kind of word", "y": share,
         "series": [series("none", KINDS, [81.0, 66.5, 37.0]), series("projected", KINDS, [88.3, 75.1, None])]},
        {"kind": "line", "title": "Alignment against tau", "x": "tau", "y": share, "log_x": True,
         "reference": 59.2, "reference_name": "no projection",
         "series": [series("strength 0.5", TAUS, [63.0, 64.4, 62.1]), series("strength 1", TAUS, [58.1, 66.9, 65.2])]},
        {"kind": "scatter", "title": "What the reward model expects, and what the image shows",
         "x": "expected score, 0 to 9", "y": "score of the image, 0 to 9", "diagonal": True,
         "series": [{"name": "words", "x": said.round(2).tolist(), "y": truth.tolist()}]},
        {"kind": "bars", "title": "Cost of an image", "x": "method", "y": "seconds an image",
         "series": [{"name": "denoising", "x": METHODS, "y": [0.41, 0.41, 1.64, 0.43]}]},
        {"kind": "heatmap", "title": "Confusion of scores", "x": "the reward model's score", "y": "the scorer's score",
         "z": confusion.tolist(), "rows": digits, "columns": digits},
        {"kind": "histogram", "title": "Distances of the noises", "x": "distance from N(0, I), nats", "y": "share of noises",
         "series": [{"name": name, "values": draw.gamma(4, scale, 400).round(4).tolist()}
                    for name, scale in (("projected", 0.3), ("N(0, I)", 0.2))]},
    ]  # fmt: skip
    rows = [
        [name, interval(0.592 + g / 100, 0.04), interval(g, 1.9), 0.41 * (1 + i), 454573554 + i]
        for i, (name, g) in enumerate(zip(METHODS, GAINS, strict=True))
    ]
    nothing = {"estimate": None, "low": None, "high": None}
    items = [
        {"png": png((40 * i, 60, 50)), "caption": f"a red square above a grey circle, seed {i}"}
        for i in range(4)
    ]
    return {
        "experiment": "tau",
        "title": "How far may the noise be moved?",
        "question": "How do alignment and the noise's distance from N(0, I) change with tau and with the strength?",
        "answer": ["With tau = 1 at full strength 66.9 % [63.0, 70.7] of the words hold.", "With tau = 0.1 it is no better."],
        "judge": "detector",
        "config": {"name": "tau", "prompts": 24, "seeds": 4, "taus": "0.1, 1, 10, 100", "steps": 20},
        "backbone": "data/models/diffuser",
        "backbone_revision": "3f2c9ab01c77d1e0",
        "scorer": "shapes-scorer/v3/prompt-2",
        "seconds": 731.4,
        "created": "2026-11-22T19:40:12+00:00",
        "figures": figures,
        "tables": [{
            "title": "All methods", "columns": ["method", "words that hold", "difference", "seconds an image", "seed"],
            "percent": ["words that hold"], "rows": [*rows, ["best of 64", None, nothing, None, None]],
            "note": "In brackets: 95 % intervals of the paired bootstrap over prompts.",
        }],
        "pictures": [{"title": "Where the difference is largest", "columns": 4, "items": items}],
        "data": {},
    }  # fmt: skip
