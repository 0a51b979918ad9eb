"""The app under test on tiny models, and Debian's Chromium.

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
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from multiprocessing import get_context
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from urllib.parse import urlsplit

import pytest

from tests import tiny

ROOT = Path(__file__).resolve().parents[2]
PATIENCE = float(
    os.environ.get("STUDIO_TEST_PATIENCE", "1")
)  # more on a machine that is busy with other work
STARTING = 120 * PATIENCE  # seconds; it takes about ten on two free cores
WAITING = 60_000 * PATIENCE  # milliseconds, for what the page should show
WHO = "JSON.parse(localStorage.getItem('noise-projection-studio.who'))"


@dataclass
class App:
    """The app under test: its address, its folder, what it printed, and the seconds until it answered."""

    url: str
    home: Path
    log: Path
    env: dict[str, str]
    process: Any
    seconds: float = 0.0

    def rows(self, sql: str, *values) -> list[tuple]:
        """Rows of the store, read beside the app."""
        with closing(sqlite3.connect(f"file:{self.home / 'studio.db'}?mode=ro", uri=True)) as db:
            return db.execute(sql, values).fetchall()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def run_app(env: dict[str, str], log: Path, command=(sys.executable, "app.py")) -> subprocess.Popen:
    """`python app.py` as users start it."""
    with log.open("wb") as output:
        return subprocess.Popen(command, cwd=ROOT, env=env, stdout=output, stderr=output)


class Forked(ForkServerProcess):
    """A process forked from one that has made the app's imports, which take longer than all else of a start."""

    def poll(self) -> int | None:
        return self.exitcode

    def wait(self, timeout: float | None = None) -> None:
        self.join(timeout)


def fork(env: dict[str, str], log: Path, work: Callable[..., Any], *given: Any) -> Forked:
    """A process that does this in this environment, and prints to this file."""
    get_context("forkserver").set_forkserver_preload(["tests.preloaded"])
    process = Forked(target=forked, args=(env, log, work, *given))
    process.start()
    return process


def forked(env: dict[str, str], log: Path, work: Callable[..., Any], *given: Any) -> None:
    with log.open("wb") as output:
        for stream in (1, 2):
            os.dup2(output.fileno(), stream)
    os.chdir(ROOT)
    os.environ.clear()
    os.environ.update(env)
    work(*given)


def serve() -> None:
    """The work of app.py; test_space.py runs the script itself."""
    from gradio import http_server, oauth

    from studio.environment import prepare
    from studio.interface import launch
    from studio.training import runs
    from tests.jobs import Jobs

    runs.subprocess = SimpleNamespace(**{**vars(subprocess), "Popen": Jobs()})  # type: ignore[assignment]
    # what Gradio (6.31) reads of the environment when it is imported
    http_server.LOCALHOST_NAME = os.environ["GRADIO_SERVER_NAME"]
    http_server.INITIAL_PORT_VALUE = int(os.environ["GRADIO_SERVER_PORT"])
    for name in ("OAUTH_CLIENT_ID", "OAUTH_CLIENT_SECRET", "OAUTH_SCOPES", "OPENID_PROVIDER_URL"):
        setattr(oauth, name, os.environ.get(name))
    prepare()
    launch()


def fork_app(env: dict[str, str], log: Path) -> Forked:
    return fork(env, log, serve)


def start_app(
    home: Path, env: dict[str, str], port: int | None = None, begin: Callable[..., Any] = run_app
) -> App:
    """Start the app on this port or a free one; returns once its page answers."""
    port, began, log = port or free_port(), time.monotonic(), home.parent / f"{home.name}.log"
    address = {"GRADIO_SERVER_NAME": "127.0.0.1", **env, "GRADIO_SERVER_PORT": str(port)}
    process = begin({**os.environ, **address, "STUDIO_HOME": str(home)}, log)
    app = App(f"http://127.0.0.1:{port}/", home, log, env, process)
    while process.poll() is None and time.monotonic() - began < STARTING:
        try:
            with urllib.request.urlopen(app.url, timeout=10):
                app.seconds = time.monotonic() - began
                return app
        except OSError:
            time.sleep(0.05)
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
    app.process.kill()


@contextmanager
def serving(home: Path, models: Path, begin: Callable[..., Any] = fork_app, **env: str) -> Iterator[App]:
    """The app on these models and this home, until the block ends."""
    running = start_app(home, {**tiny.settings_at(home, models).env(), **env}, begin=begin)
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
    """Browser contexts that no test has any more: as good as new, but the page's scripts are in their cache."""
    return []


def clean(window) -> None:
    """Delete what the pages of a context kept."""
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
        def asked(request) -> None:
            if not request.url.startswith((url, "data:", "blob:")):
                wrong.append(f"request to {request.url}")

        page.on("dialog", lambda dialog: (wrong.append(f"dialog: {dialog.message}"), dialog.dismiss()))
        page.on("pageerror", lambda error: wrong.append(f"script error: {error}"))
        page.on("request", asked)

    def open_page(url: str, **context):
        if windows and not context:
            window = windows.pop()
        else:
            window = chromium.new_context(**{"viewport": {"width": 1280, "height": 900}, **context})
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


def tab(page, name: str) -> None:
    page.get_by_role("tab", name=name, exact=True).click()


def press(page, *keys: str) -> None:
    for key in keys:
        page.keyboard.press(key)


def field(page, name: str):
    """The text box of this id."""
    return page.locator(f"#{name}").locator("input, textarea")


def unfold(accordion, last) -> None:
    """Open an accordion whose last field this is, and wait until what is typed is kept: Gradio (6.31) gives fields that
    were never shown their first values once more, a frame after it shows them."""
    accordion.click()
    last.wait_for()
    last.page.evaluate("() => new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))")


@pytest.fixture
def page(browse, app):
    """The studio, its models loaded."""
    opened = browse(app.url)
    ready(opened)
    return opened


def compare(page, prompt="a red circle above a blue square", seeds="7", steps=2) -> None:
    """Compare a prompt and wait for the scores."""
    field(page, "prompt").fill(prompt)
    field(page, "seeds").fill(seeds)
    number = page.locator("#steps input[type=number]")
    if not number.is_visible():
        unfold(page.get_by_role("button", name="Sampling"), number)
    number.fill(str(steps))
    number.press("Tab")
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


def call_me(page, name: str) -> None:
    """Give a name in Annotate and wait until the studio goes by it."""
    field(page, "who").fill(name)
    field(page, "who").press("Enter")
    page.locator("#annotate-progress", has_text=f"done by {name}").wait_for()
