"""Files of cameras alone: what other programs read of poses and lenses."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from depth_anything_3._files import atomic_path
from depth_anything_3.errors import InputError
from depth_anything_3.export import kitti, tum
from depth_anything_3.export._colmap_files import write_model
from depth_anything_3.export._colmap_model import ColmapModel
from depth_anything_3.export._json import write_json
from depth_anything_3.export._manifest import MANIFEST_VERSION
from depth_anything_3.export._trajectory import kitti_lines, tum_lines
from depth_anything_3.export.base import MANIFEST, MANIFEST_FORMAT, still_there
from depth_anything_3.geometry.stored_poses import invert_rigid
from depth_anything_3.io.cameras.cameras_json import FILE_NAME, write_cameras
from depth_anything_3.io.colmap import ColmapCamera, ColmapImage
from depth_anything_3.types.cameras import Cameras


def _tum(cameras: Cameras, folder: Path) -> list[Path]:
    times = np.arange(len(cameras), dtype=np.float64) if cameras.times is None else cameras.times
    return [_write(folder / tum.FILE, tum_lines(_poses(cameras, "tum"), times.tolist()))]


def _kitti(cameras: Cameras, folder: Path) -> list[Path]:
    return [_write(folder / kitti.FILE, kitti_lines(_poses(cameras, "kitti")))]


def _json(cameras: Cameras, folder: Path) -> list[Path]:
    _need(cameras, "cameras", "names")
    return [write_cameras(cameras, folder / FILE_NAME)]


def _colmap(cameras: Cameras, folder: Path) -> list[Path]:
    _need(cameras, "colmap", "names", "intrinsics", "extrinsics", "sizes")
    model = ColmapModel(
        cameras={i + 1: _colmap_camera(cameras, i) for i in range(len(cameras))},
        images=[_colmap_image(cameras, i) for i in range(len(cameras))],
        xyz=np.zeros((0, 3)),
        rgb=np.zeros((0, 3), np.uint8),
        errors=np.zeros(0),
        tracks=np.zeros((0, 3), np.int64),
    )
    paths = [folder / f"{name}.txt" for name in ("cameras", "images", "points3D")]
    write_model(model, paths, binary=False)
    return paths


CAMERA_FORMATS: dict[str, tuple[tuple[str, ...], Callable[[Cameras, Path], list[Path]]]] = {
    "cameras": ((FILE_NAME,), _json),
    "colmap": (("cameras.txt", "images.txt", "points3D.txt"), _colmap),
    "kitti": ((kitti.FILE,), _kitti),
    "tum": ((tum.FILE,), _tum),
}
"""Format -> the files it writes, and the function that writes them into a folder."""


def check_camera_formats(formats: Sequence[str]) -> list[str]:
    """The files that these formats write, relative to the folder.

    Raises:
        InputError: a format that cameras alone cannot have.
    """
    for name in formats:
        if name not in CAMERA_FORMATS:
            raise InputError("export_format", repr(name), "a format for cameras without depth", CAMERA_FORMATS)
    return [*(file for name in formats for file in CAMERA_FORMATS[name][0]), MANIFEST]


def export_cameras(cameras: Cameras, folder: Path, formats: Sequence[str]) -> list[Path]:
    """Write cameras in every format asked for, and ``exports.json``. Poses keep their frame.

    Args:
        cameras: of a file.
        folder: made where needed.
        formats: of :data:`CAMERA_FORMATS`.

    Raises:
        InputError: an unknown format, or cameras that lack what it needs.
    """
    check_camera_formats(formats)
    written = {name: CAMERA_FORMATS[name][1](cameras, folder) for name in formats}
    files = {
        name: {"files": [path.relative_to(folder).as_posix() for path in paths]} for name, paths in written.items()
    }
    left = still_there(folder, (entry["files"] for entry in files.values()))
    content = {"format": MANIFEST_FORMAT, "version": MANIFEST_VERSION, "formats": files} | left
    return [*(path for paths in written.values() for path in paths), write_json(folder / MANIFEST, content)]


def _need(cameras: Cameras, name: str, *fields: str) -> None:
    if missing := [field for field in fields if getattr(cameras, field) is None]:
        raise InputError("export_format", f"{name!r}, which needs {' and '.join(missing)}", "a file that has them")


def _poses(cameras: Cameras, name: str) -> npt.NDArray[np.float64]:
    _need(cameras, name, "extrinsics")
    assert cameras.extrinsics is not None
    return np.stack([invert_rigid(pose) for pose in cameras.extrinsics])


def _colmap_camera(cameras: Cameras, index: int) -> ColmapCamera:
    assert cameras.intrinsics is not None and cameras.sizes is not None
    k, lens, (height, width) = cameras.intrinsics[index], cameras.lenses[index], cameras.sizes[index].tolist()
    numbers = (float(k[0, 0]), float(k[1, 1]), float(k[0, 2]), float(k[1, 2]), *lens.coefficients)
    return ColmapCamera(model=lens.model, width=width, height=height, parameters=numbers)


def _colmap_image(cameras: Cameras, index: int) -> ColmapImage:
    assert cameras.names is not None and cameras.extrinsics is not None
    return ColmapImage(
        number=index + 1,
        name=cameras.names[index],
        camera=index + 1,
        extrinsics=np.array(cameras.extrinsics[index]),
        xy=np.zeros((0, 2)),
        points=np.zeros(0, np.int64),
    )


def _write(path: Path, lines: Sequence[str]) -> Path:
    with atomic_path(path) as temporary:
        temporary.write_text("\n".join(lines) + "\n", encoding="utf-8", newline="\n")
    return path
