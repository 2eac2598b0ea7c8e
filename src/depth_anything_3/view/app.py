"""The page that shows a video with its depth, and the one WebSocket behind it.

The page says, as JSON text, ``{"type": "seek", "time": seconds}``, ``{"type": "play"}``, ``{"type": "pause"}`` and
``{"type": "shown"}`` after every frame: no frame is sent while two are on their way. The server says ``hello`` (what
the video is), ``jump`` (the generation after a seek), ``end`` and ``error`` as JSON, and frames as
:mod:`depth_anything_3.view.frames` packs them. Needs the extra ``serve``.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import math
from collections.abc import Callable
from typing import Any

from starlette.applications import Starlette
from starlette.routing import WebSocketRoute
from starlette.websockets import WebSocket, WebSocketDisconnect, WebSocketState

from depth_anything_3.view.frames import pack
from depth_anything_3.view.playback import Playback
from depth_anything_3.web.pages import static_routes

_UNDERWAY = 2
_BUSY = 1013


def make_app(make_playback: Callable[[Callable[[], None]], Playback], facts: dict[str, Any]) -> Starlette:
    """The application.

    Args:
        make_playback: gives a playback that calls its argument when something is ready; called for every page.
        facts: sent to the page first: ``name``, ``duration`` in seconds or None, ``model``.
    """
    watched = asyncio.Lock()

    async def stream(socket: WebSocket) -> None:
        await socket.accept()
        if watched.locked():
            await socket.close(code=_BUSY, reason="another page shows this video")
            return
        async with watched:
            await _Session(socket, make_playback).run(facts)

    return Starlette(routes=[*static_routes("live.html"), WebSocketRoute("/stream", stream)])


class _Session:
    """One page: reads what it says, sends what is ready."""

    def __init__(self, socket: WebSocket, make_playback: Callable[[Callable[[], None]], Playback]) -> None:
        loop = asyncio.get_running_loop()
        self._socket = socket
        self._wake, self._room, self._underway = asyncio.Event(), asyncio.Event(), 0
        self._playback = make_playback(lambda: self._notify(loop))
        self._ended = False

    def _notify(self, loop: asyncio.AbstractEventLoop) -> None:
        with contextlib.suppress(RuntimeError):  # the server has ended meanwhile
            loop.call_soon_threadsafe(self._wake.set)

    async def run(self, facts: dict[str, Any]) -> None:
        """Until the page goes away."""
        await self._socket.send_json({"type": "hello", **facts})
        self._playback.start()
        sender = asyncio.create_task(self._send())
        try:
            while self._socket.client_state is WebSocketState.CONNECTED:
                await self._obey(await self._socket.receive_text())
        except (WebSocketDisconnect, KeyError):  # KeyError: bytes instead of text
            pass
        finally:
            self._playback.stop()  # even where the task is cancelled and cannot wait any more
            sender.cancel()
            await asyncio.gather(sender, return_exceptions=True)
            await asyncio.to_thread(self._playback.close)

    async def _obey(self, text: str) -> None:
        try:
            message = json.loads(text)
            kind = message["type"]
            seconds = float(message["time"]) if kind == "seek" else 0.0
        except (ValueError, KeyError, TypeError, RecursionError):
            return
        if kind == "seek" and math.isfinite(seconds):
            generation = self._playback.seek(seconds)
            self._ended = False
            await self._socket.send_json({"type": "jump", "generation": generation})
        elif kind in ("play", "pause"):
            self._playback.set_playing(kind == "play")
        elif kind == "shown":
            self._underway = max(0, self._underway - 1)
            self._room.set()

    async def _send(self) -> None:
        while True:
            await self._wake.wait()
            while self._underway >= _UNDERWAY:
                self._room.clear()
                await self._room.wait()
            self._wake.clear()
            frame = self._playback.take()
            if frame is not None:
                self._underway += 1
                await self._socket.send_bytes(await asyncio.to_thread(pack, frame))
            if self._playback.ended and not self._ended:
                self._ended = True
                await self._socket.send_json({"type": "end", "error": self._playback.error})
