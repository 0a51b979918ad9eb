"""The tab Library in a real browser: what was made is found, opened, taken out, brought in, backed up and brought back."""

import json
import re

from playwright.sync_api import expect

from data.store import Store
from studio.pages.library import runs as library_runs
from tests.browser.conftest import compare, field, tab, unfold


def open_part(page, name: str) -> None:
    tab(page, "Library")
    page.locator("#library").get_by_role("tab", name=name, exact=True).click()


def choose(page, menu: str, option: str) -> None:
    page.locator(f"#{menu}").locator("input").click()
    page.get_by_role("option", name=option, exact=True).click()


def test_images_are_found_ordered_opened_and_handed_to_annotate(page, app):
    compare(page, "a red circle above a blue square", "21, 22")
    tab(page, "Library")
    cards = page.locator("#library-images .card")
    cards.first.wait_for()
    field(page, "library-search").fill("zebra")
    page.locator(".cards-empty", has_text="No image matches").wait_for()
    field(page, "library-search").fill("BLUE square")
    cards.first.wait_for()
    found = app.rows("SELECT count(*) FROM samples WHERE prompt LIKE '%blue%' AND prompt LIKE '%square%'")
    expect(page.locator("#library-count")).to_contain_text(f"{found[0][0]} images, page 1")
    assert (
        page.locator("#library-images img").first.evaluate("i => i.decode().then(() => i.naturalWidth)") > 0
    )

    page.locator("#library-look label").last.click()
    page.locator("#library-labels tr.pickable").first.wait_for()
    field(page, "library-word").fill("circ")
    page.locator("#library-count", has_text=re.compile(r"\d+ words?, in")).wait_for()
    expect(page.locator("#library-labels tr.pickable td:first-child").first).to_contain_text("circle")
    expect(page.locator("#library-labels tr.pickable td:first-child", has_text="blue")).to_have_count(0)
    page.locator("#library-look label").first.click()
    cards.first.wait_for()

    choose(page, "library-sort", "Lowest mean score")
    shown = "[...document.querySelectorAll('#library-images .card-mark')].map((mark) => parseFloat(mark.textContent))"
    ascending = (
        f"() => {{ const s = {shown}; return s.length > 1 && s.every((x, i) => !i || s[i - 1] <= x); }}"
    )
    page.wait_for_function(ascending)
    unfold(page.locator("#library-filters button").first, page.locator("#library-mean-to input"))
    choose(page, "library-mean-to", "5")
    page.wait_for_function(f"() => {{ const s = {shown}; return s.length && s.every((x) => x <= 5); }}")

    cards.first.focus()
    id = cards.first.get_attribute("data-key")
    page.keyboard.press("Enter")
    page.locator("#library-history tr").nth(1).wait_for()
    page.locator("#library-words td", has_text="red").wait_for()
    page.locator("#library-close").click()
    page.locator(f"[data-key='{id}']").click()
    page.locator("#library-annotate").click()
    page.locator(f"#annotate-words [data-sample='{id}']").wait_for()


def test_the_oldest_run_is_on_the_last_page_and_opens_in_its_tab(page, app):
    store = Store(app.home / "studio.db")
    created = "2026-01-02T03:04:05.000000Z"
    for kind, config, place, title in (
        ("reward", "{}", "runs", "#run-title"),
        ("experiment", '{"name": "tau"}', "experiments", "#experiment-title"),
    ):
        ids = [f"{kind}-{i:03d}" for i in range(library_runs.SHOWN + 1)]
        with store.database.writing() as db:
            insert = "INSERT INTO runs (id, kind, config, state, created) VALUES (?, ?, ?, 'stopped', ?)"
            db.conn.executemany(insert, [(id, kind, config, created) for id in ids])
        try:
            open_part(page, "Runs")
            field(page, "library-run-search").fill(f"{kind}-")
            page.locator("#library-run-count", has_text=f"{len(ids)} runs").wait_for()
            expect(page.locator("#library-run-previous")).to_be_disabled()
            page.locator("#library-run-next").click()
            page.locator(f"#library-run-table tr[data-key='{ids[0]}']").click()
            chosen = page.locator(f"#{place} tr[data-key='{ids[0]}'][aria-current]")
            chosen.wait_for()
            for _ in range(2):  # the timer looks at the store
                page.wait_for_event("requestfinished")
            page.wait_for_timeout(200)
            expect(chosen).to_be_visible()
            expect(page.locator(title)).to_contain_text(ids[0])
        finally:
            store.runs.archive(ids)


def test_labels_go_out_and_come_in_after_a_look_and_a_backup_brings_back_what_was_before(page, app, tmp_path):
    compare(page, "a purple triangle", "31")
    open_part(page, "Backup")
    page.locator("#backup-make").click()
    page.locator("#backup-said", has_text="Written: studio-").wait_for()
    open_part(page, "Export")
    page.locator("#export-make").click()
    page.locator("#export-said", has_text="Written:").wait_for()
    with page.expect_download() as waiting:
        page.locator("#export-file a").first.click()
    waiting.value.save_as(tmp_path / "all.jsonl")
    assert b'"version":4' in (tmp_path / "all.jsonl").read_bytes()[:200]
    field(page, "push-name").fill("ann/words")
    page.locator("#push").click()
    page.locator("#push-said", has_text="There is no token").wait_for()

    ((id,),) = app.rows("SELECT id FROM samples WHERE prompt = 'a purple triangle' AND method = 'none'")
    said = "SELECT score FROM scores WHERE sample = ? AND source = 'human'"
    table = tmp_path / "scores.csv"
    open_part(page, "Import")
    page.get_by_label("CSV table of scores").check()
    for score, answer in ((11, "line 2: score must be from 0 to 9"), (8, "Would be taken over")):
        expect(page.locator("#import-take")).to_be_disabled()
        table.write_text(f"sample,word_index,score\n{id},1,{score}\n")
        if page.locator("#import-file button[aria-label='Clear']").count():
            page.locator("#import-file button[aria-label='Clear']").click()
        page.locator("#import-file input[type=file]").set_input_files(table)
        page.locator("#import-file", has_text="scores").locator("a, .file-name, td").first.wait_for()
        page.locator("#import-look").click()
        page.locator("#import-said", has_text=answer).wait_for()
    page.locator("#import-changes td", has_text="→ 8").wait_for()
    assert app.rows(said, id) == []
    page.locator("#import-take").click()
    page.locator("#import-said", has_text=re.compile(r"^\s*Taken over: 0 new and 1 changed")).wait_for()
    assert app.rows(said, id) == [(8,)]
    open_part(page, "Log")
    page.locator("#audit td", has_text="import").first.wait_for()
    page.locator("#webhook", has_text="No webhook is set").wait_for()

    open_part(page, "Backup")
    page.locator("#backups tr.pickable").first.click()
    expect(page.locator("#restore")).to_be_disabled()
    page.locator("#restore-sure input").check()
    page.locator("#restore").click()
    page.locator("#backup-said", has_text="Restored:").wait_for()
    assert app.rows(said, id) == []
    ((detail,),) = app.rows("SELECT detail FROM audit WHERE action = 'restore'")
    assert (app.home / json.loads(detail)["replaced"]).exists()
