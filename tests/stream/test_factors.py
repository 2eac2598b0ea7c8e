"""Analytic derivatives of every factor against central differences."""

from __future__ import annotations

import numpy as np
import pytest

from depth_anything_3.errors import InputError
from depth_anything_3.geometry.sim3 import Sim3, sim3_exp
from depth_anything_3.stream.factors import (
    Factor,
    GravityPrior,
    PosePrior,
    PositionPrior,
    Relations,
    ScalePrior,
    stacked,
    whitening,
)

NODES, ROWS = 6, 9


def _rng() -> np.random.Generator:
    return np.random.default_rng(3)


def _covariance(rng: np.random.Generator, count: int) -> np.ndarray:
    root = rng.normal(size=(count, 7, 7))
    return root @ root.swapaxes(1, 2) + 0.5 * np.eye(7)


def _factors() -> dict[str, Factor]:
    rng = _rng()
    node, unit = rng.integers(0, NODES, ROWS), rng.normal(size=(ROWS + 1, 3))
    unit /= np.linalg.norm(unit, axis=1, keepdims=True)
    sigma = rng.uniform(0.5, 2, (ROWS, 3))
    pose = sim3_exp(0.3 * rng.normal(size=(ROWS, 7)))
    return {
        "relations": Relations(
            first=node,
            second=(node + 1 + rng.integers(0, NODES - 1, ROWS)) % NODES,
            measured=sim3_exp(0.3 * rng.normal(size=(ROWS, 7))),
            whiten=whitening(_covariance(rng, ROWS)),
            doubtful=np.zeros(ROWS, bool),
        ),
        "position": PositionPrior(node=node, position=unit[:-1], sigma=sigma),
        "gravity": GravityPrior(node=node, down_camera=unit[:-1], down_world=unit[-1], sigma=sigma[:, 0]),
        "scale": ScalePrior(node=node, scale=sigma[:, 0], sigma=sigma[:, 1]),
        "pose": PosePrior(
            node=node,
            pose=Sim3(pose.rotation, pose.translation, np.ones(ROWS)),
            rotation_sigma=sigma[:, 0],
            position_sigma=sigma[:, 1],
        ),
    }


@pytest.mark.parametrize("name", sorted(_factors()))
def test_derivatives(name: str) -> None:
    factor, h = _factors()[name], 1e-6
    nodes = sim3_exp(0.3 * _rng().normal(size=(NODES, 7)))
    for node, slope in zip(factor.touched, factor.jacobians(nodes), strict=True):
        for axis in range(7):
            difference = np.zeros(factor.residuals(nodes).shape)
            for row in range(ROWS):
                step = np.zeros((NODES, 7))
                step[node[row], axis] = h
                ahead, behind = (factor.residuals(nodes @ sim3_exp(sign * step))[row] for sign in (1, -1))
                difference[row] = (ahead - behind) / (2 * h)
            np.testing.assert_allclose(slope[..., axis], difference, atol=1e-6)


def test_residuals_vanish_at_the_measurement() -> None:
    nodes = sim3_exp(0.3 * _rng().normal(size=(2, 7)))
    between = (nodes[:1].inverse()) @ nodes[1:]
    one, zero = np.array([1]), np.array([0])
    exact = Relations(first=zero, second=one, measured=between, whiten=np.eye(7)[None], doubtful=np.zeros(1, bool))
    np.testing.assert_allclose(exact.residuals(nodes), 0, atol=1e-14)
    assert len(stacked([exact, exact]).residuals(nodes)) == 2


def test_whitening_divides_by_the_covariance() -> None:
    covariance = _covariance(_rng(), 4)
    w = whitening(covariance)
    np.testing.assert_allclose(w.swapaxes(1, 2) @ w, np.linalg.inv(covariance), rtol=1e-9, atol=1e-9)
    with pytest.raises(InputError, match="positive definite"):
        whitening(np.zeros((1, 7, 7)))
