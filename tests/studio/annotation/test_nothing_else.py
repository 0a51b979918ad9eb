"""*Nothing else*, the unit after the words, from the maker of an image to the page; images that were stored before it lack
it."""

from dataclasses import replace

import numpy as np
import pytest

from core.evaluation.report import figures
from core.scoring.scores import from_digit, make
from core.words import CURRENT, EXTRA, NOTHING_ELSE, scored, units
from data.shapes.render import Background, Placement, render_things
from studio.components.grid import grid_value
from studio.grids.grid import Cell, GridView, Variant
from studio.grids.statistics import grid_change
from studio.images.detecting import truth_of
from studio.images.scoring import missing_notes, score_events
from studio.images.views import SampleView, WordView, totals
from studio.pages import compare
from studio.training import calibration
from studio.training.heldout import judge_of
from tests.tiny import STEPS

PROMPT = "a red circle"
RED, BLUE = (220, 40, 40), (40, 70, 210)


class Judge:
    """A scorer that gives every unit of a prompt the same digit, or those that are named another one."""

    name = version = "judge"

    def __init__(self, digit: int = 7, **others: int) -> None:
        self.digit, self.others = digit, others

    def score(self, images, prompts, **_options):
        def digit(unit):
            return self.others.get(unit.text.replace(" ", "_"), self.digit)

        return [
            [make(unit.index, from_digit(digit(unit))) for unit in scored(units(prompt))]
            for prompt in prompts
        ]


@pytest.fixture
def both(studio):
    """The same image twice: with *nothing else* and as it was stored before."""
    (id,) = studio.collecting.collect([PROMPT], 1, steps=STEPS)
    row = {k: v for k, v in studio.store.samples.get(id).items() if k != "seq"}
    return id, *studio.store.samples.add([{**row, "id": f"{id[:8]}-old", "n_words": row["n_words"] - 1}])


def view(scores: list[int], human: int | None = None) -> SampleView:
    """Of the words red and circle, and *nothing else* where a third score is given."""
    words = [WordView(0, "a", "function", False)]
    for index, (text, kind, score) in enumerate(
        zip(("red", "circle", NOTHING_ELSE), ("colour", "object", EXTRA), scores, strict=False), 1
    ):
        words.append(WordView(index, text, kind, True, vlm=score, expected=float(score), score=score))
    return SampleView("s", PROMPT, 1, "none", 0.0, 2, 4.0, "there.png", words, float(np.mean(scores)))


def test_a_new_image_has_a_unit_after_its_words_and_one_stored_before_lacks_it_and_works(studio, both):
    new, before = both
    assert studio.store.samples.get(new)["n_words"] == len(units(PROMPT)) == 4
    shown = studio.annotation.sample(new).words
    assert [(w.index, w.text, w.kind, w.scored) for w in shown][-1] == (3, NOTHING_ELSE, EXTRA, True)
    assert studio.annotation.correct(new, 3, 2, "Ann").words[3].human == 2
    assert studio.store.scores.current(new)[3]["word"] == NOTHING_ELSE
    assert [w.text for w in studio.annotation.sample(before).words] == ["a", "red", "circle"]
    assert studio.annotation.correct(before, 2, 3, "Ann").words[2].human == 3
    with pytest.raises(ValueError, match="place of the word"):
        studio.annotation.correct(before, 3, 3, "Ann")


def test_what_a_scorer_says_of_a_unit_that_the_image_lacks_is_dropped(studio, both):
    rows = [studio.store.samples.get(id) for id in both]
    found = Judge().score([None] * 2, [PROMPT] * 2)
    events = score_events(Judge(), rows, found)
    assert [(e["sample"], e["word_index"]) for e in events] == [
        (id, index) for id, count in zip(both, (3, 2), strict=True) for index in range(1, count + 1)
    ]
    assert events[2]["word"] == NOTHING_ELSE
    studio.store.scores.add(events)
    notes = missing_notes(Judge(), rows, [{3: "no digit"}, {1: "no digit", 3: "no digit"}])
    assert [(n["sample"], n["word_index"]) for n in notes] == [(both[0], 3), (both[1], 1)]


def test_its_kind_is_extra_unless_an_imported_store_counts_words_in_another_way():
    row = {"prompt": PROMPT, "word_rules": CURRENT, "word_index": 3, "word": NOTHING_ELSE}
    assert calibration.kind_of(row) == EXTRA
    assert calibration.kind_of({**row, "word": ""}) == EXTRA
    assert calibration.kind_of({**row, "word": "shiny"}) is None
    assert calibration.kind_of({**row, "word_index": 4}) is None


