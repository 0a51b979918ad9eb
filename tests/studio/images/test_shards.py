"""Shards of ranks that died, and of other machines: taken over at the next start, nothing twice, nothing by halves."""

import shutil
from types import SimpleNamespace

import pytest

from studio.__main__ import main
from studio.images import shards
from studio.images.collecting import Collecting
from studio.images.making import Making
from studio.images.models import Models
from studio.images.options import NONE
from studio.images.scoring import Scoring
from studio.studio import Studio
from tests.tiny import SIZE, STEPS

PROMPTS = ["a red circle", "a blue square", "a green star"]
HOW = {
    "strength": 1.0,
    "steps": STEPS,
    "guidance": 4.0,
    "height": SIZE,
    "width": SIZE,
    "prompt_set": "",
    "split": None,
    "options": NONE,
    "typed": {},
}


@pytest.fixture
def other(studio):
    """Another rank of the same home: what collects and scores over a shard."""
    shard = shards.Shard(shards.folder_of(studio.settings.home) / "rank-1")
    making = Making(studio.settings, shard, Models(studio.settings, shard), studio.prompts)
    making.models._diffuser, making.models._scorer = studio.models._diffuser, studio.models._scorer
    return SimpleNamespace(store=shard, collecting=Collecting(making), scoring=Scoring(making))


@pytest.fixture
def made(studio, other):
    """Finished by a rank that died before it was taken over: two samples of three, projected ones."""
    studio.models.using("projector")  # rank 0 gives what is shipped its row
    return other.collecting.collect_here(
        [(p, 3) for p in PROMPTS[:2]], 1, "projected", **HOW, halt=lambda: False
    )


def test_what_a_rank_had_finished_is_there_at_the_next_start(studio, other, made):
    assert studio.store.samples.count() == 0
    assert shards.merge(studio.making) == set(made.values())
    assert shards.merge(studio.making) == set()
    rows = studio.store.samples.find()
    assert {(row["prompt"], row["seed"]) for row in rows} == set(made)
    assert all(row["projector_run"].startswith("shipped-projector-") for row in rows)

    other.store.rows = rows[:1]
    assert other.scoring.score_here([rows[0]["id"]]) == 1
    assert studio.store.samples.count(scored=True) == 0
    assert studio.scoring.score() == 1  # the other one's is taken over
    assert studio.store.samples.count(scored=True) == 2
    assert not list(shards.folder_of(studio.settings.home).rglob("*.json"))


def test_a_sample_that_is_there_already_is_not_doubled(studio, other):
    ids = studio.collecting.collect(PROMPTS, 1, steps=STEPS, batch=1)
    row = studio.store.samples.get(ids[0])
    todo = [(row["prompt"], row["seed"])]
    again = other.collecting.collect_here(todo, 1, "none", **HOW, halt=lambda: False)
    assert set(again.values()).isdisjoint(ids)
    shards.merge(studio.making)
    assert studio.store.samples.count() == 3


def test_a_sample_whose_image_was_damaged_is_made_again(studio, made):
    path = studio.settings.home / f"images/{made[PROMPTS[0], 3][:2]}/{made[PROMPTS[0], 3]}.png"
    path.write_bytes(b"half")
    assert shards.merge(studio.making) and studio.store.samples.count() == 1


def test_the_home_of_another_machine_is_merged_by_a_command(studio, made, tmp_path, capsys):
    away, home = tmp_path / "away", tmp_path / "home"
    Studio(studio.settings)
    shutil.copytree(studio.settings.home, away)
    shutil.copytree(studio.settings.home, home, ignore=shutil.ignore_patterns("images", "shards"))
    for _ in range(2):
        assert main(["merge", str(away), "--home", str(home)]) == 0
    assert "2 samples were taken over" in capsys.readouterr().out
    for id in made.values():
        assert (home / f"images/{id[:2]}/{id}.png").is_file()
    assert main(["merge", str(tmp_path), "--home", str(home)]) == 2
    assert "no folder shards" in capsys.readouterr().err
