"""Clouds through a grid: the same points however little memory there is."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest

from depth_anything_3.errors import InputError
from depth_anything_3.stream.cloud import VoxelCloud


def _blocks(cloud: VoxelCloud) -> tuple[np.ndarray, np.ndarray, int]:
    parts = list(cloud.blocks())
    return np.concatenate([p[0] for p in parts]), np.concatenate([p[1] for p in parts]), max(len(p[0]) for p in parts)


def _points(count: int = 20_000) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    return rng.normal(size=(count, 3)), rng.integers(0, 256, (count, 3)).astype(np.uint8), rng.uniform(1, 5, count)


def test_each_cube_has_the_weighted_mean_of_its_points() -> None:
    xyz = np.array([[0.1, 0.1, 0.1], [0.3, 0.1, 0.1], [-0.1, 0.1, 0.1]])
    rgb = np.array([[0, 0, 0], [200, 100, 0], [7, 8, 9]], np.uint8)
    with VoxelCloud(1.0) as cloud:
        cloud.add(xyz, rgb, np.array([1.0, 3.0, 1.0]))
        found, colour, _ = _blocks(cloud)
    np.testing.assert_allclose(found, [[-0.1, 0.1, 0.1], [0.25, 0.1, 0.1]], atol=1e-6)
    np.testing.assert_array_equal(colour, [[7, 8, 9], [150, 75, 0]])


@pytest.mark.parametrize("most", [300, 2000])
def test_little_memory_changes_nothing(most: int) -> None:
    xyz, rgb, weight = _points()
    with VoxelCloud(0.2) as whole, VoxelCloud(0.2, most=most) as small:
        whole.add(xyz, rgb, weight)
        for first in range(0, len(xyz), 700):
            small.add(*(a[first : first + 700] for a in (xyz, rgb, weight)))
        (a, b, _), (c, d, longest) = _blocks(whole), _blocks(small)
    np.testing.assert_allclose(c, a, atol=1e-6)
    assert np.abs(d.astype(int) - b).max() <= 1
    assert longest <= most


def test_memory_is_bounded() -> None:
    rng, most = np.random.default_rng(0), 5000
    tracemalloc.start()
    with VoxelCloud(0.01, most=most) as cloud:
        for _ in range(30):
            cloud.add(rng.uniform(-1, 1, (4000, 3)), np.zeros((4000, 3), np.uint8))
        count = sum(len(xyz) for xyz, _ in cloud.blocks())
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert count > 100_000 and peak < most * 1000


def test_nothing_and_nonsense() -> None:
    with VoxelCloud(1.0) as cloud:
        cloud.add(np.zeros((0, 3)), np.zeros((0, 3), np.uint8))
        assert not list(cloud.blocks())
        with pytest.raises(InputError, match="xyz"):
            cloud.add(np.array([[np.nan, 0, 0]]), np.zeros((1, 3), np.uint8))
    with pytest.raises(InputError, match="voxel"):
        VoxelCloud(0.0)
