"""Pinhole cameras, and the one place that knows where the centre of a pixel is.

Pixel coordinates are (x, y), x to the right and y down; the centre of the top-left pixel is (0.5, 0.5), and the image
of width W covers x from 0 to W. Poses are world-to-camera with OpenCV axes (x right, y down, z forward):
``x_cam = R x_world + t``. Depth is z-depth. Intrinsics are the full matrix ``[[fx, s, cx], [0, fy, cy], [0, 0, 1]]``.

Everything is computed in float64; results are float32 where the main argument is float32.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float

from depth_anything_3.errors import InputError


def pixel_centres(height: int, width: int) -> Float[np.ndarray, "h w 2"]:
    """The (x, y) coordinates of every pixel centre, as float64.

    Args:
        height: rows of the image.
        width: columns of the image.
    """
    y, x = np.mgrid[:height, :width]
    return np.stack((x + 0.5, y + 0.5), axis=-1)


def camera_centres(extrinsics: Float[np.ndarray, "*batch 3 4"]) -> Float[np.ndarray, "*batch 3"]:
    """Positions of the cameras in the world, in the unit of the translations.

    Args:
        extrinsics: world-to-camera poses.

    Raises:
        InputError: the shape is wrong, or a rotation part cannot be inverted.
    """
    _, world_from_camera, translation = _split_pose(extrinsics)
    centres = -(world_from_camera @ translation[..., None])[..., 0]
    return _as_precise_as(extrinsics, centres)


def unproject(
    depth: Float[np.ndarray, "*#batch h w"],
    intrinsics: Float[np.ndarray, "*#batch 3 3"],
    extrinsics: Float[np.ndarray, "*#batch 3 4"],
) -> Float[np.ndarray, "*batch h w 3"]:
    """World points seen at the pixel centres; leading axes broadcast.

    Args:
        depth: z-depth. Pixels without a finite depth give points that are not finite.
        intrinsics: camera matrices in pixels of the depth map.
        extrinsics: world-to-camera poses in the unit of the depth.

    Raises:
        InputError: a shape is wrong, a focal length is zero, or a rotation part cannot be inverted.
    """
    if np.ndim(depth) < 2:
        raise InputError("depth", f"shape {np.shape(depth)}", "shape (..., H, W)")
    height, width = depth.shape[-2:]
    _, world_from_camera, translation = _split_pose(extrinsics)
    rays = _rays(pixel_centres(height, width).reshape(-1, 2), intrinsics)
    z = depth.reshape(*depth.shape[:-2], height * width, 1).astype(np.float64)
    with np.errstate(invalid="ignore", over="ignore"):
        world = (rays * z - translation[..., None, :]) @ world_from_camera.swapaxes(-1, -2)
        return _as_precise_as(depth, world.reshape(*world.shape[:-2], height, width, 3))


def project(
    points: Float[np.ndarray, "*points 3"],
    intrinsics: Float[np.ndarray, "*#batch 3 3"],
    extrinsics: Float[np.ndarray, "*#batch 3 4"],
) -> tuple[Float[np.ndarray, "*out 2"], Float[np.ndarray, "*out"]]:
    """Pixel coordinates and z-depth of world points.

    Args:
        points: (*batch, *grid, 3) in the world. The axes of the cameras come first and broadcast, so the same points
            in N cameras are ``points[None]``; the others are free.
        intrinsics: camera matrices.
        extrinsics: world-to-camera poses in the unit of the points.

    Returns:
        xy (*batch, *grid, 2) and z (*batch, *grid). Points behind the camera have z < 0 and a meaningless xy; points
        in the plane of the camera have an xy that is not finite.

    Raises:
        InputError: a shape is wrong, or a rotation part cannot be inverted.
    """
    rotation, _, translation = _split_pose(extrinsics)
    fx, fy, cx, cy, skew = (v[..., None] for v in _split_intrinsics(intrinsics))
    axes = max(np.ndim(intrinsics), np.ndim(extrinsics)) - 2
    if np.ndim(points) < axes + 1 or points.shape[-1] != 3:
        raise InputError("points", f"shape {np.shape(points)}", f"shape (..., 3) with {axes} leading axes for cameras")
    grid = points.shape[axes:-1]
    flat = points.reshape(*points.shape[:axes], -1, 3).astype(np.float64)
    camera = flat @ rotation.swapaxes(-1, -2) + translation[..., None, :]
    z = camera[..., 2]
    with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
        x, y = camera[..., 0] / z, camera[..., 1] / z
        xy = np.stack((fx * x + skew * y + cx, fy * y + cy), axis=-1)
        xy, z = (_as_precise_as(points, v) for v in (xy, z))
    return xy.reshape((*xy.shape[:-2], *grid, 2)), z.reshape((*z.shape[:-1], *grid))


def _rays(xy: np.ndarray, intrinsics: np.ndarray) -> np.ndarray:
    """Camera-frame directions with z = 1 through P pixels: (..., P, 3)."""
    fx, fy, cx, cy, skew = (v[..., None] for v in _split_intrinsics(intrinsics))
    if not (fx * fy).all():
        raise InputError("intrinsics", "a focal length of zero", "focal lengths other than zero")
    y = (xy[:, 1] - cy) / fy
    x = (xy[:, 0] - cx - skew * y) / fx
    return np.stack((x, y, np.ones_like(x)), axis=-1)


def _split_intrinsics(intrinsics: np.ndarray) -> tuple[np.ndarray, ...]:
    if np.shape(intrinsics)[-2:] != (3, 3):
        raise InputError("intrinsics", f"shape {np.shape(intrinsics)}", "shape (..., 3, 3)")
    k = intrinsics.astype(np.float64)
    return k[..., 0, 0], k[..., 1, 1], k[..., 0, 2], k[..., 1, 2], k[..., 0, 1]


def _split_pose(extrinsics: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Rotation part, its inverse, translation.

    The inverse is not the transpose: float32 rotations are orthonormal to seven digits only, and projecting what was
    unprojected should give the same pixel.
    """
    if np.shape(extrinsics)[-2:] != (3, 4):
        raise InputError("extrinsics", f"shape {np.shape(extrinsics)}", "world-to-camera poses of shape (..., 3, 4)")
    pose = extrinsics.astype(np.float64)
    rotation, translation = pose[..., :3], pose[..., 3]
    try:
        return rotation, np.linalg.inv(rotation), translation
    except np.linalg.LinAlgError:
        raise InputError("extrinsics", "a singular rotation part", "rotation matrices") from None


def _as_precise_as(argument: np.ndarray, result: np.ndarray) -> np.ndarray:
    return result.astype(np.float32) if argument.dtype == np.float32 else result
