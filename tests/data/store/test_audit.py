"""The audit log keeps what was done, in order, and never changes."""

from __future__ import annotations

import pytest

from data.store import StoreError


def test_lines_come_back_newest_first_with_their_detail(store):
    store.audit.note("ann", "import", "labels.jsonl", {"samples": 3})
    store.audit.note("", "backup")
    first, second = store.audit.entries()
    assert (first["who"], first["action"], first["detail"]) == ("", "backup", {})
    assert (second["who"], second["subject"], second["detail"]) == ("ann", "labels.jsonl", {"samples": 3})
    assert store.audit.entries(limit=1, offset=1) == [second]


def test_a_line_is_never_changed_or_deleted(store):
    store.audit.note("ann", "export")
    for change in ("UPDATE audit SET who = 'bob'", "DELETE FROM audit"):
        with pytest.raises(StoreError), store.database.writing() as db:
            db.execute(change)


@pytest.mark.parametrize("given", [("ann", ""), ("ann", "x" * 200), (7, "export")])
def test_what_is_no_line_is_refused(store, given):
    with pytest.raises(ValueError):
        store.audit.note(*given)
