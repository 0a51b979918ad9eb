"""HTTP connection to an OpenAI-compatible server: requests with retries, bounded in time and size.

Only the address itself is contacted: redirects are not followed, and neither proxies nor logins are taken from the
environment. The key is sent in one header and appears in no message. Answers are requested uncompressed; gzip or deflate,
which some gateways send regardless, is unpacked within the bound on the size.
"""

from __future__ import annotations

import asyncio
import random
import re
import zlib
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

import httpx

from core.scoring.answers import Unreadable

BUSY = (408, 425, 429)  # retried, like all from 500 on
CONNECT_SECONDS = 10.0


class Silent(Exception):
    """No answer after all retries; the message says why."""


class Connection:
    """Requests to `address` (as `check_address` gives it). Use as `async with connection.open() as client`.

    A request may take `timeout` seconds. Up to `retries` more follow, after pauses that double from `back_off` seconds up to
    `longest_pause`, or are as long as the server asks within that. At most `longest` bytes of an answer are read.
    """

    def __init__(
        self,
        address: str,
        key: str = "",
        *,
        parallel: int = 8,
        retries: int = 4,
        back_off: float = 0.5,
        longest_pause: float = 30.0,
        timeout: float = 60.0,
        longest: int = 1 << 18,
    ) -> None:
        if not (key.isascii() and key.isprintable()):
            raise ValueError("The scorer's key has characters that no key has: set STUDIO_SCORER_KEY again.")
        if parallel < 1 or not 0 <= retries <= 20:
            raise ValueError(
                f"The scorer needs 1 or more requests in flight and 0 to 20 retries, not {parallel} and {retries}."
            )
        self.address, self.key, self.parallel, self.retries = address, key, parallel, retries
        self.back_off, self.longest_pause, self.timeout, self.longest = (
            back_off,
            longest_pause,
            timeout,
            longest,
        )
        self._headers = {"Accept-Encoding": "identity"} | ({"Authorization": f"Bearer {key}"} if key else {})
        self._tls = httpx.create_ssl_context()

    def open(self) -> httpx.AsyncClient:
        """A client with no more than `parallel` connections."""
        return httpx.AsyncClient(
            headers=self._headers, verify=self._tls, trust_env=False, follow_redirects=False,
            timeout=httpx.Timeout(self.timeout, connect=min(CONNECT_SECONDS, self.timeout)),
            limits=httpx.Limits(max_connections=self.parallel),
        )  # fmt: skip

    async def send(
        self, client: httpx.AsyncClient, method: str, path: str, payload: dict[str, Any] | None = None
    ) -> tuple[int, bytes]:
        """Status and body of the first answer that needs no retry; Silent after all retries."""
        why, requested = "", 0.0
        for attempt in range(self.retries + 1):
            if attempt:
                await asyncio.sleep(self.pause(attempt, requested))
            requested = 0.0
            try:
                async with (
                    asyncio.timeout(self.timeout),
                    client.stream(method, f"{self.address}/v1/{path}", json=payload) as response,
                ):
                    if response.status_code < 500 and response.status_code not in BUSY:
                        return response.status_code, await self._body(response)
                    why, requested = f"status {response.status_code}", retry_after(response.headers)
            except (TimeoutError, httpx.TimeoutException):
                why = f"nothing within {self.timeout:g} seconds"
            except httpx.TransportError as error:
                why = "no connection" if isinstance(error, httpx.ConnectError) else "the connection broke"
        raise Silent(why)

    async def _body(self, response: httpx.Response) -> bytes:
        """The unpacked body; Unreadable once it exceeds `longest` bytes, without reading or unpacking the rest."""
        body = bytearray()
        async for chunk in response.aiter_raw():
            body += chunk
            if len(body) > self.longest:
                raise _too_long(self.longest)
        return unpacked(bytes(body), response.headers.get("content-encoding", ""), self.longest)

    def pause(self, attempt: int, requested: float = 0.0) -> float:
        """Seconds before retry `attempt` (1, 2, ...): exponential back-off with jitter, or what the server requests; capped."""
        back_off = self.back_off * 2 ** (attempt - 1) * random.uniform(0.5, 1)
        return min(self.longest_pause, max(back_off, requested))


def unpacked(body: bytes, encoding: str, longest: int) -> bytes:
    """Decompress a body of a Content-Encoding; Unreadable where that is damaged or exceeds `longest` bytes.

    gzip is recognised by its first bytes, as gateways set the header wrongly; deflate with or without zlib's header."""
    encoding = encoding.strip().lower()
    if body[:2] == b"\x1f\x8b":
        window = 31
    elif not body or encoding in ("", "identity", "gzip", "x-gzip"):
        return body
    elif encoding == "deflate":
        window = 15 if body[0] & 15 == 8 and int.from_bytes(body[:2]) % 31 == 0 else -15
    else:
        raise Unreadable(f"the answer is packed as {encoding[:20]!r}, not as gzip or deflate")
    content = b""
    try:
        while body:  # a gzip stream may have several members
            unpacker = zlib.decompressobj(window)
            content += unpacker.decompress(body, longest + 1 - len(content))
            if len(content) > longest:
                raise _too_long(longest)
            if not unpacker.eof:
                raise zlib.error
            body = unpacker.unused_data
    except zlib.error:
        raise Unreadable("the answer is packed and damaged") from None
    return content


def _too_long(longest: int) -> Unreadable:
    return Unreadable(f"the answer is longer than {longest} bytes")


def retry_after(headers: httpx.Headers) -> float:
    """Seconds of a Retry-After header, a number or a date; 0 where it is absent or unreadable."""
    text = headers.get("retry-after", "").strip()
    if re.fullmatch(r"[0-9]{1,9}", text):
        return float(text)
    try:
        moment = parsedate_to_datetime(text)
    except (ValueError, OverflowError):
        return 0.0
    return max(0.0, (moment.replace(tzinfo=moment.tzinfo or UTC) - datetime.now(UTC)).total_seconds())


def check_address(text: str) -> str:
    """A server's address without a trailing slash or /v1; ValueError, which does not repeat it, for an unusable one."""
    try:
        url = httpx.URL(text.strip())
        good = url.scheme in ("http", "https") and url.host and 0 < (url.port or 80) < 1 << 16
    except (httpx.InvalidURL, ValueError):
        good = False
    if not good or "@" in text or url.query or url.fragment:
        raise ValueError(
            "The scorer's address cannot be used: write it as http://host:8000, without a name, a password or a key in "
            "it. A key goes into STUDIO_SCORER_KEY."
        )
    path = url.path.rstrip("/").removesuffix("/v1").rstrip("/")
    return str(url.copy_with(path=path or "/")).rstrip("/")
