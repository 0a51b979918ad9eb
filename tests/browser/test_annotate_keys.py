"""Annotating at the speed of the keyboard, in a real browser: nothing is lost, nothing is seen too early."""

import json
from statistics import quantiles

import pytest

from data.store import Store
from tests.browser.annotating import (
    CHIPS,
    MEAN,
    WORDS,
    annotating,
    digits,
    enter,
    kept,
    moved,
    settled,
    shown,
)
from tests.browser.conftest import unfold

CLOCK = """addEventListener('keydown', event => {
    if (/^[0-9]$/.test(event.key)) (window.pressed ??= []).push(performance.timeOrigin + performance.now());
}, true)"""


@pytest.fixture(scope="module")
def app(tmp_path_factory, model_folder):
    with annotating(tmp_path_factory.mktemp("keys"), model_folder, 60) as running:
        yield running


def test_fifty_words_over_ten_images_are_corrected_by_keyboard_alone(browse, app, capsys):
    page, packets, wanted = enter(browse, app, "fifty"), [], {}
    # while the models load, which takes a core, single keys wait longer
    page.wait_for_function("!document.querySelector('#studio-state .studio-notice')")
    page.evaluate(CLOCK)

    def answered(response) -> None:
        sent = response.request.post_data or ""
        if '"operations"' in sent:
            packets.append(response.request)

    page.on("response", answered)
    for image in range(10):
        sample = shown(page)
        for place, word in enumerate(WORDS.values()):
            digit = (image + 3 * place) % 8  # never the VLM's own
            page.keyboard.press(str(digit))
            page.wait_for_timeout(90)
            wanted[sample, word] = digit
        page.keyboard.press("Enter")
        moved(page, sample)
    settled(page)
    assert {(sample, word): score for sample, word, score in kept(app, "fifty")} == wanted
    assert len(wanted) == 50
    assert app.rows("SELECT count(*) FROM submissions WHERE who = 'fifty' AND kind = 'submit'") == [(10,)]

    stored: dict[int, float] = {}
    for request in packets:
        clock = request.timing
        for operation in json.loads(request.post_data)["event_data"]["operations"]:
            if operation["kind"] == "set":
                ended = clock["startTime"] + clock["responseEnd"]
                stored[operation["revision"]] = min(ended, stored.get(operation["revision"], ended))
    waits = [stored[revision] - at for revision, at in zip(sorted(stored), page.evaluate("pressed"))]
    assert len(waits) == 50
    with capsys.disabled():
        print(f"\nkey to stored and acknowledged: median {quantiles(waits, n=20)[9]:.0f} ms, "
              f"p95 {quantiles(waits, n=20)[18]:.0f} ms, longest {max(waits):.0f} ms")  # fmt: skip


def test_keys_typed_as_fast_as_a_machine_can_are_all_kept_in_order_and_are_in_the_history(browse, app):
    page = enter(browse, app, "fast")
    for numbers in ("12345", "98765", "55555", "24680"):
        page.locator(CHIPS).first.focus()
        page.keyboard.type(numbers)
    settled(page)
    assert [score for *_, score in kept(app, "fast")] == [2, 4, 6, 8, 0]
    page.get_by_role("button", name="My corrections").click()
    page.locator("#history tbody tr").nth(4).wait_for()


def test_delete_the_arrows_and_the_question_mark_do_what_the_keys_say(browse, app):
    page = enter(browse, app, "arrows")
    chips = page.locator(CHIPS)
    page.keyboard.type("58")
    page.keyboard.press("ArrowLeft")
    page.keyboard.press("Delete")
    settled(page)
    assert [said[1:] for said in kept(app, "arrows")] == [("red", 5)]
    page.keyboard.press("Home")
    page.keyboard.press("ArrowUp")
    settled(page)
    assert [said[1:] for said in kept(app, "arrows")] == [("red", 6)]
    assert chips.first.get_attribute("aria-valuenow") == "6"
    assert not page.locator(".ws-help").is_visible()
    page.keyboard.press("?")
    assert page.locator(".ws-help").is_visible()


