"""The store under load and under the axe: many threads, several processes, SIGKILL in mid-write."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from data.store import RunBusy, Store

ROOT = Path(__file__).resolve().parents[2]
WRITES = 12

WRITER = """
import sys
from data.store import Store
path, sample, who = sys.argv[1:4]
store = Store(path)
n = 0
while len(sys.argv) < 5 or n < int(sys.argv[4]):
    event = store.scores.set(sample, n % 7, n // 7 % 10, who)
    print(event["id"], flush=True)  # what was said here must be there for ever
    n += 1
"""


def writer(*arguments):
    return subprocess.Popen(
        [sys.executable, "-c", WRITER, *map(str, arguments)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def event_ids(store):
    with store.database.reading() as db:
        return {id for (id,) in db.execute("SELECT id FROM scores")}


def test_eight_threads_lose_no_event_and_none_is_told_that_the_database_is_locked(store, sample_row):
    (sample,) = store.samples.add([sample_row()])
    said, errors = set(), []

    def work(who):
        try:
            for n in range(WRITES):
                said.add(store.scores.set(sample, n % 7, n % 10, who)["id"])
                store.queue.next(who)
        except Exception as error:  # noqa: BLE001 - whatever it is, the main thread must see it
            errors.append(error)

    threads = [threading.Thread(target=work, args=(f"person {i}",)) for i in range(8)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert not errors
    assert len(said) == 8 * WRITES
    assert event_ids(store) == said
    assert all(len(store.scores.history(f"person {i}", limit=100)) == WRITES for i in range(8))


def test_read_then_write_by_many_hands_keeps_every_chain_whole(store, sample_row):
    """Each event supersedes the one before it in its lane: under a deferred BEGIN two would name the same."""
    (sample,) = store.samples.add([sample_row()])

    def work(i):
        for n in range(WRITES):
            store.scores.set(sample, 0, (i + n) % 10, "shared")

    threads = [threading.Thread(target=work, args=(i,)) for i in range(4)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    chain = store.scores.history("shared", limit=1000)
    assert [e["supersedes"] for e in chain] == [*(e["id"] for e in chain[1:]), None]


def test_two_processes_that_make_and_write_one_store_lose_nothing(quick_path, sample_row):
    path = quick_path / "studio.db"
    opened = [subprocess.Popen([sys.executable, "-c", f"from data.store import Store; Store({str(path)!r})"],
                               cwd=ROOT, stderr=subprocess.PIPE, text=True) for _ in range(2)]  # fmt: skip
    for process in opened:
        assert process.communicate(timeout=120)[1] == ""
    store = Store(path)
    (sample,) = store.samples.add([sample_row()])
    writers = [writer(path, sample, f"process {i}", WRITES) for i in range(2)]
    said = set()
    for process in writers:
        out, err = process.communicate(timeout=240)
        assert (process.returncode, err) == (0, "")
        said |= set(out.split())
    assert len(said) == 2 * WRITES
    assert event_ids(store) == said
    store.restoring.check()


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="needs SIGKILL")
def test_every_event_that_was_acknowledged_before_a_kill_is_there(tmp_path, sample_row):
    store = Store(tmp_path / "studio.db")
    (sample,) = store.samples.add([sample_row()])
    said = set()
    for round_ in range(3):
        process = writer(store.database.path, sample, f"round {round_}")
        said |= {process.stdout.readline().strip() for _ in range(1 + 2 * round_)}
        time.sleep(0.01 * round_)
        os.kill(process.pid, signal.SIGKILL)
        out, _ = process.communicate(timeout=60)
        said |= {line for line in out.split("\n") if len(line) == 32}
        again = Store(store.database.path)
        again.restoring.check()
        assert said <= event_ids(again)
        again.scores.set(sample, 0, round_, "after")
    assert said and "" not in said


def test_only_one_of_many_callers_gets_to_run(store):
    runs = [store.runs.new("reward", {}) for _ in range(6)]
    got = []

    def claim(id):
        try:
            got.append(store.runs.claim(id, pid=os.getpid())["id"])
        except RunBusy:
            pass

    threads = [threading.Thread(target=claim, args=(id,)) for id in runs]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert len(got) == 1
    assert [r["id"] for r in store.runs.find(state="running")] == got
