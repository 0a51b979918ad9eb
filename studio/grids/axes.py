"""The axes of a grid of images: ranges such as "1-16", "0-1 (+0.25)" and "0-1 [5]", and the variants that they give.

A grid is seeds x variants. A variant is a way to make an image of a seed: a method, which run's model it uses, the
strength of the projection, guidance and steps.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from data.store.checks import identifier
from studio.images.methods import BY_REWARD, CHOOSING, NAMES, NOISE, named, parse, projects
from studio.images.options import SamplingOptions
from studio.images.prompts import scorable
from studio.images.views import GUIDANCE, NOISES, STEPS, check_side, seed_from
from studio.numbers import real, shown, whole

MAX_CELLS = 256
# parts of a method that use a trained model, and its kind
LEARNED = {"projected": "projector", "lora": "lora", NOISE: "reward", BY_REWARD: "reward"}
KNOWN = ", ".join(name for name in NAMES.split(", ") if name != "best-of-N")  # what a grid takes
NUMBER = r"\d{1,20}(?:\.\d{1,9})?"
ITEM = re.compile(
    rf"(?P<first>{NUMBER})(?:\s*-\s*(?P<last>{NUMBER})"
    rf"(?:\s*\(\s*\+\s*(?P<step>{NUMBER})\s*\)|\s*\[\s*(?P<count>\d{{1,6}})\s*\])?)?(?=[\s,;]|$)"
)
GAP = re.compile(r"\A[\s,;]+")


@dataclass(frozen=True)
class Variant:
    """A column of a grid.

    name: its label; method: "none", "projected" or another of `studio.images.methods` that denoises one image; run: the run
    whose model it uses, "shipped", or "" for the one in use; strength: of the projection, 0 without one; guidance, steps:
    None for the backbone's own, until the grid is started. best-noise-of-N chooses among N seeds that a row's seed gives,
    and its image is a plain one of the seed that it chose.
    """

    name: str
    method: str = "none"
    run: str = ""
    strength: float = 0.0
    guidance: float | None = None
    steps: int | None = None


@dataclass(frozen=True)
class GridRequest:
    """A grid to make. width and height None: the backbone's own size, options None: the studio's own, until the grid is
    started."""

    prompt: str
    seeds: list[int]
    variants: list[Variant]
    width: int | None = None
    height: int | None = None
    options: SamplingOptions | None = None

    @property
    def total(self) -> int:
        return len(self.seeds) * len(self.variants)


def check_grid(
    prompt: Any,
    seeds: Any = "1-8",
    methods: Any = ("none", "projected"),
    strengths: Any = "1",
    guidances: Any = "",
    steps: Any = "",
    width: Any = None,
    height: Any = None,
    most: int = MAX_CELLS,
    options: SamplingOptions | None = None,
) -> GridRequest:
    """A GridRequest from whatever a page or a command line gave; ValueError with a sentence for each bad input.

    Axes are texts with commas and ranges, numbers, or sequences of these. The variants are the product of methods,
    strengths (of what is projected), guidances and steps, each once; strength 0 is none, bit for bit.
    """
    prompt = scorable(prompt)
    rows = axis("seeds", seeds, seed_from, most, integers=True)
    if not rows:
        raise ValueError("There is no seed: give at least one whole number or a range, for example 1-8.")
    powers = axis("strengths", strengths, lambda v: real("strength", v, 0, 1), most) or [1.0]
    scales = axis("guidances", guidances, lambda v: real("guidance", v, *GUIDANCE), most) or [None]
    counts = axis("steps", steps, lambda v: whole("number of steps", v, *STEPS), most, True) or [None]
    variants: dict[tuple, Variant] = {}
    for guidance, count, (given, run, fixed) in itertools.product(scales, counts, methods_of(methods)):
        for strength in (powers if fixed is None else [fixed]) if projects(given) else [0.0]:
            plain = projects(given) and not strength
            method, by = (without_projection(given), "") if plain else (given, run)
            name = method.replace("+", " + ")
            if projects(method) and (strength != 1 or len(powers) > 1):
                name += f" {strength:g}"
            name += f", run {by}" if by else ""
            name += f", guidance {guidance:g}" if len(scales) > 1 else ""
            name += f", {count} steps" if len(counts) > 1 else ""
            key = (method, by, strength, guidance, count)
            variants.setdefault(key, Variant(name, *key))
            if len(variants) > most:  # at once: the product of long axes has millions
                raise ValueError(
                    f"This grid has more than {most} images even for one seed: give fewer values on the axes."
                )
    size = (check_side("width", _given(width)), check_side("height", _given(height)))
    request = GridRequest(prompt, rows, list(variants.values()), *size, options)
    if request.total > most:
        raise ValueError(
            f"This grid has {len(rows)} x {len(variants)} = {request.total} images, and {most} is the most: give fewer "
            "seeds, or fewer values on the other axes."
        )
    return request


def methods_of(given: Any) -> list[tuple[str, str, float | None]]:
    """(method, run, fixed strength or None) of each of "none, projected, projected:RUN, pag-3", each once."""
    if isinstance(given, str):
        given = given.split(",")
    if not isinstance(given, Sequence):
        raise ValueError(f"The methods {shown(given)} are no list: give names such as none, projected.")
    methods: dict[tuple, None] = {}
    for item in given:
        name, _, run = (part.strip() for part in str(item).partition(":"))
        if not name and not run:
            continue
        parts = parse(name, KNOWN)
        kinds = [part for part, _ in parts]
        if "best-of" in kinds:
            raise ValueError(
                f"{shown(name)} chooses among several images, and a cell of a grid is one: take best-noise-of-N, or leave "
                "it out."
            )
        learned = [kind for kind in kinds if kind in LEARNED]
        if len(learned) > 1:
            raise ValueError(
                f"{shown(name)} has two trained models, and a cell of a grid has one: take them apart."
            )
        if run and not learned:
            raise ValueError(f"{shown(name)} has no trained model: leave the run {shown(run)} out.")
        if run:
            identifier("run", run)
        number = dict(parts).get("projected")
        strength = real("strength", number, 0, 1) if number else None
        methods["+".join(_canonical(*part) for part in parts), run, strength] = None
    if not methods:
        raise ValueError("There is no method: choose at least one, for example none and projected.")
    return list(methods)


def _canonical(part: str, number: str | None) -> str:
    """The name of a part of a method, with the one spelling of its number."""
    if number is None or part == "projected":
        return part
    if part in CHOOSING:
        return named(part, whole("number of noises", number, *NOISES))
    return named(part, f"{real('scale', number, 0, 100):g}")


def kind_of(method: str) -> str:
    """The kind of trained model that a method uses, "" for none."""
    return next((LEARNED[part] for part, _ in parse(method) if part in LEARNED), "")


def _given(side: Any) -> Any:
    """A side, None for a blank text."""
    return None if isinstance(side, str) and not side.strip() else side


def without_projection(method: str) -> str:
    """What is left of a method at strength 0."""
    return "+".join(part for part in method.split("+") if part != "projected") or "none"


def axis(
    name: str, raw: Any, check: Callable[[Any], Any], most: int = MAX_CELLS, integers: bool = False
) -> list[Any]:
    """The checked values of an axis, each once, in order; [] for none."""
    checked: dict[Any, None] = {}
    for item in raw if isinstance(raw, Sequence) and not isinstance(raw, str) else [raw]:
        if item is None:
            continue
        values = _ranges(name, item, most, integers) if isinstance(item, str) else [item]
        for value in values:
            whole_float = isinstance(value, float) and value.is_integer()
            checked[check(int(value) if integers and whole_float else value)] = None
        if len(checked) > most:
            raise ValueError(f"There are more than {most} {name}: give {most} at most.")
    return list(checked)


def _ranges(name: str, text: str, most: int, integers: bool) -> list[int | float]:
    """The numbers of a text such as "1-3, 7, 0-1 (+0.25), 0-1 [5]"."""
    numbers: list[int | float] = []
    while text := GAP.sub("", text):
        match = ITEM.match(text)
        if match is None:
            example = "1-8, 12" if integers else "0, 0.5, 1 or 0-1 (+0.25)"
            raise ValueError(
                f"The {name} {shown(text)} are no numbers or ranges: write them as in {example}."
            )
        numbers += _range(name, match, most, integers)
        if len(numbers) > most:
            raise ValueError(f"There are more than {most} {name}: give {most} at most.")
        text = text[match.end() :]
    return numbers


def _range(name: str, match: re.Match[str], most: int, integers: bool) -> list[int | float]:
    first, last = Decimal(match["first"]), Decimal(match["last"] or match["first"])
    if last < first:
        raise ValueError(f"The range {shown(match[0])} of the {name} runs backwards: write it low to high.")
    if match["count"]:
        count = whole(f"count of the {name}", match["count"], 1, most)
        step = (last - first) / max(1, count - 1)
    else:
        step = Decimal(match["step"] or 1)
        if not step:
            raise ValueError(f"The range {shown(match[0])} of the {name} has the step 0: give a larger one.")
        count = int((last - first) / step) + 1 if (last - first) / step < most else most + 1
    if count > most:
        raise ValueError(f"The range {shown(match[0])} gives more than {most} {name}: give {most} at most.")
    values = [first + step * i for i in range(count)]
    if not integers:
        return [float(round(value, 9)) for value in values]
    if match["count"]:
        values = [value.to_integral_value() for value in values]
    return [int(value) if value == value.to_integral_value() else float(value) for value in values]
