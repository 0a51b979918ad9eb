"""The queue among several people: leases, overlap, orders, filters, remarks and figures; and what it costs."""

import random
import threading
import time

import pytest

from data.store import Store, queue, schema
from data.store.database import now
from data.store.queue import ORDERS
from data.store.scores import checked_event

LEASE = queue.LEASE_SECONDS


def fill(store, sample_row, peaked, count, **changes):
    """Samples with a word that the VLM has scored, the least sure first; the reward model differs from it on each."""
    ids = store.samples.add([sample_row(seed=i, **changes) for i in range(count)])
    store.scores.add(
        {"sample": id, "word_index": 0, "source": "vlm", "distribution": peaked(3, 0.2 + 0.7 * i / count)}
        for i, id in enumerate(ids)
    )
    store.foreseen.keep({id: (1 + i / count, i / count, "1") for i, id in enumerate(ids)}, "reward")
    return ids


def disagree(store, sample, low, high, word=0):
    store.scores.set(sample, word, low, "x")
    store.scores.set(sample, word, high, "y")


def points(store):
    with store.database.reading() as db:
        return dict(db.execute("SELECT sample, points FROM disagreement").fetchall())


@pytest.mark.parametrize("order", ORDERS)
def test_what_one_person_holds_nobody_else_is_given(store, sample_row, peaked, order):
    ids = fill(store, sample_row, peaked, 3)
    for id in ids:
        disagree(store, id, 2, 8)
    given = [store.queue.next(who, order, lease=LEASE)["id"] for who in ("ann", "bob", "cyd")]
    assert set(given) == set(ids)
    assert store.queue.next("dan", order, lease=LEASE) is None
    assert [store.queue.next(who, order, lease=LEASE)["id"] for who in ("ann", "bob")] == given[:2]
    assert {(held["sample"], held["who"]) for held in store.leases.current()} == set(
        zip(given, ("ann", "bob", "cyd"))
    )


@pytest.mark.parametrize("end", ["submit", "skip", "release"])
def test_a_lease_ends_with_the_work(store, sample_row, peaked, end):
    (a,) = fill(store, sample_row, peaked, 1)
    store.queue.next("ann", lease=LEASE)
    assert store.queue.next("bob", lease=LEASE) is None
    getattr(store.leases if end == "release" else store.queue, end)(a, "ann")
    assert store.leases.current("ann") == []
    assert store.queue.next("bob", lease=LEASE)["id"] == a


def test_a_lease_that_has_run_out_is_given_to_the_next_and_leaves_no_row(store, sample_row, peaked):
    (a,) = fill(store, sample_row, peaked, 1)
    store.queue.next("ann", lease=0.05)
    assert store.queue.next("bob", lease=LEASE) is None
    time.sleep(0.06)
    assert store.queue.next("bob", lease=LEASE)["id"] == a
    assert store.leases.hold(a, "ann") is False
    with store.database.reading() as db:
        assert db.execute("SELECT who FROM leases").fetchall() == [("bob",)]


def test_activity_renews_a_lease_once_half_of_it_has_passed(store, sample_row, peaked):
    (a,) = fill(store, sample_row, peaked, 1)
    store.queue.next("ann", lease=LEASE)
    first = store.leases.current("ann")[0]["expires"]
    assert store.leases.hold(a, "ann", LEASE)
    assert store.leases.current("ann")[0]["expires"] == first
    assert store.leases.hold(a, "ann", 3 * LEASE)
    assert store.leases.current("ann")[0]["expires"] > first


def test_work_on_a_sample_opened_by_hand_is_leased_where_nobody_else_has_it(store, sample_row, peaked):
    a, b = fill(store, sample_row, peaked, 2)
    assert store.leases.hold(a, "ann") is True
    assert store.leases.hold(a, "bob") is False
    assert store.leases.hold(a, "bob", overlap=2) is True
    assert store.queue.next("cyd", lease=LEASE)["id"] == b


