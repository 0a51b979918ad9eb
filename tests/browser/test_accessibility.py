"""axe-core finds nothing serious on any tab, in the light, in the dark and on a phone, with something in them.

The tabs are read from the page, so a new one is looked at as soon as it is there. What axe cannot see is asked for
by itself: the order of headings, the way past the head of the page, the looks by keyboard, the keys of the tabs.
"""

import itertools
from pathlib import Path

import pytest
from axe_playwright_python.base import AXE_FILE_PATH

from tests.browser.conftest import ready, unfold

AXE = Path(AXE_FILE_PATH).read_text(encoding="utf-8")
RUN = "() => axe.run(document, { resultTypes: ['violations'] })"
LOOKS = {"light": (1280, 900), "dark": (1280, 900), "phone": (390, 844)}
TAB = "#tabs > .tab-wrapper [role=tab]"


def tabs_of(page) -> list[str]:
    return [text.strip() for text in page.locator(TAB).all_inner_texts()]


def open_tab(page, name: str) -> None:
    page.locator(TAB, has_text=name).first.click()
    page.wait_for_timeout(900)  # what the tab shows comes from the store


def serious(page) -> list[str]:
    """What axe calls serious or critical: its rule, and the first elements."""
    page.evaluate(AXE)
    found = page.evaluate(RUN)["violations"]
    return [
        f"{v['impact']} {v['id']}: {[n['target'] for n in v['nodes'][:3]]} {v['nodes'][0]['failureSummary'][:200]}"
        for v in found
        if v["impact"] in ("serious", "critical")
    ]


@pytest.fixture(scope="module")
def filled(chromium, app):
    """The storage of a browser that has compared a pair and corrected a word, so that no tab is empty."""
    window = chromium.new_context(viewport={"width": 1280, "height": 900})
    page = window.new_page()
    page.goto(app.url)
    ready(page)
    page.locator("#seeds").locator("input, textarea").fill("7, 8")
    unfold(page.get_by_role("button", name="Sampling"), page.locator("#steps input[type=number]"))
    page.locator("#steps input[type=number]").fill("2")
    page.locator("#steps input[type=number]").press("Tab")
    page.locator("#run").click()
    page.locator("#words-projected .ws-change").first.wait_for()
    page.locator("#annotate-none").click()
    page.locator("#annotate-words [role=spinbutton]").first.focus()
    page.keyboard.press("4")
    page.locator(".ws-state", has_text="Saved").wait_for()
    kept = window.storage_state()
    window.close()
    return kept


@pytest.mark.parametrize("look", LOOKS)
def test_axe_finds_nothing_serious_on_any_tab(browse, app, filled, look):
    width, height = LOOKS[look]
    page = browse(f"{app.url}?__theme={'dark' if look == 'dark' else 'light'}", storage_state=filled)
    page.set_viewport_size({"width": width, "height": height})
    page.locator("#words-none .ws-chip").first.wait_for()
    names, found = tabs_of(page), {}
    assert len(names) >= 4
    for name in names:
        open_tab(page, name)
        if wrong := serious(page):
            found[name] = wrong
        assert page.evaluate("document.documentElement.scrollWidth") <= width, (
            f"{name} is wider than the page"
        )
    assert not found


def test_every_tab_has_one_heading_of_its_own_below_the_pages(page):
    assert page.locator("h1").count() == 1
    for name in tabs_of(page):
        open_tab(page, name)
        shown = page.evaluate(
            """() => [...document.querySelectorAll('h1, h2, h3, h4')].filter((h) => h.checkVisibility())
            .map((h) => [Number(h.tagName[1]), h.textContent.trim()])"""
        )
        levels = [level for level, _ in shown]
        assert [2, name] in shown
        assert all(after <= before + 1 for before, after in itertools.pairwise(levels)), shown


def test_the_keyboard_goes_past_the_head_of_the_page_and_along_the_tabs(page):
    page.evaluate("document.activeElement.blur()")
    page.keyboard.press("Tab")
    assert "skip-link" in page.evaluate("document.activeElement.className")
    page.keyboard.press("Enter")
    page.keyboard.press("Tab")
    names = tabs_of(page)
    assert page.evaluate("document.activeElement.textContent").strip() == names[0]
    page.keyboard.press("ArrowRight")
    page.keyboard.press("Enter")
    page.locator(f"{TAB}[aria-selected=true]", has_text=names[1]).wait_for()
    page.keyboard.press("End")
    assert page.evaluate("document.activeElement.textContent").strip() == names[-1]


def test_light_dark_or_as_the_system_is_chosen_by_keyboard_and_kept(browse, app):
    page = browse(app.url, color_scheme="dark")
    ready(page)
    dark = "document.body.classList.contains('dark')"
    assert page.evaluate(dark)
    page.locator(".studio-looks input:checked").focus()
    page.keyboard.press("ArrowRight")  # round from "system" to the first
    assert page.locator(".studio-looks input:checked").get_attribute("value") == "light"
    page.wait_for_function(f"!{dark}")
    page.reload()
    ready(page)
    assert not page.evaluate(dark)
    page.locator(".studio-looks input[value=system]").check(force=True)
    page.wait_for_function(dark)
    page.emulate_media(color_scheme="light")
    page.wait_for_function(f"!{dark}")


def test_what_changes_is_read_out(page, compare):
    assert page.locator("#compare-note").get_attribute("aria-live") == "polite"
    compare(page, "a red wombat", "8")
    assert page.locator("#compare-note [role=status]").count() == 1


@pytest.mark.parametrize("width", [390, 1280])
def test_every_tab_can_be_reached_at_any_width(page, width):
    page.set_viewport_size({"width": width, "height": 844})
    for name in tabs_of(page):
        page.locator(TAB, has_text=name).first.click()
        box = page.locator(TAB, has_text=name).first.bounding_box()
        assert box["x"] >= -1
        assert box["x"] + box["width"] <= width + 1
        assert box["height"] >= 44


def test_motion_is_left_out_where_it_is_not_wanted(browse, app):
    page = browse(app.url, reduced_motion="reduce")
    ready(page)
    moving = page.evaluate(
        "document.getAnimations().filter((a) => a.effect.getTiming().duration > 20).length"
    )
    assert moving == 0


def test_the_endpoints_are_a_page_of_their_own_with_a_way_there_and_back(page, app):
    page.get_by_role("button", name="Use via API").click()
    page.locator(".api-docs", has_text="/set_score").first.wait_for()
    page.goto(f"{app.url}endpoints")
    page.get_by_role("link", name="Back to the studio").wait_for()
    assert not serious(page)
    page.get_by_role("link", name="Back to the studio").click()
    ready(page)
