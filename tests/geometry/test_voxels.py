"""Points by the cubes that they are in."""

from __future__ import annotations

import numpy as np
import pytest

from depth_anything_3.errors import InputError
from depth_anything_3.geometry.voxels import occupied_voxels, sum_by


def test_points_of_a_cube_share_an_index() -> None:
    points = np.array([[0.1, 0, 0], [-0.1, 0, 0], [0.9, 0.9, 0.9], [0.2, 0.2, 0.2]])
    cube, count = occupied_voxels(points, 1.0)
    assert cube.tolist() == [1, 0, 1, 1]
    assert count.tolist() == [1, 3]
    np.testing.assert_allclose(sum_by(cube, points, 2), [[-0.1, 0, 0], [1.2, 1.1, 1.1]])


def test_no_points_and_impossible_cubes() -> None:
    assert [v.tolist() for v in occupied_voxels(np.zeros((0, 3)), 1.0)] == [[], []]
    with pytest.raises(InputError, match="positive length"):
        occupied_voxels(np.zeros((1, 3)), 0.0)
    with pytest.raises(InputError, match="larger cubes"):
        occupied_voxels(np.array([[0.0, 0, 0], [1e9, 1e9, 1e9]]), 1e-3)
