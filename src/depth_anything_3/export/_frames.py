"""Frames that exported coordinates may count from."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from depth_anything_3.export._point_options import Frame
from depth_anything_3.types.prediction import Prediction

Array = npt.NDArray[np.float64]

AXES: dict[Frame, str] = {
    "input": "world of the poses; OpenCV axes (x right, y down, z forward) unless poses were given",
    "first_camera": "first camera; x right, y down, z forward",
    "z_up": "first camera; z up, y ahead, x right",
}
"""What each frame is, for the files that can say so."""

_VANISHING = 1e-6
_Y_UP_FROM_Z_UP = np.array([[1.0, 0, 0, 0], [0, 0, 1, 0], [0, -1, 0, 0], [0, 0, 0, 1]])

GLTF_FROM_OPENCV = np.diag([1.0, -1.0, -1.0, 1.0])
"""From x right, y down, z forward to the axes of glTF: x right, y up, z backward."""

_LEVEL = 1e-3


def frame_from_world(prediction: Prediction, frame: Frame, view: int = 0) -> Array:
    """The rigid (4, 4) matrix from the world of a prediction with cameras to a frame.

    ``input`` is that world itself. ``first_camera`` has the place and the axes of the first camera. ``z_up`` has its
    place, z upwards, and y where it looks, as far as that is level. Up is the mean of the cameras' own up: people hold
    cameras level more often than not, and nothing else is known of gravity.

    Args:
        prediction: with extrinsics.
        frame: which one.
        view: the camera that is the first; another one where that of view 0 is not usable.
    """
    assert prediction.extrinsics is not None
    poses = homogeneous(prediction.extrinsics)
    if frame == "input":
        return np.eye(4)
    if frame == "first_camera":
        return rigid(poses[view])
    rotations = poses[np.isfinite(poses).all((1, 2)), :3, :3]
    up = -rotations[:, 1].mean(0)
    if np.linalg.norm(up) < _VANISHING:
        up = -poses[view, 1, :3]
    up /= np.linalg.norm(up)
    # Where the camera looks; where it looks straight up or down, the top of its image.
    levels = [row - up * (row @ up) for row in (poses[view, 2, :3], -poses[view, 1, :3])]
    ahead = next(level for level in levels if np.linalg.norm(level) > _LEVEL)
    ahead /= np.linalg.norm(ahead)
    result = np.eye(4)
    result[:3, :3] = np.cross(ahead, up), ahead, up
    result[:3, 3] = -result[:3, :3] @ np.linalg.inv(poses[view])[:3, 3]
    return result


def gltf_from_world(prediction: Prediction, frame: Frame, view: int = 0) -> Array:
    """:func:`frame_from_world`, with the axes of glTF, which knows only y up."""
    turned = _Y_UP_FROM_Z_UP if frame == "z_up" else GLTF_FROM_OPENCV
    return np.asarray(turned @ frame_from_world(prediction, frame, view))


def moved_extrinsics(prediction: Prediction, frame: Frame) -> Array:
    """(N, 3, 4) poses in float64 from a frame to the cameras: rigid, where those of the prediction are usable."""
    assert prediction.extrinsics is not None
    world_from_frame = np.linalg.inv(frame_from_world(prediction, frame, first_usable(prediction)))
    poses = homogeneous(prediction.extrinsics)
    return np.stack([(rigid(pose) if np.isfinite(pose).all() else pose)[:3] @ world_from_frame for pose in poses])


def first_usable(prediction: Prediction) -> int:
    """The first view with a finite, regular pose; 0 where there is none."""
    assert prediction.extrinsics is not None
    return int(np.argmax(regular_poses(prediction.extrinsics)))


def regular_poses(extrinsics: npt.NDArray[np.float32]) -> npt.NDArray[np.bool_]:
    """(N,) whether a pose is finite and its rotation part can be inverted."""
    usable = np.asarray(np.isfinite(extrinsics).all((1, 2)))
    usable[usable] = abs(np.linalg.det(extrinsics[usable, :, :3])) > _VANISHING
    return usable


def homogeneous(extrinsics: npt.NDArray[np.float32]) -> Array:
    """(N, 4, 4) float64 of (N, 3, 4)."""
    result = np.tile(np.eye(4), (len(extrinsics), 1, 1))
    result[:, :3] = extrinsics
    return result


def rigid(pose: Array) -> Array:
    """The same pose with the nearest rotation: float32 keeps seven digits, and readers check more."""
    u, _, v = np.linalg.svd(pose[:3, :3])
    result = pose.copy()
    result[:3, :3] = u @ v
    return result