def test_a_lease_never_stands_in_the_way_of_a_correction(store, sample_row, peaked):
    (a,) = fill(store, sample_row, peaked, 1)
    store.queue.next("ann", lease=LEASE)
    assert store.scores.set(a, 0, 3, "bob")["score"] == 3


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("overlap", [1, 2, 3])
def test_a_sample_is_given_to_as_many_people_as_agreement_needs_and_no_more(
    store, sample_row, peaked, order, overlap
):
    (a,) = fill(store, sample_row, peaked, 1)
    disagree(store, a, 1, 9)
    people = ["ann", "bob", "cyd", "dan"]
    for who in people[:overlap]:
        assert store.queue.next(who, order, lease=LEASE, overlap=overlap)["id"] == a
    for who in people[overlap:]:
        assert store.queue.next(who, order, lease=LEASE, overlap=overlap) is None
        assert store.queue.next(who, order, overlap=overlap) is None
    store.queue.skip(a, "ann")
    assert store.queue.next("dan", order, lease=LEASE, overlap=overlap)["id"] == a
    store.queue.submit(a, "dan")
    assert store.queue.next("eve", order, lease=LEASE, overlap=overlap) is None


def test_one_who_has_submitted_and_opens_the_sample_again_takes_one_place(store, sample_row, peaked):
    (a,) = fill(store, sample_row, peaked, 1)
    store.queue.submit(a, "ann")
    store.leases.hold(a, "ann")
    assert store.queue.next("bob", overlap=2)["id"] == a


def test_the_simulated_annotator_takes_nobodys_place(store, sample_row, peaked):
    (a,) = fill(store, sample_row, peaked, 1)
    store.scores.add([{"sample": a, "word_index": 0, "source": "simulated", "who": "sim", "score": 3}])
    store.queue.submit(a, "sim")
    assert store.queue.next("ann", lease=LEASE, overlap=1)["id"] == a


