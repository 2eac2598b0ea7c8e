"""Who may talk to a server on this machine: no page of another site, by whatever name it reaches us."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from starlette.websockets import WebSocketClose

from depth_anything_3.web.pages import HEADERS


class Guard:
    """Middleware for HTTP and WebSocket: checks ``Host`` and ``Origin``, adds the headers of every answer.

    A page that binds its own name to our address (DNS rebinding) is told by its ``Host``: only addresses, which nobody
    can rebind, ``localhost`` and the given names are served. A browser says in ``Origin`` which page sends a request;
    where that is another than ours, WebSockets and requests that change something are refused.

    Args:
        app: what is guarded.
        names: host names by which the server may be called, beside ``localhost`` and addresses.
    """

    def __init__(self, app: ASGIApp, names: Iterable[str] = ()) -> None:
        self.app, self.names = app, {"localhost", *(name.lower() for name in names)}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket"):
            await self.app(scope, receive, send)
            return
        reason = self._refusal(scope)
        if reason is None:
            await self.app(scope, receive, _with_headers(send))
        elif scope["type"] == "websocket":
            await WebSocketClose(code=1008, reason=reason)(scope, receive, send)
        else:
            await PlainTextResponse(reason, status_code=403, headers=HEADERS)(scope, receive, send)

    def _refusal(self, scope: Scope) -> str | None:
        headers = Headers(scope=scope)
        hosts, origin = headers.getlist("host"), headers.get("origin")
        if len(hosts) != 1 or not self._is_ours(hosts[0]):
            return "this server is not called that"
        changes = scope["type"] == "websocket" or scope["method"] not in ("GET", "HEAD", "OPTIONS")
        if changes and origin is not None and urlsplit(origin).netloc.lower() != hosts[0].lower():
            return "the request comes from a page of another site"
        return None

    def _is_ours(self, host: str) -> bool:
        try:
            name = urlsplit(f"//{host}").hostname or ""
            if name.lower() in self.names:
                return True
            ipaddress.ip_address(name)
        except ValueError:
            return False
        return True


def _with_headers(send: Send) -> Send:
    async def sender(message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = MutableHeaders(scope=message)
            for name, value in HEADERS.items():
                headers.setdefault(name, value)
        await send(message)

    return sender
