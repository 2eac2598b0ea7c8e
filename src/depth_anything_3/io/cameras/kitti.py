"""Trajectories of KITTI: in each row a camera-to-world matrix with OpenCV axes, row after row.

Rows of 12 numbers are 3x4 matrices, rows of 16 numbers 4x4 ones.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from depth_anything_3.geometry.stored_poses import invert_rigid
from depth_anything_3.io.cameras.base import CameraReader
from depth_anything_3.io.cameras.text import columns_of, read_rows
from depth_anything_3.types.cameras import Cameras

_COLUMNS = (12, 16)


def _read(path: Path) -> Cameras:
    rows = read_rows(path)
    matrices = rows.reshape(len(rows), -1, 4)
    if matrices.shape[1] == 4 and not np.allclose(matrices[:, 3], [0, 0, 0, 1], atol=1e-5):
        raise ValueError("the last row of a 4x4 pose is not 0 0 0 1")
    return Cameras(source=str(path), extrinsics=np.array([invert_rigid(matrix[:3]) for matrix in matrices]))


READER = CameraReader(
    what="a KITTI trajectory (rows of 12 or 16 numbers)",
    recognises=lambda path: columns_of(path) in _COLUMNS,
    read=_read,
)
