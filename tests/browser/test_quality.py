"""The page Quality in a real browser: empty, with one and with two annotators, gold set and taken back, pictures opened."""

import json

import pytest

from data.store import Store
from tests import tiny
from tests.browser.conftest import ready, serving

PROMPT = "a red circle above a blue square"  # red 1, circle 2, above 3, blue 5, square 6
GOLD = "SELECT word, score, who FROM gold ORDER BY seq"


@pytest.fixture(scope="module")
def judged(tmp_path_factory, model_folder):
    """An app of its own: what others annotate must not change the figures. Its store has six samples without scores."""
    from data.prompts import load

    home = tmp_path_factory.mktemp("quality") / "home"
    studio = tiny.studio_at(home, model_folder)
    studio.scoring.score(studio.collecting.collect(load("shapes_train", 3, "small"), 2, steps=tiny.STEPS))
    with serving(home, model_folder) as running:
        yield running


@pytest.fixture
def look(browse, judged):
    """A function that opens the page at Quality, under a name."""

    def run(who="", **context):
        kept = [{"name": "noise-projection-studio.who", "value": json.dumps(who)}] if who else []
        state = {"cookies": [], "origins": [{"origin": judged.url.rstrip("/"), "localStorage": kept}]}
        page = browse(judged.url, storage_state=state, **context)
        ready(page)
        tab(page, "Quality")
        page.locator("#quality-state", has_text="as of").wait_for()
        return page

    return run


def tab(page, name: str) -> None:
    """Choose a tab, also where it is in the menu of those that have no room."""
    shown = page.get_by_role("tab", name=name, exact=True)
    if not shown.first.is_visible():
        page.locator(".overflow-menu > button").first.click()
        shown = page.locator(".overflow-dropdown button", has_text=name)
    shown.first.click()


def say(app, who: str, shift: int = 0) -> None:
    """This person scores every word of the samples; a shift is what they say more of colours."""
    from core.words import split

    store = Store(app.home / "studio.db")
    for place, row in enumerate(store.samples.find(limit=100, newest=False)):
        for word in split(row["prompt"]):
            if word.scored:
                more = shift if word.kind == "colour" else 0
                score = min(9, max(0, (3 * place + word.index) % 10 + more))
                store.scores.set(row["id"], word.index, score, who, word=word.text)
        store.queue.submit(row["id"], who)


def test_nobody_one_person_and_two_are_each_told_what_there_is(look, judged):
    page = look()
    page.get_by_text("No person has scored a word yet.", exact=False).first.wait_for()
    assert "gold score where it has one" in page.locator("#label-rule").inner_text()
    page.locator("#quality-to-annotate").click()
    page.locator("#annotate-words").first.wait_for()

    say(judged, "Ann")
    page = look()
    page.locator("#quality-verdict", has_text="alpha needs two. Let a second person").wait_for()

    say(judged, "<b>Bob</b>", shift=3)
    page = look()
    page.locator("#quality-verdict .quality-alpha").wait_for()
    page.locator("#quality-kinds tr", has_text="object").locator(".badge", has_text="too few").wait_for()
    page.locator("#quality-alphas .js-plotly-plot").wait_for()
    page.locator("#quality-matrix .js-plotly-plot").wait_for()
    assert page.locator("#quality-pairs tbody tr").count() == 1
    assert "<b>Bob</b> and Ann" in page.locator("#quality-pairs").inner_text()


def test_a_persons_page_opens_a_disagreement_in_annotate(look):
    page = look("Ann")
    tab(page, "People")
    page.locator("#quality-person", has_text="Ann").wait_for()
    page.locator("#quality-people tr", has_text="<b>Bob</b>").click()
    page.locator("#quality-person h3", has_text="<b>Bob</b>").wait_for()
    page.locator("#quality-scores .js-plotly-plot").wait_for()
    assert page.locator("#quality-against tbody tr").first.inner_text().startswith("all words")
    page.locator("#quality-gallery button").first.click()
    page.locator("#annotate-words [role=spinbutton]").first.wait_for()


def test_a_disagreement_is_settled_and_taken_back_and_both_are_in_the_audit_log(look, judged):
    page = look("Ann")
    tab(page, "Gold")
    first = page.locator("#gold-apart tbody tr").first
    word = first.locator("td").first.inner_text()
    first.click()
    page.locator("#gold-said", has_text=f"“{word}” as people score it").wait_for()
    page.locator("#set-gold").click()
    page.locator(".toast-body", has_text="Choose the right score first").wait_for()
    page.locator("#gold-score label", has_text="7").click()
    page.locator("#set-gold").click()
    page.locator("#gold-table tbody tr", has_text=word).wait_for()
    page.locator("#gold-said", has_text="gold 7").wait_for()
    assert judged.rows(GOLD) == [(word, 7, "Ann")]
    page.reload()
    ready(page)
    tab(page, "Quality")
    tab(page, "Gold")
    page.locator("#gold-table tbody tr", has_text=word).click()
    page.locator("#take-gold-back").click()
    page.locator("#gold-table", has_text="No word has a gold score yet").wait_for()
    assert judged.rows(GOLD)[1:] == [(word, None, "Ann")]
    assert judged.rows("SELECT who, action FROM audit") == [("Ann", "gold")] * 2


def test_the_image_that_is_open_in_annotate_can_be_given_gold(look, judged):
    page = look("Cyd")
    tab(page, "Gold")
    page.locator("#gold-here").click()
    page.locator(".toast-body", has_text="No image is open in Annotate").wait_for()
    tab(page, "Annotate")
    page.locator("#annotate-words [role=spinbutton]").first.wait_for()
    sample = page.locator("#annotate-words .word-scores").get_attribute("data-sample")
    tab(page, "Quality")
    page.locator("#gold-here").click()
    page.locator("#gold-words label").nth(1).click()
    page.locator("#gold-score label", has_text="0").click()
    page.locator("#set-gold").click()
    page.locator("#gold-table tbody tr", has_text="Cyd").wait_for()
    assert judged.rows("SELECT sample, score FROM gold WHERE who = 'Cyd'") == [(sample, 0)]
    page.locator("#gold-open").click()
    page.locator(f"#annotate-words [data-sample='{sample}']").wait_for()


def test_on_a_phone_nothing_is_wider_than_the_page(look):
    page = look("Ann")
    page.set_viewport_size({"width": 390, "height": 844})
    for name in ("Agreement", "People", "Gold"):
        tab(page, name)
        page.wait_for_timeout(500)
        assert page.evaluate("document.documentElement.scrollWidth") <= 390, name
        for target in page.locator(
            "#gold-score label:visible, #set-gold:visible, #quality-again:visible"
        ).all():
            assert target.bounding_box()["height"] >= 44
