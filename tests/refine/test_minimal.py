"""Minimal solvers against the models that the samples were made with."""

from __future__ import annotations

import numpy as np
from support.poses import random_rotation

from depth_anything_3.geometry.rotation_vectors import skew
from depth_anything_3.metrics.pose import angle_between_deg, rotation_angle_deg
from depth_anything_3.refine.minimal import essential_matrices, homographies, poses_of_essential, rotations


def test_five_matches_have_the_true_essential_matrix_among_theirs() -> None:
    rng = np.random.default_rng(0)
    turns = np.stack([random_rotation(rng, 60) for _ in range(20)])
    ways = rng.normal(size=(20, 3))
    points = rng.uniform([-2, -2, 3], [2, 2, 8], (20, 5, 3))
    second = points @ turns.swapaxes(1, 2) + ways[:, None]
    found, sample = essential_matrices(points, second)
    np.testing.assert_allclose(np.einsum("smi,sij,smj->sm", second[sample], found, points[sample]), 0, atol=1e-7)
    singular = np.linalg.svd(found)[1]
    np.testing.assert_allclose(singular, np.tile([1, 1, 0], (len(found), 1)), atol=1e-6)
    for k in range(20):
        true = skew(ways[k] / np.linalg.norm(ways[k])) @ turns[k]
        mine = found[sample == k]
        apart = np.minimum(np.abs(mine - true).max((1, 2)), np.abs(mine + true).max((1, 2)))
        assert apart.min() < 1e-6
        best = mine[apart.argmin()]
        rotations_found, directions = poses_of_essential(best)
        away = rotation_angle_deg(rotations_found @ turns[k].T) + np.array(
            [float(angle_between_deg(d[None], ways[k : k + 1])[0]) for d in directions]
        )
        assert away.min() < 1e-4


def test_rotations_and_homographies_from_few_matches() -> None:
    rng = np.random.default_rng(0)
    turns = np.stack([random_rotation(rng) for _ in range(10)])
    rays = rng.normal(size=(10, 4, 3))
    rays /= np.linalg.norm(rays, axis=-1, keepdims=True)
    moved = rays @ turns.swapaxes(1, 2)
    np.testing.assert_allclose(rotations(rays[:, :2], moved[:, :2]), turns, atol=1e-10)
    planes = turns + 0.2 * rng.normal(size=(10, 3, 3))
    found = homographies(rays, rays @ planes.swapaxes(1, 2), np.ones((10, 4)))
    scale = np.einsum("xij,xij->x", found, planes) / np.einsum("xij,xij->x", planes, planes)
    np.testing.assert_allclose(found / scale[:, None, None], planes, atol=1e-5)


def test_samples_that_fix_nothing_break_nothing() -> None:
    """The same match five times, zeros, and a pure rotation: whatever comes back is finite."""
    rng = np.random.default_rng(0)
    ray = np.tile(rng.normal(size=(1, 1, 3)), (1, 5, 1))
    turned = rng.normal(size=(1, 5, 3))
    first = np.concatenate([ray, np.zeros((1, 5, 3)), turned])
    second = np.concatenate([ray, np.zeros((1, 5, 3)), turned @ random_rotation(rng).T])
    found, sample = essential_matrices(first, second)
    assert np.isfinite(found).all()
    assert len(found) == len(sample)
