"""The guidelines for annotators: what 0, 3, 6 and 9 mean for an object, a colour, a relation, a count and *nothing else*.

The examples are drawn here by the shapes world's renderer, at the degree of truth that its own rules (data.shapes.truth)
give such a score; no picture is kept as a file.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from html import escape

import numpy as np
from PIL import Image

from data.shapes.render import OUTLINES, PALETTE, Background, Placement, render_things
from studio.components.thumbnails import data_url, encoded

PAPER = Background((226.0, 226.0, 223.0))
SIZE = 96  # pixels a side, shown at about two thirds of that

RULES = (
    "Score what the image shows, one word at a time: how well could someone who sees only the image confirm this word?",
    "Beauty does not count, nor sharpness, nor whether you like it.",
    "A word speaks of its own thing: in “a red circle above a blue square”, a red square does not help the word red.",
    "Where the thing is missing, so is all that is said of it: its colour is 0 as well.",
    "Words that deny something hold where the image lacks it: “no hat” is 9 where there is no hat.",
    "The last chip, “nothing else”, is about the whole image: 9 where it shows what the prompt asks for and no more.",
    "Repeats, things that nobody asked for, stray pieces and half-formed things take it down; a background does not.",
    "Use all ten scores. Between two of the examples take the number between them.",
    "The VLM's score is a proposal. Where it is right, leave or accept it; where nothing is wrong, say so.",
)


def _blend(one: Sequence[float], other: Sequence[float], share: float) -> tuple[int, int, int]:
    r, g, b = (round(a + (b - a) * share) for a, b in zip(one, other, strict=True))
    return r, g, b


def _star(share: float) -> Placement:
    """A star whose outline is blended, by ``share``, with the circle around it."""
    outline = OUTLINES["star"]
    radii = np.linalg.norm(outline, axis=1, keepdims=True)
    return Placement(
        PALETTE["purple"],
        "star",
        0.5,
        0.5,
        0.36,
        outline=outline * (1 - share) + 0.8 * share * outline / radii,
    )


def _patch(share: float) -> Placement:
    """A circle between red and orange."""
    return Placement(_blend(PALETTE["red"], PALETTE["orange"], share), "circle", 0.5, 0.5, 0.34)


def _above(degrees: float) -> tuple[Placement, Placement]:
    """A blue circle at this angle, in degrees, from straight above an orange square."""
    x, y = 0.24 * math.sin(math.radians(degrees)), 0.24 * math.cos(math.radians(degrees))
    return (
        Placement(PALETTE["blue"], "circle", 0.5 + x, 0.5 - y, 0.17),
        Placement(PALETTE["orange"], "square", 0.5 - x, 0.5 + y, 0.18),
    )


def _several(colour: str, shape: str, *places: tuple[float, float, float]) -> tuple[Placement, ...]:
    """The same shape at each (x, y, size)."""
    return tuple(Placement(PALETTE[colour], shape, x, y, size) for x, y, size in places)


def _melted(depth: float) -> Placement:
    """A circle with dents of this depth."""
    outline = OUTLINES["circle"]
    angle = np.arctan2(outline[:, 1], outline[:, 0])[:, None]
    dents = 1 + depth * (np.sin(3 * angle + 1) + 0.7 * np.sin(5 * angle + 2))
    return Placement(PALETTE["red"], "circle", 0.5, 0.5, 0.3, outline=outline * dents)


CRUMB = Placement(PALETTE["blue"], "square", 0.87, 0.16, 0.06, 20)  # a small piece that belongs to nothing

# kind, what is asked for, and for 9, 6, 3 and 0: what is drawn and what to say of it
EXAMPLES: tuple[tuple[str, str, str, tuple[tuple[int, tuple[Placement, ...], str], ...]], ...] = (
    ("An object", "star", "a purple star", (
        (9, (_star(0.0),), "A star, without a doubt."),
        (6, (_star(0.45),), "A star with a fault: blunt, bent or cut off."),
        (3, (_star(0.84),), "Something of a star is there, but few would call it one."),
        (0, (Placement(PALETTE["purple"], "square", 0.5, 0.5, 0.34),), "Another thing, or nothing."),
    )),
    ("A colour", "red", "a red circle", (
        (9, (_patch(0.0),), "Red, the whole of it."),
        (6, (_patch(0.49),), "Still red, but off: paler, darker, or towards orange."),
        (3, (_patch(0.65),), "Closer to another colour, or only a part of it is red."),
        (0, (Placement(PALETTE["blue"], "circle", 0.5, 0.5, 0.34),), "Another colour."),
    )),
    ("A relation", "above", "a blue circle above an orange square", (
        (9, _above(0.0), "Above, at a glance."),
        (6, _above(40.0), "Above, but well to one side."),
        (3, _above(50.0), "More beside than above."),
        (0, _above(180.0), "Below, or one of the two is missing."),
    )),
    ("A count", "three", "three green triangles", (
        (9, _several("green", "triangle", (0.5, 0.26, 0.18), (0.26, 0.7, 0.18), (0.74, 0.7, 0.18)), "Exactly three."),
        (6, _several("green", "triangle", (0.5, 0.26, 0.18), (0.42, 0.66, 0.18), (0.62, 0.7, 0.18)), "Three, but two run together or one is cut off."),
        (3, _several("green", "triangle", (0.3, 0.5, 0.18), (0.7, 0.5, 0.18)), "One too few or one too many."),
        (0, _several("green", "triangle", (0.5, 0.5, 0.18)), "Off by two or more, or none."),
    )),
    ("The image as a whole", "nothing else", "a red circle", (
        (9, _several("red", "circle", (0.5, 0.5, 0.3)), "One red circle, and nothing that was not asked for."),
        (6, (_melted(0.12),), "One thing, but half-formed: melted, torn or run together with another."),
        (3, _several("red", "circle", (0.3, 0.36, 0.21), (0.69, 0.66, 0.21)), "Two circles where one was asked for, or a star beside it."),
        (0, (*_several("red", "circle", (0.24, 0.26, 0.15), (0.7, 0.3, 0.16), (0.5, 0.74, 0.17)), CRUMB),
         "Repeats or pieces all over: whoever asked for one circle would throw it away."),
    )),
)  # fmt: skip


def picture(placements: Sequence[Placement]) -> str:
    """The placements drawn, as a data: URL."""
    image = Image.fromarray(render_things(placements, PAPER, SIZE)).quantize(24)
    return data_url(encoded(image, "PNG", optimize=True))


def page() -> str:
    """The side panel: closed it is a narrow rail with its name."""
    parts = [f"<ul>{''.join(f'<li>{escape(rule)}</li>' for rule in RULES)}</ul>"]
    for kind, word, prompt, levels in EXAMPLES:
        parts.append(f"<h3>{escape(kind)}: <em>{escape(word)}</em> in “{escape(prompt)}”</h3><ol>")
        for score, placements, says in levels:
            alt = f"Example of {score} for {word}"
            parts.append(
                f'<li><img src="{picture(placements)}" alt="{escape(alt)}" width="60" height="60">'
                f"<b>{score}</b><span>{escape(says)}</span></li>"
            )
        parts.append("</ol>")
    return (
        '<details class="guidelines"><summary><span>Guidelines</span><kbd class="ws-kbd" aria-hidden="true">g</kbd></summary>'
        f'<div class="guidelines-body">{"".join(parts)}</div></details>'
    )
