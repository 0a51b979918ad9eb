"""What arrives over HTTP without the page: refused with a sentence, and nothing is told that should not be."""

import math
import re
from pathlib import Path
from urllib.parse import quote

import pytest

from tests import tiny

ROOT = Path(__file__).resolve().parents[2]
GOOD = ["a red circle", "7", 1, tiny.STEPS, 4, "projected"]
UPLOADED = {"path": "/etc/passwd", "meta": {"_type": "gradio.FileData"}}
HOSTILE = [
    math.nan,
    math.inf,
    -1,
    10**30,
    True,
    None,
    "x" * 100_000,
    "../../etc/passwd",
    "\x00\x1b[31m",
    "' OR 1=1; DROP TABLE scores; --",
    [[[]]],
    UPLOADED,
    {"__type__": "update", "value": "x"},
]


def with_value(place, value):
    return [value if i == place else given for i, given in enumerate(GOOD)]


def silent(text, app):
    """No traceback, no line of code and no folder of the server is told."""
    for secret in ("Traceback", 'File "', "site-packages", str(ROOT), str(app.home)):
        assert secret not in text, f"{secret} is told: {text[:500]}"


def kept(app):
    """How much the store holds, which nothing refused may change. The small grid that a button of Seeds makes, and the round
    that one of Train begins, need no value, so whoever presses it gets it."""
    assert app.rows("PRAGMA integrity_check") == [("ok",)]
    grid = "SELECT id FROM samples WHERE prompt_set IN ('seeds', 'round')"
    return [
        app.rows(f"SELECT count(*) FROM {table} WHERE {where}")[0][0]
        for table, where in {
            "samples": f"id NOT IN ({grid})", "scores": f"sample NOT IN ({grid})", "runs": "kind <> 'round'", "promotions": "1",
            "gold": "1", "remarks": "1", "preferences": "1", "submissions": "1",
        }.items()
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("place", "value", "says"),
    [
        (0, "", "The prompt is empty"),
        (0, None, "prompt"),
        (0, "a red circle " * 400, "5200 characters"),
        (0, "\x1b[31m red", "control character"),
        (0, "...", "no word"),
        (1, "-1", "not a whole number"),
        (1, "4294967296", "out of range"),
        (1, "0-4000000000", "8"),
        (2, math.nan, "strength"),
        (3, 101, "101"),
        (4, math.inf, "guidance|inf"),
    ],
    ids=repr,
)
def test_a_bad_request_is_refused_with_a_sentence(app, place, value, says):
    before = kept(app)
    event, found = app.call("compare", with_value(place, value))
    assert event == "error", found
    silent(str(found), app)
    assert re.search(says, found["error"]), found["error"]
    assert kept(app) == before


@pytest.mark.parametrize("place", [1, 2, 3, 5], ids=["seeds", "strength", "steps", "noise"])
def test_a_value_of_a_foreign_kind_is_refused_and_nothing_is_told(app, place):
    before = kept(app)
    for value in HOSTILE:
        if (place, value) != (3, None):  # no steps are the model's own
            event, found = app.call("compare", with_value(place, value))
            assert event in ("error", "refused"), (value, found)
            silent(str(found), app)
    assert kept(app) == before


def test_the_wrong_number_of_values_tells_nothing(app):
    for data in ([], [1], GOOD * 3, {}, None, "x"):
        silent(str(app.call("compare", data)[1]), app)


def test_no_event_of_the_page_is_upset_by_foreign_values(app):
    before = kept(app)
    for event in app.events():
        for value in (math.nan, None, "x" * 100_000, [[[]]], UPLOADED):
            answer = app.private(event, [value] * len(event["inputs"]), event_data=value)
            silent(answer.text, app)
            assert answer.status_code in (200, 400, 413, 422, 500)
    assert kept(app) == before
    assert app.call("compare", GOOD)[0] == "complete"


def packet(app, **changes):
    (sample,) = app.rows("SELECT id FROM samples WHERE method = 'none' ORDER BY rowid LIMIT 1")[0]
    operation = {"revision": 1, "kind": "set", "word": 1, "score": 5}
    operation |= {name: changes.pop(name) for name in list(changes) if name in operation}
    return {"client": "client-0001", "sample": sample, "operations": [operation]} | changes


