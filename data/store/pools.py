"""Pools: the samples that are alike in all that the queue is filtered by, but for their prompts, and how many they are.

A trigger counts them (``schema``), so whether a filter leaves few samples, or none, is known without a look at
any of them, and those that it leaves are found on an index, pool by pool.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sqlite_utils import Database

from data.store.samples import named_filter

COLUMNS = ("split", "prompt_set", "method", "backbone", "projector_run")

# The samples s of a pool p, in the order of their arrival; a pool without a run has '' for one.
OF_POOL = """s.split = p.split AND s.prompt_set = p.prompt_set AND s.method = p.method AND s.backbone = p.backbone
    AND s.projector_run IS nullif(p.projector_run, '')"""
SAMPLES = f"pools p CROSS JOIN samples s INDEXED BY samples_pool ON {OF_POOL}"


def pool_filter(filters: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    """SQL and named values that choose pools, on a table called ``p``; all where no filter is a pool's."""
    given = {name: filters[name] for name in COLUMNS if filters.get(name) is not None}
    where, values = named_filter(given, "p")
    where = where.replace("s.", "p.")
    return where + (" AND p.projector_run <> ''" if "projector_run" in given else ""), values


def count(db: Database, where: str, values: Mapping[str, Any]) -> int:
    """How many samples are in the pools that were chosen."""
    return db.execute(f"SELECT coalesce(sum(samples), 0) FROM pools p WHERE {where}", values).fetchone()[0]
