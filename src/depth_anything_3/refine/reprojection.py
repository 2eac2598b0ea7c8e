"""Projection of homogeneous points, with derivatives: what triangulation and bundle adjustment share.

A point is a unit 4-vector X = (x, w), and stands for the place x / w: points at infinity (w = 0) are as good as any.
It moves on the unit sphere, along three directions that are orthogonal to it. A pose moves from the left, by a rotation
vector and a translation in the camera: ``[R | t] -> [exp(a) R | exp(a) t + b]``; so rotation leaves the centre of the
camera where it is, and translation moves it by ``-R^T b``. The camera is a pinhole of any aspect, with at most one
radial distortion: ``p -> (1 + k1 |p|^2) p`` on the plane z = 1.

Letters: O observations, P points, N views.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from jaxtyping import Bool, Float

from depth_anything_3.errors import InputError

Array = npt.NDArray[np.float64]

_LEAST_DEPTH = 1e-9  # of a unit 4-vector


@dataclass(frozen=True, kw_only=True, eq=False)
class Projected:
    """Where points are seen, and how that changes. O observations.

    Attributes:
        xy: pixels.
        depth: z of the unit 4-vector in the camera, not divided by w.
        w: last component of the unit 4-vector.
        front: in front of the camera; the derivatives of others are zero, and their pixels have no meaning.
        by_pose: of the pixel by (a, b), the movement of the pose.
        by_focal: by the logarithm of the focal length.
        by_distortion: by k1.
        by_point: by the movement along the three tangents of the point.
        depth_by_pose: of the logarithm of z / w by (a, b).
        depth_by_point: of the logarithm of z / w by the movement of the point.
    """

    xy: Float[np.ndarray, "o 2"]
    depth: Float[np.ndarray, " o"]
    w: Float[np.ndarray, " o"]
    front: Bool[np.ndarray, " o"]
    by_pose: Float[np.ndarray, "o 2 6"]
    by_focal: Float[np.ndarray, "o 2"]
    by_distortion: Float[np.ndarray, "o 2"]
    by_point: Float[np.ndarray, "o 2 3"]
    depth_by_pose: Float[np.ndarray, "o 6"]
    depth_by_point: Float[np.ndarray, "o 3"]


def project_points(
    extrinsics: Float[np.ndarray, "o 3 4"],
    intrinsics: Float[np.ndarray, "o 3 3"],
    points: Float[np.ndarray, "o 4"],
    distortion: float = 0.0,
) -> tuple[Float[np.ndarray, "o 2"], Float[np.ndarray, " o"], Bool[np.ndarray, " o"]]:
    """Pixels, z of the unit 4-vector, and whether the point is in front of the camera, without derivatives."""
    camera = np.einsum("oij,oj->oi", extrinsics, points)
    front = camera[:, 2] > _LEAST_DEPTH
    plane = camera[:, :2] / np.where(front, camera[:, 2], 1.0)[:, None]
    bent = plane * (1 + distortion * (plane**2).sum(-1))[:, None]
    xy = np.einsum("oij,oj->oi", intrinsics[:, :2, :2], bent) + intrinsics[:, :2, 2]
    return xy, camera[:, 2], front


def project_with_derivatives(
    extrinsics: Float[np.ndarray, "o 3 4"],
    intrinsics: Float[np.ndarray, "o 3 3"],
    points: Float[np.ndarray, "o 4"],
    tangents: Float[np.ndarray, "o 4 3"],
    distortion: float = 0.0,
) -> Projected:
    """Project one point per row with one camera per row.

    Args:
        extrinsics: world-to-camera.
        intrinsics: the last row is taken as (0, 0, 1).
        points: unit 4-vectors in the world.
        tangents: from :func:`point_tangents`.
        distortion: k1.
    """
    # Observations last: numpy would take a call for each of so many small matrices.
    camera = np.einsum("oij,oj->io", extrinsics, points)
    front = camera[2] > _LEAST_DEPTH
    inverse = np.where(front, 1 / np.where(front, camera[2], 1.0), 0.0)
    plane = camera[:2] * inverse
    square = (plane**2).sum(0)
    lens = np.ascontiguousarray(np.moveaxis(intrinsics[:, :2, :2], 0, -1))
    straight = (lens * plane).sum(1)  # pixels from the principal point
    bent, by_plane = straight * (1 + distortion * square), lens
    if distortion:
        by_plane = (1 + distortion * square) * lens + 2 * distortion * straight[:, None] * plane
    by_camera = inverse * np.concatenate([by_plane, -(by_plane * plane).sum(1, keepdims=True)], 1)
    by_pose = np.empty((len(points), 2, 6))
    for i, j, k in ((0, 1, 2), (1, 2, 0), (2, 0, 1)):  # a small turn a moves the point by the cross product a x camera
        by_pose[..., i] = (camera[j] * by_camera[:, k] - camera[k] * by_camera[:, j]).T
    by_pose[..., 3:] = np.moveaxis(points[:, 3] * by_camera, -1, 0)
    depth_by_pose = np.zeros((len(points), 6))
    depth_by_pose[:, 0], depth_by_pose[:, 1], depth_by_pose[:, 5] = plane[1], -plane[0], points[:, 3] * inverse
    shifted = extrinsics @ tangents
    w = points[:, 3]
    by_w = np.divide(1.0, w, out=np.zeros_like(w), where=w > 0)
    return Projected(
        xy=bent.T + intrinsics[:, :2, 2],
        depth=camera[2],
        w=w,
        front=front,
        by_pose=by_pose,
        by_focal=(bent * front).T,
        by_distortion=(straight * square * front).T,
        by_point=np.ascontiguousarray(np.moveaxis(by_camera, -1, 0)) @ shifted,
        depth_by_pose=depth_by_pose,
        depth_by_point=shifted[:, 2] * inverse[:, None] - tangents[:, 3] * by_w[:, None],
    )


def point_tangents(points: Float[np.ndarray, "p 4"]) -> Float[np.ndarray, "p 4 3"]:
    """Three orthonormal directions orthogonal to each unit 4-vector: columns of a Householder reflection."""
    # The reflection takes the axis of the largest component to the point; its other columns are the tangents.
    largest = np.abs(points).argmax(1)
    rows = np.arange(len(points))
    mirror = points.copy()
    mirror[rows, largest] += np.where(points[rows, largest] < 0, -1.0, 1.0)
    scale = 2 / (mirror**2).sum(1)
    reflection = np.eye(4) - scale[:, None, None] * mirror[:, :, None] * mirror[:, None, :]
    others = np.array([[b for b in range(4) if b != a] for a in range(4)])
    return np.take_along_axis(reflection, others[largest][:, None, :].repeat(4, 1), 2)


def move_points(
    points: Float[np.ndarray, "p 4"], tangents: Float[np.ndarray, "p 4 3"], step: Float[np.ndarray, "p 3"]
) -> Float[np.ndarray, "p 4"]:
    """Unit 4-vectors after a step along their tangents."""
    moved: Array = points + (tangents @ step[..., None])[..., 0]
    length = np.linalg.norm(moved, axis=1, keepdims=True)
    return np.divide(moved, length, out=np.zeros_like(moved), where=length > 0)


def homogeneous_points(points: Float[np.ndarray, "p xyz_or_xyzw"]) -> Float[np.ndarray, "p 4"]:
    """Unit 4-vectors of places (P, 3), or of 4-vectors of any length (P, 4).

    Raises:
        InputError: the shape is neither, a value is not finite, or a 4-vector is zero.
    """
    if np.ndim(points) != 2 or np.shape(points)[1] not in (3, 4):
        raise InputError("points", f"shape {np.shape(points)}", "shape (P, 3) or (P, 4)")
    full = np.asarray(points, np.float64)
    if full.shape[1] == 3:
        full = np.concatenate([full, np.ones((len(full), 1))], 1)
    length = np.linalg.norm(full, axis=1, keepdims=True)
    if not np.isfinite(length).all() or (length == 0).any():
        raise InputError("points", "a value that is not finite, or a zero 4-vector", "finite points")
    unit: Array = full / length
    return unit


def euclidean_points(points: Float[np.ndarray, "p 4"]) -> Float[np.ndarray, "p 3"]:
    """Places x / w of 4-vectors; inf where w is not positive."""
    w = points[:, 3:]
    places: Array = np.divide(points[:, :3], w, out=np.full((len(points), 3), np.inf), where=w > 0)
    return places


def check_cameras(
    extrinsics: npt.NDArray[np.floating], intrinsics: npt.NDArray[np.floating], *, least: int = 0
) -> tuple[Array, Array]:
    """Both as float64.

    Raises:
        InputError: a shape is wrong, a value is not finite, a focal length is not positive, a rotation is not one, or
            there are fewer than ``least`` views.
    """
    count = len(extrinsics) if np.ndim(extrinsics) == 3 else -1
    if np.shape(extrinsics) != (count, 3, 4) or count < least:
        raise InputError("extrinsics", f"shape {np.shape(extrinsics)}", "world-to-camera poses of shape (N, 3, 4)")
    if np.shape(intrinsics) != (count, 3, 3):
        raise InputError("intrinsics", f"shape {np.shape(intrinsics)}", f"shape ({count}, 3, 3)")
    pose, lens = np.asarray(extrinsics, np.float64), np.asarray(intrinsics, np.float64)
    for name, value in (("extrinsics", pose), ("intrinsics", lens)):
        if not np.isfinite(value).all():
            raise InputError(name, "a value that is not finite", "finite numbers")
    if not (lens[:, [0, 1], [0, 1]] > 0).all():
        raise InputError("intrinsics", "a focal length that is not positive", "positive focal lengths")
    turn = pose[:, :, :3]
    if count and np.abs(turn @ turn.swapaxes(1, 2) - np.eye(3)).max() > 1e-3:
        raise InputError("extrinsics", "a rotation part that is not orthonormal", "rotation matrices")
    return pose, lens
