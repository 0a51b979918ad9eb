"""Uploads are bounded together, and what Gradio keeps goes within the hour, whoever left it."""

import asyncio
import contextlib
import itertools
import os
from pathlib import Path

import pytest
from starlette.applications import Starlette
from starlette.requests import ClientDisconnect
from starlette.responses import Response
from starlette.routing import Route

from studio.access import places
from studio.access.guard import SHOWN
from studio.access.limits import MAX_UPLOAD
from studio.access.uploads import ALL, HOUR, KEPT, LOOK, SLACK, VISITOR, Uploads, sweep
from studio.pages import shared
from tests.awaiting import finished

METHODS = ["POST", "PUT", "PATCH"]
ZEROS = bytes(MAX_UPLOAD + SLACK)


class Server:
    """In place of Gradio's app, behind the middleware: it reads all that is sent. Its clock is the test's."""

    def __init__(self):
        self.now, self.taken = 0.0, 0
        routes = [Route("/{path:path}", self.take, methods=["GET", *METHODS])]
        self.uploads = Uploads(Starlette(routes=routes), lambda: self.now)

    async def take(self, request):
        async for _ in request.stream():
            pass
        self.taken += 1
        return Response()

    def post(self, length, path="/gradio_api/upload", **given):
        return finished(self.posted(length, path, **given))

    async def posted(self, length, path="/gradio_api/upload", host="9.9.9.9", method="POST", arrives=None, token=False,
                     headers=()):  # fmt: skip
        """The status and the text of the answer. arrives: the sizes of the pieces that the body comes in, before the client
        hangs up; all of it in one piece where none are given."""
        stated = [] if length is None else [(b"content-length", str(length).encode())]
        pieces, sent = list(arrives or [length if isinstance(length, int) else 0]), []
        missing = sum(pieces) < int(length or 0) if arrives else False
        scope = {"type": "http", "method": method, "path": path, "headers": [*stated, *headers], "client": (host, 1),
                 "query_string": b"", SHOWN: token}  # fmt: skip

        async def receive():
            await asyncio.sleep(0)
            if not pieces:
                return {"type": "http.disconnect"}
            body = ZEROS[: pieces.pop(0)]
            return {"type": "http.request", "body": body, "more_body": bool(pieces) or missing}

        async def send(message):
            sent.append(message)

        with contextlib.suppress(ClientDisconnect):
            await self.uploads(scope, receive, send)
        return sent[0]["status"], b"".join(m.get("body", b"") for m in sent).decode()


