"""Points from tracks and known cameras: linear triangulation, then a few Gauss-Newton steps on the pixels.

Points are unit 4-vectors, so that far ones and those without parallax come out as directions instead of breaking the
solution; whether a point can be used is said in its own mask per reason.

Letters: O observations, P points, N views.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from jaxtyping import Bool, Float, Int

from depth_anything_3.geometry.rotation_vectors import nearest_rotation
from depth_anything_3.refine.reprojection import (
    check_cameras,
    euclidean_points,
    move_points,
    point_tangents,
    project_points,
    project_with_derivatives,
)
from depth_anything_3.refine.tracks import Observations

Array = npt.NDArray[np.float64]

_DAMPING = 1e-9  # of the trace of a normal matrix, so that a point without parallax stays a direction
_NO_BETTER = 1e-6  # share of its squared error under which a step of a point is its last


@dataclass(frozen=True, kw_only=True, eq=False)
class Triangulated:
    """Result of :func:`triangulate`.

    Attributes:
        points: unit 4-vectors (x, w) in the world, with w >= 0 wherever the point is in front of its views.
        angle: largest angle between the rays of two views to the point, in radians.
        errors_px: reprojection error of every observation; inf behind its camera.
        rms_px: per point, weighted; inf where it has no observation or is behind one of its cameras.
        views: per point, how many observations of positive weight.
        behind: behind one of its cameras, or beyond infinity.
        narrow: the angle is under the least one, or there are fewer than two views.
    """

    points: Float[np.ndarray, "p 4"]
    angle: Float[np.ndarray, " p"]
    errors_px: Float[np.ndarray, " o"]
    rms_px: Float[np.ndarray, " p"]
    views: Int[np.ndarray, " p"]
    behind: Bool[np.ndarray, " p"]
    narrow: Bool[np.ndarray, " p"]

    @property
    def good(self) -> Bool[np.ndarray, " p"]:
        """In front of all its views, and seen from directions that differ enough."""
        return ~(self.behind | self.narrow)

    @property
    def places(self) -> Float[np.ndarray, "p 3"]:
        """x / w; inf where w is not positive."""
        return euclidean_points(self.points)


def triangulate(
    observations: Observations,
    count: int,
    extrinsics: Float[np.ndarray, "n 3 4"],
    intrinsics: Float[np.ndarray, "n 3 3"],
    *,
    distortion: float = 0.0,
    least_angle: float = np.radians(1.0),
    rounds: int = 5,
) -> Triangulated:
    """Triangulate every point on its own.

    Args:
        observations: any number per point; a point with one becomes the direction that it is seen in, a point with
            none is the zero 4-vector.
        count: how many points, P.
        extrinsics: world-to-camera.
        intrinsics: camera matrices.
        distortion: k1 of every view.
        least_angle: smaller angles between rays make a point ``narrow``, in radians.
        rounds: of Gauss-Newton, which ends the error in the algebra of the linear solution.

    Raises:
        InputError: an index is out of range, or a camera is wrong.
    """
    poses, lenses = check_cameras(extrinsics, intrinsics)
    observations.check(count, len(poses))
    poses = np.concatenate([nearest_rotation(poses[..., :3]), poses[..., 3:]], -1)
    rays = camera_rays(observations.xy, lenses[observations.view], distortion)
    unit = rays / np.linalg.norm(rays, axis=1, keepdims=True)
    world = np.einsum("oji,oj->oi", poses[observations.view, :, :3], unit)
    points = _linear(observations, count, poses, rays, world)
    # Cameras that hardly moved leave the linear solution in their own centre; a direction is a better start there.
    far = _directions(observations, count, world)
    better = _costs(observations, far, poses, lenses, distortion) < _costs(
        observations, points, poses, lenses, distortion
    )
    points = np.where(better[:, None], far, points)
    # A direction from one view is exact, and a step would turn it into a place by what is rounded.
    views = np.bincount(observations.point[observations.weight > 0], minlength=count)
    moving = observations.where(views[observations.point] > 1)
    for _ in range(rounds):
        points, better = _stepped(moving, points, poses, lenses, distortion)
        moving = moving.where(better[moving.point])
    return _judged(observations, points, poses, lenses, distortion, world, least_angle)


def camera_rays(
    xy: Float[np.ndarray, "o 2"], intrinsics: Float[np.ndarray, "o 3 3"], distortion: float = 0.0
) -> Float[np.ndarray, "o 3"]:
    """Rays with z = 1 through pixels, in the camera; distortion is undone by Newton's method on the radius."""
    bent = np.linalg.solve(intrinsics[:, :2, :2], (xy - intrinsics[:, :2, 2])[..., None])[..., 0]
    radius = np.linalg.norm(bent, axis=1)
    straight = radius.copy()
    for _ in range(20 if distortion else 0):
        slope = 1 + 3 * distortion * straight**2
        straight -= (straight + distortion * straight**3 - radius) / np.where(slope > 0.1, slope, 0.1)
    factor = np.divide(straight, radius, out=np.ones_like(radius), where=radius > 0)
    return np.concatenate([bent * factor[:, None], np.ones((len(xy), 1))], 1)


