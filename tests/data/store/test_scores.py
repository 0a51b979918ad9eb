"""Score events: corrections, undo, history, and what is refused."""

import random

import numpy as np
import pytest

NAN = float("nan")


@pytest.fixture
def sample(store, sample_row):
    return store.samples.add([sample_row()])[0]


def vlm(sample, word_index=1, **changes):
    return {"sample": sample, "word_index": word_index, "word": "red", "source": "vlm", "score": 7, **changes}


def state(store, sample, who="ann"):
    """{word_index: this person's score} as ``current`` says."""
    return {i: w["human"]["score"] for i, w in store.scores.current(sample, who).items() if w["human"]}


def test_a_correction_stands_beside_the_vlms_latest_score_and_the_simulated_annotators(store, sample, peaked):
    features = np.arange(8, dtype=np.float16)
    store.scores.add([vlm(sample, scorer_version="1")])
    store.scores.add(
        [vlm(sample, distribution=peaked(7), scorer="tiny", scorer_version="2", features=features)]
    )
    event = store.scores.set(sample, 1, 2, "ann")
    store.scores.set(sample, 1, 4, "detector", source="simulated")
    now = store.scores.current(sample)[1]
    assert (now["word"], now["human"]["score"], now["human"]["who"]) == ("red", 2, "ann")
    assert now["vlm"]["distribution"][7] == pytest.approx(0.91)
    assert (now["vlm"]["scorer"], now["simulated"]["score"], now["calibrated"]) == ("tiny", 4, None)
    assert (event["id"], event["word"], event["kind"]) == (now["human"]["id"], "red", "set")
    (row,) = store.labels.vlm_scores()
    assert np.array_equal(np.frombuffer(row["features"], np.float16), features)
    with store.database.reading() as db:
        events = db.execute("SELECT id, supersedes FROM scores WHERE source = 'vlm' ORDER BY seq").fetchall()
    assert events[1][1] == events[0][0]  # the older one is kept
    assert store.scores.undo(None, "detector")["source"] == "simulated"
    word = "'); DROP TABLE scores; -- <img onerror=alert(1)> ${x} {{y}}"
    store.scores.set(sample, 1, 3, who=word, word=word)
    assert store.scores.history(word)[0]["word"] == word


def test_a_new_correction_supersedes_the_same_persons_older_one_and_nobody_elses(store, sample):
    first = store.scores.set(sample, 1, 2, "ann")
    other = store.scores.set(sample, 1, 9, "bob")
    second = store.scores.set(sample, 1, 3, "ann")
    assert (first["supersedes"], other["supersedes"], second["supersedes"]) == (None, None, first["id"])
    assert store.scores.current(sample)[1]["people"] == {"ann": 3, "bob": 9}
    assert store.scores.current(sample, "bob")[1]["human"]["score"] == 9
    assert store.scores.current(sample, "eve")[1]["human"] is None


@pytest.mark.parametrize(
    ("between", "events"),
    [
        (lambda store, id: None, 1),
        (lambda store, id: store.scores.set(id, 2, 5, "ann"), 1),  # of another word
        (lambda store, id: store.scores.set(id, 1, 6, "bob"), 1),  # by another person
        (lambda store, id: store.queue.submit(id, "ann"), 1),
        (lambda store, id: store.scores.set(id, 1, 6, "ann"), 3),
        (lambda store, id: store.scores.clear(id, 1, "ann"), 3),
        (lambda store, id: store.scores.undo(id, "ann"), 3),
    ],
)
def test_to_give_a_word_the_score_that_it_has_from_one_already_is_no_event_and_no_step(
    store, sample, between, events
):
    store.scores.set(sample, 1, 5, "ann")
    between(store, sample)
    assert store.scores.set(sample, 1, 5, "ann")["score"] == 5
    assert sum(e["word_index"] == 1 for e in store.scores.history("ann")) == events
    store.scores.set(sample, 1, 5, "cyd")  # the same score by another person is theirs
    assert len(store.scores.history("cyd")) == 1


def test_undo_goes_back_over_set_set_and_clear_and_is_itself_kept(store, sample):
    store.scores.set(sample, 1, 2, "ann")
    store.scores.set(sample, 1, 5, "ann")
    store.scores.clear(sample, 1, "ann")
    seen = []
    while event := store.scores.undo(None, "ann"):
        seen.append(event["score"])
    assert seen == [5, 2, None]
    history = store.scores.history("ann")
    assert [e["action"] for e in history] == ["undo"] * 3 + ["clear", "set", "set"]
    assert [e["undone"] for e in history] == [False] * 3 + [True] * 3
    assert [e["before"] for e in history] == [2, 5, None, 5, 2, None]
    assert store.scores.history("ann", limit=2, offset=1) == history[1:3]
    wanted = {"prompt", "seed", "word", "word_index", "image_path", "created", "action", "undone", "sample"}
    assert wanted <= set(history[0])


