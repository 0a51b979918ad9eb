"""The way in, asked as a server asks it; `tests/security/test_rights.py` walks it on a running studio."""

import httpx
import pytest
from starlette.responses import PlainTextResponse

from studio.access.guard import SHOWN, Access, Guard
from studio.settings import Settings
from tests.awaiting import finished

TOKEN = "a-token-that-was-given"


def guarded(settings=None, env=None, shared=None):
    """(access, client) of a guard. A fake stands for the studio: it says whether the token was shown, which is all that
    the guard tells it."""
    access = Access(settings or Settings(), env or {})
    access.opened("http://127.0.0.1:7860/", shared)

    async def studio(scope, receive, send):
        await PlainTextResponse(str(scope[SHOWN]))(scope, receive, send)

    def ask(headers, path="/", base="http://127.0.0.1:7860"):
        async def asked():
            transport = httpx.ASGITransport(Guard(studio, access))
            async with httpx.AsyncClient(transport=transport, base_url=base) as client:
                return await client.get(path, headers=headers)

        return finished(asked())

    return access, ask


def test_the_console_prints_the_link_for_administrators_where_they_need_one(capsys):
    guarded()
    assert capsys.readouterr().out == ""
    made, _ = guarded(env={"GRADIO_SHARE": "true"}, shared="https://abc.gradio.live")
    lines = capsys.readouterr().out.splitlines()
    assert lines == [
        f"For administrators: {address}/?token={made.token}"
        for address in ("http://127.0.0.1:7860", "https://abc.gradio.live")
    ]
    assert guarded()[0].token != guarded()[0].token
    capsys.readouterr()
    guarded(Settings(token=TOKEN))
    assert (
        capsys.readouterr().out == "For administrators: http://127.0.0.1:7860/?token=(that of STUDIO_TOKEN)\n"
    )
    guarded(Settings(token="none"), {"GRADIO_SERVER_NAME": "0.0.0.0"})
    assert capsys.readouterr().out == ""


OWN, PAGE = {"hosts": "studio.example, 10.0.0.5"}, "https://studio.example"


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Host": "Studio.Example"}, 200),
        ({"Host": "studio.example", "Origin": PAGE}, 200),
        ({"Host": "127.0.0.1:7860", "Origin": PAGE}, 200),  # a proxy that hands its own name on
        ({"Host": "127.0.0.1:7860", "X-Forwarded-Host": "studio.example, 10.0.0.5:80"}, 200),
        ({"Host": "10.0.0.5", "Origin": "http://10.0.0.5:3000"}, 200),
        ({"Host": "127.0.0.1:7860", "X-Forwarded-Host": "studio.example, evil.example"}, 403),
        ({"Host": "sub.studio.example"}, 403),
        ({"Host": "studio.example", "Origin": "https://evil.example"}, 403),
        ({"Host": "10.0.0.6"}, 403),
        ({"Host": "abc.gradio.live", "Origin": "https://abc.gradio.live"}, 200),  # the public link
        ({"Host": "evil.gradio.live", "Origin": "https://evil.gradio.live"}, 403),
        ({"Host": "abc.gradio.live", "Origin": "https://evil.gradio.live"}, 403),
    ],
    ids=str,
)
def test_names_in_the_setting_and_the_public_link_are_the_studios_and_their_pages_may_use_it(headers, status):
    _, ask = guarded(Settings(**OWN), {"GRADIO_SHARE": "true"}, "https://abc.gradio.live")
    assert ask(headers).status_code == status


def test_a_request_has_come_by_one_name_and_a_foreign_page_opens_no_socket():
    def answered(kind, *headers):
        """What a guard sends, where nothing behind it may be reached."""
        sent = []

        async def send(message):
            sent.append(message)

        scope = {"type": kind, "headers": headers, "query_string": b""}
        finished(Guard(None, guarded()[0])(scope, None, send))
        return sent

    host, evil = (b"host", b"localhost"), (b"host", b"evil.example")
    for headers in ((), (host, evil), (host, host)):
        assert "by which one name" in answered("http", *headers)[1]["body"].decode()
    found = answered("websocket", host, (b"origin", b"http://evil.example"))
    assert [message["type"] for message in found] == ["websocket.close"]


def test_the_token_comes_in_a_header_or_in_the_cookie_of_this_studio():
    _, ask = guarded(Settings(token=TOKEN))
    for headers in (
        {"Authorization": f"Bearer {TOKEN}"}, {"Authorization": f"bearer {TOKEN}"},
        {"Cookie": f"other=1; studio-token-7860={TOKEN}"},
    ):  # fmt: skip
        assert ask(headers).text == "True", headers
    for headers in (
        {}, {"Authorization": TOKEN}, {"Authorization": "Bearer "}, {"Authorization": "Bearer none"},
        {"Cookie": f"studio-token-7861={TOKEN}"}, {"Cookie": "studio-token-7860=" + TOKEN.upper()},
        {"Cookie": "studio-token-7860="},
    ):  # fmt: skip
        assert ask(headers).text == "False", headers


def test_a_refusal_is_a_sentence_that_says_what_to_do():
    _, ask = guarded()
    assert ask({"Host": "evil.example"}).text == (
        "This studio does not go by the name 'evil.example': open it by another one, or who runs it adds that name to "
        "STUDIO_HOSTS."
    )
    assert ask({"Origin": "null"}).text.startswith("A page of 'null' may not use this studio")
    assert ask({"Host": "ü<script>".encode() * 99}).text.isascii()


def test_the_link_leaves_the_token_in_a_cookie_and_the_rest_of_the_address_as_it_was():
    _, ask = guarded(Settings(token=TOKEN, hosts="studio.example"))
    found = ask({}, f"/a/end%20points?x=1&token={TOKEN}&y=%26", "https://studio.example")
    assert (found.status_code, found.headers["location"]) == (303, "./end%20points?x=1&y=%26")
    assert "Secure" in found.headers["set-cookie"]
    assert ask({}, "//evil.example/?token=" + TOKEN).headers["location"] == "./"
    assert "Secure" not in ask({}, f"/?token={TOKEN}").headers["set-cookie"]
    wrong = ask({}, "/?token=none")
    assert wrong.status_code == 403 and "set-cookie" not in wrong.headers
    assert guarded()[1]({}, "/?token=x").status_code == 200  # where no token is needed
