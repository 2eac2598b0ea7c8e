"""Rotation vectors against Rodrigues' formula and finite differences, zero and 180 degrees included."""

from __future__ import annotations

import numpy as np
from support.poses import rotation

from depth_anything_3.geometry.rotation_vectors import (
    left_jacobian_inverse,
    nearest_rotation,
    rotation_from_vector,
    skew,
    vector_from_rotation,
)


def test_skew_is_the_cross_product() -> None:
    a, b = np.random.default_rng(0).normal(size=(2, 5, 3))
    np.testing.assert_allclose((skew(a) @ b[..., None])[..., 0], np.cross(a, b), atol=1e-15)


def test_rotation_vectors() -> None:
    rng = np.random.default_rng(0)
    axes = rng.normal(size=(60, 3))
    axes /= np.linalg.norm(axes, axis=1, keepdims=True)
    angles = np.concatenate([[0, 1e-12, 1e-7, 1e-4, np.pi - 1e-9, np.pi], rng.uniform(0, np.pi, 54)])
    vectors = axes * angles[:, None]
    turns = rotation_from_vector(vectors)
    for turn, axis, angle in zip(turns, axes, angles, strict=True):
        np.testing.assert_allclose(turn, rotation(axis, np.degrees(angle)), atol=1e-14)
    back = vector_from_rotation(turns)
    np.testing.assert_allclose(rotation_from_vector(back), turns, atol=1e-13)
    np.testing.assert_allclose(np.linalg.norm(back, axis=1), angles, atol=1e-7)
    small = angles < 3
    np.testing.assert_allclose(back[small], vectors[small], atol=1e-12)
    step = 1e-6 * rng.normal(size=(60, 3))
    ahead, behind = (vector_from_rotation(rotation_from_vector(s) @ turns) for s in (step, -step))
    slope = (left_jacobian_inverse(vectors) @ step[..., None])[..., 0]
    np.testing.assert_allclose((ahead - behind)[small] / 2e-6, slope[small] / 1e-6, atol=1e-5)
    np.testing.assert_allclose(nearest_rotation(turns * 1.01), turns, atol=1e-12)
