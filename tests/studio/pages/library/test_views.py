"""What the Library shows of a sample, as HTML."""

from __future__ import annotations

import pytest

from studio.pages.library import views as library_views


@pytest.mark.parametrize("field", ["kind", "text", "who", "created"])
def test_nothing_of_a_remark_is_markup(field):
    remark = {"kind": "note", "text": "two", "who": "ann", "created": "2026-01-02T03:04:05.000000Z"}
    html = library_views.remarks([{**remark, field: "<img src=x>"}])
    assert "<img" not in html and "&lt;img src=x&gt;" in html
