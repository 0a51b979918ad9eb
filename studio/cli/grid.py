"""The command that makes a grid of images: `python -m studio grid PROMPT`."""

from __future__ import annotations

import argparse
import contextlib
from typing import Any

from studio.cli.commands import PROGRAM, Result, person, studio_of
from studio.numbers import plain

LOOK = 0.2  # seconds between looks at a grid that is on


def grid(given: argparse.Namespace, console: Any) -> Result:
    """Make images of a prompt, seeds x variants, score them, and say what each variant changes."""
    from studio.grids.grid import check_grid

    studio, who = studio_of(given), person(given)
    if bool(given.resume) == bool(given.prompt):
        raise ValueError("Give a prompt, or go on with a grid by --resume ID.")
    if given.resume:
        id = given.resume
        studio.grids.resume(id, who)
    else:
        request = check_grid(
            given.prompt, given.seeds, given.methods, given.strengths, given.guidance, given.steps
        )
        id = studio.grids.start(request, who)
    total, count = studio.grids.size(id), console.count("images")
    while not studio.grids.work.wait(id, LOOK):
        count(studio.store.grids.cells_made(id), total)
        if console.stop.is_set():
            with contextlib.suppress(ValueError):  # it may have ended meanwhile
                studio.grids.stop(id, who)
    view = studio.grids.get(id)
    count(view.done, total)
    if view.state == "failed":
        raise ValueError(f"{view.message} `{PROGRAM} grid --resume {id}`")
    if given.zip and view.done:
        studio.grid_files.zip(id, given.zip)
    data = {**plain(view), "change": [change(view, other) for other in range(1, len(view.variants))]}
    again = f"{PROGRAM} grid --resume {id}" if view.state == "stopped" else ""
    return Result(data, described(view, given.zip), again)


def change(view: Any, other: int) -> dict[str, Any]:
    """What changes from a grid's first variant to another one."""
    from studio.grids.grid import grid_change

    return {"variant": view.variants[other].name, **grid_change(view, 0, other)}


def described(view: Any, file: str | None) -> str:
    """A grid in a few lines."""
    lines = [f"Grid {view.id}: {view.done} of {view.total} images are there."]
    for i, variant in enumerate(view.variants):
        totals = [cell.sample.total for cell in view.cells if cell.variant == i and cell.sample]
        totals = [total for total in totals if total is not None]
        line = (
            f"  {variant.name}: {sum(totals) / len(totals):.2f} of 9"
            if totals
            else f"  {variant.name}: no score"
        )
        found = change(view, i) if i and totals else None
        if found and found["points"]:
            gain = found["gain"]
            span = "" if gain["low"] is None else f" [{gain['low']:+.2f}, {gain['high']:+.2f}]"
            line += (
                f", {gain['estimate']:+.2f}{span} against {view.variants[0].name}; better, equal, worse: "
                f"{found['wins']}, {found['ties']}, {found['losses']}; broken {len(found['broken'])}, "
                f"mended {len(found['mended'])}"
            )
        lines.append(line)
    return "\n".join(lines + ([f"  Packed into {file}."] if file and view.done else []))