def test_who_gives_a_name_stays_at_the_image_and_types_on(browse, app):
    page = browse(app.url)
    page.get_by_role("tab", name="Annotate").click()
    page.locator(CHIPS).first.wait_for()
    sample, field = shown(page), page.locator("#who").locator("input, textarea")
    field.fill("named")
    field.press("Enter")
    page.locator("#annotate-progress", has_text="done by named").wait_for()
    page.keyboard.press("5")
    settled(page)
    assert (shown(page), kept(app, "named")) == (sample, [(sample, "red", 5)])
    assert app.rows("SELECT who FROM leases WHERE sample = ?", sample) == [("named",)]
    assert field.input_value() == "named"


def test_keys_typed_while_the_server_looks_at_a_new_name_are_that_names(browse, app):
    page, held = enter(browse, app, "first of two"), []
    page.keyboard.press("1")
    settled(page)

    def hold(route) -> None:
        asked = '"second of two"' in (route.request.post_data or "")
        held.append(route) if asked else route.continue_()

    page.route("**/gradio_api/**", hold)
    field = page.locator("#who").locator("input, textarea")
    field.fill("second of two")
    with page.expect_request(lambda request: '"second of two"' in (request.post_data or "")):
        field.press("Enter")
    page.keyboard.type("73")
    for route in held:
        route.continue_()
    page.locator("#annotate-progress", has_text="done by second of two").wait_for()
    settled(page)
    assert [score for *_, score in kept(app, "first of two")] == [1]
    assert [score for *_, score in kept(app, "second of two")] == [7, 3]


def test_what_somebody_else_said_is_seen_beside_ones_own_quick_keys(browse, app):
    page, store = enter(browse, app, "quick"), Store(app.home / "studio.db")
    packets = []
    page.on(
        "request", lambda r: packets.append(r.post_data) if '"operations"' in (r.post_data or "") else None
    )
    page.keyboard.press("4")
    settled(page)
    store.scores.set(shown(page), 6, 1, "slow", word="square")
    page.keyboard.press("5")
    page.locator(f"{CHIPS} .ws-other", has_text="slow says 1 since").wait_for()
    settled(page)
    assert digits(page)[:2] == ["4", "5"]
    assert all('"mark":"' in packet for packet in packets)


def test_keys_work_again_when_one_comes_back_by_the_tab(browse, app):
    page = enter(browse, app, "back")
    page.get_by_role("tab", name="Compare").click()
    page.get_by_role("tab", name="Annotate").click()
    page.locator(CHIPS).first.wait_for()
    page.keyboard.press("4")
    settled(page)
    assert [score for *_, score in kept(app, "back")] == [4]


def test_a_digit_that_is_not_the_expected_score_says_so_and_the_mean_follows_each_key(browse, app):
    page = enter(browse, app, "mean")
    first, chips = page.locator(CHIPS).first, page.locator("#annotate-words .ws-chips")
    assert "8 of 9, expected 7." in first.get_attribute("aria-valuetext")
    assert page.locator(f"{CHIPS}.ws-spread").count() == 5
    high = page.locator(".ws-pad").bounding_box()["y"]
    width = chips.locator(".ws-row").evaluate("row => row.lastElementChild.getBoundingClientRect().right")
    page.keyboard.press("3")
    page.locator(".ws-mean", has_text="Mean score 6.5 of 9").wait_for()
    assert page.locator(f"{CHIPS}.ws-spread").count() == 4
    assert "expected" not in first.get_attribute("aria-valuetext")
    assert page.locator(".ws-pad").bounding_box()["y"] == high
    assert (
        chips.locator(".ws-row").evaluate("row => row.lastElementChild.getBoundingClientRect().right")
        == width
    )


