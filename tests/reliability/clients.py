"""Many annotators at once over HTTP: ``python -m tests.reliability.clients FOLDER``, on a store of ``big_store``.

The app is started on a copy-free FOLDER and spoken to as a page speaks to it (the event of a key) or as a script does
(the named endpoints). Each client is a person of its own, takes what the queue gives, scores each of its words, submits
and goes on. Counted: what failed, what was acknowledged, what of that is in the store, and how long each answer took.
It goes on for a bounded time, on the loopback interface only, and leaves its labels in the store.
"""

import argparse
import json
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import numpy as np

from data.store import Store
from tests.browser.conftest import start_app, stop_app

Word = tuple[str, int]  # a sample and the place of a word in it


@dataclass
class Annotator:
    """One client, and what became of its work."""

    url: str
    number: int
    acknowledged: dict[Word, int] = field(default_factory=dict)
    done: list[str] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    saves: list[float] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.http = httpx.Client(base_url=self.url, timeout=60, trust_env=False)
        self.name = f"client {self.number} {time.time_ns() % 10**9}"
        # without one, Gradio makes a new state at each call
        self.session = f"load{time.time_ns():x}{self.number}"
        self.who = self.ask("sign_in", self.name)["who"]

    def ask(self, name: str, *data: Any) -> Any:
        """A named endpoint."""
        return self.post(f"/gradio_api/run/{name}", {"data": list(data), "session_hash": self.session})[0]

    def post(self, path: str, body: dict[str, Any]) -> list[Any]:
        began = time.perf_counter()
        answer = self.http.post(path, content=json.dumps(body), headers={"Content-Type": "application/json"})
        self.seconds.append(time.perf_counter() - began)
        if answer.status_code != 200:
            raise RuntimeError(f"{answer.status_code}: {answer.text[:200]}")
        return answer.json()["data"]

    def work(self, stop: Callable[[], bool], pace: float, items: int) -> None:
        """Until it is time to stop or so many items are done; ``pace``: labels a second, 0 for as many as can be."""
        due = time.monotonic()
        try:
            for sample, word in self.steps(items):
                due = max(due + (1 / pace if pace else 0), time.monotonic() - 1)
                time.sleep(max(0.0, due - time.monotonic()))
                if stop():
                    return
                score = (self.number + word + len(self.acknowledged)) % 10
                began = len(self.seconds)
                self.save(sample, word, score)
                self.saves += self.seconds[began:]
                self.acknowledged[sample, word] = score
        except Exception as error:  # noqa: BLE001 - whatever it is, it is counted
            self.errors.append(f"{self.name}: {error!r}")

    def steps(self, items: int) -> Iterator[Word]:
        """The words to score, one after the other; submits a sample once its words are done."""
        given = self.first()
        for _ in range(items):
            if given is None:
                return
            sample = given["id"]
            for word in given["words"]:
                if word["scored"]:
                    yield sample, word["index"]
            given = self.submit(sample)
            self.done.append(sample)

    def first(self) -> dict[str, Any] | None:
        return self.ask("next_item", self.who, "uncertainty", *[None] * 7)["sample"]

    def save(self, sample: str, word: int, score: int) -> None:
        answer = self.ask("set_score", sample, word, score, self.who)
        if answer["score"] != score:
            raise RuntimeError(f"set {score}, answered {answer}")

    def submit(self, sample: str) -> dict[str, Any] | None:
        self.ask("submit", sample, self.who)
        return self.first()


