"""Two processes that work as one: what they make is what one makes, and a process that dies takes nothing with it."""

import dataclasses
import json
import os
import signal
import subprocess
import sys

import pytest
import torch

from data.prompts import load
from studio.studio import Studio
from tests import tiny, two
from tests.tiny import STEPS

COLLECT = ("collect", "--count", "6", "--seeds", "2", "--steps", str(STEPS))
pytestmark = pytest.mark.skipif(not torch.distributed.is_available(), reason="torch without distributed")


def settings_at(home, model_folder):
    return dataclasses.replace(tiny.settings_at(home, model_folder), batch=2)


def kept(studio):
    """What the store holds of each prompt and seed, less ids and times: the sample and its labels."""
    found = {}
    for row in studio.store.samples.find(limit=1000):
        labels = {i: (said["word"], said["vlm"]["distribution"], said["vlm"]["scorer_version"])
                  for i, said in studio.store.scores.current(row["id"]).items()}  # fmt: skip
        same = {k: v for k, v in row.items() if k not in ("id", "seq", "image_path", "created", "group_id")}
        assert (studio.settings.home / row["image_path"]).is_file()
        assert (row["prompt"], row["seed"]) not in found
        found[row["prompt"], row["seed"]] = (same, labels)
    return found


@pytest.fixture(scope="module")
def alone(model_folder, tmp_path_factory):
    """What one process makes of `COLLECT`."""
    studio = Studio(settings_at(tmp_path_factory.mktemp("alone"), model_folder))
    ids = studio.collecting.collect(
        load("shapes_train", 6, "small"), 2, steps=STEPS, prompt_set="shapes_train"
    )
    studio.scoring.score(ids)
    return kept(studio)


def test_two_processes_collect_and_score_what_one_does(model_folder, alone, tmp_path):
    """Through the launcher itself. Without --multi_gpu it starts one process on a machine without GPUs."""
    env = {**os.environ, **settings_at(tmp_path / "home", model_folder).env()}
    launcher = [sys.executable, "-m", "accelerate.commands.launch", "--multi_gpu", "--num_processes", "2"]
    port = two.free_port()
    done = subprocess.run(
        [*launcher, "--main_process_port", str(port), "-m", "studio", *COLLECT, "--json", "-"],
        cwd=two.ROOT, env=env, capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert len(json.loads(done.stdout)["samples"]) == 12  # one result: only rank 0 prints
    studio = Studio(settings_at(tmp_path / "home", model_folder))
    assert kept(studio) == alone
    assert (tmp_path / "home" / "shards" / "rank-1").is_dir()
    assert not list((tmp_path / "home" / "shards").rglob("*.json"))


def test_what_a_killed_process_had_finished_is_kept_and_only_the_rest_is_made_again(
    model_folder, alone, tmp_path
):
    settings = settings_at(tmp_path, model_folder)
    processes = two.start("1", *COLLECT, env=settings.env())
    (_, said), _ = (process.communicate(timeout=300) for process in processes)
    assert [process.returncode for process in processes] == [2, -signal.SIGKILL]
    assert "Another process of the group has ended" in said
    assert "Traceback" not in said
    studio, counts = Studio(settings), []
    before = {row["id"] for row in studio.store.samples.find(limit=100)}
    assert len(before) == 8  # of three batches of two each, the first process had all and the second one
    prompts = load("shapes_train", 6, "small")
    ids = studio.collecting.collect(prompts, 2, steps=STEPS, prompt_set="shapes_train",
                         on_progress=lambda done, total: counts.append((done, total)))  # fmt: skip
    assert counts == [(8, 12), (10, 12), (12, 12)]
    assert before < set(ids)
    assert studio.scoring.score() == 12
    assert kept(studio) == alone


def test_two_processes_train_what_one_does_and_none_waits_for_one_that_died(tmp_path):
    """The models have no dropout, whose masks differ; the load of the router's experts is that of each share."""
    processes = two.start("train", tmp_path / "two")
    expected = two.train(tmp_path / "one")
    (_, said), (_, error) = (process.communicate(timeout=300) for process in processes)
    assert [process.returncode for process in processes] == [0, -signal.SIGKILL], said + error
    found = torch.load(tmp_path / "two" / "found.pt")
    for name, steps in (("reward", 8), ("warmup", 3), ("projector", 6), ("unshared", 4)):
        assert len(found[name]) == len(expected[name]) == steps
        assert found[name] == pytest.approx(expected[name], rel=1e-3)
    assert found["best"] == expected["best"]
    for name, weights in expected["weights"].items():
        for part, value in weights.items():
            assert torch.allclose(found["weights"][name][part], value, rtol=1e-2, atol=2e-3), (name, part)
    assert "has ended" in found["lost"]
    assert found["seconds"] < 30
