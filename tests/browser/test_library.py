"""The tab Library in a real browser: what was made is found, opened, taken out, brought in, backed up and brought back."""

import json
import re
import zipfile

import pytest
from playwright.sync_api import expect

from data.store import Store
from studio.pages.library import runs as library_runs
from tests.browser.conftest import unfold

TEXT = "input, textarea"


def sub(page, name):
    page.locator("#library").get_by_role("tab", name=name, exact=True).click()


def opened(page):
    page.get_by_role("tab", name="Library", exact=True).click()
    page.locator("#library-images .card").first.wait_for()


def test_images_are_found_opened_and_handed_to_annotate(page, compare, app):
    compare(page, "a red circle above a blue square", "21, 22")
    opened(page)
    cards = page.locator("#library-images .card")
    search = page.locator("#library-search").locator(TEXT)
    search.fill("zebra")
    page.locator(".cards-empty", has_text="No image matches").wait_for()
    search.fill("BLUE square")
    cards.first.wait_for()
    found = app.rows("SELECT count(*) FROM samples WHERE prompt LIKE '%blue%' AND prompt LIKE '%square%'")
    expect(page.locator("#library-count")).to_contain_text(f"{found[0][0]} images, page 1")
    assert (
        page.locator("#library-images img").first.evaluate("i => i.decode().then(() => i.naturalWidth)") > 0
    )

    page.locator("#library-look label").last.click()
    page.locator("#library-labels tr.pickable").first.wait_for()
    page.locator("#library-word").locator(TEXT).fill("circ")
    page.locator("#library-count", has_text=re.compile(r"\d+ words?, in")).wait_for()
    expect(page.locator("#library-labels tr.pickable td:first-child").first).to_contain_text("circle")
    expect(page.locator("#library-labels tr.pickable td:first-child", has_text="blue")).to_have_count(0)
    page.locator("#library-look label").first.click()
    cards.first.focus()
    id = cards.first.get_attribute("data-key")
    page.keyboard.press("Enter")
    page.locator("#library-history tr").nth(1).wait_for()
    page.locator("#library-words td", has_text="red").wait_for()
    page.locator("#library-close").click()
    cards.first.wait_for()
    page.locator(f"[data-key='{id}']").click()
    page.locator("#library-annotate").click()
    page.locator(f"#annotate-words [data-sample='{id}']").wait_for()


def test_images_are_ordered_and_bounded_by_their_mean_score(page, compare, app):
    compare(page, "a red circle above a blue square", "21, 22")
    opened(page)
    search = page.locator("#library-search").locator(TEXT)
    search.fill("red circle")
    marks = page.locator("#library-images .card-mark")

    def choose(menu, option):
        page.locator(f"#{menu}").locator("input").click()
        page.get_by_role("option", name=option, exact=True).click()

    def settled(good):
        """The figures of the cards, once they are as they should be."""
        expect(page.locator("#library-count")).to_contain_text("images")
        for _ in range(50):
            shown = [float(text.split()[0]) for text in marks.all_inner_texts()]
            if shown and good(shown):
                return shown
            page.wait_for_timeout(100)
        raise AssertionError(shown)

    choose("library-sort", "Lowest mean score")
    low = settled(lambda shown: shown == sorted(shown))
    choose("library-sort", "Highest mean score")
    assert settled(lambda shown: shown == sorted(shown, reverse=True))[0] >= low[-1]
    unfold(page.locator("#library-filters button").first, page.locator("#library-mean-to input"))
    choose("library-mean-to", "5")
    settled(lambda shown: max(shown) <= 5.0)


@pytest.mark.parametrize(("kind", "tab"), [("reward", "runs"), ("experiment", "experiments")])
def test_the_oldest_run_is_on_the_last_page_and_opens_in_its_tab(page, app, kind, tab):
    store, ids = Store(app.home / "studio.db"), [f"{kind}-{i:03d}" for i in range(library_runs.SHOWN + 1)]
    config = '{"name": "tau"}' if kind == "experiment" else "{}"
    with store.database.writing() as db:
        db.conn.executemany(
            "INSERT INTO runs (id, kind, config, state, created) VALUES (?, ?, ?, 'stopped', '2026-01-02T03:04:05.000000Z')",
            [(id, kind, config) for id in ids],
        )
    try:
        page.get_by_role("tab", name="Library", exact=True).click()
        sub(page, "Runs")
        page.locator("#library-run-search").locator(TEXT).fill(f"{kind}-")
        page.locator("#library-run-count", has_text="201 runs").wait_for()
        expect(page.locator("#library-run-previous")).to_be_disabled()
        page.locator("#library-run-next").click()
        page.locator(f"#library-run-table tr[data-key='{ids[0]}']").click()
        page.locator(f"#{tab} tr[data-key='{ids[0]}'][aria-current]").wait_for()
        page.wait_for_timeout(2500)  # the timer looks at the store meanwhile
        expect(page.locator(f"#{tab} tr[data-key='{ids[0]}'][aria-current]")).to_be_visible()
        title = {"runs": "#run-title", "experiments": "#experiment-title"}[tab]
        expect(page.locator(title)).to_contain_text(ids[0])
    finally:
        store.runs.archive(ids)


