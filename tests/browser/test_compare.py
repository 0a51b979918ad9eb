"""A stranger compares a pair in a real browser."""

import re
import time

from tests.browser.annotating import CHIPS, kept, settled, shown
from tests.browser.conftest import WAITING


def test_a_pair_is_stored_scored_and_shown_with_its_change_per_word(page, app, compare):
    compare(page, "a red circle above a blue square", "21")
    for side, method in (("none", "none"), ("projected", "projected")):
        digits = page.locator(f"#words-{side} .ws-digit").all_inner_texts()
        assert len(digits) == 6  # the words, and nothing else
        assert all(digit in "0123456789" for digit in digits)
        # the preview, which is larger, stands there until the image is read
        page.wait_for_function(
            "id => document.querySelector(`#image-${id} img`).naturalWidth === 64", arg=side
        )
        ((id, path),) = app.rows("SELECT id, image_path FROM samples WHERE seed = 21 AND method = ?", method)
        assert (app.home / path).is_file()
        stored = app.rows(
            "SELECT score FROM scores WHERE sample = ? AND source = 'vlm' ORDER BY word_index", id
        )
        assert [str(score) for (score,) in stored] == digits
    changes = page.locator("#words-projected .ws-change").all_inner_texts()
    assert len(changes) == 6
    assert all(re.fullmatch(r"▲ \+\d|▼ −\d|= 0", change) for change in changes)
    dim = page.locator("#words-none .ws-dim").all_inner_texts()
    assert dim == ["a", "a"]


def test_each_chip_says_its_word_and_score_to_a_screen_reader(page, compare):
    compare(page, "a green star", "3")
    names = [chip.get_attribute("aria-label") for chip in page.locator("#words-projected .ws-chip").all()]
    assert [name.split(":")[0] for name in names] == ["green", "star", "nothing else"]
    assert all(re.search(r"\d of 9, (expected \d\.\d, )?(as|up|down)", name) for name in names)


def test_the_detector_says_its_own_beside_the_vlm_where_the_prompt_is_of_its_world(page, compare):
    compare(page, "a red circle above a blue square", "22")
    for side in ("none", "projected"):
        page.locator(f"#detector-{side} .detector-line", has_text="Detector: ").wait_for()
    compare(page, "a red wombat", "22")
    page.locator("#run:not([disabled])").wait_for()
    assert page.locator("#detector-none .detector-line").inner_text() == ""


def test_the_best_of_several_noises_is_a_plain_image_and_says_of_which_seed(page, app, compare):
    page.locator("#noise input").click()
    page.get_by_role("option", name="best of 8").click()
    compare(page, "a green square", "23")
    page.locator("#image-projected", has_text="Best of several noises, of seed").wait_for()
    page.locator("#compare-note", has_text="The noise was chosen by the reward model").wait_for()
    assert {
        method for (method,) in app.rows("SELECT method FROM samples WHERE prompt = 'a green square'")
    } == {"none"}


def test_several_seeds_are_chosen_from_and_the_slider_shows_the_pair(page, compare):
    compare(page, "a blue square", "5, 6")
    choices = page.locator("#pair-seed label")
    assert [text.split()[0] for text in choices.all_inner_texts()[-2:]] == ["5", "6"]
    first = page.locator("#image-none img").get_attribute("src")
    choices.last.click()
    page.wait_for_function("old => document.querySelector('#image-none img').src !== old", arg=first)
    page.get_by_role("tab", name="Slider").click()
    page.locator("#pair-slider img").first.wait_for()


def test_a_comparison_is_there_again_after_a_reload(page, compare):
    compare(page, "a purple star", "31")
    before = page.locator("#words-none").inner_text()
    page.reload()
    page.locator("#words-none .ws-chip").first.wait_for()
    assert page.locator("#words-none").inner_text() == before
    assert page.locator("#prompt textarea").input_value() == "a purple star"
    assert page.locator("#seeds").locator("input, textarea").input_value() == "31"


def begin_long(page, prompt: str) -> None:
    """A comparison of eight seeds and a hundred steps, begun by keyboard; returns with its first preview."""
    page.locator("#steps input[type=number]").fill("100")
    page.locator("#steps input[type=number]").press("Tab")
    page.locator("#seeds").locator("input, textarea").fill("70-77")
    page.locator("#prompt textarea").fill(prompt)
    page.keyboard.press("Control+Enter")
    page.locator("#compare-progress", has_text=re.compile(r"Step [1-9]")).wait_for()


