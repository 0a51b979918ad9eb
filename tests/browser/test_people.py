"""A name in two browsers: it is the first one's, and the other's where it was brought the key."""

from tests.browser.conftest import ready

KEPT = "JSON.parse(localStorage.getItem('noise-projection-studio.who'))"
CHIPS = "#annotate-words [role=spinbutton]"


def field(page, name):
    return page.locator(f"#{name}").locator("input, textarea")


def annotate(page):
    ready(page)
    page.get_by_role("tab", name="Annotate").click()
    field(page, "who").wait_for()
    page.wait_for_function(KEPT)
    return page


def correct(page, digit):
    page.locator(CHIPS).first.focus()
    page.keyboard.press(str(digit))
    page.locator(".ws-state", has_text="Saved").wait_for()


def test_a_name_that_another_browser_has_is_refused_until_its_key_is_brought(browse, app, compare, call_me):
    first = annotate(browse(app.url))
    first.get_by_role("tab", name="Compare").click()
    compare(first, "a red circle", "7")
    first.get_by_role("tab", name="Annotate").click()
    first.locator(CHIPS).first.wait_for()
    call_me(first, "Bea")
    correct(first, 4)

    second = annotate(browse(app.url))
    anonymous = second.evaluate(KEPT)
    field(second, "who").fill("Bea")
    field(second, "who").press("Enter")
    second.locator("#who-note [role=alert]", has_text="belongs to another browser").wait_for()
    second.wait_for_function("document.querySelector('#who input, #who textarea').value === ''")
    assert second.evaluate(KEPT) == anonymous

    field(second, "who-brought").fill(first.evaluate(KEPT)[:-1])
    second.locator("#who-use").click()
    second.locator("#who-note [role=alert]", has_text="not the key").wait_for()
    first.get_by_text("Use this name on another browser").click()
    assert field(first, "who-key").input_value() == first.evaluate(KEPT)
    field(second, "who-brought").fill(first.evaluate(KEPT))
    second.locator("#who-use").click()
    second.wait_for_function("document.querySelector('#who input, #who textarea').value === 'Bea'")
    second.locator("#annotate-progress", has_text="done by Bea").wait_for()
    correct(second, 6)
    assert set(app.rows("SELECT DISTINCT who FROM scores WHERE source = 'human' AND score IN (4, 6)")) >= {
        ("Bea",)
    }


def test_what_a_browser_kept_before_there_were_keys_is_still_its_name(browse, app):
    page = annotate(browse(app.url))
    page.evaluate("localStorage.setItem('noise-projection-studio.who', JSON.stringify('Cleo'))")
    page.reload()
    annotate(page)
    page.wait_for_function("document.querySelector('#who input, #who textarea').value === 'Cleo'")
    page.wait_for_function(f"/^[0-9a-f]{{32}}:Cleo$/.test({KEPT})")
