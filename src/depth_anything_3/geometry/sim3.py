"""Many similarity transforms at once, and their exponential, logarithm and Jacobian (numpy, float64).

A transform acts as ``x -> scale * rotation @ x + translation``. Its tangent is (rho, phi, sigma): translation,
rotation vector in radians, logarithm of the scale. With ``K = skew(phi)``,

    exp(rho, phi, sigma) = (V rho, exp(K), e^sigma)        V = integral over u from 0 to 1 of e^(sigma u) exp(u K).

The integral is taken by Gauss-Legendre quadrature, which is exact to rounding for angles up to pi and scales up to e^3,
so that no case for small angles or scales is needed. Strasdat, "Local accuracy and global consistency for efficient
visual SLAM" (2012), section 4.2.2 has the group; Sola et al., "A micro Lie theory" (2018), the Jacobian.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from jaxtyping import Float

from depth_anything_3.geometry.rotation_vectors import (
    nearest_rotation,
    rotation_from_vector,
    skew,
    vector_from_rotation,
)

Array = npt.NDArray[np.float64]

_ROOTS, _WEIGHTS = np.polynomial.legendre.leggauss(16)
_STEPS, _WEIGHTS = (_ROOTS + 1) / 2, _WEIGHTS / 2
# Bernoulli numbers over factorials: x / (1 - e^-x) = 1 + x/2 + x^2/12 - x^4/720 + x^6/30240 - x^8/1209600 + ...
_SERIES = {2: 1 / 12, 4: -1 / 720, 6: 1 / 30240, 8: -1 / 1209600}


@dataclass(frozen=True, eq=False)
class Sim3:
    """A batch of similarity transforms; ``a @ b`` applies ``b`` first, and batches broadcast.

    Attributes:
        rotation: (*batch, 3, 3).
        translation: (*batch, 3).
        scale: (*batch,), positive.
    """

    rotation: Array
    translation: Array
    scale: Array

    @classmethod
    def identity(cls, *batch: int) -> Sim3:
        """Transforms that change nothing."""
        return cls(np.broadcast_to(np.eye(3), (*batch, 3, 3)).copy(), np.zeros((*batch, 3)), np.ones(batch))

    @classmethod
    def from_extrinsics(cls, extrinsics: Float[np.ndarray, "*batch rows 4"]) -> Sim3:
        """World-from-camera transforms of scale 1 of world-to-camera poses, 3x4 or 4x4.

        Poses in float32 have rotations to seven digits only; the nearest true rotations are taken.
        """
        pose = np.asarray(extrinsics, np.float64)
        rotation = nearest_rotation(pose[..., :3, :3]).swapaxes(-1, -2)
        centre = -(rotation @ pose[..., :3, 3:])[..., 0]
        return cls(rotation, centre, np.ones(pose.shape[:-2]))

    @classmethod
    def scaling(cls, scale: Float[np.ndarray, "*batch"]) -> Sim3:
        """Transforms that only scale."""
        factor = np.asarray(scale, np.float64)
        plain = cls.identity(*factor.shape)
        return cls(plain.rotation, plain.translation, factor)

    @classmethod
    def concatenate(cls, parts: Sequence[Sim3]) -> Sim3:
        """Batches with one axis, one after the other."""
        return cls(
            *(np.concatenate([getattr(p, name) for p in parts]) for name in ("rotation", "translation", "scale"))
        )

    def extrinsics(self) -> Float[np.ndarray, "*batch 3 4"]:
        """World-to-camera poses of world-from-camera transforms; the scale, which belongs to the depth, is left out."""
        turned = self.rotation.swapaxes(-1, -2)
        pose: Array = np.concatenate([turned, -turned @ self.translation[..., None]], -1)
        return pose

    def __len__(self) -> int:
        return len(self.translation)

    def __getitem__(self, index: Any) -> Sim3:
        return Sim3(self.rotation[index], self.translation[index], np.asarray(self.scale[index]))

    def __matmul__(self, other: Sim3) -> Sim3:
        return Sim3(
            self.rotation @ other.rotation, self.on_points(other.translation), np.asarray(self.scale * other.scale)
        )

    def on_points(self, points: Float[np.ndarray, "*some 3"]) -> Float[np.ndarray, "*all 3"]:
        """Map one point per transform; batches broadcast."""
        mapped: Array = self.scale[..., None] * (self.rotation @ points[..., None])[..., 0] + self.translation
        return mapped

    def inverse(self) -> Sim3:
        """The transforms the other way round."""
        turned = self.rotation.swapaxes(-1, -2)
        return Sim3(
            turned, -(turned @ self.translation[..., None])[..., 0] / self.scale[..., None], np.asarray(1 / self.scale)
        )

    def adjoint(self) -> Float[np.ndarray, "*batch 7 7"]:
        """The matrix with ``S exp(x) S^-1 = exp(Ad(S) x)``."""
        matrix = np.zeros((*self.scale.shape, 7, 7))
        matrix[..., :3, :3] = self.scale[..., None, None] * self.rotation
        matrix[..., :3, 3:6] = skew(self.translation) @ self.rotation
        matrix[..., :3, 6] = -self.translation
        matrix[..., 3:6, 3:6] = self.rotation
        matrix[..., 6, 6] = 1
        return matrix


def sim3_exp(tangent: Float[np.ndarray, "*batch 7"]) -> Sim3:
    """Transforms of tangent vectors (rho, phi, sigma)."""
    x = np.asarray(tangent, np.float64)
    rotation = rotation_from_vector(x[..., 3:6])
    return Sim3(
        rotation,
        (_mean_turn(x[..., 3:6], np.asarray(x[..., 6])) @ x[..., :3, None])[..., 0],
        np.asarray(np.exp(x[..., 6])),
    )


def sim3_log(transform: Sim3) -> Float[np.ndarray, "*batch 7"]:
    """Tangent vectors of transforms, with rotation angles of 0 to pi."""
    phi, sigma = _rotation_log(transform.rotation), np.asarray(np.log(transform.scale))
    rho = np.linalg.solve(_mean_turn(phi, sigma), transform.translation[..., None])[..., 0]
    tangent: Array = np.concatenate([rho, phi, sigma[..., None]], -1)
    return tangent


def right_jacobian_inverse(tangent: Float[np.ndarray, "*batch 7"]) -> Float[np.ndarray, "*batch 7 7"]:
    """Derivative of ``sim3_log(sim3_exp(tangent) @ sim3_exp(w))`` by w at zero.

    A series in ``ad``: seven digits for rotations below one radian; beyond two it is only a direction for a solver.
    """
    ad = _little_adjoint(np.asarray(tangent, np.float64))
    square = ad @ ad
    power, total = np.eye(7), np.eye(7) + 0.5 * ad
    for factor in _SERIES.values():
        power = power @ square
        total = total + factor * power
    return total


def _little_adjoint(x: Array) -> Array:
    ad = np.zeros((*x.shape[:-1], 7, 7))
    turn = skew(x[..., 3:6])
    ad[..., :3, :3] = turn + x[..., 6, None, None] * np.eye(3)
    ad[..., :3, 3:6] = skew(x[..., :3])
    ad[..., :3, 6] = -x[..., :3]
    ad[..., 3:6, 3:6] = turn
    return ad


def _mean_turn(phi: Array, sigma: Array) -> Array:
    """V of the module: C I + A K + B K^2 by Rodrigues' formula under the integral."""
    angle = np.linalg.norm(phi, axis=-1)[..., None] * _STEPS
    growth = _WEIGHTS * np.exp(sigma[..., None] * _STEPS)
    once = (growth * _STEPS * np.sinc(angle / np.pi)).sum(-1)
    twice = (growth * 0.5 * (_STEPS * np.sinc(angle / (2 * np.pi))) ** 2).sum(-1)
    k = skew(phi)
    mean: Array = growth.sum(-1)[..., None, None] * np.eye(3) + once[..., None, None] * k
    return mean + twice[..., None, None] * (k @ k)


def _rotation_log(rotation: Array) -> Array:
    """As :func:`vector_from_rotation`; without its eigenvectors, and so faster, where all angles are below 90."""
    trace = np.trace(rotation, axis1=-2, axis2=-1)
    if (trace < 1).any():
        return vector_from_rotation(rotation)
    m = rotation
    axis = np.stack((m[..., 2, 1] - m[..., 1, 2], m[..., 0, 2] - m[..., 2, 0], m[..., 1, 0] - m[..., 0, 1]), -1)
    double_sine = np.linalg.norm(axis, axis=-1, keepdims=True)
    angle = np.arctan2(double_sine, trace[..., None] - 1)
    vector: Array = axis * np.divide(angle, double_sine, out=np.full_like(double_sine, 0.5), where=double_sine > 0)
    return vector
