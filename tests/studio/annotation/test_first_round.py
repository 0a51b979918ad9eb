"""The first round: compare, correct, retrain, and how far a store is on it."""

from studio.annotation import first_round
from studio.components import guide


def test_each_step_is_done_once_the_store_has_what_it_asks_for(scored):
    def steps():
        return [step.done for step in first_round.steps(scored)], guide.value(first_round.steps(scored))[
            "now"
        ]

    assert steps() == ([True, False, False], 1)  # images of one's own
    samples = [scored.annotation.sample(row["id"]) for row in scored.store.samples.find(limit=12)]
    places = [(view.id, word.index) for view in samples for word in view.words if word.scored]
    for id, index in places[:3]:
        scored.annotation.correct(id, index, 5, "Ann")
        scored.annotation.correct(id, index, 4, "Ann")  # the same word again is no second one
    assert "3 of 10" in first_round.steps(scored)[1].says
    for id, index in places[3:10]:
        scored.annotation.correct(id, index, 5, "Ann")
    assert steps() == ([True, True, False], 2)
    for kind, state, source in (
        ("projector", "done", "shipped"), ("experiment", "done", ""), ("reward", "failed", ""), ("cycle", "done", ""),
    ):  # fmt: skip
        assert steps()[1] == 2 and not first_round.over(first_round.steps(scored))
        scored.store.runs.update(scored.store.runs.new(kind, {"source": source}), state=state)
    assert steps() == ([True, True, True], -1) and first_round.over(first_round.steps(scored))


def test_an_empty_store_has_all_steps_before_it(studio):
    assert guide.value(first_round.steps(studio))["now"] == 0


def test_a_tab_that_no_step_leads_to_is_none():
    assert guide.opened({"tab": "train"}) == "train"
    for foreign in ({"tab": "elsewhere"}, {"tab": 3}, None, "train", []):
        assert guide.opened(foreign) == ""
