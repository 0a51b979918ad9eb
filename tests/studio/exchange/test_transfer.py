"""Export, import, backup, restore and push through the studio: each is in the log, and no token is anywhere."""

import hashlib
import json
from pathlib import Path
from types import SimpleNamespace

import pytest
from PIL import Image

from data.store import StoreError, imports
from studio.exchange import transfer
from studio.grids.grid import Grids
from studio.studio import Studio
from studio.training.runs import Runs

TOKEN = "hf_secretsecretsecret"


@pytest.fixture
def studio(store, sample_row, quick_path):
    """A studio with nothing but a store and a home, as nothing here touches a model: two images, one corrected word."""
    (quick_path / "images").mkdir()
    for i in range(2):
        path = quick_path / "images" / f"{i}.png"
        Image.new("RGB", (8, 8), (0, 100 * i, 0)).save(path, "PNG")
        sha = hashlib.sha256(path.read_bytes()).hexdigest()
        store.samples.add([sample_row(id=f"s{i}", seed=i, image_path=f"images/{i}.png", image_sha256=sha)])
        store.scores.set(f"s{i}", 1, 3 + 5 * i, "ann", word="red")
    settings = SimpleNamespace(home=quick_path)
    grids = Grids(None, SimpleNamespace(store=store, settings=settings, models=None))
    return SimpleNamespace(store=store, settings=settings, runs=Runs(settings, store, None, {}), grids=grids)


@pytest.mark.parametrize("kind", [kind for kind in transfer.IN if kind != "dpo"])
def test_what_went_out_comes_in_again_and_changes_nothing(studio, quick_path, kind):
    transfer.export_file(studio, kind, quick_path / "out", "ann")
    dry = transfer.import_file(studio, kind, quick_path / "out", "bob", dry_run=True)
    assert (dry.changes, dry.more) == ([], 0) and dry.text.startswith("Would be taken over: 0")
    assert [line["subject"] for line in studio.store.audit.entries()] == ["out"]  # a look is no deed
    transfer.import_file(studio, kind, quick_path / "out", "bob", name="theirs")
    assert studio.store.audit.entries()[0]["subject"] == "theirs"


@pytest.mark.parametrize("kind", ["xml", None, ["csv"]], ids=repr)
def test_only_a_format_that_is_known_names_a_file(studio, quick_path, kind):
    with pytest.raises(ValueError, match="choose one of jsonl"):
        transfer.export_into(studio, kind, quick_path, "ann")


def test_an_import_that_was_stopped_in_the_middle_is_finished_by_the_next_start(
    studio, quick_path, monkeypatch, caplog
):
    """What stops it is a trigger: no test can fill a real disk."""
    monkeypatch.setattr(imports, "PIECE", 1)
    monkeypatch.setattr(imports, "LEAST", 1)
    (quick_path / "in.csv").write_text("sample,word_index,score\ns0,1,9\ns1,1,9\n")
    with studio.store.database.writing() as db:
        db.execute(
            "CREATE TRIGGER full AFTER INSERT ON scores WHEN NEW.sample = 's1' "
            "BEGIN SELECT RAISE(ABORT, 'database or disk is full'); END"
        )
    with pytest.raises(
        StoreError, match="1 of 2 rows of in.csv .*rest is taken over when the studio next starts"
    ):
        transfer.import_file(studio, "csv", quick_path / "in.csv", "bob")
    Studio.finish_imports(studio)
    assert "An import is still unfinished: The disk of studio.db is full" in caplog.text
    with studio.store.database.writing() as db:
        db.execute("DROP TRIGGER full")
    Studio.finish_imports(studio)
    assert [studio.store.scores.current(id, "bob")[1]["human"]["score"] for id in ("s0", "s1")] == [9, 9]
    (line,) = transfer.log(studio, 10)
    assert (line["action"], line["subject"], line["detail"]) == (
        "import",
        "in.csv",
        {"resumed": True, "rows": 2},
    )


class FakeHub:
    """In place of huggingface_hub.HfApi: there is no network here and no account. It keeps what the real one would send,
    and can refuse as the Hub does, by an exception with a response that has a status."""

    def __init__(self, private=True, status=None):
        self.private, self.status, self.calls, self.files = private, status, [], {}

    def __call__(self, token):
        self.token = token
        return self

    def create_repo(self, name, **given):
        self.calls.append(("create_repo", name, given))
        if self.status:
            error = RuntimeError(f"Authorization: Bearer {self.token}")
            error.response = SimpleNamespace(status_code=self.status)
            raise error

    def repo_info(self, name, **given):
        return SimpleNamespace(private=self.private)

    def upload_folder(self, *, folder_path, **given):
        self.calls.append(("upload_folder", given))
        top = Path(folder_path)
        self.files = {str(p.relative_to(top)): p.read_bytes() for p in top.rglob("*") if p.is_file()}


