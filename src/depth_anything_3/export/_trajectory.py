"""Camera-to-world poses for trajectory files."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from torch import from_numpy

from depth_anything_3.errors import InputError
from depth_anything_3.export._cloud import UNITS
from depth_anything_3.export._frames import AXES, moved_extrinsics, regular_poses
from depth_anything_3.export._point_options import Frame
from depth_anything_3.geometry.rotations import quat_xyzw_from_matrix
from depth_anything_3.geometry.stored_poses import invert_rigid
from depth_anything_3.types.prediction import Prediction


def world_from_cameras(prediction: Prediction, frame: Frame) -> npt.NDArray[np.float64]:
    """(N, 3, 4) poses of the cameras in a frame, OpenCV axes.

    Raises:
        InputError: a pose is not finite or not a rotation: a row that is left out would shift all that follow.
    """
    assert prediction.extrinsics is not None
    if not (regular := regular_poses(prediction.extrinsics)).all():
        views = ", ".join(str(view) for view in np.flatnonzero(~regular))
        raise InputError("prediction", f"poses of views {views} that are not usable", "a pose for every view")
    return np.stack([invert_rigid(pose) for pose in moved_extrinsics(prediction, frame)])


def header(prediction: Prediction, frame: Frame) -> list[str]:
    """Comment lines with the frame and the unit."""
    return [f"# frame: {AXES[frame]}", f"# unit: {UNITS[prediction.scale]}"]


def tum_lines(world_from_camera: npt.NDArray[np.float64], times: Sequence[float]) -> list[str]:
    """A comment and one row ``time tx ty tz qx qy qz qw`` per pose (N, 3, 4); times in seconds."""
    quaternions = quat_xyzw_from_matrix(from_numpy(world_from_camera[:, :, :3].copy())).tolist()
    lines = ["# time tx ty tz qx qy qz qw"]
    for time, pose, quaternion in zip(times, world_from_camera, quaternions, strict=True):
        numbers = (*pose[:, 3].tolist(), *quaternion)
        lines.append(f"{time:.6f} " + " ".join(f"{number:.12g}" for number in numbers))
    return lines


def kitti_lines(world_from_camera: npt.NDArray[np.float64]) -> list[str]:
    """One row of twelve numbers per pose (N, 3, 4)."""
    return [" ".join(f"{number:.12e}" for number in pose) for pose in world_from_camera.reshape(-1, 12).tolist()]