def _summed(values: Array, index: npt.NDArray[np.int64], count: int) -> Array:
    """Sums of rows by index: (O, ...) to (count, ...)."""
    order = np.argsort(index, kind="stable")
    total = np.zeros((count, *values.shape[1:]))
    if len(index):
        start = np.flatnonzero(np.diff(index[order], prepend=-1))
        total[index[order[start]]] = np.add.reduceat(values[order], start)
    return total


def _linear(observations: Observations, count: int, poses: Array, rays: Array, world: Array) -> Array:
    """Null vectors of the stacked equations x P_3 = P_1, y P_3 = P_2 (Hartley and Zisserman, 12.2)."""
    weight = (observations.weight > 0).astype(np.float64)
    point = observations.point
    seen = _summed(weight, point, count)
    # About the mean centre of its cameras and in units of their spread, the equations of a point are well scaled.
    centres = -np.einsum("nji,nj->ni", poses[..., :3], poses[..., 3])[observations.view]
    middle = _summed(weight[:, None] * centres, point, count) / np.maximum(seen, 1)[:, None]
    offset = centres - middle[point]
    spread = np.sqrt(_summed(weight * (offset**2).sum(1), point, count) / np.maximum(seen, 1))
    spread = np.where(spread > 0, spread, 1.0)
    turn = poses[observations.view, :, :3]
    shift = -(turn @ (offset / spread[point, None])[..., None])
    moved = np.concatenate([turn, shift], -1)
    rows = rays[:, :2, None] * moved[:, 2:] - moved[:, :2]
    rows *= weight[:, None, None] / np.linalg.norm(rays, axis=1)[:, None, None]
    square = _summed(rows.swapaxes(1, 2) @ rows, point, count)
    found = np.linalg.eigh(square)[1][..., 0]
    far = _directions(observations, count, world)
    # One view leaves two null vectors; its point is a direction.
    found = np.where((seen < 2)[:, None], far, found)
    found *= np.where((found * far).sum(1) < 0, -1.0, 1.0)[:, None]
    back = np.concatenate([found[:, :3] * spread[:, None] + middle * found[:, 3:], found[:, 3:]], 1)
    length = np.linalg.norm(back, axis=1, keepdims=True)
    return np.divide(back, length, out=np.zeros_like(back), where=(length > 0) & (seen[:, None] > 0))


def _directions(observations: Observations, count: int, world: Array) -> Array:
    """The mean ray of each point, as a point at infinity; zero without one."""
    mean = _summed((observations.weight > 0)[:, None] * world, observations.point, count)
    length = np.linalg.norm(mean, axis=1, keepdims=True)
    unit = np.divide(mean, length, out=np.zeros_like(mean), where=length > 0)
    return np.concatenate([unit, np.zeros((count, 1))], 1)


