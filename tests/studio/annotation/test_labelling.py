"""Corrections: on disk when the call returns, undone step by step, and each person's own."""

from dataclasses import replace
from string import ascii_uppercase as ALPHABET

import pytest

from core.words import split
from data.prompts import load
from studio.access.identity import SIMULATED
from studio.annotation import labelling
from studio.annotation.labelling import STAY, judged_by, turn
from studio.images import pictures
from studio.images.detecting import truth_of
from tests.tiny import STEPS, studio_at


@pytest.fixture
def item(scored):
    return scored.annotation.next("Ann")


def first_scored(view):
    return next(w.index for w in view.words if w.scored)


def test_a_correction_shows_at_once_and_can_be_undone_and_taken_back(scored, item):
    index = first_scored(item)
    before = item.words[index]
    new = (before.vlm + 1) % 10
    after = scored.annotation.correct(item.id, index, new, "Ann").words[index]
    assert (after.human, after.score, after.by, after.vlm) == (new, new, "Ann", before.vlm)
    assert scored.status()["corrections"] == 1
    assert scored.annotation.undo("Ann").words[index].human is None
    scored.annotation.correct(item.id, index, new, "Ann")
    cleared = scored.annotation.correct(item.id, index, None, "Ann").words[index]
    assert (cleared.human, cleared.score) == (None, before.vlm)
    assert [h["action"] for h in scored.annotation.history("Ann")] == ["clear", "set", "undo", "set"]
    assert scored.status()["corrections"] == 0


def test_each_person_sees_the_own_correction_and_undoes_only_that(scored, item):
    index = first_scored(item)
    scored.annotation.correct(item.id, index, 2, "Ann")
    scored.annotation.correct(item.id, index, 8, "Bea")
    assert scored.annotation.sample(item.id, "Ann").words[index].human == 2
    assert scored.annotation.sample(item.id, "Bea").words[index].human == 8
    scored.annotation.undo("Ann")
    assert scored.annotation.sample(item.id, "Bea").words[index].human == 8
    assert scored.annotation.undo("Cyd") is None


def test_accepting_makes_every_shown_score_ones_own_and_the_total_follows_the_corrections(scored, item):
    view = scored.annotation.accept(item.id, "Ann")
    assert all(w.by == "Ann" and w.human == w.vlm for w in view.words if w.scored)
    for index in [w.index for w in item.words if w.scored]:
        view = scored.annotation.correct(item.id, index, 9, "Ann")
    assert view.total == 9.0


def test_held_out_samples_are_not_offered(studio):
    studio.scoring.score(studio.collecting.collect(load("shapes_heldout", 2), 1, steps=STEPS))
    assert studio.annotation.next("Ann") is None
    assert studio.annotation.next("Ann", split="heldout") is not None


def test_the_next_item_is_another_once_one_is_submitted_or_skipped(scored, item):
    scored.annotation.submit(item.id, "Ann")
    second = scored.annotation.next("Ann")
    assert second.id != item.id
    scored.annotation.submit(second.id, "Ann", "skip")
    assert scored.annotation.next("Ann").id not in (item.id, second.id)
    assert scored.annotation.next("Bea").id == item.id
    progress = scored.annotation.progress("Ann")
    assert (progress["submitted"], progress["skipped"], progress["samples"]) == (1, 1, 12)


def test_the_queue_is_filtered_by_the_kinds_that_words_have_now(scored, item, monkeypatch):
    assert scored.annotation.next("Ann", kind="size") is None

    def all_large(prompt):
        return [replace(word, kind="size") for word in split(prompt)]

    monkeypatch.setattr(labelling, "split", all_large)
    monkeypatch.setattr(labelling, "VERSION", "as of tomorrow")
    later = studio_at(scored.settings.home, scored.settings.home)  # a start with other rules
    assert later.annotation.next("Ann", kind="size")
    assert later.annotation.next("Ann", kind="colour") is None


def test_two_people_are_not_given_the_same_item_until_one_is_done(scored, item):
    other = scored.annotation.next("Bea")
    assert other.id != item.id
    assert scored.annotation.next("Ann").id == item.id
    assert scored.annotation.next("Cyd", lease=None).id == item.id  # who only looks is shown what is leased
    assert scored.annotation.next("Cyd", overlap=2).id == item.id
    scored.store.leases.release(item.id, "Cyd")
    scored.annotation.submit(item.id, "Ann")
    assert scored.annotation.next("Dan").id == item.id


def test_a_correction_leases_what_was_opened_by_hand(scored):
    first = scored.annotation.next("Ann", lease=None)
    scored.annotation.correct(first.id, first_scored(first), 4, "Ann")
    assert [held["sample"] for held in scored.store.leases.current("Ann")] == [first.id]
    assert scored.annotation.next("Bea").id != first.id


