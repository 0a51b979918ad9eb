"""Pictures of every tab from a real browser: `python -m tests.browser.screenshots FOLDER [--models FOLDER]`.

Without --models the shipped models are used. The tabs are read from the page. First come the pictures of a first start
(first-TAB-LOOK.png); then a pair is compared, some words are corrected, a grid of seeds is made where the studio has
grids, a short training is run and another one is begun, and each tab is taken again in the light, in the dark and on a
phone (TAB-LOOK.png, and running-train-LOOK.png). With --readme the README's pictures are made from these. With
--experiment one is run as well, for Diagnose. With --report a report's first plot is all that is taken (plot.png, and
the README's frontier.png).
"""

import argparse
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from PIL import Image
from playwright.sync_api import Browser, Page, sync_playwright

from studio.settings import Settings
from tests import tiny
from tests.browser.annotating import CHIPS, settled
from tests.browser.conftest import ROOT, WAITING, WHO, App, chromium_path, compare, ready, start_app, stop_app

PROMPT = "a green star to the left of an orange triangle"
LOOKS: dict[str, dict[str, Any]] = {
    "light": {"viewport": {"width": 1200, "height": 860}, "device_scale_factor": 1.5},
    "dark": {"viewport": {"width": 1200, "height": 860}, "device_scale_factor": 1.5},
    "phone": {"viewport": {"width": 390, "height": 844}, "device_scale_factor": 2, "has_touch": True},
}
# a picture of the README: which of those above it is, and its width and height; a longer one is cut at the foot
README = {
    "compare.png": ("compare-light", 1200, 860),
    "seeds.png": ("seeds-light", 1000, 716),
    "annotate.png": ("annotate-light", 1000, 716),
    "quality-dark.png": ("quality-dark", 1000, 716),
    "annotate-phone.png": ("annotate-phone", 420, 840),
}
TAB = "#tabs > .tab-wrapper [role=tab]"
# a grid, and two people who agree mostly: python -c GRID PROMPT WHO
GRID = """
import sys, time
from studio.grids.grid import check_grid
from studio.studio import Studio

studio, (prompt, who) = Studio(), sys.argv[1:]
grid = studio.grids.start(check_grid(prompt, "11-16", strengths="0.5,1"), who)
while studio.grids.get(grid, who).state in ("queued", "running"):
    time.sleep(1)
for i, row in enumerate(studio.store.samples.find(split="train", limit=16)):
    for word in studio.annotation.sample(row["id"]).words:
        if word.scored and word.vlm is not None:
            studio.store.scores.set(row["id"], word.index, word.vlm, "Ann")
            studio.store.scores.set(row["id"], word.index, max(0, word.vlm - 3 * ((i + word.index) % 9 == 0)), "Bob")
"""


def start(page: Page, settings: dict[str, int]) -> None:
    """Begin a training of the projector."""
    page.locator(TAB, has_text="Train").first.click()
    page.get_by_label("Projector", exact=True).check()
    page.get_by_role("button", name="More settings").click()
    for name, value in settings.items():
        field = page.locator(f"#setting-{name} input")
        field.fill(str(value))
        field.press("Tab")
    page.get_by_role("button", name="More settings").click()
    page.locator("#start:not([disabled])").click()


def experiment(page: Page, title: str) -> None:
    page.locator(TAB, has_text="Diagnose").first.click()
    page.get_by_label(title, exact=True).check()
    page.locator("#start-experiment:not([disabled])").click()
    page.locator("#experiment-progress .progress").wait_for()
    page.locator("#report .js-plotly-plot").first.wait_for(timeout=0)  # as long as it takes


def grid(page: Page, env: dict[str, str]) -> None:
    """A grid of seeds of whoever is at this page, and scores by others, made beside it."""
    work = [sys.executable, "-c", GRID, PROMPT, page.evaluate(WHO).partition(":")[2]]
    subprocess.run(work, cwd=ROOT, env={**os.environ, **env}, check=True)


def take(page: Page, folder: Path, look: str, before: str = "", only: str = "") -> None:
    """A picture of each tab, or of one."""
    for tab in [text.strip() for text in page.locator(TAB).all_inner_texts()]:
        if only and tab != only:
            continue
        page.locator(TAB, has_text=tab).first.click()
        page.wait_for_timeout(2500)  # figures and images settle
        page.mouse.move(0, 0)
        page.screenshot(path=folder / f"{before}{tab.lower()}-{look}.png", full_page=look == "phone")


def opened(browser: Browser, app: App, look: str, kept: Any) -> Page:
    context = browser.new_context(storage_state=kept, **LOOKS[look])
    context.set_default_timeout(10 * WAITING)
    page = context.new_page()
    page.goto(f"{app.url}?__theme={'dark' if look == 'dark' else 'light'}")
    ready(page)
    page.wait_for_function(  # what was there before is there again: an example, or the last comparison
        "document.querySelector('#words-none .ws-chip') || document.querySelector('#first-example')?.checkVisibility()"
    )
    return page


