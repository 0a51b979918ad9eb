"""The first round: compare, correct, retrain, and how far a store is on it."""

from studio.annotation import first_round
from studio.components import guide as strip
from tests import tiny


def done(studio) -> list[bool]:
    return [step.done for step in first_round.steps(studio)]


def test_an_empty_store_has_all_steps_before_it(studio):
    assert done(studio) == [False, False, False]
    assert strip.value(first_round.steps(studio))["now"] == 0


def test_an_image_of_ones_own_is_the_first_step(scored):
    assert done(scored) == [True, False, False]


def test_ten_words_are_the_second_and_fewer_are_counted(scored):
    samples = scored.store.samples.find(limit=12)
    places = [
        (s["id"], w.index) for s in samples for w in scored.annotation.sample(s["id"]).words if w.scored
    ]
    for id, index in places[:3]:
        scored.annotation.correct(id, index, 5, "Ann")
        scored.annotation.correct(id, index, 4, "Ann")  # the same word again is no second one
    assert "3 of 10" in first_round.steps(scored)[1].says
    for id, index in places[3:10]:
        scored.annotation.correct(id, index, 5, "Ann")
    assert done(scored) == [True, True, False]


def test_a_training_that_is_done_is_the_third_and_nothing_else_is(studio):
    def run(kind, state, **config):
        id = studio.store.runs.new(kind, config)
        studio.store.runs.update(id, state=state)

    run("projector", "done", source="shipped")
    run("experiment", "done")
    run("reward", "failed")
    assert not first_round.steps(studio)[2].done
    run("cycle", "done")
    assert first_round.steps(studio)[2].done


def test_it_is_over_when_all_is_done():
    steps = [first_round.Step("compare", "Compare", "", True)] * 3
    assert first_round.over(steps)
    assert strip.value(steps)["now"] == -1
    assert not first_round.over([*steps[:2], first_round.Step("train", "Retrain", "", False)])


def test_a_tab_that_no_step_leads_to_is_none():
    assert strip.opened({"tab": "train"}) == "train"
    for foreign in ({"tab": "elsewhere"}, {"tab": 3}, None, "train", []):
        assert strip.opened(foreign) == ""


def test_a_full_store_is_asked_as_quickly(studio, monkeypatch):
    """No step may count all samples or all scores."""
    monkeypatch.setattr(studio.store.samples, "count", None)
    list(studio.comparison.compare(tiny_request()))
    assert done(studio)[0]


def tiny_request():
    from studio.images.views import check_request

    return check_request("a red circle", [3], tiny.STEPS)
