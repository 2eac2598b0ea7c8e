"""tum, kitti and nerfstudio: the readers of this package give the same cameras back."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from depth_anything_3.errors import InputError
from depth_anything_3.export import kitti, nerfstudio, ply, tum
from depth_anything_3.export._frames import moved_extrinsics
from depth_anything_3.io.cameras.base import read_cameras
from depth_anything_3.types.prediction import Prediction

FRAMES = ["input", "first_camera", "z_up"]


@pytest.mark.parametrize("frame", FRAMES)
def test_trajectories_come_back(room: Prediction, tmp_path: Path, frame: Any) -> None:
    expected = moved_extrinsics(room, frame)
    if frame == "input":
        np.testing.assert_allclose(expected, room.extrinsics, atol=1e-6)
    if frame == "first_camera":
        np.testing.assert_allclose(expected[0], np.eye(3, 4), atol=1e-9)
    (path,) = tum.export(room, tmp_path, tum.Options(frame=frame, views_per_second=10.0))
    read = read_cameras(path)
    np.testing.assert_allclose(read.extrinsics, expected, atol=1e-9)
    np.testing.assert_allclose(read.times, [0, 0.1, 0.2])
    assert "# unit: metre" in path.read_text()
    (path,) = kitti.export(room, tmp_path, kitti.Options(frame=frame))
    np.testing.assert_allclose(read_cameras(path).extrinsics, expected, atol=1e-9)


def test_views_of_a_video_keep_their_times(room: Prediction, tmp_path: Path) -> None:
    timed = dataclasses.replace(room, timestamps=(0.0, 0.04, 2.5))
    (path,) = tum.export(timed, tmp_path, tum.Options())
    np.testing.assert_allclose(read_cameras(path).times, [0, 0.04, 2.5])
    (path,) = tum.export(timed, tmp_path, tum.Options(views_per_second=2.0))
    np.testing.assert_allclose(read_cameras(path).times, [0, 0.5, 1])


def test_a_pose_that_is_missing_is_no_row_less(make_prediction: Any, tmp_path: Path) -> None:
    poses = make_prediction().extrinsics.copy()
    poses[1] = np.nan
    for exporter in (tum, kitti):
        with pytest.raises(InputError, match="poses of views 1"):
            exporter.export(make_prediction(extrinsics=poses), tmp_path, exporter.Options())
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(InputError, match="views_per_second"):
        tum.Options(views_per_second=0.0)


@pytest.mark.parametrize("frame", FRAMES)
def test_nerfstudio_comes_back(room: Prediction, tmp_path: Path, frame: Any) -> None:
    options = nerfstudio.Options(frame=frame)
    paths = nerfstudio.export(room, tmp_path, options)
    assert [path.relative_to(tmp_path).as_posix() for path in paths] == nerfstudio.planned_files(3, options)
    read = read_cameras(tmp_path / "nerfstudio")
    assert read.names == ("images/0000.png", "images/0001.png", "images/0002.png")
    np.testing.assert_allclose(read.extrinsics, moved_extrinsics(room, frame), atol=1e-9)
    np.testing.assert_allclose(read.intrinsics, room.intrinsics, atol=1e-6)
    assert read.sizes.tolist() == [[24, 32]] * 3
    for path, image in zip(paths[1:4], room.processed_images, strict=True):
        np.testing.assert_array_equal(np.asarray(Image.open(path)), image)
    content = json.loads(paths[0].read_text())
    assert content["ply_file_path"] == "points.ply" and content["depth_anything_3"]["unit"] == "metre"
    (cloud,) = ply.export(room, tmp_path, ply.Options(frame=frame))
    assert cloud.read_bytes() == paths[-1].read_bytes()


def test_nerfstudio_with_the_pictures_of_the_caller(room: Prediction, tmp_path: Path, make_prediction: Any) -> None:
    options = nerfstudio.Options(images=False, points=False)
    (path,) = nerfstudio.export(room, tmp_path, options)
    read = read_cameras(path)
    assert read.names == room.names and read.sizes.tolist() == [[64, 80]] * 3
    # Half the size, less 4 columns and rows: 2 * (x + 4).
    np.testing.assert_allclose(read.intrinsics[0], [[60, 0, 39], [0, 62, 33], [0, 0, 1]], atol=1e-5)
    assert "ply_file_path" not in json.loads(path.read_text())
    with pytest.raises(InputError, match="images"):
        nerfstudio.export(make_prediction(1, names=()), tmp_path / "none", options)
    assert not (tmp_path / "none").exists()


def test_nerfstudio_leaves_unusable_cameras_out(make_prediction: Any, tmp_path: Path) -> None:
    poses = make_prediction().extrinsics.copy()
    poses[0] = np.nan
    with pytest.warns(UserWarning, match="views 0 are left out") as caught:
        nerfstudio.export(make_prediction(extrinsics=poses), tmp_path, nerfstudio.Options())
    assert len(caught) == 1
    assert read_cameras(tmp_path / "nerfstudio").names == ("images/0001.png", "images/0002.png")