class Page(Annotator):
    """Speaks as the script of the page Annotate does: each key a packet with its number, each answer its receipt."""

    def __post_init__(self) -> None:
        super().__post_init__()
        config = self.http.get("/config").json()
        self.revision = 0
        self.mark = ""  # the first image comes by an endpoint, which gives none
        events = {e["targets"][0][1]: e for e in config["dependencies"] if e["targets"]}
        self.edit, self.digit = events["edit"], events["digit"]
        values = {part["id"]: part["props"].get("value") for part in config["components"]}
        self.inputs = [values.get(id) for id in self.edit["inputs"]]
        self.inputs[0] = self.who  # what the browser keeps comes first; the rest is as the page opens

    def key(
        self, sample: str, kind: str, word: int | None = None, score: int | None = None
    ) -> dict[str, Any]:
        self.revision += 1
        key = {"revision": self.revision, "kind": kind, "word": word, "score": score}
        packet = {"client": f"{self.name:>12}", "sample": sample, "operations": [key], "mark": self.mark}
        body = {
            "data": self.inputs,
            "fn_index": (self.digit if kind == "set" else self.edit)["id"],
            "session_hash": self.session,
            "event_data": packet,
        }
        values = self.post("/gradio_api/run/predict", body)
        (chips,) = [v for v in values if isinstance(v, dict) and "ack" in v]
        if chips["ack"]["error"] or chips["ack"]["revision"] != self.revision:
            raise RuntimeError(f"key {key}, answered {chips['ack']}")
        self.mark = chips["mark"] if chips["sample"] else ""
        return chips

    def save(self, sample: str, word: int, score: int) -> None:
        self.key(sample, "set", word, score)

    def submit(self, sample: str) -> dict[str, Any] | None:
        chips = self.key(sample, "submit")
        return {"id": chips["sample"], "words": chips["words"]} if chips["sample"] else None


def run(
    kind: type[Annotator],
    url: str,
    clients: int,
    seconds: float,
    pace: float,
    items: int = 10_000,
    stop: Callable[[], bool] = lambda: False,
) -> list[Annotator]:
    """So many at once, for so long or until it is time to stop; they have ended when this returns."""
    people = [kind(url, number) for number in range(clients)]
    for person in people:
        person.seconds.clear()
    end = time.monotonic() + seconds
    threads = [
        threading.Thread(target=person.work, args=(lambda: stop() or time.monotonic() > end, pace, items))
        for person in people
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for person in people:
        person.http.close()
    return people


def lost(store: Store, people: list[Annotator]) -> list[str]:
    """What was acknowledged and is not in the store as it was said."""
    missing = []
    for person in people:
        for (sample, word), score in person.acknowledged.items():
            said = (store.scores.current(sample, person.name).get(word) or {}).get("human")
            if not said or said["score"] != score:
                missing.append(f"{person.name}: {sample} {word}: {score}, stored {said}")
    return missing


def report(name: str, people: list[Annotator], store: Store, took: float) -> str:
    saves, every = (
        1000 * np.array([s for p in people for s in part(p)] or [0])
        for part in (lambda p: p.saves, lambda p: p.seconds)
    )
    acknowledged = sum(len(p.acknowledged) for p in people)
    errors = [error for p in people for error in p.errors]
    lines = [
        (f"{name}: {len(people)} clients, {took:.0f} s, {acknowledged} labels acknowledged ({acknowledged / took:.0f} a "
        f"second), {acknowledged - len(lost(store, people))} of them stored, {len(errors)} errors"),
        *(f"  {what}: p50 {np.percentile(of, 50):.0f}, p95 {np.percentile(of, 95):.0f}, "
          f"p99 {np.percentile(of, 99):.0f}, most {of.max():.0f} ms"
          for what, of in (("a label", saves), ("any request", every))),
        *(f"  {error}" for error in errors[:5]),
    ]  # fmt: skip
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--clients", type=int, default=16)
    parser.add_argument("--seconds", type=float, default=20)
    parser.add_argument("--pace", type=float, default=5, help="labels a second of each client")
    given = parser.parse_args()
    app = start_app(given.folder.absolute(), {})
    try:
        store = Store(given.folder.absolute() / "studio.db")
        waiter = Annotator(app.url, 0)
        while not waiter.ask("status")["ready"]:  # the models are read at the start, which takes a core
            time.sleep(0.5)
        for kind in (Page, Annotator):
            for pace in (1.0, given.pace, 0.0):
                name = f"{'the page' if kind is Page else 'the endpoints'}, {f'{pace:g} a second each' if pace else 'flat out'}"
                began = time.monotonic()
                people = run(kind, app.url, given.clients, given.seconds, pace)
                print(report(name, people, store, time.monotonic() - began), flush=True)
    finally:
        stop_app(app)


if __name__ == "__main__":
    main()
