"""The viewer: what files hold is on the screen, sliders leave out, clicks measure."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from support.results import small_prediction, write_result

pytestmark = pytest.mark.browser

# Pixels that differ from the background, read after a fresh frame.
LIT = """() => {
  const { stage } = window.viewer, gl = stage.renderer.getContext();
  stage._draw();
  const [w, h] = [gl.drawingBufferWidth, gl.drawingBufferHeight], pixels = new Uint8Array(4 * w * h);
  gl.readPixels(0, 0, w, h, gl.RGBA, gl.UNSIGNED_BYTE, pixels);
  let lit = 0;
  const back = [0x14, 0x17, 0x1c], apart = (i, k) => Math.abs(pixels[i + k] - back[k]);
  for (let i = 0; i < pixels.length; i += 4) lit += apart(i, 0) + apart(i, 1) + apart(i, 2) > 12;
  return lit;
}"""

# Where two points of the cloud are on the screen, and how far they are apart.
TWO_POINTS = """() => {
  const { stage, result } = window.viewer, cloud = result().clouds[0];
  const positions = cloud.geometry.getAttribute('position');
  const Vector = stage.camera.position.constructor, box = stage.renderer.domElement.getBoundingClientRect();
  const at = (i) => new Vector().fromBufferAttribute(positions, i).applyMatrix4(cloud.matrixWorld);
  const width = 42, pick = [20 * width + 12, 8 * width + 22].map(at);
  stage.camera.updateMatrixWorld();
  const seen = pick.map((p) => p.clone().project(stage.camera));
  const screen = seen.map((p) => [(p.x + 1) / 2 * box.width, (1 - p.y) / 2 * box.height]);
  return { screen, distance: pick[0].distanceTo(pick[1]) };
}"""


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory, serve: Callable[[Any], Any]) -> Iterator[str]:
    from depth_anything_3.gallery.app import make_app

    root = tmp_path_factory.mktemp("gallery")
    prediction = small_prediction(metric=True, gaussians=True)
    write_result(root / "scene", "glb-ply-gs_ply-gs_splat", prediction)
    (root / "scene" / "broken.glb").write_bytes(b"glTF and nothing")
    (root / "scene" / "triangle.ply").write_text(
        "ply\nformat ascii 1.0\nelement vertex 3\nproperty float x\nproperty float y\nproperty float z\n"
        "element face 1\nproperty list uchar int vertex_indices\nend_header\n0 0 1\n1 0 1\n0 1 1\n3 0 1 2\n"
    )
    with serve(make_app(root)) as started:
        yield started


def view(watched: Any, address: str, file: str) -> Any:
    page = watched.page
    page.goto(f"{address}/static/viewer.html?src=../files/scene/{file}")
    watched.until("window.viewer && window.viewer.ready")
    page.evaluate("window.viewer.ready")
    return page


@pytest.mark.parametrize(
    ("file", "facts"),
    [
        ("scene.glb", "2,325 points · 2 cameras · metres"),
        ("points.ply", "points · metres"),
        ("gs_ply/0000.ply", "Gaussians"),
        ("gs_splat/0000.splat", "Gaussians"),
        ("triangle.ply", "1 triangles"),
    ],
)
def test_every_kind_of_file_is_drawn(watched: Any, address: str, file: str, facts: str) -> None:
    page = view(watched, address, file)
    assert facts in page.text_content("#facts")
    page.wait_for_timeout(300)  # Gaussians are sorted beside
    assert page.evaluate(LIT) > 2000
    watched.check()


def test_a_cloud_is_one_draw_call_and_the_cameras_another(watched: Any, address: str) -> None:
    page = view(watched, address, "scene.glb")
    assert page.evaluate("window.viewer.stage.time(2).drawCalls") == 2
    page.uncheck("#cameras")
    assert page.evaluate("window.viewer.stage.time(2).drawCalls") == 1


def test_sliders_leave_out_what_is_far_near_or_uncertain(watched: Any, address: str) -> None:
    page = view(watched, address, "scene.glb")
    page.uncheck("#cameras")
    everything = page.evaluate(LIT)
    for slider, value in (("far", "0.7"), ("near", "0.95"), ("confidence", "0.6")):
        before = page.input_value(f"#{slider}")
        page.locator(f"#{slider}").fill(value)
        assert page.text_content(f"#{slider}-value")
        assert page.evaluate(LIT) < 0.9 * everything, slider
        page.locator(f"#{slider}").fill(before)
    assert page.evaluate(LIT) == everything
    watched.check()


def test_two_clicks_measure_in_metres(watched: Any, address: str) -> None:
    page = view(watched, address, "scene.glb")
    page.select_option("#camera", "0")
    page.check("#measure")
    assert page.text_content("#distance") == "Click the first point."
    two = page.evaluate(TWO_POINTS)
    for x, y in two["screen"]:
        page.mouse.click(x, y)
    text = page.text_content("#distance")
    match = re.fullmatch(r"([\d.]+) m", text)
    assert match, text
    assert float(match[1]) == pytest.approx(two["distance"], rel=0.1)
    watched.check()


def test_walking_moves_and_turning_turns(watched: Any, address: str) -> None:
    page = view(watched, address, "scene.glb")
    page.check("input[value=walk]")
    before = page.evaluate("window.viewer.stage.pose()")
    page.keyboard.down("KeyW")
    page.wait_for_timeout(300)
    page.keyboard.up("KeyW")
    page.mouse.move(300, 300)
    page.mouse.down()
    page.mouse.move(360, 320, steps=3)
    page.mouse.up()
    after = page.evaluate("window.viewer.stage.pose()")
    assert before["position"] != after["position"]
    assert before["quaternion"] != after["quaternion"]


@pytest.mark.parametrize(
    "source", ["../files/scene/broken.glb", "../files/none.glb", "https://example.org/a.glb", "viewer.html"]
)
def test_what_cannot_be_shown_is_said(watched: Any, address: str, source: str) -> None:
    page = watched.page
    page.goto(f"{address}/static/viewer.html?src={source}")
    page.get_by_text("This file cannot be shown").wait_for()
    assert watched.elsewhere == []


def test_a_file_of_this_computer(watched: Any, address: str, tmp_path: Path) -> None:
    folder = write_result(tmp_path / "mine", "glb", small_prediction())
    page = watched.page
    page.goto(f"{address}/static/viewer.html")
    page.set_input_files("#local", folder / "scene.glb")
    page.get_by_text("relative scale").wait_for()
    watched.check()
