"""studio/images/latents.py: what a reward run learns from the images of the store."""

import threading

from studio.images.latents import file_of, latents_of

REWARD = {"foresight_steps": 0, "reader_steps": 1, "reward_steps": 1, "reward_batch": 4}


def test_a_reward_run_learns_from_the_images_and_encodes_each_once_also_after_a_stop(
    labelled, monkeypatch, caplog
):
    for row in labelled.store.samples.find(limit=3):
        (labelled.settings.home / row["image_path"]).unlink()  # costs its picture and not its labels
    diffuser, stop = labelled.models.diffuser(), threading.Event()
    with monkeypatch.context() as stopping:
        encode = diffuser.to_latents
        stopping.setattr(diffuser, "to_latents", lambda images: (stop.set(), encode(images))[1])
        first = labelled.training.train("reward", REWARD, stop=stop)
    assert first["state"] == "stopped"
    run = labelled.training.train("reward", run_id=first["id"])
    assert run["state"] == "done" and "foreseen" in run["metrics"]["validation"]["after"]
    assert "without its image" in caplog.text
    monkeypatch.setattr(diffuser, "to_latents", None)  # not needed a second time
    assert labelled.training.train("reward", REWARD)["state"] == "done"


def test_images_that_were_not_imported_are_left_out_and_a_damaged_file_of_latents_is_made_anew(labelled):
    rows = [dict(row) for row in labelled.store.samples.find(limit=4)]
    for row in rows[:2]:
        row["image_path"] = row["image_sha256"] = None
    whole = latents_of(labelled, rows)
    assert set(whole) == {row["id"] for row in rows[2:]}
    path = file_of(labelled)
    for content in (b"broken", b""):
        path.write_bytes(content)
        assert set(latents_of(labelled, rows)) == set(whole) and path.stat().st_size > 1000
