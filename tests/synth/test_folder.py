"""A scene on disk, read back by other readers than the one that wrote it."""

from __future__ import annotations

import re
from pathlib import Path

import cv2
import numpy as np
import pytest

from depth_anything_3.errors import InputError
from depth_anything_3.geometry.pinhole import project, unproject
from depth_anything_3.synth.cameras import make_cameras
from depth_anything_3.synth.folder import FolderOptions, write_folder
from depth_anything_3.synth.sample import Sample, build, film, separate

H, W = 30, 40


def sample(kind: str = "room", *, moving: int = 0, views: int = 3) -> Sample:
    scene, motions = build(5, kind, moving=moving)
    cameras = make_cameras(scene, views, H, W, seed=1, kind="orbit", fov_deg=75)
    return film(scene, motions, cameras, H, W, times=[0.5 * i for i in range(views)])


def read(path: Path) -> np.ndarray:
    pixels = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
    assert pixels is not None, path
    return pixels


def test_everything_comes_back(tmp_path: Path) -> None:
    given = sample(moving=2)
    files = write_folder(tmp_path / "scene", [given], FolderOptions(normals=True))
    assert all(file.is_file() for file in files)
    assert sorted(p for p in (tmp_path / "scene").rglob("*") if p.is_file()) == sorted(files)
    assert len(files) == 3 * 6 + 1
    for i in range(3):
        name = f"{i:06d}"
        folder = tmp_path / "scene"
        np.testing.assert_array_equal(np.load(folder / f"depth/{name}.npy"), given.depth[i])
        np.testing.assert_array_equal(np.load(folder / f"normal/{name}.npy"), given.normal[i])
        picture = read(folder / f"images/{name}.png")[..., ::-1]
        assert np.abs(picture / 255 - given.rgb[i]).max() <= 0.5 / 255 + 1e-6
        assert read(folder / f"object/{name}.png").dtype == np.uint16
        np.testing.assert_array_equal(read(folder / f"object/{name}.png").astype(int) - 1, given.object_id[i])
        np.testing.assert_array_equal(read(folder / f"sky/{name}.png"), given.sky[i] * np.uint8(255))
        np.testing.assert_array_equal(read(folder / f"moving/{name}.png"), given.moving[i] * np.uint8(255))


def test_cameras_are_poses_in_metres(tmp_path: Path) -> None:
    """Points of one view, through the file's cameras, land where the other view's own cameras put them."""
    given = sample()
    write_folder(tmp_path / "scene", [given])
    with np.load(tmp_path / "scene/scene.npz", allow_pickle=False) as cameras:
        assert cameras["names"].tolist() == ["000000", "000001", "000002"]
        assert cameras["K"].dtype == cameras["c2w"].dtype == np.float64
        assert (str(cameras["units"]), str(cameras["pose_kind"]), float(cameras["pixel_centre"])) == ("m", "exact", 0.5)
        k, c2w = cameras["K"], cameras["c2w"]
    np.testing.assert_array_equal(k, given.intrinsics)
    w2c = np.linalg.inv(c2w)[:, :3]
    points = unproject(given.depth, given.intrinsics, given.extrinsics)
    expected, _ = project(points, given.intrinsics, given.extrinsics)
    found, _ = project(points, k, w2c)
    np.testing.assert_allclose(found[~given.sky], expected[~given.sky], atol=1e-2)


def test_millimetres_and_jpeg(tmp_path: Path) -> None:
    given = sample()
    write_folder(tmp_path / "scene", [given], FolderOptions(depth_format="png16", image_format="jpg"))
    depth = read(tmp_path / "scene/depth/000001.png")
    assert depth.dtype == np.uint16
    np.testing.assert_allclose(depth / 1000, given.depth[1], atol=0.00051)
    picture = read(tmp_path / "scene/images/000001.jpg")[..., ::-1]
    assert np.abs(picture / 255 - given.rgb[1]).mean() < 0.03
    assert not (tmp_path / "scene/normal").exists()


def test_depth_too_far_for_millimetres_leaves_nothing_behind(tmp_path: Path) -> None:
    given = sample("street")
    assert given.depth.max() > 65.5
    with pytest.raises(InputError, match=re.escape("npy")):
        write_folder(tmp_path / "scene", [given], FolderOptions(depth_format="png16"))
    assert list(tmp_path.iterdir()) == []


def test_views_may_come_one_by_one(tmp_path: Path) -> None:
    scene, motions = build(5, "room")
    cameras = make_cameras(scene, 3, H, W, seed=1, kind="orbit", fov_deg=75)
    counts: list[int] = []
    write_folder(tmp_path / "one", (film(scene, motions, c, H, W) for c in separate(cameras)), written=counts.append)
    write_folder(tmp_path / "all", [film(scene, motions, cameras, H, W)])
    assert counts == [1, 2, 3]
    for name in ("names", "K", "c2w"):
        one, together = (np.load(tmp_path / folder / "scene.npz")[name] for folder in ("one", "all"))
        np.testing.assert_array_equal(one, together)
    one, together = (np.load(tmp_path / folder / "depth/000002.npy") for folder in ("one", "all"))
    np.testing.assert_allclose(one, together, rtol=1e-5)


def test_full_folders_are_left_alone_unless_asked(tmp_path: Path) -> None:
    given = sample(views=1)
    target = tmp_path / "scene"
    target.mkdir()
    (target / "notes.txt").write_text("mine")
    with pytest.raises(InputError, match="holds files"):
        write_folder(target, [given])
    assert [path.name for path in target.iterdir()] == ["notes.txt"]
    write_folder(target, [given], overwrite=True)
    write_folder(target, [given], overwrite=True)
    assert (target / "notes.txt").read_text() == "mine"
    assert (target / "scene.npz").is_file()
    assert [path.name for path in tmp_path.iterdir()] == ["scene"]


def test_a_failure_half_way_leaves_nothing_behind(tmp_path: Path) -> None:
    def views() -> object:
        yield sample(views=1)
        raise RuntimeError("out of ideas")

    with pytest.raises(RuntimeError):
        write_folder(tmp_path / "scene", views())  # type: ignore[arg-type]
    assert list(tmp_path.iterdir()) == []


def test_wrong_arguments(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="png16"):
        FolderOptions(depth_format="exr")
    with pytest.raises(InputError, match="jpg"):
        FolderOptions(image_format="gif")
    with pytest.raises(InputError, match="at least one view"):
        write_folder(tmp_path / "scene", [])
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="a file"):
        write_folder(tmp_path / "file", [])
