"""axe-core finds nothing serious on any tab, in the light, in the dark and on a phone, with something in them.

The tabs are read from the page, so a new one is looked at as soon as it is there. What axe cannot see is asked for
by itself: the order of headings, the way past the head of the page, the looks by keyboard, the keys of the tabs.
"""

import itertools
import json
from pathlib import Path

from axe_playwright_python.base import AXE_FILE_PATH

from tests.browser.annotating import CHIPS, settled
from tests.browser.conftest import compare, press, ready

AXE = Path(AXE_FILE_PATH).read_text(encoding="utf-8")
DARK = "document.body.classList.contains('dark')"
TAB = "#tabs > .tab-wrapper [role=tab]"
CONTRAST = "color-contrast"  # alone depends on the look, and takes longer than all other rules
# of each look: width, height, what axe looks for
LOOKS = {
    "light": (1280, 900, {}),
    "dark": (1280, 900, {"runOnly": {"type": "rule", "values": [CONTRAST]}}),
    "phone": (390, 844, {"rules": {CONTRAST: {"enabled": False}}}),
}


def tabs_of(page) -> list[str]:
    return [text.strip() for text in page.locator(TAB).all_inner_texts()]


def serious(page, options: dict) -> list[str]:
    """What axe calls serious or critical: its rule, and the first elements."""
    asked = json.dumps({"resultTypes": ["violations"], **options})
    found = page.evaluate(f"() => axe.run(document, {asked})")["violations"]
    return [
        f"{v['impact']} {v['id']}: {[n['target'] for n in v['nodes'][:3]]} {v['nodes'][0]['failureSummary'][:200]}"
        for v in found
        if v["impact"] in ("serious", "critical")
    ]


def look(page, name: str) -> None:
    width, height, _ = LOOKS[name]
    page.set_viewport_size({"width": width, "height": height})
    page.locator(f".studio-looks input[value={'dark' if name == 'dark' else 'light'}]").check(force=True)
    page.wait_for_function(f"{DARK} === {'true' if name == 'dark' else 'false'}")


def test_axe_finds_nothing_serious_on_any_tab_and_each_can_be_reached_and_has_its_heading(page, app):
    page.emulate_media(reduced_motion="reduce")  # no colour is on its way to another
    compare(page, seeds="7, 8")
    page.locator("#annotate-none").click()
    page.locator(CHIPS).first.focus()
    page.keyboard.press("4")
    settled(page)
    page.evaluate(AXE)
    names, found = tabs_of(page), {}
    assert len(names) >= 4 and page.locator("h1").count() == 1
    for name in names:
        page.locator(TAB, has_text=name).first.click()
        page.wait_for_timeout(400)  # what the tab shows comes from the store
        for kind, (width, _, options) in LOOKS.items():
            look(page, kind)
            if wrong := serious(page, options):
                found[name, kind] = wrong
            assert page.evaluate("document.documentElement.scrollWidth") <= width, (
                f"{name} is wider than the page"
            )
            page.locator(TAB, has_text=name).first.click()  # which scrolls the row of tabs to it
            box = page.locator(TAB, has_text=name).first.bounding_box()
            assert box["x"] >= -1 and box["x"] + box["width"] <= width + 1 and box["height"] >= 44
        headings = page.evaluate(
            """() => [...document.querySelectorAll('h1, h2, h3, h4')].filter((h) => h.checkVisibility())
            .map((h) => [Number(h.tagName[1]), h.textContent.trim()])"""
        )
        assert [2, name] in headings
        assert all(after - before <= 1 for (before, _), (after, _) in itertools.pairwise(headings)), headings
    assert not found

    look(page, "light")
    page.get_by_role("button", name="Use via API").click()
    page.locator(".api-docs", has_text="/set_score").first.wait_for()
    page.goto(f"{app.url}endpoints")
    page.get_by_role("link", name="Back to the studio").wait_for()
    page.evaluate(AXE)
    assert not serious(page, {})
    page.get_by_role("link", name="Back to the studio").click()
    ready(page)


def test_the_keyboard_goes_past_the_head_along_the_tabs_and_to_the_looks_which_are_kept(browse, app):
    page = browse(app.url, color_scheme="dark", reduced_motion="reduce")
    ready(page)
    moving = "document.getAnimations().filter((a) => a.effect.getTiming().duration > 20).length"
    assert page.evaluate(moving) == 0
    page.evaluate("document.activeElement.blur()")
    page.keyboard.press("Tab")
    assert "skip-link" in page.evaluate("document.activeElement.className")
    press(page, "Enter", "Tab")
    names, focused = tabs_of(page), "document.activeElement.textContent.trim()"
    assert page.evaluate(focused) == names[0]
    press(page, "ArrowRight", "Enter")
    page.locator(f"{TAB}[aria-selected=true]", has_text=names[1]).wait_for()
    page.keyboard.press("End")
    assert page.evaluate(focused) == names[-1]

    assert page.evaluate(DARK)
    page.locator(".studio-looks input:checked").focus()
    page.keyboard.press("ArrowRight")  # round from "system" to the first
    assert page.locator(".studio-looks input:checked").get_attribute("value") == "light"
    page.wait_for_function(f"!{DARK}")
    page.reload()
    ready(page)
    assert not page.evaluate(DARK)
    page.locator(".studio-looks input[value=system]").check(force=True)
    page.wait_for_function(DARK)
    page.emulate_media(color_scheme="light")
    page.wait_for_function(f"!{DARK}")
