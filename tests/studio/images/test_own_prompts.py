"""A set of the user's own (STUDIO_PROMPTS): trained on, stopped by and judged on its own parts, never on the shapes'."""

import json

import pytest

from core.words import scored, split
from data.prompts import load
from studio.experiments import report_of
from studio.experiments.evaluation import evaluate
from studio.images.prompts import Prompts
from tests.studio.trained import CYCLE
from tests.tiny import STEPS

OWN = [f"{thing} {place}" for thing in ("an old harbour", "two grey cats", "a paper lantern", "a violin")
       for place in ("at night", "in the snow", "on a table", "by the sea", "seen from above")]  # fmt: skip


@pytest.fixture
def own(studio, tmp_path):
    (tmp_path / "own.txt").write_text("\n".join(OWN))
    studio.prompts = studio.making.prompts = Prompts(str(tmp_path / "own.txt"))
    studio.scoring.score(studio.collecting.collect(OWN, 1, steps=STEPS))
    return studio


def test_the_loop_runs_on_ones_own_prompts_and_says_that_their_judge_is_not_independent(own, tmp_path):
    splits = {row["prompt"]: row["split"] for row in own.store.samples.find()}
    assert splits == own.prompts.own and set(splits.values()) == {"train", "validation", "heldout"}
    row = next(r for r in own.store.samples.find() if r["split"] == "train")
    own.store.scores.set(row["id"], scored(split(row["prompt"]))[0].index, 0, "ann")
    run = own.training.train("cycle", {**CYCLE, "heldout_prompts": 50})
    heldout = run["metrics"]["heldout"]
    assert (heldout["judge"], heldout["independent"]) == ("scorer", False)
    assert heldout["prompts"] == len(own.prompts.of("heldout", 50))
    journal = own.settings.home / "heldout" / heldout["key"] / "items.jsonl"
    judged = {json.loads(line).get("prompt") for line in journal.read_text().splitlines()} - {None}
    assert judged == set(own.prompts.of("heldout", 50))
    assert own.runs.promote(run["id"], "ann", force=True)["promoted"]
    (tmp_path / "few.txt").write_text("\n".join(own.prompts.of("train", 3)))
    own.prompts = Prompts(str(tmp_path / "few.txt"))  # of which nothing is held out
    with pytest.raises(ValueError, match="is held out: give more prompts"):
        evaluate(own, "alignment", {"projected": False, "best_of": 1, "seeds": 1, "steps": STEPS})


@pytest.mark.parametrize("kind", ["evaluation", "experiment"])
def test_what_is_given_to_judge_by_is_judged_by_less_the_parts_that_training_uses(studio, tmp_path, kind):
    """Also where nothing of it was collected: a projector learns on prompts without images."""
    (tmp_path / "own.txt").write_text("\n".join(OWN))
    studio.prompts = studio.making.prompts = Prompts(str(tmp_path / "own.txt"))
    trained = load("shapes_train", 2)
    given, small = [*OWN, *trained], {"seeds": 2, "steps": STEPS, "methods": "projected"}
    if kind == "evaluation":
        report = evaluate(studio, "alignment", {**small, "best_of": 1}, prompts=given)
        assert report["left_out"] == len(given) - len(studio.prompts.of("heldout", 50))
    else:
        run = studio.training.train(
            "experiment", {"name": "alignment", **small, "prompts": 50, "given": given}
        )
        report = report_of(studio, run)["data"]
    assert report["prompts"] == len(studio.prompts.of("heldout", 50))
    with pytest.raises(ValueError, match="was trained on"):
        evaluate(studio, "fidelity", {"seeds": 2}, prompts=trained)
