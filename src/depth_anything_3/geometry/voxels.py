"""Cubes of a grid through the origin."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from jaxtyping import Float, Int

from depth_anything_3.errors import InputError


def occupied_voxels(
    points: Float[np.ndarray, "n 3"], voxel: float
) -> tuple[Int[np.ndarray, " n"], Int[np.ndarray, " m"]]:
    """The cube of each point, and how many points are in each of the M occupied cubes.

    Args:
        points: finite points.
        voxel: side of a cube.

    Returns:
        indices from 0 to M - 1, in the order of the cubes along x, then y, then z; and M counts.

    Raises:
        InputError: the cubes are not positive or too small to be counted.
    """
    if not voxel > 0:
        raise InputError("voxel", repr(voxel), "a positive length")
    if not len(points):
        return np.zeros(0, np.int64), np.zeros(0, np.int64)
    cells = np.floor(points.astype(np.float64) / voxel)
    cells -= cells.min(0)
    extent = cells.max(0) + 1
    if extent.prod() >= 2**62:
        raise InputError("voxel", repr(voxel), f"larger cubes: {extent} of them do not fit 62 bits")
    key = np.ravel_multi_index(tuple(cells.astype(np.int64).T), tuple(extent.astype(np.int64)))
    _, cube, count = np.unique(key, return_inverse=True, return_counts=True)
    return cube, count


def sum_by(index: Int[np.ndarray, " n"], values: npt.NDArray[np.floating], groups: int) -> Float[np.ndarray, "m c"]:
    """Sums of the rows of ``values`` (N, C) that have the same index, for indices below ``groups``; float64."""
    sums = [np.bincount(index, weights=column, minlength=groups) for column in values.T]
    return np.stack(sums, -1).astype(np.float64)  # without any rows the counts are whole numbers
