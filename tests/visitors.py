"""Who comes by a running app over plain HTTP: as a page's script would, or as someone who writes requests by hand."""

import hashlib
import inspect
import json
import os
import time
import uuid
from base64 import b64encode

import httpx
import itsdangerous

from studio.api import endpoints

SECRET = "a secret that only this Space has"
SPACE = {
    "SYSTEM": "spaces", "SPACE_ID": "ann/studio", "SPACE_HOST": "ann-studio.hf.space", "SPACE_AUTHOR_NAME": "ann",
    "SPACE_REPO_NAME": "studio", "SPACE_TITLE": "Noise Projection Studio", "GRADIO_ALLOW_FLAGGING": "never",
}  # fmt: skip
OAUTH = {
    "OAUTH_CLIENT_ID": "client", "OAUTH_CLIENT_SECRET": SECRET, "OAUTH_SCOPES": "openid profile",
    "OPENID_PROVIDER_URL": "https://huggingface.co",
}  # fmt: skip
PARAMETERS = {
    name: [p for p in inspect.signature(work).parameters.values() if p.name != "profile"]
    for name, work in endpoints(None, None).items()
}


def session_of(account: str, secret: str) -> str:
    """The cookie that says that this account signed in, signed as Gradio does once Hugging Face has said who it is."""
    info = {"name": account, "preferred_username": account, "profile": "", "picture": ""}
    session = {"oauth_info": {"userinfo": info, "expires_at": time.time() + 3600}}
    signer = itsdangerous.TimestampSigner(hashlib.sha256(f"{secret}-v4".encode()).hexdigest())
    return signer.sign(b64encode(json.dumps(session).encode())).decode()


class Visitor:
    """A stranger, or with the cookie of a session somebody who signed in."""

    def __init__(self, running, headers=None):
        self.running, self.home, self.rows = running, running.home, running.rows
        self.http = httpx.Client(base_url=running.url, timeout=300, trust_env=False, headers=headers)
        # one for all, as a new one costs Gradio a look at every part of the page, and one for what is queued
        self.session, self.queued = uuid.uuid4().hex, uuid.uuid4().hex
        self.config = self.http.get("/config").json()
        self.events = self.config["dependencies"]
        (self.recall,) = [e for e in self.events if '["who", "sample", "pairs"]' in str(e["js"])]

    def as_account(self, name, secret=SECRET):
        """The same Space visited by this account."""
        return Visitor(self.running, {"Cookie": f"session={session_of(name, secret)}"})

    def post(self, path, body):
        """JSON with NaN and Infinity written as Python does, which no browser would."""
        return self.http.post(path, content=json.dumps(body), headers={"Content-Type": "application/json"})

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

    def private(self, event, data, event_data=None):
        """The function of an event that is no public endpoint, through the queue where it goes that way."""
        body = {"data": data, "fn_index": event["id"], "session_hash": self.session, "event_data": event_data}
        answer = self.post("/gradio_api/run/predict", body)
        if "join the queue" not in answer.text:
            return answer
        answer = self.post("/gradio_api/queue/join", {**body, "session_hash": self.queued})
        if answer.status_code != 200:
            return answer
        with self.http.stream("GET", f"/gradio_api/queue/data?session_hash={self.queued}") as lines:
            for line in lines.iter_lines():
                message = json.loads(line.partition("data: ")[2] or "{}")
                if message.get("msg") in ("process_completed", "unexpected_error"):
                    status = 200 if message.get("success") else 500
                    answer = httpx.Response(status, json=message.get("output") or message)
                if message.get("msg") in (
                    "close_stream",
                    "unexpected_error",
                ):  # and the session is free again
                    return answer
        raise AssertionError("the stream ended without a result")

    def part(self, elem_id):
        """A component of the page."""
        return next(c for c in self.config["components"] if c["props"].get("elem_id") == elem_id)

    def event(self, elem_id, kind):
        """The event of a part of the page."""
        target = [self.part(elem_id)["id"], kind]
        return next(e for e in self.events if target in e["targets"] and e["backend_fn"])

    def issued(self, kept=None):
        """What the server gives a browser that kept this."""
        return self.private(self.recall, [kept, None, None]).json()["data"][0]

    def act(self, event, event_data=None, values=(), kept=None):
        """What the server answers to an event of the page of one who keeps this, or what the server gives; values: of its
        inputs but that one, in order, None where there are no more."""
        kept, others = kept or self.issued(), iter(values)
        given = [kept if one == self.recall["inputs"][0] else next(others, None) for one in event["inputs"]]
        return self.private(event, given, event_data)

    def correct(self, kept=None, **changes):
        """The answer to a key of the page on the first image; changes: of its packet and operation."""
        (sample,) = self.rows("SELECT id FROM samples ORDER BY seq LIMIT 1")[0]
        operation = {"revision": 1, "kind": "set", "word": 1, "score": 5}
        operation |= {name: changes.pop(name) for name in list(changes) if name in operation}
        packet = {"client": os.urandom(8).hex(), "sample": sample, "operations": [operation], **changes}
        return self.act(self.event("annotate-words", "edit"), packet, kept=kept).text

    def writers(self):
        return [who for (who,) in self.rows("SELECT who FROM scores WHERE source = 'human' ORDER BY seq")]


class Person(Visitor):
    """One who comes by with a key of their own. name: that they go by, on a Space their account's."""

    def __init__(self, running, name="", headers=None):
        super().__init__(running, headers)
        signed_in = self.ask("sign_in", name="" if "Cookie" in self.http.headers else name)[0]
        self.who, self.name = signed_in["who"], name or signed_in["name"]

    def ask(self, endpoint, **given):
        """What an endpoint answers, its values by their names."""
        given |= {} if endpoint == "sign_in" else {"who": self.who}
        defaults = {p.name: None if p.default is p.empty else p.default for p in PARAMETERS[endpoint]}
        return self.call(endpoint, [given.get(name, default) for name, default in defaults.items()])[1]

    def upload(self):
        (path,) = self.http.post("/gradio_api/upload", files={"files": ("labels.jsonl", b"{}\n")}).json()
        return {"path": path, "meta": {"_type": "gradio.FileData"}}
