"""Rotation vectors (axis times angle in radians) and rotation matrices, in numpy, with float64 throughout.

Sola, Deray, Atchuthan, "A micro Lie theory for state estimation in robotics" (2018), appendix B, has the formulas.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from jaxtyping import Float

Array = npt.NDArray[np.float64]


def skew(vector: Float[np.ndarray, "*batch 3"]) -> Float[np.ndarray, "*batch 3 3"]:
    """The matrix of the cross product: ``skew(a) @ b = a x b``."""
    v = np.asarray(vector, np.float64)
    matrix = np.zeros((*v.shape, 3))
    matrix[..., 2, 1] = v[..., 0]
    matrix[..., 0, 2] = v[..., 1]
    matrix[..., 1, 0] = v[..., 2]
    return matrix - matrix.swapaxes(-1, -2)


def rotation_from_vector(vector: Float[np.ndarray, "*batch 3"]) -> Float[np.ndarray, "*batch 3 3"]:
    """Rodrigues' formula; exact for every angle, zero included."""
    v = np.asarray(vector, np.float64)
    angle = np.linalg.norm(v, axis=-1)[..., None, None]
    k = skew(v)
    turned: Array = np.eye(3) + np.sinc(angle / np.pi) * k + 0.5 * np.sinc(angle / (2 * np.pi)) ** 2 * (k @ k)
    return turned


def vector_from_rotation(rotation: Float[np.ndarray, "*batch 3 3"]) -> Float[np.ndarray, "*batch 3"]:
    """Rotation vector with an angle of 0 to pi.

    The unit quaternion is the eigenvector of the largest eigenvalue of a symmetric matrix (Bar-Itzhack 2000), which
    holds at 180 degrees too, and takes a matrix that is only about a rotation to a near one.
    """
    m = np.asarray(rotation, np.float64)
    k = np.empty((*m.shape[:-2], 4, 4))
    trace = np.trace(m, axis1=-2, axis2=-1)
    k[..., :3, :3] = m + m.swapaxes(-1, -2) - trace[..., None, None] * np.eye(3)
    axis = np.stack((m[..., 2, 1] - m[..., 1, 2], m[..., 0, 2] - m[..., 2, 0], m[..., 1, 0] - m[..., 0, 1]), -1)
    k[..., :3, 3] = k[..., 3, :3] = axis
    k[..., 3, 3] = trace
    quat_xyzw = np.linalg.eigh(k)[1][..., -1]
    quat_xyzw = np.where(quat_xyzw[..., 3:] < 0, -quat_xyzw, quat_xyzw)
    sine = np.linalg.norm(quat_xyzw[..., :3], axis=-1, keepdims=True)
    angle = 2 * np.arctan2(sine, quat_xyzw[..., 3:])
    vector: Array = quat_xyzw[..., :3] * np.divide(angle, sine, out=np.full_like(sine, 2.0), where=sine > 0)
    return vector


def left_jacobian_inverse(vector: Float[np.ndarray, "*batch 3"]) -> Float[np.ndarray, "*batch 3 3"]:
    """Derivative of ``vector_from_rotation(rotation_from_vector(w) @ rotation_from_vector(vector))`` by w at zero."""
    v = np.asarray(vector, np.float64)
    angle = np.linalg.norm(v, axis=-1)[..., None, None]
    half = 0.5 * angle
    small = angle < 1e-3
    safe: Any = np.where(small, 1.0, half)
    factor = np.where(small, 1 / 12 + angle**2 / 720, (1 - safe / np.tan(safe)) / (4 * safe**2))
    k = skew(v)
    inverse: Array = np.eye(3) - 0.5 * k + factor * (k @ k)
    return inverse


def nearest_rotation(matrix: Float[np.ndarray, "*batch 3 3"]) -> Float[np.ndarray, "*batch 3 3"]:
    """The rotation nearest to a matrix in the Frobenius norm."""
    u, _, vt = np.linalg.svd(np.asarray(matrix, np.float64))
    sign = np.ones((*u.shape[:-2], 1, 3))
    sign[..., 0, 2] = np.linalg.det(u @ vt)
    nearest: Array = (u * sign) @ vt
    return nearest
