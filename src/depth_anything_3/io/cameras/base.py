"""Which reader a file of cameras needs, and what every reader must deliver."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from depth_anything_3.errors import CameraFileError
from depth_anything_3.geometry.stored_poses import intrinsics_problem, pose_problem
from depth_anything_3.io.cameras.damage import damage_in
from depth_anything_3.registry import Registry
from depth_anything_3.types.cameras import Cameras


@dataclass(frozen=True, kw_only=True)
class CameraReader:
    """One file format.

    Attributes:
        what: the format in words, for the list of what could have been given.
        recognises: whether a path, which exists, is of this format. It raises nothing but OSError.
        read: the cameras of a path. It may raise what parsers raise; that becomes a :class:`CameraFileError`.
    """

    what: str
    recognises: Callable[[Path], bool]
    read: Callable[[Path], Cameras]


READERS: Registry[CameraReader] = Registry("camera_reader")
"""Readers by format. Asked in the order of their names; the first that recognises a path reads it."""

for _name in ("cameras_json", "colmap", "intrinsics_text", "kitti", "nerfstudio", "tum"):
    READERS.register_lazy(_name, f"{__package__}.{_name}:READER")


def find_reader(path: str | os.PathLike[str]) -> CameraReader | None:
    """The reader of a file or folder, or None where no reader recognises it."""
    found = Path(path)
    try:
        return next((READERS[name] for name in READERS if READERS[name].recognises(found)), None)
    except (OSError, ValueError):  # ValueError: a zero byte in the path
        return None


def read_cameras(path: str | os.PathLike[str], *, argument: str = "cameras") -> Cameras:
    """The cameras of a file or folder, whatever its format (see :data:`READERS`).

    Args:
        path: a COLMAP model or the folder above it, a ``transforms.json``, a ``cameras.json``, a trajectory of TUM or
            KITTI, or a text file with intrinsics.
        argument: the name by which the caller knows ``path``, for errors.

    Raises:
        CameraFileError: nothing is there, it is of no known format, it is damaged, or a camera in it cannot be.
    """
    file = Path(path)
    if not os.path.exists(file):  # noqa: PTH110 - Path.exists raises on names that are too long
        raise CameraFileError(argument, str(path), "no such file or folder", _known(), ())
    reader = find_reader(file)
    if reader is None:
        raise CameraFileError(argument, str(path), "not a format that is known", _known(), ())
    try:
        with damage_in(file):
            cameras = reader.read(file)
        _check(file, cameras)
    except CameraFileError as error:
        raise CameraFileError(argument, error.file, error.reason, error.expected, error.alternatives) from error
    return cameras


def _known() -> str:
    return "one of: " + "; ".join(READERS[name].what for name in READERS)


def _check(file: Path, cameras: Cameras) -> None:
    if not len(cameras):
        raise CameraFileError("cameras", file, "no camera in it")
    for i in range(len(cameras)):
        problem = None
        if cameras.extrinsics is not None:
            problem = pose_problem(cameras.extrinsics[i])
        if cameras.intrinsics is not None:
            problem = problem or intrinsics_problem(cameras.intrinsics[i])
        if cameras.sizes is not None and not 0 < cameras.sizes[i].min() <= cameras.sizes[i].max() < 2**20:
            problem = problem or f"a picture of {cameras.sizes[i][1]}x{cameras.sizes[i][0]} pixels"
        if problem is not None:
            raise CameraFileError("cameras", file, f"camera {_label(cameras, i)}: {problem}")
    if cameras.times is not None and not np.isfinite(cameras.times).all():
        raise CameraFileError("cameras", file, "a time stamp that is not finite")


def _label(cameras: Cameras, index: int) -> str:
    return cameras.names[index] if cameras.names is not None else str(index + 1)
