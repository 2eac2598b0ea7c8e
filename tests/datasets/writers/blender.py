"""Camera-to-world as Blender has it: the camera looks along its negative z axis, its y axis is up."""

from __future__ import annotations

import math

import numpy as np

from datasets.world import Shot


def transform_matrix(shot: Shot) -> list[list[float]]:
    right, down, forward, centre = (shot.c2w[:3, i] for i in range(4))
    matrix = np.eye(4)
    matrix[:3] = np.stack((right, -down, -forward, centre), axis=1)
    return matrix.tolist()


def camera_angle_x(shot: Shot) -> float:
    return 2 * math.atan2(shot.size[1] / 2, shot.k[0, 0])


def rgba(shot: Shot) -> np.ndarray:
    """Blue first, for OpenCV; transparent pixels are black."""
    colours = np.where(shot.hit[..., None], shot.image, 0)
    return np.dstack((colours[..., ::-1], shot.alpha))
