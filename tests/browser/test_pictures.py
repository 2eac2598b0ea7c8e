"""The pictures of the documentation: the pages with real scenes, run with the bundled checkpoint.

Only with ``DA3_SCREENSHOTS``, because the networks take a while. What the pages do is tested beside this file.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif("DA3_SCREENSHOTS" not in os.environ, reason="DA3_SCREENSHOTS names no folder for pictures"),
]

SCENES = {"middlebury_motorcycle": (0, 1), "lund_door12": (0, 3, 6)}


def chosen(shared: Path, scene: str) -> list[Path]:
    files = sorted((shared / "data" / scene / "images").iterdir())
    return [files[index] for index in SCENES[scene]]


@pytest.fixture(scope="module")
def gallery(shared: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    from depth_anything_3.api import DepthAnything3

    root, model = (
        tmp_path_factory.mktemp("pictures") / "gallery",
        DepthAnything3.from_pretrained("bundled", device="cpu"),
    )
    for scene in SCENES:
        folder = root / "real" / scene
        model.inference(chosen(shared, scene), export_dir=folder, export_format="glb-depth_vis", refine="full")
    return root


def test_gallery_comparison_and_viewer(watched: Any, serve: Callable[[Any], Any], keep: Any, gallery: Path) -> None:
    from depth_anything_3.gallery.app import make_app

    page = watched.page
    with serve(make_app(gallery)) as address:
        page.goto(address)
        page.get_by_role("link", name="lund_door12").wait_for()
        watched.until("[...document.images].every((image) => image.naturalWidth > 0)")
        keep(page, "gallery")
        for name in SCENES:
            page.get_by_label(f"Compare {name}").check()
        page.get_by_role("button", name="Compare two").click()
        page.frame_locator("iframe >> nth=1").get_by_text("cameras").first.wait_for(state="attached")
        page.wait_for_timeout(3000)
        keep(page, "compare")
        page.goto(f"{address}/static/viewer.html?src=../files/real/lund_door12/scene.glb")
        watched.until("window.viewer && window.viewer.ready", 60)
        page.evaluate("window.viewer.ready")
        page.select_option("#camera", "0")
        page.wait_for_timeout(1500)
        keep(page, "viewer")
        watched.check()


def test_video(watched: Any, serve: Callable[[Any], Any], keep: Any, shared: Path) -> None:
    from depth_anything_3.cli.view import _make_app

    film = next((shared / "data" / "robot_video").glob("*.mp4"))
    with serve(_make_app(film, "bundled", "cpu", "auto", 252, 15.0)) as address:
        page = watched.page
        page.goto(address)
        watched.until("window.live && live.state.shown > 3", 120)
        page.get_by_role("button", name="Pause").click()
        page.check("#stereo")
        page.wait_for_timeout(1500)
        keep(page, "video")
        watched.check()


@pytest.fixture
def web_ui(tmp_path: Path, serve: Callable[[Any], Any], monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    pytest.importorskip("gradio", reason="the extra 'app' is not installed")
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path / "uploads"))
    from depth_anything_3.webui.queues import ModelQueues
    from depth_anything_3.webui.site import make_site

    with (
        ModelQueues(tmp_path / "jobs", device="cpu", gallery_dir=None) as queues,
        serve(make_site(queues, workspace=tmp_path, gallery_dir=None, model=None)) as started,
    ):
        yield started


def test_web_ui(watched: Any, web_ui: str, keep: Any, shared: Path) -> None:
    page = watched.page
    page.set_viewport_size({"width": 1300, "height": 860})
    page.goto(web_ui)
    page.set_default_timeout(120_000)
    page.get_by_label("Licence and abilities").wait_for()
    page.wait_for_timeout(1000)
    watched.upload("#da3-photos", chosen(shared, "middlebury_motorcycle"))
    page.get_by_role("button", name="Reconstruct").click()
    watched.until("[...document.querySelectorAll('textarea')].some((area) => /^(done|failed)/.test(area.value))", 400)
    page.frame_locator("iframe.da3-viewer").get_by_text("2 cameras").wait_for(state="attached")
    page.wait_for_timeout(3000)
    keep(page, "web_ui")
    page.get_by_role("tab", name="Depth").click()
    page.get_by_label("Measure between two clicks").check()
    for place, expected in ((60, 60), "second point"), ((150, 90), "distance"):
        page.locator("#da3-photo img").click(position=dict(zip("xy", place, strict=True)), force=True)
        watched.until(f"[...document.querySelectorAll('textarea, input')].some((e) => e.value.includes('{expected}'))")
        page.wait_for_timeout(800)
    keep(page, "web_ui_depth")
    watched.check()
