"""Annotating at the speed of the keyboard, in a real browser: nothing is lost, nothing is seen too early."""

import contextlib
import json
import re
from statistics import quantiles
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import Error

from data.store import Store
from tests.browser.annotating import (
    CHIPS,
    MEAN,
    WHOLE,
    WORDS,
    back,
    digits,
    enter,
    fill,
    kept,
    moved,
    settled,
    shown,
)
from tests.browser.conftest import (
    WHO,
    call_me,
    field,
    fork_app,
    press,
    ready,
    serving,
    start_app,
    stop_app,
    tab,
    unfold,
)

CLOCK = """addEventListener('keydown', event => {
    if (/^[0-9]$/.test(event.key)) (window.pressed ??= []).push(performance.timeOrigin + performance.now());
}, true)"""


@pytest.fixture(scope="module")
def app(tmp_path_factory, model_folder):
    folder = tmp_path_factory.mktemp("keys")
    fill(folder / "home", 40)
    with serving(folder / "home", model_folder) as running:
        yield running


def print_waits(requests, pressed) -> None:
    """Print the times from a key to its acknowledgement: of the first answer that has it."""
    stored: dict[int, float] = {}
    for request in (one for one in requests if '"operations"' in (one.post_data or "")):
        ended = request.timing["startTime"] + request.timing["responseEnd"]
        for operation in json.loads(request.post_data)["event_data"]["operations"]:
            if operation["kind"] == "set":
                stored[operation["revision"]] = min(ended, stored.get(operation["revision"], ended))
    waits = [stored[revision] - at for revision, at in zip(sorted(stored), pressed, strict=True)]
    p50, p95 = (quantiles(waits, n=20)[i] for i in (9, 18))
    print(
        f"\nkey to stored and acknowledged: median {p50:.0f} ms, p95 {p95:.0f} ms, longest {max(waits):.0f} ms"
    )


def test_fifty_words_over_ten_images_are_corrected_by_keyboard_alone(browse, app, pytestconfig):
    """As fast as a machine can; with `-s` at the pace of a person, and the waits are printed."""
    page, packets, wanted = enter(browse, app, "fifty"), [], {}
    measured = pytestconfig.getoption("capture") == "no"
    if measured:  # while the models load, which takes a core, single keys wait longer
        ready(page)
    page.evaluate(CLOCK)
    page.on("response", lambda answer: packets.append(answer.request))
    for image in range(10):
        sample = shown(page)
        for place, word in enumerate(WORDS.values()):
            wanted[sample, word] = (image + 3 * place) % 8  # never the VLM's own
            page.keyboard.press(str(wanted[sample, word]))
            page.wait_for_timeout(90 if measured else 0)
        page.keyboard.press("Enter")
        moved(page, sample)
    settled(page)
    if measured:
        print_waits(packets, page.evaluate("pressed"))
    assert {(sample, word): score for sample, word, score in kept(app, "fifty")} == wanted
    assert app.rows("SELECT count(*) FROM submissions WHERE who = 'fifty' AND kind = 'submit'") == [(10,)]
    sample = shown(page)
    for numbers in ("12345", "98765", "24680"):
        page.locator(CHIPS).first.focus()
        page.keyboard.type(numbers)
    settled(page)
    assert [score for id, _, score in kept(app, "fifty") if id == sample] == [2, 4, 6, 8, 0]
    page.get_by_role("button", name="My corrections").click()
    page.locator("#history tbody tr").nth(4).wait_for()