def first(browser: Browser, app: App, folder: Path) -> None:
    """What somebody sees who was never there."""
    for look in LOOKS:
        page = opened(browser, app, look, None)
        take(page, folder, look, "first-")
        page.context.close()


def fill(browser: Browser, app: App, env: dict[str, str], given: argparse.Namespace) -> Any:
    """Something on every tab, and a training that is on; what the browser keeps."""
    page = opened(browser, app, "light", None)
    compare(page, PROMPT, given.seeds, given.steps)
    page.get_by_role("button", name="Sampling").click()  # closed again
    page.locator("#annotate-projected").click()
    page.locator(CHIPS).first.focus()
    page.keyboard.type("9")
    settled(page)
    grid(page, env)
    few = {"projector_steps": given.training, "heldout_prompts": 8, "heldout_seeds": 2,
           "steps": min(10, given.steps), "prompts": 100}  # fmt: skip
    start(page, few)
    page.locator("#run-state", has_text=re.compile("^(done|failed)$")).wait_for()
    if given.experiment:
        experiment(page, given.experiment)
    kept = page.context.storage_state()
    page.context.close()
    return kept


def running(browser: Browser, app: App, folder: Path, kept: Any) -> None:
    """Train while a training is on; it is stopped afterwards."""
    page = opened(browser, app, "light", kept)
    start(page, {"projector_steps": 100_000})
    page.locator("#run-progress .progress").wait_for()
    page.wait_for_timeout(8000)
    page.context.close()
    for look in LOOKS:
        page = opened(browser, app, look, kept)
        take(page, folder, look, only="Train", before="running-")
        page.context.close()
    page = opened(browser, app, "light", kept)
    page.locator(TAB, has_text="Train").first.click()
    page.locator("#stop-run").click()
    page.locator("#run-state", has_text="stopped").wait_for()
    page.context.close()


@contextmanager
def chromium() -> Iterator[Browser]:
    with sync_playwright() as driver:
        path = os.environ.get("CHROMIUM") or chromium_path()
        browser = driver.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield browser
        browser.close()


def plot(browser: Browser, report: Path, picture: Path) -> None:
    """The first plot of a report's page, in the light."""
    context = browser.new_context(color_scheme="light", **LOOKS["light"])
    page = context.new_page()
    page.goto(report.resolve().as_uri())
    page.locator(".js-plotly-plot .main-svg").first.wait_for()
    page.locator(".js-plotly-plot").first.screenshot(path=picture)
    context.close()


def for_readme(source: Path, name: str, width: int, height: int | None = None) -> None:
    """A picture of the README, smaller and in 256 colours; cut at the foot where a height is given."""
    picture = Image.open(source).convert("RGB")
    if height is not None:
        picture = picture.crop((0, 0, picture.width, round(picture.width * height / width)))
    small = picture.resize((width, round(width * picture.height / picture.width)), Image.Resampling.LANCZOS)
    small.quantize(256, dither=Image.Dither.NONE).save(ROOT / ".readme" / name, optimize=True)


def main() -> None:
    options = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    options.add_argument("folder", type=Path)
    options.add_argument("--models", type=Path, help="a folder with diffuser, scorer, projector and reward")
    options.add_argument("--seeds", default="1-4", help="the seeds that are compared")
    options.add_argument("--steps", type=int, default=20)
    options.add_argument("--training", type=int, default=60, help="steps of the training that is shown")
    options.add_argument("--experiment", help="the title of an experiment to run at its reduced size")
    options.add_argument("--readme", action="store_true", help="make the README's pictures too")
    options.add_argument("--report", type=Path, help="report.html of an experiment")
    given = options.parse_args()
    given.folder.mkdir(parents=True, exist_ok=True)
    if given.report:
        with chromium() as browser:
            plot(browser, given.report, given.folder / "plot.png")
        if given.readme:
            for_readme(given.folder / "plot.png", "frontier.png", 1000)
        return
    with tempfile.TemporaryDirectory() as temporary:
        home = Path(temporary) / "home"
        env = tiny.settings_at(home, given.models).env() if given.models else Settings(home=home).env()
        app = start_app(home, env)
        try:
            with chromium() as browser:
                first(browser, app, given.folder)
                kept = fill(browser, app, env, given)
                for look in LOOKS:
                    page = opened(browser, app, look, kept)
                    page.locator("#words-none .ws-chip").first.wait_for()
                    take(page, given.folder, look)
                    page.context.close()
                running(browser, app, given.folder, kept)
        finally:
            stop_app(app)
    for name, (source, width, height) in README.items() if given.readme else ():
        for_readme(given.folder / f"{source}.png", name, width, height)


if __name__ == "__main__":
    main()
