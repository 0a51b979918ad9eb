"""A public demo as a stranger finds it: what they may not do is off and says why, and signing in turns it on."""

import pytest

from tests.browser.annotating import CHIPS, fill, settled
from tests.browser.conftest import WAITING, ready, serving, tab
from tests.visitors import OAUTH, SECRET, SPACE, Visitor, session_of


@pytest.fixture
def space(tmp_path, model_folder):
    """A Space with images on which only accounts may correct."""
    fill(tmp_path / "home", 2)
    env = {**SPACE, **OAUTH, "STUDIO_ANNOTATE": "login"}
    with serving(tmp_path / "home", model_folder, **env) as running:
        yield running


@pytest.fixture
def page(chromium, space):
    """The Space in a browser of its own; what Gradio asks huggingface.co of a Space there is no answer to."""
    window = chromium.new_context(viewport={"width": 1200, "height": 860})
    window.set_default_timeout(WAITING)
    window.route(lambda url: not url.startswith(space.url), lambda route: route.abort())
    opened = window.new_page()
    opened.goto(space.url)
    ready(opened)
    yield opened
    window.close()


def test_a_stranger_finds_off_what_is_refused_and_it_is_on_once_they_signed_in(page, space):
    sent = []
    page.on("request", lambda request: sent.append(request.post_data or ""))
    tab(page, "Annotate")
    page.locator(CHIPS).first.wait_for()
    reason = page.locator(".ws-lock .studio-notice")
    assert "Sign in" in reason.inner_text() and page.locator(".ws-lock button").is_visible()
    assert reason.bounding_box()["y"] < page.locator(CHIPS).first.bounding_box()["y"]
    assert not page.locator("#who-note").is_visible()  # not twice
    buttons = page.locator(".ws-pad button, .ws-main button")
    assert {button.get_attribute("aria-disabled") for button in buttons.all()} == {"true"}
    page.locator(CHIPS).first.focus()
    before = page.locator(CHIPS).all_inner_texts()
    for key in ("5", "ArrowUp", "Delete", "n", "f", "Enter", "u"):
        page.keyboard.press(key)
    assert page.locator(".ws-state").inner_text() == reason.inner_text()
    assert page.locator(CHIPS).all_inner_texts() == before
    assert not any("operations" in data for data in sent)
    tab(page, "Train")
    page.locator("#start[disabled]").wait_for()
    assert page.get_by_text("Only the owner of this Space may do this").first.is_visible()
    tab(page, "Library")
    tab(page, "Export")
    page.locator("#export-make[disabled]").wait_for()

    session = {"name": "session", "value": session_of("ann", SECRET), "url": space.url}
    page.context.add_cookies([session])
    tab(page, "Train")
    page.locator("#start:not([disabled])").wait_for()
    tab(page, "Annotate")
    page.evaluate("window.dispatchEvent(new Event('focus'))")  # as from the window in which they signed in
    page.locator(".ws-lock:empty").wait_for(state="attached")
    page.locator(CHIPS).first.focus()
    page.keyboard.press("5")
    settled(page)
    assert Visitor(space).writers() == ["ann"]
