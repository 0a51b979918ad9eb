"""Grids of the page Seeds: a prompt with its axes, and a sample for each cell.

A grid's prompt and axes (``config``) are fixed; its state and cells change while it is worked on. A cell is one of the store's
samples like any other, and may be in several grids.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from sqlite_utils import Database

from data.store import checks
from data.store.database import Records, exists, insert, need, new_id, now
from data.store.runs import ACTIVE
from data.store.samples import need_sample
from data.store.schema import RUN_STATES

MOST_CELLS = 100_000


def need_grid(db: Database, id: Any) -> dict[str, Any]:
    """A grid as the store returns it; ValueError where there is none."""
    grid = need(db, "grids", id)
    return {**grid, "config": json.loads(grid["config"])}


class Grids(Records):
    def add(self, config: Mapping[str, Any], who: str, id: str | None = None) -> str:
        """Add a queued grid; returns its id. ``config``: its prompt and axes, as a dict that can be JSON."""
        if not isinstance(config, Mapping):
            raise ValueError(f"A grid's config must be a dict, not {checks.shown(config)}.")
        id = new_id()[:12] if id is None else checks.identifier("grid", id)
        record = {"id": id, "config": checks.as_json("config", dict(config)), "who": checks.text("who", who)}
        with self.database.writing() as db:
            if exists(db, "grids", id):
                raise ValueError(f"There is a grid {id} already; give another id.")
            insert(db, "grids", {**record, "state": "queued", "created": now()})
        return id

    def update(self, id: str, state: str, message: str = "") -> dict[str, Any]:
        """Change the state; a grid that ends gets its ``finished`` time. One that is done may be queued again."""
        state = checks.one_of("state", state, RUN_STATES)
        message = checks.text("message", message, 2000, empty=True)
        with self.database.writing() as db:
            need_grid(db, id)
            finished = None if state in ACTIVE else now()
            sql = "UPDATE grids SET state = ?, message = ?, finished = ? WHERE id = ?"
            db.execute(sql, (state, message, finished, id))
            return need_grid(db, id)

    def get(self, id: str) -> dict[str, Any]:
        """{seq, id, config, who, state, message, created, finished}; ValueError where there is none."""
        with self.database.reading() as db:
            return need_grid(db, id)

    def find(
        self, state: str | None = None, limit: int = 20, offset: int = 0, prompt: str | None = None
    ) -> list[dict[str, Any]]:
        """Grids as ``get`` returns them, newest first, each with ``made``: how many of its cells have a sample."""
        values = {
            "state": None if state is None else checks.one_of("state", state, RUN_STATES),
            "prompt": None if prompt is None else checks.text("prompt", prompt, checks.PROMPT_LENGTH),
            "limit": checks.integer("limit", limit, 0, 1_000_000),
            "offset": checks.integer("offset", offset, 0, 2**62),
        }
        sql = """SELECT g.*, (SELECT count(*) FROM cells c WHERE c.grid = g.id) AS made FROM grids g
            WHERE (:state IS NULL OR state = :state)
                AND (:prompt IS NULL OR json_extract(config, '$.prompt') = :prompt)
            ORDER BY seq DESC LIMIT :limit OFFSET :offset"""
        return [{**grid, "config": json.loads(grid["config"])} for grid in self.rows(sql, values)]

    def set_cells(self, grid: str, samples: Mapping[int, str]) -> None:
        """Set the samples at these places, or replace those whose image was deleted. All or none."""
        with self.database.writing() as db:
            need_grid(db, grid)
            for place, sample in samples.items():
                checks.integer("place", place, 0, MOST_CELLS - 1)
                need_sample(db, sample)
            cells = ({"grid": grid, "place": place, "sample": sample} for place, sample in samples.items())
            db.table("cells").upsert_all(cells, pk=("grid", "place"))

    def cells(self, grid: str) -> dict[int, str]:
        """The samples of a grid by place, in order."""
        with self.database.reading() as db:
            need_grid(db, grid)
            cells = db.execute("SELECT place, sample FROM cells WHERE grid = ? ORDER BY place", (grid,))
            return dict(cells.fetchall())

    def cells_made(self, grid: str) -> int:
        """Number of places of a grid that have a sample."""
        return self.value("SELECT count(*) FROM cells WHERE grid = ?", (grid,))

    def cells_waiting(self) -> int:
        """Number of images still to be made for active grids."""
        states = ", ".join(f"'{state}'" for state in ACTIVE)
        sql = f"""SELECT coalesce(sum(max(0, json_array_length(config, '$.seeds') * json_array_length(config, '$.variants')
            - (SELECT count(*) FROM cells c WHERE c.grid = g.id))), 0) FROM grids g WHERE state IN ({states})"""
        return self.value(sql)
