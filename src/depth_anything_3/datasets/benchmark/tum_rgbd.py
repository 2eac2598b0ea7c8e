"""TUM RGB-D (Sturm et al., 2012).

Layout: ``rgbd_dataset_freiburg1_NAME/`` with ``rgb.txt``, ``depth.txt`` and ``groundtruth.txt`` (lines begin with a
time in seconds), ``rgb/`` and ``depth/`` (16 bit, 5000 is a metre, registered to colour). Poses are camera-to-world. A
picture takes the depth and the pose that are nearest in time, within 0.02 s; the lens is left in.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from jaxtyping import Shaped

from depth_anything_3.datasets._folder import folders_holding
from depth_anything_3.datasets._reading import damage_in, read_grey_16
from depth_anything_3.datasets.base import CorruptSample
from depth_anything_3.datasets.benchmark._listed import Listed, ListedDataset, same_camera
from depth_anything_3.geometry.stored_poses import invert_rigid, rotation_from_quat_wxyz

WITHIN = 0.02
"""Seconds between a picture and what belongs to it."""

INTRINSICS = {
    "1": (517.3, 516.5, 318.6, 255.3),
    "2": (520.9, 521.0, 325.1, 249.7),
    "3": (535.4, 539.2, 320.1, 247.6),
}
"""Focal lengths and centre by camera; the centre of the first pixel counts as (0, 0)."""


class TumRgbd(ListedDataset):
    """Scenes are sequences (``tum_rgbd/freiburg1_desk``)."""

    name = "tum_rgbd"
    title = "TUM RGB-D"
    modes = ("odometry", "pose", "mono", "metric", "speed")
    max_frames = 100
    ordered = True
    depth_range = (1e-3, 10.0)
    layout = "folders rgbd_dataset_freiburg1_NAME/ with rgb.txt, depth.txt, groundtruth.txt, rgb/ and depth/"

    def _find(self) -> Iterator[tuple[str, Path]]:
        for folder in folders_holding(self.root, "rgb.txt", "groundtruth.txt", depth=3):
            if match := re.fullmatch(r"rgbd_dataset_(freiburg[123]_.+)", folder.name):
                yield match[1], folder

    def _open(self, scene: str, place: Path) -> Listed:
        pictures, depths = _read(place / "rgb.txt", 2), _read(place / "depth.txt", 2)
        poses = _read(place / "groundtruth.txt", 8)
        times, depth_times = (np.array([float(row[0]) for row in rows]) for rows in (poses, depths))
        found = [(row, at) for row in pictures if (at := _nearest(times, float(row[0]))) is not None]
        beside = [_nearest(depth_times, float(row[0])) for row, _ in found]
        return Listed(
            place=place,
            frames=tuple(row[0] for row, _ in found),
            skipped={"no pose in time": len(pictures) - len(found)},
            images=tuple(place / row[1] for row, _ in found),
            depths=tuple(None if at is None else place / depths[at][1] for at in beside),
            intrinsics=same_camera(_intrinsics(place.name), len(found)),
            extrinsics=np.reshape([_pose(poses[at]) for _, at in found], (-1, 3, 4)),
        )

    def _read_depth(self, file: Path, size: tuple[int, int]) -> Shaped[np.ndarray, "h w"]:
        return read_grey_16(file).astype(np.float32) / np.float32(5000)


def _read(file: Path, columns: int) -> list[list[str]]:
    with damage_in(file):
        rows = [line.split() for line in file.read_text().splitlines() if line.strip() and not line.startswith("#")]
        for row in rows:
            float(row[0])
    if bad := next((row for row in rows if len(row) != columns), None):
        raise CorruptSample(file, f"a line of {len(bad)} columns instead of {columns}")
    return rows


def _nearest(times: np.ndarray, time: float) -> int | None:
    if not len(times):
        return None
    at = int(np.abs(times - time).argmin())
    return at if abs(times[at] - time) <= WITHIN else None


def _pose(row: list[str]) -> np.ndarray:
    numbers = np.array(row[1:], np.float64)
    return invert_rigid(np.column_stack((rotation_from_quat_wxyz(numbers[[6, 3, 4, 5]]), numbers[:3])))


def _intrinsics(folder: str) -> np.ndarray:
    fx, fy, cx, cy = INTRINSICS[folder.removeprefix("rgbd_dataset_freiburg")[0]]
    return np.array([[fx, 0, cx + 0.5], [0, fy, cy + 0.5], [0, 0, 1]])


DATASET = TumRgbd
