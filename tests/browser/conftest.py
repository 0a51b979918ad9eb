"""One real `python app.py` on tiny models for all browser tests, and Debian's Chromium.

Every page is watched: no dialog, no script error and no request to another machine may happen in any test.
"""

import os
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from tests import tiny

ROOT = Path(__file__).resolve().parents[2]
PATIENCE = float(
    os.environ.get("STUDIO_TEST_PATIENCE", "1")
)  # more on a machine that is busy with other work
STARTING = 120 * PATIENCE  # seconds; it takes about ten on two free cores
WAITING = 60_000 * PATIENCE  # milliseconds, for what the page should show


@dataclass
class App:
    """The app under test: its address, its folder, what it printed, and the seconds until it answered."""

    url: str
    home: Path
    log: Path
    process: subprocess.Popen
    seconds: float

    def rows(self, sql: str, *values) -> list[tuple]:
        """What the store holds, read beside the app."""
        with closing(sqlite3.connect(f"file:{self.home / 'studio.db'}?mode=ro", uri=True)) as db:
            return db.execute(sql, values).fetchall()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def start_app(home: Path, env: dict[str, str], port: int | None = None) -> App:
    """`python app.py` on this port or a free one; returns once its page answers."""
    port, log, began = port or free_port(), home.parent / f"{home.name}.log", time.monotonic()
    url = f"http://127.0.0.1:{port}/"
    env = {**os.environ, "GRADIO_SERVER_NAME": "127.0.0.1", **env, "STUDIO_HOME": str(home),
           "GRADIO_SERVER_PORT": str(port)}  # fmt: skip
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "app.py"], cwd=ROOT, env=env, stdout=output, stderr=subprocess.STDOUT
        )
    while time.monotonic() - began < STARTING:
        if process.poll() is not None:
            break
        try:
            with urllib.request.urlopen(url, timeout=10):
                return App(url, home, log, process, time.monotonic() - began)
        except OSError:
            time.sleep(0.2)
    process.kill()
    raise RuntimeError(f"The app did not answer:\n{log.read_text(errors='replace')[-3000:]}")


def stop_app(app: App) -> None:
    """End the app, and the training jobs that it started, which outlive it on purpose."""
    for (pid,) in app.rows("SELECT pid FROM runs WHERE state = 'running' AND pid IS NOT NULL"):
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            continue
    app.process.terminate()
    app.process.wait(timeout=30)


@contextmanager
def serving(home: Path, models: Path, **env: str) -> Iterator[App]:
    """`python app.py` on these models and this home, until the block ends."""
    running = start_app(home, {**tiny.settings_at(home, models).env(), **env})
    try:
        yield running
    finally:
        stop_app(running)


@pytest.fixture(scope="session")
def app(tmp_path_factory, model_folder):
    with serving(tmp_path_factory.mktemp("browser") / "home", model_folder) as running:
        yield running


def chromium_path() -> str | None:
    """Debian's Chromium, that without windows first."""
    return shutil.which("chromium-headless-shell") or shutil.which("chromium")


@pytest.fixture(scope="session")
def chromium():
    playwright = pytest.importorskip("playwright.sync_api")
    path = chromium_path()
    if path is None:
        pytest.fail("The browser tests need Debian's package 'chromium': install it, or run tests/run.")
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture(scope="session")
def windows():
    """Browsers that no test has any more, as good as new but for the scripts of the page, which they need not read again."""
    return []


def clean(window) -> None:
    """Leave nothing of what its pages kept."""
    origins = {f"{url.scheme}://{url.netloc}" for page in window.pages if (url := urlsplit(page.url)).netloc}
    for page in window.pages:
        page.close()
    window.clear_cookies()
    window.set_offline(False)
    blank = window.new_page()
    session = window.new_cdp_session(blank)
    for origin in origins:
        session.send("Storage.clearDataForOrigin", {"origin": origin, "storageTypes": "all"})
    blank.close()


@pytest.fixture
def browse(chromium, windows):
    """A function that opens an address in a browser of its own; what it must never do is checked at the end."""
    opened, wrong = [], []

    def watch(page, url: str) -> None:
        page.on("dialog", lambda dialog: (wrong.append(f"dialog: {dialog.message}"), dialog.dismiss()))
        page.on("pageerror", lambda error: wrong.append(f"script error: {error}"))
        page.on(
            "request",
            lambda request: (
                None
                if request.url.startswith((url, "data:", "blob:"))
                else wrong.append(f"request to {request.url}")
            ),
        )

    def open_page(url: str, **context):
        if windows and not context:
            window = windows.pop()
        else:
            window = chromium.new_context(viewport={"width": 1280, "height": 900}, **context)
        window.set_default_timeout(WAITING)
        opened.append((window, not context))
        page = window.new_page()
        watch(page, url.partition("?")[0])
        page.goto(url)
        return page

    yield open_page
    for window, plain in opened:
        if plain:
            clean(window)
            windows.append(window)
        else:
            window.close()
    assert not wrong


def ready(page) -> None:
    """Returns once the page is there and its models are loaded."""
    page.locator("#run").wait_for()
    page.wait_for_function("!document.querySelector('#studio-state .studio-notice')")


def unfold(accordion, field) -> None:
    """Open an accordion whose last field this is, and wait until what is typed is kept: Gradio (6.31) gives fields that
    were never shown their first values once more, a frame after it shows them."""
    accordion.click()
    field.wait_for()
    field.page.evaluate("() => new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))")


@pytest.fixture
def page(browse, app):
    """The studio, its models loaded."""
    opened = browse(app.url)
    ready(opened)
    return opened


@pytest.fixture
def compare():
    """A function that compares a prompt on an open page and waits for the scores."""

    def run(page, prompt="a red circle above a blue square", seeds="7", steps=2):
        page.locator("#prompt textarea").fill(prompt)
        page.locator("#seeds").locator("input, textarea").fill(seeds)
        if not page.locator("#steps").is_visible():
            unfold(page.get_by_role("button", name="Sampling"), page.locator("#steps input[type=number]"))
        page.locator("#steps input[type=number]").fill(str(steps))
        page.locator("#steps input[type=number]").press("Tab")
        words = page.locator("#words-projected .word-scores")
        old = words.get_attribute("data-sample") if words.count() else None
        page.locator("#run").click()
        page.wait_for_function(
            """old => {
                const words = document.querySelector("#words-projected .word-scores");
                return words?.dataset.sample && words.dataset.sample !== old && words.querySelector(".ws-change");
            }""",
            arg=old,
        )
        page.locator("#run:not([disabled])").wait_for()

    return run


@pytest.fixture
def call_me():
    """A function that gives a name in Annotate and waits until the studio goes by it."""

    def run(page, name: str) -> None:
        field = page.locator("#who").locator("input, textarea")
        field.fill(name)
        field.press("Enter")
        page.locator("#annotate-progress", has_text=f"done by {name}").wait_for()

    return run
