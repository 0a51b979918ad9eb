"""The selection of an annotator as the browser keeps it, what filters offer, and counts that are not counted on every key."""

from __future__ import annotations

from studio.annotation.labelling import orders
from studio.pages.annotate import queue
from studio.pages.annotate.queue import (
    WISHES,
    Counts,
    Selection,
    choices,
    progress,
    read_selection,
    selection_of,
)
from tests.tiny import change_settings


def test_a_wish_comes_back_as_it_was_made_and_what_no_page_of_ours_would_keep_as_nothing():
    made = selection_of("newest", True, *("shapes" if name == "prompt_set" else "" for name in WISHES))
    assert read_selection(made) == Selection("newest", True, {"prompt_set": "shapes"})
    for kept in (None, [], "x", {"order": "alphabet"}, {"blind": "yes"}, {"prompt": 7}, {"split": "heldout"}):
        assert read_selection(kept) == Selection()


def test_every_order_has_a_name_and_a_reason_and_prompt_stays_with_one_until_it_is_done(scored):
    for order in orders():
        assert order in queue.ORDERS
        assert scored.annotation.why_next(order).startswith("Queue order: ")
    first = scored.annotation.next("Ann", "prompt")
    scored.annotation.submit(first.id, "Ann")
    second = scored.annotation.next("Ann", "prompt", exclude=first.id)
    assert second.prompt == first.prompt
    scored.annotation.submit(second.id, "Ann")
    assert scored.annotation.next("Ann", "prompt", exclude=second.id).prompt != first.prompt


def test_the_overlap_of_the_settings_bounds_how_many_are_given_an_image(scored):
    change_settings(scored, overlap=2)
    first, second, third = (scored.annotation.next(who).id for who in ("Ann", "Bea", "Cyd"))
    assert first == second != third


def test_filters_offer_what_the_store_has_and_everything(scored):
    assert choices(scored, "prompt_set") == [("all", ""), ("shapes", "shapes")]
    assert choices(scored, "method") == [("all", ""), ("no projector", "none")]
    assert len(choices(scored, "prompt")) == 7
    assert ("count", "count") in choices(scored, "kind")


def test_counts_are_taken_again_only_after_a_while(scored, monkeypatch):
    counts, item = Counts(scored), scored.annotation.next("Ann")
    assert counts.of("Ann", Selection())["left"] == 12
    scored.annotation.submit(item.id, "Ann")
    assert counts.of("Ann", Selection())["mine"] == 0
    assert counts.of("Bea", Selection())["all"] == 1
    monkeypatch.setattr(queue, "FRESH", 0.0)
    assert counts.of("Ann", Selection())["mine"] == 1


def test_progress_says_mine_all_left_and_the_rate():
    found = {"mine": 3, "all": 5, "left": 9, "per_hour": 61.2}
    assert "3 done by Ann · 5 by all · 9 left for Ann · 61 images an hour" in progress(found, "Ann", False)
    assert "of the images that you chose" in progress(found, "anonymous-0123456789ab", True)
    assert "<img" not in progress(found, "<img src=x>", False)
    assert progress({"mine": 0, "all": 0, "left": 0, "per_hour": None}, "Ann", False) == ""
