"""The grid of the page Seeds: seeds x variants, an image with its word scores in each cell, and statistics over the cells.

The page keeps the cells that it has and asks for the others (event ``more``): an answer holds new or changed cells
only, ``AT_ONCE`` pictures at most, so that an answer which is lost is asked for again and nothing is sent twice.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

from studio.components import source
from studio.components.scripted import Scripted, moment, number, text
from studio.grids.axes import projects
from studio.grids.grid import GridView
from studio.grids.statistics import HOLDS
from studio.images.detecting import Opinion, compared
from studio.images.methods import chooses
from studio.images.options import about
from studio.images.views import SampleView, total_of
from studio.numbers import plain

MOST = 4096  # cells that a page may say it has
AT_ONCE = 24  # pictures in one answer


@dataclass(frozen=True)
class Ask:
    """A page's request for cells: which grid, the stamps of the cells that it has, which two variants to compare, and
    whether it has just been opened."""

    grid: str
    have: dict[int, str]
    base: int
    other: int
    fresh: bool = False


def read_ask(data: Any) -> Ask:
    """A request as it came over HTTP; what a page with our script would not send counts as missing."""
    have = data.get("have") if isinstance(data, Mapping) else None
    kept: dict[int, str] = {}
    for place, stamp in list(have.items())[:MOST] if isinstance(have, Mapping) else []:
        if isinstance(place, str) and place.isascii() and place.isdecimal() and isinstance(stamp, str):
            kept[int(place[:6])] = stamp[:96]
    fresh = isinstance(data, Mapping) and data.get("fresh") is True
    return Ask(text(data, "grid"), kept, number(data, "base", MOST), number(data, "other", MOST, 1), fresh)


def strongest(view: GridView) -> int:
    """The variant that is compared with the first by default: the strongest projected one, the last of equal ones."""
    ways = view.variants
    ranked = max(range(len(ways)), key=lambda i: (projects(ways[i].method), ways[i].strength, i))
    return ranked or 1


def stamp_of(sample: SampleView, detector: str = "") -> str:
    """A version of a cell: it changes when anything that the cell shows of its sample does. detector: what that says
    of it."""
    said = repr((sample.total, [w.score for w in sample.words], bool(sample.image_path), detector))
    return f"{sample.id}.{zlib.crc32(said.encode()):08x}"


def grid_value(
    view: GridView,
    picture: Callable[[SampleView], str],
    ask: Ask | None = None,
    change: Mapping[str, Any] | None = None,
    opinions: Mapping[str, Opinion] | None = None,
    *,
    looking: bool = False,
    opened: bool = False,
    tends: bool = True,
    votes: str = "",
) -> dict[str, Any]:
    """The component's value: the state of a ``GridView`` and the cells that the page does not have yet.

    picture: a data URL of a sample's image, '' where it is gone. change: of ``grid_change``. opinions: the
    detector's, by sample; looking: more of them are on their way. opened: the page goes to this grid, whatever it
    shows now. tends: it may be stopped and resumed from this page. votes: why this visitor may not vote on it.
    """
    opinions = opinions or {}
    base, other = (ask.base, ask.other) if ask else (0, strongest(view))
    have = ask.have if ask and ask.grid == view.id else {}
    cells: list[dict[str, Any]] = []
    more = False
    made = sorted((cell.sample.words for cell in view.cells if cell.sample), key=len) or [[]]
    words = [{"index": w.index, "text": w.text} for w in made[-1] if w.scored]
    for cell in view.cells:
        if cell.sample is None:
            continue
        sample = cell.sample
        # where some were stored before there was "nothing else", all have means of the words alone
        if len(made[0]) < len(made[-1]):
            sample = replace(sample, total=total_of(sample.words[: len(made[0])]))
        detector = opinions[sample.id].text if sample.id in opinions else ""
        stamp = stamp_of(sample, detector)
        if have.get(cell.place) == stamp:
            continue
        if len(cells) == AT_ONCE:
            more = True
            break
        cells.append(
            {
                "place": cell.place,
                "stamp": stamp,
                "sample": sample.id,
                "total": sample.total,
                "scores": {str(w.index): w.score for w in sample.words if w.scored},
                "corrected": [w.index for w in sample.words if w.human is not None],
                "picture": picture(sample),
                "detector": detector,
                "chosen": str(sample.seed) if chooses(view.variants[cell.variant].method) else "",
            }
        )
    options = view.options
    value = {
        "at": moment(),
        "grid": view.id,
        "opened": opened,
        "tends": tends,
        "votes": votes,
        "seeds": [str(seed) for seed in view.seeds],
        "variants": [asdict(variant) for variant in view.variants],
        "words": words,
        **{name: getattr(view, name) for name in ("prompt", "state", "message", "done", "total", "left")},
        "made": "; ".join(about({**options.columns(), "prompt": view.prompt, "sampler": options.scheduler})),
        "cells": cells,
        "more": more,
        "holds": HOLDS,
        "base": base,
        "other": other,
        "first": strongest(view),
        "change": change,
        "detector": detected(view, base, other, opinions),
        "looking": looking,
    }
    return plain(value)  # JSON holds no infinity


def comparable(view: GridView, base: int, other: int) -> bool:
    """Whether these are two columns of the grid; the numbers came over HTTP."""
    return base != other and {base, other} <= set(range(len(view.variants)))


def detected(view: GridView, base: int, other: int, opinions: Mapping[str, Opinion]) -> dict[str, int] | None:
    """The detector's comparison of two columns: on how many seeds more, as many and fewer words hold, over those of
    which it knows both images; None where it knows none."""
    columns, both = len(view.variants), []
    if not comparable(view, base, other):
        return None
    for row in range(len(view.seeds)):
        samples = [view.cells[row * columns + column].sample for column in (base, other)]
        known = [opinions[sample.id] for sample in samples if sample and sample.id in opinions]
        if len(known) == 2:
            both.append((known[0], known[1]))
    return {**compared(both), "seeds": len(both)} if both else None


def no_grid(problem: str = "") -> dict[str, Any]:
    """The value while no grid is open. problem: why the one that was asked for is not."""
    return {"at": moment(), "grid": "", "opened": True, "problem": problem}


class SeedGrid(Scripted):
    """Value: what ``grid_value`` or ``no_grid`` makes. Events, each with data: ``more`` (see ``read_ask``), ``open``
    {left, right}: two samples to look at, ``halt``, ``go_on``, ``vote``, ``pack`` and ``reuse`` {grid}."""

    SCRIPT = source("elements.js", "buttons.js", "grid/grid.js")
    TEMPLATE = '<div class="seed-grid"></div>'
