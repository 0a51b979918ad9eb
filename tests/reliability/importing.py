"""A file of a million scores comes in while people annotate: ``python -m tests.reliability.importing FOLDER``.

FOLDER must have no store yet: ``big_store`` makes one there, the app is started on it, and four clients work as the page
Annotate does, a label a second each. Meanwhile a table with a score for every word of the store is imported, first as a dry
run, then for good: by the command beside the app, or with ``--page`` by the page itself, in the app's own process. Said is
how long the clients' keys took before, during each, and what failed or was lost.
"""

import argparse
import csv
import os
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from data.store import Store
from data.store.database import rows
from studio.access.identity import Kept, new_key
from tests.browser.conftest import App, start_app, stop_app
from tests.reliability import big_store
from tests.reliability.clients import Annotator, Page, report, run
from tests.visitors import Visitor


def write_table(store: Store, path: Path) -> int:
    """A score of every scored word, as a spreadsheet would have it; how many."""
    with store.database.reading() as db, path.open("w", newline="", encoding="utf-8") as file:
        found = rows(db, "SELECT DISTINCT sample, word_index FROM scores WHERE source = 'vlm'")
        table = csv.writer(file)
        table.writerow(["sample", "word_index", "score"])
        table.writerows((row["sample"], row["word_index"], i % 10) for i, row in enumerate(found))
    return len(found)


def by_command(home: Path, table: Path) -> Callable[[bool], str]:
    def take(dry: bool) -> str:
        words = f"-m studio import {table} --format csv --who importer" + " --dry-run" * dry
        env = {**os.environ, "STUDIO_HOME": str(home)}
        # what it says is printed, whether it went well or not
        done = subprocess.run(
            [sys.executable, *words.split()], env=env, capture_output=True, text=True, check=False
        )
        return (done.stdout + done.stderr).strip().splitlines()[0]

    return take


def by_page(app: App, table: Path) -> Callable[[bool], str]:
    """The two buttons of Library, Import."""
    visitor, kept = Visitor(app), str(Kept(new_key(), "importer"))
    with table.open("rb") as file:
        (path,) = visitor.http.post("/gradio_api/upload", files={"files": (table.name, file)}).json()
    given = {"path": path, "orig_name": table.name, "meta": {"_type": "gradio.FileData"}}

    def take(dry: bool) -> str:
        event = visitor.event("import-look" if dry else "import-take", "click")
        answer = visitor.private(event, ["csv", given, *([] if dry else [None]), kept]).json()
        return str(answer.get("data", [answer])[0])

    return take


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--clients", type=int, default=4)
    parser.add_argument("--samples", type=int, default=100_000, help="ten words each")
    parser.add_argument("--page", action="store_true", help="by the page, in the app's own process")
    given = parser.parse_args()
    home = given.folder.absolute()
    store = big_store.make(home, given.samples)
    table = home / "scores.csv"
    count = write_table(store, table)
    app = start_app(home, {})
    try:
        waiter = Annotator(app.url, 0)
        while not waiter.ask("status")["ready"]:
            time.sleep(0.5)
        take = by_page(app, table) if given.page else by_command(home, table)
        acts = {
            "nothing beside": lambda: time.sleep(20),
            "dry run": lambda: take(True),
            "import": lambda: take(False),
        }
        with ThreadPoolExecutor(1) as pool:
            for name, act in acts.items():
                began, beside = time.monotonic(), pool.submit(act)
                people = run(Page, app.url, given.clients, 3600, 1.0, stop=beside.done)
                print(report(f"{name} ({count:,} scores)", people, store, time.monotonic() - began))
                print(f"  {beside.result() or ''}", flush=True)
    finally:
        stop_app(app)


if __name__ == "__main__":
    main()
