"""The shape of what pages and commands read of a run: some fields of its config, labels and metrics. All else in them is
free.

A file that is imported must have this shape. In a store that has runs of another shape already, what does not fit is left
out where they are read, so that one odd run does not take every list of runs with it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from data.store import checks

Shape = Callable[[str, Any], Any]  # raises ValueError, which names the field, where the value has another one

number: Shape = partial(checks.number, low=-1e12, high=1e12)
count: Shape = partial(checks.integer, low=0, high=2**62)
text: Shape = partial(checks.text, longest=10_000, empty=True)
file: Shape = checks.relative_path  # in the run's own folder


def flag(name: str, value: Any) -> None:
    if not isinstance(value, bool):
        raise ValueError(f"{name} must be true or false, not {checks.shown(value)}.")


def maybe(shape: Shape) -> Shape:
    """Or null."""
    return lambda name, value: None if value is None else shape(name, value)


def each(shape: Shape) -> Shape:
    """A JSON object, every value of which has the shape."""

    def check(name: str, value: Any) -> None:
        for key, item in _object(name, value).items():
            shape(f"{name}.{key[:40]}", item)

    return check


def items(shape: Shape) -> Shape:
    """A JSON array of such."""

    def check(name: str, value: Any) -> None:
        if not isinstance(value, list):
            raise ValueError(f"{name} must be a list, not {checks.shown(value)}.")
        for place, item in enumerate(value):
            shape(f"{name}[{place}]", item)

    return check


def record(needed: Mapping[str, Shape], other: Mapping[str, Shape] | None = None) -> Shape:
    """A JSON object with these fields, some of which may be missing; further ones are free."""

    def check(name: str, value: Any) -> None:
        found = _object(name, value)
        for field in needed:
            if field not in found:
                raise ValueError(f"{name}.{field} is missing.")
        for field, shape in {**needed, **(other or {})}.items():
            if field in found:
                shape(f"{name}.{field}", found[field])

    return check


def both(one: Shape, other: Shape) -> Shape:
    def check(name: str, value: Any) -> None:
        one(name, value)
        other(name, value)

    return check


def _object(name: str, value: Any) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise ValueError(f"{name} must be a JSON object, not {checks.shown(value)}.")
    return value


FIGURE = record({"estimate": maybe(number), "low": maybe(number), "high": maybe(number)})
FIGURES = each(FIGURE)
CHANGED = record({"prompt": text, "seed": count, "whole": flag, "before": file, "after": file})
SEEDS = record({"broken": count, "mended": count, "spoiled": count}, {"shown": items(CHANGED)})
HELDOUT = record(
    {"of": text, "judge": text, "independent": flag, "key": text, "base": text,
     "difference": both(record({"words": FIGURE}), FIGURES), "after": FIGURES},
    {"against_none": FIGURES, "none": FIGURES, "before": FIGURES, "prompts": count, "images": count,
     "seeds": maybe(SEEDS)},
)  # fmt: skip
FORESEEN = record({"before": number, "after": number})
READER = record(
    {},
    {
        "metrics": maybe(
            record({}, dict.fromkeys(("pearson_within", "finished_pearson_within"), maybe(number)))
        )
    },
)
PARTS = record({}, {"foresight": maybe(record({}, {"foreseen": maybe(FORESEEN)})), "reader": maybe(READER)})
SHAPES: dict[str, dict[str, Shape]] = {
    "config": {"used": maybe(each(maybe(text))), "cycle": text, "source": text, "name": text},
    "labels": {"sources": each(count), "count": count, "last": count, "sha256": text, "rule": maybe(text)},
    "metrics": {
        "heldout": maybe(HELDOUT), "note": maybe(text), "calibrator": maybe(record({}, {"note": maybe(text)})),
        "left_out": maybe(each(count)), "kinds": items(text), "use": flag, "chosen_by": maybe(text), "parts": maybe(PARTS),
        "reward": maybe(record({}, {"parts": maybe(PARTS), "chosen_by": maybe(text)})),
    },
}  # fmt: skip


def check(run: Mapping[str, Any]) -> None:
    """ValueError that names the first field of a run that has another shape."""
    for column, shapes in SHAPES.items():
        for field, shape in shapes.items():
            if field in (run.get(column) or {}):
                shape(f"{column}.{field}", run[column][field])


def fitting(column: str, value: Any) -> Any:
    """A run's config, labels or metrics without the fields that have another shape."""
    if value is None:
        return None
    found = dict(value) if isinstance(value, Mapping) else {}
    for field, shape in SHAPES[column].items():
        if field in found:
            try:
                shape(field, found[field])
            except ValueError:
                del found[field]
    return found
