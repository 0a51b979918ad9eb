"""A visitor's share of the queue for the models, so that nobody keeps all others from it.

Gradio (6.31) bounds the queue as a whole, and who fills it turns everybody away. Here one page, or one script, may have an
eighth of it waiting, and one account or address half of it: a session is whatever its client says, an address is not as
easily multiplied, but many people may share one.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from typing import Any

from studio.access import identity

MODELS = "models"  # the concurrency id of what computes: one at a time
CARRYING = "carrying"  # likewise of what goes out of the store as a whole and comes into it

PAGE, VISITOR = 8, 2  # the parts of the queue that one page and one visitor may fill: an eighth, a half


def bound(queue: Any, size: int) -> None:
    """Let Gradio's queue of a page refuse what is more than a visitor's share of `size` waiting requests, with a sentence."""
    push = queue.push

    async def pushed(body: Any, request: Any, username: str | None) -> Any:
        fn = queue.blocks.fns.get(body.fn_index)
        if fn is not None and fn.concurrency_id == MODELS:
            waiting = queue.event_queue_per_concurrency_id.get(MODELS)
            said = refusal(waiting.queue if waiting else [], body.session_hash, request, size)
            if said:
                return False, said, "error"
        return await push(body=body, request=request, username=username)

    queue.push = pushed


def refusal(waiting: list[Any], session: str | None, request: Any, size: int) -> str:
    """'' where one request more may wait, else the sentence that says why not. waiting: Gradio's events; a request without
    a session is one of all such from its address."""
    who = visitor(request)
    mine = [event for event in waiting if visitor(event.request) == who]
    page = [event for event in mine if event.session_hash == (session or event._id)]
    for whose, count, part in (
        ("this page", len(page), PAGE),
        ("your account or address", len(mine), VISITOR),
    ):
        if count >= max(1, size // part):
            return (
                f"{count} requests for images from {whose} are waiting already, and others want theirs too: ask again when "
                "one of them is done."
            )
    return ""


def visitor(request: Any, env: Mapping[str, str] | None = None) -> str:
    """The account that signed in, else the address: behind a proxy the last public one that proxies wrote down, as those
    before it are the client's to write."""
    if identity.oauth_enabled(env) and "session" in request.scope:
        account = request.session.get("oauth_info", {}).get("userinfo", {}).get("preferred_username")
        if account:
            return f"@{account}"
    host = request.client.host if request.client else ""
    if identity.on_space(env) or _is(host, "is_loopback"):
        listed = request.headers.get("x-forwarded-for", "").split(",")
        return next((one.strip() for one in reversed(listed) if _is(one.strip(), "is_global")), host)
    return host


def _is(address: str, kind: str) -> bool:
    try:
        return getattr(ipaddress.ip_address(address), kind)
    except ValueError:
        return False
