"""Words and names that would be markup, templates or scripts are text and nothing else."""

import gradio as gr
import pytest

from studio.components.table import Table, rows
from studio.components.word_scores import WordScores, chips
from studio.images.views import WordView
from tests.browser.annotating import CHIPS, settled
from tests.browser.conftest import call_me, compare, field

HOSTILE = [
    "<img src=x onerror=window.hacked=1>",
    "<script>window.hacked=2</script>",
    "${window.hacked=3}",
    "{{#with this}}{{constructor}}{{/with}}",
    "`${alert(4)}`",
    "'\"><svg onload=window.hacked=5>",
    "javascript:window.hacked=6",
]


@pytest.fixture(scope="module")
def demo():
    """A page with every component of ours that shows what users wrote."""
    words = [WordView(i, text, "other", True, vlm=i, score=i, by=text) for i, text in enumerate(HOSTILE)]
    lines = rows(HOSTILE, [[text, {"text": text, "tone": text}] for text in HOSTILE], keys=HOSTILE)
    with gr.Blocks(analytics_enabled=False) as blocks:
        WordScores(chips(words, sample="one", before=words), elem_id="shown")
        WordScores(chips(words, sample="two"), editable=True, elem_id="edited")
        Table(lines, elem_id="table")
    _, url, _ = blocks.launch(server_name="127.0.0.1", prevent_thread_lock=True, quiet=True, ssr_mode=False)
    yield url
    blocks.close(verbose=False)


def inert(page) -> None:
    """No script of a text ran: those of broken images would have, before that of one that is made now."""
    page.evaluate("() => new Promise(done => Object.assign(new Image(), { onerror: done, src: 'data:,' }))")
    page.wait_for_timeout(100)
    assert page.evaluate("window.hacked") is None
    assert page.locator("img[src=x], svg[onload]").count() == 0


def test_hostile_words_are_shown_as_they_are(browse, demo):
    page = browse(demo)
    for place in ("#shown", "#edited"):
        page.locator(f"{place} .ws-chip").first.wait_for()
        assert page.locator(f"{place} .ws-word").all_inner_texts() == HOSTILE
    assert page.locator("#table td:first-child").all_inner_texts() == HOSTILE
    page.locator("#edited [role=spinbutton]").first.focus()
    page.keyboard.type("123")
    inert(page)


def test_a_hostile_prompt_name_and_seed_are_inert_through_the_whole_studio(page, app):
    prompt = "a red circle <img src=x onerror=window.hacked=7> ${window.hacked=8} {{window.hacked}}"
    name = "<img src=x onerror=window.hacked=9>"
    compare(page, prompt, "666")
    inert(page)
    page.locator("#annotate-none").click()
    page.locator(CHIPS).first.wait_for()
    call_me(page, name)
    page.locator(CHIPS).first.focus()
    page.keyboard.press("1")
    settled(page)
    page.get_by_role("button", name="My corrections").click()
    page.locator("#history tbody tr").first.wait_for()
    assert prompt in page.locator("#history tbody tr").first.inner_text()
    inert(page)
    page.reload()
    page.locator("#words-none .ws-chip").first.wait_for()
    field(page, "seeds").fill(HOSTILE[0])
    page.locator("#run").click()
    page.locator(".toast-body", has_text="'<img' is not a whole number: use digits").wait_for()
    assert "Traceback" not in page.content()
    inert(page)
    assert app.rows("SELECT DISTINCT who FROM scores WHERE word = 'red' AND who LIKE '<img%'") == [(name,)]
