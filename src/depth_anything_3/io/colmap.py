"""COLMAP models: images with their poses and observations, and points, from binary or text files."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
from jaxtyping import Float64, Int64

from depth_anything_3.geometry.stored_poses import rotation_from_quat_wxyz
from depth_anything_3.io.cameras.damage import damage_in

NO_POINT = -1
"""In ``ColmapImage.points``: the feature belongs to no point."""

MODELS = (
    ("SIMPLE_PINHOLE", 3),
    ("PINHOLE", 4),
    ("SIMPLE_RADIAL", 4),
    ("RADIAL", 5),
    ("OPENCV", 8),
    ("OPENCV_FISHEYE", 8),
    ("FULL_OPENCV", 12),
    ("FOV", 5),
    ("SIMPLE_RADIAL_FISHEYE", 4),
    ("RADIAL_FISHEYE", 5),
    ("THIN_PRISM_FISHEYE", 12),
    ("RAD_TAN_THIN_PRISM_FISHEYE", 16),
    ("SIMPLE_DIVISION", 4),
    ("DIVISION", 5),
    ("SIMPLE_FISHEYE", 3),
    ("FISHEYE", 4),
    ("EUCM", 6),
    ("EQUIRECTANGULAR", 2),
)
"""Name and number of parameters of the camera models; the position is the number in binary files."""


@dataclass(frozen=True, kw_only=True, eq=False)
class ColmapCamera:
    """A camera; ``parameters`` are those of its model, in pixels whose first has its centre at (0.5, 0.5)."""

    model: str
    width: int
    height: int
    parameters: tuple[float, ...]


@dataclass(frozen=True, kw_only=True, eq=False)
class ColmapImage:
    """A registered image.

    Attributes:
        number: its id in the model.
        name: path below the image folder.
        camera: id of its camera.
        extrinsics: world-to-camera, OpenCV axes.
        xy: where its features are, in pixels of the camera.
        points: ids of their points, or :data:`NO_POINT`.
    """

    number: int
    name: str
    camera: int
    extrinsics: Float64[np.ndarray, "3 4"]
    xy: Float64[np.ndarray, "f 2"]
    points: Int64[np.ndarray, " f"]


@dataclass(frozen=True, kw_only=True, eq=False)
class ColmapPoints:
    """P points.

    Attributes:
        ids: ascending.
        xyz: in the world.
        errors: mean reprojection error in pixels.
        track_lengths: number of observations.
    """

    ids: Int64[np.ndarray, " p"]
    xyz: Float64[np.ndarray, "p 3"]
    errors: Float64[np.ndarray, " p"]
    track_lengths: Int64[np.ndarray, " p"]


def find_model(folder: Path, *, beside: tuple[str, ...] = ("cameras", "points3D"), deep: bool = True) -> Path | None:
    """The folder itself, or the first one below it, that holds a COLMAP model.

    Args:
        folder: where to look.
        beside: the files that must lie beside that of the images.
        deep: also look in the folders below.
    """
    for name in ("images.bin", "images.txt"):
        for file in sorted(folder.rglob(name) if deep else folder.glob(name)):
            if all((file.parent / f"{other}{file.suffix}").is_file() for other in beside):
                return file.parent
    return None


def read_cameras(model: Path) -> dict[int, ColmapCamera]:
    """Cameras by id, from ``cameras.bin`` or ``cameras.txt``.

    Raises:
        CameraFileError: the file is missing or damaged.
    """
    file = _file(model, "cameras")
    with damage_in(file):
        return dict(_binary_cameras(file) if file.suffix == ".bin" else _text_cameras(file))


def read_images(model: Path) -> dict[int, ColmapImage]:
    """Images by id, from ``images.bin`` or ``images.txt``.

    Raises:
        CameraFileError: the file is missing or damaged.
    """
    file = _file(model, "images")
    with damage_in(file):
        found = _binary_images(file) if file.suffix == ".bin" else _text_images(file)
        return {image.number: image for image in found}


def read_points(model: Path) -> ColmapPoints:
    """Points, from ``points3D.bin`` or ``points3D.txt``; colours and tracks are left out.

    Raises:
        CameraFileError: the file is missing or damaged.
    """
    file = _file(model, "points3D")
    with damage_in(file):
        rows = sorted(_binary_points(file) if file.suffix == ".bin" else _text_points(file))
        return ColmapPoints(
            ids=np.array([row[0] for row in rows], np.int64),
            xyz=np.array([row[1:4] for row in rows], np.float64).reshape(-1, 3),
            errors=np.array([row[4] for row in rows], np.float64),
            track_lengths=np.array([row[5] for row in rows], np.int64),
        )


def _file(model: Path, name: str) -> Path:
    binary = model / f"{name}.bin"
    return binary if binary.is_file() else model / f"{name}.txt"


def _image(number: int, pose: tuple[float, ...], camera: int, name: str, features: np.ndarray) -> ColmapImage:
    """``pose`` is quat_wxyz and translation; the rows of ``features`` are x, y, id of the point."""
    rotation = rotation_from_quat_wxyz(np.array(pose[:4]))
    return ColmapImage(
        number=number,
        name=name,
        camera=camera,
        extrinsics=np.column_stack((rotation, pose[4:])),
        xy=np.stack((features["x"], features["y"]), -1).astype(np.float64),
        points=features["point"].astype(np.int64),
    )


_FEATURE = np.dtype([("x", "<f8"), ("y", "<f8"), ("point", "<i8")])


# --- binary ----------------------------------------------------------------------------------------------------------


class _Cursor:
    """A place in the content of a file; nothing is allocated for what a damaged file only claims to hold."""

    def __init__(self, content: bytes) -> None:
        self.content, self.place = content, 0

    def skip(self, size: int) -> int:
        """The place before ``size`` bytes that are passed over."""
        if size < 0 or self.place + size > len(self.content):
            raise EOFError("the file ends too early")
        start, self.place = self.place, self.place + size
        return start

    def take(self, form: str) -> tuple[int | float, ...]:
        return struct.unpack_from(form, self.content, self.skip(struct.calcsize(form)))

    def count(self) -> int:
        return int(self.take("<Q")[0])

    def name(self) -> str:
        end = self.content.find(b"\0", self.place)
        if end < 0:
            raise EOFError("the file ends too early")
        start, self.place = self.place, end + 1
        return self.content[start:end].decode()


def _binary_cameras(file: Path) -> Iterator[tuple[int, ColmapCamera]]:
    cursor = _Cursor(file.read_bytes())
    for _ in range(cursor.count()):
        number, model, width, height = map(int, cursor.take("<iiQQ"))
        if not 0 <= model < len(MODELS):
            raise ValueError(f"camera model number {model} is not known")
        name, count = MODELS[model]
        parameters = cursor.take(f"<{count}d")
        yield number, ColmapCamera(model=name, width=width, height=height, parameters=parameters)


def _binary_images(file: Path) -> Iterator[ColmapImage]:
    cursor = _Cursor(file.read_bytes())
    for _ in range(cursor.count()):
        number, *pose, camera = cursor.take("<i7di")
        name, count = cursor.name(), cursor.count()
        features = np.frombuffer(cursor.content, _FEATURE, count, cursor.skip(count * _FEATURE.itemsize))
        yield _image(int(number), tuple(pose), int(camera), name, features)


def _binary_points(file: Path) -> Iterator[tuple[float, ...]]:
    cursor = _Cursor(file.read_bytes())
    for _ in range(cursor.count()):
        number, x, y, z, _, _, _, error, track = cursor.take("<Q3d3BdQ")
        cursor.skip(8 * int(track))
        yield number, x, y, z, error, track


# --- text ------------------------------------------------------------------------------------------------------------


def _lines(file: Path) -> Iterator[str]:
    with file.open(encoding="utf-8") as stream:
        yield from (line.strip() for line in stream if not line.startswith("#"))


def _text_cameras(file: Path) -> Iterator[tuple[int, ColmapCamera]]:
    for line in filter(None, _lines(file)):
        number, model, width, height, *parameters = line.split()
        yield (
            int(number),
            ColmapCamera(model=model, width=int(width), height=int(height), parameters=tuple(map(float, parameters))),
        )


def _text_images(file: Path) -> Iterator[ColmapImage]:
    lines = _lines(file)
    for line in lines:
        if not line:
            continue
        number, *pose, camera, name = line.split(maxsplit=9)
        second = next(lines, "")  # empty where the image has no features
        triples = zip(*(islice(second.split(), start, None, 3) for start in range(3)), strict=True)
        features = np.array([(float(x), float(y), int(point)) for x, y, point in triples], _FEATURE)
        yield _image(int(number), tuple(map(float, pose)), int(camera), name, features)


def _text_points(file: Path) -> Iterator[tuple[float, ...]]:
    for line in filter(None, _lines(file)):
        number, x, y, z, _, _, _, error, *track = line.split()
        yield int(number), float(x), float(y), float(z), float(error), len(track) // 2
