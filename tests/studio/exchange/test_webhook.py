"""The webhook against a real server on this machine: at least once, in order, signed, bounded, and in nobody's way."""

import contextlib
import hashlib
import hmac
import json
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import SimpleNamespace

import pytest

from data.store import StoreError
from studio.access.hosts import check_webhook
from studio.exchange import webhook
from studio.exchange.webhook import Failed, Follower
from studio.settings import Settings


class Receiver:
    """What was posted, and how each request is answered: by the next of `answers`, else 200."""

    def __init__(self):
        receiver, self.got, self.answers = self, [], []

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self):
                body = self.rfile.read(int(self.headers["Content-Length"]))
                receiver.got.append((self.path, dict(self.headers), body))
                answer = receiver.answers.pop(0) if receiver.answers else 200
                if callable(answer):
                    return answer(self)
                self.send_response(answer)
                self.send_header("Content-Length", "0")
                if 300 <= answer < 400:
                    self.send_header("Location", "/elsewhere")
                self.end_headers()

            def log_message(self, *given):
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        threading.Thread(target=self.server.serve_forever, args=(0.02,), daemon=True).start()
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}/hook"

    def scores(self):
        return [score for _, _, body in self.got for score in json.loads(body)["scores"]]


@pytest.fixture
def receiver():
    made = Receiver()
    yield made
    made.server.shutdown()
    made.server.server_close()


@pytest.fixture
def sample(store, sample_row):
    (id,) = store.samples.add([sample_row()])
    return id


@pytest.fixture
def follower(store, sample, receiver):
    """A follower that begins after what was there, and one score to post."""
    follower = Follower(store, receiver.url)
    assert follower.step() is False
    store.scores.set(sample, 1, 3, "ann")
    return follower


def test_nothing_is_sent_that_a_damaged_store_could_not_note(store, follower, receiver):
    store.database.damage = "The database studio.db is damaged."
    for _ in range(2):
        with pytest.raises(StoreError, match="is damaged"):
            follower.step()
    assert receiver.got == []


def test_only_what_comes_after_the_first_start_is_posted_each_event_once(store, sample, receiver):
    store.scores.set(sample, 1, 3, "ann", word="red")
    follower = Follower(store, receiver.url, "s3cret")
    assert follower.step() is False and receiver.got == []
    store.scores.set(sample, 1, 7, "ann")
    store.scores.undo(sample, "ann")
    store.scores.add([{"sample": sample, "word_index": 1, "source": "vlm", "score": 2}])
    while follower.step():
        pass
    assert len(receiver.got) == 1
    path, headers, body = receiver.got[0]
    said = json.loads(body)
    assert (path, said["event"], said["version"], said["first"], said["last"]) == ("/hook", "scores", 1, 2, 3)
    assert [(s["who"], s["word"], s["score"]) for s in said["scores"]] == [
        ("ann", "red", 7),
        ("ann", "red", 3),
    ]
    assert said["scores"][1]["undoes"] == said["scores"][0]["id"]
    assert headers["X-Studio-Signature"] == "sha256=" + hmac.new(b"s3cret", body, hashlib.sha256).hexdigest()
    assert headers["X-Studio-Delivery"].endswith("-2-3")
    again = Follower(store, receiver.url)  # another process goes on where this one was
    assert again.step() is False and len(receiver.got) == 1


def test_many_scores_go_out_in_batches_and_in_order(store, sample, receiver, monkeypatch):
    monkeypatch.setattr(webhook, "BATCH", 7)
    follower = Follower(store, receiver.url)
    follower.step()
    for i in range(20):
        store.scores.set(sample, i % 5, i % 10, f"p{i}")
    while follower.step():
        pass
    assert [len(json.loads(body)["scores"]) for _, _, body in receiver.got] == [7, 7, 6]
    seqs = [score["seq"] for score in receiver.scores()]
    assert seqs == sorted(seqs) and len(set(seqs)) == 20
    assert "X-Studio-Signature" not in receiver.got[0][1]


@pytest.mark.parametrize(
    ("answer", "says"), [(500, "status 500"), (404, "status 404"), (301, "redirects are not followed")]
)
def test_a_batch_that_is_not_taken_is_sent_again_and_no_redirect_is_followed(
    follower, receiver, answer, says
):
    receiver.answers = [answer]
    with pytest.raises(Failed, match=says):
        follower.step()
    assert follower.step() is True
    assert [path for path, _, _ in receiver.got] == ["/hook", "/hook"]
    assert receiver.got[0][2] == receiver.got[1][2]


def endless(handler):
    handler.send_response(200)
    handler.end_headers()
    with contextlib.suppress(OSError):
        while True:
            handler.wfile.write(b"x" * 65536)


def test_an_answer_that_never_ends_is_cut_off(follower, receiver):
    receiver.answers = [endless]
    began = time.monotonic()
    assert follower.step() is True
    assert time.monotonic() - began < 5


def test_the_thread_tries_again_says_what_is_wrong_and_gets_through(store, sample, receiver):
    store.cursors.move(webhook.NAME)
    receiver.answers = [503, lambda handler: handler.connection.close(), 500]
    follower = Follower(store, receiver.url, look=0.01, pause=0.05).start()
    try:
        store.scores.set(sample, 1, 3, "ann")  # returns at once, whatever the server does
        seen, until = [], time.monotonic() + 10
        while (not follower.sent or follower.problem) and time.monotonic() < until:
            seen.append(follower.problem)
            time.sleep(0.005)
        assert any("do not reach the webhook" in problem for problem in seen)
        assert (follower.problem, follower.sent, len(receiver.got)) == ("", 1, 4)
    finally:
        follower.stop()


def test_nobody_listens_and_the_cursor_stays(store, sample):
    follower = Follower(store, "http://127.0.0.1:9/x")
    follower.step()
    store.scores.set(sample, 1, 3, "ann")
    with pytest.raises(Failed, match="cannot be reached"):
        follower.step()
    assert store.cursors.corrections_after(store.cursors.get(webhook.NAME))[0]


@pytest.mark.parametrize(
    "address",
    ["http://example.com/x", "ftp://x", "https://", "https://me:pw@host/x", "file:///etc/passwd", "https://h/#a", "x" * 9,
     "http://localhost.evil.com/"],
)  # fmt: skip
def test_an_address_that_cannot_be_used_is_refused_and_not_repeated(address):
    with pytest.raises(ValueError, match="STUDIO_WEBHOOK cannot be used") as refused:
        Settings.from_env({"STUDIO_WEBHOOK": address})
    assert len(address) < 10 or address not in str(refused.value)
    for good in ("", "https://host/a?b=c", "http://localhost:8000/x", "http://[::1]:1/", "http://127.0.0.1/"):
        assert check_webhook(good) == good


def test_what_the_page_is_told_has_no_path_and_no_secret_of_the_address(store, sample, monkeypatch):
    settings = SimpleNamespace(webhook="https://hooks.example.com/T0/secret?key=1")
    found = webhook.status(SimpleNamespace(settings=settings, store=store))
    assert found["address"] == "https://hooks.example.com"
    assert (found["on"], found["waiting"]) == (False, 0)
