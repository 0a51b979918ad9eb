"""Two processes that work as one: what they make is what one makes, and a process that dies takes nothing with it."""

import dataclasses
import json
import signal

import pytest
import torch

from data.prompts import load
from studio.studio import Studio
from tests import tiny
from tests.reliability import two
from tests.tiny import STEPS

COLLECT = ("collect", "--count", "6", "--seeds", "2", "--steps", str(STEPS), "--json", "-")
pytestmark = pytest.mark.skipif(not torch.distributed.is_available(), reason="torch without distributed")


def kept(studio):
    """What the store holds of each prompt and seed, less ids and times: the sample and its labels."""
    made = {}
    for row in studio.store.samples.find(limit=1000):
        labels = {i: (said["word"], said["vlm"]["distribution"], said["vlm"]["scorer_version"])
                  for i, said in studio.store.scores.current(row["id"]).items()}  # fmt: skip
        same = {k: v for k, v in row.items() if k not in ("id", "seq", "image_path", "created", "group_id")}
        assert (studio.settings.home / row["image_path"]).is_file()
        assert (row["prompt"], row["seed"]) not in made
        made[row["prompt"], row["seed"]] = (same, labels)
    return made


def ended(processes):
    for process in processes:
        process.join(300)
    return [process.exitcode for process in processes]


def test_two_processes_collect_and_score_what_one_does_and_only_what_a_killed_one_had_not_finished(
    model_folder, tmp_path
):
    alone = Studio(dataclasses.replace(tiny.settings_at(tmp_path / "alone", model_folder), batch=2))
    prompts = load("shapes_train", 6, "small")
    alone.scoring.score(alone.collecting.collect(prompts, 2, steps=STEPS, prompt_set="shapes_train"))

    settings = dataclasses.replace(alone.settings, home=tmp_path / "home")
    processes = two.start(tmp_path / "killed", two.command, "1", *COLLECT, **settings.env())
    assert ended(processes) == [2, -signal.SIGKILL]
    said = (tmp_path / "killed.0").read_text()
    assert "Another process of the group has ended" in said and "Traceback" not in said
    studio = Studio(settings)
    before = {row["id"]: row["created"] for row in studio.store.samples.find()}
    assert len(before) == 8  # of three batches of two each, the first process had all and the second one

    processes = two.start(tmp_path / "whole", two.command, "none", *COLLECT, **settings.env())
    assert ended(processes) == [0, 0], (tmp_path / "whole.0").read_text()
    printed = (tmp_path / "whole.0").read_text()
    result, _ = json.JSONDecoder().raw_decode(printed, printed.index("{\n"))
    assert len(result["samples"]) == 12 and before.keys() < set(result["samples"])
    assert {row["id"]: row["created"] for row in studio.store.samples.find()}.items() > before.items()
    assert kept(studio) == kept(alone)
    shards = tmp_path / "home" / "shards"
    assert (shards / "rank-1").is_dir() and not list(shards.rglob("*.json"))


def test_two_processes_train_what_one_does_and_none_waits_for_one_that_died(tmp_path):
    """The models have no dropout, whose masks differ; the load of the router's experts is that of each share."""
    (tmp_path / "two").mkdir()
    processes = two.start(tmp_path / "log", two.trained, tmp_path / "two")
    expected = two.train(tmp_path / "one")
    assert ended(processes) == [0, -signal.SIGKILL], (tmp_path / "log.0").read_text()
    found = torch.load(tmp_path / "two" / "found.pt")
    for name, steps in (("reward", 8), ("warmup", 3), ("projector", 6), ("unshared", 4)):
        assert len(found[name]) == len(expected[name]) == steps
        assert found[name] == pytest.approx(expected[name], rel=1e-3)
    assert found["best"] == expected["best"]
    for name, weights in expected["weights"].items():
        for part, value in weights.items():
            assert torch.allclose(found["weights"][name][part], value, rtol=1e-2, atol=2e-3), (name, part)
    assert "has ended" in found["lost"] and found["seconds"] < 30