def test_the_keys_do_what_they_say_to_words_and_to_nothing_else(browse, app):
    page = enter(browse, app, "arrows", sample=WHOLE)
    first, last = page.locator(CHIPS).first, page.locator(CHIPS).last

    def said():
        return [key[1:] for key in kept(app, "arrows")]

    assert page.locator(CHIPS).count() == 6 and last.get_attribute("aria-label") == "nothing else"
    assert "whole image" in last.get_attribute("aria-valuetext")
    assert "8 of 9, expected 7." in first.get_attribute("aria-valuetext")
    assert page.locator(f"{CHIPS}.ws-spread").count() == 6  # the digit is not the expected score
    high = page.locator(".ws-pad").bounding_box()["y"]
    page.keyboard.press("3")
    page.locator(".ws-mean", has_text="Mean score 6.6 of 9").wait_for()
    assert page.locator(f"{CHIPS}.ws-spread").count() == 5 and "expected" not in first.get_attribute(
        "aria-valuetext"
    )
    assert page.locator(".ws-pad").bounding_box()["y"] == high
    press(page, "8", "ArrowLeft", "Delete")
    settled(page)
    assert said() == [("red", 3)]
    press(page, "Home", "ArrowUp", "End", "3", "ArrowDown")
    settled(page)
    assert said() == [("red", 4), ("nothing else", 2)] and first.get_attribute("aria-valuenow") == "4"
    page.keyboard.press("Delete")
    settled(page)
    assert said() == [("red", 4)] and digits(page)[-1] == "8"
    page.keyboard.press("Control+z")
    settled(page)
    assert said() == [("red", 4), ("nothing else", 2)]
    page.keyboard.press("a")
    settled(page)
    assert len(said()) == 6
    page.keyboard.press("?")
    page.locator(".ws-help").wait_for()


def test_keys_are_whose_name_was_given_from_then_on(browse, app):
    page, held, database = browse(app.url), [], app.home / "studio.db"
    tab(page, "Annotate")
    page.locator(CHIPS).first.wait_for()
    sample = shown(page)
    page.locator(CHIPS).first.focus()
    database.rename(
        app.home / "away.db"
    )  # as good as a full disk: no write succeeds, not even the first, under no name
    try:
        page.keyboard.press("4")
        page.locator(".ws-state", has_text="Not saved yet: The database studio.db is gone").wait_for()
        assert digits(page)[0] == "4"
    finally:
        (app.home / "away.db").rename(database)
    settled(page)
    mine = "SELECT score FROM scores WHERE source = 'human' AND who LIKE 'anonymous-%' AND sample = ?"
    assert app.rows(mine, sample) == [(4,)]

    call_me(page, "named")
    page.keyboard.press("5")
    settled(page)
    assert shown(page) == sample and [score for *_, score in kept(app, "named")] == [5]
    assert app.rows("SELECT who FROM leases WHERE sample = ?", sample) == [("named",)]

    def hold(route) -> None:
        held.append(route) if '"second of two"' in (route.request.post_data or "") else route.continue_()

    page.route("**/gradio_api/**", hold)
    field(page, "who").fill("second of two")
    with page.expect_request(lambda request: '"second of two"' in (request.post_data or "")):
        field(page, "who").press("Enter")
    page.keyboard.type("73")  # while the server looks at the name
    for route in held:
        route.continue_()
    page.locator("#annotate-progress", has_text="done by second of two").wait_for()
    settled(page)
    assert [score for *_, score in kept(app, "named")] == [5]
    assert {score for *_, score in kept(app, "second of two")} == {7, 3}
    page.unroute("**/gradio_api/**")
    tab(page, "Compare")
    tab(page, "Annotate")
    page.locator(CHIPS).first.wait_for()
    page.keyboard.press("1")
    settled(page)
    assert 1 in {score for *_, score in kept(app, "second of two")}


def test_a_name_that_another_browser_has_is_refused_until_its_key_is_brought(browse, app):
    first, second = enter(browse, app, "Bea"), browse(app.url)
    first.keyboard.press("4")
    settled(first)
    tab(second, "Annotate")
    second.wait_for_function(WHO)
    anonymous = second.evaluate(WHO)
    field(second, "who").fill("Bea")
    field(second, "who").press("Enter")
    second.locator("#who-note [role=alert]", has_text="belongs to another browser").wait_for()
    second.wait_for_function("document.querySelector('#who input, #who textarea').value === ''")
    assert second.evaluate(WHO) == anonymous

    field(second, "who-brought").fill(first.evaluate(WHO)[:-1])
    second.locator("#who-use").click()
    second.locator("#who-note [role=alert]", has_text="not the key").wait_for()
    first.get_by_text("Use this name on another browser").click()
    assert field(first, "who-key").input_value() == first.evaluate(WHO)
    field(second, "who-brought").fill(first.evaluate(WHO))
    second.locator("#who-use").click()
    second.locator("#annotate-progress", has_text="done by Bea").wait_for()
    assert field(second, "who").input_value() == "Bea"
    second.locator(CHIPS).first.focus()
    second.keyboard.press("6")
    settled(second)
    assert {score for *_, score in kept(app, "Bea")} >= {6}

    second.evaluate(
        "localStorage.setItem('noise-projection-studio.who', JSON.stringify('Cleo'))"
    )  # before there were keys
    back(second)
    second.wait_for_function("document.querySelector('#who input, #who textarea').value === 'Cleo'")
    second.wait_for_function(f"/^[0-9a-f]{{32}}:Cleo$/.test({WHO})")


