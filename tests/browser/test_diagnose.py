"""The tab Diagnose in a browser: a kept report is opened and taken away, and an experiment outlives the page."""

import json
import re
from pathlib import Path

from data.store import Store
from studio.components.report import html
from tests.browser.conftest import unfold
from tests.browser.test_hostile import inert
from tests.studio.components import report_example as example

HOSTILE = "<img src=x onerror=window.hacked=1>${window.hacked=2}{{window.hacked}}"


def keep(app, report: dict) -> str:
    """A finished run with this report, as an experiment leaves it; the run's id."""
    store = Store(app.home / "studio.db")
    run = store.runs.new("experiment", {"name": report["experiment"]})
    store.runs.update(run, state="running")
    store.runs.update(run, state="done")
    folder = app.home / "runs" / run
    folder.mkdir(parents=True)
    (folder / "report.json").write_text(json.dumps(report), encoding="utf-8")
    (folder / "report.html").write_text(html(report), encoding="utf-8")
    return run


def pick(page, run: str) -> None:
    """Opens a run from the list, with the keyboard."""
    page.get_by_role("tab", name="Diagnose").click()
    page.locator(f"#experiments tr[data-key='{run}'] button").focus()
    page.keyboard.press("Enter")
    page.locator(f"#experiments tr[data-key='{run}'][aria-current]").wait_for()


def state(page, name: str) -> None:
    page.locator("#experiment-state", has_text=re.compile(f"^{name}$")).wait_for()


def test_a_report_is_opened_and_its_files_are_taken_away(page, app, browse):
    given = example.report()
    run = keep(app, given)
    pick(page, run)
    for place in range(len(given["figures"])):
        page.locator(f"#report-plot-{place} .js-plotly-plot .main-svg").first.wait_for()
    assert given["title"] in page.locator("#report .report-title").inner_text()
    assert given["answer"][0] in page.locator("#report .report-answer").inner_text()
    assert page.locator("#report .report-pictures img").count() == 4

    kept = {}
    for kind in ("html", "json"):
        with page.expect_download() as download:
            page.locator(f"#download-{kind}").click()
        assert download.value.suggested_filename == f"tau-{run}.{kind}"
        kept[kind] = Path(download.value.path())
    assert json.loads(kept["json"].read_text(encoding="utf-8"))["title"] == given["title"]

    alone = app.home / f"{run}.html"  # opened as a reader would, from a folder
    alone.write_bytes(kept["html"].read_bytes())
    offline = browse(alone.as_uri())
    offline.locator(".plot .main-svg").first.wait_for()
    assert offline.locator(".plot .main-svg").count() >= len(given["figures"])


def test_a_hostile_report_is_inert_in_the_page_and_in_its_file(page, app, browse):
    series = [{"name": HOSTILE, "x": [HOSTILE, "b"], "y": [1, 2], "text": [HOSTILE, HOSTILE]}]
    figures = [{"kind": kind, "title": HOSTILE, "x": HOSTILE, "y": HOSTILE, "note": HOSTILE, "series": series}
               for kind in ("dots", "line")]  # fmt: skip
    table = {"title": HOSTILE, "columns": [HOSTILE], "rows": [[HOSTILE]], "note": HOSTILE}
    given = {"experiment": "tau", "title": HOSTILE, "question": HOSTILE, "answer": [HOSTILE], "scorer": HOSTILE,
             "figures": figures, "tables": [table], "config": {HOSTILE: HOSTILE}}  # fmt: skip
    pick(page, keep(app, given))
    page.locator("#report .report-title", has_text=HOSTILE).wait_for()
    page.locator("#report-plot-1 .js-plotly-plot .main-svg").first.wait_for()
    inert(page)
    alone = app.home / "hostile.html"
    alone.write_text(html(given), encoding="utf-8")
    opened = browse(alone.as_uri())
    opened.locator(".plot .main-svg").first.wait_for()
    inert(opened)


def begin_long(page) -> dict[str, int]:
    """Starts an experiment that does not end by itself; its settings."""
    page.get_by_role("tab", name="Diagnose").click()
    page.get_by_label("Weight of the constraint", exact=True).check()
    unfold(page.locator("#experiment-settings > button"), page.locator("#experiment-tau-batch input"))
    values = {"prompts": 2, "seeds": 2, "steps": 1, "train_steps": 100_000, "train_prompts": 8, "batch": 2}
    for name, value in values.items():
        field = page.locator(f"#experiment-tau-{name} input")
        field.fill(str(value))
        field.press("Tab")
    page.locator("#start-experiment:not([disabled])").click()
    state(page, "running")
    return values


def test_an_experiment_goes_on_through_a_reload_and_is_stopped(page, app):
    values = begin_long(page)
    page.locator("#experiment-progress", has_text=re.compile(r"\d+ of \d+")).wait_for()
    page.reload()
    page.get_by_role("tab", name="Train", exact=True).click()
    page.locator("#train-elsewhere", has_text="An experiment is on").wait_for()
    assert page.locator("#start").is_disabled()
    page.get_by_role("tab", name="Diagnose").click()
    state(page, "running")
    assert page.locator("#start-experiment").is_disabled()
    page.locator("#stop-experiment").click()
    state(page, "stopped")
    page.locator("#resume-experiment").wait_for()
    (config,), *_ = app.rows("SELECT config FROM runs WHERE kind = 'experiment' ORDER BY seq DESC")
    assert {name: json.loads(config)[name] for name in values} == values


def test_the_answer_to_a_button_that_comes_late_is_not_what_the_page_stays_at(page, app):
    """What buttons are answered comes by a stream, what the clock asks for by itself: either may overtake the other."""
    page.evaluate(
        """() => {
            const plain = window.fetch;
            window.fetch = async (...asked) => {
                const answer = await plain(...asked);
                while (window.holding && String(asked[0]?.url ?? asked[0]).includes("/queue/data"))
                    await new Promise((next) => setTimeout(next, 50));
                return answer;
            };
        }"""
    )
    begin_long(page)
    page.evaluate("() => { window.holding = true; }")
    page.locator("#stop-experiment").click()
    state(page, "stopped")
    page.locator("#resume-experiment").wait_for()
    page.evaluate("() => { window.holding = false; }")
    page.wait_for_timeout(500)  # the answer of before it stopped arrives
    state(page, "stopped")
    page.locator("#resume-experiment").wait_for()
