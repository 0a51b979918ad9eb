"""A report with a plot of every kind, in the form that experiments write. Its figures are made up: what is tested is
how they are drawn, so they only have to look like the real ones."""

from __future__ import annotations

import base64
import io
from typing import Any

import numpy as np
from PIL import Image

METHODS = [
    "none",
    "projected",
    "best of 4 + projected",
    "perturbed-attention guidance",
    "LoRA fine-tuning + projected",
]
KINDS = ["object", "attribute", "relation", "count"]
TAUS = [0.1, 1.0, 10.0, 100.0]


def interval(estimate: float, half: float) -> dict[str, float]:
    return {"estimate": estimate, "low": estimate - half, "high": estimate + half}


def png(colour: tuple[int, int, int]) -> str:
    """The base64 of a small picture."""
    pixels = np.full((32, 32, 3), 235, np.uint8)
    pixels[8:24, 8:24] = colour
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return base64.b64encode(file.getvalue()).decode()


def report() -> dict[str, Any]:
    draw = np.random.default_rng(0)
    truth = draw.integers(0, 10, 160)
    said = np.clip(truth + draw.normal(0, 1.6, 160), 0, 9)
    confusion = np.histogram2d(truth, np.round(said), bins=[np.arange(-0.5, 10)] * 2)[0].astype(int)
    gains = [0.0, 6.1, 9.8, 2.2, 11.4]
    figures = [
        {"kind": "dots", "title": "Words that hold, by method", "x": "method", "y": "words that hold, %",
         "reference": 59.2, "reference_name": "no projection", "note": "A dot is the mean over prompts and seeds, "
         "the bar its 95 % interval. Right of the line is better.",
         "series": [{"name": "words", "x": METHODS, "y": [59.2 + g for g in gains],
                     "low": [55.1 + g for g in gains], "high": [63.0 + g for g in gains]}]},
        {"kind": "dots", "title": "By kind of word", "x": "kind of word", "y": "words that hold, %",
         "series": [{"name": "none", "x": KINDS, "y": [81.0, 66.5, 41.2, 37.0], "low": [77.2, 62.3, 36.9, 31.0],
                     "high": [84.6, 70.6, 45.6, 43.1]},
                    {"name": "projected", "x": KINDS, "y": [88.3, 75.1, 44.0, None], "low": [84.0, 71.0, 39.8, None],
                     "high": [92.1, 79.4, 48.2, None]}]},
        {"kind": "line", "title": "Alignment against tau", "x": "tau", "y": "words that hold, %", "log_x": True,
         "reference": 59.2, "reference_name": "no projection",
         "note": "A small tau lets the projector move the noise far; a large one keeps it where it was.",
         "series": [{"name": "strength 0.5", "x": TAUS, "y": [63.0, 64.4, 62.1, 59.9], "low": [59.0, 60.8, 58.2, 56.0],
                     "high": [67.1, 68.0, 66.0, 63.6]},
                    {"name": "strength 1", "x": TAUS, "y": [58.1, 66.9, 65.2, 60.4], "low": [53.9, 63.0, 61.1, 56.6],
                     "high": [62.2, 70.7, 69.1, 64.1]}]},
        {"kind": "scatter", "title": "What the reward model expects, and what the image shows",
         "x": "expected score, 0 to 9", "y": "score of the image, 0 to 9", "diagonal": True,
         "series": [{"name": "words", "x": said.round(2).tolist(), "y": truth.tolist()}]},
        {"kind": "bars", "title": "Cost of an image", "x": "method", "y": "seconds an image",
         "series": [{"name": "denoising", "x": METHODS, "y": [0.41, 0.41, 1.64, 0.62, 0.43]},
                    {"name": "choosing and projecting", "x": METHODS, "y": [0.0, 0.01, 0.22, 0.0, 0.01]}]},
        {"kind": "heatmap", "title": "Confusion of scores", "x": "the reward model's score", "y": "the scorer's score",
         "z": confusion.tolist(), "rows": [str(k) for k in range(10)], "columns": [str(k) for k in range(10)],
         "note": "A cell counts words. On the diagonal both say the same."},
        {"kind": "heatmap", "title": "Change by relation and colour", "x": "colour", "y": "relation",
         "z": [[0.12, -0.04, 0.31], [-0.22, 0.02, None]], "rows": ["to the left of", "above"],
         "columns": ["red", "green", "blue"]},
        {"kind": "histogram", "title": "Distances of the noises", "x": "distance from N(0, I), nats", "y": "share of noises",
         "series": [{"name": "projected", "values": draw.gamma(4, 0.3, 400).round(4).tolist()},
                    {"name": "N(0, I)", "values": draw.gamma(3, 0.25, 400).round(4).tolist()}]},
    ]  # fmt: skip
    table = {
        "title": "All methods",
        "columns": ["method", "words that hold", "difference", "seconds an image", "seed"],
        "percent": ["words that hold"],
        "rows": [
            [name, interval(0.592 + g / 100, 0.04), interval(g, 1.9), 0.41 * (1 + i), 454573554 + i]
            for i, (name, g) in enumerate(zip(METHODS, gains, strict=True))
        ]
        + [["best of 64", None, {"estimate": None, "low": None, "high": None}, None, None]],
        "note": "In brackets: 95 % intervals of the paired bootstrap over prompts.",
    }
    colours = {"red": (200, 60, 50), "green": (60, 150, 90), "blue": (60, 90, 190), "yellow": (220, 180, 60)}
    pictures = {
        "title": "Where the difference is largest",
        "columns": 4,
        "items": [
            {"png": png(colour), "caption": f"a {name} square above a grey circle, seed {i}"}
            for i, (name, colour) in enumerate(colours.items())
        ],
    }
    return {
        "experiment": "tau",
        "title": "How far may the noise be moved?",
        "question": "How do alignment and the noise's distance from N(0, I) change with tau and with the strength?",
        "answer": [
            "With tau = 1 at full strength 66.9 % [63.0, 70.7] of the words hold, 7.7 points more than without.",
            "With tau = 0.1 it is no better than none, and the noise is 3.1 nats from N(0, I).",
        ],
        "judge": "detector",
        "config": {"name": "tau", "prompts": 24, "seeds": 4, "taus": "0.1, 1, 10, 100", "steps": 20},
        "backbone": "data/models/diffuser",
        "backbone_revision": "3f2c9ab01c77d1e0",
        "scorer": "shapes-scorer/v3/prompt-2",
        "seconds": 731.4,
        "created": "2026-11-22T19:40:12+00:00",
        "figures": figures,
        "tables": [table],
        "pictures": [pictures],
        "data": {},
    }