def test_uploads_at_the_same_time_keep_to_the_bound():
    server, piece = Server(), 2**16

    async def together():
        pieces = [piece] * (MAX_UPLOAD // piece)
        return await asyncio.gather(*(server.posted(MAX_UPLOAD, arrives=pieces) for _ in range(40)))

    found = finished(together())
    assert {code for code, _ in found} <= {200, 429} and any("You have uploaded" in text for _, text in found)
    assert server.uploads.minutes[0][1]["9.9.9.9"] <= VISITOR


OTHERS = ["queue/join", "component_server", "component_server/", "process_recording", "run/predict", "mcp/"]


@pytest.mark.parametrize(
    ("length", "status", "says"),
    [(MAX_UPLOAD, 200, ""), (MAX_UPLOAD + 10**6, 413, "larger than 5 MB"), (10**18, 413, "larger than 5 MB"),
     (None, 411, "length"), ("-1", 411, "length"), ("1e3", 411, "length"), ("٣", 411, "length")],
)  # fmt: skip
def test_a_request_of_many_files_is_bounded_as_one_file_is(length, status, says):
    server = Server()
    code, text = server.post(length)
    assert code == status and says.lower() in text.lower() and server.taken == (status == 200)


@pytest.mark.parametrize("path", OTHERS)
def test_every_other_body_is_bounded_too_but_not_counted(path):
    server, path = Server(), f"/gradio_api/{path}"
    for method in METHODS:
        assert server.post(MAX_UPLOAD + SLACK + 1, path, method=method)[0] == 413 and server.taken == 0
    for n in range(ALL // MAX_UPLOAD + 1):
        assert server.post(MAX_UPLOAD, path, method=METHODS[n % 3])[0] == 200
    assert server.post(MAX_UPLOAD)[0] == 200
    for method in METHODS:
        assert server.post(None, path, method=method)[0] == 200  # without a body
    assert all(server.post(None, path, method="GET")[0] == 200 for path in ("/", "/gradio_api/upload"))


@pytest.mark.parametrize("path", ["upload", *OTHERS])
def test_a_body_in_chunks_is_refused_whatever_length_it_states_beside(path):
    server, chunked = Server(), [(b"transfer-encoding", b"chunked")]
    for length, method in itertools.product((5, None), METHODS):
        code, text = server.post(length, f"/gradio_api/{path}", method=method, headers=chunked)
        assert code == 411 and "Content-Length" in text and server.taken == 0


@pytest.mark.parametrize("path", ["/gradio_api/upload/", "/endpoints/gradio_api/upload"])
def test_uploads_of_an_hour_have_a_bound_for_each_visitor_and_for_all(path):
    server = Server()
    for n in range(
        2 * ALL // MAX_UPLOAD
    ):  # what is announced and does not arrive is not counted: it hangs up
        assert server.post(MAX_UPLOAD, path, host=f"9.9.9.{n % 2}", arrives=[100])[0] != 429
    taken = server.taken
    while (found := server.post(MAX_UPLOAD, path))[0] == 200:
        pass
    assert server.taken - taken in (VISITOR // MAX_UPLOAD, VISITOR // MAX_UPLOAD - 1)
    assert found[0] == 429 and "MB within an hour" in found[1] and "later" in found[1]
    assert "You have uploaded" in found[1]
    for n in range(60):
        server.post(MAX_UPLOAD, path, host=f"9.9.9.{n}")
    assert "All visitors together have uploaded" in server.post(MAX_UPLOAD, path, host="8.8.8.8")[1]
    assert server.post(0, path, host="8.8.8.8")[0] == 200
    server.now += HOUR + 1
    assert server.post(MAX_UPLOAD, path)[0] == 200
    for _ in range(500):  # small ones take no memory each
        assert server.post(0, path)[0] == server.post(1, path)[0] == 200
        server.now += 20
    minutes = server.uploads.minutes
    assert len(minutes) <= HOUR // 60 and all(len(sizes) == 2 for _, sizes in minutes)


def test_uploads_with_the_token_are_neither_counted_nor_refused_for_what_others_sent():
    server = Server()
    for _ in range(2 * VISITOR // MAX_UPLOAD):
        assert server.post(MAX_UPLOAD, token=True)[0] == 200
    while server.post(MAX_UPLOAD)[0] == 200:
        pass
    assert server.taken == 3 * VISITOR // MAX_UPLOAD
    assert server.post(MAX_UPLOAD, token=True)[0] == 200
    assert server.post(MAX_UPLOAD + SLACK + 1, token=True)[0] == 413


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
    one, other = (
        places.transient(tmp_path / name) for name in ("a", "b")
    )  # each home has a folder of its own
    assert one != other and not one.is_relative_to(places.temporary())


def test_a_file_to_download_lies_where_it_is_swept_and_nothing_else_is_left(tmp_path, monkeypatch):
    kept = tmp_path / "kept"
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(kept))
    copies = set()
    for _ in range(2):
        with shared.room() as folder:
            assert folder.is_relative_to(kept) and folder.stat().st_mode & 0o77 == 0
            (folder / "a.zip").write_bytes(b"x")
            copies.add(shared.download(folder / "a.zip"))
    with pytest.raises(ValueError, match="half"), shared.room() as folder:
        (folder / "b.zip").write_bytes(b"x")
        raise ValueError("half")
    (copy,) = copies
    assert [str(path) for path in kept.rglob("*") if path.is_file()] == [copy]
    sweep(kept, age=-1)
    assert list(kept.iterdir()) == []
