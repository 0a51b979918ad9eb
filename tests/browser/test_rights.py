"""A public demo as a stranger finds it: what they may not do is off and says why, and signing in turns it on."""

import pytest

from tests.browser.conftest import WAITING, ready, serving
from tests.reliability.test_space import OAUTH, PAIR, SPACE, Visitor

CHIP = "#annotate-words [role=spinbutton]"


@pytest.fixture
def space(tmp_path, model_folder):
    """A Space on which only accounts may correct, which has compared one pair."""
    with serving(tmp_path / "home", model_folder, **SPACE, **OAUTH, STUDIO_ANNOTATE="login") as running:
        visitor = Visitor(running)
        event, found = visitor.call("compare", PAIR)
        assert event == "complete", found
        yield visitor


def open_tab(page, name):
    page.get_by_role("tab", name=name, exact=True).click()


@pytest.fixture
def page(chromium, space):
    """The Space in a browser of its own; what Gradio asks huggingface.co of a Space there is no answer to."""
    window = chromium.new_context(viewport={"width": 1200, "height": 860})
    window.set_default_timeout(WAITING)
    window.route(lambda url: not url.startswith(space.running.url), lambda route: route.abort())
    opened = window.new_page()
    opened.goto(space.running.url)
    ready(opened)
    yield opened
    window.close()


def test_a_stranger_finds_off_what_is_refused_and_it_is_on_once_they_signed_in(page, space):
    sent = []
    page.on("request", lambda request: sent.append(request.post_data or ""))
    open_tab(page, "Annotate")
    page.locator(CHIP).first.wait_for()
    reason = page.locator(".ws-lock .studio-notice")
    assert "Sign in" in reason.inner_text() and page.locator(".ws-lock button").is_visible()
    assert reason.bounding_box()["y"] < page.locator(CHIP).first.bounding_box()["y"]
    assert not page.locator("#who-note").is_visible()  # not twice
    parts = page.locator(".ws-pad button, .ws-main button")
    assert {part.get_attribute("aria-disabled") for part in parts.all()} == {"true"}
    page.locator(CHIP).first.focus()
    before = page.locator(CHIP).all_inner_texts()
    for key in ("5", "ArrowUp", "Delete", "n", "f", "Enter", "u"):
        page.keyboard.press(key)
    assert page.locator(".ws-state").inner_text() == reason.inner_text()
    assert page.locator(CHIP).all_inner_texts() == before
    assert not any("operations" in data for data in sent)
    open_tab(page, "Train")
    page.locator("#start[disabled]").wait_for()
    assert page.get_by_text("Only the owner of this Space may do this").first.is_visible()
    open_tab(page, "Library")
    open_tab(page, "Export")
    page.locator("#export-make[disabled]").wait_for()

    cookie = space.as_account("ann").http.headers["Cookie"].removeprefix("session=")
    page.context.add_cookies([{"name": "session", "value": cookie, "url": space.running.url}])
    open_tab(page, "Train")
    page.locator("#start:not([disabled])").wait_for()
    open_tab(page, "Annotate")
    page.evaluate("window.dispatchEvent(new Event('focus'))")  # as from the window in which they signed in
    page.locator(".ws-lock:empty").wait_for(state="attached")
    page.locator(CHIP).first.focus()
    page.keyboard.press("5")
    page.locator(".ws-state", has_text="Saved").wait_for()
    assert space.writers() == ["ann"]
