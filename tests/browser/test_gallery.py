"""The gallery as a visitor uses it, with names that try to be HTML."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from support.results import small_prediction, write_result

pytestmark = pytest.mark.browser

HOSTILE = "<img src=x onerror=alert(1)>"
HOSTILE_TOO = "\"'><script>alert(1)<%2fscript> #?&%2e%2e"


def test_looking_around(watched: Any, serve: Callable[[Any], Any], tmp_path: Path) -> None:
    from depth_anything_3.gallery.app import make_app

    root = tmp_path / "results"
    write_result(root / "bench", "glb-mini_npz", small_prediction(metric=True))
    write_result(root / "group" / "house", "glb", small_prediction(3))
    write_result(root / "group" / "statue", "ply-depth_vis", small_prediction(1))
    with serve(make_app(root)) as address:
        page = watched.page
        page.goto(address)
        page.get_by_role("link", name="statue").wait_for()
        watched.until("[...document.images].every((image) => image.naturalWidth > 0)")
        watched.check()
        page.get_by_role("searchbox").fill("ply")
        assert page.locator(".cards li").count() == 1
        page.get_by_role("searchbox").fill("")
        page.get_by_role("link", name="house").click()
        frame = page.frame_locator("iframe")
        frame.get_by_text("3 cameras").wait_for(state="attached")
        with page.expect_download() as download:
            page.get_by_role("link", name="scene.glb").click()
        assert Path(download.value.path()).read_bytes() == (root / "group" / "house" / "scene.glb").read_bytes()
        watched.check()
        page.keyboard.press("Escape")
        for name in ("house", "bench"):
            page.get_by_label(f"Compare {name}").check()
        page.get_by_role("button", name="Compare two").click()
        page.frame_locator("iframe >> nth=1").get_by_text("2 cameras").wait_for(state="attached")
        page.wait_for_timeout(500)
        page.go_back()
        page.get_by_role("link", name="statue").wait_for()
        watched.check()


def test_names_stay_text(watched: Any, serve: Callable[[Any], Any], tmp_path: Path) -> None:
    from depth_anything_3.gallery.app import make_app

    scene = write_result(tmp_path / HOSTILE_TOO / HOSTILE, "ply-depth_vis", small_prediction(1))
    (scene / "points.ply").rename(scene / f"{HOSTILE}.ply")
    (scene / "depth_vis" / "0000.jpg").rename(scene / "depth_vis" / f"{HOSTILE_TOO}.jpg")
    with serve(make_app(tmp_path)) as address:
        page = watched.page
        page.goto(address)
        page.get_by_role("heading", name=HOSTILE_TOO).wait_for()
        page.get_by_role("link", name=HOSTILE).click()
        page.get_by_role("heading", name=HOSTILE, exact=True).first.wait_for()
        page.frame_locator("iframe").get_by_text("points ·").wait_for(state="attached")
        page.get_by_text(f"depth_vis/{HOSTILE_TOO}.jpg").first.wait_for()
        watched.until("[...document.querySelectorAll('.pictures img')].every((image) => image.naturalWidth > 0)")
        assert page.locator("img[src=x], script:not([src])").count() == 0
        watched.check()