def test_done_says_once_which_words_are_still_hidden(browse, app):
    page = enter(browse, app, "unseen", blind=True)
    sample = shown(page)
    page.keyboard.press("4")
    page.keyboard.press("Enter")
    page.locator(".ws-state", has_text="4 words have no score of yours yet").wait_for()
    assert app.rows("SELECT kind FROM submissions WHERE who = 'unseen'") == []
    page.keyboard.press("Enter")
    moved(page, sample)
    assert app.rows("SELECT sample FROM submissions WHERE who = 'unseen'") == [(sample,)]


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
    confirmed = """SELECT count(*) FROM scores e WHERE source = 'confirmed' AND who = 'undone' AND kind = 'set'
        AND NOT EXISTS (SELECT 1 FROM scores n WHERE n.supersedes = e.id)"""
    assert app.rows(confirmed) == [(3 + 5,)]  # by Enter what was left, by n all

    page.keyboard.press("Control+z")  # the 6 of the fourth
    settled(page)
    assert (shown(page), len(kept(app, "undone"))) == (fourth, 2)
    page.locator("#annotate-progress", has_text="2 done by undone").wait_for()
    page.keyboard.press("u")  # back to the third, which is neither submitted nor confirmed any more
    assert moved(page, fourth) == third
    assert app.rows(confirmed) == [(3,)]
    page.locator("#annotate-progress", has_text="1 done by undone").wait_for()
    page.reload()
    page.get_by_role("tab", name="Annotate").click()
    page.locator(CHIPS).first.wait_for()
    assert shown(page) == third
    page.locator(CHIPS).first.focus()
    page.keyboard.press("u")
    assert moved(page, third) == second  # which was skipped
    page.keyboard.press("u")
    assert moved(page, second) == first
    page.keyboard.press("u")
    page.keyboard.press("u")
    page.wait_for_function("() => !document.querySelector('#annotate-words .ws-corrected')")
    settled(page)
    assert kept(app, "undone") == [] and app.rows(confirmed) == [(0,)]
    page.keyboard.press("u")
    page.locator(".ws-state", has_text="nothing left to undo").wait_for()
    assert app.rows("SELECT count(*) FROM scores WHERE who = 'undone' AND undoes IS NOT NULL") == [(3 + 8,)]
    page.locator("#annotate-progress", has_text="0 done by undone").wait_for()
    undone = "SELECT count(*), count(undoes), sum(kind = 'open') FROM submissions WHERE who = 'undone'"
    assert app.rows(undone) == [(6, 3, 3)]


def test_two_browsers_are_never_given_the_same_image(browse, app):
    pages, seen = [enter(browse, app, "ann"), enter(browse, app, "bob")], [[], []]
    for _ in range(6):
        places = [shown(page) for page in pages]
        for page, place, own in zip(pages, places, seen):
            own.append(place)
            page.keyboard.press("7")
            page.keyboard.press("n")
        for page, place in zip(pages, places):
            moved(page, place)
        assert places[0] != places[1]
    # what one has submitted the other may be given later, but never while the first is at it
    assert all(a != b for a, b in zip(*seen))
    assert len(set(seen[0])) == len(set(seen[1])) == 6


def words_in(found) -> list[dict]:
    """All word chips anywhere in an answer."""
    if isinstance(found, dict):
        own = [found] if "vlm" in found and "scored" in found else []
        return own + [word for value in found.values() for word in words_in(value)]
    return [word for value in found for word in words_in(value)] if isinstance(found, list) else []


def test_blind_mode_keeps_the_vlms_score_from_the_browser_until_the_first_guess(browse, app):
    page, answers = enter(browse, app, "blind", blind=True), []
    before = shown(page)
    page.on("response", lambda response: answers.append(response) if "/run/" in response.url else None)
    page.keyboard.press("s")
    moved(page, before)
    page.wait_for_timeout(600)
    assert digits(page) == ["?"] * 5
    sent = [answer.text() for answer in answers]
    words = [word for text in sent for word in words_in(json.loads(text)) if word["scored"]]
    assert len(words) >= 5
    for word in words:
        told = {name: word[name] for name in ("vlm", "expected", "calibrated", "human", "score", "change")}
        assert word["hidden"]
        assert set(told.values()) == {None}
    for text in (*sent, page.content()):
        assert str(MEAN) not in text
        assert "VLM 8" not in text
    page.keyboard.press("n")
    page.locator(".ws-state", has_text="Blind mode hides").wait_for()
    page.keyboard.press("3")
    page.locator(f"{CHIPS} .ws-vlm", has_text="VLM 8").wait_for()
    assert digits(page) == ["3", "?", "?", "?", "?"]
    page.keyboard.press("a")  # accepts what is shown, and nothing that is not
    settled(page)
    assert [(word, score) for _, word, score in kept(app, "blind")] == [("red", 3)]
    page.reload()
    page.get_by_role("tab", name="Annotate").click()
    page.locator(CHIPS).first.wait_for()
    assert page.locator("#blind input").is_checked()
    assert digits(page) == ["3", "?", "?", "?", "?"]


