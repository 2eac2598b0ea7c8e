"""What is known about the frames of a long sequence, as terms of one least-squares problem.

A frame is a node ``X``: the similarity from its camera, in the unit of its own depth map, to the world. Its rotation
and translation are the camera's pose, its scale turns its depth into lengths of the world. A step of the solver is
``X <- X exp(x)`` with the tangent of :mod:`depth_anything_3.geometry.sim3`.

A term gives whitened residuals (lengths divided by their standard deviations) and their derivatives by the steps of the
nodes that it touches. E rows, N nodes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt
from jaxtyping import Bool, Float, Int

from depth_anything_3.errors import InputError
from depth_anything_3.geometry.rotation_vectors import skew
from depth_anything_3.geometry.sim3 import Sim3, right_jacobian_inverse, sim3_log

Array = npt.NDArray[np.float64]
Indices = npt.NDArray[np.int64]


@runtime_checkable
class Factor(Protocol):
    """A term of the problem."""

    @property
    def absolute(self) -> bool:
        """Whether it speaks about the world itself, and not only about frames relative to each other."""
        ...

    @property
    def doubtful(self) -> npt.NDArray[np.bool_]:
        """(E,) rows that may be plainly wrong, and are then to be ignored."""
        ...

    @property
    def touched(self) -> tuple[Indices, ...]:
        """The nodes of each row, (E,) each."""
        ...

    def residuals(self, nodes: Sim3) -> Array:
        """(E, D), whitened."""
        ...

    def jacobians(self, nodes: Sim3) -> tuple[Array, ...]:
        """Derivatives by the steps of the touched nodes, (E, D, 7) each."""
        ...


def whitening(covariance: Float[np.ndarray, "*e 7 7"]) -> Float[np.ndarray, "*e 7 7"]:
    """Matrices W with ``W^T W`` the inverse of the covariance.

    Raises:
        InputError: a covariance is not positive definite.
    """
    try:
        root: Array = np.linalg.cholesky(np.asarray(covariance, np.float64))
    except np.linalg.LinAlgError:
        raise InputError("covariance", "a matrix that is not positive definite", "positive definite 7x7") from None
    inverse = np.linalg.inv(root).astype(np.float64)
    return inverse


@dataclass(frozen=True, kw_only=True, eq=False)
class Relations:
    """Frame ``second`` as seen from frame ``first``; the residual is ``W log(Z^-1 X_first^-1 X_second)``.

    Attributes:
        first, second: nodes.
        measured: Z, the transform from the camera of ``second`` to that of ``first``.
        whiten: W, from :func:`whitening` of the covariance in the tangent at the second camera.
        doubtful: loops are, the joints of neighbouring frames are not.
    """

    first: Int[np.ndarray, " e"]
    second: Int[np.ndarray, " e"]
    measured: Sim3
    whiten: Float[np.ndarray, "e 7 7"]
    doubtful: Bool[np.ndarray, " e"]

    absolute = False

    @property
    def touched(self) -> tuple[Indices, ...]:
        """Both ends."""
        return self.first, self.second

    def _error(self, nodes: Sim3) -> Array:
        return sim3_log(self.measured.inverse() @ nodes[self.first].inverse() @ nodes[self.second])

    def residuals(self, nodes: Sim3) -> Array:
        """(E, 7)."""
        whitened: Array = (self.whiten @ self._error(nodes)[..., None])[..., 0]
        return whitened

    def jacobians(self, nodes: Sim3) -> tuple[Array, ...]:
        """Of both ends. A step of the first, moved to the second's side, is one of the second with the other sign."""
        by_second = self.whiten @ right_jacobian_inverse(self._error(nodes))
        moved = (nodes[self.second].inverse() @ nodes[self.first]).adjoint()
        return -by_second @ moved, by_second


@dataclass(frozen=True, kw_only=True, eq=False)
class _Prior:
    """One node a row, believed."""

    node: Int[np.ndarray, " e"]

    absolute = True

    @property
    def touched(self) -> tuple[Indices, ...]:
        """The node."""
        return (self.node,)

    @property
    def doubtful(self) -> npt.NDArray[np.bool_]:
        """None is."""
        return np.zeros(len(self.node), bool)


