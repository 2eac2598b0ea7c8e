"""Trajectories of the TUM RGB-D benchmark: rows of ``time tx ty tz qx qy qz qw``.

Poses are camera-to-world with OpenCV axes, times are in seconds.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from depth_anything_3.geometry.stored_poses import invert_rigid, rotation_from_quat_wxyz
from depth_anything_3.io.cameras.base import CameraReader
from depth_anything_3.io.cameras.text import columns_of, read_rows
from depth_anything_3.types.cameras import Cameras

_COLUMNS = 8


def _read(path: Path) -> Cameras:
    rows = read_rows(path)
    poses = [np.column_stack((rotation_from_quat_wxyz(row[[7, 4, 5, 6]]), row[1:4])) for row in rows]
    return Cameras(source=str(path), times=rows[:, 0], extrinsics=np.array([invert_rigid(pose) for pose in poses]))


READER = CameraReader(
    what="a TUM trajectory (rows of 8 numbers)",
    recognises=lambda path: columns_of(path) == _COLUMNS,
    read=_read,
)
