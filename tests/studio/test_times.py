"""A time is said the same on every page and by every command."""

from __future__ import annotations

from studio.times import moment


def test_a_time_says_its_zone():
    assert moment("2026-01-02T03:04:05.678Z") == "2026-01-02 03:04 UTC"
