"""studio/training/datasets.py: which labels are trained on, and what is said of those that are not."""

import dataclasses

import pytest

from data.prompts import load
from studio.images.options import check_options
from studio.settings import ROOT
from studio.studio import Studio
from studio.training.datasets import judged_rows, labels_for
from studio.training.replay import Replay, gather
from studio.training.sampled import PARTLY, left_out_said, replay_said, sampling_of, usable
from tests.tiny import STEPS

OWN = {"steps": 20, "guidance": 4.0, "sampler": "DDIM", "negative": ""}
WHERE = {"backbone_revision": "r1", "height": 128, "width": 128}


def made(**other):
    return {**OWN, **WHERE, **other}


def test_the_way_that_most_images_were_made_in_is_trained_on_and_of_two_as_common_the_studios_own():
    assert sampling_of([made(steps=4)] * 3 + [made()] * 2, OWN) == {**OWN, "steps": 4}
    assert sampling_of([made(), made(sampler="Euler"), made(sampler="Euler")], OWN)["sampler"] == "Euler"
    both, others = [made(), made(guidance=7.0)], [made(steps=4), made(steps=8)]
    assert sampling_of(both, OWN) == sampling_of(both[::-1], OWN) == sampling_of([], OWN) == OWN
    assert sampling_of(others, OWN) == sampling_of(others[::-1], OWN)
    silent = [made(sampler=""), made(sampler=""), made(sampler="DDIM")]  # on their scheduler: they are kept
    assert sampling_of(silent, OWN) == OWN and usable(silent, {**WHERE, **OWN}) == (silent, {})


def test_of_an_image_judged_in_part_only_what_the_scorer_said_is_kept():
    rows = [{"sample": s, "source": source} for s in "ab" for source in ("vlm", "human", "confirmed")]
    kept, left = judged_rows(rows, {"a"})
    assert kept == [*rows[:3], rows[3]] and left == {PARTLY: 1}
    assert judged_rows(rows, {"a", "b"}) == (rows, {})
    why = "people's scores of 1 image of which other words were neither scored nor confirmed"
    assert why in left_out_said(left) and left_out_said({}) == ""


def labels(studio, snapshot=None, replay=None):
    given = {
        "correction_weight": 10.0,
        "replay": replay,
        "replay_samples": 5,
        "seed": 0,
        "with_pictures": False,
    }
    return labels_for(studio, snapshot or studio.store.labels.snapshot(split="train"), **given)


def test_a_run_says_what_it_left_out_and_reads_a_snapshot_with_the_judgements_of_its_time(scored):
    store = scored.store
    ids = scored.collecting.collect(load("shapes_train", 3, "small"), 1, steps=STEPS + 1, first_seed=900)
    scored.scoring.score(ids)
    first = scored.annotation.next("Ann")
    index = next(w.index for w in first.words if w.scored)
    scored.annotation.correct(first.id, index, 3, "Ann")
    found = labels(scored)
    assert "human" not in found.counts and found.left_out == {
        f"made with {STEPS + 1} steps, others with {STEPS} steps": 3, PARTLY: 1,
    }  # fmt: skip
    scored.annotation.submit(first.id, "Ann")
    then = store.labels.snapshot(split="train")
    found = labels(scored)
    words = sum(w.scored for w in first.words)
    assert (found.counts["human"], found.counts["confirmed"]) == (1, words - 1)
    assert PARTLY not in found.left_out
    assert (found.sampling["steps"], len(found.sampling)) == (STEPS, 4)
    run = scored.training.train("reward", {"reward_steps": 1, "reward_batch": 4, "pictures": False})
    assert run["metrics"]["left_out"] == found.left_out
    assert left_out_said(found.left_out) in run["metrics"]["note"]
    scored.annotation.undo("Ann")
    assert labels(scored, then).counts["confirmed"] == words - 1
    assert "confirmed" not in labels(scored).counts
    # those of a projector whose folder was taken away, and of a method that starts elsewhere than at its seed
    row = {
        k: v for k, v in store.samples.find(limit=1, newest=False)[0].items() if k not in ("seq", "created")
    }
    gone = {"method": "projected", "projector_run": store.runs.new("projector", {}), "strength": 1.0}
    for i, more in enumerate([gone, {"method": "best-noise-of-8"}] * 2):
        store.samples.add([{**row, "id": f"made-{i}", "seed": 1000 + i, **more}])
        store.scores.set(f"made-{i}", 1, 3, "Ann", word=row["prompt"].split()[1])
        store.queue.submit(f"made-{i}", "Ann")
    said = left_out_said(labels(scored).left_out)
    assert "2 made by best-noise-of-8; 2 made from the noise of a projector that is gone" in said


