"""The WebSocket: hello, frames while they are acknowledged, jumps, the end."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

pytest.importorskip("starlette", reason="the extra 'serve' is not installed")
from starlette.testclient import TestClient

from depth_anything_3.view.app import make_app
from depth_anything_3.view.frames import HEADER, DepthFrame
from depth_anything_3.view.playback import Playback


def read(start: float) -> Iterator[Any]:
    for number in range(round(start * 100), 300):
        yield SimpleNamespace(timestamp=number / 100)


def depth_of(frame: Any) -> DepthFrame:
    picture, depth = np.zeros((14, 14, 3), np.uint8), np.ones((14, 14), np.float32)
    return DepthFrame(image=picture, depth=depth, intrinsics=np.eye(3, dtype=np.float32), timestamp=frame.timestamp)


@pytest.fixture
def client() -> TestClient:
    return TestClient(make_app(lambda ready: Playback(read, depth_of, on_ready=ready), {"name": "clip", "duration": 3}))


def header(message: bytes) -> dict[str, float]:
    values = HEADER.unpack_from(message)
    return {"sequence": values[3], "generation": values[4], "time": values[5]}


def test_frames_come_while_they_are_acknowledged(client: TestClient) -> None:
    with client.websocket_connect("/stream") as socket:
        assert socket.receive_json() == {"type": "hello", "name": "clip", "duration": 3}
        seen = [header(socket.receive_bytes()) for _ in range(2)]
        time.sleep(0.3)  # nothing is acknowledged: what comes meanwhile is left out
        socket.send_json({"type": "shown"})
        late = header(socket.receive_bytes())
        assert seen[0]["sequence"] == 0 and seen[0]["time"] < seen[1]["time"]
        assert late["time"] > seen[1]["time"] + 0.15


def test_a_jump_says_its_generation_and_the_end_is_said(client: TestClient) -> None:
    with client.websocket_connect("/stream") as socket:
        assert socket.receive_json()["type"] == "hello"
        socket.send_json({"type": "seek", "time": 2.95})
        generation, frames = None, []
        for _ in range(200):
            message = socket.receive()
            if message.get("bytes"):
                frame = header(message["bytes"])
                frames += [frame] if frame["generation"] == generation else []  # others were on their way
                socket.send_json({"type": "shown"})
                continue
            said = json.loads(message["text"])
            if said["type"] == "jump":
                generation = said["generation"]
            elif generation is not None:
                assert said == {"type": "end", "error": None}
                break
        assert generation == 1
        assert frames[0]["time"] == pytest.approx(2.95)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        "3",
        '{"type": "seek"}',
        '{"type": "seek", "time": "x"}',
        '{"type": "seek", "time": NaN}',
        "[" * 99999,
    ],
)
def test_nonsense_is_passed_over(client: TestClient, text: str) -> None:
    with client.websocket_connect("/stream") as socket:
        assert socket.receive_json()["type"] == "hello"
        socket.send_text(text)
        socket.send_json({"type": "seek", "time": 0.1})
        while "text" not in (message := socket.receive()):
            pass
        assert json.loads(message["text"])["type"] in ("jump", "end")
