"""Grids of the page Seeds: a question (a prompt and its axes) and the samples that answer it, cell by cell.

A grid's question is fixed when it is made; its state and its cells change as the work goes on. A sample may be a cell
of several grids, and is one of the store's samples like any other.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from sqlite_utils import Database

from data.store import checks
from data.store.database import Records, insert, new_id, now, row, rows
from data.store.samples import need_sample

GRID_STATES = ("queued", "running", "stopped", "interrupted", "done", "failed")
GRID_ACTIVE = ("queued", "running")
MOST_CELLS = 100_000


def need_grid(db: Database, grid: Any) -> dict[str, Any]:
    found = row(db, "SELECT * FROM grids WHERE id = ?", (checks.identifier("grid", grid),))
    if not found:
        raise ValueError(f"There is no grid {grid} in this store; choose one that is listed.")
    return {**found, "config": json.loads(found["config"])}


class Grids(Records):
    def add(self, config: Mapping[str, Any], who: str, id: str | None = None) -> str:
        """A queued grid; its id. ``config`` is the question, as a dict that JSON has."""
        if not isinstance(config, Mapping):
            raise ValueError(f"A grid's config must be a dict, not {checks.shown(config)}.")
        record = {
            "id": new_id()[:12] if id is None else checks.identifier("grid", id),
            "config": checks.as_json("config", dict(config)),
            "who": checks.text("who", who),
            "state": "queued",
            "created": now(),
        }
        with self.database.writing() as db:
            if row(db, "SELECT 1 FROM grids WHERE id = ?", (record["id"],)):
                raise ValueError(f"There is a grid {record['id']} already; give another id.")
            insert(db, "grids", record)
        return record["id"]

    def update(self, id: str, state: str, message: str = "") -> dict[str, Any]:
        """Change the state; one that is not active is given its time. A grid that is done may be queued again, for an
        image that has gone."""
        state = checks.one_of("state", state, GRID_STATES)
        message = checks.text("message", message, 2000, empty=True)
        with self.database.writing() as db:
            need_grid(db, id)
            finished = None if state in GRID_ACTIVE else now()
            db.execute(
                "UPDATE grids SET state = ?, message = ?, finished = ? WHERE id = ?",
                (state, message, finished, id),
            )
            return need_grid(db, id)

    def get(self, id: str) -> dict[str, Any]:
        """{seq, id, config, who, state, message, created, finished}; ValueError where there is none."""
        with self.database.reading() as db:
            return need_grid(db, id)

    def find(
        self, state: str | None = None, limit: int = 20, offset: int = 0, prompt: str | None = None
    ) -> list[dict[str, Any]]:
        """Grids as ``grid`` has them, the newest first, each with ``made``: how many of its cells have a sample."""
        values = {
            "state": None if state is None else checks.one_of("state", state, GRID_STATES),
            "prompt": None if prompt is None else checks.text("prompt", prompt, checks.PROMPT_LENGTH),
            "limit": checks.integer("limit", limit, 0, 1_000_000),
            "offset": checks.integer("offset", offset, 0, 2**62),
        }
        with self.database.reading() as db:
            found = rows(
                db,
                """SELECT g.*, (SELECT count(*) FROM cells c WHERE c.grid = g.id) AS made FROM grids g
                WHERE (:state IS NULL OR state = :state)
                    AND (:prompt IS NULL OR json_extract(config, '$.prompt') = :prompt)
                ORDER BY seq DESC LIMIT :limit OFFSET :offset""",
                values,
            )
        return [{**grid, "config": json.loads(grid["config"])} for grid in found]

    def set_cells(self, grid: str, samples: Mapping[int, str]) -> None:
        """The samples at these places; what stood there before (its image has gone) is replaced. All or none."""
        with self.database.writing() as db:
            need_grid(db, grid)
            for place, sample in samples.items():
                checks.integer("place", place, 0, MOST_CELLS - 1)
                need_sample(db, sample)
                db.execute(
                    """INSERT INTO cells (grid, place, sample) VALUES (?, ?, ?)
                    ON CONFLICT (grid, place) DO UPDATE SET sample = excluded.sample""",
                    (grid, place, sample),
                )

    def cells(self, grid: str) -> dict[int, str]:
        """The samples of a grid by their places, in order."""
        with self.database.reading() as db:
            need_grid(db, grid)
            found = rows(db, "SELECT place, sample FROM cells WHERE grid = ? ORDER BY place", (grid,))
        return {cell["place"]: cell["sample"] for cell in found}

    def cells_made(self, grid: str) -> int:
        """How many places of a grid have a sample."""
        with self.database.reading() as db:
            return int(db.execute("SELECT count(*) FROM cells WHERE grid = ?", (grid,)).fetchone()[0])

    def cells_waiting(self) -> int:
        """How many images the grids that wait or are worked on are still to have."""
        states = ", ".join(f"'{state}'" for state in GRID_ACTIVE)
        with self.database.reading() as db:
            found = db.execute(
                f"""SELECT coalesce(sum(max(0, json_array_length(config, '$.seeds') * json_array_length(config, '$.variants')
                    - (SELECT count(*) FROM cells c WHERE c.grid = g.id))), 0) FROM grids g WHERE state IN ({states})"""
            )
            return int(found.fetchone()[0])

    def of(self, sample: str) -> list[str]:
        """The ids of the grids that a sample is a cell of, the newest first."""
        with self.database.reading() as db:
            found = rows(
                db,
                """SELECT DISTINCT g.id, g.seq FROM cells c JOIN grids g ON g.id = c.grid WHERE c.sample = ?
                ORDER BY g.seq DESC""",
                (checks.identifier("sample", sample),),
            )
        return [grid["id"] for grid in found]
