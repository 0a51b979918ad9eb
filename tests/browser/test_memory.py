"""A studio without an image, in a browser that was never there: what is offered, and what a restart leaves."""

import contextlib
from urllib.parse import urlsplit

from playwright.sync_api import Error

from tests import tiny
from tests.browser.conftest import ready, start_app, stop_app

CHIPS = "#annotate-words [role=spinbutton]"


def test_new_images_are_offered_and_the_place_outlives_the_server(
    browse, model_folder, compare, call_me, tmp_path
):
    env = tiny.settings_at(tmp_path / "home", model_folder).env()
    app = start_app(tmp_path / "home", env)
    try:
        page = browse(app.url)
        ready(page)
        page.get_by_role("tab", name="Annotate").click()
        page.locator("#to-compare").click()  # nothing is there to correct
        compare(page, "a red circle", "7, 8")
        page.get_by_role("tab", name="Annotate").click()
        page.locator(CHIPS).first.wait_for()

        page.get_by_role("tab", name="Compare").click()
        page.locator("#pair-seed label").last.click()
        shown = "document.querySelector('#words-none .word-scores').dataset.sample"
        ((second,),) = app.rows("SELECT id FROM samples WHERE seed = 8 AND method = 'none'")
        page.wait_for_function(f"id => {shown} === id", arg=second)
        page.locator("#annotate-none").click()
        page.locator(f"#annotate-words [data-sample='{second}']").wait_for()
        call_me(page, "Ann")
        page.locator(CHIPS).first.focus()
        page.keyboard.press("4")
        page.locator(".ws-state", has_text="Saved").wait_for()

        stop_app(app)
        app = start_app(tmp_path / "home", env, urlsplit(app.url).port)
        with contextlib.suppress(Error):  # Gradio itself loads the page anew once the server is back
            page.reload()
        page.locator("#words-none .ws-chip").first.wait_for()
        page.get_by_role("tab", name="Annotate").click()
        page.locator(f"#annotate-words [data-sample='{second}']").wait_for()
        assert page.locator(f"{CHIPS} .ws-digit").first.inner_text() == "4"
        page.locator("#annotate-progress", has_text="done by Ann").wait_for()
        page.locator(CHIPS).first.focus()
        page.keyboard.press("9")
        page.locator(".ws-state", has_text="Saved").wait_for()
        found = app.rows("SELECT who, score FROM scores WHERE sample = ? AND source = 'human'", second)
        assert found[0] == ("Ann", 4)
        assert {who for who, _ in found} == {"Ann"}
    finally:
        stop_app(app)
