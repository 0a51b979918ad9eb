"""The command that makes a grid of images: `python -m studio grid PROMPT`."""

import contextlib
from typing import TYPE_CHECKING, Annotated, Any

from studio.cli.commands import person
from studio.cli.console import Console
from studio.doors import PROGRAM, Loras, Negative, Result, Scheduler, Weighted, command
from studio.numbers import plain

if TYPE_CHECKING:
    from studio.grids.grid import GridView
    from studio.studio import Studio

LOOK = 0.2  # seconds between looks at a grid that is on


@command()
def grid(
    studio: "Studio",
    console: Console,
    prompt: Annotated[str | None, "what the images should show"] = None,
    *,
    seeds: Annotated[str, "seeds and ranges: 1-16, 40, 50-60 (+5)"] = "1-8",
    methods: Annotated[str, "none, projected, projected:RUN, pag, pag+projected, ..."] = "none,projected",
    strengths: Annotated[str, "of what is projected: 0,0.5,1 or 0-1 (+0.25)"] = "1",
    guidance: Annotated[str, "likewise; without it STUDIO_GUIDANCE, else the backbone's own"] = "",
    steps: Annotated[str, "likewise; without it STUDIO_STEPS, else the backbone's own"] = "",
    negative: Negative = None,
    scheduler: Scheduler = None,
    loras: Loras = "",
    weighted: Weighted = False,
    zip: Annotated[str | None, "pack the images, with their text, and a manifest into this file"] = None,
    resume: Annotated[
        str | None, "the id of a grid that was stopped, interrupted or has failed, to resume"
    ] = None,
    who: Annotated[str | None, "who asks; without it the account's name"] = None,
) -> Result:
    """Make images of a prompt, seeds x variants, score them, and say what each variant changes."""
    from studio.grids.grid import check_grid
    from studio.images.options import read_options

    name = person(who)
    if bool(resume) == bool(prompt):
        raise ValueError("Give a prompt, or go on with a grid by --resume ID.")
    if resume:
        id = resume
        studio.grids.resume(id, name)
    else:
        prompt, options = read_options(studio.settings, prompt, negative, scheduler, loras, weighted)
        asked = check_grid(prompt, seeds, methods, strengths, guidance, steps, options=options)
        id = studio.grids.start(asked, name)
    total, count = studio.grids.request(id).total, console.count("images")
    while not studio.grids.work.wait(id, LOOK):
        count(studio.store.grids.cells_made(id), total)
        if console.stop.is_set():
            with contextlib.suppress(ValueError):  # it may have ended meanwhile
                studio.grids.stop(id, name)
    view, again = studio.grids.get(id), f"{PROGRAM} grid --resume {id}"
    count(view.done, total)
    if view.state == "failed":
        raise ValueError(f"{view.message} `{again}`")
    if zip and view.done:
        studio.grid_files.zip(id, zip)
    data = {**plain(view), "change": [change(view, other) for other in range(1, len(view.variants))]}
    return Result(data, described(view, zip), again if view.state == "stopped" else "")


def change(view: "GridView", other: int) -> dict[str, Any]:
    """What changes from a grid's first variant to another one."""
    from studio.grids.grid import grid_change

    return {"variant": view.variants[other].name, **grid_change(view, 0, other)}


def described(view: "GridView", file: str | None) -> str:
    """A grid in a few lines."""
    lines = [f"Grid {view.id}: {view.done} of {view.total} images are there."]
    for i, variant in enumerate(view.variants):
        scored = [cell.sample.total for cell in view.cells if cell.variant == i and cell.sample]
        totals = [total for total in scored if total is not None]
        mean = f"{sum(totals) / len(totals):.2f} of 9" if totals else "no score"
        line = f"  {variant.name}: {mean}"
        effect = change(view, i) if i and totals else None
        if effect and effect["points"]:
            gain = effect["gain"]
            span = "" if gain["low"] is None else f" [{gain['low']:+.2f}, {gain['high']:+.2f}]"
            line += (
                f", {gain['estimate']:+.2f}{span} against {view.variants[0].name}; better, equal, worse: "
                f"{effect['wins']}, {effect['ties']}, {effect['losses']}; broken {len(effect['broken'])}, "
                f"mended {len(effect['mended'])}"
            )
        lines.append(line)
    return "\n".join(lines + ([f"  Packed into {file}."] if file and view.done else []))
