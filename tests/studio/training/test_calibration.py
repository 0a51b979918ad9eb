"""studio/training/calibration.py: what a calibrator that is in use does to the labels of the runs after it."""

import numpy as np
import pytest

from data.prompts import load
from studio.training import calibration, replay, stages
from tests.tiny import STEPS

REWARD = {"foresight_steps": 0, "reward_steps": 1, "reward_batch": 8, "pictures": False}


@pytest.fixture
def seen(monkeypatch):
    """The labels that a run is given, on their way from where they are read to where they are learned."""
    found, real = [], stages.labels_for

    def noting(*arguments, **options):
        found.append((options["replay"], real(*arguments, **options)))
        return found[-1][1]

    monkeypatch.setattr(stages, "labels_for", noting)
    return found


def test_a_reward_run_sees_kept_labels_as_the_calibrator_in_use_does_unless_it_does_not_want_to(
    calibrated, seen
):
    used = calibrated.models.using("calibrator")
    metrics = calibrated.runs.get(used.run)["metrics"]
    assert metrics["fitted"] and metrics["kinds"]
    run = calibrated.training.train("reward", REWARD)
    assert run["state"] == "done" and run["labels"]["filter"]["include_calibrated"]
    raw = replay.Replay.load(calibrated.settings.labels)
    given, labels = seen[0]
    moved = np.abs(given.distribution - raw.distribution).max(-1) > 1e-6
    kinds = np.array([
        calibration.kinds_of(raw.prompts[raw.prompt[s]])[raw.word[n]]
        for s in range(len(raw)) for n in range(raw.first[s], raw.first[s + 1])
    ])  # fmt: skip
    assert not moved[~np.isin(kinds, metrics["kinds"])].any()
    assert moved[np.isin(kinds, metrics["kinds"])].any()
    expected = calibration.rescored(raw, used.model, metrics).distribution
    assert np.array_equal(given.distribution, expected) and np.allclose(expected.sum(-1), 1, atol=1e-5)
    assert run["metrics"]["labels"]["replay"] > 0 and len(labels.validation)
    run = calibrated.training.train("reward", {**REWARD, "calibrated": False})
    assert not run["labels"]["filter"]["include_calibrated"]
    assert "calibrated" not in run["metrics"]["labels"]
    assert np.array_equal(seen[1][0].distribution, raw.distribution)


def test_what_is_scored_after_a_calibrator_is_in_use_is_learned_as_it_says(calibrated, seen):
    ids = calibrated.collecting.collect(load("shapes_train", 12)[6:], 1, steps=STEPS)
    calibrated.scoring.score(ids)
    metrics = calibrated.runs.get(calibrated.models.using("calibrator").run)["metrics"]
    with_it, without = (
        calibrated.store.labels.current(ids=ids, include_calibrated=include) for include in (True, False)
    )
    assert {row["source"] for row in without} == {"vlm"}
    for row in with_it:
        kind = calibration.kinds_of(row["prompt"])[row["word_index"]]
        assert (row["source"] == "calibrated") == (kind in metrics["kinds"])
    said = [row for row in with_it if row["source"] == "calibrated"]
    run = calibrated.training.train("reward", {**REWARD, "replay": 0})
    assert run["metrics"]["labels"]["calibrated"] == len(said) > 0
    train, row = seen[0][1].train, said[0]
    (info,) = calibrated.store.samples.find(ids=[row["sample"]])
    place = train.texts.prompts.index(info["prompt"])
    (at,) = ((train.item == place) & (train.seeds == info["seed"])).nonzero()[:, 0].tolist()
    assert np.allclose(train.target[at, row["word_index"]].numpy(), row["distribution"], atol=1e-5)


def test_words_that_an_imported_store_counts_in_another_way_keep_nobody_from_training(labelled):
    (like,) = labelled.store.samples.find(split="train", limit=1)
    columns = {name: value for name, value in like.items() if name not in ("id", "seq", "entropy")}
    strange = {**columns, "n_words": 90, "image_path": None, "image_sha256": None}
    (strange,) = labelled.store.samples.add([strange])
    vlm = labelled.store.scores.current(like["id"])[1]["vlm"]
    said = {name: vlm[name] for name in ("distribution", "scorer", "scorer_version")}
    labelled.store.scores.add([{"sample": strange, "word_index": 80, "source": "vlm", **said}])
    labelled.store.scores.set(strange, 80, 5, "Ann")
    run = labelled.training.train("calibrator", {"corrections_needed": 20})
    assert run["metrics"]["fitted"] and labelled.training.train("reward", REWARD)["state"] == "done"


def test_images_that_are_judged_in_part_teach_the_calibrator_nothing_and_the_run_says_so(scored):
    for _ in range(3):
        view = scored.annotation.next("Ann")
        scored.annotation.correct(view.id, next(w.index for w in view.words if w.scored), 4, "Ann")
        scored.store.queue.skip(view.id, "Ann")
    with pytest.raises(
        ValueError, match=r"There are 0 words .* press Done on each.* Left out: .*\(3\) of 3 images"
    ):
        scored.training.train("calibrator", {"corrections_needed": 20})
    while view := scored.annotation.next("Ann"):
        scored.annotation.submit(view.id, "Ann")
    run = scored.training.train("calibrator", {"corrections_needed": 20})
    assert run["metrics"]["left_out"] == {"samples": 3, "words": 3}
    assert "3 images of which other words were neither scored nor confirmed" in run["metrics"]["note"]


def test_people_who_contradict_each_other_are_told_where_to_look(labelled):
    view = labelled.annotation.next("Ann")
    labelled.annotation.submit(view.id, "Ann")
    places = [word.index for word in view.words if word.scored]
    for place in places:
        labelled.annotation.correct(view.id, place, 0, "Bea")
        labelled.annotation.correct(view.id, place, 4, "Cyd")
    assert "apart" not in labelled.training.train("calibrator", {"corrections_needed": 20})["metrics"]["note"]
    labelled.annotation.correct(view.id, places[0], 9, "Cyd")
    note = labelled.training.train("calibrator", {"corrections_needed": 20})["metrics"]["note"]
    assert "1 word has scores of people that are 5 or more points apart" in note and "“disagreement”" in note
