"""studio/training/calibration.py: what a calibrator that is in use does to the labels of the runs after it."""

import numpy as np
import pytest

from data.prompts import load
from studio.training import calibration, replay, stages
from tests.tiny import STEPS, change_settings

REWARD = {"reward_steps": 2, "reward_batch": 8, "pictures": False}


@pytest.fixture
def calibrated(labelled, tmp_path):
    """A studio with labels kept beside its models and a calibrator in use, learned from the corrections."""
    settings = change_settings(labelled, labels=tmp_path / "labels")
    replay.gather(labelled).save(settings.labels)
    run = labelled.training.train("calibrator", {"corrections_needed": 20})
    labelled.runs.promote(run["id"], "Ann", force=True)
    return labelled


@pytest.fixture
def seen(monkeypatch):
    """The labels that a run is given, on their way from where they are read to where they are learned."""
    found, real = [], stages.labels_for

    def noting(*arguments, **options):
        found.append((options["replay"], real(*arguments, **options)))
        return found[-1][1]

    monkeypatch.setattr(stages, "labels_for", noting)
    return found


def kinds_at(kept):
    """The kind of each word of the labels kept with the models."""
    return np.array(
        [
            calibration.kinds_of(kept.prompts[kept.prompt[s]])[kept.word[n]]
            for s in range(len(kept))
            for n in range(kept.first[s], kept.first[s + 1])
        ]
    )


def test_a_reward_run_sees_kept_labels_as_the_calibrator_in_use_does(calibrated, seen):
    used = calibrated.models.using("calibrator")
    metrics = calibrated.runs.get(used.run)["metrics"]
    assert metrics["fitted"] and metrics["kinds"]
    run = calibrated.training.train("reward", REWARD)
    assert run["state"] == "done" and run["labels"]["filter"]["include_calibrated"]
    raw = replay.Replay.load(calibrated.settings.labels)
    given, labels = seen[0]
    moved = np.abs(given.distribution - raw.distribution).max(-1) > 1e-6
    kinds = kinds_at(raw)
    assert not moved[~np.isin(kinds, metrics["kinds"])].any()
    assert moved[np.isin(kinds, metrics["kinds"])].any()
    expected = calibration.rescored(raw, used.model, metrics).distribution
    assert np.array_equal(given.distribution, expected) and np.allclose(expected.sum(-1), 1, atol=1e-5)
    assert run["metrics"]["labels"]["replay"] > 0 and len(labels.validation)


def test_a_run_that_does_not_want_calibrated_scores_sees_kept_labels_as_they_are(calibrated, seen):
    run = calibrated.training.train("reward", {**REWARD, "calibrated": False})
    assert not run["labels"]["filter"]["include_calibrated"]
    assert "calibrated" not in run["metrics"]["labels"]
    raw = replay.Replay.load(calibrated.settings.labels)
    assert np.array_equal(seen[0][0].distribution, raw.distribution)


def test_what_is_scored_after_a_calibrator_is_in_use_is_learned_as_it_says(calibrated, seen):
    ids = calibrated.collecting.collect(load("shapes_train", 12)[6:], 1, steps=STEPS)
    calibrated.scoring.score(ids)
    metrics = calibrated.runs.get(calibrated.models.using("calibrator").run)["metrics"]
    rows = {
        include: {
            (row["sample"], row["word_index"]): row
            for row in calibrated.store.labels.current(ids=ids, include_calibrated=include)
        }
        for include in (True, False)
    }
    said = {at: row for at, row in rows[True].items() if row["source"] == "calibrated"}
    assert said and {row["source"] for row in rows[False].values()} == {"vlm"}
    for at, row in rows[True].items():
        kind = calibration.kinds_of(row["prompt"])[at[1]]
        assert (row["source"] == "calibrated") == (kind in metrics["kinds"])
    run = calibrated.training.train("reward", {**REWARD, "replay": 0})
    assert run["metrics"]["labels"]["calibrated"] == len(said)
    train = seen[0][1].train
    (sample, index), row = next(iter(said.items()))
    (info,) = calibrated.store.samples.find(ids=[sample])
    place = train.texts.prompts.index(info["prompt"])
    (at,) = ((train.item == place) & (train.seeds == info["seed"])).nonzero()[:, 0].tolist()
    assert np.allclose(train.target[at, index].numpy(), row["distribution"], atol=1e-5)


def test_words_that_an_imported_store_counts_in_another_way_keep_nobody_from_training(labelled):
    (like,) = labelled.store.samples.find(split="train", limit=1)
    columns = {name: value for name, value in like.items() if name not in ("id", "seq", "entropy")}
    (strange,) = labelled.store.samples.add(
        [{**columns, "n_words": 90, "image_path": None, "image_sha256": None}]
    )
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
