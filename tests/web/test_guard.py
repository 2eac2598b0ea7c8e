"""A page of another site reaches nothing, whatever name it binds to our address."""

from __future__ import annotations

import pytest

pytest.importorskip("starlette", reason="the extra 'serve' is not installed")
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route, WebSocketRoute
from starlette.testclient import TestClient
from starlette.websockets import WebSocket, WebSocketDisconnect

from depth_anything_3.web.guard import Guard


async def _answer(request: Request) -> PlainTextResponse:
    return PlainTextResponse("here")


async def _socket(socket: WebSocket) -> None:
    await socket.accept()
    await socket.send_text("here")


@pytest.fixture
def client() -> TestClient:
    app = Starlette(routes=[Route("/", _answer, methods=["GET", "POST"]), WebSocketRoute("/socket", _socket)])
    return TestClient(Guard(app, ["Depth.Example"]))


@pytest.mark.parametrize(
    "host", ["localhost", "LOCALHOST:80", "127.0.0.1:8007", "[::1]:8007", "10.0.0.3", "depth.example"]
)
def test_our_names(client: TestClient, host: str) -> None:
    answer = client.get("/", headers={"Host": host})
    assert answer.status_code == 200
    assert answer.headers["X-Content-Type-Options"] == "nosniff"


@pytest.mark.parametrize("host", ["evil.example", "localhost.evil.example", "127.0.0.1.evil.example", "", "a@[", "::1"])
def test_other_names(client: TestClient, host: str) -> None:
    assert client.get("/", headers={"Host": host}).status_code == 421


def test_headers_that_two_programs_could_read_differently(client: TestClient) -> None:
    for name in ("host", "origin"):
        assert client.get("/", headers=[("host", "localhost"), (name, "localhost"), (name, "x")]).status_code == 400


def test_other_pages(client: TestClient) -> None:
    def headers(origin: str) -> dict[str, str]:
        return {"Host": "localhost:8007", "Origin": origin}

    assert client.post("/", headers=headers("http://localhost:8007")).status_code == 200
    for site, status in (("same-origin", 200), ("cross-site", 403)):
        assert client.post("/", headers={"Host": "localhost", "Sec-Fetch-Site": site}).status_code == status
    for origin in ("http://evil.example", "null", "http://localhost:9000", "ftp://localhost:8007", "http://["):
        assert client.post("/", headers=headers(origin)).status_code == 403
        with pytest.raises(WebSocketDisconnect), client.websocket_connect("/socket", headers=headers(origin)):
            pass
    with client.websocket_connect("/socket", headers=headers("http://localhost:8007")) as socket:
        assert socket.receive_text() == "here"