@dataclass(frozen=True, kw_only=True, eq=False)
class PositionPrior(_Prior):
    """Where cameras are, such as from GPS.

    Attributes:
        position: in the world.
        sigma: standard deviation along the axes of the world, in its unit.
        wrong_possible: whether a row may be plainly wrong (a reflected satellite signal) and is then ignored.
    """

    position: Float[np.ndarray, "e 3"]
    sigma: Float[np.ndarray, "e 3"]
    wrong_possible: bool = False

    @property
    def doubtful(self) -> npt.NDArray[np.bool_]:
        """All rows, where that was said to be possible."""
        return np.full(len(self.node), self.wrong_possible)

    def residuals(self, nodes: Sim3) -> Array:
        """(E, 3)."""
        error: Array = (nodes.translation[self.node] - self.position) / self.sigma
        return error

    def jacobians(self, nodes: Sim3) -> tuple[Array, ...]:
        """The camera moves by s R rho."""
        slope = np.zeros((len(self.node), 3, 7))
        slope[..., :3] = nodes.scale[self.node, None, None] * nodes.rotation[self.node] / self.sigma[..., None]
        return (slope,)


@dataclass(frozen=True, kw_only=True, eq=False)
class GravityPrior(_Prior):
    """Which way is down, such as from an accelerometer.

    Attributes:
        down_camera: unit vectors in the cameras.
        down_world: the same direction in the world, one unit vector.
        sigma: standard deviation in radians.
    """

    down_camera: Float[np.ndarray, "e 3"]
    down_world: Float[np.ndarray, 3]
    sigma: Float[np.ndarray, " e"]

    def residuals(self, nodes: Sim3) -> Array:
        """(E, 3): difference of the directions."""
        turned = (nodes.rotation[self.node] @ self.down_camera[..., None])[..., 0]
        error: Array = (turned - self.down_world) / self.sigma[:, None]
        return error

    def jacobians(self, nodes: Sim3) -> tuple[Array, ...]:
        """R exp(phi) d = R d - R skew(d) phi."""
        slope = np.zeros((len(self.node), 3, 7))
        slope[..., 3:6] = -nodes.rotation[self.node] @ skew(self.down_camera) / self.sigma[:, None, None]
        return (slope,)


@dataclass(frozen=True, kw_only=True, eq=False)
class ScalePrior(_Prior):
    """What a frame's depth is to be multiplied by, such as 1 where the network's depth is metric.

    Attributes:
        scale: expected scale of the node.
        sigma: standard deviation of its logarithm.
    """

    scale: Float[np.ndarray, " e"]
    sigma: Float[np.ndarray, " e"]

    def residuals(self, nodes: Sim3) -> Array:
        """(E, 1)."""
        error: Array = (np.log(nodes.scale[self.node] / self.scale) / self.sigma)[:, None]
        return error

    def jacobians(self, nodes: Sim3) -> tuple[Array, ...]:
        """A step multiplies the scale by e^sigma."""
        slope = np.zeros((len(self.node), 1, 7))
        slope[:, 0, 6] = 1 / self.sigma
        return (slope,)


@dataclass(frozen=True, kw_only=True, eq=False)
class PosePrior(_Prior):
    """Given camera poses; the residual is ``W log(P^-1 X)`` without its last part, the scale.

    Attributes:
        pose: P, world-from-camera with scale 1.
        rotation_sigma: radians.
        position_sigma: in the unit of the world.
    """

    pose: Sim3
    rotation_sigma: Float[np.ndarray, " e"]
    position_sigma: Float[np.ndarray, " e"]

    def _rigid(self, nodes: Sim3) -> Sim3:
        mine = nodes[self.node]
        return self.pose.inverse() @ Sim3(mine.rotation, mine.translation, np.ones(len(mine)))

    def _weight(self) -> Array:
        both = (self.position_sigma, self.rotation_sigma)
        weight: Array = 1 / np.repeat(np.stack(both, -1), 3, axis=-1)
        return weight

    def residuals(self, nodes: Sim3) -> Array:
        """(E, 6)."""
        error: Array = self._weight() * sim3_log(self._rigid(nodes))[:, :6]
        return error

    def jacobians(self, nodes: Sim3) -> tuple[Array, ...]:
        """The node's own scale stretches a step of its translation."""
        slope = right_jacobian_inverse(sim3_log(self._rigid(nodes)))
        slope[..., :3] *= nodes.scale[self.node, None, None]
        slope[..., 6] = 0
        return (self._weight()[..., None] * slope[:, :6],)


def stacked(parts: list[Relations]) -> Relations:
    """Several sets of relations as one.

    Raises:
        InputError: there is none.
    """
    if not parts:
        raise InputError("parts", "none", "at least one set of relations")
    joined: dict[str, Any] = {
        name: np.concatenate([getattr(part, name) for part in parts])
        for name in ("first", "second", "whiten", "doubtful")
    }
    return Relations(measured=Sim3.concatenate([part.measured for part in parts]), **joined)
