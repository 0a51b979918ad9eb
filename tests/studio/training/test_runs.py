"""The page of a run: where it comes from, how it differs from another, its model card, and its end."""

import shutil
import zipfile

import pytest
import yaml

from core import checkpoint
from studio.training import results
from studio.training.runs import changed
from tests import tiny
from tests.studio.training.test_training import CYCLE, PROJECTOR


@pytest.fixture(scope="module")
def looped_home(labelled_home, loaded, model_folder, tmp_path_factory):
    """A home in which a loop was trained, to be copied."""
    home = tmp_path_factory.mktemp("looped") / "home"
    shutil.copytree(labelled_home, home)
    new = tiny.studio_at(home, model_folder)
    new.models._diffuser, new.models._scorer = loaded.models._diffuser, loaded.models._scorer
    new.training.train("cycle", CYCLE)
    return home


@pytest.fixture
def loop(studio, looped_home):
    shutil.copytree(looped_home, studio.settings.home, dirs_exist_ok=True)
    return studio, studio.runs.find(kind="cycle")[0]


def test_the_page_tells_settings_parents_children_and_promotions(loop):
    studio, run = loop
    studio.runs.promote(run["id"], "ann", force=True)
    page = studio.runs.page(run["id"])
    assert {c["kind"] for c in page["children"]} == {"calibrator", "reward", "projector"}
    assert [e["action"] for e in page["promotions"]] == ["promote"]
    assert page["bytes"] > 10_000
    shown = {s["name"]: s for s in page["settings"]}
    assert (shown["reward_steps"]["value"], shown["reward_steps"]["default"]) == (3, 200)
    assert shown["tau"]["meaning"]
    first = changed(page["settings"])[0]
    assert first["value"] != first["default"]
    part = studio.runs.page(f"{run['id']}-projector")
    assert part["part_of"] == run["id"]
    assert part["parents"][0]["id"] == run["id"]


def test_a_run_that_makes_a_projector_has_samples_before_and_after_it(loop):
    studio, run = loop
    assert studio.runs.sample_methods(run["id"]) == ["projected:shipped", f"projected:{run['id']}-projector"]
    (reward,) = [child for child in studio.runs.page(run["id"])["children"] if child["kind"] == "reward"]
    assert studio.runs.sample_methods(reward["id"]) == []


def test_two_runs_are_compared_setting_by_setting_and_by_one_judge(loop):
    studio, run = loop
    other = studio.training.train("projector", {**PROJECTOR, "tau": 0.9})
    found = studio.runs.compare(run["id"], other["id"])
    assert {s["name"]: s["values"] for s in found["settings"] if s["differ"]}["tau"] == [0.3, 0.9]
    assert found["comparable"] and found["why"] == ""
    with studio.store.database.reading() as db:  # what the loop calibrated came between the two
        assert [found["events"]] == list(
            db.execute("SELECT count(*) FROM scores WHERE source = 'calibrated'").fetchone()
        )
    third = studio.training.train("projector", {**PROJECTOR, "heldout_seeds": 3})
    assert "other prompts, seeds" in studio.runs.compare(run["id"], third["id"])["why"]
    fourth = studio.training.train("projector", {**PROJECTOR, "heldout_prompts": 0})
    assert fourth["id"] in studio.runs.compare(run["id"], fourth["id"])["why"]
    with pytest.raises(ValueError, match="one and the same"):
        studio.runs.compare(run["id"], run["id"])


def test_a_deleted_run_loses_its_files_with_its_parts_and_keeps_its_rows(loop):
    studio, run = loop
    folder = studio.runs.folder(run["id"])
    assert studio.runs.delete(run["id"], "ann") > 10_000
    assert not folder.exists() and not list(studio.settings.runs.glob(".deleted-*"))
    assert studio.runs.find() == [r for r in studio.runs.find() if r["config"].get("source") == "shipped"]
    page = studio.runs.page(run["id"])
    assert page["run"]["archived"] and page["bytes"] is None
    assert all(child["archived"] for child in page["children"])
    assert studio.store.audit.entries()[0]["action"] == "delete run"
    with pytest.raises(ValueError, match="was deleted"):
        studio.runs.promote(run["id"], "ann", force=True)
    with pytest.raises(ValueError, match="was deleted"):
        studio.runs.pack(run["id"], studio.settings.home)


def test_what_is_in_use_is_not_deleted_nor_is_a_part_alone(loop):
    studio, run = loop
    studio.runs.promote(run["id"], "ann", force=True)
    with pytest.raises(ValueError, match="in use"):
        studio.runs.delete(run["id"], "ann")
    with pytest.raises(ValueError, match="part of the loop"):
        studio.runs.delete(f"{run['id']}-reward", "ann")
    shipped = studio.models.using("reward")
    assert studio.runs.folder(run["id"]).is_dir() and shipped.model is not None
    studio.runs.rollback("cycle", "ann")
    assert studio.runs.delete(run["id"], "ann") > 0


def test_what_the_project_ships_is_not_deleted(studio):
    shipped = studio.models.using("projector").run
    with pytest.raises(ValueError, match="the project ships"):
        studio.runs.delete(shipped, "ann")


@pytest.mark.parametrize("id", [".", "..", ".deleted-x"])
def test_a_run_whose_id_names_another_folder_deletes_nothing(studio, id):
    """As an older version's import could bring one."""
    with studio.store.database.writing() as db:
        db.execute(
            "INSERT INTO runs (id, kind, config, state, created) VALUES (?, 'reward', '{}', 'done', '2026')",
            (id,),
        )
    kept = studio.runs.folder("one") / "reward" / "model.safetensors"
    kept.parent.mkdir(parents=True)
    kept.write_bytes(b"weights")
    with pytest.raises(ValueError, match="run must (be 1 to 64 letters|not begin with)"):
        studio.runs.delete(id, "ann")
    assert kept.read_bytes() == b"weights"


def test_a_card_has_front_matter_figures_limits_and_every_setting(loop):
    studio, run = loop
    card = studio.runs.model_card(run["id"])
    front = yaml.safe_load(card.split("---")[1])
    assert "noise-projection" in front["tags"]
    assert "base_model" not in front  # a folder of this machine is nobody else's
    assert str(studio.settings.backbone) not in card
    found = run["metrics"]["heldout"]["after"]["strict"]["estimate"]
    assert f"{found:.3f} [" in card
    for heading in ("## Trained on", "## Measured", "## Known limits", "## Settings"):
        assert heading in card
    for name in CYCLE:
        assert f"| {name} |" in card


def test_a_setting_cannot_break_out_of_the_card(loop):
    _, run = loop
    hostile = {**run, "config": {**run["config"], "name": "a | b\n# <script>`"}}
    row = next(line for line in results.card(hostile, None, "org/model").splitlines() if "script" in line)
    assert row == "| name | a \\| b # \\<script\\>\\` |"


def test_a_run_is_packed_with_its_card_and_can_be_used_where_it_is_unpacked(loop, quick_path):
    studio, run = loop
    path = studio.runs.pack(run["id"], quick_path)
    (quick_path / "again").mkdir()
    assert studio.runs.pack(run["id"], quick_path / "again").read_bytes() == path.read_bytes()
    with zipfile.ZipFile(path) as packed:
        packed.extractall(quick_path / "there")
        assert packed.getinfo("README.md").date_time[0] == 1980  # no time: one copy of each run is kept
    assert (quick_path / "there" / "README.md").read_text() == studio.runs.model_card(run["id"])
    checkpoint.verify(quick_path / "there")
    studio.models.check_fits(studio.models.open("projector", quick_path / "there"))
