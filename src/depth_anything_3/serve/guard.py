"""What stands before every route: who asks, from where, how much, how often; and what every answer carries.

Plain ASGI, so that bodies and event streams pass through it piece by piece.
"""

from __future__ import annotations

import asyncio
import ipaddress
import logging
import secrets
import time
from collections.abc import Callable, Iterable
from typing import Any

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from depth_anything_3.errors import DA3Error
from depth_anything_3.serve.http_errors import HttpError, as_http, response_of
from depth_anything_3.serve.keys import KeyFile, StoredKey
from depth_anything_3.serve.metrics import Requests
from depth_anything_3.serve.settings import ServerSettings
from depth_anything_3.web.guard import refusal
from depth_anything_3.web.pages import DATA_POLICY, HEADERS

_LOG = logging.getLogger("depth_anything_3.serve.http")
_MOST_CLIENTS = 10_000

OPEN_PATHS = frozenset({"/healthz", "/readyz"})
"""Answered without a key: they say whether the server works, and nothing else."""


class Rate:
    """So many per minute and client, evenly or in a burst (a bucket of tokens).

    Args:
        per_minute: size of the bucket, which fills in one minute.
        clock: seconds, for tests.
    """

    def __init__(self, per_minute: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._most, self._clock = float(per_minute), clock
        self._buckets: dict[str, tuple[float, float]] = {}

    def take(self, client: str, count: float = 1.0) -> float:
        """Take tokens; 0 if there were enough, else the seconds until there are."""
        now = self._clock()
        tokens, before = self._buckets.get(client, (self._most, now))
        tokens = min(self._most, tokens + (now - before) * self._most / 60)
        if tokens < count:
            return (count - tokens) * 60 / self._most
        if len(self._buckets) > _MOST_CLIENTS:
            self._forget(now)
        self._buckets[client] = (tokens - count, now)
        return 0.0

    def _forget(self, now: float) -> None:
        """Drop full buckets; if all are in use, all of them: memory is bounded whatever happens."""
        kept = {c: b for c, b in self._buckets.items() if b[0] + (now - b[1]) * self._most / 60 < self._most}
        self._buckets = kept if len(kept) <= _MOST_CLIENTS else {}


class Guard:
    """The middleware.

    Args:
        app: what it protects.
        settings: of the server.
        requests: where answers are counted.
    """

    def __init__(self, app: ASGIApp, *, settings: ServerSettings, requests: Requests) -> None:
        self.app, self.settings, self.counted = app, settings, requests
        self.keys = None if settings.keys_file is None else KeyFile(settings.keys_file)
        self._requests = Rate(settings.limits.requests_per_minute)
        self._wrong_keys = Rate(settings.limits.wrong_keys_per_minute)
        # A key tells who asks; without keys, the name in the request is all that tells a page of our own from one that
        # an attacker's name server has pointed here.
        self._names = None if self.keys else {name.lower() for name in (settings.host, *settings.hosts)}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request."""
        if scope["type"] == "lifespan":
            await self.app(scope, receive, send)
            return
        if scope["type"] != "http":  # no other protocol is spoken here
            await send({"type": "websocket.close", "code": 1008})
            return
        request = _Request(scope, receive, send, self.settings)
        try:
            await self._answer(scope, request)
        except HttpError as error:
            await response_of(error)(scope, receive, request.send)
        except Exception:  # a process boundary: the log has it, the client does not
            _LOG.exception("unexpected error", extra={"request": request.id})
            if request.answered:
                raise
            await response_of(as_http(DA3Error()))(scope, receive, request.send)
        finally:
            request.log(self.counted)

    async def _answer(self, scope: Scope, request: _Request) -> None:
        self._admit(scope, request.headers)
        if scope["method"] == "OPTIONS" and request.headers.get("origin") in self.settings.origins:
            await Response(status_code=204)(scope, request.receive, request.send)  # may a page of that origin ask?
        else:
            await self.app(scope, request.receive, request.send)

    def _admit(self, scope: Scope, headers: Headers) -> None:
        """Refuse what must not come through; note the owner of what does."""
        state = scope.setdefault("state", {})
        state["owner"], state["high_priority"] = "", self.keys is None
        client = _address(scope)
        if (refused := refusal(scope, names=self._names, origins=self.settings.origins)) is not None:
            hint = "; see --allow-host" if refused.header == "host" and refused.status == 421 else ""
            raise HttpError(refused.status, refused.code, f"{refused.message}{hint}", param=refused.header)
        if scope["path"] in OPEN_PATHS or scope["method"] == "OPTIONS":
            return
        if self.keys is not None:
            stored = self._key(headers, client, self.keys)
            state["owner"], state["high_priority"] = stored.id, stored.high_priority
        if (wait := self._requests.take(state["owner"] or client)) > 0:
            raise _too_many("too many requests", wait)

    def _key(self, headers: Headers, client: str, keys: KeyFile) -> StoredKey:
        kind, _, key = headers.get("authorization", "").partition(" ")
        stored = keys.check(key.strip()) if kind.lower() == "bearer" else None
        if stored is not None:
            return stored
        if kind and (wait := self._wrong_keys.take(client)) > 0:
            raise _too_many("too many wrong API keys", wait)
        message = "a valid API key is needed: Authorization: Bearer da3_..."
        raise HttpError(401, "invalid_api_key", message, headers={"WWW-Authenticate": "Bearer"})


class _Request:
    """One request on its way: counts the body, completes the headers of the answer, remembers what to log."""

    def __init__(self, scope: Scope, receive: Receive, send: Send, settings: ServerSettings) -> None:
        self.scope, self._receive, self._send, self._settings = scope, receive, send, settings
        self.headers = Headers(scope=scope)
        self.id = secrets.token_hex(8)
        self._begun, self._bytes, self._status, self._complete = time.perf_counter(), 0, 0, False
        scope.setdefault("state", {})["request_id"] = self.id

    @property
    def answered(self) -> bool:
        """Whether the answer has begun."""
        return self._status != 0

    async def receive(self) -> Message:
        """The next piece of the body, or why there is none."""
        limits = self._settings.limits
        if self._complete:
            return await self._receive()  # waits for the client to hang up
        length = self.headers.get("content-length", "0")
        if not self._bytes and (len(length) > 15 or (length.isdecimal() and int(length) > limits.body_bytes)):
            raise _too_large(limits.body_bytes)
        try:
            message = await asyncio.wait_for(self._receive(), limits.body_seconds)
        except asyncio.TimeoutError:
            raise HttpError(408, "timeout", "the body of the request did not come") from None
        self._bytes += len(message.get("body", b""))
        if self._bytes > limits.body_bytes:
            raise _too_large(limits.body_bytes)
        self._complete = not message.get("more_body", False)
        return message

    async def send(self, message: Message) -> None:
        """A piece of the answer; its headers are made safe."""
        if message["type"] == "http.response.start":
            self._status = message["status"]
            headers = MutableHeaders(scope=message)
            if "Content-Security-Policy" not in headers:  # pages have their own, some of which may be framed by us
                headers.update({"Content-Security-Policy": DATA_POLICY, "X-Frame-Options": "DENY"})
            for name, value in {**HEADERS, "Cache-Control": "no-store", "X-Request-Id": self.id}.items():
                headers.setdefault(name, value)
            self._allow_origin(headers)
        await self._send(message)

    def _allow_origin(self, headers: MutableHeaders) -> None:
        """CORS, for the origins that the operator named."""
        origin = self.headers.get("origin")
        if origin is None or origin not in self._settings.origins:
            return
        headers["Access-Control-Allow-Origin"] = origin
        headers["Access-Control-Allow-Methods"] = "GET, POST, DELETE"
        headers["Access-Control-Allow-Headers"] = "Authorization, Content-Type, Idempotency-Key"
        headers["Cross-Origin-Resource-Policy"] = "cross-origin"
        headers.add_vary_header("Origin")

    def log(self, counted: Requests) -> None:
        """One line; the path as the route has it, because paths can hold what should not be in a log."""
        route = self.scope.get("route")
        seconds = time.perf_counter() - self._begun
        counted.note(self.scope["method"], getattr(route, "path", None), self._status, seconds)
        facts: dict[str, Any] = {
            "method": self.scope["method"],
            "route": getattr(route, "path", None),
            "status": self._status,
            "milliseconds": round(1000 * seconds, 1),
            "client": _address(self.scope),
            "key": self.scope["state"].get("owner") or None,
            "request": self.id,
        }
        _LOG.info("request", extra=facts)


def _address(scope: Scope) -> str:
    """Of the client; of IPv6 the network, because a client has as many addresses in it as it likes."""
    host = (scope.get("client") or ("unknown", 0))[0]
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return str(host)
    return str(ipaddress.ip_network(f"{address}/64", strict=False)) if address.version == 6 else str(address)


def _too_many(message: str, wait: float) -> HttpError:
    return HttpError(429, "rate_limit", message, headers={"Retry-After": str(int(wait) + 1)})


def _too_large(most: int) -> HttpError:
    return HttpError(413, "too_large", f"more than {most} bytes, which is the most for one request")


def allowed_types(content_type: str, allowed: Iterable[str]) -> str:
    """The media type of a request, if it is one of ``allowed``; browsers cannot send those from a plain form without
    being asked first, except ``multipart/form-data``, which the check of the origin covers.

    Raises:
        HttpError: 415.
    """
    kind = content_type.partition(";")[0].strip().lower()
    if kind not in (known := tuple(allowed)):
        raise HttpError(
            415, "unsupported_media_type", f"got {kind or 'no content type'}; expected {' or '.join(known)}"
        )
    return kind
