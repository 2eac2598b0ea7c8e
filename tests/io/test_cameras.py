"""Files of cameras: every format gives what was written, and damage is said plainly."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from support import camera_files as files

from depth_anything_3.errors import CameraFileError, InputError
from depth_anything_3.io.cameras.base import READERS, read_cameras
from depth_anything_3.io.cameras.cameras_json import write_cameras
from depth_anything_3.types.cameras import LENS_MODELS, Cameras, Lens

WRITTEN = files.scene()


def by_name(cameras: Cameras) -> Cameras:
    assert cameras.names is not None
    order = [next(i for i, name in enumerate(cameras.names) if name.endswith(wanted)) for wanted in WRITTEN.names]
    return cameras.take(order)


def check(cameras: Cameras, tolerance: float = 1e-9) -> None:
    np.testing.assert_allclose(cameras.extrinsics, WRITTEN.extrinsics, atol=tolerance)
    np.testing.assert_allclose(cameras.intrinsics, np.stack([WRITTEN.intrinsics] * 3), atol=tolerance)
    np.testing.assert_array_equal(cameras.sizes, [WRITTEN.size] * 3)
    assert cameras.lenses == (Lens(),) * 3


# --- COLMAP ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("binary", [False, True])
@pytest.mark.parametrize("place", ["", "sparse", "sparse/0"])
def test_colmap(place: str, binary: bool, tmp_path: Path) -> None:
    files.write_colmap(tmp_path / place, WRITTEN, binary=binary)
    check(by_name(read_cameras(tmp_path)))
    model = tmp_path / place
    check(by_name(read_cameras(model / f"images.{'bin' if binary else 'txt'}")))


PARAMETERS = {
    "SIMPLE_PINHOLE": ([70], "PINHOLE", ()),
    "PINHOLE": ([70, 72], "PINHOLE", ()),
    "SIMPLE_RADIAL": ([70, 0.1], "OPENCV", (0.1, 0, 0, 0)),
    "RADIAL": ([70, 0.1, 0.2], "OPENCV", (0.1, 0.2, 0, 0)),
    "OPENCV": ([70, 72, 0.1, 0.2, 0.01, 0.02], "OPENCV", (0.1, 0.2, 0.01, 0.02)),
    "OPENCV_FISHEYE": ([70, 72, 0.1, 0.2, 0.3, 0.4], "OPENCV_FISHEYE", (0.1, 0.2, 0.3, 0.4)),
    "FULL_OPENCV": ([70, 72, 1, 2, 3, 4, 5, 6, 7, 8], "FULL_OPENCV", (1, 2, 3, 4, 5, 6, 7, 8)),
    "FOV": ([70, 72, 0.9], "FOV", (0.9,)),
    "SIMPLE_RADIAL_FISHEYE": ([70, 0.1], "OPENCV_FISHEYE", (0.1, 0, 0, 0)),
    "RADIAL_FISHEYE": ([70, 0.1, 0.2], "OPENCV_FISHEYE", (0.1, 0.2, 0, 0)),
    "THIN_PRISM_FISHEYE": ([70, 72, 1, 2, 3, 4, 5, 6, 7, 8], "THIN_PRISM_FISHEYE", (1, 2, 3, 4, 5, 6, 7, 8)),
    "RAD_TAN_THIN_PRISM_FISHEYE": ([70, 72, *range(12)], "RAD_TAN_THIN_PRISM_FISHEYE", tuple(range(12))),
    "SIMPLE_DIVISION": ([70, -0.1], "DIVISION", (-0.1,)),
    "DIVISION": ([70, 72, -0.1], "DIVISION", (-0.1,)),
    "SIMPLE_FISHEYE": ([70], "OPENCV_FISHEYE", (0, 0, 0, 0)),
    "FISHEYE": ([70, 72], "OPENCV_FISHEYE", (0, 0, 0, 0)),
    "EUCM": ([70, 72, 0.6, 1.1], "EUCM", (0.6, 1.1)),
}


@pytest.mark.parametrize("binary", [False, True])
@pytest.mark.parametrize("number, name", list(enumerate(PARAMETERS)))
def test_every_camera_model_of_colmap(number: int, name: str, binary: bool, tmp_path: Path) -> None:
    """In binary files models go by number, which is the place in the table."""
    (*rest,), model, coefficients = PARAMETERS[name]
    focals = 1 if rest[1:2] != [72] else 2
    parameters = [*rest[:focals], 41.0, 29.5, *rest[focals:]]
    files.write_colmap(tmp_path, WRITTEN, model=(name, number), parameters=parameters, binary=binary)
    cameras = read_cameras(tmp_path)
    assert cameras.lenses == (Lens(model, tuple(map(float, coefficients))),) * 3
    fy = 70 if focals == 1 else 72
    np.testing.assert_array_equal(cameras.intrinsics[0], [[70, 0, 41], [0, fy, 29.5], [0, 0, 1]])


def test_a_panorama_is_no_pinhole(tmp_path: Path) -> None:
    files.write_colmap(tmp_path, WRITTEN, model=("EQUIRECTANGULAR", 17), parameters=[80, 60], binary=True)
    with pytest.raises(CameraFileError, match="EQUIRECTANGULAR is not one that can become a pinhole"):
        read_cameras(tmp_path)


@pytest.mark.parametrize("binary", [False, True])
def test_files_of_colmap_itself(binary: bool, tmp_path: Path) -> None:
    pycolmap = pytest.importorskip("pycolmap")
    reconstruction = pycolmap.Reconstruction()
    camera = pycolmap.Camera(camera_id=5, model="OPENCV", width=80, height=60, params=[70, 72, 41, 29.5, 0.1, 0, 0, 0])
    reconstruction.add_camera_with_trivial_rig(camera)
    for i, name in enumerate(WRITTEN.names):
        image = pycolmap.Image(name=name, camera_id=5, image_id=i + 1)
        pose = pycolmap.Rigid3d(WRITTEN.extrinsics[i])
        reconstruction.add_image_with_trivial_frame(image, pose)
    (reconstruction.write_binary if binary else reconstruction.write_text)(str(tmp_path))
    cameras = by_name(read_cameras(tmp_path))
    np.testing.assert_allclose(cameras.extrinsics, WRITTEN.extrinsics, atol=1e-9)
    assert cameras.lenses[0] == Lens("OPENCV", (0.1, 0.0, 0.0, 0.0))


# --- the others --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("per_frame", [False, True])
def test_transforms(per_frame: bool, tmp_path: Path) -> None:
    files.write_transforms(tmp_path / "transforms.json", WRITTEN, per_frame=per_frame)
    check(read_cameras(tmp_path))
    (tmp_path / "transforms.json").rename(tmp_path / "transforms_train.json")
    check(read_cameras(tmp_path / "transforms_train.json"))


@pytest.mark.parametrize(
    "fields, lens",
    [
        ({"camera_model": "OPENCV", "k1": 0.1, "p2": 0.2}, Lens("OPENCV", (0.1, 0.0, 0.0, 0.2))),
        ({"k3": 0.3}, Lens("FULL_OPENCV", (0.0, 0.0, 0.0, 0.0, 0.3, 0.0, 0.0, 0.0))),
        ({"camera_model": "OPENCV_FISHEYE", "k4": 0.4}, Lens("OPENCV_FISHEYE", (0.0, 0.0, 0.0, 0.4))),
        ({"camera_model": "PINHOLE", "k1": 0.1}, Lens()),
    ],
)
def test_lenses_of_transforms(fields: dict[str, object], lens: Lens, tmp_path: Path) -> None:
    files.write_transforms(tmp_path / "transforms.json", WRITTEN, **fields)
    assert read_cameras(tmp_path).lenses == (lens,) * 3


def test_a_scene_of_blender(tmp_path: Path) -> None:
    """A field of view for all, no sizes, and names without extension."""
    files.write_photos(tmp_path / "images", WRITTEN)
    files.write_transforms(tmp_path / "transforms.json", WRITTEN)
    content = json.loads((tmp_path / "transforms.json").read_text())
    for frame in content["frames"]:
        frame["file_path"] = frame["file_path"].removesuffix(".png")
    kept = {"camera_angle_x": 2 * np.arctan(40 / 70), "frames": content["frames"]}
    (tmp_path / "transforms.json").write_text(json.dumps(kept))
    cameras = read_cameras(tmp_path)
    np.testing.assert_allclose(cameras.intrinsics[0], [[70, 0, 40], [0, 70, 30], [0, 0, 1]])
    np.testing.assert_array_equal(cameras.sizes, [(60, 80)] * 3)


def test_tum(tmp_path: Path) -> None:
    files.write_tum(tmp_path / "groundtruth.txt", WRITTEN, [1.5, 2.5, 4.0])
    cameras = read_cameras(tmp_path / "groundtruth.txt")
    np.testing.assert_allclose(cameras.extrinsics, WRITTEN.extrinsics, atol=1e-7)
    assert cameras.times.tolist() == [1.5, 2.5, 4.0]
    assert cameras.names is None and cameras.intrinsics is None


@pytest.mark.parametrize("rows", [3, 4])
def test_kitti(rows: int, tmp_path: Path) -> None:
    files.write_kitti(tmp_path / "00.txt", WRITTEN, rows=rows)
    np.testing.assert_allclose(read_cameras(tmp_path / "00.txt").extrinsics, WRITTEN.extrinsics, atol=1e-9)


@pytest.mark.parametrize("text", ["70 0 41\n0 72 29.5\n0 0 1\n", "70, 72, 41, 29.5  # of the calibration\n"])
def test_intrinsics_as_text(text: str, tmp_path: Path) -> None:
    (tmp_path / "k.txt").write_text(text)
    np.testing.assert_array_equal(read_cameras(tmp_path / "k.txt").intrinsics, [WRITTEN.intrinsics])


@pytest.mark.parametrize("model", LENS_MODELS)
def test_own_format_comes_back_bit_for_bit(model: str, tmp_path: Path) -> None:
    lens = Lens(model, tuple(0.1 + i / 7 for i in range(len(LENS_MODELS[model]))))
    given = Cameras(
        names=WRITTEN.names,
        times=np.array([0.1, 0.2, 0.3]),
        intrinsics=np.stack([WRITTEN.intrinsics] * 3),
        extrinsics=WRITTEN.extrinsics,
        sizes=np.array([WRITTEN.size] * 3),
        lenses=(lens, Lens(), lens),
    )
    file = write_cameras(given, tmp_path / "new" / "cameras.json")
    for path in (file, file.parent):
        read = read_cameras(path)
        assert read.names == given.names and read.lenses == given.lenses and read.source == str(file)
        for name in ("times", "intrinsics", "extrinsics", "sizes"):
            np.testing.assert_array_equal(getattr(read, name), getattr(given, name))


def test_own_format_in_other_conventions(tmp_path: Path) -> None:
    given = Cameras(names=WRITTEN.names, intrinsics=np.stack([WRITTEN.intrinsics] * 3), extrinsics=WRITTEN.extrinsics)
    file = write_cameras(given, tmp_path / "cameras.json")
    content = json.loads(file.read_text())
    content["convention"] = {"extrinsics": "camera-to-world", "axes": "opengl", "first_pixel_centre": 0.0}
    for entry, pose in zip(content["cameras"], WRITTEN.world_from_camera @ np.diag([1.0, -1, -1, 1]), strict=True):
        entry["extrinsics"] = pose.tolist()
        entry["intrinsics"] = (WRITTEN.intrinsics - [[0, 0, 0.5], [0, 0, 0.5], [0, 0, 0]]).tolist()
    file.write_text(json.dumps(content))
    read = read_cameras(file)
    np.testing.assert_allclose(read.extrinsics, WRITTEN.extrinsics, atol=1e-12)
    np.testing.assert_allclose(read.intrinsics, given.intrinsics, atol=1e-12)


@pytest.mark.parametrize(
    "change, reason",
    [
        (lambda c: c.update(version=2), "version 2"),
        (lambda c: c["convention"].update(axes="blender"), "'opencv', 'opengl'"),
        (lambda c: c["convention"].pop("extrinsics"), "'extrinsics' is missing"),
        (lambda c: c["cameras"][1].pop("extrinsics"), "'extrinsics' is missing"),
        (lambda c: c["cameras"][1]["extrinsics"][0].__setitem__(0, 9.0), "img10.png: .*not orthonormal"),
        (lambda c: c["cameras"][0]["intrinsics"][0].__setitem__(0, -1.0), "focal length is not positive"),
        (lambda c: c["cameras"][0].update(lens={"model": "OPENCV", "k1": 0}), "'k2' is missing"),
        (lambda c: c.update(cameras=[]), "no camera"),
    ],
)
def test_own_format_is_checked(change: Callable[[object], object], reason: str, tmp_path: Path) -> None:
    given = Cameras(names=WRITTEN.names, intrinsics=np.stack([WRITTEN.intrinsics] * 3), extrinsics=WRITTEN.extrinsics)
    file = write_cameras(given, tmp_path / "cameras.json")
    content = json.loads(file.read_text())
    change(content)
    file.write_text(json.dumps(content))
    with pytest.raises(CameraFileError, match=reason) as caught:
        read_cameras(file, argument="--poses")
    assert str(caught.value).startswith(f"--poses: got {file} (")


def test_names_are_needed(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="without names"):
        write_cameras(Cameras(extrinsics=WRITTEN.extrinsics), tmp_path / "cameras.json")
    assert not list(tmp_path.iterdir())


def test_what_is_no_file_of_cameras(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("to buy: milk\n")
    for path in (tmp_path, tmp_path / "notes.txt"):
        with pytest.raises(CameraFileError, match="not a format that is known") as caught:
            read_cameras(path)
        assert all(READERS[name].what in str(caught.value) for name in READERS)
    with pytest.raises(CameraFileError, match="no such file"):
        read_cameras(tmp_path / "nothing.json")
    with pytest.raises(CameraFileError, match="rows of different lengths"):
        (tmp_path / "notes.txt").write_text("1 2 3 4 5 6 7 8\n1 2\n")
        read_cameras(tmp_path / "notes.txt")


def test_mirrored_poses_are_refused(tmp_path: Path) -> None:
    mirrored = files.Written(WRITTEN.extrinsics * [[-1.0], [1], [1]])
    files.write_kitti(tmp_path / "00.txt", mirrored)
    with pytest.raises(CameraFileError, match="reflection"):
        read_cameras(tmp_path / "00.txt")


def test_the_example_of_the_documentation(repository: Path, tmp_path: Path) -> None:
    example = (repository / "docs" / "inputs.md").read_text().split("```json\n")[1].split("```")[0]
    (tmp_path / "cameras.json").write_text(example)
    cameras = read_cameras(tmp_path / "cameras.json")
    assert cameras.names == ("a.jpg",) and cameras.lenses == (Lens("OPENCV", (-0.1, 0.02, 0.0, 0.0)),)
