"""One camera matrix for all views, or square pixels, for cameras that a network predicted."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from jaxtyping import Float

from depth_anything_3.errors import InputError
from depth_anything_3.geometry.pinhole import pixel_centres
from depth_anything_3.geometry.rotation_vectors import nearest_rotation
from depth_anything_3.types.inputs import ResizeRecord

Array = npt.NDArray[np.float64]
Maps = npt.NDArray[np.float32]

_GRID = 16  # rays along each side of the picture that the rotations are fitted to


def constrain_intrinsics(
    depth: Float[np.ndarray, "n h w"],
    extrinsics: Float[np.ndarray, "n 3 4"],
    intrinsics: Float[np.ndarray, "n 3 3"],
    records: Sequence[ResizeRecord],
    *,
    shared: bool,
    square: bool,
) -> tuple[Float[np.ndarray, "n h w"], Float[np.ndarray, "n 3 4"], Float[np.ndarray, "n 3 3"]]:
    """Depth, poses and camera matrices under a constraint, all moved as little as can be.

    Focal lengths become geometric means, principal points means; both in pixels of the pictures as they were given,
    because the resize to multiples of 14 makes square pixels slightly oblong. Each camera keeps its centre and turns
    so that its rays meet the old ones best (Kabsch 1976), and each pixel's depth is that of the point of its new ray
    that is nearest to its old place. With a principal point that stays, nothing turns.

    Args:
        depth: z-depth.
        extrinsics: world-to-camera.
        intrinsics: in pixels of the depth.
        records: N, to the pictures as they were given.
        shared: one matrix for all views.
        square: fx = fy and no skew.

    Raises:
        InputError: ``shared``, and the pictures differ in size.
    """
    old = intrinsics.astype(np.float64)
    new = _constrained(old, records, shared, square)
    height, width = depth.shape[1:]
    poses, maps = extrinsics.astype(np.float64), np.empty(depth.shape, np.float64)
    turned = poses.copy()
    for i, z in enumerate(depth):
        turn = _best_turn(old[i], new[i], (height, width))
        turned[i] = turn @ poses[i]  # about the camera: R and t turn alike, so that the centre stays
        before = _directions(old[i], pixel_centres(height, width)) @ turn.T
        after = _directions(new[i], pixel_centres(height, width))
        maps[i] = z * ((before * after).sum(-1) / (after * after).sum(-1))
    return maps.astype(depth.dtype), turned.astype(extrinsics.dtype), new.astype(intrinsics.dtype)


def _constrained(intrinsics: Array, records: Sequence[ResizeRecord], shared: bool, square: bool) -> Array:
    sizes = sorted({record.source_hw for record in records})
    if shared and len(sizes) > 1:
        raise InputError("shared_intrinsics", f"True for pictures of sizes {sizes}", "pictures of one size, or False")
    source = np.stack([r.source_from_processed @ K for r, K in zip(records, intrinsics, strict=True)])
    if square:
        source[:, [0, 1], [0, 1]] = np.sqrt(source[:, 0, 0] * source[:, 1, 1])[:, None]
        source[:, 0, 1] = 0.0
    if shared:
        focal = np.exp(np.log(source[:, [0, 1], [0, 1]]).mean(0))
        source[:] = source.mean(0)
        source[:, [0, 1], [0, 1]] = focal
    return np.stack([r.processed_from_source @ K for r, K in zip(records, source, strict=True)])


def _directions(intrinsics: Array, xy: Array) -> Array:
    rays = np.concatenate([xy, np.ones_like(xy[..., :1])], -1)
    directions: Array = rays @ np.linalg.inv(intrinsics).T
    return directions


def _best_turn(old: Array, new: Array, size: tuple[int, int]) -> Array:
    """The rotation that brings rays of the old matrix closest to those of the new one."""
    xy = (pixel_centres(_GRID, _GRID) / _GRID * (size[1], size[0])).reshape(-1, 2)
    before, after = (_directions(K, xy) for K in (old, new))
    if np.abs(before - after).max() < 1e-12:
        return np.eye(3)
    before, after = (rays / np.linalg.norm(rays, axis=1, keepdims=True) for rays in (before, after))
    turn: Array = nearest_rotation(after.T @ before)
    return turn
