"""A visitor's share of the queue for the models, so that nobody can fill it alone.

Gradio (6.31) limits the queue as a whole, so whoever fills it turns everybody away. Here one page, or one script, may have
an eighth of it waiting, and one account or address half of it: a session is whatever its client says; an address is harder
to multiply, but many people may share one.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from studio.access import hosts, identity

MODELS = "models"  # the concurrency id of what computes: one at a time
CARRYING = "carrying"  # likewise of exports and imports of the whole store
PAGE, VISITOR = 8, 2  # the parts of the queue that one page and one visitor may fill: an eighth, a half


def bound(queue: Any, size: int) -> None:
    """Make Gradio's queue refuse, with a sentence, requests beyond a visitor's share of `size` waiting ones."""
    push = queue.push

    async def pushed(body: Any, request: Any, username: str | None) -> Any:
        fn = queue.blocks.fns.get(body.fn_index)
        if fn is not None and fn.concurrency_id == MODELS:
            waiting = queue.event_queue_per_concurrency_id.get(MODELS)
            if why := refusal(waiting.queue if waiting else [], body.session_hash, request, size):
                return False, why, "error"
        return await push(body=body, request=request, username=username)

    queue.push = pushed


def refusal(waiting: list[Any], session: str | None, request: Any, size: int) -> str:
    """'' if one more request may wait, else the sentence that says why not. waiting: Gradio's events. Requests without a
    session count as one page for each address."""
    who = visitor(request)
    mine = [event for event in waiting if visitor(event.request) == who]
    page = [event for event in mine if event.session_hash == (session or event._id)]
    for source, count, share in (
        ("this page", len(page), PAGE),
        ("your account or address", len(mine), VISITOR),
    ):
        if count >= max(1, size // share):
            return (
                f"{count} requests for images from {source} are waiting already, and others want theirs too: ask again when "
                "one of them is done."
            )
    return ""


def visitor(request: Any, env: Mapping[str, str] | None = None) -> str:
    """The signed-in account, else the address: behind a proxy the last public one of x-forwarded-for, as the client can
    write those before it."""
    if identity.oauth_enabled(env) and "session" in request.scope:
        account = request.session.get("oauth_info", {}).get("userinfo", {}).get("preferred_username")
        if account:
            return f"@{account}"
    host = request.client.host if request.client else ""
    if identity.on_space(env) or hosts.is_loopback(host):
        listed = [text.strip() for text in request.headers.get("x-forwarded-for", "").split(",")]
        return next((text for text in reversed(listed) if (ip := hosts.address(text)) and ip.is_global), host)
    return host
