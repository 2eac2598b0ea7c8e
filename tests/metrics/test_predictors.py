"""Guesses of who does not look."""

from __future__ import annotations

import numpy as np
import pytest

from depth_anything_3.errors import InputError
from depth_anything_3.metrics.depth import log_rmse, scale_factor
from depth_anything_3.metrics.pose import pair_errors
from depth_anything_3.metrics.predictors import (
    centred_intrinsics,
    constant_depth,
    depth_from_map,
    identity_poses,
    mean_focal,
    typical_depth_map,
)


def test_maps_by_hand() -> None:
    depth = np.array([[[1.0, 2, 4]], [[10.0, 10, 80]], [[3.0, 0, np.nan]]])
    # Relative to the medians 2, 10, 3: (0.5, 1, 2), (1, 1, 8), (1, -, -).
    np.testing.assert_allclose(typical_depth_map(depth), [[np.cbrt(0.5), 1, 4]])
    np.testing.assert_allclose(typical_depth_map(depth, rule="median"), [[1, 1, 4]])


def test_a_map_does_not_see_scale_and_skips_empty_images() -> None:
    depth = np.exp(np.random.default_rng(0).normal(size=(4, 5, 6)))
    expected = typical_depth_map(depth)
    scaled = np.concatenate([depth * np.array([1, 2, 30, 0.4])[:, None, None], np.zeros((1, 5, 6))])
    np.testing.assert_allclose(typical_depth_map(scaled), expected)
    never = depth.copy()
    never[:, 0, 0] = 0
    assert typical_depth_map(never)[0, 0] == 1


def test_the_map_beats_a_wall_where_pictures_are_alike() -> None:
    rng = np.random.default_rng(1)
    ground = np.linspace(10, 1, 20)[None, :, None] * np.exp(rng.normal(size=(8, 20, 30)) * 0.1)
    guess = depth_from_map(typical_depth_map(ground[:6]), 2, 20, 30)
    wall = constant_depth(2, 20, 30)
    assert (wall == 1).all()
    guess, wall = (p * scale_factor(p, ground[6:]) for p in (guess, wall))
    assert log_rmse(guess, ground[6:]) < 0.25 * log_rmse(wall, ground[6:])


def test_a_map_at_another_size() -> None:
    typical = np.array([[1.0, 2], [3, 4]])
    np.testing.assert_array_equal(
        depth_from_map(typical, 2, 4, 6), np.repeat(np.repeat(typical, 2, 0), 3, 1)[None].repeat(2, 0)
    )
    np.testing.assert_array_equal(depth_from_map(typical, 1, 1, 2), [[[3, 4]]])


def test_cameras() -> None:
    poses = identity_poses(3)
    assert pair_errors(poses, poses).pair_deg.max() == 0
    k = np.repeat(np.eye(3)[None], 2, 0)
    k[:, [0, 1], [0, 1]] = [[50, 100], [200, 400]]
    focal = mean_focal(k, 100, 200)
    assert focal == pytest.approx((50 * 100 * 200 * 400) ** 0.25 / 200)
    made = centred_intrinsics(focal, 2, 50, 100)
    assert made.shape == (2, 3, 3)
    np.testing.assert_allclose(made[1], [[focal * 100, 0, 50], [0, focal * 100, 25], [0, 0, 1]])


@pytest.mark.usefixtures("unchecked_shapes")
def test_errors() -> None:
    with pytest.raises(InputError, match="depth"):
        typical_depth_map(np.zeros((2, 3, 3)))
    with pytest.raises(InputError, match="rule"):
        typical_depth_map(np.ones((2, 3, 3)), rule="mean")  # type: ignore[arg-type]
    with pytest.raises(InputError, match="intrinsics"):
        mean_focal(np.zeros((1, 3, 3)), 4, 4)
