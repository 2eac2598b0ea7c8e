"""How hard a set of views is: how far apart its cameras are, how deep it is, and how badly trivial answers do.

Pure functions of depth maps and cameras. Depth is z-depth in metres and 0 where there is none; poses are
world-to-camera with OpenCV axes. N views, P = N (N - 1) / 2 pairs in the order of ``itertools.combinations``.
"""

from __future__ import annotations

import itertools

import numpy as np
from jaxtyping import Float, Shaped

from depth_anything_3.geometry.pinhole import camera_centres, project, unproject

_SAME = 0.05  # relative difference of depth up to which a point counts as seen
_STEP = 3  # every third row and column of the points whose visibility is asked
CELLS = 16
"""Rows and columns of the maps that stand for pictures of different sizes."""


def rotations_deg(extrinsics: Float[np.ndarray, "n 3 4"]) -> Float[np.ndarray, " p"]:
    """Angle in degrees between the orientations of each pair of views."""
    r = extrinsics[:, :, :3].astype(np.float64)
    first, second = _pairs(len(r))
    trace = (r[first] * r[second]).sum((1, 2))
    return np.degrees(np.arccos(np.clip((trace - 1) / 2, -1, 1)))


def baselines(extrinsics: Float[np.ndarray, "n 3 4"]) -> Float[np.ndarray, " p"]:
    """Metres between the centres of each pair of views."""
    centre = camera_centres(extrinsics.astype(np.float64))
    first, second = _pairs(len(centre))
    return np.linalg.norm(centre[first] - centre[second], axis=1)


def pair_overlaps(
    depth: Float[np.ndarray, "n h w"], intrinsics: Float[np.ndarray, "n 3 3"], extrinsics: Float[np.ndarray, "n 3 4"]
) -> Float[np.ndarray, " p"]:
    """Share of the points with depth of one view that the other shows too, the mean of both directions.

    A point is shown where it projects into the picture and lies within 5 % of the depth of the pixel it falls on; every
    third row and column is asked. A view without depth shares nothing.
    """
    points = unproject(np.where(depth > 0, depth, np.nan), intrinsics, extrinsics)[:, ::_STEP, ::_STEP]
    shared = np.zeros((len(depth), len(depth)))
    for i, j in itertools.permutations(range(len(depth)), 2):
        shared[i, j] = _visible_share(points[i], depth[j], intrinsics[j], extrinsics[j])
    first, second = _pairs(len(depth))
    return ((shared + shared.T) / 2)[first, second]


def _visible_share(points: np.ndarray, depth: np.ndarray, intrinsics: np.ndarray, extrinsics: np.ndarray) -> float:
    height, width = depth.shape
    valid = np.isfinite(points).all(-1)
    xy, z = project(points[valid][None], intrinsics[None], extrinsics[None])
    xy, z = xy[0], z[0]
    inside = (z > 1e-6) & (xy >= 0).all(-1) & (xy < [width, height]).all(-1)
    column, row = xy[inside].astype(int).T
    found = depth[row, column]
    seen = (found > 0) & (np.abs(z[inside] - found) <= _SAME * found)
    return float(seen.sum() / max(int(valid.sum()), 1))


def depth_spread(depth: Float[np.ndarray, "n h w"]) -> float:
    """The 95th over the 5th percentile of the depth of all views."""
    low, high = np.percentile(depth[depth > 0], [5, 95])
    return float(high / low)


def median_depth(depth: Float[np.ndarray, "n h w"]) -> float:
    """Median depth of all views in metres."""
    return float(np.median(depth[depth > 0]))


def normalised_log_depth(depth: Float[np.ndarray, "n h w"]) -> Float[np.ndarray, "n cells cells"]:
    """Logarithm of the depth over its median, at the nearest pixels of a coarse grid; NaN where there is none."""
    rows, columns = ((np.arange(CELLS) + 0.5) / CELLS * size for size in depth.shape[1:])
    coarse = depth[:, rows.astype(int)][:, :, columns.astype(int)].astype(np.float64)
    return np.log(np.where(coarse > 0, coarse, np.nan) / median_depth(depth))


def constant_map_delta(
    log_depth: Float[np.ndarray, "n cells cells"], log_map: Float[np.ndarray, "cells cells"]
) -> float:
    """Share of cells within a factor of 1.25 of a map that is the same for every view, at its best single scale.

    Args:
        log_depth: :func:`normalised_log_depth` of one scene.
        log_map: likewise, such as the mean over a data set. Its scale is set by the median ratio over the scene.
    """
    difference = (log_depth - log_map)[np.isfinite(log_depth)]
    return float((np.abs(difference - np.median(difference)) < np.log(1.25)).mean())


def identity_pose_errors_deg(extrinsics: Float[np.ndarray, "n 3 4"]) -> Float[np.ndarray, " p"]:
    """Error in degrees of the answer that the cameras of a pair do not turn, and move straight ahead.

    The larger one of the rotation error and the angle between the directions of translation.
    """
    e = extrinsics.astype(np.float64)
    first, second = _pairs(len(e))
    rotation = e[second, :, :3] @ e[first, :, :3].transpose(0, 2, 1)
    moved = e[second, :, 3] - (rotation @ e[first, :, 3:])[..., 0]
    ahead = -moved[:, 2] / np.maximum(np.linalg.norm(moved, axis=1), 1e-12)
    return np.maximum(rotations_deg(extrinsics), np.degrees(np.arccos(np.clip(ahead, -1, 1))))


def auc(errors_deg: Shaped[np.ndarray, " p"], limit: int = 30) -> float:
    """Mean over the thresholds 1, 2, ..., ``limit`` degrees of the share of errors below them."""
    return float(np.mean([(errors_deg < threshold).mean() for threshold in range(1, limit + 1)]))


def _pairs(count: int) -> tuple[np.ndarray, np.ndarray]:
    first, second = np.triu_indices(count, 1)
    return first, second