def words_in(found) -> list[dict]:
    """All word chips anywhere in an answer."""
    if isinstance(found, dict):
        chips = [found] if "vlm" in found and "scored" in found else []
        return chips + [word for value in found.values() for word in words_in(value)]
    return [word for value in found for word in words_in(value)] if isinstance(found, list) else []


def test_blind_mode_keeps_the_vlms_score_from_the_browser_until_the_first_guess(browse, app):
    page, answers, held, late = enter(browse, app, "blind", blind=True), [], [], [True]
    before = shown(page)
    press(page, "4", "Enter")
    page.locator(".ws-state", has_text="4 words have no score of yours yet").wait_for()
    assert app.rows("SELECT kind FROM submissions WHERE who = 'blind'") == []
    page.on("response", lambda response: answers.append(response) if "/run/" in response.url else None)
    page.keyboard.press("Enter")
    sample = moved(page, before)
    settled(page)
    assert app.rows("SELECT sample FROM submissions WHERE who = 'blind'") == [(before,)]
    assert digits(page) == ["?"] * 5
    sent = [answer.text() for answer in answers]
    new = json.dumps(sample)
    words = [word for text in sent if new in text for word in words_in(json.loads(text)) if word["scored"]]
    assert len(words) >= 5
    for word in words:
        assert word["hidden"]
        assert {word[name] for name in ("vlm", "expected", "calibrated", "human", "score", "change")} == {
            None
        }
    for text in (*sent, page.content()):
        timeless = re.sub(r'duration":\s*[\d.e-]+', "", text)  # seconds may have the digits of the mean
        assert str(MEAN) not in timeless and "VLM 8" not in timeless
    page.keyboard.press("n")
    page.locator(".ws-state", has_text="Blind mode hides").wait_for()
    page.keyboard.press("3")
    page.locator(f"{CHIPS} .ws-vlm", has_text="VLM 8").wait_for()
    page.keyboard.press("a")  # accepts what is shown, and nothing that is not
    settled(page)
    assert [key for key in kept(app, "blind") if key[0] == sample] == [(sample, "red", 3)]

    page.route("**/gradio_api/run/**", lambda route: held.append(route) if late else route.continue_())
    with page.expect_request("**/gradio_api/run/**"):
        page.reload()
    page.get_by_role("tab", name="Annotate").wait_for()
    late.clear()  # what the page asked first is answered last
    tab(page, "Annotate")
    page.locator(CHIPS).first.wait_for()
    assert set(digits(page)) <= {"?", "3"}
    for route in held:
        route.continue_()
    page.locator(f"#annotate-words [data-sample='{sample}'] .ws-digit", has_text="3").wait_for()
    assert digits(page) == ["3", "?", "?", "?", "?"]
    page.unroute("**/gradio_api/run/**")
    back(page)
    assert digits(page) == ["3", "?", "?", "?", "?"] and page.locator("#blind input").is_checked()


