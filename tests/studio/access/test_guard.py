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


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Host": "Studio.Example"}, 200),
        ({"Host": "studio.example", "Origin": "https://studio.example"}, 200),
        (
            {"Host": "127.0.0.1:7860", "Origin": "https://studio.example"},
            200,
        ),  # a proxy that hands its own name on
        ({"Host": "127.0.0.1:7860", "X-Forwarded-Host": "studio.example, 10.0.0.5:80"}, 200),
        ({"Host": "10.0.0.5", "Origin": "http://10.0.0.5:3000"}, 200),
        ({"Host": "127.0.0.1:7860", "X-Forwarded-Host": "studio.example, evil.example"}, 403),
        ({"Host": "sub.studio.example"}, 403),
        ({"Host": "studio.example", "Origin": "https://evil.example"}, 403),
        ({"Host": "10.0.0.6"}, 403),
    ],
    ids=str,
)
def test_names_in_the_setting_are_the_studios_and_their_pages_may_use_it(headers, status):
    _, ask = guarded(Settings(hosts="studio.example, 10.0.0.5"))
    assert ask(headers).status_code == status


@pytest.mark.parametrize(("name", "status"), [("abc.gradio.live", 200), ("evil.gradio.live", 403)])
def test_a_public_link_is_a_name_of_the_studio(name, status):
    _, ask = guarded(env={"GRADIO_SHARE": "true"}, shared="https://abc.gradio.live")
    own = {"Host": name, "Origin": f"https://{name}"}
    assert ask(own).status_code == status
    assert ask({"Host": "abc.gradio.live", "Origin": "https://evil.gradio.live"}).status_code == 403


def test_a_refusal_is_a_sentence_that_says_what_to_do():
    _, ask = guarded()
    assert ask({"Host": "evil.example"}).text == (
        "This studio does not go by the name 'evil.example': open it by another one, or who runs it adds that name to "
        "STUDIO_HOSTS."
    )
    assert ask({"Origin": "null"}).text.startswith("A page of 'null' may not use this studio")
    assert ask({"Host": "ü<script>".encode() * 99}).text.isascii()


@pytest.mark.parametrize("names", [[], [b"localhost", b"evil.example"], [b"localhost", b"localhost"]])
def test_a_request_has_come_by_one_name(names):
    access, _ = guarded()
    scope = {"type": "http", "headers": [(b"host", name) for name in names], "query_string": b""}
    assert "by which one name" in answered(access, scope)[1]["body"].decode()


def answered(access, scope):
    """What a guard sends, where nothing behind it may be reached."""
    sent = []

    async def send(message):
        sent.append(message)

    finished(Guard(None, access)(scope, None, send))
    return sent


def test_a_foreign_page_opens_no_socket():
    access, _ = guarded()
    scope = {
        "type": "websocket",
        "headers": [(b"host", b"localhost"), (b"origin", b"http://evil.example")],
        "query_string": b"",
    }
    assert [message["type"] for message in answered(access, scope)] == ["websocket.close"]


@pytest.mark.parametrize(
    ("headers", "shown"),
    [
        ({"Authorization": f"Bearer {TOKEN}"}, True),
        ({"Authorization": f"bearer {TOKEN}"}, True),
        ({"Cookie": f"other=1; studio-token-7860={TOKEN}"}, True),
        ({"Cookie": f"studio-token-7861={TOKEN}"}, False),
        ({"Cookie": "studio-token-7860=" + TOKEN.upper()}, False),
        ({"Cookie": "studio-token-7860="}, False),
        ({"Authorization": TOKEN}, False),
        ({"Authorization": "Bearer "}, False),
        ({"Authorization": "Bearer none"}, False),
        ({}, False),
    ],
    ids=str,
)
def test_the_token_comes_in_a_header_or_in_the_cookie_of_this_studio(headers, shown):
    assert guarded(Settings(token=TOKEN))[1](headers).text == str(shown)


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
