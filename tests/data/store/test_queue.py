"""The queue among several people: leases, overlap, orders, filters, remarks and figures; and what it costs."""

import random
import threading
import time

import pytest

from data.store import Store, queue, schema
from data.store.checks import entropy
from data.store.database import now
from data.store.queue import ORDERS

LEASE = queue.LEASE_SECONDS


def fill(store, sample_row, peaked, count, **changes):
    """Samples with a word that the VLM has scored, the least sure first; the reward model differs from it on each."""
    ids = store.samples.add([sample_row(seed=i, **changes) for i in range(count)])
    unsure(store, peaked, ids, [(0.2 + 0.7 * i / count,) for i in range(count)])
    store.foreseen.keep({id: (1 + i / count, i / count, "1") for i, id in enumerate(ids)}, "reward")
    return ids


def unsure(store, peaked, ids, peaks):
    """The VLM says 3 for word i of a sample, as sure as peaks[i]."""
    store.scores.add(
        {"sample": id, "word_index": w, "source": "vlm", "distribution": peaked(3, p)}
        for id, row in zip(ids, peaks, strict=True)
        for w, p in enumerate(row)
    )


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
    people = ("ann", "bob", "cyd")
    given = [store.queue.next(who, order, lease=LEASE)["id"] for who in people]
    assert set(given) == set(ids)
    assert store.queue.next("dan", order, lease=LEASE) is None
    assert [store.queue.next(who, order, lease=LEASE)["id"] for who in people] == given
    held = {(lease["sample"], lease["who"]) for lease in store.leases.current()}
    assert held == set(zip(given, people, strict=True))
    assert store.scores.set(given[0], 0, 3, "bob")["score"] == 3  # which stands in the way of no correction


def test_a_lease_ends_with_the_work_or_its_time_and_leaves_no_row(store, sample_row, peaked):
    (a,) = fill(store, sample_row, peaked, 1)
    for who, end in zip("xyz", (store.queue.submit, store.queue.skip, store.leases.release), strict=True):
        store.queue.next(who, lease=LEASE)
        assert store.queue.next("bob", lease=LEASE) is None
        end(a, who)
        assert store.leases.current(who) == []
    store.queue.next("ann", lease=0.05)
    assert store.queue.next("bob", lease=LEASE) is None
    time.sleep(0.06)
    assert store.queue.next("bob", lease=LEASE)["id"] == a
    assert store.leases.hold(a, "ann") is False
    with store.database.reading() as db:
        assert db.execute("SELECT who FROM leases").fetchall() == [("bob",)]


def test_what_is_opened_by_hand_is_leased_where_nobody_else_has_it_and_renewed(store, sample_row, peaked):
    a, b = fill(store, sample_row, peaked, 2)
    assert store.leases.hold(a, "ann") is True and store.leases.hold(a, "bob") is False
    assert store.leases.hold(a, "bob", overlap=2) is True
    assert store.queue.next("cyd", lease=LEASE)["id"] == b
    expires = []
    for lease in (LEASE, LEASE, 3 * LEASE):  # again once half of it has passed
        assert store.leases.hold(a, "ann", lease)
        expires.append(store.leases.current("ann")[0]["expires"])
    assert expires[0] == expires[1] < expires[2]


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("overlap", [1, 2, 3])
def test_a_sample_is_given_to_as_many_people_as_agreement_needs_and_no_more(
    store, sample_row, peaked, order, overlap
):
    (a,) = fill(store, sample_row, peaked, 1)
    disagree(store, a, 1, 9)
    store.scores.set(a, 0, 3, "sim", source="simulated")
    store.queue.submit(a, "sim")  # the simulated annotator takes nobody's place
    people = ["ann", "bob", "cyd", "dan"]
    for who in people[:overlap]:
        assert store.queue.next(who, order, lease=LEASE, overlap=overlap)["id"] == a
    for who in people[overlap:]:
        assert store.queue.next(who, order, lease=LEASE, overlap=overlap) is None
        assert store.queue.next(who, order, overlap=overlap) is None
    store.queue.skip(a, "ann")
    assert store.queue.next("dan", order, lease=LEASE, overlap=overlap)["id"] == a
    store.queue.submit(a, "dan")
    store.leases.hold(a, "dan")  # who opens it again takes one place
    assert store.queue.next("eve", order, lease=LEASE, overlap=overlap) is None
    assert store.queue.next("eve", order, lease=LEASE, overlap=overlap + 1)["id"] == a


