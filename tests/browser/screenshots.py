"""Pictures of every tab from a real browser: `python -m tests.browser.screenshots FOLDER [--models FOLDER]`.

Without --models the shipped models are used. The studio starts with an empty home; a pair is compared, some words are
corrected and a short training is run before the pictures are taken in the light, in the dark and on a phone. The
README's picture is FOLDER/compare-light.png. With --experiment one is run as well, for Diagnose.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import tempfile
from pathlib import Path
from typing import Any

from playwright.sync_api import Page, sync_playwright

from studio.settings import Settings
from tests import tiny
from tests.browser.conftest import WAITING, start_app, stop_app

PROMPT = "a green star to the left of an orange triangle"
LOOKS: dict[str, dict[str, Any]] = {
    "light": {"viewport": {"width": 1200, "height": 860}, "device_scale_factor": 1.5},
    "dark": {"viewport": {"width": 1200, "height": 860}, "device_scale_factor": 1.5},
    "phone": {"viewport": {"width": 390, "height": 844}, "device_scale_factor": 2},
}
TABS = ("Compare", "Annotate", "Train", "Diagnose")


def compare(page: Page, seeds: str, steps: int) -> None:
    page.locator("#prompt textarea").fill(PROMPT)
    page.locator("#seeds").locator("input, textarea").fill(seeds)
    page.get_by_role("button", name="Sampling").click()
    page.locator("#steps input[type=number]").fill(str(steps))
    page.locator("#steps input[type=number]").press("Tab")
    page.get_by_role("button", name="Sampling").click()
    page.locator("#run").click()
    page.locator("#words-projected .ws-change").first.wait_for()
    page.locator("#run:not([disabled])").wait_for()


def correct(page: Page) -> None:
    page.locator("#annotate-projected").click()
    page.locator("#annotate-words [role=spinbutton]").first.focus()
    page.keyboard.type("98")
    page.locator(".ws-state", has_text="Saved").wait_for()


def train(page: Page, settings: dict[str, int]) -> None:
    page.get_by_role("tab", name="Train").click()
    page.get_by_label("Projector", exact=True).check()
    page.get_by_role("button", name="More settings").click()
    for name, value in settings.items():
        field = page.locator(f"#setting-{name} input")
        field.fill(str(value))
        field.press("Tab")
    page.get_by_role("button", name="More settings").click()
    page.locator("#start:not([disabled])").click()
    page.locator("#run-state", has_text=re.compile("^(done|failed)$")).wait_for()


def experiment(page: Page, title: str) -> None:
    page.get_by_role("tab", name="Diagnose").click()
    page.get_by_label(title, exact=True).check()
    page.locator("#start-experiment:not([disabled])").click()
    page.locator("#experiment-progress .progress").wait_for()
    page.locator("#report .js-plotly-plot").first.wait_for(timeout=0)  # as long as it takes


def take(page: Page, folder: Path, look: str) -> None:
    """A picture of each tab."""
    for tab in TABS:
        page.get_by_role("tab", name=tab, exact=True).click()
        page.wait_for_timeout(2500)  # figures and images settle
        page.mouse.move(0, 0)
        page.screenshot(path=folder / f"{tab.lower()}-{look}.png", full_page=look == "phone")


def main() -> None:
    options = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    options.add_argument("folder", type=Path)
    options.add_argument("--models", type=Path, help="a folder with diffuser, scorer, projector and reward")
    options.add_argument("--seeds", default="454573554-454573557", help="the seeds that are compared")
    options.add_argument("--steps", type=int, default=20)
    options.add_argument("--training", type=int, default=60, help="steps of the training that is shown")
    options.add_argument("--experiment", help="the title of an experiment to run at its reduced size")
    given = options.parse_args()
    given.folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as temporary:
        home = Path(temporary) / "home"
        env = tiny.settings_at(home, given.models).env() if given.models else Settings(home=home).env()
        app = start_app(home, env)
        try:
            with sync_playwright() as driver:
                browser = driver.chromium.launch(
                    executable_path=shutil.which("chromium") or os.environ.get("CHROMIUM"),
                    args=["--no-sandbox"],
                )
                kept = None
                for look, window in LOOKS.items():
                    context = browser.new_context(storage_state=kept, **window)
                    context.set_default_timeout(10 * WAITING)
                    page = context.new_page()
                    page.goto(f"{app.url}?__theme={'dark' if look == 'dark' else 'light'}")
                    page.locator("#run").wait_for()
                    if kept is None:
                        compare(page, given.seeds, given.steps)
                        correct(page)
                        few = {"projector_steps": given.training, "heldout_prompts": 8, "heldout_seeds": 2,
                               "steps": min(10, given.steps), "prompts": 100}  # fmt: skip
                        train(page, few)
                        if given.experiment:
                            experiment(page, given.experiment)
                        page.reload()
                    page.locator("#words-none .ws-chip").first.wait_for()
                    kept = context.storage_state()
                    take(page, given.folder, look)
                    context.close()
                browser.close()
        finally:
            stop_app(app)


if __name__ == "__main__":
    main()
