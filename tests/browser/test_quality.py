"""The page Quality in a real browser: empty, with one and with two annotators, gold set and taken back, pictures opened."""

import pytest

from core.words import split
from tests.browser.annotating import CHIPS, fill, shown
from tests.browser.conftest import call_me, ready, serving, tab

GOLD = "SELECT word, score, who FROM gold ORDER BY seq"


@pytest.fixture(scope="module")
def judged(tmp_path_factory, model_folder):
    """An app of its own: what others annotate must not change the figures."""
    home = tmp_path_factory.mktemp("quality") / "home"
    with serving(home, model_folder, STUDIO_EXAMPLES="none") as running:
        yield running


def say(store, who: str, shift: int = 0) -> None:
    """This person scores every word of the samples; a shift is what they say more of colours."""
    for place, row in enumerate(store.samples.find(split="train", newest=False)):
        for word in (word for word in split(row["prompt"]) if word.scored):
            score = (3 * place + word.index) % 10 + shift * (word.kind == "colour")
            store.scores.set(row["id"], word.index, min(9, score), who, word=word.text)
        store.queue.submit(row["id"], who)


def test_nobody_one_person_and_two_are_each_told_what_there_is_and_a_disagreement_is_opened(browse, judged):
    page = browse(judged.url)
    tab(page, "Quality")
    page.get_by_text("No person has scored a word yet.", exact=False).first.wait_for()
    assert "gold score where it has one" in page.locator("#label-rule").inner_text()
    page.locator("#quality-to-annotate").click()
    page.locator("#to-compare").click()  # nothing is there to correct
    page.locator("#run").wait_for()

    store = fill(judged.home, 6)
    say(store, "Ann")
    tab(page, "Quality")
    page.locator("#quality-again").click()
    page.locator("#quality-verdict", has_text="alpha needs two. Let a second person").wait_for()
    say(store, "<b>Bob</b>", shift=3)
    page.locator("#quality-again").click()
    page.locator("#quality-verdict .quality-alpha").wait_for()
    page.locator("#quality-kinds tr", has_text="object").locator(".badge", has_text="too few").wait_for()
    page.locator("#quality-alphas .js-plotly-plot").wait_for()
    page.locator("#quality-matrix .js-plotly-plot").wait_for()
    assert page.locator("#quality-pairs tbody tr").count() == 1
    assert "<b>Bob</b> and Ann" in page.locator("#quality-pairs").inner_text()

    tab(page, "People")
    page.locator("#quality-people tr", has_text="<b>Bob</b>").click()
    page.locator("#quality-person h3", has_text="<b>Bob</b>").wait_for()
    page.locator("#quality-scores .js-plotly-plot").wait_for()
    assert page.locator("#quality-against tbody tr").first.inner_text().startswith("all words")
    page.locator("#quality-gallery button").first.click()
    page.locator(CHIPS).first.wait_for()


def test_a_disagreement_is_settled_and_taken_back_and_an_open_image_given_gold(browse, judged):
    page = browse(judged.url)
    ready(page)
    tab(page, "Quality")
    tab(page, "Gold")
    page.locator("#gold-here").click()
    page.locator(".toast-body", has_text="No image is open in Annotate").wait_for()
    tab(page, "Annotate")
    page.locator(CHIPS).first.wait_for()
    call_me(page, "Ann")
    sample = shown(page)
    tab(page, "Quality")
    line = page.locator("#gold-apart tbody tr").first
    word = line.locator("td").first.inner_text()
    line.click()
    page.locator("#gold-said", has_text=f"“{word}” as people score it").wait_for()
    page.locator("#set-gold").click()
    page.locator(".toast-body", has_text="Choose the right score first").wait_for()
    page.locator("#gold-score label", has_text="7").click()
    page.locator("#set-gold").click()
    page.locator("#gold-said", has_text="gold 7").wait_for()
    assert judged.rows(GOLD) == [(word, 7, "Ann")]
    page.locator("#gold-table tbody tr", has_text=word).click()
    page.locator("#take-gold-back").click()
    page.locator("#gold-table", has_text="No word has a gold score yet").wait_for()
    assert judged.rows(GOLD)[1:] == [(word, None, "Ann")]
    assert judged.rows("SELECT who, action FROM audit") == [("Ann", "gold")] * 2

    page.locator("#gold-here").click()
    page.locator("#gold-words label").nth(1).click()
    page.locator("#gold-score label", has_text="0").click()
    page.locator("#set-gold").click()
    page.locator("#gold-table tbody tr", has_text="Ann").wait_for()
    assert judged.rows("SELECT sample, score FROM gold ORDER BY seq DESC LIMIT 1") == [(sample, 0)]
    page.set_viewport_size({"width": 390, "height": 844})
    for target in page.locator("#gold-score label:visible, #set-gold:visible, #quality-again:visible").all():
        assert target.bounding_box()["height"] >= 44
    for name in ("Agreement", "People", "Gold"):
        page.set_viewport_size({"width": 1280, "height": 844})  # where each tab has room
        tab(page, name)
        page.set_viewport_size({"width": 390, "height": 844})
        assert page.evaluate("document.documentElement.scrollWidth") <= 390, name
    page.locator("#gold-open").click()
    page.locator(f"#annotate-words [data-sample='{sample}']").wait_for()
