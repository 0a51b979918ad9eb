"""A visitor's share of the queue for the models."""

import uuid
from types import SimpleNamespace

import pytest

from studio.access.waiting import refusal, visitor

SPACE = {"SPACE_ID": "ann/studio"}
OAUTH = {**SPACE, "SYSTEM": "spaces", "OAUTH_CLIENT_ID": "x", "OAUTH_CLIENT_SECRET": "y"}


def asked(host="9.9.9.9", forwarded="", account=""):
    """A request as the server sees it."""
    session = {"oauth_info": {"userinfo": {"preferred_username": account}}} if account else {}
    headers = {"x-forwarded-for": forwarded} if forwarded else {}
    return SimpleNamespace(
        client=SimpleNamespace(host=host), headers=headers, session=session, scope={"session": session}
    )


def event(session, request):
    return SimpleNamespace(session_hash=session, _id=session, request=request)


@pytest.mark.parametrize(
    ("request_", "env", "who"),
    [
        (asked("9.9.9.9", "8.8.8.8"), {}, "9.9.9.9"),  # no proxy: the header is the client's own
        (asked("192.168.0.7", "8.8.8.8"), {}, "192.168.0.7"),
        (asked("127.0.0.1", "8.8.8.8"), {}, "8.8.8.8"),
        (
            asked("10.0.0.1", "1.1.1.1, 8.8.8.8, 10.2.3.4"),
            SPACE,
            "8.8.8.8",
        ),  # the first is the client's to write
        (asked("10.0.0.1", "nonsense, ,<b>"), SPACE, "10.0.0.1"),
        (asked("10.0.0.1"), SPACE, "10.0.0.1"),
        (asked("10.0.0.1", "8.8.8.8", "ann"), SPACE, "8.8.8.8"),  # without OAuth an account says nothing
        (asked("10.0.0.1", "8.8.8.8", "ann"), OAUTH, "@ann"),
    ],
)
def test_a_visitor_is_told_by_an_address_that_is_not_the_clients_to_write_or_by_the_account(
    request_, env, who
):
    assert visitor(request_, env) == who


@pytest.mark.parametrize("size", [1, 2, 8, 32])
def test_a_page_may_fill_an_eighth_and_an_address_half_of_the_queue(size):
    waiting = []
    while not (said := refusal(waiting, "one", asked(), size)):
        waiting.append(event("one", asked()))
    assert len(waiting) == max(1, size // 8) and "this page" in said
    while not (said := refusal(waiting, str(len(waiting)), asked(), size)):
        waiting.append(event(str(len(waiting)), asked()))
    assert len(waiting) == max(1, size // 2) and ("address" in said or size < 4)
    assert refusal(waiting, "one", asked("8.8.8.8"), size) == ""
    nameless = [event(uuid.uuid4().hex, asked()) for _ in range(4)]
    assert "this page" in refusal(
        nameless, None, asked(), 32
    )  # those without a session share one page's part
    assert refusal(nameless, "one", asked(), 32) == ""
