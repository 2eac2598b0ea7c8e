"""Where two views meet: whether the same surface has the same error in both."""

from __future__ import annotations

from itertools import permutations

import numpy as np
import numpy.typing as npt
from jaxtyping import Float

from depth_anything_3.errors import InputError
from depth_anything_3.geometry.pinhole import project, unproject
from depth_anything_3.metrics.depth import valid_pixels

Array = npt.NDArray[np.float64]

_SAME = 0.03  # two true depths that are nearer than this share of themselves are of one surface


def seam_error(
    predicted: Float[np.ndarray, "n h w"],
    true: Float[np.ndarray, "n h w"],
    intrinsics: Float[np.ndarray, "n 3 3"],
    extrinsics: Float[np.ndarray, "n 3 4"],
) -> float:
    """Median of ``|log (p / g) in one view - log (p / g) in the other|`` over all surface points that two views show.

    Zero where the depth of all views is off by the same factor. What corresponds is found with the true depth and the
    true cameras. NaN where no two views share anything.

    Args:
        predicted, true: z-depth at the same pixels; what is not finite and positive is left out.
        intrinsics, extrinsics: the true cameras, world-to-camera, in the unit of ``true``.

    Raises:
        InputError: shapes that differ.
    """
    if predicted.shape != true.shape:
        raise InputError("predicted", f"shape {predicted.shape}", f"that of the truth, {true.shape}")
    valid = valid_pixels(predicted) & valid_pixels(true)
    with np.errstate(divide="ignore", invalid="ignore"):
        error = np.where(valid, np.log(predicted / true), np.nan).astype(np.float64)
    pairs = permutations(range(len(true)), 2)
    found = [_differences(error, valid, true, intrinsics, extrinsics, i, j) for i, j in pairs]
    values = np.concatenate(found) if found else np.zeros(0)
    return float(np.median(values)) if len(values) else float("nan")


def _differences(
    error: Array,
    valid: npt.NDArray[np.bool_],
    true: Float[np.ndarray, "n h w"],
    intrinsics: Float[np.ndarray, "n 3 3"],
    extrinsics: Float[np.ndarray, "n 3 4"],
    i: int,
    j: int,
) -> Array:
    height, width = true.shape[1:]
    points = unproject(true[i].astype(np.float64), intrinsics[i], extrinsics[i])[valid[i]]
    xy, z = project(points, intrinsics[j], extrinsics[j])
    with np.errstate(invalid="ignore"):
        inside = (z > 0) & (xy > 0).all(-1) & (xy < (width, height)).all(-1)
    column, row = np.floor(xy[inside]).astype(np.int64).T
    there = true[j, row, column]
    same = valid[j, row, column] & (np.abs(z[inside] - there) < _SAME * there)
    differences: Array = np.abs(error[i][valid[i]][inside] - error[j, row, column])[same]
    return differences
