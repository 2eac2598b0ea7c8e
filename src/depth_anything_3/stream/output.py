"""Files of a long sequence.

What all frames have is written for all of them: the path (``tum``, ``kitti``), one archive per frame (``npz``), one
cloud through a grid (``ply``). Every other format is that of :mod:`depth_anything_3.export`, written from at most
``most_views`` frames, evenly spread, because those formats hold their views in memory. ``published`` writes the files
of the published tool for long videos.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from depth_anything_3._files import atomic_path
from depth_anything_3.errors import InputError
from depth_anything_3.export._manifest import inputs_of
from depth_anything_3.export._ply import Element, record, write_ply
from depth_anything_3.export.base import EXPORTERS, export_all, planned_files, resolve_options
from depth_anything_3.geometry.stored_poses import invert_rigid
from depth_anything_3.refine.points import points
from depth_anything_3.stream.cloud import VoxelCloud
from depth_anything_3.stream.reconstructor import StreamingReconstructor, keyframes
from depth_anything_3.types.options import CleanOptions

MOST_VIEWS = 200
"""The most frames that are written in a format that holds them all in memory."""

VOXEL_SHARE = 0.01
"""Side of a cube as a share of the median depth of the sequence, unless one is asked for."""

CLEANING = CleanOptions(conf_percentile=10.0)
"""What becomes a point of the cloud."""

_TOGETHER = 4  # frames whose points are made at one time
_PROPERTIES = [*(("float", name) for name in "xyz"), *(("uchar", name) for name in ("red", "green", "blue"))]


def write_results(
    stream: StreamingReconstructor,
    folder: str | Path,
    formats: Sequence[str],
    *,
    voxel: float | None = None,
    most_views: int = MOST_VIEWS,
    export_kwargs: Mapping[str, Mapping[str, object]] | None = None,
    model: Mapping[str, object] | None = None,
) -> list[Path]:
    """Write a sequence in several formats, and ``exports.json``, which lists the files and what made them.

    Args:
        stream: finalized.
        folder: made where needed; files of the same names are replaced.
        formats: of :data:`STREAM_FORMATS` and :data:`~depth_anything_3.export.base.EXPORTERS`.
        voxel: side of the cubes of ``ply`` and ``published``, in the unit of the trajectory; None: see
            :data:`VOXEL_SHARE`.
        most_views: the most frames of formats that hold all in memory.
        export_kwargs: options of these formats.
        model: see :func:`~depth_anything_3.export.base.export_all`.

    Returns:
        the files, in the order written.

    Raises:
        InputError: an unknown format or option, or a sequence without frames.

    Warns:
        UserWarning: a format shows only some of the frames.
    """
    known = [*STREAM_FORMATS, *(name for name in EXPORTERS if name not in STREAM_FORMATS)]
    if wrong := [name for name in formats if name not in known]:
        raise InputError("formats", ", ".join(wrong), "known formats", known)
    if not len(stream):
        raise InputError("stream", "no frame with a camera", "at least one")
    others = [name for name in formats if name not in STREAM_FORMATS]
    options, target = resolve_options(others, export_kwargs), Path(folder)
    target.mkdir(parents=True, exist_ok=True)
    written = {name: STREAM_FORMATS[name](stream, target, voxel) for name in formats if name in STREAM_FORMATS}
    more: dict[str, Any] = {
        "formats": {
            name: {"files": [path.relative_to(target).as_posix() for path in paths], "frames": len(stream)}
            for name, paths in written.items()
        }
    }
    chosen = keyframes(len(stream), most_views) if others else [0]
    if not others:
        more["inputs"] = inputs_of(stream.names(), stream.records())
    elif len(chosen) < len(stream):
        left = f"{len(chosen)} of the {len(stream)} frames"
        warnings.warn(f"{', '.join(others)}: {left}, evenly spread, as they hold all in memory", stacklevel=2)
    files = [path for paths in written.values() for path in paths]
    return files + export_all(stream.prediction(chosen), target, options, model=model, more=more)


def possible_files(folder: str | Path, formats: Sequence[str], *, most_views: int = MOST_VIEWS) -> list[str]:
    """The files that :func:`write_results` might replace in a folder, relative to it.

    Args:
        folder: where results shall go.
        formats, most_views: as there.
    """
    target = Path(folder)
    patterns = [pattern for name in formats for pattern in _FILES.get(name, ())]
    found = [path.relative_to(target).as_posix() for pattern in patterns for path in sorted(target.glob(pattern))]
    others = resolve_options([name for name in formats if name not in STREAM_FORMATS])
    return [*found, *(name for name in planned_files(most_views, others) if (target / name).is_file())]


def write_cloud(stream: StreamingReconstructor, path: Path, *, voxel: float | None = None) -> Path:
    """One coloured point for each occupied cube, as binary PLY; memory does not grow with the sequence.

    Args:
        stream: its cameras and depth.
        path: of the file.
        voxel: side of a cube in the unit of the trajectory; None: see :data:`VOXEL_SHARE`.
    """
    with voxel_cloud(stream, voxel) as cloud:
        count = sum(len(xyz) for xyz, _ in cloud.blocks())
        unit = "metre" if stream.is_metric else "unknown (relative scale)"
        comments = ["frame: that of the trajectory", f"unit: {unit}"]
        return write_ply(path, [Element("vertex", count, _PROPERTIES, _vertices(cloud))], comments)


def voxel_cloud(stream: StreamingReconstructor, voxel: float | None = None) -> VoxelCloud:
    """The points of all frames; a context."""
    cloud = VoxelCloud(_voxel(stream) if voxel is None else voxel)
    for first in range(0, len(stream), _TOGETHER):
        some = points(stream.prediction(range(first, min(first + _TOGETHER, len(stream)))), CLEANING)
        cloud.add(some.xyz, some.rgb, some.confidence)
    return cloud


def _voxel(stream: StreamingReconstructor) -> float:
    depths = [stream.depth(frame)[::4, ::4] for frame in keyframes(len(stream), 40)]
    known = np.concatenate([depth[np.isfinite(depth)] for depth in depths])
    return VOXEL_SHARE * float(np.median(known)) if len(known) else 1.0


def _vertices(cloud: VoxelCloud) -> Iterator[npt.NDArray[np.void]]:
    for xyz, rgb in cloud.blocks():
        block = np.empty(len(xyz), record(_PROPERTIES))
        block["x"], block["y"], block["z"] = xyz.T
        block["red"], block["green"], block["blue"] = rgb.T
        yield block


def _world_from_cameras(stream: StreamingReconstructor) -> npt.NDArray[np.float64]:
    return np.stack([invert_rigid(pose) for pose in stream.trajectory()])


def _write_lines(path: Path, lines: Sequence[str]) -> Path:
    with atomic_path(path) as temporary:
        temporary.write_text("\n".join(lines) + "\n", encoding="utf-8", newline="\n")
    return path


def _ply(stream: StreamingReconstructor, folder: Path, voxel: float | None) -> list[Path]:
    return [write_cloud(stream, folder / "points.ply", voxel=voxel)]


def _tum(stream: StreamingReconstructor, folder: Path, voxel: float | None) -> list[Path]:
    """Frames without a time are stamped with their number."""
    from depth_anything_3.export._trajectory import tum_lines

    times = [float(i) if time is None else time for i, time in enumerate(stream.timestamps())]
    return [_write_lines(folder / "tum.txt", tum_lines(_world_from_cameras(stream), times))]


def _kitti(stream: StreamingReconstructor, folder: Path, voxel: float | None) -> list[Path]:
    from depth_anything_3.export._trajectory import kitti_lines

    return [_write_lines(folder / "kitti.txt", kitti_lines(_world_from_cameras(stream)))]


def _npz(stream: StreamingReconstructor, folder: Path, voxel: float | None) -> list[Path]:
    """``frames/000000.npz``, ...: depth and confidence, the camera at the size of the depth and of the source."""
    files, sources = [], stream.intrinsics()
    for frame in range(len(stream)):
        part = stream.prediction([frame])
        arrays: dict[str, Any] = {
            "depth": part.depth[0],
            "image": _of(part.processed_images),
            "extrinsics": _of(part.extrinsics),
            "intrinsics": _of(part.intrinsics),
            "source_intrinsics": sources[frame],
        }
        if part.conf is not None:
            arrays["conf"] = part.conf[0]
        if (time := stream.timestamps()[frame]) is not None:
            arrays["timestamp"] = np.float64(time)
        files.append(_write_arrays(folder / "frames" / f"{frame:06d}.npz", arrays))
    return files


def _published(stream: StreamingReconstructor, folder: Path, voxel: float | None) -> list[Path]:
    """The names and contents of the published tool: camera-to-world, intrinsics of the processed size."""
    poses = _world_from_cameras(stream)
    whole = np.concatenate([poses, np.tile([[[0.0, 0, 0, 1]]], (len(poses), 1, 1))], 1).reshape(-1, 16)
    lenses, files = [], []
    for frame in range(len(stream)):
        part = stream.prediction([frame])
        lens = _of(part.intrinsics)
        lenses.append(lens[[0, 1, 0, 1], [0, 1, 2, 2]])
        conf = np.ones_like(part.depth[0]) if part.conf is None else part.conf[0]
        arrays = {
            "image": _of(part.processed_images),
            "depth": np.nan_to_num(part.depth[0], nan=0.0),
            "conf": conf - 1,
            "intrinsics": lens,
        }
        files.append(_write_arrays(folder / "results_output" / f"frame_{frame}.npz", arrays))
    return [
        _write_lines(folder / "camera_poses.txt", [" ".join(f"{x:.9g}" for x in row) for row in whole.tolist()]),
        _write_lines(folder / "intrinsic.txt", [" ".join(f"{x:.9g}" for x in row) for row in np.stack(lenses)]),
        write_cloud(stream, folder / "pcd" / "combined_pcd.ply", voxel=voxel),
        *files,
    ]


def _of(array: npt.NDArray[Any] | None) -> npt.NDArray[Any]:
    """The one view of a prediction."""
    assert array is not None
    return array[0]


def _write_arrays(path: Path, arrays: Mapping[str, Any]) -> Path:
    with atomic_path(path) as temporary:
        np.savez_compressed(temporary, **arrays)
    return path


STREAM_FORMATS: dict[str, Callable[[StreamingReconstructor, Path, float | None], list[Path]]] = {
    "ply": _ply,
    "tum": _tum,
    "kitti": _kitti,
    "npz": _npz,
    "published": _published,
}
"""Formats that are written for all frames of a sequence."""

_FILES = {
    "ply": ("points.ply",),
    "tum": ("tum.txt",),
    "kitti": ("kitti.txt",),
    "npz": ("frames/*.npz",),
    "published": ("camera_poses.txt", "intrinsic.txt", "pcd/combined_pcd.ply", "results_output/frame_*.npz"),
}  # format -> patterns of its files
