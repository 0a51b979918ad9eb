"""A time is said the same on every page and by every command."""

from __future__ import annotations

from types import SimpleNamespace

from studio.cli import commands, exchange
from studio.times import moment

CREATED = "2026-01-02T03:04:05.678Z"


def test_a_time_says_its_zone():
    assert moment(CREATED) == "2026-01-02 03:04 UTC"


def test_the_listings_of_the_command_line_say_the_zone():
    run = {"id": "r", "kind": "reward", "state": "done", "promoted": False, "created": CREATED}
    line = {"created": CREATED, "who": "ann", "action": "backup", "subject": "x.db"}
    store = SimpleNamespace(
        people=SimpleNamespace(find=lambda: [{"name": "ann", "created": CREATED}]),
        audit=SimpleNamespace(entries=lambda limit: [line]),
    )
    runs = [run | {"message": "", "metrics": None}]
    studio = SimpleNamespace(store=store, runs=SimpleNamespace(find=lambda **asked: runs))
    said = [work(studio).text for work in (commands.runs, commands.people, exchange.audit)]
    assert said == [
        "r  reward  done  2026-01-02 03:04 UTC",
        "2026-01-02 03:04 UTC  ann",
        "2026-01-02 03:04 UTC  'ann'  backup  'x.db'",
    ]
