"""The chip of *nothing else*, after the words: another look, the same keys; images of before lack it."""

import pytest

from data.store import Store
from tests.browser.annotating import CHIPS, VLM, annotating, digits, enter, kept, moved, settled, shown

LAST = f"{CHIPS}.ws-extra"


@pytest.fixture(scope="module")
def app(tmp_path_factory, model_folder):
    """Two images with *nothing else*, and one, the newest, that was stored before there was any."""
    with annotating(tmp_path_factory.mktemp("else"), model_folder, 2, whole=True) as running:
        store = Store(running.home / "studio.db")
        row = {k: v for k, v in store.samples.find(limit=1)[0].items() if k != "seq"}
        store.samples.add([{**row, "id": "before", "seed": 77, "n_words": 7}])
        for word in ((1, "red"), (2, "circle")):
            store.scores.add([{"sample": "before", "word_index": word[0], "word": word[1], "source": "vlm", "score": VLM}])  # fmt: skip
        yield running


def test_it_stands_after_the_words_in_a_look_of_its_own_and_takes_their_keys(browse, app):
    page = enter(browse, app, "ann")
    if shown(page) == "before":
        page.keyboard.press("s")
        moved(page, "before")
    sample, chip = shown(page), page.locator(LAST)
    assert page.locator(CHIPS).count() == 6
    assert page.locator(CHIPS).last.get_attribute("aria-label") == "nothing else"
    assert "nobody" not in chip.get_attribute("title") and "whole image" in chip.get_attribute(
        "aria-valuetext"
    )
    look = (
        "e => [getComputedStyle(e).borderTopStyle, getComputedStyle(e.querySelector('.ws-word')).fontStyle]"
    )
    assert chip.evaluate(look) == ["double", "italic"]
    assert page.locator(CHIPS).first.evaluate(look) == ["solid", "normal"]

    page.keyboard.press("End")
    page.keyboard.press("3")
    settled(page)
    assert kept(app, "ann") == [(sample, "nothing else", 3)]
    page.keyboard.press("ArrowDown")
    settled(page)
    assert kept(app, "ann") == [(sample, "nothing else", 2)]
    page.keyboard.press("Delete")
    settled(page)
    assert kept(app, "ann") == [] and digits(page)[-1] == str(VLM)
    page.keyboard.press("u")
    settled(page)
    assert kept(app, "ann") == [(sample, "nothing else", 2)]
    page.keyboard.press("Delete")
    page.keyboard.press("a")
    settled(page)
    said = {word: score for _, word, score in kept(app, "ann")}
    assert said["nothing else"] == VLM and len(said) == 6


def test_blind_mode_hides_it_until_it_is_scored(browse, app):
    page = enter(browse, app, "bob", blind=True)
    if shown(page) == "before":
        page.keyboard.press("s")
        moved(page, "before")
    assert page.locator(f"{LAST} .ws-digit").text_content() == "?"
    page.keyboard.press("End")
    page.keyboard.press("9")
    settled(page)
    assert page.locator(f"{LAST} .ws-digit").text_content() == "9"
    assert {(word, score) for _, word, score in kept(app, "bob")} == {("nothing else", 9)}


def test_an_image_of_before_has_the_chips_of_its_words_alone(browse, app):
    page = enter(browse, app, "eve")
    for _ in range(3):
        if shown(page) == "before":
            break
        sample = shown(page)
        page.keyboard.press("s")
        moved(page, sample)
    assert shown(page) == "before"
    assert page.locator(CHIPS).count() == 5 and page.locator(LAST).count() == 0