def test_a_push_sends_the_folder_to_a_private_repository_and_keeps_no_token(studio, caplog):
    hub = FakeHub()
    found = transfer.push(studio, " ann/words ", TOKEN, "ann", licence="mit", api=hub)
    assert found["url"] == "https://huggingface.co/datasets/ann/words" and found["samples"] == 2
    (made, name, given), (sent, more) = hub.calls
    assert (made, name, given["private"], given["repo_type"]) == ("create_repo", "ann/words", True, "dataset")
    assert (sent, more["repo_type"]) == ("upload_folder", "dataset") and "train/**" in more["delete_patterns"]
    assert {"README.md", "train/metadata.parquet", "train/images/s0.png"} <= set(hub.files)
    assert b"license: mit" in hub.files["README.md"]
    assert [line["action"] for line in studio.store.audit.entries()] == ["push", "export"]
    assert TOKEN not in json.dumps(studio.store.audit.entries()) + caplog.text
    assert all(TOKEN.encode() not in content for content in hub.files.values())
    public = FakeHub(private=False)
    transfer.push(studio, "ann/words", TOKEN, "ann", private=False, api=public)  # where that is wanted
    assert public.calls[0][2]["private"] is False and public.files


@pytest.mark.parametrize(
    ("repository", "token", "hub", "says"),
    [
        ("words", TOKEN, FakeHub(), "write owner/name"),
        ("ann/../etc", TOKEN, FakeHub(), "write owner/name"),
        (7, TOKEN, FakeHub(), "write owner/name"),
        ("ann/words", "", FakeHub(), "There is no token"),
        ("ann/words", "hf_\nx", FakeHub(), "characters that no token has"),
        ("ann/words", TOKEN, FakeHub(private=False), "is public"),
        ("ann/words", TOKEN, FakeHub(status=403), "does not let this token write"),
        ("ann/words", TOKEN, FakeHub(status=404), "knows no ann/words"),
        ("ann/words", TOKEN, FakeHub(status=500), "status 500"),
    ],
    ids=range(9),
)
def test_a_push_that_cannot_be_is_a_sentence_without_the_token(studio, repository, token, hub, says):
    with pytest.raises(ValueError, match=says) as refused:
        transfer.push(studio, repository, token, "ann", api=hub)
    audit = studio.store.audit.entries()
    assert TOKEN not in f"{refused.value}{json.dumps(audit)}"
    assert not hub.files and "push" not in [line["action"] for line in audit]


def damage(studio):
    """An index of the scores that says something else than their table."""
    store = studio.store
    with store.database._connected(once=True) as db:
        at = "SELECT rootpage FROM sqlite_master WHERE tbl_name = 'scores' AND type = "
        page, size = db.execute(f"{at} 'index' LIMIT 1").fetchone()[0], 4096
        db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    store.database.close()
    content = bytearray(store.database.path.read_bytes())
    content[page * size - 40 : page * size] = bytes(40)
    store.database.path.write_bytes(content)


def test_every_format_goes_out_of_a_damaged_store_which_is_then_restored(studio, quick_path):
    """Whatever was on when it was damaged: the store cannot be told that its process is gone."""
    backup = transfer.new_backup(studio, "ann")
    studio.store.grids.update(studio.store.grids.add({"prompt": "a cat"}, "ann"), "running")
    studio.store.runs.update(studio.store.runs.new("projector", {}), state="running", pid=2**22)
    formats = [kind for kind in transfer.OUT if kind != "dataset"]
    for kind in formats:
        transfer.export_file(studio, kind, quick_path / f"{kind}-before", "ann")
    damage(studio)
    with pytest.raises(StoreError, match="is damaged"):
        studio.store.restoring.check()
    studio.store.database.close()
    for kind in formats:
        transfer.export_file(studio, kind, quick_path / kind, "ann")
        assert (quick_path / kind).read_bytes() == (quick_path / f"{kind}-before").read_bytes()
    assert transfer.restore(studio, backup, "ann")["samples"] == 2
    assert studio.store.audit.entries()[0]["action"] == "restore"


def test_a_grid_whose_process_is_gone_keeps_nobody_from_a_restore(studio):
    made = transfer.new_backup(studio, "ann")
    grid = studio.store.grids.add({"prompt": "a cat"}, "ann")
    studio.store.grids.update(grid, "running")
    assert transfer.restore(studio, made, "ann")["samples"] == 2


def test_a_grid_that_was_resumed_since_it_was_found_dead_keeps_a_restore_off(studio, monkeypatch):
    made = transfer.new_backup(studio, "ann")
    grid = studio.store.grids.add({"prompt": "a cat"}, "ann")
    studio.store.grids.update(grid, "running")
    monkeypatch.setattr(studio.grids, "sweep", lambda: [grid])  # as it was a moment ago
    with pytest.raises(ValueError, match=rf"grid \({grid}\) is on"):
        transfer.restore(studio, made, "ann")
