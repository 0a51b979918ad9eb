"""Host names: of the headers `Host` and `Origin`, of the address that the page is bound to, and of webhooks."""

from __future__ import annotations

import ipaddress
import os
import re
from collections.abc import Mapping

_AUTHORITY = re.compile(
    r"([0-9a-f]*:[0-9a-f:.]*:[0-9a-f:.]*)|(\[[0-9a-f:.]+\]|[a-z0-9_.-]+)(?::(\d{0,5}))?",
    re.IGNORECASE | re.ASCII,
)
_ORIGIN = re.compile(r"https?://(.+)", re.IGNORECASE)


def authority(text: str) -> tuple[str, str] | None:
    """(name, port) of NAME or NAME:PORT, the name in lower case without its final dot, an address in its shortest form;
    None for anything else, such as USER@NAME."""
    match = _AUTHORITY.fullmatch(text.strip())
    if match is None:
        return None
    name = (match[1] or match[2]).lower().removesuffix(".")
    if ip := address(name.strip("[]")):
        name = str(ip)
    elif ":" in name:
        return None
    return (name, match[3] or "") if name else None


def origin(text: str) -> tuple[str, str] | None:
    """(name, port) of an `Origin`; None for "null" and other sites without a name."""
    match = _ORIGIN.fullmatch(text.strip())
    return authority(match[1]) if match else None


def address(name: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    """A name of ``authority`` as an IP address, which no name server can rebind; None for another name."""
    try:
        return ipaddress.ip_address(name)
    except ValueError:
        return None


def is_loopback(name: str) -> bool:
    """Whether a name of ``authority`` is this machine's own loopback."""
    ip = address(name)
    return name == "localhost" or (ip is not None and ip.is_loopback)


def bound(env: Mapping[str, str] | None = None) -> str:
    """The name (of ``authority``) that the page is bound to; '' for an invalid one."""
    name = (os.environ if env is None else env).get("GRADIO_SERVER_NAME", "").strip() or "127.0.0.1"
    parsed = authority(name)
    return parsed[0] if parsed else ""


def on_network(env: Mapping[str, str] | None = None) -> bool:
    """Whether other machines can reach the page: it is bound to more than loopback, or shared by a public link."""
    env = os.environ if env is None else env
    return not is_loopback(bound(env)) or env.get("GRADIO_SHARE", "").lower() == "true"


def check_webhook(text: str) -> str:
    """The address, '' for none; ValueError, which does not repeat it, for an unusable one."""
    text = text.strip()
    if not text:
        return ""
    import httpx  # slow to import, and few have a webhook

    try:
        url = httpx.URL(text)
        local = url.scheme == "http" and url.host in ("localhost", "127.0.0.1", "::1")
        good = bool(url.host) and (url.scheme == "https" or local)
    except (httpx.InvalidURL, ValueError):
        good = False
    if not good or "@" in text or url.fragment or len(text) > 2000:
        raise ValueError(
            "STUDIO_WEBHOOK cannot be used: write it as https://host/path (http only for localhost), without a name or a "
            "password in it. A secret goes into STUDIO_WEBHOOK_SECRET."
        )
    return text
