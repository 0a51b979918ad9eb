"""The named endpoints, as a script (gradio_client) and an agent (MCP) call them, on a real app with tiny models."""

from __future__ import annotations

import base64
import re
import time
from pathlib import Path

import pytest
from gradio_client import Client
from gradio_client.exceptions import AppError

from studio import api
from studio.doors import ENDPOINTS
from studio.settings import ROOT, Settings
from tests import tiny
from tests.awaiting import finished
from tests.browser.conftest import PATIENCE, serving


@pytest.fixture(scope="module")
def app(tmp_path_factory, model_folder):
    with serving(tmp_path_factory.mktemp("api") / "home", model_folder, STUDIO_MCP="yes") as running:
        yield running


@pytest.fixture(scope="module")
def client(app):
    return Client(app.url, verbose=False, httpx_kwargs={"timeout": 60 * PATIENCE})


@pytest.fixture(scope="module")
def pair(client):
    """Two samples, of the same seed."""
    answer = client.predict("a red circle", "7", 1.0, tiny.STEPS, 4, api_name="/compare")
    return answer["pairs"][0]


@pytest.fixture(scope="module")
def who(client):
    return client.predict("ann", api_name="/sign_in")["who"]


def test_a_comparison_has_words_with_scores_and_images(pair):
    for view in (pair["none"], pair["projected"]):
        assert [w["text"] for w in view["words"]] == ["a", "red", "circle", "nothing else"]
        assert all(0 <= w["score"] <= 9 for w in view["words"] if w["scored"])
        assert Path(view["image"]).read_bytes().startswith(b"\x89PNG")
    assert pair["none"]["method"] == "none" and pair["projected"]["method"] == "projected"


def test_an_annotator_takes_an_item_scores_it_goes_back_and_submits(client, app, pair, who):
    given = client.predict(who, api_name="/next_item")
    sample, place = given["sample"]["id"], 1
    assert given["why"].startswith("Queue order: ")
    for score in (3, 8):
        answer = client.predict(sample, place, score, who, api_name="/set_score")
        assert answer["score"] == score
    assert app.rows("SELECT score FROM scores WHERE who = 'ann' ORDER BY seq") == [(3,), (8,)]
    assert client.predict(who, api_name="/undo")["sample"]["words"][place]["human"] == 3
    assert client.predict(sample, place, who, api_name="/clear_score")["score"] is None
    accepted = client.predict(sample, who, api_name="/accept")
    assert all(w["by"] == "ann" for w in accepted["words"] if w["scored"])
    assert client.predict(sample, "blurred", who, api_name="/flag")["flag"] == "blurred"
    assert client.predict(sample, "", who, api_name="/flag")["flag"] == ""
    assert client.predict(sample, "nice", who, api_name="/note")["note"] == "nice"
    assert client.predict(sample, who, api_name="/submit")["done"] == "submitted"
    said = client.predict(who, api_name="/progress")
    assert (said["submitted"], said["all"], said["corrected_words"]) == (1, 1, 3)
    assert client.predict(who, api_name="/next_item")["sample"]["id"] != sample
    assert client.predict(who, 3, api_name="/history")[0]["action"] == "set"


@pytest.mark.parametrize(
    ("name", "given", "sentence"),
    [
        ("set_score", {"word": 0, "score": 5}, "carries no score"),
        ("set_score", {"word": 1, "score": 10}, "whole number from 0 to 9"),
        ("set_score", {"word": 1, "score": "<b>5</b>"}, "whole number"),
        ("set_score", {"word": 1, "score": 5, "sample": "../x"}, "sample"),
        ("set_score", {"word": 1, "score": 5, "who": "ann"}, "sign_in"),
        ("set_score", {"word": 1, "score": 5, "who": f"{'0' * 32}:ann"}, "belongs to another"),
        ("flag", {"reason": "x" * 5000}, "5000 characters"),
        ("submit", {"sample": None}, "sample"),
    ],
)
def test_a_bad_call_is_answered_by_a_sentence_and_changes_nothing(
    client, app, pair, who, name, given, sentence
):
    client.predict(pair["none"]["id"], 2, 4, who, api_name="/set_score")
    before = app.rows("SELECT count(*) FROM scores")
    with pytest.raises(AppError, match=sentence) as raised:
        client.predict(**{"sample": pair["none"]["id"], "who": who} | given, api_name=f"/{name}")
    assert "Traceback" not in str(raised.value) and str(app.home) not in str(raised.value)
    assert app.rows("SELECT count(*) FROM scores") == before
    with pytest.raises(AppError, match="belongs to another"):
        client.predict("ann", api_name="/sign_in")


