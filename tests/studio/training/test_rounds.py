"""The next round: images with the projector in use, scored, in the queue."""

import threading

import pytest

from tests.tiny import STEPS

ROUND = {"prompts": 3, "steps": STEPS}


def of_round(studio):
    return studio.store.samples.find(prompt_set="round")


def test_a_stopped_round_goes_on_and_makes_nothing_twice_but_not_with_another_projector(studio, monkeypatch):
    stop = threading.Event()
    config = {"prompts": 2 * studio.settings.batch, "steps": STEPS}
    run = studio.training.train("round", config, on_progress=lambda line: stop.set(), stop=stop)
    assert run["state"] == "stopped" and len(of_round(studio)) < 2 * studio.settings.batch
    with monkeypatch.context() as promoted:
        promoted.setattr(studio.runs, "in_use", lambda: {"projector": "another"})
        with pytest.raises(ValueError, match="start a new round"):
            studio.training.train("round", run_id=run["id"])
    done = studio.training.train("round", run_id=run["id"])
    assert (done["state"], len(of_round(studio))) == ("done", 2 * studio.settings.batch)


def test_a_round_makes_scores_and_offers_images_of_projected_noise(scored):
    run = scored.training.train("round", ROUND)
    made = of_round(scored)
    assert (run["state"], run["metrics"]["images"], len(made)) == ("done", 3, 3)
    assert {(row["method"], row["split"]) for row in made} == {("projected", "train")}
    assert all(scored.annotation.sample(row["id"]).total is not None for row in made)
    ids = {row["id"] for row in made}
    assert scored.annotation.next("Ann", "projected").id in ids
    assert run["metrics"]["note"].startswith("3 images of projected noise")
    with pytest.raises(ValueError, match="no model"):
        scored.runs.promote(run["id"], "Ann", force=True)


def test_a_second_round_of_one_projector_takes_other_prompts_and_then_other_seeds(studio, monkeypatch):
    few = studio.prompts.of("train", 5)
    monkeypatch.setattr(studio.prompts, "of", lambda split, count: few[:count] if split == "train" else [])
    for _ in range(3):
        studio.training.train("round", ROUND)
    made = [(row["prompt"], row["seed"]) for row in of_round(studio)]
    assert len(made) == len(set(made)) == 3 + 2 + 3
    assert {prompt for prompt, _ in made} == set(few)
