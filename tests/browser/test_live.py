"""A video with depth in the browser: frames come, jumps arrive, both eyes are drawn."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

pytestmark = pytest.mark.browser

RATE, SECONDS = 20, 6


def read(start: float) -> Iterator[Any]:
    for number in range(round(start * RATE), RATE * SECONDS):
        yield SimpleNamespace(timestamp=number / RATE)


def depth_of(frame: Any) -> Any:
    """A wall whose red is its time."""
    from depth_anything_3.view.frames import DepthFrame

    v, u = np.mgrid[:70, :126] + 0.5
    red = np.full_like(u, 255 * frame.timestamp / SECONDS)
    lens = np.array([[110, 0, 63], [0, 110, 35], [0, 0, 1]], np.float32)
    depth = (2 + 0.5 * np.sin(u / 20 + 3 * frame.timestamp)).astype(np.float32)
    image = np.stack([red, 2 * u, 3 * v], -1).astype(np.uint8)
    return DepthFrame(image=image, depth=depth, intrinsics=lens, timestamp=frame.timestamp, metric=True)


def test_watching(watched: Any, serve: Callable[[Any], Any]) -> None:
    from depth_anything_3.view.app import make_app
    from depth_anything_3.view.playback import Playback

    app = make_app(
        lambda ready: Playback(read, depth_of, on_ready=ready), {"name": "<b>clip", "duration": SECONDS, "model": "toy"}
    )
    with serve(app) as address:
        page = watched.page
        page.goto(address)
        watched.until("window.live && live.state.shown > 5")
        assert page.text_content("#name") == "<b>clip"
        page.evaluate(
            "(t) => { const s = document.getElementById('time'); s.value = t; s.dispatchEvent(new Event('change')); }",
            4,
        )
        watched.until("live.state.generation === 1 && live.state.timestamp >= 4")
        page.get_by_role("button", name="Pause").click()
        page.wait_for_timeout(300)
        stamp = page.evaluate("live.state.timestamp")
        page.wait_for_timeout(300)
        assert page.evaluate("live.state.timestamp") == stamp
        # Colour and depth on the screen are of one time: the red of the texture says which.
        red = page.evaluate(
            """() => { const c = document.createElement('canvas'), g = c.getContext('2d');
            g.drawImage(live.screen.colour, 0, 0); return g.getImageData(5, 5, 1, 1).data[0]; }"""
        )
        assert red == pytest.approx(255 * stamp / SECONDS, abs=8)
        page.check("#stereo")
        assert page.evaluate("(live.stage._draw(), live.stage.stereo !== null)")
        page.wait_for_timeout(100)
        # A headset leaves its lens and its place in the camera.
        page.evaluate("live.stage.camera.fov = 90, live.stage.camera.position.x = 0.4")
        page.evaluate("live.stage.renderer.xr.dispatchEvent({ type: 'sessionend' })")
        fov, x = page.evaluate("[live.stage.camera.fov, live.stage.camera.position.x]")
        assert fov == pytest.approx(2 * np.degrees(np.arctan(35 / 110)), abs=0.01) and abs(x) < 1e-6
        watched.check()
