"""Access control of requests off a Space: allowed host names and origins, and the administrators' token.

Any page that is open in a browser may send requests to this machine. Two headers, which no page can forge, tell them apart:
`Host` is the name by which the browser came here (under DNS rebinding it is a stranger's), and `Origin` the site whose
page asks. A program that is no browser (curl, gradio_client, MCP) sends no `Origin`.

The token is given once, as `?token=` in the link that the console prints, and kept by the browser in a cookie that no
script can read; programs send `Authorization: Bearer TOKEN`. ``limits.may_manage`` says what it permits.
"""

from __future__ import annotations

import hmac
import secrets
from collections.abc import Mapping
from typing import TYPE_CHECKING
from urllib.parse import parse_qsl, quote, urlencode, urlsplit

from starlette.requests import HTTPConnection
from starlette.responses import PlainTextResponse, RedirectResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from studio.access import hosts, limits

if TYPE_CHECKING:
    from studio.settings import Settings

SHOWN = "studio.token"  # key of an ASGI scope: whether the request came with the token
COOKIE_SECONDS = 365 * 86_400
NO_HOST = "The request does not say by which one name it came here (the header Host)."
HOST = "This studio does not go by the name {name}: open it by another one, or who runs it adds that name to STUDIO_HOSTS."
SITE = "A page of {site} may not use this studio: open the studio itself, or who runs it adds that page's host to STUDIO_HOSTS."
NOT_THE_TOKEN = (
    "That is not the token of this studio: copy the whole link that its console printed at the last start."
)


class Access:
    """The host names of one studio and its token, which is new at every start unless STUDIO_TOKEN sets it."""

    def __init__(self, settings: Settings, env: Mapping[str, str] | None = None) -> None:
        self.made = settings.token in ("", "none")
        self.token = secrets.token_hex(16) if self.made else settings.token
        self.needed = limits.token_needed(settings, env)
        name = hosts.bound(env)
        ip = hosts.address(name)
        self.any = ip is not None and ip.is_unspecified  # 0.0.0.0 or ::, every address of this machine
        self.listed = set(settings.host_names)  # their pages may use the studio at any port
        self.names = {name, *self.listed}

    def opened(self, local: str | None, shared: str | None) -> None:
        """Print the administrators' link to each address of the page; the host of a public link becomes an allowed one."""
        for address in filter(None, (local, shared)):
            if self.needed:
                token = self.token if self.made else "(that of STUDIO_TOKEN)"
                print(f"For administrators: {address.rstrip('/')}/?token={token}", flush=True)
        if shared and (name := urlsplit(shared).hostname):
            self.names.add(name)

    def refusal(self, request: HTTPConnection) -> str:
        """'' for an allowed request, else the sentence that says why not."""
        names = request.headers.getlist("host")
        if len(names) != 1:
            return NO_HOST
        for header in request.headers.getlist("x-forwarded-host"):  # of a proxy, which then is on the network
            names += header.split(",")
        authorities = []
        for name in names:
            authority = hosts.authority(name)
            if authority is None or not self._allows(authority[0]):
                return HOST.format(name=ascii(name[:100]))
            authorities.append(authority)
        for site in request.headers.getlist("origin"):
            if not self._same_site(hosts.origin(site), authorities):
                return SITE.format(site=ascii(site[:100]))
        return ""

    def _allows(self, name: str) -> bool:
        return hosts.is_loopback(name) or name in self.names or (self.any and bool(hosts.address(name)))

    def _same_site(self, site: tuple[str, str] | None, authorities: list[tuple[str, str]]) -> bool:
        """Whether a site is the studio itself: under the same name and port, or one that STUDIO_HOSTS names."""
        if site is None:
            return False
        if site[0] in self.listed:
            return True
        local = hosts.is_loopback(site[0])
        names = [name for name, port in authorities if port == site[1]]
        return site[0] in names or (local and any(map(hosts.is_loopback, names)))

    def is_token(self, given: str) -> bool:
        return hmac.compare_digest(given.encode(errors="replace"), self.token.encode())

    def shown(self, request: HTTPConnection) -> bool:
        """Whether a request has the token: in its cookie, or in a program's header."""
        kind, _, given = request.headers.get("authorization", "").partition(" ")
        if kind.lower() == "bearer" and self.is_token(given.strip()):
            return True
        return self.is_token(request.cookies.get(_cookie(request), ""))

    def welcome(self, request: HTTPConnection) -> RedirectResponse:
        """A redirect to the same address without the token, which is set as a cookie."""
        others = [pair for pair in _query(request) if pair[0] != "token"]
        page = quote(request.scope["path"].rpartition("/")[2])
        url = f"./{page}{'?' + urlencode(others) if others else ''}"
        answer = RedirectResponse(url, 303, {"Cache-Control": "no-store", "Referrer-Policy": "no-referrer"})
        secure = request.scope["scheme"] == "https"
        answer.set_cookie(
            _cookie(request), self.token, COOKIE_SECONDS, secure=secure, httponly=True, samesite="strict"
        )
        return answer


class Guard:
    """ASGI middleware that checks every request by `Access` first."""

    def __init__(self, app: ASGIApp, access: Access) -> None:
        self.app, self.access = app, access

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket"):
            await self.app(scope, receive, send)
            return
        request, access = HTTPConnection(scope), self.access
        why_not = access.refusal(request)
        token = dict(_query(request)).get("token") if access.needed and not why_not else None
        if why_not and scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1008, "reason": ""})
        elif why_not:
            await PlainTextResponse(why_not, 403)(scope, receive, send)
        elif token is not None and scope.get("method") == "GET":
            good = access.is_token(token)
            answer = access.welcome(request) if good else PlainTextResponse(NOT_THE_TOKEN, 403)
            await answer(scope, receive, send)
        else:
            scope[SHOWN] = access.needed and access.shown(request)
            await self.app(scope, receive, send)


def _query(request: HTTPConnection) -> list[tuple[str, str]]:
    return parse_qsl(request.scope["query_string"].decode("latin-1"), keep_blank_values=True)


def _cookie(request: HTTPConnection) -> str:
    """The cookie's name, with the port: browsers send a cookie to every port of a machine, which may be another studio's."""
    authority = hosts.authority(request.headers["host"])
    return f"studio-token-{authority[1] if authority else ''}"
