"""The web UI: upload, run with the bundled checkpoint, look, measure, download."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from support.videos import write_video

pytestmark = pytest.mark.browser
MODEL = "bundled/da3-tiny"


@pytest.fixture
def address(tmp_path: Path, serve: Callable[[Any], Any], monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    pytest.importorskip("gradio", reason="the extra 'app' is not installed")
    pytest.importorskip("depth_anything_3.serve.jobs", reason="the server is not there")
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path / "uploads"))
    from depth_anything_3.webui.queues import ModelQueues
    from depth_anything_3.webui.site import make_site

    gallery = tmp_path / "gallery"
    gallery.mkdir()
    with (
        ModelQueues(tmp_path / "jobs", device="cpu", gallery_dir=gallery) as queues,
        serve(make_site(queues, workspace=tmp_path, gallery_dir=gallery, model=MODEL)) as started,
    ):
        yield started


def photos(folder: Path) -> list[Path]:
    """Two shifted views of one texture, with a name that tries to be HTML."""
    texture = np.random.default_rng(0).integers(0, 256, (12, 20, 3), np.uint8)
    paths = []
    for number, name in enumerate(("left.png", "<img src=x onerror=alert(1)>.png")):
        path = folder / name
        Image.fromarray(texture).resize((320, 192), Image.Resampling.BICUBIC).crop(
            (8 * number, 0, 312 + 8 * number, 192)
        ).save(path)
        paths.append(path)
    return paths


def opened(watched: Any, address: str) -> Any:
    """The page, once its handlers are there."""
    page = watched.page
    page.set_viewport_size({"width": 1300, "height": 860})
    page.goto(address)
    page.get_by_label("Licence and abilities").wait_for()
    page.wait_for_timeout(1000)  # the page is there before its handlers are
    page.get_by_role("button", name="Settings").click()
    fill(page.get_by_label("Resolution in pixels (0: the model's own)"), "140")
    page.locator("#da3-refine").get_by_label("off").check()
    page.get_by_role("button", name="Settings").click()
    return page


def fill(field: Any, text: str) -> None:
    """Type into a field until it keeps it: Gradio may set one that it has just shown back to its first value."""
    for _ in range(20):
        field.fill(text)
        field.page.wait_for_timeout(500)
        if field.input_value() == text:
            return
    raise AssertionError(f"the field is {field.input_value()!r}, not {text!r}")


def reconstruct(watched: Any, seconds: float = 240) -> None:
    """Press the button and wait for the end, which is a good one."""
    watched.page.get_by_role("button", name="Reconstruct").click()
    try:
        said(watched, "done|failed", seconds)
    except AssertionError:
        raise AssertionError(watched.page.get_by_label("State").input_value(), watched.errors) from None
    assert watched.page.get_by_label("State").input_value().startswith("done")


def said(watched: Any, beginning: str, seconds: float = 60) -> None:
    """Wait until the state begins so."""
    watched.until(
        f"[...document.querySelectorAll('textarea')].some((area) => /^({beginning})/.test(area.value))", seconds
    )


def test_from_photos_to_downloads(watched: Any, address: str, tmp_path: Path) -> None:
    page = opened(watched, address)
    watched.upload("#da3-photos", photos(tmp_path))
    fill(page.get_by_label("Keep in the gallery as"), "from the page")
    reconstruct(watched)
    page.frame_locator("iframe.da3-viewer").get_by_text("2 cameras").wait_for(state="attached")
    page.wait_for_timeout(1500)
    page.get_by_role("tab", name="Depth").click()
    page.get_by_label("Measure between two clicks").check()
    picture = page.locator("#da3-photo img")
    for place, said in ((60, 60), "second point"), ((120, 70), "distance"):
        picture.click(position=dict(zip("xy", place, strict=True)), force=True)
        watched.until(f"[...document.querySelectorAll('textarea, input')].some((e) => e.value.includes('{said}'))")
        page.wait_for_timeout(500)  # the picture is shown again, with a cross
    reading = page.get_by_label("Click a picture").input_value()
    assert re.search(r"view 0, column \d+, row \d+: depth [\d.]+ units", reading), reading
    assert re.search(r"distance: [\d.]+ units", reading), reading
    page.get_by_role("tab", name="Downloads").click()
    with page.expect_download() as download:
        page.get_by_role("link", name="scene.glb").click()
    assert Path(download.value.path()).read_bytes()[:4] == b"glTF"
    page.get_by_role("tab", name="Cameras").click()
    page.get_by_role("gridcell", name="1", exact=True).or_(
        page.get_by_role("cell", name="1", exact=True)
    ).first.wait_for()
    watched.check()
    assert page.request.get(f"{address}/gallery/api/scenes").json()["scenes"][0]["title"] == "from the page"
    page.get_by_role("button", name="Reconstruct").click()
    page.get_by_text("a name that is not taken").wait_for()


def test_known_cameras(watched: Any, address: str, tmp_path: Path) -> None:
    page = opened(watched, address)
    watched.upload("#da3-photos", photos(tmp_path))
    page.get_by_role("button", name="Known cameras").click()
    fill(page.get_by_label("Or a horizontal field of view"), "60deg")
    reconstruct(watched)
    page.get_by_role("tab", name="Cameras").click()
    focal = 140 / 2 / np.tan(np.radians(30))  # of pictures 140 pixels wide
    cell = f"{focal:.1f}"
    page.get_by_role("gridcell", name=cell).or_(page.get_by_role("cell", name=cell)).first.wait_for()
    broken = tmp_path / "broken.json"
    broken.write_text("{")
    watched.upload("#da3-poses", broken)
    page.get_by_role("button", name="Reconstruct").click()
    said(watched, "failed")
    assert "broken.json" in page.get_by_label("State").input_value()
    watched.check()


def test_a_video_with_the_frames_that_are_taken(watched: Any, address: str, tmp_path: Path) -> None:
    film = write_video(tmp_path / "clip.mp4", 8, fps=4, size=(96, 128))
    page = opened(watched, address)
    page.get_by_role("button", name="Or a video").click()
    watched.upload("#da3-video", film)
    fill(page.get_by_label("number input for Frames per second to take"), "2")
    page.get_by_label("number input for Frames per second to take").blur()
    page.get_by_role("button", name="Show the frames that would be taken").click()
    watched.until("document.querySelectorAll('#da3-frames img').length >= 4")
    assert {text.strip() for text in page.locator("#da3-frames .caption-label").all_inner_texts()} == {
        f"{second:08.2f}s" for second in (0, 0.5, 1, 1.5)
    }
    reconstruct(watched)
    page.frame_locator("iframe.da3-viewer").get_by_text("4 cameras").wait_for(state="attached")
    page.get_by_role("tab", name="Depth").click()
    page.get_by_label("range slider for View").wait_for()
    watched.check()


def test_a_job_can_be_cancelled(watched: Any, address: str, tmp_path: Path) -> None:
    page = opened(watched, address)
    watched.upload("#da3-photos", photos(tmp_path))
    page.get_by_role("button", name="Reconstruct").click()
    said(watched, "waiting|starting|loading|reading|running")
    page.get_by_role("button", name="Cancel").click()
    said(watched, "cancelled")
    page.get_by_text("Nothing yet.").first.wait_for()
    reconstruct(watched)  # and the next one runs
    watched.check()
