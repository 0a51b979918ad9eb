"""The change of a name, as it goes over the page: both names in one value."""

from __future__ import annotations

from studio.pages.people import read_names


def test_both_names_of_a_change_come_together():
    assert read_names({"before": "key:anonymous-1", "after": "key:Ann"}) == ("key:anonymous-1", "key:Ann")
    for value in (None, [], "x", {}, {"before": 7, "after": ["Ann"]}):
        assert read_names(value) == (None, None)
