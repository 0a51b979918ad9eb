"""What was asked before a reload is read as it is, and what is none of that is left alone."""

import pytest

from studio.pages import reloaded


def test_prompt_and_seeds_come_back_as_they_were_asked():
    assert reloaded.read(["a red star", "7, 8"]) == ["a red star", "7, 8"]
    assert len(reloaded.read(["x" * 5000, "7"])[0]) == reloaded.LONGEST


@pytest.mark.parametrize("kept", [None, "a red star", [], ["a red star"], ["a red star", 7], {"prompt": "a"}])
def test_anything_else_that_a_browser_keeps_counts_as_nothing(kept):
    assert reloaded.read(kept) == []
