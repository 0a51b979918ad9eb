"""How quick a store is: ``python -m tests.reliability.measure_store FOLDER``, on what ``big_store`` made.

Prints p50, p95 and p99 of what a page does at a key, at an opening and at each tick of a timer, each beside what it
may take, and the seconds until the app answers on this store. It writes a few hundred labels, under names of its own.
"""

import argparse
import itertools
import random
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from data.store.library import SORTS
from data.store.queue import FILTERS, ORDERS
from studio.annotation.labelling import orders
from studio.settings import Settings
from studio.studio import Studio
from tests.browser.conftest import start_app, stop_app

NEW, BUSY = "new-comer", "ann"  # who has done nothing, and who has done most
# bounds of the mean score that few samples are within, that many are, that most are, and that none is
MEANS: tuple[dict[str, float], ...] = (
    {"mean_to": 3.0}, {"mean_from": 5.0}, {"mean_from": 3.0, "mean_to": 6.0}, {"mean_from": 8.9}
)  # fmt: skip
SAVE, NEXT, SEARCH, PAGE, START = 20.0, 50.0, 300.0, 100.0, 10.0  # milliseconds, and seconds to start

# of each measure: what, the longest p99 in ms, works of which the slowest counts, how often each
Measure = tuple[str, float, list[Callable[[], Any]], int]


def measures(studio: Studio) -> list[Measure]:
    """What is measured; one line to add."""
    store, rng = studio.store, random.Random(1)
    ids = [s["id"] for s in store.samples.find(limit=2000, split="train")]
    prompt, many = store.samples.get(ids[0])["prompt"], itertools.count()
    words = [w.index for w in studio.annotation.sample(ids[0]).words if w.scored]

    def save(who: str) -> Callable[[], Any]:
        return lambda: store.scores.set(rng.choice(ids), rng.choice(words), next(many) % 10, who)

    def following(order: str, who: str, **filters: Any) -> Callable[[], Any]:
        return lambda: store.queue.next(who, order, lease=600, split="train", **filters)

    found: list[Measure] = [
        ("save, a new annotator", SAVE, [save(NEW)], 500),
        ("save, a busy annotator", SAVE, [save(BUSY)], 500),
        ("correct and draw the words", 2 * SAVE, [lambda: studio.annotation.correct(rng.choice(ids), words[0], next(many) % 10, NEW)], 200),
        ("undo", SAVE, [lambda: store.scores.undo(None, NEW)], 200),
        ("submit and next", SAVE + NEXT, [lambda: (store.queue.submit(rng.choice(ids), NEW), following("uncertainty", NEW)())], 100),
    ]  # fmt: skip
    chosen = queue_filters(store, prompt)
    for order in ORDERS:
        for filters in chosen:
            works = [
                following(order, who, overlap=overlap, **filters)
                for who in (NEW, BUSY)
                for overlap in (None, 2)
            ]
            found.append((named(f"next, {order}", filters), NEXT, works, 10))
        found.append((f"look, {order}", NEXT, [lambda o=order: store.queue.next(NEW, o)], 30))
    found.append(("next, any scored one", NEXT, [following("random", NEW, scored=True)], 10))
    for order in orders():  # as the page asks, with gold and what is kept up
        works = [lambda o=order: studio.annotation.next(NEW, o, exclude=ids[0])]
        found.append((f"next item, {order}", NEXT, works, 30))
    found += [
        ("how far, mine/all/left", PAGE, [lambda: store.tallies.queue(BUSY, split="train")], 10),
        ("how far, overlap 2", PAGE, [lambda: store.tallies.queue(BUSY, overlap=2, split="train")], 10),
        ("progress", PAGE, [lambda: studio.annotation.progress(BUSY)], 10),
        ("history", PAGE, [lambda: studio.annotation.history(BUSY, 30)], 30),
        ("a sample", PAGE, [lambda: studio.annotation.sample(rng.choice(ids), BUSY)], 100),
        ("status (Train's timer)", PAGE, [studio.status], 10),
        ("count of samples", PAGE, [store.samples.count], 10),
        ("runs", PAGE, [lambda: store.runs.find(limit=100)], 10),
    ]
    for sort in SORTS:
        for asked in searches(chosen):
            works = [lambda a=asked, s=sort: store.library.search(sort=s, **a)]
            found.append((named(f"search, {sort}", asked), SEARCH, works, 5))
    return found