def test_labels_go_out_and_come_in_after_a_look_at_what_would_change(page, compare, app, tmp_path):
    compare(page, "a purple triangle", "31")
    opened(page)
    sub(page, "Export")
    page.locator("#export-make").click()
    page.locator("#export-said", has_text="Written:").wait_for()
    with page.expect_download() as waiting:
        page.locator("#export-file a").first.click()
    waiting.value.save_as(tmp_path / "all.jsonl")
    assert b'"version":4' in (tmp_path / "all.jsonl").read_bytes()[:200]

    ((id,),) = app.rows("SELECT id FROM samples WHERE prompt = 'a purple triangle' AND method = 'none'")
    table = tmp_path / "scores.csv"
    sub(page, "Import")
    page.get_by_label("CSV table of scores").check()

    def look(content):
        table.write_text(content)
        if page.locator("#import-file button[aria-label='Clear']").count():
            page.locator("#import-file button[aria-label='Clear']").click()
        page.locator("#import-file input[type=file]").set_input_files(table)
        page.locator("#import-file", has_text="scores").locator("a, .file-name, td").first.wait_for()
        page.locator("#import-look").click()

    look(f"sample,word_index,score\n{id},1,11\n")
    page.locator("#import-said", has_text="line 2: score must be from 0 to 9").wait_for()
    expect(page.locator("#import-take")).to_be_disabled()
    look(f"sample,word_index,score\n{id},1,8\n")
    page.locator("#import-said", has_text="Would be taken over").wait_for()
    page.locator("#import-changes td", has_text="→ 8").wait_for()
    assert app.rows("SELECT count(*) FROM scores WHERE sample = ? AND source = 'human'", id) == [(0,)]
    page.locator("#import-take").click()
    taken = re.compile(r"^\s*Taken over: 0 new and 1 changed")
    page.locator("#import-said", has_text=taken).wait_for()
    assert app.rows("SELECT score FROM scores WHERE sample = ? AND source = 'human'", id) == [(8,)]

    sub(page, "Log")
    page.locator("#audit td", has_text="import").first.wait_for()
    page.locator("#webhook", has_text="No webhook is set").wait_for()


def test_a_dataset_is_one_file_and_a_push_without_a_token_says_so(page, compare, tmp_path):
    compare(page, "a green star", "31")
    opened(page)
    sub(page, "Export")
    page.locator("#export-format").locator("input").click()
    page.get_by_role("option", name="Dataset folder (zip)").click()
    page.locator("#export-licence").locator(TEXT).fill("cc-by-4.0")
    page.locator("#export-make").click()
    page.locator("#export-said", has_text="Written:").wait_for()
    with page.expect_download() as waiting:
        page.locator("#export-file a").first.click()
    waiting.value.save_as(tmp_path / "data.zip")
    with zipfile.ZipFile(tmp_path / "data.zip") as archive:
        assert b"license: cc-by-4.0" in archive.read("README.md")
    page.locator("#push-name").locator(TEXT).fill("ann/words")
    page.locator("#push").click()
    page.locator("#push-said", has_text="There is no token").wait_for()


def test_a_backup_is_made_listed_and_brought_back(page, compare, call_me, app):
    compare(page, "a yellow ring", "41")
    opened(page)
    sub(page, "Backup")
    page.locator("#backup-make").click()
    page.locator("#backup-said", has_text="Written: studio-").wait_for()
    ((before,),) = app.rows("SELECT count(*) FROM samples")
    page.get_by_role("tab", name="Compare", exact=True).click()
    compare(page, "a yellow ring", "42")
    assert app.rows("SELECT count(*) FROM samples")[0][0] > before
    page.get_by_role("tab", name="Library", exact=True).click()
    sub(page, "Backup")
    page.locator("#backups tr.pickable").first.click()
    expect(page.locator("#restore")).to_be_disabled()
    page.locator("#restore-sure input").check()
    page.locator("#restore").click()
    page.locator("#backup-said", has_text="Restored:").wait_for()
    assert app.rows("SELECT count(*) FROM samples") == [(before,)]
    ((detail,),) = app.rows("SELECT detail FROM audit WHERE action = 'restore'")
    assert (app.home / json.loads(detail)["replaced"]).exists()