@pytest.mark.parametrize(
    "changes",
    [
        {"score": 10},
        {"score": -1},
        {"score": math.nan},
        {"score": True},
        {"score": "5"},
        {"score": 5.0},
        {"word": 0},  # a function word, which is not scored
        {"word": 900},
        {"word": -1},
        {"kind": "delete"},
        {"revision": 0},
        {"sample": "nothing"},
        {"sample": "../studio.db"},
        {"client": ""},
        {"operations": []},
        {"operations": "set"},
        {"operations": [{"revision": n, "kind": "set", "word": 1, "score": 5} for n in range(1, 5000)]},
    ],
    ids=lambda changes: repr(changes)[:40],
)
def test_a_foreign_correction_is_refused_and_not_kept(app, changes):
    before = kept(app)
    (edit,) = [event for event in app.events() if event["targets"] and event["targets"][0][1] == "edit"]
    given = packet(app, **{"client": f"client-{hash(repr(changes))}"} | changes)
    answer = app.private(edit, ["", "uncertainty"], event_data=given)
    silent(answer.text, app)
    assert kept(app) == before


def test_the_correction_of_a_page_is_kept(app):
    before = kept(app)
    (edit,) = [event for event in app.events() if event["targets"] and event["targets"][0][1] == "edit"]
    answer = app.private(edit, ["", "uncertainty"], event_data=packet(app))
    assert answer.status_code == 200 and kept(app)[1] == before[1] + 1


@pytest.mark.parametrize("route", ["/gradio_api/file=", "/file=", "/gradio_api/stream/", "/static/"])
def test_no_file_of_the_studio_the_project_or_the_machine_is_served(app, route):
    images = list((app.home / "images").rglob("*.png"))
    assert images
    for path in (
        app.home / "studio.db",
        app.home / "studio.db-wal",
        images[0],
        ROOT / "requirements.txt",
        "/etc/passwd",
    ):
        for name in (str(path), quote(str(path), safe=""), f"{ROOT}/../{path}", f"../../../../../..{path}"):
            answer = app.http.get(route + name)
            assert answer.status_code >= 400, f"{route}{name}"
            assert not answer.content.startswith((b"SQLite", b"\x89PNG", b"root:"))
            assert b"torch>=" not in answer.content


def test_a_file_that_is_too_large_is_refused_and_what_was_uploaded_is_no_way_in(app):
    large = app.http.post("/gradio_api/upload", files={"files": ("a.png", b"x" * 6_000_000)})
    assert large.status_code == 413
    small = app.http.post("/gradio_api/upload", files={"files": ("../../app.py", b"<script>1</script>")})
    if small.status_code == 200:
        (path,) = small.json()
        assert (
            ".." not in path
            and not Path(path).is_relative_to(ROOT)
            and not Path(path).is_relative_to(app.home)
        )


def test_the_server_fetches_nothing_for_others(app):
    for target in ("http://127.0.0.1:1/", "http://169.254.169.254/latest/meta-data/", "file:///etc/passwd"):
        assert app.http.get(f"/gradio_api/proxy={target}").status_code >= 400


def test_only_what_has_a_name_of_its_own_is_a_public_endpoint(app):
    own = {f"/{event['api_name']}" for event in app.events() if not event["targets"]}
    assert set(app.http.get("/gradio_api/info").json()["named_endpoints"]) == own
    assert "/set_score" in own and "/edit" not in own


def test_an_address_that_does_not_exist_tells_nothing(app):
    for path in ("/nothing", "/gradio_api/nothing", "/gradio_api/call/nothing"):
        silent(app.http.get(path).text, app)
    silent(app.http.post("/gradio_api/run/predict", content=b"{not json").text, app)
    silent(
        app.http.post("/gradio_api/call/compare", content=b"\xff\xfe", headers={"Connection": "close"}).text,
        app,
    )


def test_the_app_still_works_after_all_of_this(app):
    event, found = app.call("compare", GOOD)
    assert event == "complete" and app.running.process.poll() is None
    silent(str([part for part in found if isinstance(part, str)]), app)
