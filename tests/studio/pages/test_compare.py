"""What Compare says of a pair, why a side of it is empty, and what it asks again after a reload."""

from __future__ import annotations

from core.words import MAX_PROMPT
from studio.components import notices
from studio.images.views import Pair, SampleView, WordView
from studio.pages import compare


def view(total: float | None, path: str | None = "there.png", scored: int = 1) -> SampleView:
    words = [WordView(at, "word", "object", True, score=5) for at in range(scored)]
    return SampleView("id", "a prompt", 1, "projected", 1.0, 2, 4.0, path, words, total)


def test_a_change_has_its_direction_in_a_sign_as_well_and_none_is_no_plus_nought():
    assert "▲ +1.5" in compare.total(view(6.5), view(5.0))
    assert "▼ −1.5" in compare.total(view(5.0), view(6.5))
    assert "= 0" in compare.total(view(5.0), view(5.0))
    said = compare.summary([Pair(1, view(5.0), view(5.0)), Pair(2, view(5.0), view(5.01))])
    assert "over 2 seeds the projector does not change the mean score: better on 0, worse on 0." in said
    assert compare.gain(Pair(1, view(5.0), view(6.0, scored=2))) is None  # means of other words
    assert compare.summary([Pair(1, view(5.0), None)]) == ""


def test_prompt_and_seeds_come_back_as_they_were_asked_and_anything_else_as_nothing():
    asked = ["a red star", "7, 8", "blurred", "DDIMScheduler", ["style.safetensors:0.5"], True]
    assert compare.interrupted(asked) == asked
    assert len(compare.interrupted(["x" * 5000, *asked[1:]])[0]) == MAX_PROMPT
    for kept in (None, "a red star", [], ["a red star"], ["a red star", 7], {"prompt": "a"}):
        assert compare.interrupted(kept) == []


def test_an_empty_side_says_why_and_what_to_do():
    assert compare.ALONE in compare.total(None)
    assert "expected score" in compare.total(view(5.0))  # the mean is not that of the digits
    gone = compare.total(view(5.0, path=None))
    assert compare.GONE in gone
    assert 'role="alert"' in gone
    assert "Mean score" in gone


def test_every_notice_is_text_and_never_markup():
    hostile = '<img src=x onerror="alert(1)">${1}'
    for made in (
        notices.notice(hostile),
        notices.waiting(hostile),
        notices.empty(hostile),
        notices.head(hostile, hostile),
    ):
        assert "<img" not in made
    assert notices.notice("") == notices.waiting("") == ""
