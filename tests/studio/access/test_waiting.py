"""A visitor's share of the queue for the models."""

import uuid
from types import SimpleNamespace

import pytest

from studio.access.waiting import MODELS, bound, refusal, visitor
from tests.awaiting import finished

SPACE = {"SPACE_ID": "ann/studio"}


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
        ),  # 1.1.1.1 is the client's to write
        (asked("10.0.0.1", "nonsense, ,<b>"), SPACE, "10.0.0.1"),
        (asked("10.0.0.1"), SPACE, "10.0.0.1"),
        (asked("10.0.0.1", "8.8.8.8", "ann"), SPACE, "8.8.8.8"),  # without OAuth an account says nothing
    ],
)
def test_a_visitor_is_told_by_an_address_that_is_not_the_clients_to_write(request_, env, who):
    assert visitor(request_, env) == who


def test_a_signed_in_visitor_is_the_account(monkeypatch):
    for name in ("SPACE_ID", "OAUTH_CLIENT_ID", "OAUTH_CLIENT_SECRET"):
        monkeypatch.setenv(name, "x")
    monkeypatch.setenv("SYSTEM", "spaces")
    assert visitor(asked("10.0.0.1", "8.8.8.8", "ann")) == "@ann"


@pytest.mark.parametrize("size", [1, 2, 8, 32, 1000])
def test_a_page_may_fill_an_eighth_and_an_address_half_of_the_queue(size):
    waiting = []
    while not (said := refusal(waiting, "one", asked(), size)):
        waiting.append(event("one", asked()))
    assert len(waiting) == max(1, size // 8) and "this page" in said
    while not (said := refusal(waiting, str(len(waiting)), asked(), size)):
        waiting.append(event(str(len(waiting)), asked()))
    assert len(waiting) == max(1, size // 2) and ("address" in said or size < 4)
    assert refusal(waiting, "one", asked("8.8.8.8"), size) == ""


def test_requests_without_a_session_share_one_pages_part():
    waiting = [event(uuid.uuid4().hex, asked()) for _ in range(4)]
    assert "this page" in refusal(waiting, None, asked(), 32)
    assert refusal(waiting, "one", asked(), 32) == ""


def test_the_bound_is_of_what_the_models_do_alone():
    """A queue of Gradio's is the fake here: what it is asked, and that it is asked."""
    pushed = []

    async def push(**given):
        pushed.append(given["body"].fn_index)
        return True, "event", "success"

    fns = {0: SimpleNamespace(concurrency_id=MODELS), 1: SimpleNamespace(concurrency_id="files")}
    waiting = [event("one", asked()) for _ in range(4)]
    queue = SimpleNamespace(
        push=push,
        blocks=SimpleNamespace(fns=fns),
        event_queue_per_concurrency_id={MODELS: SimpleNamespace(queue=waiting)},
    )
    bound(queue, 32)
    answers = [
        finished(
            queue.push(
                body=SimpleNamespace(fn_index=index, session_hash="one"), request=asked(), username=None
            )
        )
        for index in (0, 1)
    ]
    assert answers[0][0] is False and "this page" in answers[0][1] and answers[1][0] is True and pushed == [1]
