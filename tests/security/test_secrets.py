"""What is secret reaches no file: tokens, keys and signing secrets are looked for in all that a studio has written."""

import json
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import ClassVar

import pytest

from tests import tiny
from tests.browser.conftest import serving
from tests.security.test_rights import Person

SECRETS = {
    "STUDIO_TOKEN": "sentinel-of-the-administrators",
    "STUDIO_SCORER_KEY": "sentinel-of-the-scoring-server",
    "STUDIO_WEBHOOK_SECRET": "sentinel-of-the-webhook",
    "HF_TOKEN": "hf_sentinel_of_the_hub",
}
GIVEN = "hf_sentinel_of_a_visitor"  # to `push`


class Telltale(BaseHTTPRequestHandler):
    """A scoring server that refuses every request with a message that repeats the key."""

    asked: ClassVar[list[str]] = []  # the headers of all that came

    def do_GET(self):
        self.asked.append(self.headers["Authorization"] or "")
        body = json.dumps({"error": {"message": f"{self.asked[-1]} is no key of ours"}}).encode()
        self.send_response(401)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    do_POST = do_GET

    def log_message(self, *_):
        pass


@pytest.fixture(scope="module")
def telltale():
    server = ThreadingHTTPServer(("127.0.0.1", 0), Telltale)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/v1"
    server.shutdown()


def test_no_file_that_the_studio_writes_has_a_secret_in_it(tmp_path, model_folder, telltale):
    env = SECRETS | {
        "GRADIO_SERVER_NAME": "0.0.0.0",
        "STUDIO_SCORER": telltale,
        "STUDIO_BACKUP": str(tmp_path / "copies"),
        "STUDIO_WEBHOOK": "https://127.0.0.1:9/",
    }
    with serving(tmp_path / "home", model_folder, **env) as running:
        admin = Person(running, "ann", {"Authorization": f"Bearer {SECRETS['STUDIO_TOKEN']}"})
        admin.ask("compare", prompt="a red circle", seeds="7", steps=tiny.STEPS, guidance=4)
        ((sample,),) = admin.rows("SELECT id FROM samples WHERE method = 'none' LIMIT 1")
        admin.ask("set_score", sample=sample, word=1, score=5)  # goes to the webhook
        admin.ask("push", repository="ann/words", token=GIVEN, private=True)
        admin.ask("backup")
        admin.ask("export", format="jsonl")
        admin.http.get("/", params={"token": SECRETS["STUDIO_TOKEN"]})
        started = admin.ask("start_training", kind="warmup", config={"prompts": 8, "warmup_steps": 1})
        for _ in range(600):
            ((state,),) = admin.rows("SELECT state FROM runs WHERE kind = 'warmup'")
            if state not in ("queued", "running"):
                break
            time.sleep(0.1)
        pages = [admin.http.get(path).text for path in ("/", "/config")] + [
            json.dumps(admin.ask(name)) for name in ("status", "webhook", "audit", "runs")
        ]
    assert state == "done", started
    assert any(SECRETS["STUDIO_SCORER_KEY"] in line for line in Telltale.asked)
    written = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert {path.suffix for path in written} >= {".db", ".log", ".png"} and len(written) > 10
    for secret in (*SECRETS.values(), GIVEN):
        assert [path for path in written if secret.encode() in path.read_bytes()] == [], secret
        assert not any(secret in page for page in pages), secret
