"""The store under load and under the axe: many threads, several processes, SIGKILL in mid-write."""

import itertools
import os
import threading

from data.store import RunBusy, Store
from tests.forked import forked

WRITES = 12


def in_threads(work, givens):
    """Do the work with each of these at once; an error is raised here."""
    errors = []

    def guarded(given):
        try:
            work(given)
        except Exception as error:  # noqa: BLE001 - whatever it is, the main thread must see it
            errors.append(error)

    threads = [threading.Thread(target=guarded, args=(given,)) for given in givens]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors


def written(path, sample, who, said, count=None):
    """Write scores, and say of each that it is there: it must be there for ever."""
    store = Store(path)
    for n in itertools.count() if count is None else range(count):
        event = store.scores.set(sample, n % 7, n // 7 % 10, who)
        os.write(said, f"{event['id']}\n".encode())


def writer(*given):
    """A process that writes, and what it says as a file."""
    reads, writes = os.pipe()
    process = forked(written, *given[:3], writes, *given[3:])
    os.close(writes)
    return process, os.fdopen(reads)


def event_ids(store):
    with store.database.reading() as db:
        return {id for (id,) in db.execute("SELECT id FROM scores")}


def test_eight_threads_lose_no_event_and_none_is_told_that_the_database_is_locked(store, sample_row):
    """Each event supersedes the one before it in its lane: under a deferred BEGIN two would name the same."""
    (sample,) = store.samples.add([sample_row()])
    said = set()

    def work(i):
        for n in range(WRITES):
            said.add(store.scores.set(sample, n % 7, n % 10, f"person {i}")["id"])
            said.add(store.scores.set(sample, 0, (i + n) % 10, "shared")["id"])
            store.queue.next(f"person {i}")

    in_threads(work, range(8))
    assert event_ids(store) == said
    assert all(len(store.scores.history(f"person {i}", limit=100)) == WRITES for i in range(8))
    chain = store.scores.history("shared", limit=1000)
    assert [event["supersedes"] for event in chain] == [*(event["id"] for event in chain[1:]), None]


def test_two_processes_that_make_and_write_one_store_lose_nothing(quick_path, sample_row):
    path = quick_path / "studio.db"
    for process in [forked(Store, path) for _ in range(2)]:
        process.join()
        assert process.exitcode == 0
    store = Store(path)
    (sample,) = store.samples.add([sample_row()])
    writers = [writer(path, sample, f"process {i}", WRITES) for i in range(2)]
    said = {id for _, out in writers for id in out.read().split()}
    for process, _ in writers:
        process.join()
        assert process.exitcode == 0
    assert len(said) == 2 * WRITES and event_ids(store) == said
    store.restoring.check()


def test_every_event_that_was_acknowledged_before_a_kill_is_there(tmp_path, sample_row):
    store = Store(tmp_path / "studio.db")
    (sample,) = store.samples.add([sample_row()])
    said = set()
    for round_ in range(3):
        process, out = writer(store.database.path, sample, f"round {round_}")
        said |= {out.readline().strip() for _ in range(1 + 2 * round_)}
        process.kill()
        process.join()
        said |= {line for line in out.read().split("\n") if len(line) == 32}
        again = Store(store.database.path)
        again.restoring.check()
        assert said <= event_ids(again)
        again.scores.set(sample, 0, round_, "after")
    assert said and "" not in said


def test_only_one_of_many_callers_gets_to_run(store):
    claimed = []

    def claim(id):
        try:
            claimed.append(store.runs.claim(id, pid=os.getpid())["id"])
        except RunBusy:
            pass

    in_threads(claim, [store.runs.new("reward", {}) for _ in range(6)])
    assert len(claimed) == 1
    assert [run["id"] for run in store.runs.find(state="running")] == claimed
