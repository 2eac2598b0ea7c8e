"""The cloud, read back by an independent library."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from depth_anything_3.errors import InputError
from depth_anything_3.export import ply
from depth_anything_3.export._frames import frame_from_world
from depth_anything_3.export._ply import Element, record, write_ply
from depth_anything_3.geometry.pinhole import unproject
from depth_anything_3.types.prediction import Prediction

trimesh = pytest.importorskip("trimesh")


def world(prediction: Prediction) -> np.ndarray:
    depth = prediction.depth.astype(np.float64)
    return unproject(depth, prediction.intrinsics, prediction.extrinsics).reshape(-1, 3)


def test_points_and_colours_are_those_of_the_pixels(room: Prediction, tmp_path: Path) -> None:
    (path,) = ply.export(room, tmp_path, ply.Options())
    cloud = trimesh.load(path)
    np.testing.assert_allclose(cloud.vertices, world(room), atol=1e-5)
    np.testing.assert_array_equal(cloud.colors[:, :3], room.processed_images.reshape(-1, 3))
    header = path.read_bytes().split(b"end_header")[0].decode("ascii")
    assert "comment unit: metre" in header and "comment frame: world of the poses" in header


@pytest.mark.parametrize("frame", ["first_camera", "z_up"])
def test_frames_are_rigid_and_start_at_the_first_camera(room: Prediction, tmp_path: Path, frame: Any) -> None:
    matrix = frame_from_world(room, frame)
    np.testing.assert_allclose(matrix[:3, :3] @ matrix[:3, :3].T, np.eye(3), atol=1e-9)
    assert np.linalg.det(matrix[:3, :3]) > 0
    pose = room.extrinsics[0].astype(np.float64)
    centre = -np.linalg.inv(pose[:, :3]) @ pose[:, 3]
    np.testing.assert_allclose(matrix @ [*centre, 1], [0, 0, 0, 1], atol=1e-6)
    if frame == "z_up":
        up = -room.extrinsics[:, 1, :3].astype(np.float64).mean(0)
        np.testing.assert_allclose(matrix[:3, :3] @ up / np.linalg.norm(up), [0, 0, 1], atol=1e-6)
        ahead = matrix[:3, :3] @ pose[2, :3]
        assert abs(ahead[0]) < 1e-6 and ahead[1] > 0.5
    (path,) = ply.export(room, tmp_path, ply.Options(frame=frame))
    expected = world(room) @ matrix[:3, :3].T + matrix[:3, 3]
    np.testing.assert_allclose(trimesh.load(path).vertices, expected, atol=1e-5)


def test_z_up_where_the_cameras_look_straight_down(make_prediction: Any) -> None:
    pose = np.array([[[1, 0, 0, 0.5], [0, 0, -1, 0], [0, 1, 0, 2]], [[1, 0, 0, 0], [0, 0, 1, 0], [0, -1, 0, 0]]])
    matrix = frame_from_world(make_prediction(2, extrinsics=pose.astype(np.float32)), "z_up")
    assert np.isfinite(matrix).all() and np.linalg.det(matrix[:3, :3]) == pytest.approx(1)


def test_thinning_and_confidence(make_prediction: Any, tmp_path: Path) -> None:
    prediction = make_prediction()
    (path,) = ply.export(prediction, tmp_path, ply.Options(num_max_points=100, confidence=True))
    vertex = trimesh.load(path).metadata["_ply_raw"]["vertex"]["data"]
    assert len(vertex["x"]) == 100
    assert np.asarray(vertex["confidence"]).min() >= np.float32(np.percentile(prediction.conf, 40))


def test_what_cannot_be_used_is_left_out_or_refused(make_prediction: Any, tmp_path: Path) -> None:
    base = make_prediction()
    poses, depth = base.extrinsics.copy(), base.depth.copy()
    poses[1], depth[0, 0, 0] = np.nan, 3e38
    with pytest.warns(UserWarning, match="ply: views 1 are left out"):
        (path,) = ply.export(make_prediction(extrinsics=poses, depth=depth, conf=None), tmp_path, ply.Options())
    vertices = trimesh.load(path).vertices
    assert np.isfinite(vertices).all() and len(vertices) in (2 * depth[0].size, 2 * depth[0].size - 1)
    with pytest.raises(InputError, match="no view with a usable camera"):
        ply.export(make_prediction(extrinsics=poses * np.nan), tmp_path / "none", ply.Options())
    assert not (tmp_path / "none").exists()
    with pytest.warns(UserWarning, match="is empty"):
        ply.export(make_prediction(depth=depth * 0), tmp_path, ply.Options())
    with pytest.warns(UserWarning, match="confidence without effect"):
        ply.export(make_prediction(conf=None), tmp_path, ply.Options(confidence=True))


def test_a_file_that_fails_halfway_leaves_nothing(tmp_path: Path) -> None:
    properties = [("float", "x"), ("list uchar int", "vertex_indices")]
    short = Element("vertex", 2, properties, [np.zeros(1, record(properties))])
    with pytest.raises(AssertionError):
        write_ply(tmp_path / "a.ply", [short])
    assert list(tmp_path.iterdir()) == []