def test_stop_ends_a_long_comparison_and_keeps_nothing_of_it(page, app, compare):
    compare(page, "a green star", "32, 33")
    begin_long(page, "a yellow triangle")
    # The image that is made is not there to annotate, nor are the seeds before it its own. Looked at and stopped in one go,
    # since on a busy machine the images may else be there before a click is.
    page.wait_for_function(
        """() => {
            const there = (id) => document.querySelector(id)?.checkVisibility();
            if (!document.querySelector("#annotate-none")?.disabled || there("#pair-seed")) return false;
            document.querySelector("#stop").click();
            return true;
        }"""
    )
    page.locator("#compare-note", has_text="Stopped").wait_for()
    page.locator("#run:not([disabled])").wait_for()
    page.locator("#compare-note", has_text="Below is the comparison before it.").wait_for()
    assert page.locator("#words-none .ws-chip").first.is_visible()
    assert page.locator("#annotate-none").is_enabled() and page.locator("#pair-seed").is_visible()
    assert not page.locator("#first-example").is_visible()  # nothing is not what there is
    assert app.rows("SELECT count(*) FROM samples WHERE seed BETWEEN 70 AND 77") == [(0,)]


def test_what_a_reload_ended_is_in_the_fields_again_and_said(page, compare):
    compare(page, "a green star", "34")
    begin_long(page, "a yellow triangle")
    page.reload()
    page.locator("#compare-note", has_text="press Compare to make it again").wait_for()
    assert page.locator("#prompt textarea").input_value() == "a yellow triangle"
    assert page.locator("#seeds").locator("input, textarea").input_value() == "70-77"
    page.locator("#words-none .ws-chip", has_text="star").wait_for()
    page.reload()  # that was said once
    page.locator("#words-none .ws-chip", has_text="star").wait_for()
    assert page.locator("#prompt textarea").input_value() == "a green star"


def test_bad_input_is_answered_by_a_sentence(page, app):
    for prompt, seeds, said in (
        ("", "7", "prompt is empty"),
        ("a red circle", "seven", "'seven' is not a whole number"),
        ("a red circle", "1-99", "at most|give 1 to 8"),
        ("of the", "7", "no word that could be scored"),
    ):
        page.locator("#prompt textarea").fill(prompt)
        page.locator("#seeds").locator("input, textarea").fill(seeds)
        page.locator("#run").click()
        page.locator(".toast-body", has_text=re.compile(said)).wait_for()
        assert "Traceback" not in page.content()
        page.locator("#run:not([disabled])").wait_for()


def test_words_that_the_model_does_not_know_or_read_are_named(page, compare):
    compare(page, "a red wombat", "8")
    assert page.locator("#words-none .ws-chip", has_text="wombat").inner_text().count("unknown word") == 1
    assert "wombat" in page.locator("#compare-note").inner_text()
    compare(page, "a red circle " + "and a blue square " * 20, "8")
    assert page.locator("#words-none .ws-mark", has_text="not read").count() > 0


def test_keys_under_way_are_kept_when_another_image_is_opened(page, app, compare, call_me):
    compare(page, "a red circle above a blue square", "41")
    page.locator("#annotate-projected").click()
    page.locator(CHIPS).first.wait_for()
    call_me(page, "under way")
    sample, held, released = shown(page), [], []

    def keys(route) -> None:
        waits = '"operations"' in (route.request.post_data or "") and not released
        held.append(route) if waits else route.continue_()

    page.route("**/run/predict", keys)
    page.locator(CHIPS).first.focus()
    page.keyboard.type("370")
    page.get_by_role("tab", name="Compare").click()
    page.locator("#annotate-none").click()
    other = page.locator("#words-none .word-scores").get_attribute("data-sample")
    page.locator(f"#annotate-words [data-sample='{other}']").wait_for()
    released.append(True)
    for route in held:
        route.continue_()
    deadline = time.monotonic() + WAITING / 1000
    while len(kept(app, "under way")) < 3:
        assert time.monotonic() < deadline
        page.wait_for_timeout(50)  # not sleep: what the page asks of the test goes on meanwhile
    page.locator(CHIPS).first.focus()
    page.keyboard.press("8")
    settled(page)
    assert shown(page) == other
    assert set(kept(app, "under way")) == {
        (sample, "red", 3), (sample, "circle", 7), (sample, "above", 0), (other, "red", 8)
    }  # fmt: skip
