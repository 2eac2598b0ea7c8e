"""Poses as files store them, in numpy and float64."""

from __future__ import annotations

import math

import numpy as np
from jaxtyping import Float

_ORTHONORMAL = 1e-3  # files print six digits or less


def rotation_from_quat_wxyz(quat_wxyz: Float[np.ndarray, " 4"]) -> Float[np.ndarray, "3 3"]:
    """Rotation matrix of a quaternion of any length but zero (that one gives NaN)."""
    with np.errstate(invalid="ignore", divide="ignore"):
        w, x, y, z = quat_wxyz / np.linalg.norm(quat_wxyz)
    return np.array(
        [
            [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
            [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
            [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)],
        ]
    )


def invert_rigid(pose: Float[np.ndarray, "rows 4"]) -> Float[np.ndarray, "3 4"]:
    """Inverse of [R | t], with R taken as orthonormal."""
    rotation = pose[:3, :3].T
    return np.column_stack((rotation, -rotation @ pose[:3, 3]))


def extrinsics_from_opengl(world_from_camera: Float[np.ndarray, "rows 4"]) -> Float[np.ndarray, "3 4"]:
    """World-to-camera pose with OpenCV axes of a camera-to-world pose with OpenGL axes (x right, y up, z backward)."""
    return invert_rigid(world_from_camera[:3] * [1.0, -1.0, -1.0, 1.0])


def central_intrinsics(focal: float, width: int, height: int) -> Float[np.ndarray, "3 3"]:
    """Camera matrix with square pixels and the principal point in the middle."""
    return np.array([[focal, 0, width / 2], [0, focal, height / 2], [0, 0, 1.0]])


def focal_length(field_of_view: float, size: int) -> float:
    """Focal length in pixels from the field of view in radians across ``size`` pixels; NaN where it makes no sense."""
    return size / 2 / math.tan(field_of_view / 2) if 0 < field_of_view < math.pi else math.nan


def pose_problem(extrinsics: Float[np.ndarray, "3 4"]) -> str | None:
    """What keeps a matrix from being a rigid transform, or None."""
    if not np.isfinite(extrinsics).all():
        return "the pose is not finite"
    rotation = extrinsics[:, :3]
    if np.abs(rotation @ rotation.T - np.eye(3)).max() > _ORTHONORMAL:
        return "the rotation part of the pose is not orthonormal"
    if np.linalg.det(rotation) < 0:
        return "the pose is a reflection"
    return None


def intrinsics_problem(intrinsics: Float[np.ndarray, "3 3"]) -> str | None:
    """What keeps a matrix from being a camera matrix, or None."""
    if not np.isfinite(intrinsics).all():
        return "the camera matrix is not finite"
    if min(intrinsics[0, 0], intrinsics[1, 1]) <= 0:
        return "a focal length is not positive"
    if np.abs(intrinsics[[1, 2, 2, 2], [0, 0, 1, 2]] - [0, 0, 0, 1]).max() > 1e-6:
        return "the camera matrix is not upper triangular with a 1 in its corner"
    return None
