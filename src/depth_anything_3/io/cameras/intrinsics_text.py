"""Intrinsics as text: rows of ``fx fy cx cy``, or one 3x3 matrix, in pixels.

One row, or one matrix, is for all photos; several rows are for the photos in their order. The centre of the top-left
pixel is (0.5, 0.5).
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from depth_anything_3.io.cameras.base import CameraReader
from depth_anything_3.io.cameras.text import columns_of, read_rows
from depth_anything_3.types.cameras import Cameras


def _read(path: Path) -> Cameras:
    rows = read_rows(path)
    if rows.shape == (3, 3):
        return Cameras(source=str(path), intrinsics=rows[None])
    if rows.shape[1] != 4:
        raise ValueError(f"{len(rows)} row(s) of {rows.shape[1]} numbers")
    matrices = np.tile(np.eye(3), (len(rows), 1, 1))
    matrices[:, [0, 1, 0, 1], [0, 1, 2, 2]] = rows
    return Cameras(source=str(path), intrinsics=matrices)


READER = CameraReader(
    what="intrinsics as text (rows 'fx fy cx cy', or a 3x3 matrix)",
    recognises=lambda path: columns_of(path) in (3, 4),
    read=_read,
)
