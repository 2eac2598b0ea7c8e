"""The group of similarities against matrix functions and finite differences."""

from __future__ import annotations

import numpy as np
import pytest

from depth_anything_3.geometry.sim3 import Sim3, right_jacobian_inverse, sim3_exp, sim3_log


def _tangents(size: float) -> np.ndarray:
    return size * np.random.default_rng(0).normal(size=(50, 7))


def _matrix(transform: Sim3) -> np.ndarray:
    matrix = np.zeros((len(transform), 4, 4))
    matrix[:, :3, :3] = transform.scale[:, None, None] * transform.rotation
    matrix[:, :3, 3], matrix[:, 3, 3] = transform.translation, 1
    return matrix


@pytest.mark.parametrize("size", [0.0, 1e-9, 1e-4, 0.1, 0.8])
def test_exponential_is_that_of_the_matrix(size: float) -> None:
    linalg = pytest.importorskip("scipy.linalg")
    for x, found in zip(_tangents(size), _matrix(sim3_exp(_tangents(size))), strict=True):
        generator = np.zeros((4, 4))
        generator[:3, :3] = np.cross(np.eye(3), x[3:6]) + x[6] * np.eye(3)
        generator[:3, 3] = x[:3]
        np.testing.assert_allclose(found, linalg.expm(generator), atol=1e-13)


@pytest.mark.parametrize("size", [0.0, 1e-9, 1e-4, 0.1, 0.8])
def test_logarithm_undoes_the_exponential(size: float) -> None:
    np.testing.assert_allclose(sim3_log(sim3_exp(_tangents(size))), _tangents(size), atol=1e-12)


def test_half_turn() -> None:
    x = np.array([[1.0, 2, 3, np.pi - 1e-9, 0, 0, 0.5]])
    np.testing.assert_allclose(sim3_log(sim3_exp(x)), x, atol=1e-7)


def test_products_inverses_and_points() -> None:
    a, b = sim3_exp(_tangents(0.5)), sim3_exp(_tangents(0.5)[::-1])
    np.testing.assert_allclose(_matrix(a @ b), _matrix(a) @ _matrix(b), atol=1e-12)
    np.testing.assert_allclose(_matrix(a @ a.inverse()), np.broadcast_to(np.eye(4), (50, 4, 4)), atol=1e-12)
    np.testing.assert_allclose((a @ b).on_points(b.translation), a.on_points(b.on_points(b.translation)), atol=1e-12)


def test_adjoint_moves_a_step_to_the_other_side() -> None:
    a, step = sim3_exp(_tangents(0.5)), _tangents(0.1)[::-1]
    moved = a @ sim3_exp(step) @ a.inverse()
    np.testing.assert_allclose(sim3_log(moved), (a.adjoint() @ step[..., None])[..., 0], atol=1e-11)


def test_right_jacobian_is_the_derivative() -> None:
    x, h = _tangents(0.2), 1e-6
    found = right_jacobian_inverse(x)
    for axis in range(7):
        step = h * np.eye(7)[axis]
        ahead, behind = (sim3_log(sim3_exp(x) @ sim3_exp(sign * step)) for sign in (1.0, -1.0))
        np.testing.assert_allclose(found[:, :, axis], (ahead - behind) / (2 * h), atol=2e-8)


def test_poses_there_and_back() -> None:
    transform = sim3_exp(_tangents(0.5))
    rigid = Sim3(transform.rotation, transform.translation, np.ones(50))
    np.testing.assert_allclose(Sim3.from_extrinsics(rigid.extrinsics()).translation, rigid.translation, atol=1e-12)
    np.testing.assert_array_equal(transform.extrinsics(), rigid.extrinsics())
