"""The tab Diagnose in a browser: a kept report is opened and taken away, and an experiment outlives the page."""

import json
import re
from pathlib import Path

from data.store import Store
from studio.components.report import html
from tests.browser.conftest import tab, unfold
from tests.browser.test_hostile import inert
from tests.studio.components import report_example as example

HOSTILE = "<img src=x onerror=window.hacked=1>${window.hacked=2}{{window.hacked}}"

# What buttons are answered comes by a stream, what the clock asks for by itself: either may overtake the other. While
# `holding`, nothing of a stream arrives, also of one that was open before.
HELD = """
const plain = window.fetch;
window.fetch = async (...asked) => {
    const answer = await plain(...asked);
    if (!String(asked[0]?.url ?? asked[0]).includes("/queue/data")) return answer;
    const held = new TransformStream({
        async transform(chunk, out) {
            while (window.holding) {
                window.late = true;
                await new Promise((next) => setTimeout(next, 50));
            }
            out.enqueue(chunk);
        },
    });
    return new Response(answer.body.pipeThrough(held), { status: answer.status, headers: answer.headers });
};
"""


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


def state(page, name: str) -> None:
    page.locator("#experiment-state", has_text=re.compile(f"^{name}$")).wait_for()


def test_a_report_is_opened_and_its_files_taken_away_and_what_is_hostile_in_it_is_text(page, app, browse):
    series = [{"name": HOSTILE, "x": [HOSTILE, "b"], "y": [1, 2], "text": [HOSTILE, HOSTILE]}]
    figures = [{"kind": kind, "title": HOSTILE, "x": HOSTILE, "y": HOSTILE, "note": HOSTILE, "series": series}
               for kind in ("dots", "line")]  # fmt: skip
    table = {"title": HOSTILE, "columns": [HOSTILE], "rows": [[HOSTILE]], "note": HOSTILE}
    report = example.report() | {"title": HOSTILE, "question": HOSTILE, "answer": [HOSTILE], "scorer": HOSTILE,
                                 "tables": [table], "config": {HOSTILE: HOSTILE}}  # fmt: skip
    report["figures"] += figures
    run = keep(app, report)
    tab(page, "Diagnose")
    page.locator(f"#experiments tr[data-key='{run}'] button").focus()
    page.keyboard.press("Enter")
    page.locator(f"#experiments tr[data-key='{run}'][aria-current]").wait_for()
    for place in range(len(report["figures"])):
        page.locator(f"#report-plot-{place} .js-plotly-plot .main-svg").first.wait_for()
    assert HOSTILE in page.locator("#report .report-title").inner_text()
    assert HOSTILE in page.locator("#report .report-answer").inner_text()
    assert page.locator("#report .report-pictures img").count() == 4
    inert(page)

    kept = {}
    for kind in ("html", "json"):
        with page.expect_download() as download:
            page.locator(f"#download-{kind}").click()
        assert download.value.suggested_filename == f"tau-{run}.{kind}"
        kept[kind] = Path(download.value.path())
    assert json.loads(kept["json"].read_text(encoding="utf-8"))["title"] == HOSTILE
    alone = app.home / f"{run}.html"  # opened as a reader would, from a folder
    alone.write_bytes(kept["html"].read_bytes())
    offline = browse(alone.as_uri())
    offline.locator(".plot .main-svg").nth(len(report["figures"]) - 1).wait_for()
    inert(offline)


def test_an_experiment_goes_on_through_a_reload_and_is_stopped_whatever_answer_comes_last(page, app):
    tab(page, "Diagnose")
    page.get_by_label("Weight of the constraint", exact=True).check()
    unfold(page.locator("#experiment-settings > button"), page.locator("#experiment-tau-batch input"))
    values = {"prompts": 2, "seeds": 2, "steps": 1, "train_steps": 100_000, "train_prompts": 8, "batch": 2}
    for name, value in values.items():
        page.locator(f"#experiment-tau-{name} input").fill(str(value))
        page.locator(f"#experiment-tau-{name} input").press("Tab")
    page.locator("#start-experiment:not([disabled])").click()
    state(page, "running")
    page.locator("#experiment-progress", has_text=re.compile(r"\d+ of \d+")).wait_for()
    page.add_init_script(HELD)
    page.reload()
    tab(page, "Train")
    page.locator("#train-elsewhere", has_text="An experiment is on").wait_for()
    assert page.locator("#start").is_disabled()
    tab(page, "Diagnose")
    state(page, "running")
    assert page.locator("#start-experiment").is_disabled()
    page.evaluate("window.holding = true")
    page.locator("#stop-experiment").click()
    state(page, "stopped")
    page.locator("#resume-experiment").wait_for()
    page.evaluate("window.holding = false")
    page.wait_for_function("window.late")
    page.wait_for_timeout(300)  # the answer of before it stopped arrives
    state(page, "stopped")
    page.locator("#resume-experiment").wait_for()
    (config,), *_ = app.rows("SELECT config FROM runs WHERE kind = 'experiment' ORDER BY seq DESC")
    assert {name: json.loads(config)[name] for name in values} == values