def test_undo_on_a_sample_leaves_the_persons_other_samples_and_other_people_alone(store, sample_row):
    a, b = store.samples.add([sample_row(seed=1), sample_row(seed=2)])
    store.scores.set(a, 1, 1, "ann")
    store.scores.set(b, 1, 2, "ann")
    store.scores.set(a, 1, 3, "bob")
    assert store.scores.undo(a, "ann")["sample"] == a
    assert (state(store, a), state(store, b), state(store, a, "bob")) == ({}, {1: 2}, {1: 3})
    assert store.scores.undo(a, "ann") is None
    assert store.scores.undo(None, "eve") is None


def test_any_row_of_keys_and_undos_equals_a_stack_also_across_restarts(store, sample):
    """The model: a stack of states. 90 random steps, the store opened anew every now and then."""
    dice = random.Random(7)
    stack: list[dict[int, int]] = [{}]
    for step in range(90):
        move = dice.random()
        word, now = dice.randrange(3), dict(stack[-1])
        if move < 0.5:
            score = dice.randrange(10)
            store.scores.set(sample, word, score, "ann")
            if now.get(word) != score:
                stack.append({**now, word: score})
        elif move < 0.65:
            store.scores.clear(sample, word, "ann")
            if word in now:
                stack.append({k: v for k, v in now.items() if k != word})
        else:
            event = store.scores.undo(None, "ann")
            assert (event is None) == (len(stack) == 1)
            stack = stack[:-1] if len(stack) > 1 else stack
        if step % 30 == 0:
            store = type(store)(store.database.path)
        assert state(store, sample) == stack[-1]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"score": 10}, "score"),
        ({"score": -1}, "score"),
        ({"score": True}, "score"),
        ({"score": 3.0}, "score"),
        ({"score": NAN}, "score"),
        ({"score": None}, "a score from 0 to 9"),
        ({"word_index": 7}, r"word_index 7 is past the sample's 7 words; give one from 0 to 6"),
        ({"word_index": -1}, "word_index"),
        ({"word_index": True}, "word_index"),
        ({"sample": "nothere"}, "no sample nothere"),
        ({"source": "oracle"}, "source"),
        ({"who": "ann"}, "has no 'who'"),
        ({"source": "human"}, "who is empty"),
        ({"source": "human", "who": "w" * 81}, "who has 81 characters"),
        ({"source": "human", "who": "ann", "distribution": [0.1] * 10}, "not a distribution"),
        ({"word": "w" * 2001}, "word"),
        ({"weight": NAN}, "weight"),
        ({"weight": -1}, "weight"),
        ({"distribution": [0.1] * 9}, "9 numbers"),
        ({"distribution": [0.2] * 10}, r"sums to 2\.0000"),
        ({"distribution": [NAN] * 10}, "distribution"),
        ({"distribution": [1.5, -0.5] + [0] * 8}, "distribution"),
        ({"distribution": "0123456789"}, "distribution"),
        ({"distribution": 3}, "distribution"),
        ({"features": b"abc"}, "features"),
        ({"features": np.zeros(3, np.float32)}, "float16"),
        ({"features": b"ab" * 40000}, "features"),
        ({"scorer": "s" * 201}, "scorer"),
        ({"undoes": "x"}, "set by the store"),
        ({"colour": "red"}, "no field 'colour'"),
    ],
)
def test_a_score_that_cannot_be_kept_is_refused_and_the_whole_batch_with_it(store, sample, changes, said):
    with pytest.raises(ValueError, match=said):
        store.scores.add([vlm(sample), {**vlm(sample), **changes}])
    assert store.scores.current(sample) == {}


def test_a_correction_that_is_none_is_refused(store, sample):
    for score in (10, -1, None, NAN, True, "3", 3.5):
        with pytest.raises(ValueError, match="score must be"):
            store.scores.set(sample, 1, score, "ann")
    for source in ("vlm", "calibrated", "x"):
        with pytest.raises(ValueError, match="human, simulated"):
            store.scores.set(sample, 1, 3, "ann", source=source)
    assert store.scores.history("ann") == []
