"""Patches that show the same place: a plane before two cameras, and something in front of it."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from depth_anything_3.errors import InputError
from depth_anything_3.geometry.pinhole import project, unproject
from depth_anything_3.metrics.matching import (
    NO_MATCH,
    best_matches,
    same_position_matches,
    top1_accuracy,
    true_patch_matches,
)

PATCH, ROWS, COLUMNS = 4, 3, 5
H, W = ROWS * PATCH, COLUMNS * PATCH
K = np.array([[20.0, 0, W / 2], [0, 20, H / 2], [0, 0, 1]])


def pair(shift_pixels: float, depth: float = 2.0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A wall seen by two cameras; in the second it lies so many pixels to the left."""
    poses = np.stack([np.eye(3, 4)] * 2)
    poses[1, 0, 3] = -shift_pixels * depth / 20
    return np.full((2, H, W), depth), np.stack([K, K]), poses


def matched(
    depth: np.ndarray, intrinsics: np.ndarray, extrinsics: np.ndarray, *, patch: int = PATCH, tolerance: float = 0.03
) -> np.ndarray:
    """Matches of the first of two views in the second."""
    tensors = (torch.from_numpy(v)[None] for v in (depth, intrinsics, extrinsics))
    return true_patch_matches(*tensors, patch=patch, tolerance=tolerance)[0, 0, 1].numpy()


def test_no_motion() -> None:
    found = matched(*pair(0))
    np.testing.assert_array_equal(found, np.arange(ROWS * COLUMNS))
    assert top1_accuracy(same_position_matches(ROWS * COLUMNS), found) == 1


def test_a_step_of_two_patches() -> None:
    found = matched(*pair(2 * PATCH)).reshape(ROWS, COLUMNS)
    grid = np.arange(ROWS * COLUMNS).reshape(ROWS, COLUMNS)
    np.testing.assert_array_equal(found[:, 2:], grid[:, :-2])
    assert (found[:, :2] == NO_MATCH).all()
    assert top1_accuracy(same_position_matches(grid.size), found.ravel()) == 0
    assert top1_accuracy(grid.ravel() - 2, found.ravel()) == 1
    assert top1_accuracy(same_position_matches(grid.size), found.ravel(), columns=COLUMNS, within=2) == 1
    assert top1_accuracy(same_position_matches(grid.size), found.ravel(), columns=COLUMNS, within=1) == 0


def test_what_is_hidden_has_no_counterpart() -> None:
    depth, k, poses = pair(PATCH)
    depth[1, :PATCH, :PATCH] = 1.0  # a box in front of the second camera
    found = matched(depth, k, poses)
    assert found[1] == NO_MATCH
    assert found[2] == 1
    depth[1, :PATCH, :PATCH] = 2.0 * 1.02
    assert matched(depth, k, poses)[1] == 0
    assert matched(depth, k, poses, tolerance=0.01)[1] == NO_MATCH


@pytest.mark.parametrize("unknown", [0, np.nan, np.inf])
def test_unknown_depth_has_no_counterpart(unknown: float) -> None:
    depth, k, poses = pair(0)
    depth[0, :PATCH, :PATCH] = unknown
    depth[1, :PATCH, PATCH : 2 * PATCH] = unknown
    found = matched(depth, k, poses)
    assert (found[:3] == [NO_MATCH, NO_MATCH, 2]).all()


def test_behind_the_second_camera() -> None:
    depth, k, poses = pair(0)
    poses[1] = np.concatenate([np.diag([-1.0, 1, -1]), np.zeros((3, 1))], 1)
    assert (matched(depth, k, poses) == NO_MATCH).all()


def test_against_a_loop_over_patches() -> None:
    """A slanted wall and cameras with different intrinsics, point by point."""
    rng = np.random.default_rng(0)
    k = np.stack([K, K * [[1.3], [1.2], [1]]])
    poses = np.stack([np.eye(3, 4)] * 2)
    poses[1, :, 3] = [0.3, -0.1, 0.2]
    first = 2 + rng.uniform(0, 0.3, (H, W))
    points = unproject(first, k[0], poses[0])
    # The second view is empty but for what the first one's patches project to.
    second = np.zeros((H, W))
    expected = []
    for row in range(PATCH // 2, H, PATCH):
        for column in range(PATCH // 2, W, PATCH):
            xy, z = project(points[row, column], k[1], poses[1])
            x, y = (int(v) for v in np.floor(xy))
            inside = 0 <= x < W and 0 <= y < H
            expected.append(y // PATCH * COLUMNS + x // PATCH if inside else NO_MATCH)
            if inside:
                second[y, x] = z
    found = matched(np.stack([first, second]), k, poses, tolerance=0.2)
    np.testing.assert_array_equal(found, expected)
    assert 3 < (found != NO_MATCH).sum() < ROWS * COLUMNS


def test_best_matches_by_cosine() -> None:
    a = np.array([[1.0, 0], [0, 2], [0, 0]])
    b = np.array([[0.0, 9], [0.1, 0.01], [5, 5]])
    assert best_matches(a, b).tolist() == [1, 0, 0]


@pytest.mark.usefixtures("unchecked_shapes")
def test_errors() -> None:
    with pytest.raises(InputError, match="20x12"):
        matched(*pair(0), patch=5)
    with pytest.raises(InputError, match="counterpart"):
        top1_accuracy(np.zeros(2, int), np.full(2, NO_MATCH))
    with pytest.raises(InputError, match="columns"):
        top1_accuracy(np.zeros(2, int), np.zeros(2, int), within=1)
    # A patch without a guess is a miss, also beside patch 0.
    assert top1_accuracy(np.array([NO_MATCH, 1]), np.array([0, 1]), columns=5, within=1) == 0.5
