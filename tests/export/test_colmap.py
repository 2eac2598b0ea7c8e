"""The COLMAP model, read back by this package and by COLMAP itself."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from depth_anything_3.errors import InputError
from depth_anything_3.export import colmap
from depth_anything_3.export._frames import moved_extrinsics
from depth_anything_3.io.cameras.base import read_cameras
from depth_anything_3.io.colmap import read_images, read_points
from depth_anything_3.types.prediction import Prediction

SOURCE = [[60, 0, 39], [0, 62, 33], [0, 0, 1]]
NORMAL, OFFSET = np.array([0.1, -0.2, 1.0]), 6.0
ENCODINGS = pytest.mark.parametrize("encoding", ["binary", "text"])


@ENCODINGS
@pytest.mark.parametrize("frame", ["input", "z_up"])
def test_cameras_come_back_at_the_resolution_of_the_pictures(
    room: Prediction, tmp_path: Path, encoding: Any, frame: Any
) -> None:
    options = colmap.Options(encoding=encoding, frame=frame)
    paths = colmap.export(room, tmp_path, options)
    assert [path.relative_to(tmp_path).as_posix() for path in paths] == colmap.planned_files(3, options)
    read = read_cameras(tmp_path)
    assert read.names == room.names and read.sizes.tolist() == [[64, 80]] * 3
    np.testing.assert_allclose(read.intrinsics, [SOURCE] * 3, atol=1e-5)
    np.testing.assert_allclose(read.extrinsics, moved_extrinsics(room, frame), atol=1e-9)


@ENCODINGS
def test_points_lie_on_the_surface_and_where_they_are_observed(room: Prediction, tmp_path: Path, encoding: Any) -> None:
    colmap.export(room, tmp_path, colmap.Options(encoding=encoding, num_max_points=200))
    points, images = read_points(tmp_path), read_images(tmp_path)
    assert 50 < len(points.ids) <= 200 and points.track_lengths.min() >= 2
    np.testing.assert_allclose(points.xyz @ NORMAL, OFFSET, atol=1e-4)
    assert points.errors.max() < 1e-3
    observed = np.zeros(len(points.ids), np.int64)
    fractions = []
    for image in images.values():
        rows = image.points - 1
        observed += np.bincount(rows, minlength=len(observed))
        camera = points.xyz[rows] @ image.extrinsics[:, :3].T + image.extrinsics[:, 3]
        expected = (camera / camera[:, 2:] @ np.array(SOURCE).T)[:, :2]
        assert np.abs(expected - image.xy).max() < 1e-3
        assert (image.xy > [0, 0]).all() and (image.xy < [80, 64]).all()
        fractions.append(image.xy % 1)
    np.testing.assert_array_equal(observed, points.track_lengths)
    assert len(np.unique(np.concatenate(fractions).round(6))) > 100, "observations are not whole pixels"


def test_both_encodings_hold_the_same(room: Prediction, tmp_path: Path) -> None:
    for encoding in ("binary", "text"):
        colmap.export(room, tmp_path / encoding, colmap.Options(encoding=encoding))  # type: ignore[arg-type]
    one, other = (read_images(tmp_path / encoding) for encoding in ("binary", "text"))
    for number, image in one.items():
        np.testing.assert_array_equal(image.xy, other[number].xy)
        np.testing.assert_array_equal(image.points, other[number].points)
        np.testing.assert_array_equal(image.extrinsics, other[number].extrinsics)
    np.testing.assert_array_equal(read_points(tmp_path / "binary").xyz, read_points(tmp_path / "text").xyz)


def test_names_that_text_cannot_hold_are_said(room: Prediction, tmp_path: Path) -> None:
    with pytest.warns(UserWarning, match="first blank"):
        colmap.export(replace(room, names=("a b.jpg", "c", "d")), tmp_path, colmap.Options(encoding="text"))
    assert read_cameras(tmp_path).names[0] == "a b.jpg"


def test_depths_that_disagree_are_no_observation(room: Prediction, tmp_path: Path) -> None:
    depth = room.depth.copy()
    depth[2] *= 1.1
    colmap.export(replace(room, depth=depth), tmp_path, colmap.Options())
    images = read_images(tmp_path)
    assert len(images[1].points) and not len(images[3].points)
    with pytest.warns(UserWarning, match="points3D is empty"):
        colmap.export(replace(room, depth=depth), tmp_path, colmap.Options(min_views=3))


def test_one_view_one_camera_and_equal_names(room: Prediction, make_prediction: Any, tmp_path: Path) -> None:
    colmap.export(make_prediction(1, names=()), tmp_path / "one", colmap.Options(layout="sparse"))
    assert read_points(tmp_path / "one" / "sparse" / "0").track_lengths.max() == 1
    assert read_cameras(tmp_path / "one").names == ("view_0000.png",)
    with pytest.warns(UserWarning, match="same name"):
        colmap.export(replace(room, names=("a.jpg",) * 3), tmp_path, colmap.Options(shared_camera=True))
    assert read_cameras(tmp_path).names == ("0000_a.jpg", "0001_a.jpg", "0002_a.jpg")
    assert {image.camera for image in read_images(tmp_path).values()} == {1}
    records = (*room.records[:2], replace(room.records[2], source_hw=(64, 81)))
    with pytest.raises(InputError, match="shared_camera: got True for pictures of 2 sizes"):
        colmap.export(replace(room, records=records), tmp_path, colmap.Options(shared_camera=True))
    for wrong in ({"min_views": 0}, {"depth_tolerance": 0.0}):
        with pytest.raises(InputError, match=next(iter(wrong))):
            colmap.Options(**wrong)  # type: ignore[arg-type]


@ENCODINGS
def test_colmap_reads_it(room: Prediction, tmp_path: Path, encoding: Any) -> None:
    pycolmap = pytest.importorskip("pycolmap")
    named = replace(room, names=("a photo é.jpg" if encoding == "binary" else "aé.jpg", "below/b.jpg", "c.jpg"))
    colmap.export(named, tmp_path, colmap.Options(encoding=encoding, num_max_points=200))
    model, points = pycolmap.Reconstruction(str(tmp_path)), read_points(tmp_path)
    assert {image.name for image in model.images.values()} == set(named.names)
    assert len(model.points3D) == len(points.ids) and model.num_cameras() == 3
    for number, image in model.images.items():
        pose = image.cam_from_world() if callable(image.cam_from_world) else image.cam_from_world
        np.testing.assert_allclose(pose.matrix(), room.extrinsics[number - 1], atol=1e-6)
        camera = model.cameras[image.camera_id]
        np.testing.assert_allclose(camera.calibration_matrix(), SOURCE, atol=1e-5)
        assert (camera.width, camera.height) == (80, 64)
    stored = model.compute_mean_reprojection_error()
    model.update_point_3d_errors()
    assert model.compute_mean_reprojection_error() == pytest.approx(stored, abs=1e-6)
