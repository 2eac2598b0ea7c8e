"""Relative poses from matches: exact, noisy and wrong ones, planes, pure rotations, priors, and nothing at all."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from support.poses import rotation

from depth_anything_3.errors import InputError
from depth_anything_3.metrics.pose import angle_between_deg, rotation_angle_deg
from depth_anything_3.refine import two_view
from depth_anything_3.refine.two_view import PosePrior, TwoView, relative_pose, sampson_with_derivatives

K = np.array([[500.0, 0, 320], [0, 510.0, 240], [0, 0, 1]])
TURN = rotation([0.2, 1, 0.1], 12)
WAY = np.array([1, 0.1, 0.2]) / np.linalg.norm([1, 0.1, 0.2])

Matches = tuple[np.ndarray, np.ndarray, np.ndarray]


def matches(count: int, *, noise: float = 0, wrong: float = 0, kind: str = "general", seed: int = 0) -> Matches:
    """Pixels in both views, and which of them are wrong."""
    rng = np.random.default_rng(seed)
    points = rng.uniform([-2, -1.5, 3], [2, 1.5, 7], (count, 3))
    if kind == "planar":
        points[:, 2] = 5 + 0.3 * points[:, 0] - 0.2 * points[:, 1]
    first = points @ K.T
    second = (points @ TURN.T + (0 if kind == "rotation" else 0.6) * WAY) @ K.T
    a, b = (p[:, :2] / p[:, 2:] + noise * rng.normal(size=(count, 2)) for p in (first, second))
    wild = rng.uniform(size=count) < wrong
    return a, np.where(wild[:, None], rng.uniform([0, 0], [640, 480], b.shape), b), wild


def run(given: Matches, **options: Any) -> TwoView:
    return relative_pose(given[0], given[1], K, K, **options)


def turn_error(found: TwoView) -> float:
    assert found.rotation is not None
    return float(rotation_angle_deg((found.rotation @ TURN.T)[None])[0])


def way_error(found: TwoView) -> float:
    return float(angle_between_deg(found.direction[None], WAY[None])[0])


@pytest.mark.parametrize("count", [8, 12, 200])
def test_exact_matches_give_the_exact_pose(count: int) -> None:
    found = run(matches(count))
    assert found.kind == "general"
    assert turn_error(found) < 1e-6
    assert way_error(found) < 1e-5
    assert found.inliers.all()
    assert found.errors_px.max() < 1e-6
    assert not found.ambiguous
    assert found.reason == ""
    assert 0.05 < found.parallax < 0.2


@pytest.mark.parametrize(("count", "wrong", "degrees"), [(200, 0.3, 1.0), (1000, 0.5, 0.5), (60, 0.5, 1.5)])
def test_wrong_matches_are_found(count: int, wrong: float, degrees: float) -> None:
    given = matches(count, noise=0.5, wrong=wrong)
    found = run(given)
    assert turn_error(found) < degrees
    assert way_error(found) < 4 * degrees
    assert found.inliers[~given[2]].mean() > 0.97
    assert found.inliers[given[2]].mean() < 0.06
    assert found.noise_px == pytest.approx(0.5, rel=0.2)
    assert found.log10_chance < -20


def test_errors_are_as_large_as_predicted() -> None:
    ratios = []
    for seed in range(12):
        found = run(matches(150, noise=0.5, seed=seed))
        turned = np.radians(turn_error(found)) ** 2 / 3 / found.rotation_sigma**2
        ratios.append([turned, np.radians(way_error(found)) ** 2 / 2 / found.direction_sigma**2])
    assert (np.mean(ratios, 0) > 0.3).all()
    assert (np.mean(ratios, 0) < 2.0).all()


@pytest.mark.parametrize("count", [8, 60, 300])
def test_a_pure_rotation(count: int) -> None:
    found = run(matches(count, noise=0.5, kind="rotation"))
    assert found.kind == "rotation"
    assert turn_error(found) < 0.2
    assert not found.direction.any()
    assert np.isinf(found.direction_sigma)
    assert np.degrees(found.parallax) < 0.2
    assert found.inliers.mean() > 0.9
    assert turn_error(run(matches(count, noise=0.5, wrong=0.3, kind="rotation"))) < 0.3


def test_a_rotation_is_that_of_all_matches() -> None:
    """Not that of two, which is where it starts from."""
    assert np.median([turn_error(run(matches(300, noise=1.0, kind="rotation", seed=k))) for k in range(7)]) < 0.045


def test_a_small_movement_is_no_rotation() -> None:
    """Nine pixels of parallax at most: still general."""
    points = np.random.default_rng(0).uniform([-2, -1.5, 3], [2, 1.5, 7], (200, 3))
    a, b = points @ K.T, (points @ TURN.T + 0.05 * WAY) @ K.T
    noise = 0.3 * np.random.default_rng(1).normal(size=(2, 200, 2))
    found = relative_pose(a[:, :2] / a[:, 2:] + noise[0], b[:, :2] / b[:, 2:] + noise[1], K, K)
    assert found.kind == "general"
    assert way_error(found) < 10


def test_a_plane_has_two_poses_and_a_prior_chooses() -> None:
    given = matches(300, noise=0.3, wrong=0.3, kind="planar")
    alone = run(given)
    assert alone.kind == "planar"
    assert alone.ambiguous
    assert alone.inliers[~given[2]].mean() > 0.95
    prior = PosePrior(
        rotation=rotation([1, 2, 0.4], 4) @ TURN,
        rotation_sigma=np.radians(5),
        direction=rotation([0.3, 1, 0.4], 15) @ WAY,
        direction_sigma=0.3,
    )
    said = run(given, prior=prior)
    assert said.kind == "planar"
    assert turn_error(said) < 1
    assert way_error(said) < 5


def test_a_wrong_prior_is_outvoted() -> None:
    given = matches(60, noise=0.5, wrong=0.3)
    wrong = PosePrior(
        rotation=rotation([1, 0, 0], 40), rotation_sigma=np.radians(5), direction=-WAY, direction_sigma=0.2
    )
    alone, found = run(given), run(given, prior=wrong)
    assert turn_error(found) < turn_error(alone) + 0.1
    assert way_error(found) < way_error(alone) + 0.5
    assert not found.from_prior


def test_a_prior_helps_where_samples_fail(monkeypatch: pytest.MonkeyPatch) -> None:
    """No samples are drawn at all: the prior alone leads to the pose."""
    monkeypatch.setattr(two_view, "_BATCHES", 0)
    prior = PosePrior(rotation=rotation([1, 2, 0.4], 2) @ TURN, rotation_sigma=np.radians(5))
    found = run(matches(150, noise=0.5, wrong=0.3), prior=prior)
    assert found.from_prior
    assert turn_error(found) < 1
    assert way_error(found) < 5
    prior = replace(prior, rotation=rotation([1, 2, 0.4], 4) @ TURN, direction=rotation([0, 1, 0], 15) @ (3 * WAY))
    found = run(matches(150, noise=0.5, wrong=0.6), prior=prior)
    assert found.from_prior
    assert turn_error(found) < 2  # of 4


def test_a_prior_pulls_weak_matches() -> None:
    """Far points and eight of them: the noise is worth degrees, the prior a tenth of one."""
    given = matches(8, noise=0.7, seed=4)
    loose = run(given)
    tight = run(given, prior=PosePrior(rotation=TURN, rotation_sigma=1e-3, direction=WAY, direction_sigma=1e-2))
    assert turn_error(tight) < 0.15 < turn_error(loose)
    assert way_error(tight) < 1.5 < way_error(loose)


def test_a_wrong_focal_length() -> None:
    given = matches(300, noise=0.5, wrong=0.3)
    long = K * np.array([[1.15], [1.15], [1.0]])
    long[:2, 2] = K[:2, 2]
    fixed = relative_pose(given[0], given[1], long, long)
    free = relative_pose(given[0], given[1], long, long, focal_sigma=0.15)
    assert fixed.focal_factor == 1
    assert free.focal_factor == pytest.approx(1 / 1.15, rel=0.06)
    assert way_error(free) < 0.5 * way_error(fixed)
    assert free.inliers[~given[2]].mean() > 0.97
    turned = matches(300, noise=0.5, kind="rotation")
    found = relative_pose(turned[0], turned[1], long, long, focal_sigma=0.15)
    assert found.kind == "rotation"
    assert found.focal_factor == pytest.approx(1 / 1.15, rel=0.03)
    assert turn_error(found) < 0.5


@pytest.mark.parametrize("count", [8, 20, 60, 200])
def test_chance_gives_no_pose(count: int) -> None:
    rng = np.random.default_rng(count)
    found = run((*rng.uniform([0, 0], [640, 480], (2, count, 2)), np.zeros(0)))
    assert found.kind == "none"
    assert found.rotation is None
    assert "chance" in found.reason
    assert not found.inliers.any()


def test_too_few_matches_give_no_pose() -> None:
    found = run(matches(7))
    assert found.kind == "none"
    assert found.reason == "7 matches, fewer than 8"
    given = matches(20)
    assert run(given, weight=(np.arange(20) < 7) * 1.0).kind == "none"
    assert run(matches(0)).errors_px.shape == (0,)


@pytest.mark.parametrize("place", ["second", "both"])
def test_matches_in_one_place_break_nothing(place: str) -> None:
    given = matches(40, noise=0.3)
    first = given[0] * 0 + 100.0 if place == "both" else given[0]
    found = relative_pose(first, given[1] * 0 + 200.0, K, K)
    assert found.kind in ("none", "rotation", "planar", "general")  # whatever it is, it is finite
    assert found.rotation is None or np.isfinite(found.rotation).all()
    half = given[1].copy()
    half[::3] = half[0]
    assert turn_error(relative_pose(given[0], half, K, K)) < 2


def test_weights_say_which_matches_count() -> None:
    given = matches(60, noise=0.3, wrong=0.7)
    found = run(given, weight=np.where(given[2], 0.0, 1.0))
    assert turn_error(found) < 1.5
    assert not found.inliers[given[2]].any()


def test_it_is_deterministic_and_edits_nothing() -> None:
    given = matches(100, noise=0.5, wrong=0.3)
    copies = [value.copy() for value in given]
    a, b = run(given, seed=3), run(given, seed=3)
    np.testing.assert_array_equal(a.rotation, b.rotation)
    np.testing.assert_array_equal(a.errors_px, b.errors_px)
    for value, copy in zip(given, copies, strict=True):
        np.testing.assert_array_equal(value, copy)
    assert turn_error(run(given, seed=4)) == pytest.approx(turn_error(a), abs=0.1)


def test_derivatives_of_the_sampson_error() -> None:
    given = matches(40, noise=0.5)
    pair = two_view._Pair.of(given[0], given[1], K, 1.1 * K, None, None, 2.0, 0.1)
    pose = two_view._Pose(rotation=rotation([0.2, 1, 0.3], 10), direction=WAY, log_focal=0.05)
    error, slope = sampson_with_derivatives(pair.first, pair.second, pair.inverses(0.05), pose)
    np.testing.assert_allclose(error, pair.sampson(pair.fundamental(pose)), atol=1e-9)
    for step in 1e-6 * np.eye(6):
        ahead, back = (two_view._stepped(pair, pose, s) for s in (step, -step))
        measured = (pair.sampson(pair.fundamental(ahead)) - pair.sampson(pair.fundamental(back))) / 2e-6
        np.testing.assert_allclose(measured, slope @ step / 1e-6, rtol=1e-5, atol=1e-4)


def test_derivatives_of_the_transfer_of_rotations() -> None:
    given = matches(40, noise=0.5)
    pair = two_view._Pair.of(given[0], given[1], K, 1.1 * K, None, None, 2.0, 0.1)
    _, slope = two_view._turn_derivatives(pair, TURN)
    for k, step in enumerate(1e-6 * np.eye(4)):
        sides = []
        for sign in (1, -1):
            turn = rotation(step[:3], sign * np.degrees(1e-6)) @ TURN if k < 3 else TURN
            sides.append(two_view._turn_derivatives(two_view._with_focal(pair, sign * step[3]), turn)[0])
        np.testing.assert_allclose((sides[0] - sides[1]) / 2e-6, slope[..., k], rtol=1e-5, atol=1e-3)


def test_bad_input() -> None:
    given = matches(20)
    with pytest.raises(InputError, match="second"):
        relative_pose(given[0], given[1][:-1], K, K)
    with pytest.raises(InputError, match="first"):
        relative_pose(given[0] * np.nan, given[1], K, K)
    with pytest.raises(InputError, match="second_intrinsics"):
        relative_pose(given[0], given[1], K, -K)
    with pytest.raises(InputError, match="weight"):
        run(given, weight=-np.ones(20))
    with pytest.raises(InputError, match="tolerance_px"):
        run(given, tolerance_px=0.0)
    with pytest.raises(InputError, match="focal_sigma"):
        run(given, focal_sigma=-1.0)
    with pytest.raises(InputError, match=r"prior\.rotation"):
        PosePrior(rotation=np.eye(2), rotation_sigma=1.0)
    with pytest.raises(InputError, match="not positive"):
        PosePrior(rotation=np.eye(3), rotation_sigma=0.0)
    with pytest.raises(InputError, match=r"prior\.direction"):
        PosePrior(rotation=np.eye(3), rotation_sigma=1.0, direction=np.zeros(3))
