"""Cameras that the caller gives: brought into the network's frame before, and used to place the result after."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from jaxtyping import Float

from depth_anything_3.geometry.alignment import Similarity, align_trajectories
from depth_anything_3.geometry.pinhole import camera_centres

Array = npt.NDArray[np.float64]

_MIN_MEDIAN_DISTANCE = 0.1  # of the published rule, in the caller's unit
_COINCIDENT = 1e-6
_CONSENSUS_VIEWS = 10


def normalise_extrinsics(extrinsics: Float[np.ndarray, "n 4 4"]) -> Float[np.ndarray, "n 4 4"]:
    """World-to-camera poses as the pose encoder expects them: first view at the origin, typical distance one.

    Translations are divided by the lower median of the distances of all N camera centres from the first (its own zero
    included, as published), but by no less than 0.1. With two views that median would be the zero; their distance
    is used instead.
    """
    relative = extrinsics @ np.linalg.inv(extrinsics[:1])
    distances = np.linalg.norm(camera_centres(relative[:, :3]), axis=1)
    if len(relative) == 2:
        unit = distances[1] if distances[1] > _COINCIDENT else 1.0
    else:
        unit = max(float(np.sort(distances)[(len(distances) - 1) // 2]), _MIN_MEDIAN_DISTANCE)
    relative[:, :3, 3] /= unit
    return relative


def align_to_given(given: Float[np.ndarray, "n _ 4"], predicted: Float[np.ndarray, "n _ 4"]) -> Similarity:
    """The similarity from the world of the given poses to the predicted one.

    Never raises: see :func:`~depth_anything_3.geometry.alignment.align_trajectories` for one view, two views and
    centres on a line.
    """
    return align_trajectories(predicted, given, robust=len(given) >= _CONSENSUS_VIEWS)
