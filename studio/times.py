"""Times of the store as text, for pages and the command line."""

from __future__ import annotations


def moment(created: object) -> str:
    """A time of the store, which is UTC, to the minute: 2026-01-02 03:04 UTC."""
    return f"{str(created)[:16].replace('T', ' ')} UTC"
