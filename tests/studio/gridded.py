"""What the tests of grids share: a grid that is made and has ended."""

from studio.grids.grid import check_grid
from tests.tiny import STEPS

PROMPT = "a red circle above a blue square"
LONG = 60.0


def grid_of(studio, seeds="1-2", wait=True, **given):
    """A grid that was made, or with wait=False its id."""
    id = studio.grids.start(check_grid(PROMPT, seeds, **{"steps": STEPS, **given}), "ann")
    return ended(studio, id) if wait else id


def ended(studio, id):
    assert studio.grids.work.wait(id, LONG)
    return studio.grids.get(id)


def samples_of(view):
    return [cell.sample.id if cell.sample else None for cell in view.cells]
