"""The three files of a COLMAP model, binary or text; :mod:`depth_anything_3.io.colmap` reads them back.

Formats: https://colmap.github.io/format.html
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt
from torch import from_numpy

from depth_anything_3._files import atomic_path
from depth_anything_3.export._colmap_model import ColmapModel
from depth_anything_3.geometry.rotations import quat_xyzw_from_matrix
from depth_anything_3.io.colmap import MODELS, ColmapImage

_FEATURE = np.dtype([("x", "<f8"), ("y", "<f8"), ("point", "<i8")])
_MODEL_NUMBERS = {name: number for number, (name, _) in enumerate(MODELS)}


def write_model(model: ColmapModel, paths: list[Path], *, binary: bool) -> None:
    """Write cameras, images and points to the three paths, each whole or not at all."""
    kinds = (_binary_cameras, _binary_images, _binary_points) if binary else (_text_cameras, _text_images, _text_points)
    for path, parts in zip(paths, kinds, strict=True):
        with atomic_path(path) as temporary, temporary.open("wb") as file:
            for part in parts(model):
                file.write(part)


def _quat_wxyz(image: ColmapImage) -> tuple[float, ...]:
    x, y, z, w = quat_xyzw_from_matrix(from_numpy(image.extrinsics[:, :3].copy())).tolist()
    return w, x, y, z


def _pose(image: ColmapImage) -> tuple[float, ...]:
    return (*_quat_wxyz(image), *image.extrinsics[:, 3].tolist())


def _tracks(model: ColmapModel) -> Iterator[npt.NDArray[np.int64]]:
    """For each point, its (T, 2) image ids and feature numbers."""
    edges = np.searchsorted(model.tracks[:, 0], np.arange(len(model.xyz)) + 1)
    return iter(np.split(model.tracks[:, 1:], edges[1:])) if len(edges) else iter(())


# --- binary ----------------------------------------------------------------------------------------------------------


def _binary_cameras(model: ColmapModel) -> Iterator[bytes]:
    yield struct.pack("<Q", len(model.cameras))
    for number, camera in model.cameras.items():
        yield struct.pack("<iiQQ", number, _MODEL_NUMBERS[camera.model], camera.width, camera.height)
        yield struct.pack(f"<{len(camera.parameters)}d", *camera.parameters)


def _binary_images(model: ColmapModel) -> Iterator[bytes]:
    yield struct.pack("<Q", len(model.images))
    for image in model.images:
        features = np.empty(len(image.xy), _FEATURE)
        features["x"], features["y"], features["point"] = *image.xy.T, image.points
        yield struct.pack("<i7di", image.number, *_pose(image), image.camera)
        yield image.name.encode() + b"\0" + struct.pack("<Q", len(features)) + features.tobytes()


def _binary_points(model: ColmapModel) -> Iterator[bytes]:
    yield struct.pack("<Q", len(model.xyz))
    rows = zip(model.xyz.tolist(), model.rgb.tolist(), model.errors.tolist(), _tracks(model), strict=True)
    for number, (xyz, rgb, error, track) in enumerate(rows, 1):
        yield struct.pack("<Q3d3BdQ", number, *xyz, *rgb, error, len(track)) + track.astype("<i4").tobytes()


# --- text ------------------------------------------------------------------------------------------------------------


def _text_cameras(model: ColmapModel) -> Iterator[bytes]:
    yield b"# camera id, model, width, height, parameters\n"
    for number, camera in model.cameras.items():
        yield _line(number, camera.model, camera.width, camera.height, *camera.parameters)


def _text_images(model: ColmapModel) -> Iterator[bytes]:
    yield b"# image id, qw, qx, qy, qz, tx, ty, tz, camera id, name; then x, y, point id of every feature\n"
    for image in model.images:
        yield _line(image.number, *_pose(image), image.camera, image.name)
        features = zip(image.xy.tolist(), image.points.tolist(), strict=True)
        yield _line(*(value for (x, y), point in features for value in (x, y, point)))


def _text_points(model: ColmapModel) -> Iterator[bytes]:
    yield b"# point id, x, y, z, r, g, b, error, then image id and feature number of every observation\n"
    rows = zip(model.xyz.tolist(), model.rgb.tolist(), model.errors.tolist(), _tracks(model), strict=True)
    for number, (xyz, rgb, error, track) in enumerate(rows, 1):
        yield _line(number, *xyz, *rgb, error, *track.ravel().tolist())


def _line(*values: object) -> bytes:
    """Numbers as Python writes them, so that none loses a digit."""
    return (" ".join(map(str, values)) + "\n").encode()
