"""The grid of the page Seeds: seeds x variants, a picture with its word scores a cell; and what the cells say together.

The page keeps the cells that it has and asks for the others (event ``more``): an answer holds new or changed cells
only, ``AT_ONCE`` pictures at most, so that an answer which is lost is asked for again and nothing is sent twice.
Three scripts make one: ``grid.js`` keeps the state and talks to the server, ``grid_table.js`` draws the cells,
``grid_plots.js`` the figures.
"""

from __future__ import annotations

import math
import time
import zlib
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

from studio.components.scripted import Scripted, number, source, text
from studio.images.detecting import Opinion, compared
from studio.images.methods import chooses, projects
from studio.images.views import total_of

SCRIPT = source("elements.js", "buttons.js", "grid.js", "grid_table.js", "grid_plots.js", "grid_start.js")
MOST = 4096  # cells that a page may say it has
AT_ONCE = 24  # pictures in one answer
HOLDS = 5  # the score from which a word counts as shown


@dataclass(frozen=True)
class Ask:
    """What a page wants to know: which grid, the stamps of the cells that it has, which two variants to compare, and
    whether it has just been opened."""

    grid: str
    have: dict[int, str]
    base: int
    other: int
    fresh: bool = False


def read_ask(data: Any) -> Ask:
    """An ask as it came over HTTP; what a page with our script would not send counts as not said."""
    have = data.get("have") if isinstance(data, Mapping) else None
    kept: dict[int, str] = {}
    for place, stamp in list(have.items())[:MOST] if isinstance(have, Mapping) else []:
        if isinstance(place, str) and place.isascii() and place.isdecimal() and isinstance(stamp, str):
            kept[int(place[:6])] = stamp[:96]
    fresh = isinstance(data, Mapping) and data.get("fresh") is True
    return Ask(text(data, "grid"), kept, number(data, "base", MOST), number(data, "other", MOST, 1), fresh)


def strongest(view: Any) -> int:
    """The variant that is compared with the first one at first: the strongest projected one, the last of equal ones."""
    ways = view.variants
    ranked = max(range(len(ways)), key=lambda i: (projects(ways[i].method), ways[i].strength, i))
    return ranked or 1


def stamp_of(sample: Any, detector: str = "") -> str:
    """Changes when anything that a cell shows of its sample does. detector: what that says of it."""
    said = repr((sample.total, [w.score for w in sample.words], bool(sample.image_path), detector))
    return f"{sample.id}.{zlib.crc32(said.encode()):08x}"


def grid_value(
    view: Any,
    picture: Callable[[Any], str | None],
    ask: Ask | None = None,
    change: Mapping[str, Any] | None = None,
    opinions: Mapping[str, Opinion] | None = None,
    *,
    looking: bool = False,
    opened: bool = False,
    tends: bool = True,
    votes: str = "",
) -> dict[str, Any]:
    """The component's value: how a ``GridView`` stands and the cells that the page does not have yet.

    picture: a data URL for a SampleView. change: of ``grid_change``. opinions: the detector's, by sample; looking: more of
    them are on their way. opened: the page goes to this grid, whatever it
    shows now. tends: it may be stopped and gone on with from this page. votes: why this visitor may not vote on it.
    """
    opinions = opinions or {}
    have = ask.have if ask and ask.grid == view.id else {}
    cells, more = [], False
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
                "total": finite(sample.total),
                "scores": {str(w.index): w.score for w in sample.words if w.scored},
                "corrected": [w.index for w in sample.words if w.human is not None],
                "picture": picture(sample),
                "detector": detector,
                "chosen": str(sample.seed) if chooses(view.variants[cell.variant].method) else "",
            }
        )
    return {
        "at": time.time_ns() // 1000,
        "grid": view.id,
        "opened": opened,
        "tends": tends,
        "votes": votes,
        "prompt": view.prompt,
        "seeds": [str(seed) for seed in view.seeds],
        "variants": [asdict(variant) for variant in view.variants],
        "words": words,
        "state": view.state,
        "message": view.message,
        "done": view.done,
        "total": view.total,
        "left": finite(view.left),
        "cells": cells,
        "more": more,
        "holds": HOLDS,
        "base": ask.base if ask else 0,
        "other": ask.other if ask else strongest(view),
        "first": strongest(view),
        "change": plain(change) if change else None,
        "detector": detected(view, *([ask.base, ask.other] if ask else [0, strongest(view)]), opinions),
        "looking": looking,
    }


def detected(view: Any, base: int, other: int, opinions: Mapping[str, Opinion]) -> dict[str, int] | None:
    """On how many seeds more, as many and fewer words hold in one column than in another, by the detector, over those of
    which it knows both images; None where it knows none."""
    columns = len(view.variants)
    if not (0 <= base < columns and 0 <= other < columns) or base == other:
        return None
    both = []
    for row in range(len(view.seeds)):
        samples = [view.cells[row * columns + column].sample for column in (base, other)]
        known = [opinions[sample.id] for sample in samples if sample and sample.id in opinions]
        if len(known) == 2:
            both.append((known[0], known[1]))
    return {**compared(both), "seeds": len(both)} if both else None


def no_grid(problem: str = "") -> dict[str, Any]:
    """The value while no grid is open. problem: a sentence that says why the one asked for is not."""
    return {"at": time.time_ns() // 1000, "grid": "", "opened": True, "problem": problem}


def finite(value: Any) -> float | None:
    """A number that JSON has; None for none, nan and infinity."""
    return round(float(value), 4) if value is not None and math.isfinite(value) else None


def plain(value: Any) -> Any:
    """The same with numbers that JSON has."""
    if isinstance(value, Mapping):
        return {str(key): plain(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        fields = getattr(value, "_asdict", None)
        return plain(fields()) if fields else [plain(part) for part in value]
    return finite(value) if isinstance(value, float) else value


class SeedGrid(Scripted):
    """Value: what ``grid_value`` or ``no_grid`` makes. Events, each with data: ``more`` (see ``read_ask``), ``open``
    {left, right}: two samples to look at, ``halt``, ``go_on``, ``vote``, ``pack`` and ``reuse`` {grid}."""

    SCRIPT, ROOT = SCRIPT, "seed-grid"
    SCHEMA = {  # noqa: RUF012
        "grid": {"type": "string"},
        "prompt": {"type": "string"},
        "seeds": {"type": "array", "items": {"type": "string"}},
        "state": {"type": "string"},
        "done": {"type": "integer"},
        "total": {"type": "integer"},
        "cells": {"type": "array", "items": {"type": "object"}},
    }
