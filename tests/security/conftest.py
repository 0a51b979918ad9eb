"""The app as its users start it, on tiny models, spoken to over plain HTTP: a component on the page is no boundary."""

import json
import uuid

import httpx
import pytest

from tests import tiny
from tests.browser.conftest import serving


class Client:
    """Speaks to a running app as a page's script would, or as someone who writes requests by hand."""

    def __init__(self, running):
        self.running, self.home, self.rows = running, running.home, running.rows
        self.http = httpx.Client(base_url=running.url, timeout=300, trust_env=False)
        # one for all, as a new one costs Gradio a look at every part of the page, and one for what is queued
        self.session, self.queued = uuid.uuid4().hex, uuid.uuid4().hex

    def call(self, name, data):
        """A public endpoint with any values: (last event, its data)."""
        asked = self.post(f"/gradio_api/call/{name}", {"data": data, "session_hash": self.session})
        if asked.status_code != 200:
            return "refused", asked.text
        event = ""
        with self.http.stream("GET", f"/gradio_api/call/{name}/{asked.json()['event_id']}") as lines:
            for line in lines.iter_lines():
                field, _, value = line.partition(": ")
                if field == "event":
                    event = value
                elif field == "data" and event in ("complete", "error"):
                    return event, json.loads(value)
        raise AssertionError("the stream ended without a result")

    def events(self):
        """The events of the page: their ids, inputs and targets."""
        return self.http.get("/config").json()["dependencies"]

    def private(self, event, data, event_data=None):
        """The function of an event that is no public endpoint, through the queue where it goes that way."""
        body = {"data": data, "fn_index": event["id"], "session_hash": self.session, "event_data": event_data}
        answer = self.post("/gradio_api/run/predict", body)
        if "join the queue" not in answer.text:
            return answer
        session = body["session_hash"] = self.queued
        answer = self.post("/gradio_api/queue/join", body)
        if answer.status_code != 200:
            return answer
        with self.http.stream("GET", f"/gradio_api/queue/data?session_hash={session}") as lines:
            for line in lines.iter_lines():
                told = json.loads(line.partition("data: ")[2] or "{}")
                if told.get("msg") in ("process_completed", "unexpected_error"):
                    done = told.get("success", False)
                    answer = httpx.Response(200 if done else 500, json=told.get("output") or told)
                if told.get("msg") in ("close_stream", "unexpected_error"):  # and the session is free again
                    return answer
        raise AssertionError("the stream ended without a result")

    def post(self, path, body):
        """JSON with NaN and Infinity written as Python does, which no browser would."""
        return self.http.post(path, content=json.dumps(body), headers={"Content-Type": "application/json"})


@pytest.fixture(scope="package")
def app(tmp_path_factory, model_folder):
    """A client of an app that has compared one pair."""
    with serving(tmp_path_factory.mktemp("security") / "home", model_folder) as running:
        client = Client(running)
        event, _ = client.call("compare", ["a red circle", "7", 1, tiny.STEPS, 4, "projected"])
        assert event == "complete"
        yield client