CIRCLE = Placement(RED, "circle", 0.3, 0.3, 0.2)


@pytest.mark.parametrize(
    ("placements", "extra", "digit"),
    [
        ((CIRCLE,), 0, 9),
        ((CIRCLE, Placement(RED, "circle", 0.7, 0.7, 0.2)), 1, 3),
        ((CIRCLE, Placement(BLUE, "star", 0.7, 0.7, 0.2), Placement(BLUE, "square", 0.75, 0.2, 0.1)), 2, 1),
        ((), 0, 3),  # what is missing is a fault as well
        ((Placement(BLUE, "square", 0.3, 0.3, 0.2),), 1, 1),  # another thing: one missing, one too many
    ],
)
def test_the_detector_counts_what_nobody_asked_for_and_what_is_missing(placements, extra, digit):
    found = truth_of(PROMPT, render_things(placements, Background((226.0, 226.0, 223.0)), 96))
    assert (found.extra, round(9 * found.nothing_else)) == (extra, digit)
    assert found.units == {**found.words, 3: found.nothing_else} and set(found.words) == {1, 2}
    assert found.strict == (CIRCLE in placements)  # the words hold whatever else is there
    assert found.clean == (found.strict and extra == 0)


def test_the_simulated_annotator_scores_it_where_the_image_has_it(studio, both):
    studio.store.scores.add(score_events(Judge(), [studio.store.samples.get(id) for id in both], Judge().score([0, 0], [PROMPT] * 2)))  # fmt: skip
    found = studio.annotation.simulate(list(both), count=10)
    assert (found["words"], found["samples"]) == (5, 2)
    said = {id: set(studio.store.scores.current(id)) for id in both}
    assert said == {both[0]: {1, 2, 3}, both[1]: {1, 2}}


def test_a_scorer_that_must_judge_keeps_it_apart_from_the_words(studio, monkeypatch):
    monkeypatch.setattr(studio.models, "scorer", lambda: Judge(8, nothing_else=1))
    judge, name = judge_of(studio, ["a zebra in the snow"])
    found = judge("a zebra in the snow", None)
    assert name == "scorer"
    assert (found["strict"], found["extra"], set(found["words"])) == (True, 1, {1, 2, 4})
    monkeypatch.setattr(studio.models, "scorer", lambda: Judge(8, zebra=1))
    judge, _ = judge_of(studio, ["a zebra in the snow"])
    assert judge("a zebra in the snow", None) | {"words": 0} == {"strict": False, "extra": 0, "words": 0}


def test_the_scorers_figure_of_an_image_is_of_its_words():
    kinds = {str(unit.index): unit.kind for unit in units(PROMPT)}
    record = {"items": [None], "scores": [[[1, 0.8, 7], [2, 0.6, 5], [3, 0.0, 0]]]}
    assert figures(record, kinds)[0]["scorer"] == pytest.approx(0.7)
    record["scores"][0].pop()  # a journal of before
    assert figures(record, kinds)[0]["scorer"] == pytest.approx(0.7)


def test_a_grid_of_both_shows_it_where_it_is_and_means_of_the_words_alone():
    before, after = view([6, 6]), view([7, 7, 0])
    assert totals(before, after) == (6, 7)
    assert compare.change(before, after) == pytest.approx(1) == pytest.approx(-compare.change(after, before))
    cells = [Cell(0, 1, 0, before), Cell(1, 1, 1, replace(after, id="t"))]
    variants = [Variant("none"), Variant("projected", "projected", "shipped", 1.0)]
    grid = GridView("g", PROMPT, [1], variants, "done", "", 2, 2, None, cells)
    value = grid_value(grid, lambda one: None)
    assert [word["text"] for word in value["words"]] == ["red", "circle", NOTHING_ELSE]
    assert [cell["total"] for cell in value["cells"]] == [6, 7]
    assert [list(cell["scores"].values()) for cell in value["cells"]] == [[6, 6], [7, 7, 0]]
    change = grid_change(grid)
    assert [word["word"] for word in change["words"]] == ["red", "circle"]
    assert change["gain"]["estimate"] == pytest.approx(1) and change["wins"] == 1
    both = replace(grid, cells=[Cell(0, 1, 0, view([6, 6, 9])), Cell(1, 1, 1, view([6, 6, 3]))])
    change = grid_change(both)  # where both have it, it counts like a word
    assert (change["words"][-1]["word"], change["words"][-1]["change"]) == (NOTHING_ELSE, -6)
    assert change["broken"] == [1]
