"""Measures of difficulty, on cases whose answer is known."""

from __future__ import annotations

import math

import numpy as np
import pytest

from depth_anything_3.synth import difficulty
from depth_anything_3.synth.cameras import intrinsics_of, look_at

H, W = 60, 90


def poses(*positions: tuple[float, float, float], ahead: float = 10.0) -> np.ndarray:
    where = np.array(positions, dtype=float)
    return look_at(where, where + np.array([0, ahead, 0]), np.zeros(len(where)))


def test_rotations_and_baselines() -> None:
    centre = np.zeros((3, 3))
    targets = np.array([[0, 1.0, 0], [math.sin(0.5), math.cos(0.5), 0], [1.0, 0, 0]])
    turned = look_at(centre, targets, np.zeros(3))
    np.testing.assert_allclose(
        difficulty.rotations_deg(turned), np.degrees([0.5, np.pi / 2, np.pi / 2 - 0.5]), atol=0.01
    )
    moved = poses((0, 0, 0), (3, 0, 0), (0, 4, 0))
    np.testing.assert_allclose(difficulty.baselines(moved), [3, 4, 5], atol=1e-5)
    np.testing.assert_allclose(difficulty.rotations_deg(moved), 0, atol=0.05)


def test_overlap_of_a_wall() -> None:
    """A wall 10 m ahead fills both pictures; moving by a third of the width of the view leaves two thirds."""
    k = np.repeat(intrinsics_of(90, H, W)[None], 2, 0)
    depth = np.full((2, H, W), 10, np.float32)
    for step, expected in ((0, 1.0), (20 / 3, 2 / 3), (40, 0.0)):
        overlap = difficulty.pair_overlaps(depth, k, poses((0, 0, 0), (step, 0, 0)))
        assert overlap == pytest.approx(expected, abs=0.03)
    hidden = depth.copy()
    hidden[1] = 5  # something stands before it
    assert difficulty.pair_overlaps(hidden, k, poses((0, 0, 0), (0, 0, 0))) == pytest.approx(0)
    hidden[1, :, : W // 2] = 10
    assert difficulty.pair_overlaps(hidden, k, poses((0, 0, 0), (0, 0, 0))) == pytest.approx(0.5, abs=0.03)
    assert difficulty.pair_overlaps(depth * 0, k, poses((0, 0, 0), (0, 0, 0))) == 0


def test_depth_statistics_leave_out_the_sky() -> None:
    depth = np.concatenate((np.zeros(100), np.linspace(1, 11, 101))).astype(np.float32).reshape(1, 3, 67)
    assert difficulty.median_depth(depth) == pytest.approx(6)
    assert difficulty.depth_spread(depth) == pytest.approx(10.5 / 1.5)


def test_constant_map() -> None:
    rng = np.random.default_rng(1)
    shape = np.exp(rng.normal(0, 0.5, (difficulty.CELLS, difficulty.CELLS)))
    same = np.repeat(np.repeat(shape, 4, 0), 6, 1)[None].astype(np.float32) * 7
    log_depth = difficulty.normalised_log_depth(same)
    assert np.nanmedian(log_depth) == pytest.approx(0, abs=0.02)
    assert difficulty.constant_map_delta(log_depth, np.log(shape)) == 1
    flat = difficulty.constant_map_delta(log_depth, np.zeros_like(shape))
    assert flat == pytest.approx(math.erf(math.log(1.25) / 0.5 / math.sqrt(2)), abs=0.1)
    same[:, : H // 2] = 0
    assert np.isnan(difficulty.normalised_log_depth(same)).mean() == pytest.approx(0.5, abs=0.1)


def test_identity_answer_and_area() -> None:
    still = poses((0, 0, 0), (0, 2, 0), (0, 0, 0.01))
    errors = difficulty.identity_pose_errors_deg(still)
    assert errors[0] == pytest.approx(0, abs=0.1)
    assert errors[1] == pytest.approx(90, abs=0.1)
    assert difficulty.auc(np.zeros(4)) == 1
    assert difficulty.auc(np.full(4, 31.0)) == 0
    assert difficulty.auc(np.array([15.0, 90.0])) == pytest.approx(0.25)