def test_half_of_those_that_follow_an_unsure_one_are_any_scored_ones(scored):
    def given(order):
        return [scored.store.queue.next(who, exclude=id, **turn(order, id), lease=60) for id in ids]

    ids = [f"{i:032x}" for i in range(40)]
    unscored = scored.collecting.collect(["a red circle"], 3, steps=STEPS)
    least_sure = scored.store.queue.next("Ann", "uncertainty")["id"]
    # whose own random order begins with another image
    who = next(
        name for name in ALPHABET if scored.store.queue.next(name, "random", scored=True)["id"] != least_sure
    )
    others = [row["id"] for row in given("uncertainty") if row["id"] != least_sure]
    assert 10 <= len(others) <= 30 and not set(others) & set(unscored)
    assert {row["id"] for row in given(STAY)} == {least_sure}
    assert len({row["id"] for row in given("newest")}) == 1
    assert scored.annotation.next(who).id == least_sure  # nothing is on the screen yet


@pytest.mark.parametrize(
    ("change", "says"),
    [({"score": 10}, "0 to 9"), ({"score": True}, "0 to 9"), ({"score": 5.0}, "0 to 9"), ({"score": "5"}, "0 to 9"),
     ({"word_index": 99}, "out of range"), ({"word_index": 0}, "carries no score"), ({"word_index": None}, "not a whole number"),
     ({"sample": "nothing"}, "no sample"), ({"sample": "x" * 200}, "sample"), ({"sample": "../../etc"}, "sample"),
     ({"who": ""}, "name is empty"), ({"who": SIMULATED}, "taken by the studio")],
)  # fmt: skip
def test_bad_corrections_are_refused_and_nothing_is_written(scored, item, change, says):
    given = {"sample": item.id, "word_index": first_scored(item), "score": 5, "who": "Ann", **change}
    with pytest.raises(ValueError, match=says):
        scored.annotation.correct(**given)
    assert scored.status()["corrections"] == 0


def test_bad_calls_are_refused(scored, item):
    for call, says in (
        (lambda: scored.annotation.next("Ann", "alphabet"), "not known"),
        (lambda: scored.annotation.why_next(None), "not known"),
        (lambda: scored.annotation.submit(item.id, "Ann", "burn"), "submitted or skipped"),
        (lambda: scored.annotation.simulate(count=0), "out of range"),
        (lambda: scored.annotation.simulate(count=1, habit="idle"), "choose every, wrong, clean"),
    ):
        with pytest.raises(ValueError, match=says):
            call()


def test_the_simulated_annotator_says_what_the_detector_sees_and_stores_it_as_simulated(scored):
    found = scored.annotation.simulate(count=10)
    assert 10 <= found["words"] == found["typed"] < 10 + 7  # the last sample to its end
    labels = [row for row in scored.store.labels.current() if row["source"] == "simulated"]
    assert len(labels) == found["words"] and "nothing else" in {row["word"] for row in labels}
    for row in labels:
        sample = scored.store.samples.get(row["sample"])
        truth = truth_of(row["prompt"], pictures.read(scored.settings.home / sample["image_path"]))
        assert row["score"] == round(9 * truth.units[row["word_index"]])
    more = scored.annotation.simulate(count=10)["words"]
    labels = [row for row in scored.store.labels.current() if row["source"] == "simulated"]
    assert len(labels) == found["words"] + more
    (fish,) = scored.collecting.collect(["a fish"], 1, steps=STEPS)  # which it cannot read
    scored.scoring.score([fish])
    assert scored.annotation.simulate(count=1000)["words"] < 1000
    assert not any(said["simulated"] for said in scored.store.scores.current(fish).values())


RIGHT, SHOWN, CLEAN = {1: 9, 2: 0, 3: 7}, {1: 9, 2: 6, 3: 5}, {1: 9, 2: 0}


@pytest.mark.parametrize(
    ("habit", "right", "shown", "confirms", "left"),
    [
        ("every", RIGHT, SHOWN, False, {1: (9, True), 2: (0, True), 3: (7, True)}),
        ("wrong", RIGHT, SHOWN, True, {1: (9, False), 2: (0, True), 3: (5, False)}),
        ("wrong", RIGHT, SHOWN, False, {2: (0, True)}),
        ("clean", RIGHT, SHOWN, True, {1: (9, False), 2: (0, True), 3: (5, False)}),
        ("clean", RIGHT, SHOWN, False, {2: (0, True)}),
        ("wrong", CLEAN, {1: 8, 2: 3}, False, {}),
        (
            "clean",
            CLEAN,
            {1: 8, 2: 3},
            False,
            {1: (8, False), 2: (3, False)},
        ),  # n confirms where Done does not
        ("wrong", CLEAN, {1: None, 2: 0}, True, {2: (0, False)}),  # a word without a score is never confirmed
        ("clean", CLEAN, {1: None, 2: 0}, False, {}),
    ],
)
def test_a_habit_is_what_somebody_types_and_what_done_confirms(habit, right, shown, confirms, left):
    assert judged_by(habit, right, shown, confirms) == left


def test_what_the_simulated_annotator_confirms_is_told_from_what_it_typed_and_from_peoples(scored):
    found = scored.annotation.simulate(count=20, habit="wrong")
    said = [row for row in scored.store.labels.current() if row["source"] == "simulated"]
    assert {row["source"] for row in scored.store.labels.current()} <= {"simulated", "vlm"}
    kept = [row for row in said if row["scorer"] == "confirmed"]
    assert (len(said), len(kept)) == (found["words"], found["confirmed"])
    assert found["typed"] == found["changed"] == len(said) - len(kept)
    assert set(scored.store.labels.judged_images()["images"]) == {row["sample"] for row in said}
