"""Corrections by keyboard and by finger, in a real browser, and what the store holds of them."""

from __future__ import annotations

import time
import zlib

import pytest

from tests.browser.conftest import WAITING

CHIPS = "#annotate-words [role=spinbutton]"
CORRECTIONS = """SELECT word, score FROM scores e WHERE source = 'human' AND who = ? AND kind = 'set' AND sample = ?
    AND NOT EXISTS (SELECT 1 FROM scores n WHERE n.supersedes = e.id) ORDER BY word_index"""


@pytest.fixture
def annotate(page, compare, call_me, request):
    """The page with a fresh image open in Annotate, under a name of this test's own."""
    seed = str(zlib.crc32(request.node.name.encode()) % 10**6 + 1000)
    compare(page, "a red circle above a blue square", seed)
    page.locator("#annotate-projected").click()
    page.locator(CHIPS).first.wait_for()
    page.seed, page.who = int(seed), request.node.name[:60]
    call_me(page, page.who)
    return page


def sample_of(app, page) -> str:
    return app.rows("SELECT id FROM samples WHERE seed = ? AND method = 'projected'", page.seed)[0][0]


def until(page, holds) -> None:
    deadline = time.monotonic() + WAITING / 1000
    while not holds():
        assert time.monotonic() < deadline
        page.wait_for_timeout(50)  # not sleep: what the page asks of the test goes on meanwhile


def settled(page) -> None:
    page.locator(".ws-state", has_text="Saved").wait_for()


def test_three_words_corrected_by_keyboard_are_in_the_store(annotate, app):
    annotate.locator(CHIPS).first.focus()
    annotate.keyboard.type("370")
    settled(annotate)
    found = app.rows(CORRECTIONS, annotate.who, sample_of(app, annotate))
    assert found == [("red", 3), ("circle", 7), ("above", 0)]
    assert annotate.locator(CHIPS).nth(3).evaluate("node => node === document.activeElement")
    annotate.get_by_role("button", name="My corrections").click()
    annotate.locator("#history tbody tr").nth(2).wait_for()
    assert annotate.locator("#history tbody tr").count() == 3


def test_keys_typed_as_fast_as_a_machine_can_are_all_kept_in_order(annotate, app):
    chips = annotate.locator(CHIPS)
    for digits in ("12345", "98765", "55555", "24680"):
        chips.first.focus()
        annotate.keyboard.type(digits)
    settled(annotate)
    found = app.rows(CORRECTIONS, annotate.who, sample_of(app, annotate))
    assert [score for _, score in found] == [2, 4, 6, 8, 0]


def test_undo_delete_and_the_arrows_do_what_the_keys_say(annotate, app):
    chips, sample = annotate.locator(CHIPS), sample_of(app, annotate)
    chips.first.focus()
    annotate.keyboard.type("58")
    annotate.keyboard.press("ArrowLeft")
    annotate.keyboard.press("Delete")
    settled(annotate)
    assert app.rows(CORRECTIONS, annotate.who, sample) == [("red", 5)]
    annotate.keyboard.press("Control+z")
    annotate.wait_for_function(
        "chips => document.querySelectorAll(chips)[1].classList.contains('ws-corrected')", arg=CHIPS
    )
    settled(annotate)
    assert app.rows(CORRECTIONS, annotate.who, sample) == [("red", 5), ("circle", 8)]
    annotate.keyboard.press("Home")
    annotate.keyboard.press("ArrowUp")
    settled(annotate)
    assert app.rows(CORRECTIONS, annotate.who, sample)[0] == ("red", 6)
    assert chips.first.get_attribute("aria-valuenow") == "6"


def test_a_finger_corrects_as_well_and_every_target_is_large_enough(annotate, app):
    annotate.locator(CHIPS).nth(2).click()
    annotate.locator(".ws-key", has_text="4").click()
    settled(annotate)
    assert app.rows(CORRECTIONS, annotate.who, sample_of(app, annotate)) == [("above", 4)]
    for target in annotate.locator(f"{CHIPS}, #annotate-words button").all():
        box = target.bounding_box()
        assert box["width"] >= 44
        assert box["height"] >= 44


def test_enter_submits_and_shows_another_image(annotate, app):
    sample = sample_of(app, annotate)
    before = annotate.locator("#annotate-image img").get_attribute("src")
    annotate.locator(CHIPS).first.focus()
    annotate.keyboard.press("9")
    annotate.keyboard.press("Enter")
    annotate.wait_for_function(
        "old => document.querySelector('#annotate-image img')?.src !== old", arg=before
    )
    assert app.rows("SELECT kind FROM submissions WHERE sample = ? AND who = ?", sample, annotate.who) == [
        ("submit",)
    ]
    assert app.rows(CORRECTIONS, annotate.who, sample) == [("red", 9)]


def test_a_reload_brings_back_the_person_the_image_and_the_corrections(annotate):
    annotate.locator(CHIPS).first.focus()
    annotate.keyboard.press("2")
    settled(annotate)
    before = [chip.inner_text() for chip in annotate.locator(CHIPS).all()]
    annotate.reload()
    annotate.get_by_role("tab", name="Annotate").click()
    annotate.locator(CHIPS).first.wait_for()
    assert [chip.inner_text() for chip in annotate.locator(CHIPS).all()] == before
    assert annotate.locator("#who").locator("input, textarea").input_value() == annotate.who


def test_keys_under_way_are_kept_when_another_image_is_opened(annotate, app):
    sample, held, released = sample_of(app, annotate), [], []

    def keys(route) -> None:
        waits = '"operations"' in (route.request.post_data or "") and not released
        held.append(route) if waits else route.continue_()

    annotate.route("**/run/predict", keys)
    annotate.locator(CHIPS).first.focus()
    annotate.keyboard.type("370")
    annotate.get_by_role("tab", name="Compare").click()
    annotate.locator("#annotate-none").click()
    other = annotate.locator("#words-none .word-scores").get_attribute("data-sample")
    annotate.locator(f"#annotate-words [data-sample='{other}']").wait_for()
    released.append(True)
    for route in held:
        route.continue_()
    until(annotate, lambda: len(app.rows(CORRECTIONS, annotate.who, sample)) == 3)
    assert app.rows(CORRECTIONS, annotate.who, sample) == [("red", 3), ("circle", 7), ("above", 0)]
    annotate.locator(CHIPS).first.focus()
    annotate.keyboard.press("8")
    settled(annotate)
    assert annotate.locator("#annotate-words .word-scores").get_attribute("data-sample") == other
    assert app.rows(CORRECTIONS, annotate.who, other) == [("red", 8)]


def test_the_question_mark_shows_the_keys(annotate):
    annotate.locator(CHIPS).first.focus()
    assert not annotate.locator(".ws-help").is_visible()
    annotate.keyboard.press("?")
    assert annotate.locator(".ws-help").is_visible()
