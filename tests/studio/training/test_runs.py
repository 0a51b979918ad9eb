"""The page of a run: where it comes from, how it differs from another, its model card, and its end."""

import zipfile

import pytest
import yaml

from core import checkpoint
from studio.training import results
from studio.training.runs import changed
from tests.studio.trained import CYCLE, PROJECTOR


def test_the_page_tells_settings_parents_children_promotions_and_samples_before_and_after(loop):
    studio, run = loop
    studio.runs.promote(run["id"], "ann", force=True)
    page = studio.runs.page(run["id"])
    reward = f"{run['id']}-reward"
    assert {c["kind"] for c in page["children"]} == {"calibrator", "reward", "projector"}
    assert [e["action"] for e in page["promotions"]] == ["promote"] and page["bytes"] > 10_000
    shown = {s["name"]: s for s in page["settings"]}
    assert (shown["reward_steps"]["value"], shown["reward_steps"]["default"]) == (3, 200)
    assert shown["tau"]["meaning"]
    first = changed(page["settings"])[0]
    assert first["value"] != first["default"]
    part = studio.runs.page(f"{run['id']}-projector")
    assert part["part_of"] == part["parents"][0]["id"] == run["id"]
    assert studio.runs.sample_methods(run["id"]) == ["projected:shipped", f"projected:{run['id']}-projector"]
    assert studio.runs.sample_methods(reward) == []
    for id, says in ((run["id"], "in use"), (reward, "part of the loop")):
        with pytest.raises(ValueError, match=says):
            studio.runs.delete(id, "ann")


def test_a_deleted_run_loses_its_files_with_its_parts_and_keeps_its_rows(loop):
    studio, run = loop
    shipped = studio.models.using("projector").run
    with pytest.raises(ValueError, match="the project ships"):
        studio.runs.delete(shipped, "ann")
    studio.runs.promote(run["id"], "ann", force=True)
    studio.runs.rollback("cycle", "ann")
    folder = studio.runs.folder(run["id"])
    assert studio.runs.delete(run["id"], "ann") > 10_000
    assert not folder.exists() and not list(studio.settings.runs.glob(".deleted-*"))
    assert all(left["config"].get("source") == "shipped" for left in studio.runs.find())
    page = studio.runs.page(run["id"])
    assert page["run"]["archived"] and page["bytes"] is None
    assert all(child["archived"] for child in page["children"])
    assert studio.store.audit.entries()[0]["action"] == "delete run"
    for act in (
        lambda: studio.runs.promote(run["id"], "ann", force=True),
        lambda: studio.runs.pack(run["id"], studio.settings.home),
    ):
        with pytest.raises(ValueError, match="was deleted"):
            act()


def test_a_card_has_front_matter_figures_limits_and_every_setting_of_which_none_breaks_out(loop):
    studio, run = loop
    card = studio.runs.model_card(run["id"])
    front = yaml.safe_load(card.split("---")[1])
    assert "noise-projection" in front["tags"]
    assert "base_model" not in front  # a folder of this machine is nobody else's
    assert str(studio.settings.backbone) not in card
    figure = f"{run['metrics']['heldout']['after']['strict']['estimate']:.3f} ["
    headings = ("## Trained on", "## Measured", "## Known limits", "## Settings")
    assert all(part in card for part in (figure, *headings, *(f"| {name} |" for name in CYCLE)))
    hostile = {**run, "config": {**run["config"], "name": "a | b\n# <script>`"}}
    row = next(line for line in results.card(hostile, None, "org/model").splitlines() if "script" in line)
    assert row == "| name | a \\| b # \\<script\\>\\` |"


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
    studio.models.check_fits(studio.models.open("projector", quick_path / "there"), quick_path / "there")
