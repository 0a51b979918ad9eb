"""Which endpoint is whose: what changes the store as a whole is an administrator's, whatever a stranger sends."""

import dataclasses
import json
from types import SimpleNamespace

import gradio as gr
import pytest

from studio import doors
from studio.api import endpoints
from studio.doors import ADMINISTRATORS, ENDPOINTS, EVERYONE, GOLD, PEOPLE
from studio.errors import sentence
from studio.settings import ROOT, Settings
from studio.studio import Studio
from studio.training.datasets import replay_of

# of each that is an administrator's: what a stranger sends
ADMINS = {
    "export": {"format": "csv"},
    "import": {"file": {"path": "/etc/passwd"}},
    "push": {"repository": "ann/words", "token": "hf_x", "private": False},
    "backup": {},
    "download_backup": {"backup": "studio.db"},
    "restore": {"backup": "studio.db", "dry_run": False},
    "restore_file": {"file": {"path": "/etc/passwd"}, "dry_run": False},
    "gold": {},
    "set_gold": {"sample": "s0", "word": 1, "score": 5},
    "people": {},
    "release_name": {"name": "ann"},
    "start_training": {},
    "start_experiment": {"name": "tau"},
    "stop_training": {"run": "r"},
    "resume_training": {"run": "r"},
    "promote": {"run": "r", "force": True},
    "rollback": {"kind": "projector"},
    "delete_run": {"run": "r", "sure": True},
}
# of each that writes, and is anybody's who may write
WRITERS = {
    "next_vote": {"grid": "g"},
    "cast_vote": {"grid": "g", "vote": "v", "choice": "left"},
    "next_item": {},
    "set_score": {"sample": "s0", "word": 1, "score": 5},
    "clear_score": {"sample": "s0", "word": 1},
    "accept": {"sample": "s0"},
    "undo": {},
    "submit": {"sample": "s0"},
    "skip": {"sample": "s0"},
    "flag": {"sample": "s0", "reason": "x"},
    "note": {"sample": "s0", "text": "x"},
}
WHOSE = {door.name: door.may for door in ENDPOINTS}
ANYBODYS = {name for name, may in WHOSE.items() if may in (EVERYONE, PEOPLE)}
STRANGER = "0" * 32 + ":stranger"


@pytest.fixture
def studio(quick_path, sample_row):
    made = Studio(dataclasses.replace(Settings(), home=quick_path, examples="none"))
    made.store.samples.add([sample_row(id="s0")])
    return made


@pytest.fixture
def call(studio):
    """A function that calls an endpoint of this studio by its name."""
    works = endpoints(studio, None)
    return lambda which, /, **given: works[which](**given)


def kept(studio):
    """All that the studio holds, but for who has which name: a name is its first one's."""
    with studio.store.database.reading() as db:
        tables = [name for name in db.table_names() if not name.startswith(("sqlite", "people"))]
        counts = {name: db.execute(f"SELECT count(*) FROM [{name}]").fetchone() for name in tables}
    return counts, {path.name for path in studio.settings.home.rglob("*")} - {
        "secret"
    }  # by which ids are made


def test_every_endpoint_of_administrators_and_of_writers_is_tried_here():
    assert set(ADMINS) == {name for name, may in WHOSE.items() if may in (ADMINISTRATORS, GOLD)}
    assert set(WRITERS) == {name for name, may in WHOSE.items() if may == doors.WRITERS}


def test_who_is_no_administrator_is_refused_what_changes_the_store_as_a_whole(
    studio, call, token_shown, monkeypatch
):
    """By name in the setting, with the token and without; on a Space, whatever a browser says of itself."""
    own = studio.settings
    studio.settings = dataclasses.replace(own, admins="Boss")
    before = kept(studio)
    for name, given in ADMINS.items():
        for who in ("", STRANGER, "0" * 32 + ":Boss"):
            with pytest.raises(gr.Error, match="STUDIO_ADMINS|administrator's"):
                call(name, **given, who=who)
        for who in ("", STRANGER):
            with token_shown(), pytest.raises(gr.Error, match="STUDIO_ADMINS"):
                call(name, **given, who=who)
    studio.settings = own
    for env in ({"SPACE_ID": "ann/studio", "SPACE_AUTHOR_NAME": "ann"},
                {"SYSTEM": "spaces", "OAUTH_CLIENT_ID": "c", "OAUTH_CLIENT_SECRET": "s"}):  # fmt: skip
        for variable, value in env.items():
            monkeypatch.setenv(variable, value)
        for name, given in ADMINS.items():
            for who, account in (("", None), ("0" * 32 + ":ann", None), (STRANGER, "stranger")):
                with pytest.raises(gr.Error, match="Only the owner of this Space"):
                    call(name, **given, who=who, profile=account and SimpleNamespace(username=account))
    assert kept(studio) == before


