"""Uploads are bounded together, and what Gradio keeps goes within the hour, whoever left it."""

import asyncio
import os
from pathlib import Path

import pytest

from studio import places
from studio.limits import MAX_UPLOAD
from studio.uploads import ALL, HOUR, KEPT, LOOK, VISITOR, Uploads, sweep


class Server:
    """In place of Gradio's app, behind the middleware: it takes everything. Its clock is the test's."""

    def __init__(self):
        self.now, self.taken = 0.0, 0
        self.uploads = Uploads(self, clock=lambda: self.now)

    async def __call__(self, scope, receive, send):
        self.taken += 1
        await send({"type": "http.response.start", "status": 200, "headers": []})

    def post(self, length, path="/gradio_api/upload", host="9.9.9.9", method="POST"):
        headers = [] if length is None else [(b"content-length", str(length).encode())]
        scope = {
            "type": "http",
            "method": method,
            "path": path,
            "headers": headers,
            "client": (host, 1),
            "query_string": b"",
        }
        sent = []

        async def send(message):
            sent.append(message)

        asyncio.run(self.uploads(scope, None, send))
        return sent[0]["status"], b"".join(m.get("body", b"") for m in sent).decode()


@pytest.mark.parametrize(
    ("length", "status", "says"),
    [
        (MAX_UPLOAD, 200, ""),
        (MAX_UPLOAD + 10**6, 413, "larger than 5 MB"),
        (10**18, 413, "larger than 5 MB"),
        (None, 411, "length"),
        ("-1", 411, "length"),
        ("1e3", 411, "length"),
        ("٣", 411, "length"),
    ],
)
def test_a_request_of_many_files_is_bounded_as_one_file_is(length, status, says):
    server = Server()
    found = server.post(length)
    assert found[0] == status and says in found[1] and server.taken == (status == 200)


@pytest.mark.parametrize(
    "path", ["/gradio_api/upload", "/gradio_api/upload/", "/endpoints/gradio_api/upload"]
)
def test_uploads_of_an_hour_have_a_bound_for_each_visitor_and_for_all(path):
    server = Server()
    while (found := server.post(MAX_UPLOAD, path))[0] == 200:
        pass
    assert server.taken == VISITOR // MAX_UPLOAD
    assert (
        found == (429, found[1])
        and "You have uploaded 100 MB within an hour" in found[1]
        and "later" in found[1]
    )
    for n in range(60):
        server.post(MAX_UPLOAD, path, host=f"9.9.9.{n}")
    assert server.taken == ALL // MAX_UPLOAD
    assert "All visitors together have uploaded 200 MB" in server.post(MAX_UPLOAD, path, host="8.8.8.8")[1]
    server.now += HOUR + 1
    assert server.post(MAX_UPLOAD, path)[0] == 200


def test_nothing_else_is_counted():
    server = Server()
    for _ in range(100):
        assert server.post(10**9, "/gradio_api/queue/join")[0] == 200
        assert server.post(None, method="GET")[0] == 200


def test_what_nobody_asked_for_goes_and_all_else_stays(tmp_path):
    made = {name: tmp_path / name / "a.png" for name in ("one", "two")}
    for path in made.values():
        path.parent.mkdir()
        path.write_bytes(b"x")
    sweep(tmp_path)
    assert all(path.exists() for path in made.values())
    sweep(tmp_path, {str(made["two"])}, age=-1)
    assert not made["one"].parent.exists() and made["two"].exists()
    os.symlink("/etc/passwd", tmp_path / "two" / "link")
    sweep(tmp_path, age=-1)
    assert list(tmp_path.iterdir()) == [] and Path("/etc/passwd").exists()
    sweep(tmp_path / "nowhere")
    assert KEPT + LOOK < HOUR


def test_each_home_has_a_folder_of_its_own_from_which_may_be_served(tmp_path):
    one, other = (places.transient(tmp_path / name) for name in ("a", "b"))
    assert (
        one != other
        and not one.is_relative_to(places.temporary())
        and one == places.transient(tmp_path / "a")
    )
