"""Scenes are what they say, wherever they come from."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from support.scenes import wall

from depth_anything_3.bench.real_mini import frame_lists
from depth_anything_3.bench.scenes import (
    REAL_SCENES,
    EvalScene,
    at_longest_side,
    evenly_spaced,
    load_real_scene,
    scene_from_rendering,
    select_views,
)
from depth_anything_3.errors import InputError
from depth_anything_3.geometry.pinhole import project, unproject
from depth_anything_3.metrics.depth import valid_pixels

FOLDERS = sorted(REAL_SCENES)
FRAMES = ["frame.0", "frame.1", "frame.2"]  # of `write_scene`


@pytest.fixture(scope="module")
def real(shared: Path) -> Path:
    folder = shared / "data"
    if not folder.is_dir():
        pytest.skip("no real scenes: there is no folder 'data' among the reference data")
    return folder


def write_scene(folder: Path, count: int = 3) -> None:
    """A folder in the form of the real scenes, of small pictures."""
    names = [f"frame.{i}" for i in range(count)]
    for sub in ("images", "depth"):
        (folder / sub).mkdir(parents=True)
    for i, name in enumerate(names):
        Image.fromarray(np.full((4, 6, 3), i, np.uint8)).save(folder / "images" / f"{name}.png")
        millimetres = np.array([[100, 300, 500, 700, 900, 0]] * 4, np.uint16)
        Image.fromarray(millimetres).save(folder / "depth" / f"{name}.png")
    c2w = np.repeat(np.eye(4)[None], count, 0)
    c2w[:, 0, 3] = np.arange(count)
    k = np.repeat(np.array([[5.0, 0, 3], [0, 5, 2], [0, 0, 1]])[None], count, 0)
    np.savez(folder / "scene.npz", names=np.array(names), K=k, c2w=c2w)


def test_a_scene_cannot_be_changed() -> None:
    scene = wall()
    for name in ("images", "depth", "intrinsics", "extrinsics"):
        with pytest.raises(ValueError, match="read-only"):
            getattr(scene, name)[:] = 0


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("images", np.zeros((8, 36, 48, 3))),
        ("images", np.zeros((0, 36, 48, 3), np.uint8)),
        ("depth", np.zeros((8, 36, 47), np.float32)),
        ("depth", np.full((8, 36, 48), np.inf, np.float32)),
        ("intrinsics", np.zeros((3, 3))),
        ("extrinsics", np.zeros((8, 4, 4))),
        ("extrinsics", np.full((8, 3, 4), np.nan)),
        ("sky", np.zeros((8, 36, 48), np.float32)),
    ],
)
def test_what_does_not_fit_is_refused(name: str, value: np.ndarray) -> None:
    fields: dict[str, Any] = {**vars(wall()), name: value}
    with pytest.raises(InputError, match=name):
        EvalScene(**fields)


def test_evenly_spaced() -> None:
    assert evenly_spaced(8, 1) == [0]
    assert evenly_spaced(8, 2) == [0, 7]
    assert evenly_spaced(8, 4) == [0, 2, 5, 7]
    assert evenly_spaced(5, 5) == [0, 1, 2, 3, 4]
    for count in (0, 6):
        with pytest.raises(InputError, match="count"):
            evenly_spaced(5, count)


def test_select_views() -> None:
    scene = wall()
    chosen = select_views(scene, [5, 1])
    np.testing.assert_array_equal(chosen.depth, scene.depth[[5, 1]])
    np.testing.assert_array_equal(chosen.images, scene.images[[5, 1]])
    np.testing.assert_array_equal(chosen.extrinsics, scene.extrinsics[[5, 1]])


def test_smaller_images_see_the_same() -> None:
    scene = wall()
    small = at_longest_side(scene, 16)
    assert small.images.shape == (8, 12, 16, 3)
    x, y = 10, 7
    point = unproject(scene.depth[2], scene.intrinsics[2], scene.extrinsics[2])[y, x]
    before, _ = project(point, scene.intrinsics[2], scene.extrinsics[2])
    after, z = project(point, small.intrinsics[2], small.extrinsics[2])
    np.testing.assert_allclose(after, before / 3, atol=1e-9)
    assert small.depth[2][tuple(np.floor(after[::-1]).astype(int))] == pytest.approx(z, rel=1e-6)
    assert at_longest_side(scene, 48) is scene
    with pytest.raises(InputError, match="pixels"):
        at_longest_side(scene, 0)


def test_from_a_rendering() -> None:
    torch = pytest.importorskip("torch")
    depth = torch.tensor([[[1.0, torch.inf], [2, 3]]])
    scene = scene_from_rendering(
        "made",
        ("a",),
        rgb=torch.full((1, 2, 2, 3), 0.5),
        depth=depth,
        sky=torch.isinf(depth),
        intrinsics=torch.eye(3)[None],
        extrinsics=torch.eye(3, 4)[None],
    )
    assert (scene.images == 128).all()
    assert scene.depth.tolist() == [[[1, 0], [2, 3]]]
    assert scene.sky is not None
    assert scene.sky.tolist() == [[[False, True], [False, False]]]
    assert scene.has_depth


def test_a_folder(tmp_path: Path) -> None:
    folder = tmp_path / "princeton_box50"
    write_scene(folder)
    scene = load_real_scene(folder, frames=["frame.0", "frame.2"])
    assert scene.images[:, 0, 0, 0].tolist() == [0, 2]
    # 0.1 m and 0.9 m are noise there.
    np.testing.assert_allclose(scene.depth[0, 0], [0, 0.3, 0.5, 0.7, 0, 0])
    np.testing.assert_allclose(scene.extrinsics[1], [[1, 0, 0, -2], [0, 1, 0, 0], [0, 0, 1, 0]])
    np.testing.assert_allclose(scene.intrinsics[0, :2, 2], [3, 2])
    assert load_real_scene(folder, frames=["frame.2", "frame.0"]).images[:, 0, 0, 0].tolist() == [2, 0]
    assert load_real_scene(folder, frames=FRAMES, longest_side=3).images.shape == (3, 2, 3, 3)


def test_the_half_pixel_is_added_where_the_note_says_so(tmp_path: Path) -> None:
    write_scene(tmp_path / "open3d_redwood5")
    scene = load_real_scene(tmp_path / "open3d_redwood5", frames=FRAMES)
    np.testing.assert_allclose(scene.intrinsics[0, :2, 2], [3.5, 2.5])
    assert scene.depth[0, 0, 0] == pytest.approx(0.1)


def test_a_damaged_folder(tmp_path: Path) -> None:
    folder = tmp_path / "princeton_box50"
    write_scene(folder)
    (folder / "depth" / "frame.1.png").write_bytes(b"no picture")
    with pytest.raises(InputError, match=r"frame\.1"):
        load_real_scene(folder, frames=FRAMES)
    (folder / "depth" / "frame.1.png").unlink()
    with pytest.raises(InputError, match=r"depth map frame\.1"):
        load_real_scene(folder, frames=FRAMES)
    (folder / "images" / "frame.0.png").unlink()
    with pytest.raises(InputError, match=r"image frame\.0"):
        load_real_scene(folder, frames=FRAMES)
    with pytest.raises(InputError, match="princeton_box50"):
        load_real_scene(tmp_path / "kitchen", frames=FRAMES)
    with pytest.raises(InputError, match=r"frames: got frame\.9"):
        load_real_scene(folder, frames=["frame.0", "frame.9"])


@pytest.mark.parametrize("name", FOLDERS)
def test_real_scenes_are_consistent(name: str, real: Path) -> None:
    """What one view sees is where another sees it: poses, intrinsics and depth belong together."""
    scene = load_real_scene(real / name, frames=frame_lists()[name][:3][-1], longest_side=160)
    turns = scene.extrinsics[:, :, :3]
    np.testing.assert_allclose(turns @ turns.transpose(0, 2, 1), np.eye(3)[None].repeat(len(turns), 0), atol=1e-6)
    assert scene.images.std() > 20
    assert scene.has_depth != ("cameras only" in scene.slices)
    if not scene.has_depth or name == "middlebury_motorcycle":
        return
    shared_parts = []
    for other in range(1, len(scene.depth)):
        points = unproject(scene.depth[0], scene.intrinsics[0], scene.extrinsics[0])[scene.depth[0] > 0]
        xy, z = project(points, scene.intrinsics[other], scene.extrinsics[other])
        inside = (z > 0) & (xy >= 0).all(1) & (xy < scene.depth.shape[:0:-1]).all(1)
        seen = scene.depth[other][tuple(xy[inside].astype(int)[:, ::-1].T)]
        error = np.abs(seen - z[inside])[seen > 0] / seen[seen > 0]
        shared_parts.append(float(inside.mean()))
        assert inside.mean() < 0.4 or np.median(error) < 0.03
    assert max(shared_parts) > 0.4


def test_only_the_left_motorcycle_has_depth(real: Path) -> None:
    scene = load_real_scene(real / "middlebury_motorcycle", frames=["left", "right"])
    assert valid_pixels(scene.depth).mean((1, 2)) == pytest.approx([0.9265, 0], abs=1e-3)