@pytest.mark.parametrize(
    ("other", "why"),
    [
        ({"steps": 4}, "made with 4 steps, others with 20 steps"),
        ({"guidance": 7.5}, "made with guidance 7.5, others with guidance 4"),
        ({"sampler": "Euler"}, "made with the scheduler Euler, others with the scheduler DDIM"),
        ({"backbone_revision": "r2"}, "made with another backbone"),
        ({"backbone_revision": "", "sampler": ""}, "made with another backbone"),
        ({"width": 256}, "made at 256x128 pixels, not 128x128"),
        ({"backbone_revision": "r2", "steps": 4}, "made with another backbone"),
    ],
)
def test_an_image_made_in_another_way_is_left_out_and_counted_with_the_reason(other, why):
    samples = [made(), made(**other), made(**other)]
    kept, left = usable(samples, {**WHERE, **OWN})
    assert (kept, left) == ([samples[0]], {why: 2})
    assert left_out_said(left) == f"Labelled images that were left out: 2 {why}."


def test_kept_labels_are_of_one_way_of_sampling_and_not_used_beside_another_negative_prompt(scored, tmp_path):
    def collected(count, steps=STEPS, **options):
        chosen = check_options(scored.settings, **options)
        ids = scored.collecting.collect(
            load("shapes_train", count), 1, steps=steps, options=chosen, first_seed=900
        )
        scored.scoring.score(ids)

    collected(2, negative="a green star")
    collected(1, scheduler="EulerAncestralDiscreteScheduler")
    kept = gather(scored, pictures=False)
    assert len(kept) == 12 and sum(kept.meta["left_out"].values()) == 3
    kept.save(tmp_path / "kept")
    read = Replay.load(tmp_path / "kept")
    assert read.sampling == kept.sampling and (kept.sampling["negative"], kept.sampling["steps"]) == (
        "",
        STEPS,
    )
    assert replay_said(read.sampling, read.sampling) == ""
    assert replay_said(read.sampling, {**read.sampling, "steps": 9}) == (
        f"The labels kept with the models are of images made with {STEPS} steps, others with 9 steps."
    )
    found = labels(scored, replay=read)
    assert (found.replayed, found.note) == (read.sampling, "") and found.counts["replay"] > 0
    collected(20, negative="a green star")
    found = labels(scored, replay=read)
    assert (
        found.sampling["negative"] == "a green star" and found.replayed == {} and "replay" not in found.counts
    )
    assert (
        "images made with no negative prompt, the others with the negative prompt 'a green star'"
        in found.note
    )
    again = gather(scored, pictures=False)
    assert again.sampling["negative"] == "a green star" and len(again) == 20
    alone = Studio(dataclasses.replace(scored.settings, home=tmp_path / "alone", negative="a green star"))
    found = labels(alone, replay=read)  # of images that are not there none are mixed with them
    assert (found.replayed, found.note) == (read.sampling, "") and found.counts["replay"] > 0


def test_kept_labels_of_an_earlier_version_were_made_without_a_negative_prompt():
    kept = Replay.load(ROOT / "data/models/labels")
    assert kept.sampling == {"steps": 10, "guidance": 4.0, "negative": ""}
