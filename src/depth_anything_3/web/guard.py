"""Who may talk to a server: no page of another site, by whatever name it reaches us."""

from __future__ import annotations

import ipaddress
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from starlette.websockets import WebSocketClose

from depth_anything_3.web.pages import HEADERS

_ONCE = ("host", "authorization", "content-length", "content-type", "origin")
_SAFE_METHODS = ("GET", "HEAD", "OPTIONS")


@dataclass(frozen=True)
class Refusal:
    """Why a request does not come through.

    Attributes:
        status: of HTTP.
        code: for programs.
        message: for people.
        header: what it is about, in lower case.
    """

    status: int
    code: str
    message: str
    header: str


def refusal(scope: Scope, *, names: Collection[str] | None, origins: Collection[str] = ()) -> Refusal | None:
    """What is wrong with a request or WebSocket, by its headers; None if nothing is.

    Headers that decide something must be there once, because two programs may read two different ones. A page that
    binds its own name to our address (DNS rebinding) is told by its ``Host``: only addresses, which nobody can rebind,
    and the given names are served. A browser says in ``Origin``, or else in ``Sec-Fetch-Site``, which page sends a
    request; where that is another than ours, WebSockets and requests that change something are refused.

    Args:
        scope: of ASGI.
        names: host names by which the server may be called, in lower case, beside ``localhost`` and addresses; None
            for any, where something else tells who asks.
        origins: of other pages that may send requests.
    """
    headers = Headers(scope=scope)
    for name in _ONCE:
        if len(headers.getlist(name)) > 1:
            return Refusal(400, "bad_request", f"the header {name} is there twice", name)
    host = headers.get("host", "")
    if names is not None and not _is_ours(host, names):
        return Refusal(421, "unknown_host", f"this server is not called {host[:200]!r}", "host")
    changes = scope["type"] == "websocket" or scope["method"] not in _SAFE_METHODS
    if changes and _from_another_page(headers, host, origins):
        return Refusal(403, "cross_origin", "requests from pages of other origins are refused", "origin")
    return None


def _is_ours(host: str, names: Collection[str]) -> bool:
    try:
        name = (urlsplit(f"//{host}").hostname or "").lower()
        if "@" not in host and (name == "localhost" or name in names):
            return True
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return "@" not in host


def _from_another_page(headers: Headers, host: str, origins: Collection[str]) -> bool:
    """Programs, unlike pages, send no origin."""
    origin = headers.get("origin")
    if origin is None:
        return headers.get("sec-fetch-site", "none") not in ("none", "same-origin")
    if origin in origins:
        return False
    try:
        page = urlsplit(origin)
    except ValueError:
        return True
    return page.scheme not in ("http", "https") or page.netloc.lower() != host.lower()


class Guard:
    """Middleware for HTTP and WebSocket: asks :func:`refusal`, adds the headers of every answer.

    Args:
        app: what is guarded.
        names: host names by which the server may be called, beside ``localhost`` and addresses.
    """

    def __init__(self, app: ASGIApp, names: Iterable[str] = ()) -> None:
        self.app, self.names = app, {name.lower() for name in names}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket"):
            await self.app(scope, receive, send)
            return
        refused = refusal(scope, names=self.names)
        if refused is None:
            await self.app(scope, receive, _with_headers(send))
        elif scope["type"] == "websocket":
            await WebSocketClose(code=1008, reason=refused.code)(scope, receive, send)
        else:
            await PlainTextResponse(refused.message, refused.status, headers=HEADERS)(scope, receive, send)


def _with_headers(send: Send) -> Send:
    async def sender(message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = MutableHeaders(scope=message)
            for name, value in HEADERS.items():
                headers.setdefault(name, value)
        await send(message)

    return sender
