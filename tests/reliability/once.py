"""Each key exactly once, though the server is killed again and again: ``python -m tests.reliability.once --kills 100``.

Several pages send packets of keys without a pause, number them, and send again with the new ones whatever was not
acknowledged, as the script of the page Annotate does. Meanwhile the server is killed (SIGKILL) at random moments and started
anew. At the end all keys are acknowledged, and what the store holds is compared with what one server that was never
killed makes of the same keys.

Real are: the processes and their death, HTTP, the reading of packets, the desk, the store and its file. Not real are
Gradio, which stands between the page and the desk, and the script in the browser, of which only that rule is played. A
power cut is not played: what a killed process has written is in the system's hands, and stays.
"""

import argparse
import dataclasses
import http.client
import itertools
import json
import os
import random
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from operator import itemgetter
from pathlib import Path
from typing import Any

from data.store.desk import page_digest
from studio.annotation import inbox
from studio.annotation.inbox import read_packet
from studio.settings import Settings
from studio.studio import Studio
from tests.browser.conftest import fork, free_port

PROMPT, WORDS = "a red circle above a blue square", (1, 2, 3, 5, 6)
KINDS = {
    "set": 10,
    "undo": 4,
    "submit": 2,
    **dict.fromkeys(("clear", "accept", "skip", "clean", "note", "flag"), 1),
}
WAITING = 30  # keys that a person types ahead of a server that does not answer
Key = dict[str, Any]  # an operation of a packet, with its sample


class Desk(BaseHTTPRequestHandler):
    """A packet is posted, by whom in a header; the answer has its receipt, and how many of its keys were done already."""

    server: Any

    def do_POST(self) -> None:
        studio, who = self.server.studio, self.headers["Who"]
        packet = read_packet(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
        last = studio.store.receipts.get(page_digest(packet.client, who))
        again = sum(o.revision <= last["revision"] for o in packet.operations) if last else 0
        body = json.dumps({**inbox.apply(studio, packet, who, blind=False).ack(), "again": again})
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body.encode())

    def log_message(self, *_: Any) -> None:
        pass


def serve(home: Path, port: int) -> None:
    """In a process of its own, until it is killed."""
    server = ThreadingHTTPServer(("127.0.0.1", port), Desk)
    server.studio = studio_at(home)  # type: ignore[attr-defined]
    server.serve_forever()


def studio_at(home: Path) -> Studio:
    """The desk needs no models."""
    return Studio(dataclasses.replace(Settings(), home=home))


@dataclasses.dataclass
class Page:
    """One person's page: types without a pause until told to stop, and sends until all is acknowledged."""

    who: str
    samples: list[str]
    port: int
    dice: random.Random
    typed: list[Key] = dataclasses.field(default_factory=list)
    acknowledged: int = 0
    cut: int = 0  # packets whose answer never came
    again: int = 0  # keys that were sent again although they were done

    def keys(self) -> Iterator[Key]:
        dice, sample = self.dice, self.samples[0]
        for revision in itertools.count(1):
            (kind,) = dice.choices([*KINDS], [*KINDS.values()])
            key = {"revision": revision, "kind": kind, "sample": sample}
            if kind in ("set", "clear"):
                key |= {"word": dice.choice(WORDS), "score": dice.randrange(10) if kind == "set" else None}
            if kind in ("note", "flag"):
                key["text"] = f"{self.who}, key {revision}"
            yield key
            if kind in inbox.LEAVING:
                sample = dice.choice(self.samples)

    def work(self, stop: threading.Event) -> None:
        keys, pending = self.keys(), []
        while pending or not stop.is_set():
            if not stop.is_set() and len(pending) < WAITING:
                typed = list(itertools.islice(keys, self.dice.randrange(1, 4)))
                pending, self.typed = pending + typed, self.typed + typed
            packet = list(next(itertools.groupby(pending, key=itemgetter("sample")))[1])
            try:
                ack = self.post(packet)
            except (OSError, http.client.HTTPException):
                self.cut += 1
                time.sleep(0.005)
                continue
            assert not ack["retry"], ack
            self.again += ack["again"]
            self.acknowledged = ack["revision"]
            pending = [key for key in pending if key["revision"] > ack["revision"]]

    def post(self, packet: list[Key]) -> dict[str, Any]:
        body = {"client": f"page of {self.who}", "sample": packet[0]["sample"], "operations": packet}
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        try:
            connection.request("POST", "/", json.dumps(body), {"Who": self.who})
            return json.loads(connection.getresponse().read())
        finally:
            connection.close()