def test_nobody_writes_where_the_studio_is_read_only_nor_without_a_key(studio, call):
    before, own = kept(studio), studio.settings
    for name, given in WRITERS.items():
        studio.settings = own
        for who in ("", "stranger", None, 7):
            with pytest.raises(gr.Error, match="sign_in"):
                call(name, **given, who=who)
        studio.settings = dataclasses.replace(own, annotate="nobody")
        with pytest.raises(gr.Error, match="read-only"):
            call(name, **given, who=STRANGER)
    assert kept(studio) == before


def test_only_administrators_see_gold_where_there_are_any(studio, call, token_shown):
    boss = call("sign_in", name="Boss")["who"]
    call("set_gold", sample="s0", word=1, score=7, who=boss)
    studio.settings = dataclasses.replace(studio.settings, admins="Boss")
    asked = [("sample_history", {"sample": "s0"}), ("audit", {}), ("agreement", {})]
    asked += [("search", given) for given in ({}, {"sort": "lowest"}, {"sort": "highest"}, {"mean_to": 9})]
    for name, given in asked:
        assert '"red"' not in json.dumps(call(name, **given, who=STRANGER)), name
    assert call("search", sort="highest", who=STRANGER)["samples"] == []
    assert [line["subject"] for line in call("audit", who=STRANGER)] == [""]
    assert call("sample_history", sample="s0", who=STRANGER)["events"] == []
    with token_shown():
        assert [s["id"] for s in call("search", sort="highest", who=boss)["samples"]] == ["s0"]
        assert [line["subject"] for line in call("audit", who=boss)] == ["s0"]
        assert call("sample_history", sample="s0", who=boss)["events"][0]["what"] == "gold"


def test_no_endpoint_tells_where_things_lie_on_the_machine(studio, call, quick_path):
    home = str(quick_path)
    nowhere = {name: quick_path / "nowhere" / name for name in ("labels", "projector", "reward")}
    settings = dataclasses.replace(
        studio.settings, **nowhere, backbone=f"{home}/nowhere/sdxl", scorer=f"{home}/nowhere/qwen"
    )
    studio.settings = studio.models.settings = settings
    run = studio.store.runs.new("reward", {})
    studio.store.audit.note("", "backup", "x")
    with pytest.raises(ValueError) as missing:
        studio.models.diffuser()
    assert home in sentence(missing.value, paths=True)  # at the console of the machine
    metrics = {"note": replay_of(studio)[1]}
    studio.store.runs.update(run, state="failed", message=sentence(missing.value), metrics=metrics)
    # Fakes, as models are loaded here by no test: what stands for them is enough to be asked what is in use.
    studio.models._diffuser = studio.models._scorer = SimpleNamespace(channels=4, text_width=8)
    names = ("status", "kinds", "runs", "audit", "backups", "choices", "webhook")
    said = {name: call(name) for name in names}
    said |= {name: call(name, run=run) for name in ("run", "curves", "model_card")}
    assert home not in json.dumps(said) and str(ROOT) not in json.dumps(said)
    assert (said["status"]["backbone"], said["status"]["scorer"]) == ("sdxl", "qwen")
    assert said["status"]["projector_problem"] == (
        "There is no projector yet: train one, or put a checkpoint where STUDIO_PROJECTOR says."
    )
    assert said["run"]["results"]["note"] == (
        "The checkpoint labels does not exist: choose another one, or train it again. "
        "The labels of STUDIO_LABELS are not used."
    )
    assert said["run"]["message"].startswith("The diffusion model is not there (sdxl): make it by")
    with pytest.raises(gr.Error) as error:
        call("download_run", run=run)
    assert home not in str(error.value)
