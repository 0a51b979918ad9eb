"""How far the annotators are: counts that go on from what they knew, on any store."""

import random

from data.store import Store


def test_counts_are_right_after_every_step_whichever_store_asks(store, sample_row):
    """A store that counts from the start is the other; one that has counted before looks only at what is new."""
    dice = random.Random(4)
    ids = store.samples.add(
        sample_row(seed=i, split="train" if i % 4 else "heldout", method=("none", "projected")[i % 2])
        for i in range(12)
    )
    ids += store.samples.add([sample_row(seed=99, image_path=None, image_sha256=None)])
    questions = [
        lambda s, who: s.tallies.progress(who),
        lambda s, who: s.tallies.progress(who, split="train"),
        lambda s, who: s.tallies.queue(who, method=["none"]),
        lambda s, who: s.tallies.queue(who, overlap=2, split="train"),
        lambda s, who: s.tallies.count_corrected(),
        lambda s, who: s.samples.count(scored=True),
    ]
    for step in range(80):
        who, sample, word = dice.choice(("ann", "bob", "cyd")), dice.choice(ids), dice.randrange(4)
        what = dice.randrange(9)
        if what < 3:
            store.scores.set(sample, word, dice.randrange(10), who)
        elif what == 3:
            store.scores.clear(sample, word, who)
        elif what == 4:
            store.scores.undo(dice.choice((None, sample)), who)
        elif what == 5:
            (store.queue.submit if dice.random() < 0.7 else store.queue.skip)(sample, who)
        elif what == 8:
            left = store.desk.last_left(who)
            if left:
                store.queue.come_back(left["id"], who)
        elif what == 6:
            store.scores.add([{"sample": sample, "word_index": word, "source": "vlm", "score": 5}])
        else:
            store.scores.set(sample, word, 3, "detector", source="simulated")
            store.queue.submit(sample, "detector")
        if step % 6 == 0:
            ids += store.samples.add([sample_row(seed=200 + step)])
        fresh, asked = Store(store.database.path), dice.choice(questions)
        assert asked(store, who) == asked(fresh, who), step
    with store.database.reading() as db:  # the rule itself, in the plainest SQL
        standing = db.execute(
            """SELECT count(DISTINCT sample || word_index) FROM latest WHERE kind = 'set' AND who <> ''
            AND sample IN (SELECT id FROM samples WHERE split <> 'heldout')"""
        ).fetchone()[0]
        skipped = db.execute(
            """SELECT count(*) FROM (SELECT kind, max(seq) FROM submissions WHERE who = 'ann'
            AND sample IN (SELECT id FROM samples WHERE image_path IS NOT NULL) GROUP BY sample)
            WHERE kind = 'skip'"""
        ).fetchone()[0]
    assert store.tallies.count_corrected() == standing > 0
    assert store.tallies.progress("ann")["skipped"] == skipped


def test_a_store_put_in_the_place_of_this_one_is_counted_anew(store, sample_row, tmp_path):
    ids = store.samples.add(sample_row(seed=i) for i in range(3))
    store.scores.set(ids[0], 1, 5, "ann")
    backup = store.database.vacuum_into(tmp_path / "backup.db")
    store.scores.set(ids[1], 1, 5, "ann")
    assert store.tallies.progress("ann")["corrected_words"] == 2 == store.tallies.count_corrected()
    for name in ("", "-wal", "-shm"):
        store.database.path.with_name(store.database.path.name + name).unlink(missing_ok=True)
    store.database.path.write_bytes(backup.read_bytes())
    assert store.tallies.progress("ann")["corrected_words"] == 1 == store.tallies.count_corrected()
    store.scores.set(ids[2], 1, 4, "ann")
    assert store.tallies.progress("ann")["corrected_words"] == 2 == store.tallies.count_corrected()