def test_undo_goes_back_over_images_and_a_reload_to_the_very_first_step(browse, app):
    page = enter(browse, app, "undone")
    first = shown(page)
    page.keyboard.type("12")
    page.keyboard.press("Enter")
    second = moved(page, first)
    page.keyboard.press("s")
    third = moved(page, second)
    page.keyboard.press("n")
    fourth = moved(page, third)
    page.keyboard.press("6")
    settled(page)
    assert len(kept(app, "undone")) == 2 + 1
    page.keyboard.press("Control+z")  # the 6 of the fourth
    settled(page)
    assert (shown(page), len(kept(app, "undone"))) == (fourth, 2)
    page.locator("#annotate-progress", has_text="2 done by undone").wait_for()
    page.keyboard.press("u")  # back to the third, which is neither submitted nor confirmed any more
    assert moved(page, fourth) == third
    page.locator("#annotate-progress", has_text="1 done by undone").wait_for()
    back(page)
    assert shown(page) == third
    page.locator(CHIPS).first.focus()
    page.keyboard.press("u")
    assert moved(page, third) == second  # which was skipped
    page.keyboard.press("u")
    assert moved(page, second) == first
    press(page, "u", "u")
    page.wait_for_function("() => !document.querySelector('#annotate-words .ws-corrected')")
    settled(page)
    standing = """SELECT count(*) FROM scores e WHERE who = 'undone' AND kind = 'set'
        AND NOT EXISTS (SELECT 1 FROM scores n WHERE n.supersedes = e.id)"""
    assert app.rows(standing) == [(0,)]  # nor is anything confirmed
    page.keyboard.press("u")
    page.locator(".ws-state", has_text="nothing left to undo").wait_for()
    page.locator("#annotate-progress", has_text="0 done by undone").wait_for()


def test_what_others_and_another_tab_say_meanwhile_is_seen_beside_ones_own_keys(browse, app):
    page, store = enter(browse, app, "quick"), Store(app.home / "studio.db")
    sample, second = shown(page), page.context.new_page()
    second.goto(app.url)
    tab(second, "Annotate")
    second.locator(f"#annotate-words [data-sample='{sample}']").wait_for()
    page.keyboard.press("4")
    settled(page)
    second.evaluate("dispatchEvent(new Event('focus'))")
    second.locator(f"{CHIPS} .ws-digit", has_text="4").wait_for()
    second.close()
    store.scores.set(sample, 6, 1, "slow")
    page.keyboard.press("5")
    page.locator(f"{CHIPS} .ws-other", has_text="slow says 1 since").wait_for()
    store.scores.set(sample, 5, 2, "bob")
    page.evaluate("dispatchEvent(new Event('focus'))")
    page.locator(f"{CHIPS} .ws-other", has_text="bob says 2 since").wait_for()
    page.keyboard.type("6")
    settled(page)
    assert digits(page)[:3] == ["4", "5", "6"]
    assert page.locator(f"{CHIPS} .ws-other").all_inner_texts() == ["bob says 2 since", "slow says 1 since"]


def test_a_flag_and_a_note_are_written_taken_back_and_survive_a_reload(browse, app):
    page = enter(browse, app, "remarks")
    press(page, "f", "Escape")
    assert not page.locator(".ws-form").is_visible()
    page.keyboard.press("f")
    page.get_by_label("Another reason").fill("two suns <b>")
    page.get_by_label("Another reason").press("Enter")
    page.locator(".ws-remark", has_text="two suns <b>").wait_for()
    press(page, "f", "2")
    page.locator(".ws-remark", has_text="The prompt makes no sense").wait_for()
    page.keyboard.press("u")  # a flag is a step as a score is
    page.locator(".ws-remark", has_text="two suns <b>").wait_for()
    settled(page)
    page.keyboard.press("m")
    page.keyboard.type("see f, n and s")  # which are letters here
    page.keyboard.press("Control+Enter")  # closes it, and submits nothing
    page.locator(".ws-remark", has_text="see f, n and s").wait_for()
    settled(page)
    remarks = "SELECT text FROM remarks WHERE who = 'remarks' ORDER BY seq"
    said = ["two suns <b>", "The prompt makes no sense", "two suns <b>", "see f, n and s"]
    assert [text for (text,) in app.rows(remarks)] == said
    back(page)
    page.locator(".ws-remark", has_text="two suns <b>").get_by_role("button").click()
    page.locator(".ws-remark", has_text="Flagged").wait_for(state="detached")
    settled(page)
    assert app.rows(remarks)[-1] == ("",)


