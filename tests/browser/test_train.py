"""Training outlives the page: started, reloaded, stopped, killed, resumed, promoted and rolled back in a browser."""

import os
import re
import signal

from tests.browser.conftest import field, tab, unfold

DONE = "SELECT id FROM runs WHERE state = 'done' AND kind = 'projector' AND id NOT LIKE 'shipped%' ORDER BY seq DESC"


def state(page, name: str) -> None:
    page.locator("#run-state", has_text=re.compile(f"^{name}$")).wait_for()


def step(page) -> int:
    text = page.locator("#run-progress", has_text=re.compile(r"\d+ of \d+")).inner_text()
    return int(re.search(r"(\d+) of", text)[1])


def start(page, steps: int, heldout: int) -> None:
    """Start a projector training of so many steps."""
    tab(page, "Train")
    page.locator("#start:not([disabled])").wait_for()
    page.get_by_label("Projector", exact=True).check()
    if not page.locator("#setting-projector_steps").is_visible():
        unfold(page.get_by_role("button", name="More settings"), page.locator("#setting-steps input"))
    values = {"projector_steps": steps, "projector_batch": 2, "prompts": 8, "heldout_prompts": heldout,
              "heldout_seeds": 1, "steps": 1}  # fmt: skip
    for name, value in values.items():
        page.locator(f"#setting-{name} input").fill(str(value))
        page.locator(f"#setting-{name} input").press("Tab")
    page.locator("#start").click()


def test_a_run_goes_on_through_a_reload_and_a_kill_and_is_stopped(page, app):
    start(page, 100_000, 0)
    state(page, "running")
    before = step(page)
    page.reload()
    tab(page, "Train")
    state(page, "running")
    assert step(page) >= before
    page.locator("#curves .js-plotly-plot").wait_for()
    assert page.locator("#start").is_disabled()
    ((run, pid),) = app.rows("SELECT id, pid FROM runs WHERE state = 'running'")
    os.kill(pid, signal.SIGKILL)
    state(page, "interrupted")
    assert "nothing was lost" in page.locator("#run-progress").inner_text()
    page.locator("#resume").click()
    state(page, "running")
    page.locator("#stop-run").click()
    state(page, "stopped")
    page.locator("#resume").wait_for()
    assert app.rows("SELECT state FROM runs WHERE id = ?", run) == [("stopped",)]


def test_a_finished_run_shows_all_of_it_and_is_promoted_and_deleted_by_buttons_only(page, app):
    done = []
    for steps in (2, 3):
        start(page, steps, 2)
        while len(app.rows(DONE)) == len(done):  # the page may still show the run before
            page.wait_for_timeout(200)
        done = [run for (run,) in app.rows(DONE)]
        page.locator("#run-title", has_text=re.compile(rf"{done[0]}\s+done")).wait_for()
    run, other = done
    page.locator("#heldout .js-plotly-plot").wait_for()
    assert "judged by the detector" in page.locator("#verdict").inner_text()
    assert app.rows("SELECT count(*) FROM promotions") == [(0,)]
    page.locator("#force input").check()
    page.locator("#promote").click()
    page.locator("#run-title", has_text="in use").wait_for()
    assert app.rows("SELECT run, action FROM promotions") == [(run, "promote")]
    page.locator("#rollback").click()
    page.locator("#rollback[disabled]").wait_for()
    assert app.rows("SELECT action FROM promotions ORDER BY seq") == [("promote",), ("rollback",)]

    parts = page.locator("#run-tabs")
    parts.get_by_role("tab", name="Samples").click()
    field(page, "samples-seeds").first.fill("1-2")
    page.locator("#samples-make").click()
    page.locator("#samples-shown .gain").nth(3).wait_for()
    assert page.locator("#samples-shown img").count() == 6
    parts.get_by_role("tab", name="Settings").click()
    page.locator("#run-settings", has_text="default 200").wait_for()
    parts.get_by_role("tab", name="Compare").click()
    page.locator("#other-run input").click()
    page.get_by_role("option", name=re.compile(other)).click()
    page.locator("#runs-differences", has_text="differs").wait_for()
    page.locator("#runs-heldout .js-plotly-plot").wait_for()
    parts.get_by_role("tab", name="Card").click()
    page.locator("#model-card", has_text="Known limits").wait_for()
    with page.expect_download() as taken:
        page.locator("#pack-run").click()
    assert taken.value.suggested_filename == f"projector-{run}.zip"
    page.get_by_role("button", name="Delete this run").first.click()
    page.locator("#delete-run[disabled]").wait_for()
    page.locator("#delete-sure input").check()
    page.locator("#delete-run:not([disabled])").click()
    page.locator("#run-title", has_text=other).wait_for()
    assert not (app.home / "runs" / run).exists()
    assert app.rows("SELECT archived IS NOT NULL, state FROM runs WHERE id = ?", run) == [(1, "done")]
