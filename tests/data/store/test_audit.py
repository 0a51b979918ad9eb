"""The audit log keeps what was done, in order, and never changes."""

import pytest


def test_lines_come_back_newest_first_with_their_detail(store):
    store.audit.note("ann", "import", "labels.jsonl", {"samples": 3})
    store.audit.note("", "backup")
    first, second = store.audit.entries()
    assert (first["who"], first["action"], first["detail"]) == ("", "backup", {})
    assert (second["who"], second["subject"], second["detail"]) == ("ann", "labels.jsonl", {"samples": 3})
    assert store.audit.entries(limit=1, offset=1) == [second]


@pytest.mark.parametrize("given", [("ann", ""), ("ann", "x" * 200), (7, "export")])
def test_what_is_no_line_is_refused(store, given):
    with pytest.raises(ValueError):
        store.audit.note(*given)
