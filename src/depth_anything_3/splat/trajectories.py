"""Paths for a camera through a scene, made from the cameras that are there (numpy, float64).

A path is one camera per frame of a film. Poses are world-to-camera with OpenCV axes. Letters: N given views, M frames.

Every path of the published system is here under its name, with its number of frames. Other than there, lengths are in
a ``unit`` of the scene (there it is always 1), and smoothed orientations are rotations.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
from jaxtyping import Float

from depth_anything_3.errors import InputError
from depth_anything_3.geometry.rotation_vectors import nearest_rotation
from depth_anything_3.splat.options import TRAJECTORIES, Trajectory
from depth_anything_3.types.options import check_choice

Array = npt.NDArray[np.float64]

_HOP, _LONGEST, _LONG, _SHORTEST = 8, 432, 240, 48  # frames: of a hop; of paths that are thinned out, or filled up
_SMOOTHING = 51
_WANDER_FRAMES, _WANDER_PIXELS = 120, 24.0
_DOLLY_FRAMES, _DOLLY, _DOLLY_FOCUS = 120, 2.0, 30.0
_EXTENSION, _EXTENSION_DOLLY, _EXTENSION_FOCUS = (36, 60), 0.1, 10.0
_WOBBLE_HOP, _WOBBLE_FRAMES = 3, 30
_PARALLEL = 1e-4


@dataclass(frozen=True, eq=False)
class CameraPath:
    """One camera per frame.

    Attributes:
        poses: (M, 4, 4) world-from-camera.
        lenses: (M, 3, 3) intrinsics in pixels.
    """

    poses: Array
    lenses: Array

    def __len__(self) -> int:
        return len(self.poses)

    @property
    def extrinsics(self) -> Array:
        """(M, 3, 4) world-to-camera."""
        return np.asarray(np.linalg.inv(self.poses)[:, :3], np.float64)

    def __getitem__(self, part: Any) -> CameraPath:
        return CameraPath(self.poses[part], self.lenses[part])

    def then(self, *others: CameraPath) -> CameraPath:
        """This path and others, one after the other."""
        paths = (self, *others)
        return CameraPath(np.concatenate([p.poses for p in paths]), np.concatenate([p.lenses for p in paths]))


def camera_path(
    name: Trajectory,
    extrinsics: Float[np.ndarray, "n 3 4"],
    intrinsics: Float[np.ndarray, "n 3 3"],
    *,
    unit: float = 1.0,
) -> CameraPath:
    """A path by its name.

    =====================  ==========================================================================================
    ``original``           the given cameras, one frame each
    ``smooth``             the same, shaken less
    ``interpolate``        from view to view, turning about the point that both look at
    ``interpolate_smooth``  the same, shaken less
    ``extend``             the same, with ``wander`` and a little ``dolly_zoom`` in the middle
    ``wander``             an ellipse about the first view, 24 pixels wide at the distance ``unit``
    ``dolly_zoom``         back from the first view by twice the ``unit`` and forth again, with a widening lens
    ``wobble_inter``       from every third view to the next, in circles
    =====================  ==========================================================================================

    Args:
        name: one of :data:`~depth_anything_3.splat.options.TRAJECTORIES`.
        extrinsics: world-to-camera.
        intrinsics: in pixels.
        unit: a length that is typical for the scene, such as its median depth.

    Raises:
        InputError: an unknown name, or too few views for it: one, but for ``wander`` and ``dolly_zoom``; fewer than
            four for ``wobble_inter``.
    """
    check_choice("trajectory", name, TRAJECTORIES)
    least = {"wander": 1, "dolly_zoom": 1, "wobble_inter": 4}.get(name, 2)
    if len(extrinsics) < least:
        raise InputError("trajectory", f"{name!r} for {len(extrinsics)} view(s)", f"at least {least} views for it")
    poses = np.tile(np.eye(4), (len(extrinsics), 1, 1))
    poses[:, :3] = extrinsics
    return _PATHS[name](
        CameraPath(np.asarray(np.linalg.inv(poses), np.float64), np.asarray(intrinsics, np.float64)), unit
    )


def _interpolated(views: CameraPath) -> CameraPath:
    hops = len(views) - 1
    frames = _HOP
    if _HOP * hops > _LONGEST:
        frames = max(1, _LONG // hops)
    elif _HOP * hops < _SHORTEST:
        frames = max(1, _SHORTEST // hops)
    if frames <= 2:
        return views
    eased = (np.cos(np.pi * (np.linspace(0, 1, frames) + 1)) + 1) / 2
    parts = [_hop(views, hop, hop + 1, eased) for hop in range(hops)]
    return parts[0].then(*(part[1:] for part in parts[1:]))


def _hop(views: CameraPath, start: int, end: int, t: Array) -> CameraPath:
    """From one view to another, at the shares ``t`` of the way."""
    lenses = views.lenses[start] + t[:, None, None] * (views.lenses[end] - views.lenses[start])
    return CameraPath(_between(views.poses[start], views.poses[end], t), lenses)


def _between(a: Array, b: Array, t: Array) -> Array:
    """Poses on the way from ``a`` to ``b``: distances and angles as seen from the point that both look at."""
    pivot, frame = _pivot(a, b), _frame(a[:3, 2], b[:3, 2])
    (place_a, angles_a), (place_b, angles_b) = (_seen_from(pivot, frame, pose) for pose in (a, b))
    turn = (angles_b - angles_a + np.pi) % (2 * np.pi) - np.pi  # the shorter way round
    result = np.tile(np.eye(4), (len(t), 1, 1))
    for pose, share in zip(result, t, strict=True):
        yaw, roll = angles_a + share * turn
        pose[:3, :3] = frame @ _turn_y(yaw) @ _turn_z(roll)
        pose[:3, 3] = pivot - _axes(frame, pose[:3, 2]) @ (place_a + share * (place_b - place_a))
    return result


def _pivot(a: Array, b: Array) -> Array:
    """The point nearest to both lines of sight; half-way between the cameras where these are parallel."""
    if abs(abs(a[:3, 2] @ b[:3, 2]) - 1) < _PARALLEL:
        middle: Array = (a[:3, 3] + b[:3, 3]) / 2
        return middle
    across = [np.outer(pose[:3, 2], pose[:3, 2]) - np.eye(3) for pose in (a, b)]
    point = np.linalg.solve(sum(across), across[0] @ a[:3, 3] + across[1] @ b[:3, 3])
    return np.asarray(point, np.float64)


def _frame(look: Array, other: Array) -> Array:
    """Axes with z along the first line of sight and y across both."""
    for second in (other, np.array([0.0, 0, 1]), np.array([0.0, 1, 0])):
        if abs(abs(look @ second) - 1) >= _PARALLEL:
            break
    across: Array = np.cross(look, second).astype(np.float64)
    y = across / np.linalg.norm(across)
    return np.stack((np.cross(y, look), y, look), -1)


def _axes(frame: Array, look: Array) -> Array:
    return np.stack((np.cross(frame[:, 1], look), frame[:, 1], look), -1)


def _seen_from(pivot: Array, frame: Array, pose: Array) -> tuple[Array, Array]:
    """Place of a camera along its own axes, and its turn about y and z; about x there is none."""
    place: Array = _axes(frame, pose[:3, 2]).T @ (pivot - pose[:3, 3])
    r = frame.T @ pose[:3, :3]
    return place, np.array([np.arctan2(r[0, 2], r[2, 2]), np.arctan2(r[1, 0], r[1, 1])])


def _turn_y(angle: float) -> Array:
    c, s = np.cos(angle), np.sin(angle)
    return np.array([[c, 0, s], [0, 1, 0], [-s, 0, c]])


def _turn_z(angle: float) -> Array:
    c, s = np.cos(angle), np.sin(angle)
    return np.array([[c, -s, 0], [s, c, 0], [0, 0, 1]])


def _steadied(path: CameraPath) -> CameraPath:
    """Places, and the x and y axes, averaged over neighbouring frames."""
    size = min(_SMOOTHING, len(path) - 1 + len(path) % 2)
    if size < 3:
        return path
    kernel = cv2.getGaussianKernel(size, -1).ravel()
    wanted = path.poses[:, :3, [0, 1, 3]]
    padded = np.pad(wanted, ((size // 2, size // 2), (0, 0), (0, 0)), "reflect")
    smooth = np.stack([np.tensordot(kernel, padded[i : i + size], 1) for i in range(len(path))])
    x, y = (smooth[..., i] / np.linalg.norm(smooth[..., i], axis=-1, keepdims=True) for i in (0, 1))
    poses = path.poses.copy()
    poses[:, :3, :3] = nearest_rotation(np.stack((x, y, np.cross(x, y)), -1))
    poses[:, :3, 3] = smooth[..., 2]
    return CameraPath(poses, path.lenses)


def _moved(pose: Array, steps: Array) -> Array:
    """A camera shifted along its own axes, once for each row of ``steps``."""
    poses = np.repeat(pose[None], len(steps), 0)
    poses[:, :3, 3] += steps @ pose[:3, :3].T
    return poses


def _wandering(view: CameraPath, frames: int, unit: float) -> CameraPath:
    radius = _WANDER_PIXELS * unit / view.lenses[0, 0, 0]
    angle = np.linspace(0, 2 * np.pi, frames)
    steps = -radius * np.stack((np.sin(angle), np.cos(angle) / 3, np.cos(angle) / 3), -1)
    ellipse = CameraPath(_moved(view.poses[0], steps), np.repeat(view.lenses[:1], frames, 0))
    return view[:1].then(ellipse, view[:1])


def _retreating(view: CameraPath, frames: int, distance: float, focus: float) -> CameraPath:
    z = (1 - np.cos(np.pi * np.linspace(0, 2, frames))) / 2 * distance
    lenses = np.repeat(view.lenses[:1], frames, 0)
    lenses[:, [0, 1], [0, 1]] *= np.maximum(focus / (focus + z), 1e-6)[:, None]
    return CameraPath(_moved(view.poses[0], np.stack((0 * z, 0 * z, -z), -1)), lenses)


def _extended(views: CameraPath, unit: float) -> CameraPath:
    path = _steadied(_interpolated(views))
    middle = len(path) // 2
    frames = max(_EXTENSION[0], min(_EXTENSION[1], middle // 2))
    here = path[middle : middle + 1]
    dolly = _retreating(here, frames, _EXTENSION_DOLLY * unit, _EXTENSION_FOCUS * unit)
    return path[:middle].then(_wandering(here, frames, unit), dolly, path[middle:])


def _wobbling(views: CameraPath) -> CameraPath:
    t = np.linspace(0, 1, _WOBBLE_FRAMES)
    circle = np.stack((np.sin(2 * np.pi * t), -np.cos(2 * np.pi * t), 0 * t), -1)
    parts: list[CameraPath] = []
    length = 0.0
    for start in range(0, len(views) - _WOBBLE_HOP, _WOBBLE_HOP):
        hop = _hop(views, start, start + _WOBBLE_HOP, t)
        distance = float(np.linalg.norm(views.poses[start + _WOBBLE_HOP, :3, 3] - views.poses[start, :3, 3]))
        length = (length + distance) / 2 if parts else distance
        hop.poses[:, :3, 3] += (hop.poses[:, :3, :3] @ (circle * length / 2)[..., None])[..., 0]
        parts.append(hop[1:] if parts else hop)
    return parts[0].then(*parts[1:])


_PATHS: dict[str, Callable[[CameraPath, float], CameraPath]] = {
    "original": lambda views, unit: views,
    "smooth": lambda views, unit: _steadied(views),
    "interpolate": lambda views, unit: _interpolated(views),
    "interpolate_smooth": lambda views, unit: _steadied(_interpolated(views)),
    "extend": _extended,
    "wander": lambda views, unit: _wandering(views, _WANDER_FRAMES, unit),
    "dolly_zoom": lambda views, unit: _retreating(views, _DOLLY_FRAMES, _DOLLY * unit, _DOLLY_FOCUS * unit),
    "wobble_inter": lambda views, unit: _wobbling(views),
}