def test_samples_are_found_and_shown(client, pair):
    def search(**asked):
        return client.predict(**asked, api_name="/search")

    (found,) = search(text="circle red", method="projected")["samples"]
    assert found["id"] == pair["projected"]["id"]
    assert [word["word"] for word in found["words"]] == ["red", "circle", "nothing else"]
    assert search(text="nothing") == {"samples": [], "count": 0, "more": False, "next": None}
    first = search(sort="seed", limit=1)
    second = search(sort="seed", limit=1, after=first["next"])
    assert first["samples"][0]["id"] != second["samples"][0]["id"]
    lowest, highest = ([s["mean"] for s in search(sort=sort)["samples"]] for sort in ("lowest", "highest"))
    assert lowest == sorted(lowest) == highest[::-1] != []
    above = [s["mean"] for s in search(mean_from=lowest[0] + 0.01)["samples"]]
    assert all(mean > lowest[0] for mean in above) and len(above) < len(lowest)
    image = client.predict(pair["none"]["id"], api_name="/image")
    assert Path(image).read_bytes() == Path(pair["none"]["image"]).read_bytes()


def test_a_grid_is_made_watched_and_bounded(client, who):
    grid = client.predict(
        "a red circle", who, seeds="1-2", strengths="0.5,1", steps="2", api_name="/start_grid"
    )
    while (found := client.predict(grid, api_name="/grid"))["state"] in ("queued", "running"):
        time.sleep(0.1)
    assert (found["state"], found["done"], found["total"]) == ("done", 6, 6)
    assert {cell["seed"] for cell in found["cells"]} == {1, 2}
    assert all(cell["sample"] and cell["total"] is not None for cell in found["cells"])
    change = found["change"]
    assert change["wins"] + change["ties"] + change["losses"] == 2
    with pytest.raises(AppError, match="256"):
        client.predict("a red circle", who, seeds="1-300", api_name="/start_grid")
    with pytest.raises(AppError, match="nothing to stop"):
        client.predict(grid, who, api_name="/stop_grid")


def test_training_is_watched_and_refused_with_a_sentence(client, who):
    assert client.predict(api_name="/status")["training"] is None
    (run, *_) = client.predict(kind="projector", api_name="/runs")
    assert client.predict(run["id"], api_name="/run")["state"] == "done"
    for name, given, sentence in (
        ("start_training", {"kind": "reward", "config": {"nonsense": 1}}, "nonsense"),
        ("start_training", {"kind": "pretrain"}, "kind of a training"),
        ("stop_training", {"run": run["id"]}, "nothing to stop"),
        ("promote", {"run": "no-such-run"}, "no-such-run"),
        ("rollback", {"kind": "projector"}, "ships is in use"),
    ):
        with pytest.raises(AppError, match=sentence):
            client.predict(**given, who=who, api_name=f"/{name}")


def test_an_agent_finds_the_endpoints_as_tools_and_can_call_them(app, pair):
    from mcp import ClientSession
    from mcp.client.streamable_http import streamable_http_client

    async def ask():
        async with (
            streamable_http_client(f"{app.url}gradio_api/mcp/") as (read, write, _),
            ClientSession(read, write) as session,
        ):
            await session.initialize()
            tools = {tool.name: tool for tool in (await session.list_tools()).tools}
            (score,) = [name for name in tools if name.endswith("set_score")]
            look, take = (score.replace("set_score", name) for name in ("image", "import"))
            file = f"data:application/json;base64,{base64.b64encode(b'no labels').decode()}"
            answers = [
                await session.call_tool(look, {"sample": pair["none"]["id"]}),
                await session.call_tool(score, {"sample": "x", "word": 1, "score": 5, "who": ""}),
                await session.call_tool(take, {"file": file}),
            ]
            return len(tools), tools[score], tools[take], answers

    count, scored, taken, (image, refused, unread) = finished(ask())
    assert count == len(ENDPOINTS)
    assert "how well a word shows" in scored.description
    assert scored.inputSchema["properties"]["score"]["type"] == "integer"
    assert "from sign_in" in scored.inputSchema["properties"]["who"]["description"]
    assert taken.inputSchema["properties"]["file"]["type"] == "string"
    assert image.content[0].type == "image"
    assert refused.isError and "sign_in" in refused.content[0].text
    assert unread.isError and "line 1" in unread.content[0].text


def test_mcp_is_a_setting_and_nothing_breaks_without_its_package(monkeypatch):
    assert api.mcp(Settings(mcp="no")) is False
    monkeypatch.setattr(api, "find_spec", lambda name: None)
    assert api.mcp(Settings()) is False
    with pytest.raises(ValueError, match="pip install"):
        api.mcp(Settings(mcp="yes"))


def test_the_readmes_example_runs_as_it_stands_there(app):
    readme = (ROOT / "studio/README.md").read_text(encoding="utf-8")
    (code,) = [
        part for part in re.findall(r"```python\n(.*?)```", readme, re.DOTALL) if "gradio_client" in part
    ]
    code = code.replace("http://127.0.0.1:7860", app.url).replace('"ann"', '"reader"')
    kept = {}
    exec(compile(code, "README.md", "exec"), kept)  # noqa: S102
    assert Path(kept["labels"]).read_text().count("\n") > 1
    scored = [word for word in kept["item"]["words"] if word["scored"]]
    assert app.rows("SELECT count(*) FROM scores WHERE who = 'reader' AND score = 9") == [(len(scored),)]
    assert app.rows("SELECT kind FROM submissions WHERE who = 'reader'") == [("submit",)]
