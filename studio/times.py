"""How a time of the store is said, on the pages and by the command line."""

from __future__ import annotations


def moment(created: object) -> str:
    """A time of the store, which is UTC, to the minute: 2026-01-02 03:04 UTC. The one place that says the zone."""
    return f"{str(created)[:16].replace('T', ' ')} UTC"
