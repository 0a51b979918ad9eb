"""One visitor asks for more images than the models can make: others still get theirs, and their keys are stored."""

import json
import time
import uuid

import httpx
import numpy as np
import pytest

from tests import tiny
from tests.browser.conftest import serving

FLOOD = 33
ASKED = ["a red circle", "7", 1, tiny.STEPS, 4, "projected"]
SLOW = ["a red circle", "7", 1, 60, 4, "projected"]  # than it is asked for


@pytest.fixture(scope="module")
def app(tmp_path_factory, model_folder):
    with serving(tmp_path_factory.mktemp("flood") / "home", model_folder) as running:
        yield running


def compare(app, session, forwarded=None, asked=ASKED):
    """Ask for a comparison; its event, or the sentence for which it may not wait."""
    headers = {"X-Forwarded-For": forwarded} if forwarded else {}
    answer = httpx.post(f"{app.url}gradio_api/call/compare", json={"data": asked, "session_hash": session}, headers=headers,
                        trust_env=False, timeout=60)  # fmt: skip
    return answer.json().get("event_id"), answer.json().get("detail", "")


def ended(app, event):
    """The last event of a comparison's stream."""
    found = ""
    with httpx.stream(
        "GET", f"{app.url}gradio_api/call/compare/{event}", trust_env=False, timeout=300
    ) as lines:
        for line in lines.iter_lines():
            found = line.removeprefix("event: ") if line.startswith("event: ") else found
            if found in ("complete", "error"):
                return found
    return found


def test_a_visitor_who_floods_the_queue_keeps_nobody_from_images_and_keys(app):
    first, _ = compare(app, "other")
    assert ended(app, first) == "complete"
    flood = [compare(app, "flood", asked=SLOW) for _ in range(FLOOD)]
    more = [compare(app, uuid.uuid4().hex, asked=SLOW) for _ in range(FLOOD)]
    refused = [said for event, said in flood if event is None]
    assert refused and all("4 requests for images from this page are waiting" in said for said in refused)
    assert any("address are waiting" in said for event, said in more if event is None)

    event, said = compare(app, "other", "8.8.8.8")
    assert event, said
    http, seconds = httpx.Client(base_url=app.url, trust_env=False, timeout=60), []

    def ask(name, *data):
        body = {"data": list(data), "session_hash": "keys"}
        return http.post(f"gradio_api/run/{name}", json=body).json()["data"][0]

    who = ask("sign_in", "ann")["who"]
    ((sample,),) = app.rows("SELECT id FROM samples LIMIT 1")
    for n in range(20):
        began = time.perf_counter()
        stored = ask("set_score", sample, 1, n % 10, who)
        seconds.append(time.perf_counter() - began)
        assert stored["score"] == n % 10
    print(json.dumps({"p50": np.percentile(seconds, 50), "p95": np.percentile(seconds, 95)}))
    assert ended(app, event) == "complete"


@pytest.mark.parametrize("path", ["run/compare", "api/compare", "run/predict"])
def test_no_request_for_images_skips_the_queue(app, path):
    fns = httpx.get(f"{app.url}config", trust_env=False, timeout=60).json()["dependencies"]
    models = [fn["id"] for fn in fns if fn["targets"] and fn["queue"] and fn["api_name"] == "compare"]
    body = {
        "data": ASKED,
        "session_hash": "straight",
        **({"fn_index": models[0]} if models else {"fn_index": 0}),
    }
    answer = httpx.post(f"{app.url}gradio_api/{path}", json=body, trust_env=False, timeout=60)
    assert answer.status_code in (404, 422) or "queue" in answer.text.lower()
