"""Poses in the conventions of other software, to and from our own (numpy)."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float

from depth_anything_3.types.options import EXTRINSICS_CONVENTIONS, check_choice

_OPENGL = np.diag([1.0, -1.0, -1.0, 1.0])  # turns camera axes between OpenCV (y down, z forward) and OpenGL


def extrinsics_from(poses: Float[np.ndarray, "n 4 4"], convention: str) -> Float[np.ndarray, "n 4 4"]:
    """World-to-camera poses with OpenCV axes of rigid poses in a convention; the world stays as it is.

    Args:
        poses: rigid transforms; NaN where a pose is not known.
        convention: see :data:`~depth_anything_3.types.options.ExtrinsicsConvention`.

    Raises:
        InputError: an unknown convention.
    """
    check_choice("extrinsics_convention", convention, EXTRINSICS_CONVENTIONS)
    found = _inverse(poses) if convention in ("opencv_c2w", "opengl_c2w", "blender") else poses.copy()
    return _OPENGL @ found if convention in ("opengl_w2c", "opengl_c2w", "blender") else found


def _inverse(poses: Float[np.ndarray, "n 4 4"]) -> Float[np.ndarray, "n 4 4"]:
    inverse = poses.copy()
    inverse[:, :3, :3] = poses[:, :3, :3].swapaxes(1, 2)
    inverse[:, :3, 3:] = -inverse[:, :3, :3] @ poses[:, :3, 3:]
    return inverse