def test_sixteen_annotators_under_load_are_never_given_the_same_sample(store, sample_row, peaked):
    """Each takes one, looks whether anyone else has it, submits, and takes the next; each sample is done once."""
    ids = fill(store, sample_row, peaked, 48)
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


def test_the_kept_disagreement_is_that_of_what_stands_and_the_most_comes_first(store, sample_row):
    """Against the definition, through corrections, clearing and undo; and the migration's sum over an old store."""
    dice, people = random.Random(3), ("ann", "bob", "cyd")
    ids = store.samples.add([sample_row(seed=i) for i in range(5)])
    for _ in range(100):
        id, word, who = dice.choice(ids[:3]), dice.randrange(3), dice.choice(people)
        what = dice.random()
        if what < 0.7:
            store.scores.set(id, word, dice.randrange(10), who)
        elif what < 0.85:
            store.scores.clear(id, word, who)
        else:
            store.scores.undo(id, who)
    disagree(store, ids[3], 5, 5)
    store.scores.set(ids[4], 0, 1, "x")
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
    assert walk(store, "dan", "disagreement") == sorted(ids[:3], key=wanted.get, reverse=True)


def walk(store, who, order, leave=None):
    """What a person is given, one after the other."""
    seen = []
    while sample := store.queue.next(who, order, lease=LEASE):
        assert store.queue.next(who, order, lease=LEASE)["id"] == sample["id"]  # in an order that lasts
        seen.append(sample["id"])
        (leave or store.queue.submit)(sample["id"], who)
    return seen


def test_the_orders_are_random_for_each_person_the_newest_and_what_the_vlm_is_least_sure_of(
    store, sample_row, peaked
):
    ids = fill(store, sample_row, peaked, 12)
    (unscored,) = store.samples.add([sample_row(seed=99)])
    walks = [walk(store, f"person {i}", "random") for i in range(4)]
    assert all(sorted(w) == sorted([*ids, unscored]) for w in walks) and len({w[0] for w in walks}) > 1
    assert walk(store, "ann", "newest") == [unscored, *ids[::-1]]
    assert store.queue.next("bob", "newest", exclude=unscored)["id"] == ids[-1]
    assert walk(store, "cyd", "uncertainty", store.queue.skip) == ids
    store.scores.add([{"sample": ids[0], "word_index": 0, "source": "vlm", "distribution": peaked(3, 0.99)}])
    assert store.queue.next("dan")["id"] == ids[1]  # by the newer score
    with pytest.raises(ValueError, match="uncertainty, random, newest"):
        store.queue.next("ann", "oldest")


def test_the_order_equals_that_of_a_plain_sum_over_everything(store, sample_row, peaked):
    """Against the definition: mean entropy over the words that this person has not corrected."""
    dice = random.Random(5)
    peaks = [tuple(dice.uniform(0.15, 0.99) for _ in range(3)) for _ in range(12)]
    ids = store.samples.add([sample_row(seed=i) for i in range(12)])
    unsure(store, peaked, ids, peaks)
    corrected = {(i, w) for i in range(12) for w in range(3) if dice.random() < 0.25}
    for i, w in corrected:
        store.scores.set(ids[i], w, 1, "ann")
    wanted = []
    for i, row in enumerate(peaks):
        left = [entropy(peaked(3, p)) for w, p in enumerate(row) if (i, w) not in corrected]
        if left:
            wanted.append((sum(left) / len(left), ids[i]))
    for value, id in sorted(wanted, reverse=True):
        sample = store.queue.next("ann")
        assert (sample["id"], sample["entropy"]) == (id, pytest.approx(value, rel=1e-4))
        dice.choice((store.queue.submit, store.queue.skip))(id, "ann")
    assert store.queue.next("ann") is None and store.queue.next("bob")


@pytest.mark.parametrize("order", ["uncertainty", "random", "newest"])
def test_the_queue_is_filtered_and_leaves_out_what_cannot_be_shown(store, sample_row, peaked, order):
    fill(store, sample_row, peaked, 1, image_path=None, image_sha256=None)
    (mine,) = fill(store, sample_row, peaked, 1, prompt_set="mine", method="projected")
    (held,) = fill(store, sample_row, peaked, 1, split="heldout")
    assert store.queue.next("ann", order, prompt_set="mine")["id"] == mine
    assert store.queue.next("ann", order, method="projected", split="train")["id"] == mine
    assert store.queue.next("ann", order, split=["heldout"])["id"] == held
    assert store.queue.next("ann", order, split="validation") is None
    assert store.queue.next("ann", order, exclude=held, split="heldout") is None
    with pytest.raises(ValueError, match="filtered by"):
        store.queue.next("ann", order, colour="red")