def test_keys_typed_without_a_connection_are_stored_once_it_is_back_and_outlive_a_reload(browse, app):
    page = enter(browse, app, "offline")
    sample = shown(page)
    page.route("**/run/predict", lambda route: route.abort())
    page.keyboard.type("246")
    page.locator(".ws-state", has_text="Not saved yet: 3 keys").wait_for()
    assert digits(page)[:3] == ["2", "4", "6"] and kept(app, "offline") == []
    page.unroute("**/run/predict")
    back(page)
    page.locator("#annotate-words .ws-corrected").nth(2).wait_for()
    page.locator(".ws-state[data-pending='0']").wait_for()
    page.locator(CHIPS).nth(3).focus()
    page.context.set_offline(True)
    page.keyboard.type("13")
    page.locator(".ws-state", has_text="Not saved yet").wait_for()
    page.context.set_offline(False)
    page.locator(".ws-state[data-pending='0']").wait_for()
    page.locator("#annotate-words .ws-corrected").nth(4).wait_for()
    scores = zip(WORDS.values(), (2, 4, 6, 1, 3), strict=True)
    assert kept(app, "offline") == [(sample, word, score) for word, score in scores]
    assert page.evaluate("Object.keys(localStorage).filter(name => name.includes('.pending.'))") == []


def test_a_phone_needs_no_keyboard_and_nothing_is_wider_than_it(browse, app):
    page = enter(browse, app, "phone", viewport={"width": 390, "height": 844}, has_touch=True, is_mobile=True)
    sample = shown(page)
    page.evaluate("scrollTo(0, 0)")
    assert page.locator(".ws-clear").bounding_box()["y"] < 800  # words and digits in reach, unscrolled
    page.locator(CHIPS).nth(1).tap()
    page.locator(".ws-key", has_text="5").tap()
    for name in ("Flag", "Cancel", "Note", "Close", "Keys"):
        page.locator("#annotate-words .ws-button", has_text=name).last.tap()
    page.locator("#guidelines summary").tap()
    page.locator(".guidelines-body img").first.wait_for()
    for target in page.locator(f"{CHIPS}, #annotate-words button:visible, #guidelines summary").all():
        assert min(target.bounding_box()[side] for side in ("width", "height")) >= 44, target.inner_text()
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    page.locator("#annotate-words .ws-button", has_text="Nothing wrong").tap()
    moved(page, sample)
    page.locator("#annotate-words .ws-button", has_text="Undo").tap()
    page.locator(f"#annotate-words [data-sample='{sample}']").wait_for()
    assert {score for _, _, score in kept(app, "phone")} == {5}  # the others were confirmed, until the undo


def test_a_filter_and_an_order_are_kept_in_the_browser_and_where_no_image_fits_a_button_chooses_all(
    browse, app
):
    page = enter(browse, app, "chooser")
    unfold(page.locator("#which-images button").first, page.locator("#order input"))
    page.get_by_role("button", name="Only this image's prompt").click()
    page.locator("#annotate-progress", has_text="of the images that you chose").wait_for()
    page.locator("#order input").click()
    page.get_by_role("option", name="Newest").click()
    page.locator("#why-next", has_text="Queue order: the newest image").wait_for()
    back(page)
    page.locator("#why-next", has_text="Queue order: the newest image").wait_for()
    page.locator("#annotate-progress", has_text="of the images that you chose").wait_for()
    assert page.locator("#order input").input_value() == "Newest"
    unfold(page.locator("#which-images button").first, page.locator("#order input"))
    page.locator("#filter-kind input").click()
    page.get_by_role("option", name="count").click()
    page.locator("#to-all").wait_for()
    assert not page.locator("#to-compare").is_visible()
    page.locator("#to-all").click()
    page.locator(CHIPS).first.wait_for()


def test_the_image_the_name_and_its_scores_outlive_the_server(browse, app):
    page = enter(browse, app, "Ann")
    page.keyboard.press("4")
    settled(page)
    sample = shown(page)
    stop_app(app)
    app.process = start_app(app.home, app.env, urlsplit(app.url).port, begin=fork_app).process
    with contextlib.suppress(Error):  # Gradio itself loads the page anew once the server is back
        page.reload()
    tab(page, "Annotate")
    page.locator(f"#annotate-words [data-sample='{sample}'] .ws-digit", has_text="4").wait_for()
    page.locator("#annotate-progress", has_text="done by Ann").wait_for()
    page.locator(CHIPS).first.focus()
    page.keyboard.press("9")
    settled(page)
    assert [score for *_, score in kept(app, "Ann")] == [9]