def test_blind_mode_holds_however_late_the_server_knows_the_browser(browse, app):
    page, held, late = enter(browse, app, "patient", blind=True), [], [True]
    page.route("**/gradio_api/run/**", lambda route: held.append(route) if late else route.continue_())
    with page.expect_request("**/gradio_api/run/**"):
        page.reload()
    page.get_by_role("tab", name="Annotate").wait_for()
    late.clear()
    page.get_by_role("tab", name="Annotate").click()
    page.locator(CHIPS).first.wait_for()
    assert digits(page) == ["?"] * 5
    for route in held:
        route.continue_()


def test_keys_typed_without_a_connection_outlive_a_reload_and_are_stored_then(browse, app):
    page = enter(browse, app, "offline")
    sample = shown(page)
    page.route("**/run/predict", lambda route: route.abort())
    page.keyboard.type("246")
    page.locator(".ws-state", has_text="Not saved yet: 3 keys").wait_for()
    assert digits(page)[:3] == ["2", "4", "6"]
    assert kept(app, "offline") == []
    page.unroute("**/run/predict")
    page.reload()
    page.get_by_role("tab", name="Annotate").click()
    page.locator(CHIPS).first.wait_for()
    page.wait_for_function("() => document.querySelectorAll('#annotate-words .ws-corrected').length === 3")
    page.locator(".ws-state[data-pending='0']").wait_for()
    assert kept(app, "offline") == [(sample, "red", 2), (sample, "circle", 4), (sample, "above", 6)]
    assert page.evaluate("Object.keys(localStorage).filter(name => name.includes('.pending.'))") == []


def test_a_connection_that_comes_back_finds_the_keys_that_waited(browse, app):
    page = enter(browse, app, "again")
    page.context.set_offline(True)
    page.keyboard.type("13")
    page.locator(".ws-state", has_text="Not saved yet").wait_for()
    page.context.set_offline(False)
    page.locator(".ws-state[data-pending='0']").wait_for()
    page.locator("#annotate-words .ws-corrected").nth(1).wait_for()
    assert [score for _, _, score in kept(app, "again")] == [1, 3]


def test_where_the_store_fails_the_page_says_why_and_keeps_the_key(browse, app):
    page, database = browse(app.url), app.home / "studio.db"
    page.get_by_role(
        "tab", name="Annotate"
    ).click()  # under no name, so that it is the very first key that fails
    page.locator(CHIPS).first.wait_for()
    sample = shown(page)
    page.locator(CHIPS).first.focus()
    database.rename(app.home / "away.db")  # as good as a full disk: no write succeeds
    try:
        page.keyboard.press("4")
        page.locator(".ws-state", has_text="Not saved yet: The database studio.db is gone").wait_for()
        assert digits(page)[0] == "4"
    finally:
        (app.home / "away.db").rename(database)
    settled(page)
    mine = "SELECT score FROM scores WHERE source = 'human' AND who LIKE 'anonymous-%' AND sample = ?"
    assert app.rows(mine, sample) == [(4,)]


def test_a_second_tab_shows_what_the_first_stored(browse, app):
    page = enter(browse, app, "twice")
    sample = shown(page)
    tab = page.context.new_page()
    tab.goto(app.url)
    tab.get_by_role("tab", name="Annotate").click()
    tab.locator(f"#annotate-words [data-sample='{sample}']").wait_for()
    page.keyboard.press("4")
    settled(page)
    tab.evaluate("dispatchEvent(new Event('focus'))")
    tab.locator(f"{CHIPS} .ws-digit", has_text="4").wait_for()


def test_who_is_later_on_a_word_sees_what_somebody_else_said_meanwhile(browse, app):
    page = enter(browse, app, "later")
    sample = shown(page)
    Store(app.home / "studio.db").scores.set(sample, 2, 4, "bob")
    page.evaluate("dispatchEvent(new Event('focus'))")
    page.locator(f"{CHIPS} .ws-other", has_text="bob says 4 since").wait_for()
    page.keyboard.type("37")
    settled(page)
    assert page.locator(f"{CHIPS} .ws-other").all_inner_texts() == ["bob says 4 since"]
    page.locator("#blind input").check()
    page.locator(f"{CHIPS} .ws-digit", has_text="?").first.wait_for()
    assert page.locator(f"{CHIPS} .ws-other").count() == 0