def test_what_was_begun_long_ago_waits_with_the_untouched(store, sample_row, peaked, monkeypatch):
    monkeypatch.setattr(queue, "RECENT", 2)
    ids = store.samples.add(sample_row(seed=i) for i in range(5))
    unsure(store, peaked, ids, [(0.9 - 0.1 * i,) * 2 for i in range(5)])
    store.scores.set(ids[4], 0, 5, "ann")
    for word, score in ((0, 3), (1, 4), (0, 5), (0, 9)):
        store.scores.set(ids[0], word, score, "ann")
    assert store.queue.next("ann")["id"] == ids[4]
    store.queue.submit(ids[4], "ann")
    assert store.queue.next("ann")["id"] == ids[3]


def test_the_figures_are_mine_all_and_left_and_the_rate_of_the_past_hour(store, sample_row, peaked):
    a, b, c, d = fill(store, sample_row, peaked, 4)
    store.samples.add([sample_row(image_path=None, image_sha256=None), sample_row(seed=9)])
    assert store.tallies.queue("ann")["per_hour"] is None
    store.queue.submit(a, "ann")
    store.queue.skip(b, "ann")
    store.queue.submit(a, "bob")
    store.queue.submit(c, "bob")
    store.queue.next("cyd", "newest", lease=LEASE)
    counts = ("mine", "all", "left")
    assert [store.tallies.queue("ann")[n] for n in counts] == [1, 2, 3]
    assert [store.tallies.queue("bob")[n] for n in counts] == [2, 2, 3]
    assert [store.tallies.queue("cyd", overlap=1)[n] for n in counts] == [0, 2, 3]
    assert [store.tallies.queue("cyd", overlap=2)[n] for n in counts] == [0, 2, 4]
    assert [store.tallies.queue("ann", split="heldout")[n] for n in counts] == [0, 0, 0]
    for word in (0, 1):
        store.scores.set(a, word, 3, "ann")
    store.scores.set(b, 0, 3, "ann")
    store.scores.clear(b, 0, "ann")
    store.scores.set(c, 0, 3, "bob")
    assert store.tallies.progress("ann") == {
        "samples": 5, "scored": 4, "submitted": 1, "skipped": 1, "remaining": 3, "corrected_words": 2,
        "corrected_samples": 1,
    }  # fmt: skip
    assert store.tallies.progress("ann", split="heldout")["samples"] == 0
    with store.database.writing() as db:
        for i, (id, ago) in enumerate(zip((a, b, c, d), (7200, 1800, 1200, 600), strict=True)):
            values = (f"e{i}", id, "eve", "submit", now(-ago))
            db.execute(
                "INSERT INTO submissions (id, sample, who, kind, created) VALUES (?, ?, ?, ?, ?)", values
            )
    assert store.tallies.queue("eve")["per_hour"] == pytest.approx(6, rel=1e-3)


def test_the_last_flag_and_the_last_note_of_a_person_stand(store, sample_row):
    a, b = store.samples.add([sample_row(), sample_row(seed=2)])
    hostile = "<script>alert(1)</script> 'quoted' \N{SNOWMAN}"
    store.remarks.flag(a, "ann", "two circles")
    first = store.remarks.flag(a, "ann", "the image is broken")
    assert store.remarks.flag(a, "ann", "the image is broken")["id"] == first["id"]
    store.remarks.note(a, "ann", "seen twice")
    store.remarks.note(b, "bob", hostile)
    said = [(r["sample"], r["who"], r["kind"], r["text"]) for r in store.remarks.find()]
    flag = (a, "ann", "flag", "the image is broken")
    assert said == [(b, "bob", "note", hostile), (a, "ann", "note", "seen twice"), flag]
    store.remarks.unflag(a, "ann")
    store.remarks.note(b, "bob", " ")
    assert store.remarks.unflag(a, "ann") is None and store.remarks.note(a, "cyd", "") is None
    filters = ({}, {"sample": b}, {"who": "ann"}, {"kind": "flag"})
    assert [len(store.remarks.find(**f)) for f in filters] == [1, 0, 1, 0]


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
        (lambda s, a: s.queue.skip("nothere", "ann"), "no sample"),
        *(
            (lambda s, a, who=who: s.queue.submit(a, who), "who")
            for who in ("", " ", "w" * 81, None, 3, "a\x00")
        ),
        (lambda s, a: s.queue.next(" "), "who"),
        (lambda s, a: s.tallies.progress(None), "who"),
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