def test_sixteen_annotators_under_load_are_never_given_the_same_sample(store, sample_row, peaked):
    """Each takes one, looks whether anyone else has it, submits, and takes the next; each sample is done once."""
    ids = fill(store, sample_row, peaked, 96)
    held, twice, errors, done, guard = set(), [], [], [], threading.Lock()

    def work(i):
        try:
            mine, order = Store(store.database.path), ("uncertainty", "random", "newest")[i % 3]
            while sample := mine.queue.next(f"p{i}", order, lease=LEASE, overlap=1):
                with guard:
                    if sample["id"] in held:
                        twice.append(sample["id"])
                    held.add(sample["id"])
                mine.scores.set(sample["id"], 0, i % 10, f"p{i}")
                with guard:
                    held.discard(sample["id"])
                    done.append(sample["id"])
                mine.queue.submit(sample["id"], f"p{i}")
        except Exception as error:  # noqa: BLE001 - whatever it is, the main thread must see it
            errors.append(error)

    threads = [threading.Thread(target=work, args=(i,)) for i in range(16)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert (errors, twice) == ([], [])
    assert sorted(done) == sorted(ids)
    assert store.leases.current() == []


def test_where_people_disagree_most_comes_first(store, sample_row, peaked):
    a, b, c, alone = fill(store, sample_row, peaked, 4)
    disagree(store, a, 4, 6)
    disagree(store, b, 0, 9)
    disagree(store, c, 5, 5)
    store.scores.set(alone, 0, 1, "x")
    order = []
    while sample := store.queue.next("ann", "disagreement"):
        order.append(sample["id"])
        store.queue.submit(sample["id"], "ann")
    assert order == [b, a]


def test_the_kept_disagreement_is_that_of_what_stands(store, sample_row):
    """Against the definition, through corrections, clearing and undo; and the migration's sum over an old store."""
    dice, people = random.Random(3), ("ann", "bob", "cyd")
    ids = store.samples.add([sample_row(seed=i) for i in range(3)])
    for _ in range(150):
        id, word, who = dice.choice(ids), dice.randrange(3), dice.choice(people)
        what = dice.random()
        if what < 0.7:
            store.scores.set(id, word, dice.randrange(10), who)
        elif what < 0.85:
            store.scores.clear(id, word, who)
        else:
            store.scores.undo(id, who)
    wanted = {}
    for id in ids:
        said = [list(w["people"].values()) for w in store.scores.current(id).values() if len(w["people"]) > 1]
        if said:
            wanted[id] = sum(max(s) - min(s) for s in said) / len(said)
    assert points(store) == pytest.approx(wanted)
    with store.database.writing() as db:
        db.execute("DELETE FROM disagreement")
        db.execute(schema.DISAGREEMENT.format(which="1"))
    assert points(store) == pytest.approx(wanted)


def test_a_persons_random_order_lasts_and_differs_from_anothers(store, sample_row, peaked):
    fill(store, sample_row, peaked, 30)

    def walk(who):
        seen = []
        while (sample := store.queue.next(who, "random", lease=LEASE)) and len(seen) < 30:
            assert store.queue.next(who, "random", lease=LEASE)["id"] == sample["id"]
            seen.append(sample["id"])
            store.queue.submit(sample["id"], who)
        return seen

    walks = [walk(f"person {i}") for i in range(6)]
    assert all(len(set(w)) == 30 for w in walks)
    assert len({w[0] for w in walks}) > 1


def test_the_figures_are_mine_all_and_left(store, sample_row, peaked):
    a, b, c, _ = fill(store, sample_row, peaked, 4)
    store.samples.add([sample_row(image_path=None, image_sha256=None)])
    store.queue.submit(a, "ann")
    store.queue.skip(b, "ann")
    store.queue.submit(a, "bob")
    store.queue.submit(c, "bob")
    store.queue.next("cyd", lease=LEASE)
    counts = ("mine", "all", "left")
    assert [store.tallies.queue("ann")[n] for n in counts] == [1, 2, 2]
    assert [store.tallies.queue("bob")[n] for n in counts] == [2, 2, 2]
    assert [store.tallies.queue("cyd", overlap=1)[n] for n in counts] == [0, 2, 2]
    assert [store.tallies.queue("cyd", overlap=2)[n] for n in counts] == [0, 2, 3]
    assert [store.tallies.queue("ann", split="heldout")[n] for n in counts] == [0, 0, 0]


def test_the_rate_is_that_of_the_past_hour(store, sample_row, peaked):
    ids = fill(store, sample_row, peaked, 6)
    assert store.tallies.queue("ann")["per_hour"] is None
    with store.database.writing() as db:
        for i, (id, ago) in enumerate(zip(ids, (7200, 1800, 1200, 600))):
            values = (f"e{i}", id, "ann", "submit", now(-ago))
            db.execute(
                "INSERT INTO submissions (id, sample, who, kind, created) VALUES (?, ?, ?, ?, ?)", values
            )
    assert store.tallies.queue("ann")["per_hour"] == pytest.approx(6, rel=1e-3)
    assert store.tallies.queue("bob")["per_hour"] is None


def test_the_last_flag_and_the_last_note_of_a_person_stand(store, sample_row):
    a, b = store.samples.add([sample_row(), sample_row(seed=2)])
    store.remarks.flag(a, "ann", "two circles")
    first = store.remarks.flag(a, "ann", "the image is broken")
    assert store.remarks.flag(a, "ann", "the image is broken")["id"] == first["id"]
    store.remarks.note(a, "ann", "seen twice")
    store.remarks.note(b, "bob", "<script>alert(1)</script> 'quoted' \N{SNOWMAN}")
    said = [(r["sample"], r["who"], r["kind"], r["text"]) for r in store.remarks.find()]
    assert said == [
        (b, "bob", "note", "<script>alert(1)</script> 'quoted' \N{SNOWMAN}"),
        (a, "ann", "note", "seen twice"),
        (a, "ann", "flag", "the image is broken"),
    ]
    store.remarks.unflag(a, "ann")
    store.remarks.note(b, "bob", " ")
    assert [r["kind"] for r in store.remarks.find()] == ["note"]
    assert store.remarks.unflag(a, "ann") is None and store.remarks.note(a, "cyd", "") is None
    assert [len(store.remarks.find(**f)) for f in ({"sample": b}, {"who": "ann"}, {"kind": "flag"})] == [
        0,
        1,
        0,
    ]
    with store.database.reading() as db:
        assert db.execute("SELECT count(*) FROM remarks").fetchone()[0] == 6


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda s, a: s.remarks.flag(a, "ann", " "), "reason is empty"),
        (lambda s, a: s.remarks.flag(a, "ann", "x" * 201), "shorten"),
        (lambda s, a: s.remarks.note(a, "ann", None), "note must be text"),
        (lambda s, a: s.remarks.note(a, "", "x"), "who"),
        (lambda s, a: s.remarks.note("nothere", "ann", "x"), "no sample"),
        (lambda s, a: s.remarks.find(kind="praise"), "flag, note"),
        (lambda s, a: s.leases.hold("nothere", "ann"), "no sample"),
        (lambda s, a: s.leases.hold(a, ""), "who"),
        (lambda s, a: s.leases.hold(a, "ann", lease=0), "lease"),
        (lambda s, a: s.queue.next("ann", lease=float("nan")), "lease"),
        (lambda s, a: s.queue.next("ann", lease=True), "lease"),
        (lambda s, a: s.queue.next("ann", overlap=0), "overlap"),
        (lambda s, a: s.tallies.queue("ann", overlap="2"), "overlap"),
        (lambda s, a: s.tallies.queue("ann", colour="red"), "filtered by"),
    ],
)
def test_what_makes_no_sense_is_refused_and_nothing_is_written(store, sample_row, call, says):
    (a,) = store.samples.add([sample_row()])
    with pytest.raises(ValueError, match=says):
        call(store, a)
    assert (store.remarks.find(), store.leases.current()) == ([], [])