def test_a_flag_and_a_note_are_written_taken_back_and_survive_a_reload(browse, app):
    page = enter(browse, app, "remarks")
    page.keyboard.press("f")
    page.keyboard.press("Escape")
    assert not page.locator(".ws-form").is_visible()
    page.keyboard.press("f")
    page.get_by_label("Another reason").fill("two suns <b>")
    page.get_by_label("Another reason").press("Enter")
    page.locator(".ws-remark", has_text="two suns <b>").wait_for()
    page.keyboard.press("f")
    page.keyboard.press("2")
    page.locator(".ws-remark", has_text="The prompt makes no sense").wait_for()
    page.keyboard.press("u")  # a flag is a step as a score is
    page.locator(".ws-remark", has_text="two suns <b>").wait_for()
    settled(page)
    page.keyboard.press("m")
    page.keyboard.type("see f, n and s")  # which are letters here
    page.keyboard.press("Control+Enter")  # closes it, and submits nothing
    page.locator(".ws-remark", has_text="see f, n and s").wait_for()
    settled(page)
    remarks = "SELECT kind, text FROM remarks WHERE who = 'remarks' ORDER BY seq"
    said = ["two suns <b>", "The prompt makes no sense", "two suns <b>", "see f, n and s"]
    assert [text for _, text in app.rows(remarks)] == said
    page.reload()
    page.get_by_role("tab", name="Annotate").click()
    page.locator(".ws-remark", has_text="two suns <b>").get_by_role("button").click()
    page.locator(".ws-remark", has_text="Flagged").wait_for(state="detached")
    settled(page)
    assert app.rows(remarks)[-1] == ("flag", "")


def test_a_phone_needs_no_keyboard_and_nothing_is_wider_than_it(browse, app):
    page = enter(browse, app, "phone", has_touch=True, is_mobile=True, narrow=True)
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
        box = target.bounding_box()
        assert box["width"] >= 44, target.inner_text()
        assert box["height"] >= 44, target.inner_text()
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    page.locator("#annotate-words .ws-button", has_text="Nothing wrong").tap()
    moved(page, sample)
    page.locator("#annotate-words .ws-button", has_text="Undo").tap()
    page.locator(f"#annotate-words [data-sample='{sample}']").wait_for()
    assert {score for _, _, score in kept(app, "phone")} == {5}  # the others were confirmed, until the undo


def test_where_no_image_fits_the_button_chooses_all(browse, app):
    page = enter(browse, app, "unfit")
    unfold(page.locator("#which-images button").first, page.locator("#order input"))
    page.locator("#filter-kind input").click()
    page.get_by_role("option", name="count").click()
    page.locator("#to-all").wait_for()
    assert not page.locator("#to-compare").is_visible()
    box, row = page.locator("#to-all").bounding_box(), page.locator("#annotate-work").bounding_box()
    assert (
        abs(box["x"] + box["width"] / 2 - row["x"] - row["width"] / 2) < 60
    )  # the guidelines stand at its right
    page.locator("#to-all").click()
    page.locator(CHIPS).first.wait_for()


def test_a_filter_and_an_order_are_kept_in_the_browser(browse, app):
    page = enter(browse, app, "chooser")
    unfold(page.locator("#which-images button").first, page.locator("#order input"))
    page.get_by_role("button", name="Only this image's prompt").click()
    page.locator("#annotate-progress", has_text="of the images that you chose").wait_for()
    page.locator("#order input").click()
    page.get_by_role("option", name="Newest").click()
    page.locator("#why-next", has_text="Queue order: the newest image").wait_for()
    page.reload()
    page.get_by_role("tab", name="Annotate").click()
    page.locator("#why-next", has_text="Queue order: the newest image").wait_for()
    assert page.locator("#order input").input_value() == "Newest"
    page.locator("#annotate-progress", has_text="of the images that you chose").wait_for()
