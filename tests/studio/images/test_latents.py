"""studio/images/latents.py: what a reward run learns from the images of the store."""

import threading

import pytest

from studio.images.latents import file_of, latents_of

REWARD = {"foresight_steps": 0, "reward_steps": 2, "reward_batch": 4}


def test_a_reward_run_learns_from_the_images_and_encodes_each_once(labelled, monkeypatch):
    run = labelled.training.train("reward", REWARD)
    assert "foreseen" in run["metrics"]["validation"]["after"]
    monkeypatch.setattr(labelled.models.diffuser(), "to_latents", None)  # not needed a second time
    labelled.training.train("reward", REWARD)


def test_an_image_that_is_gone_costs_its_picture_and_not_its_labels(labelled, caplog):
    for row in labelled.store.samples.find(limit=3):
        (labelled.settings.home / row["image_path"]).unlink()
    assert labelled.training.train("reward", REWARD)["state"] == "done"
    assert sum("without its image" in record.message for record in caplog.records) == 3


def test_samples_that_were_imported_without_their_images_are_left_out(labelled):
    rows = [dict(row) for row in labelled.store.samples.find(limit=4)]
    for row in rows[:2]:
        row["image_path"] = row["image_sha256"] = None
    assert set(latents_of(labelled, rows)) == {row["id"] for row in rows[2:]}


@pytest.mark.parametrize("content", [b"broken", b""])
def test_a_damaged_file_of_latents_is_made_anew(labelled, content):
    labelled.training.train("reward", REWARD)
    path = file_of(labelled)
    path.write_bytes(content)
    assert labelled.training.train("reward", REWARD)["state"] == "done"
    assert path.stat().st_size > 1000


def test_a_run_can_be_stopped_while_images_are_read_and_goes_on(labelled, monkeypatch):
    diffuser, stop = labelled.models.diffuser(), threading.Event()
    encode = diffuser.to_latents
    monkeypatch.setattr(diffuser, "to_latents", lambda images: (stop.set(), encode(images))[1])
    first = labelled.training.train("reward", REWARD, stop=stop)
    assert first["state"] == "stopped"
    assert labelled.training.train("reward", run_id=first["id"])["state"] == "done"