@pytest.mark.parametrize("filters", [{}, {"split": "train"}, {"prompt_set": ""}, {"prompt": "a green star"}])
@pytest.mark.parametrize("order", ORDERS)
def test_the_next_sample_is_found_on_indices(store, sample_row, peaked, order, filters, monkeypatch):
    """No table is read whole, but for the walk along the order's own index, which stops at the first free sample."""
    ids = fill(store, sample_row, peaked, 5)
    disagree(store, ids[0], 2, 7)
    monkeypatch.setattr(queue, "FEW", 3)
    plans = []

    def spy(real):
        def run(db, sql, values=()):
            plans.extend(
                (sql, r[3].replace("COVERING ", "")) for r in db.execute(f"EXPLAIN QUERY PLAN {sql}", values)
            )
            return real(db, sql, values)

        return run

    for name in ("row", "rows"):
        monkeypatch.setattr(queue, name, spy(getattr(queue, name)))
    store.queue.next("ann", order, lease=LEASE, **filters)
    walks = {
        "uncertainty": "SCAN u USING INDEX uncertainty_entropy",
        "disagreement": "SEARCH u USING INDEX disagreement_points",
        "reward": "SEARCH u USING INDEX foreseen_points",
        "projected": "SCAN u USING INDEX foreseen_promise",
        "newest": "SCAN s",
        "random": "SEARCH s USING INDEX sqlite_autoindex_samples_1",
    }
    if "prompt_set" in filters:  # what it leaves may all be old: the newest of each pool
        walks["newest"] = (
            "SEARCH s USING INDEX samples_pool (split=? AND prompt_set=? AND method=? AND backbone=? AND"
        )
    few = "prompt" in filters
    steps = [step for _, step in plans]
    assert few or any(step.startswith(walks[order]) for step in steps), steps
    for sql, step in plans:
        scanned = step.startswith("SCAN") and "json_each" not in step and "CONSTANT ROW" not in step
        assert not scanned or step.startswith(("SCAN b", "SCAN p", walks[order])), (step, sql)
        sorted_ = step.startswith("USE TEMP B-TREE FOR ORDER BY")
        assert not sorted_ or few or "DISTINCT sample" in sql or "FROM pools p" in sql, (step, sql)


def test_a_store_from_before_the_queue_keeps_its_corrections_and_knows_who_disagrees(older_store, sample_row):
    said = {"sample": "a", "word_index": 0, "source": "human"}
    events = [checked_event({**said, "who": who, "score": s}) for who, s in (("x", 2), ("y", 9), ("y", 6))]
    store = Store(older_store("m003_queue", [sample_row(id="a")], scores=events))
    assert points(store) == {"a": 4}
    assert len(store.scores.history("y")) == 2
    store.scores.set("a", 0, 2, "y")
    assert points(store) == {"a": 0}