def named(kind: str, filters: dict[str, Any]) -> str:
    return f"{kind} " + ", ".join(f"{key} {str(value)[:12]}" for key, value in filters.items())


def queue_filters(store: Any, prompt: str) -> list[dict[str, Any]]:
    """Each filter of the queue by a value that many samples have and by one that none has, and each two of them."""
    runs = [s["projector_run"] for s in store.samples.find(limit=1000, method="projected")]
    backbone = store.samples.find(limit=1)[0]["backbone"]
    values = {
        "prompt": (prompt, "a prompt that nobody made"),
        "prompt_set": ("geneval", "none such"),
        "method": ("pag", "none such"),
        "backbone": (backbone, "none such"),
        "projector_run": (next(filter(None, runs)), "none such"),
        "kind": ("colour", "count"),
    }
    # all but a few are scored, so that filter alone is measured, with the order that asks for it
    assert {*values, "split", "scored"} == set(FILTERS), "a filter is not measured"
    one = [{name: value} for name, both in values.items() for value in both]
    pairs = [(a, b) for a, b in itertools.combinations(one, 2) if not set(a) & set(b)]
    two = [{**a, **b} for a, b in pairs if "none such" not in (*a.values(), *b.values())]
    return [{}, *one, *two, {"prompt_set": "geneval", "method": "pag", "kind": "colour"}]


def searches(chosen: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Searches of the library, of which several parts are wide."""
    known = [f for f in chosen if len(f) == 1 and set(f) <= {"prompt_set", "method", "projector_run"}]
    return [
        {},
        *known,
        *({**part, **wide} for wide in ({"split": "train"}, {"text": "a"}) for part in known),
        *({"who": who, **more} for who in ("*", BUSY) for more in ({}, {"split": "train"}, {"text": "star"})),
        {"text": "red circle"},
        {"text": "star", "split": "train"},
        {"remark": "flag", "split": "train"},
        {"disagreement": 1.0, "split": "train"},
        {"seed": 7},
        *(
            {**bounds, **more}
            for bounds in MEANS
            for more in ({}, {"split": "train"}, {"text": "star"}, {"who": BUSY})
        ),
    ]


def timed(work: Callable[[], Any], times: int) -> np.ndarray:
    """Milliseconds of each time, after one that does not count."""
    work()
    taken = []
    for _ in range(times):
        began = time.perf_counter()
        work()
        taken.append(1000 * (time.perf_counter() - began))
    return np.array(taken)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--only", default="", help="only what has this in its name")
    given = parser.parse_args()
    env = {"STUDIO_HOME": str(given.folder.absolute())}
    studio, missed = Studio(Settings.from_env(env)), []
    print(f"{'':56}{'p50':>8}{'p95':>8}{'p99':>8}   at most (ms)")
    for name, most, works, times in measures(studio):
        if given.only not in name:
            continue
        each = [np.percentile(timed(work, times), (50, 95, 99)) for work in works]
        p50, p95, p99 = np.max(each, axis=0)
        missed += [name] if p99 > most else []
        missing = " MISSED" if p99 > most else ""
        print(f"{name:56}{p50:8.1f}{p95:8.1f}{p99:8.1f}   {most:.0f}{missing}", flush=True)
    if given.only in "start":
        app = start_app(studio.settings.home, env)
        stop_app(app)
        missed += ["start"] if app.seconds > START else []
        print(f"{'start until the page answers':56}{app.seconds:8.1f} s, at most {START:.0f}")
    print(f"missed: {', '.join(missed) or 'nothing'}")


if __name__ == "__main__":
    main()