def _stepped(
    observations: Observations, points: Array, poses: Array, lenses: Array, distortion: float
) -> tuple[Array, npt.NDArray[np.bool_]]:
    """Points after one Gauss-Newton step for each, kept where it lowers the error; and where it lowers it by much."""
    view = observations.view
    names, point = np.unique(observations.point, return_inverse=True)
    tangents = point_tangents(points[names])
    seen = project_with_derivatives(poses[view], lenses[view], points[names][point], tangents[point], distortion)
    weight = observations.weight * seen.front
    residual = seen.xy - observations.xy
    turned = weight[:, None, None] * seen.by_point.swapaxes(1, 2)
    normal = _summed(turned @ seen.by_point, point, len(names))
    gradient = _summed((turned @ residual[..., None])[..., 0], point, len(names))
    normal += (_DAMPING * np.trace(normal, axis1=1, axis2=2) + 1e-300)[:, None, None] * np.eye(3)
    proposal = points.copy()
    proposal[names] = move_points(points[names], tangents, -np.linalg.solve(normal, gradient[..., None])[..., 0])
    before = _squared(observations, np.where(seen.front, np.linalg.norm(residual, axis=1), np.inf), len(points))
    after = _costs(observations, proposal, poses, lenses, distortion)
    return np.where((after < before)[:, None], proposal, points), after < (1 - _NO_BETTER) * before


def _costs(observations: Observations, points: Array, poses: Array, lenses: Array, distortion: float) -> Array:
    return _squared(observations, _errors(observations, points, poses, lenses, distortion)[0], len(points))


def _squared(observations: Observations, error: Array, count: int) -> Array:
    """Sums of weighted squared errors of each point."""
    counted = np.where(observations.weight > 0, observations.weight * error**2, 0.0)
    return _summed(counted, observations.point, count)


def _errors(
    observations: Observations, points: Array, poses: Array, lenses: Array, distortion: float
) -> tuple[Array, npt.NDArray[np.bool_]]:
    view = observations.view
    xy, _, front = project_points(poses[view], lenses[view], points[observations.point], distortion)
    return np.where(front, np.linalg.norm(xy - observations.xy, axis=1), np.inf), front


def _judged(
    observations: Observations,
    points: Array,
    poses: Array,
    lenses: Array,
    distortion: float,
    world: Array,
    least_angle: float,
) -> Triangulated:
    error, front = _errors(observations, points, poses, lenses, distortion)
    counted = observations.weight > 0
    point, count = observations.point, len(points)
    views = np.bincount(point[counted], minlength=count)
    hidden = np.bincount(point[counted & ~front], minlength=count) > 0
    total = _summed(observations.weight, point, count)
    square = _squared(observations, error, count)
    rms = np.sqrt(np.divide(square, total, out=np.full(count, np.inf), where=total > 0))
    angle = _largest_angles(observations.where(counted), world[counted], count)
    return Triangulated(
        points=points,
        angle=angle,
        errors_px=error,
        rms_px=rms,
        views=views,
        behind=hidden | (points[:, 3] < 0),
        narrow=(angle < least_angle) | (views < 2),
    )


def _largest_angles(observations: Observations, world: Array, count: int) -> Array:
    """Largest angle between two of the unit rays of each point."""
    order = np.argsort(observations.point, kind="stable")
    point, ray = observations.point[order], world[order]
    largest = np.zeros(count)
    # Each is compared with the one that comes k places after it, as long as any track is longer than k.
    for k in range(1, int(np.bincount(point, minlength=1).max())):
        same = np.flatnonzero(point[k:] == point[:-k])
        a, b = ray[same], ray[same + k]
        between = 2 * np.arctan2(np.linalg.norm(a - b, axis=1), np.linalg.norm(a + b, axis=1))
        np.maximum.at(largest, point[same], between)
    return largest