def fill(studio: Studio, people: list[str]) -> dict[str, list[str]]:
    """Three samples for each person, with the VLM's scores."""
    row = {"prompt": PROMPT, "n_words": 7, "backbone": "b", "width": 64, "height": 64, "steps": 1, "guidance": 1.0,
           "image_path": "x.png"}  # fmt: skip
    given = {who: [f"{who}-{n}" for n in range(3)] for who in people}
    ids = [*itertools.chain.from_iterable(given.values())]
    studio.store.samples.add([{**row, "id": id, "seed": n} for n, id in enumerate(ids)])
    said = {"source": "vlm", "word": "w", "scorer": "none", "score": 4}
    studio.store.scores.add({**said, "sample": id, "word_index": word} for id in ids for word in WORDS)
    return given


def run(folder: Path, kills: int, people: int = 3, seed: int = 0) -> tuple[list[Page], int]:
    """The pages, all of whose keys are acknowledged, and how many of the kills met a packet that was on its way."""
    dice, port, stop = random.Random(seed), free_port(), threading.Event()
    studio = studio_at(folder / "home")
    given = fill(studio, [f"person-{n}" for n in range(people)])
    pages = [Page(who, samples, port, random.Random(f"{seed} {who}")) for who, samples in given.items()]

    def start() -> Any:
        return fork({**os.environ}, folder / "log", serve, folder / "home", port)

    threads, met, server = [threading.Thread(target=page.work, args=(stop,)) for page in pages], 0, start()
    try:
        for thread in threads:
            thread.start()
        for _ in range(kills):
            before = sum(page.acknowledged for page in pages)
            while sum(page.acknowledged for page in pages) == before and all(t.is_alive() for t in threads):
                time.sleep(0.001)  # it is there again
            time.sleep(dice.uniform(0, 0.1))
            cut = sum(page.cut for page in pages)
            server.kill()
            server.join()
            met += sum(page.cut for page in pages) > cut
            server = start()
    finally:
        stop.set()
        for thread in threads:
            thread.join()
        server.kill()
        server.join()
    return pages, met


def written(studio: Studio, who: str) -> dict[str, list[Any]]:
    """What the store holds of a person, in order, but for ids and times."""
    place = "(SELECT count(*) FROM {0} b WHERE b.who = e.who AND b.seq <= (SELECT seq FROM {0} WHERE id = e.undoes))"
    columns = {
        "scores": f"sample, word_index, source, kind, score, {place.format('scores')}",
        "submissions": f"sample, kind, {place.format('submissions')}",
        "remarks": "sample, kind, text",
    }
    with studio.store.database.reading() as db:
        return {
            table: db.execute(f"SELECT {names} FROM {table} e WHERE who = ? ORDER BY seq", (who,)).fetchall()
            for table, names in columns.items()
        }


def once(folder: Path, pages: list[Page]) -> list[str]:
    """Where the store differs from what one server makes of the same keys, each sent once; nothing where all is well."""
    killed, whole = studio_at(folder / "home"), studio_at(folder / "whole")
    killed.store.restoring.check()
    fill(whole, [page.who for page in pages])
    wrong = []
    for page in pages:
        if page.acknowledged != len(page.typed):
            wrong.append(f"{page.who} typed {len(page.typed)} keys, {page.acknowledged} are acknowledged")
        for key in page.typed:
            packet = {"client": "another page", "sample": key["sample"], "operations": [key]}
            inbox.apply(whole, read_packet(packet), page.who, blind=False)
        found, wanted = written(killed, page.who), written(whole, page.who)
        wrong += [f"{page.who}: {t}: {found[t]}, not {wanted[t]}" for t in found if found[t] != wanted[t]]
        # and by what was typed alone: each submit and each remark is one row
        typed = Counter(key["kind"] for key in page.typed)
        left = sum(undoes == 0 for *_, undoes in found["submissions"])
        if left != typed["submit"] + typed["skip"] + typed["clean"]:
            wrong.append(f"{page.who}: {left} submits and skips of {typed}")
        if len(found["remarks"]) != typed["note"] + typed["flag"]:
            wrong.append(f"{page.who}: {len(found['remarks'])} notes and flags of {typed}")
    return wrong


def report(pages: list[Page], kills: int, met: int, wrong: list[str]) -> str:
    typed = sum(len(page.typed) for page in pages)
    undone = sum(key["kind"] == "undo" for page in pages for key in page.typed)
    return (
        f"{kills} kills, {met} of them with a packet on its way; {typed} keys of {len(pages)} pages, {undone} of them undo, "
        f"all acknowledged; {sum(page.again for page in pages)} were sent again although they were done; "
        + ("each is in the store exactly once" if not wrong else "\n".join(["WRONG:", *wrong]))
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--people", type=int, default=3)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        pages, met = run(Path(folder), given.kills, given.people, given.seed)
        wrong = once(Path(folder), pages)
    print(report(pages, given.kills, met, wrong))
    raise SystemExit(bool(wrong))


if __name__ == "__main__":
    main()
