"""What arrives over HTTP without the page: refused with a sentence, and nothing is told that should not be."""

import json
import math
import re
from collections import deque
from itertools import cycle
from pathlib import Path
from urllib.parse import quote

import pytest

from tests import tiny

ROOT = Path(__file__).resolve().parents[2]
GOOD = ["a red circle", "7", 1, tiny.STEPS, 4, "projected", None, None, "", False]
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
# place and value of what is wrong in a request to compare, and what the answer says
BAD = [
    (0, None, "prompt"),
    (0, "a red circle " * 400, "5200 characters"),
    (0, "\x1b[31m red", "control character"),
    (1, "0-4000000000", "8"),
    (2, math.nan, "strength"),
    (4, math.inf, "guidance|inf"),
]
# what is changed in the packet of a good correction
FOREIGN = [
    {"score": math.nan},
    {"score": 5.0},
    {"word": 0},  # a function word, which is not scored
    {"word": 900},
    {"word": -1},
    {"sample": "nothing"},
    {"operations": "set"},
]


def silent(text, app):
    """No traceback, no line of code and no folder of the server is told."""
    for secret in ("Traceback", 'File "', "site-packages", str(ROOT), str(app.home)):
        assert secret not in text, f"{secret} is told: {text[:500]}"


@pytest.fixture
def unchanged(app):
    """How much the store holds is checked at the end. The small grid that a button of Seeds makes, and the round that one
    of Train begins, need no value, so whoever presses it gets it."""
    grid = "SELECT id FROM samples WHERE prompt_set IN ('seeds', 'round')"
    tables = dict.fromkeys(("promotions", "gold", "remarks", "preferences", "submissions"), "1") | {
        "samples": f"id NOT IN ({grid})", "scores": f"sample NOT IN ({grid})", "runs": "kind <> 'round'"
    }  # fmt: skip

    def counts():
        return [app.rows(f"SELECT count(*) FROM {table} WHERE {where}") for table, where in tables.items()]

    before = counts()
    yield
    assert counts() == before and app.rows("PRAGMA integrity_check") == [("ok",)]


def compare(app, place, value):
    return app.call("compare", [value if i == place else given for i, given in enumerate(GOOD)])


def test_a_bad_request_is_refused_with_a_sentence(app, unchanged):
    for place, value, says in BAD:
        event, answer = compare(app, place, value)
        assert event == "error" and re.search(says, answer["error"]), (place, value, answer)
        silent(str(answer), app)


def test_a_value_of_a_foreign_kind_is_refused_and_nothing_is_told(app, unchanged):
    for place in (1, 2, 3, 5):
        for value in HOSTILE:
            if (place, value) != (3, None):  # no steps are the model's own
                event, answer = compare(app, place, value)
                assert event in ("error", "refused"), (place, value, answer)
                silent(str(answer), app)
    for data in ([], [1], GOOD * 3, {}, None, "x"):
        silent(str(app.call("compare", data)[1]), app)


@pytest.fixture
def key(app):
    """The key of one who has written under a name."""
    kept = app.issued("Ann the second")
    app.correct(kept)
    return kept.partition(":")[0]


def test_no_event_of_the_page_is_upset_by_foreign_values_nor_tells_another_ones_key(app, key, unchanged):
    forged = f"{'1' * 32}:Ann the second"
    made = " + ".join(f"(SELECT count(*) FROM {table})" for table in ("grids", "runs", "audit"))
    after = app.rows(f"SELECT {made}")
    foreign = deque((forged, math.nan, None, "x" * 100_000, [[[]]], UPLOADED))
    for event in app.events:
        for _ in range(2):  # each event gets some, and each of them many events
            foreign.rotate()
            values = [value for value, _ in zip(cycle(foreign), event["inputs"], strict=False)]
            answer = app.private(event, values, event_data=foreign[0])
            silent(answer.text, app)
            assert answer.status_code in (200, 400, 413, 422, 500) and key not in answer.text
            before, after = after, app.rows(f"SELECT {made}")
            if before != after:  # it needs no value, and does its work each time
                break
    assert key not in json.dumps(app.http.get("/config").json())
    content = b"".join(path.read_bytes() for path in app.home.glob("studio.db*"))
    assert key.encode() not in content and bytes.fromhex(key) not in content


def test_a_foreign_correction_is_refused_and_not_kept(app, unchanged):
    for changes in FOREIGN:
        silent(app.correct(**changes), app)


def test_the_correction_of_a_page_is_kept(app):
    before = len(app.writers())
    app.correct()
    assert len(app.writers()) == before + 1


@pytest.mark.parametrize("route", ["/gradio_api/file=", "/file=", "/gradio_api/stream/", "/static/"])
def test_no_file_of_the_studio_the_project_or_the_machine_is_served(app, route):
    image = next((app.home / "images").rglob("*.png"))
    database = [app.home / name for name in ("studio.db", "studio.db-wal", "secret")]
    for path in (*database, image, ROOT / "requirements.txt", "/etc/passwd"):
        for name in (str(path), quote(str(path), safe=""), f"{ROOT}/../{path}", f"../../../../../..{path}"):
            answer = app.http.get(route + name)
            assert answer.status_code >= 400, f"{route}{name}"
            assert not answer.content.startswith((b"SQLite", b"\x89PNG", b"root:"))
            assert b"torch>=" not in answer.content


def test_a_file_that_is_too_large_is_refused_and_what_was_uploaded_is_no_way_in(app):
    large = app.http.post("/gradio_api/upload", files={"files": ("a.png", b"x" * 6_000_000)})
    assert large.status_code == 413
    small = app.http.post("/gradio_api/upload", files={"files": ("../../app.py", b"<script>1</script>")})
    (path,) = small.json()
    assert ".." not in path and not any(Path(path).is_relative_to(folder) for folder in (ROOT, app.home))
    for target in ("http://127.0.0.1:1/", "http://169.254.169.254/latest/meta-data/", "file:///etc/passwd"):
        assert app.http.get(f"/gradio_api/proxy={target}").status_code >= 400


def test_only_what_has_a_name_of_its_own_is_a_public_endpoint(app):
    named = {f"/{event['api_name']}" for event in app.events if not event["targets"]}
    assert set(app.http.get("/gradio_api/info").json()["named_endpoints"]) == named
    assert "/set_score" in named and "/edit" not in named


def test_an_address_that_does_not_exist_tells_nothing_and_the_app_still_works_after_all_of_this(app):
    for path in ("/nothing", "/gradio_api/nothing", "/gradio_api/call/nothing"):
        silent(app.http.get(path).text, app)
    silent(app.http.post("/gradio_api/run/predict", content=b"{not json").text, app)
    closing = {"Connection": "close"}
    silent(app.http.post("/gradio_api/call/compare", content=b"\xff\xfe", headers=closing).text, app)
    event, answer = app.call("compare", GOOD)
    assert event == "complete" and app.running.process.poll() is None
    silent(str([part for part in answer if isinstance(part, str)]), app)
