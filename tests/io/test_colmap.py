"""COLMAP models: text and binary files say the same, and damaged ones say what is wrong."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from datasets.cases import shots_of
from datasets.damage import truncate
from datasets.writers.colmap import Point, Registered, write_binary, write_text

from depth_anything_3.errors import CameraFileError
from depth_anything_3.io.colmap import NO_POINT, find_model, read_cameras, read_images, read_points

SHOTS = list(shots_of("rgbd_folder").values())
IMAGES = [
    Registered("a folder/one 1.png", SHOTS[0], [(1.5, 2.25, 7), (3.0, 4.0, -1), (5.5, 6.0, 3)]),
    Registered("two.png", SHOTS[1], []),  # the second line of text is empty
    Registered("three.png", SHOTS[2], [(0.5, 0.5, 7)]),
]
POINTS = [Point(7, (1.0, -2.0, 3.5), 0.25, [(1, 0), (3, 0)]), Point(3, (0.1, 0.2, 0.3), 1.5, [(1, 2)])]
LENS = (-0.1, 0.02, 0.001, -0.002)


@pytest.mark.parametrize("write", [write_text, write_binary])
def test_reading(write: object, tmp_path: Path) -> None:
    model = tmp_path / "colmap" / "sparse" / "0"
    write(model, IMAGES, POINTS, LENS)
    assert find_model(tmp_path) == model
    (camera,) = read_cameras(model).values()
    assert (camera.model, camera.width, camera.height) == ("OPENCV", 64, 48)
    np.testing.assert_allclose(camera.parameters, [50, 50, 34.3, 22.6, *LENS])
    images = read_images(model)
    assert {number: image.name for number, image in images.items()} == {
        i + 1: image.name for i, image in enumerate(IMAGES)
    }
    for i, image in enumerate(IMAGES):
        read = images[i + 1]
        assert (read.number, read.camera) == (i + 1, 1)
        np.testing.assert_allclose(read.extrinsics, image.shot.w2c[:3], atol=1e-12)
        np.testing.assert_array_equal(read.xy, np.array([f[:2] for f in image.features]).reshape(-1, 2))
        assert read.points.tolist() == [f[2] for f in image.features]
    assert images[1].points[1] == NO_POINT
    points = read_points(model)
    assert points.ids.tolist() == [3, 7]
    np.testing.assert_array_equal(points.xyz, [POINTS[1].xyz, POINTS[0].xyz])
    assert points.errors.tolist() == [1.5, 0.25]
    assert points.track_lengths.tolist() == [1, 2]


def test_no_points(tmp_path: Path) -> None:
    write_binary(tmp_path / "m", IMAGES, [], LENS)
    assert read_points(tmp_path / "m").xyz.shape == (0, 3)


@pytest.mark.parametrize("write", [write_text, write_binary])
@pytest.mark.parametrize(
    ("name", "read"), [("cameras", read_cameras), ("images", read_images), ("points3D", read_points)]
)
def test_damage(write: object, name: str, read: object, tmp_path: Path) -> None:
    write(tmp_path / "m", IMAGES, POINTS, LENS)
    (file,) = (tmp_path / "m").glob(f"{name}.*")
    if file.suffix == ".txt":
        file.write_text(file.read_text().replace("1 ", "one ", 3))
    else:
        truncate(file)
    with pytest.raises(CameraFileError) as caught:
        read(tmp_path / "m")
    assert caught.value.file == str(file)


def test_unknown_camera_model(tmp_path: Path) -> None:
    write_binary(tmp_path / "m", IMAGES, POINTS, LENS)
    file = tmp_path / "m" / "cameras.bin"
    content = bytearray(file.read_bytes())
    content[12] = 99
    file.write_bytes(content)
    with pytest.raises(CameraFileError, match="model number 99"):
        read_cameras(tmp_path / "m")


def test_nothing_there(tmp_path: Path) -> None:
    assert find_model(tmp_path) is None
    (tmp_path / "images.bin").touch()
    assert find_model(tmp_path) is None
    with pytest.raises(CameraFileError, match="no such file"):
        read_points(tmp_path)
