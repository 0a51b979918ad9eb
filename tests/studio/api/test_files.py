"""What goes out of the store as a whole and comes into it, by gradio_client on a real app: files both ways."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import sqlite3
import zipfile
from contextlib import closing
from pathlib import Path

import httpx
import pytest
from gradio_client import Client, handle_file
from gradio_client.exceptions import AppError
from PIL import Image

from data.store import Store
from studio.exchange.transfer import OUT
from tests.browser.conftest import PATIENCE, serving

PROMPT = "a red circle above a blue square"
TOKEN = "hf_notatokenatall"


@pytest.fixture(scope="module")
def app(tmp_path_factory, model_folder):
    """An app whose store has two images, scored by two people and the VLM, with gold, a remark and a vote."""
    home = tmp_path_factory.mktemp("api-files") / "home"
    (home / "images").mkdir(parents=True)
    store = Store(home / "studio.db")
    for i in range(2):
        file = io.BytesIO()
        Image.new("RGB", (8, 8), (0, 100 * i, 0)).save(file, "PNG")
        (home / "images" / f"{i}.png").write_bytes(file.getvalue())
        store.samples.add([{
            "id": f"s{i}", "prompt": PROMPT, "n_words": 7, "seed": i, "backbone": "any", "width": 8, "height": 8, "steps": 2,
            "guidance": 4.0, "image_path": f"images/{i}.png", "image_sha256": hashlib.sha256(file.getvalue()).hexdigest(),
        }])  # fmt: skip
        for word, text in ((1, "red"), (2, "circle")):
            store.scores.set(f"s{i}", word, 3 + 5 * i, "ann", word=text)
            store.scores.set(f"s{i}", word, 9 * i, "bob", word=text)
    store.gold.set("s0", 1, 2, "ann")
    store.remarks.note("s0", "bob", "=1+1, \N{SNOWMAN}")
    store.votes.add("s0", "s1", "right", "bob")
    store.database.close()
    with serving(home, model_folder) as running:
        yield running


@pytest.fixture(scope="module")
def client(app):
    return Client(app.url, verbose=False, httpx_kwargs={"timeout": 60 * PATIENCE})


@pytest.fixture(scope="module")
def who(client):
    return client.predict("carla", api_name="/sign_in")["who"]


@pytest.fixture
def export(client, who):
    return lambda kind, **more: Path(client.predict(kind, who, **more, api_name="/export"))


def counts(app):
    return [
        app.rows(f"SELECT count(*) FROM {table}")[0][0] for table in ("samples", "scores", "remarks", "gold")
    ]


@pytest.mark.parametrize("kind", list(OUT))
def test_every_format_goes_out_as_a_file_and_is_noted(app, export, kind):
    path = export(kind, **({"licence": "cc-by-4.0"} if kind == "dataset" else {}))
    assert path.name == f"labels-{kind}{OUT[kind][1]}" and path.stat().st_size > 0
    noted = app.rows("SELECT who, action, subject FROM audit ORDER BY seq DESC LIMIT 1")
    assert noted == [("carla", "export", path.name)]
    if kind == "dataset":
        with zipfile.ZipFile(path) as packed:
            assert {"README.md", "train/images/s0.png", "train/images/s1.png"} <= set(packed.namelist())
            assert b"license: cc-by-4.0" in packed.read("README.md")


def test_what_went_out_comes_into_an_empty_store_and_goes_out_the_same_byte_for_byte(
    app, client, who, export, tmp_path
):
    before, held = export("jsonl").read_bytes(), counts(app)
    empty = Store(tmp_path / "other.db").database.vacuum_into(tmp_path / "empty.db")
    kept = client.predict(who, api_name="/backup")
    assert [one["name"] for one in client.predict(api_name="/backups")] == [kept["name"]]

    looked = client.predict(handle_file(empty), who=who, api_name="/restore_file")
    assert (looked["restored"], looked["samples"]) == (False, 0) and counts(app) == held
    done = client.predict(handle_file(empty), False, who, api_name="/restore_file")
    assert done["restored"] and done["before"]["samples"] == 2 and counts(app) == [0, 0, 0, 0]

    file = tmp_path / "labels.jsonl"
    file.write_bytes(before)
    told = client.predict(handle_file(file), who=who, api_name="/import")
    assert (told["kept"], told["counts"]["samples"]) == (False, 2) and "Would be taken over" in told["text"]
    assert {change["word"] for change in told["changes"]} == {"red", "circle"} and counts(app) == [0, 0, 0, 0]
    assert client.predict(handle_file(file), "jsonl", False, who, api_name="/import")["kept"]
    assert counts(app) == held and export("jsonl").read_bytes() == before
    again = client.predict(handle_file(file), "jsonl", False, who, api_name="/import")
    assert again["counts"]["samples"] == 0 and again["changes"] == []
    assert export("jsonl").read_bytes() == before

    saved = Path(client.predict(kept["name"], who, api_name="/download_backup"))
    with closing(sqlite3.connect(saved)) as db:
        assert db.execute("SELECT count(*) FROM samples").fetchone() == (2,)
    assert not client.predict(kept["name"], who=who, api_name="/restore")["restored"]
    back = client.predict(kept["name"], False, who, api_name="/restore")
    assert back["text"].startswith("Restored: 2 images") and back["replaced"] in {
        p.name for p in app.home.iterdir()
    }
    assert export("jsonl").read_bytes() == before
    said = [line["action"] for line in client.predict(api_name="/audit")]
    assert said[:2] == ["export", "restore"] and "/" not in json.dumps(
        client.predict(1, 1, api_name="/audit")
    )


@pytest.mark.parametrize("kind", ["csv", "dpo", "richhf", "rapidata"])
def test_every_other_format_comes_in_as_one_persons_and_what_is_said_already_changes_nothing(
    app, client, who, export, kind
):
    path, held = export(kind), counts(app)
    told = client.predict(handle_file(path), kind, False, who, api_name="/import")
    if kind == "dpo":
        assert told["counts"]["new"] == 1
        votes = app.rows("SELECT who FROM preferences ORDER BY seq DESC LIMIT 1")
        assert votes == [("carla",)]
        told = client.predict(handle_file(path), kind, False, who, api_name="/import")
    assert told["counts"]["new"] == told["counts"]["changed"] == 0 and counts(app) == held


def test_a_changed_table_is_looked_at_first_and_then_taken_over(app, client, who, export, tmp_path):
    rows = list(csv.DictReader(export("csv").read_text().splitlines()))
    (row,) = [one for one in rows if (one["sample"], one["word"]) == ("s1", "circle")]
    file = tmp_path / "changed.csv"
    file.write_text(f"sample,word_index,score\ns1,{row['word_index']},6\n")
    told = client.predict(handle_file(file), "csv", who=who, api_name="/import")
    assert [(c["word"], c["before"], c["after"]) for c in told["changes"]] == [("circle", 8.0, 6)]
    assert app.rows("SELECT count(*) FROM scores WHERE who = 'carla'") == [(0,)]
    client.predict(handle_file(file), "csv", False, who, api_name="/import")
    assert app.rows("SELECT score FROM scores WHERE who = 'carla'") == [(6,)]


@pytest.mark.parametrize(
    ("name", "body", "given", "says"),
    [
        ("import", b"not json\n", {}, "line 1"),
        ("import", b'{"format":"noise-projection-studio/labels","version":99}\n', {}, "version"),
        ("import", b"sample,word_index,score\ns0,1,5\ns0,900,5\n", {"format": "csv"}, "line 3"),
        ("import", b"x", {"format": "votes"}, "choose one of jsonl"),
        ("import", b"sample,word_index,score\n", {"format": "csv", "who": ""}, "sign_in"),
        ("restore_file", b"not a database", {}, "is no database"),
        ("restore_file", b"SQLite format 3\x00 and no more", {}, "cannot be restored"),
        ("read_image", b"\x89PNG\r\n\x1a\n", {}, "cut off"),
    ],
    ids=lambda value: str(value)[:24],
)
def test_a_bad_file_is_a_sentence_and_changes_nothing(app, client, who, tmp_path, name, body, given, says):
    before, file = counts(app), tmp_path / "bad.bin"
    file.write_bytes(body)
    named = {} if name == "read_image" else {"dry_run": False, "who": who} | given
    with pytest.raises(AppError, match=says) as raised:
        client.predict(file=handle_file(file), **named, api_name=f"/{name}")
    for secret in ("Traceback", str(app.home), "site-packages"):
        assert secret not in str(raised.value)
    assert counts(app) == before


@pytest.mark.parametrize("name", ["../studio.db", "studio.db", "", None, "/etc/passwd"], ids=repr)
def test_only_a_backup_that_is_listed_can_be_named(client, who, name):
    for endpoint in ("/download_backup", "/restore"):
        with pytest.raises(AppError, match="no such backup"):
            client.predict(backup=name, who=who, api_name=endpoint)


def test_a_push_that_fails_leaves_the_token_nowhere(app, client, who):
    """The Hub cannot be reached from a test; a session that asks for a deep link writes what it holds to the disk."""
    with pytest.raises(AppError, match="could not be reached") as raised:
        client.predict("ann/words", TOKEN, who=who, api_name="/push")
    assert TOKEN not in str(raised.value) and TOKEN not in app.log.read_text(errors="replace")
    link = httpx.get(
        f"{app.url}gradio_api/deep_link", params={"session_hash": client.session_hash}, trust_env=False
    ).json()
    page = httpx.get(f"{app.url}config", params={"deep_link": link}, trust_env=False).text
    assert link and "ann/words" in page and TOKEN not in page
    assert TOKEN.encode() not in b"".join(p.read_bytes() for p in app.home.rglob("*") if p.is_file())
