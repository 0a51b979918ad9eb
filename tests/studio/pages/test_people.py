"""The change of a name, as it goes over the page: both names in one value."""

from __future__ import annotations

import pytest

from studio.pages.people import read_names


def test_both_names_of_a_change_come_together():
    assert read_names({"before": "key:anonymous-1", "after": "key:Ann"}) == ("key:anonymous-1", "key:Ann")


@pytest.mark.parametrize("value", [None, [], "x", {}, {"before": 7, "after": ["Ann"]}])
def test_what_no_page_of_ours_would_send_is_no_name(value):
    assert read_names(value) == (None, None)
